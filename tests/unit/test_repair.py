"""The repair round, and asking for structured output with a way out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.lm.values import Attempt, LMResponse, Usage
from dspex.actors.modules.plan import ModulePlan
from dspex.actors.modules.repair import both, read_or_repair, repair_messages
from dspex.actors.telemetry.events import Translator
from dspex.runtime.errors import (
    CallTimeout,
    ConfigError,
    LMAuthError,
    LMContextLength,
    LMInvalidRequest,
    LMRateLimited,
    ParseError,
    SignatureError,
)
from kit.modules import Scene, play, response

NUMBER = "question -> answer: float"
WRONG = "[[ ## answer ## ]]\nmany"
RIGHT = "[[ ## answer ## ]]\n1.5"
FORMAT = {"type": "json_object"}


def test_an_answer_that_does_not_fit_is_repaired_once() -> None:
    """The model is shown its answer and what is wrong; usage, cost and attempts are those of both."""

    async def scenario(scene: Scene) -> None:
        answer = await scene.ask()
        assert answer.answer == 1.5
        first, second = scene.provider.requests
        assert second.messages[:2] == first.messages
        assert (second.messages[2].role, second.messages[2].content) == ("assistant", WRONG)
        assert "expected float, got 'many', at section 'answer', line 1" in str(second.messages[3].content)
        info = answer.info
        assert (info.repairs, info.text, info.cost) == (1, RIGHT, Decimal("0.03"))
        assert (info.usage.input_tokens, info.usage.output_tokens, len(info.attempts)) == (20, 10, 2)
        [event] = scene.executions
        assert (event.success, event.repairs) == (True, 1)
        word, measured, _ = scene.telemetry[-1]
        assert (word, measured["repairs"]) == ("stop", 1)

    script = (response(WRONG, cost=Decimal("0.01")), response(RIGHT, cost=Decimal("0.02")))
    play(*script, signature=NUMBER)(scenario)


@pytest.mark.parametrize(
    ("adapter", "answer"),
    [
        ("chat", "[[ ## a ## ]]\nmany\n\n[[ ## c ## ]]\nno"),
        ("json", '{"a": "many", "c": "no"}'),
    ],
)
def test_all_that_is_wrong_is_told(adapter: str, answer: str) -> None:
    """There is one repair only: every field that does not fit is named, the error's facts are the first one's."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(
            ParseError, match=r"expected int, got .*many.*; expected .* \(str\), got .*; expected float"
        ) as caught:
            await scene.ask()
        said = str(scene.provider.requests[1].messages[-1].content)
        assert all(f"'{name}'" in said for name in "abc")
        assert (caught.value.facts["field"], caught.value.facts["repairs"]) == ("a", 1)

    play(response(answer), response(answer), signature="question -> a: int, b, c: float", adapter=adapter)(scenario)


def test_a_right_answer_is_not_repaired() -> None:
    """One request, no repair."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).info.repairs == 0
        assert len(scene.provider.requests) == 1
        assert scene.executions[0].repairs == 0

    play(response(RIGHT), signature=NUMBER)(scenario)


def test_the_second_wrong_answer_is_the_end() -> None:
    """There is one repair at most, and the error says that there was."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(ParseError, match="got 'few'") as caught:
            await scene.ask()
        assert caught.value.repairs == 1
        assert len(scene.provider.requests) == 2
        assert (scene.executions[0].success, scene.executions[0].repairs) == (False, 1)

    play(response(WRONG), response(WRONG.replace("many", "few")), signature=NUMBER)(scenario)


@pytest.mark.parametrize(
    ("outcome", "settings"),
    [
        (response(WRONG, finish_reason="length"), {}),
        (response(WRONG, finish_reason="content_filter"), {}),
        (response("", refusal="I must not."), {}),
        (response(WRONG), {"retry_failed_predictions": False}),
    ],
)
def test_what_is_not_repaired(outcome: LMResponse, settings: dict[str, Any]) -> None:
    """A cut-off answer and a refusal would but come again; and it can be turned off."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(ParseError):
            await scene.ask()
        assert len(scene.provider.requests) == 1
        assert scene.executions[0].repairs == 0

    play(outcome, signature=NUMBER, **settings)(scenario)


def test_a_repair_that_fails_leaves_the_first_mistake() -> None:
    """What was wrong with the answer is the error; why it was not repaired stands beside."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(ParseError, match=r"got 'many'.*could not be repaired: slow down") as caught:
            await scene.ask()
        assert caught.value.repair_error == LMRateLimited.code

    play(response(WRONG), LMRateLimited("slow down"), signature=NUMBER)(scenario)


def test_a_repair_ends_with_the_deadline() -> None:
    """The second request has what is left of the time, no more."""

    async def scenario(scene: Scene) -> None:
        began = scene.house.engine.now()
        with pytest.raises(ParseError) as caught:
            await scene.ask({"timeout": 3.0}, timeout=60.0)
        assert caught.value.repair_error == CallTimeout.code
        assert scene.house.engine.now() - began == pytest.approx(3.0)
        assert len(scene.provider.requests) == 2

    play(response(WRONG), response(RIGHT), delay=2.0, signature=NUMBER)(scenario)


def test_an_empty_answer_is_only_told_of() -> None:
    """Providers refuse an empty turn."""
    wrong = ParseError("expected a, got nothing")
    assert [message.role for message in repair_messages(" \n", wrong)] == ["user"]
    assert [message.role for message in repair_messages("x", wrong)] == ["assistant", "user"]
    assert len(str(repair_messages("x" * 50_000, wrong)[0].content)) < 21_000


def test_what_is_unknown_of_one_is_unknown_of_both() -> None:
    """Sums are no guesses."""
    known = LMResponse(text="", model="m", usage=Usage(1, 2, 3, None, "provider"), cost=Decimal(1))
    unknown = LMResponse(text="", model="m", attempts=(Attempt(1, 200, 0.1),))
    assert both(known, known).usage == Usage(2, 4, 6, None, "provider")
    assert both(known, known).cost == Decimal(2)
    mixed = both(known, unknown)
    assert (mixed.usage, mixed.cost, len(mixed.attempts)) == (Usage(), None, 1)


def test_a_cancelled_repair_is_cancelled() -> None:
    """A caller that gives up is no failed repair."""
    plan = ModulePlan.of({"signature": NUMBER, "provider": "local"})

    async def ask(messages: Any) -> LMResponse:
        raise asyncio.CancelledError

    async def test() -> None:
        with pytest.raises(asyncio.CancelledError):
            await read_or_repair(plan, (), response(WRONG), ask)

    asyncio.run(test())


def test_repairs_are_counted() -> None:
    """Telemetry has a counter of them by module."""
    for word in ("stop", "exception"):
        updates = Translator().translate(("dspex", "module", word), {"repairs": 1}, {"module": "qa"})
        assert ("dspex_module_repairs_total", 1) in [(update.name, update.value) for update in updates]


# -- structured output -----------------------------------------------------------------------------


def test_structured_output_is_asked_for() -> None:
    """The JSON adapter asks the provider for the schema; the chat adapter for nothing."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == 1.5
        wanted = scene.provider.requests[0].response_format
        assert wanted is not None
        assert wanted["json_schema"]["schema"]["properties"] == {"answer": {"type": "number"}}

    play(response('{"answer": 1.5}'), signature=NUMBER, adapter="json")(scenario)

    async def chat(scene: Scene) -> None:
        await scene.ask()
        assert scene.provider.requests[0].response_format is None

    play()(chat)


def test_who_refuses_structured_output_is_asked_without() -> None:
    """The prompt says the same; from then on it is asked without at once."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == 1.5
        assert (await scene.ask()).answer == 2.5
        wanted = [request.response_format is not None for request in scene.provider.requests]
        assert wanted == [True, False, False]
        assert (await scene.ask({"model": "other"})).answer == 3.5
        assert scene.provider.requests[-1].response_format is not None

    script = [response(f'{{"answer": {number}.5}}') for number in (1, 2, 3)]
    play(LMInvalidRequest("no response_format"), *script, signature=NUMBER, adapter="json")(scenario)


@pytest.mark.parametrize(
    ("script", "error", "requests"),
    [
        ([LMInvalidRequest("one"), LMInvalidRequest("two")], LMInvalidRequest, 2),
        ([LMContextLength("too long")], LMContextLength, 1),
        ([LMAuthError("no")], LMAuthError, 1),
    ],
)
def test_other_refusals_stay(script: list[Exception], error: type[Exception], requests: int) -> None:
    """A request that is wrong otherwise is refused as before, and nothing is learnt from it."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(error):
            await scene.ask()
        assert len(scene.provider.requests) == requests
        assert (await scene.ask()).answer == 1.5
        assert scene.provider.requests[-1].response_format is not None

    play(*script, response('{"answer": 1.5}'), signature=NUMBER, adapter="json")(scenario)


def test_a_repair_of_json_asks_for_structured_output_too() -> None:
    """The second request is as the first."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == 1.5
        assert all(request.response_format is not None for request in scene.provider.requests)
        assert "expected float, got x, at output field 'answer'" in str(scene.provider.requests[1].messages[-1].content)

    play(response('{"answer": "x"}'), response('{"answer": 1.5}'), signature=NUMBER, adapter="json")(scenario)


# -- how values are checked --------------------------------------------------------------------------


def checked(answer: str, **settings: Any) -> Callable[[Callable[[Scene], Awaitable[None]]], None]:
    """A module whose provider answers so, without repairs."""
    return play(response(answer), signature="n: int -> answer: float", retry_failed_predictions=False, **settings)


def test_without_validation_values_pass() -> None:
    """Inputs and outputs are what they are; names still count."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(SignatureError, match="expected the fields n"):
            await scene.ask()
        assert (await scene.ask(n="three")).answer == "many"

    checked(WRONG, validation_enabled=False)(scenario)


def test_strict_checking_converts_nothing() -> None:
    """A number in quotes is none."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(ParseError, match="expected float"):
            await scene.ask(n=1)

    checked('{"answer": "1.5"}', adapter="json", strict_field_checking=True)(scenario)

    async def lenient(scene: Scene) -> None:
        assert (await scene.ask(n=1)).answer == 1.5

    checked('{"answer": "1.5"}', adapter="json")(lenient)


@pytest.mark.parametrize("name", ["validation_enabled", "strict_field_checking", "retry_failed_predictions"])
def test_flags_are_flags(name: str) -> None:
    """What is neither True nor False is refused."""
    with pytest.raises(ConfigError, match=f"expected True or False, got 1, at {name}"):
        ModulePlan.of({"signature": NUMBER, "provider": "local", name: 1})
