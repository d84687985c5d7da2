"""The kinds of modules beside predict: chain of thought, best of n, refine; states, traces, runs and histories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.examples import Example
from dspex.actors.lm.values import LMResponse
from dspex.actors.modules.history import History
from dspex.actors.modules.messages import GetState, Predict, PredictOptions, UpdateModule
from dspex.actors.modules.plan import ModulePlan
from dspex.actors.modules.prediction import Prediction
from dspex.actors.modules.program_state import ONLY, PredictorState, ProgramState
from dspex.actors.optimizers.bench import PredictorCall
from dspex.actors.providers.messages import Complete
from dspex.actors.runs.scope import RunScope
from dspex.actors.signatures.signature import Signature
from dspex.runtime.errors import (
    ConfigError,
    LMServerError,
    Overloaded,
    ParseError,
    RemoteError,
    RunError,
    SignatureError,
)
from kit.modules import Journal, Scene, gather, play, response

THOUGHT = "[[ ## reasoning ## ]]\nIt is big.\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"


def saying(answer: str, **more: Any) -> LMResponse:
    """A model's answer of one field."""
    return response(f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]", cost=Decimal("0.01"), **more)


def by_length(example: Example, prediction: Prediction) -> tuple[float, str]:
    """Longer is better, up to ten characters."""
    assert set(example) == {"question"}
    return min(len(prediction.answer), 10) / 10, f"{len(prediction.answer)} characters"


def broken(example: Example, prediction: Prediction) -> float:
    """A metric with a mistake in it."""
    raise KeyError("no such thing")


# -- chain of thought ------------------------------------------------------------------------------


def test_chain_of_thought_reasons_before_it_answers() -> None:
    """The model is asked for its reasoning first, and it is part of the prediction."""

    async def scenario(scene: Scene) -> None:
        answer = await scene.ask()
        assert answer.to_dict() == {"reasoning": "It is big.", "answer": "Paris"}
        asked = str(scene.provider.requests[0].messages[-1].content)
        assert asked.index("## reasoning ##") < asked.index("## answer ##")
        status = await scene.status()
        assert (status.kind, status.signature) == ("chain_of_thought", "question -> reasoning, answer")
        assert scene.executions[0].module_type == "chain_of_thought"

    play(response(THOUGHT), kind="chain_of_thought")(scenario)


def test_a_signature_that_reasons_already_is_left_alone() -> None:
    """There is one reasoning, where the signature has it."""
    settings = {"signature": "q -> answer, reasoning", "provider": "local", "kind": "chain_of_thought"}
    assert str(ModulePlan.of(settings).signature) == "q -> answer, reasoning"


# -- best of n -------------------------------------------------------------------------------------


def test_the_best_of_n_wins() -> None:
    """Each answer is fresh in the cache, the best one is the answer, and all of them are paid for."""

    async def scenario(scene: Scene) -> None:
        seen: list[Complete] = watch(scene)
        answer = await scene.ask({"rollout": "r"})
        assert answer.answer == "long one"
        assert [each.rollout for each in seen] == ["r/0", "r/1", "r/2"]
        info = answer.info
        assert (info.cost, info.usage.input_tokens, len(info.attempts)) == (Decimal("0.03"), 30, 3)
        assert "long one" in info.text

    play(saying("a"), saying("long one"), saying("abc"), kind="best_of_n", metric=by_length)(scenario)


def test_good_enough_ends_the_search() -> None:
    """From the threshold on nothing more is asked."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == "abcde"
        assert len(scene.provider.requests) == 2

    script = (saying("a"), saying("abcde"), saying("abcdefgh"))
    play(*script, kind="best_of_n", metric=by_length, threshold=0.5, n=3)(scenario)


def test_one_failure_of_n_is_passed_over() -> None:
    """A failed answer is none; only if all fail is that the outcome."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == "abc"
        with pytest.raises(LMServerError):
            await scene.ask()

    script = (LMServerError("down"), saying("abc"), LMServerError("down"), LMServerError("down"))
    play(*script, kind="best_of_n", metric=by_length, n=2)(scenario)


def test_a_broken_metric_is_the_callers_error() -> None:
    """It names the metric and what was raised; the module goes on."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(RemoteError, match="broken raised KeyError: 'no such thing'"):
            await scene.ask()
        assert (await scene.status()).failures == 1

    play(kind="best_of_n", metric=broken)(scenario)


def test_a_metric_that_scores_out_of_range_is_refused() -> None:
    """Scores are from 0 to 1."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(RunError, match="a score from 0 to 1"):
            await scene.ask()

    play(kind="best_of_n", metric=lambda example, prediction: 7)(scenario)


# -- refine ----------------------------------------------------------------------------------------


def test_refine_shows_the_score_and_the_feedback() -> None:
    """The next round has the last answer and what was said of it; the best of all is the answer."""

    async def scenario(scene: Scene) -> None:
        answer = await scene.ask()
        assert (answer.answer, answer.info.cost) == ("abcdefgh", Decimal("0.03"))
        first, second, third = scene.provider.requests
        assert second.messages[:-2] == first.messages
        assert "abc" in str(second.messages[-2].content)
        assert "scored 0.30 of 1.\nFeedback: 3 characters" in str(second.messages[-1].content)
        assert "8 characters" in str(third.messages[-1].content)

    play(saying("abc"), saying("abcdefgh"), saying("a"), kind="refine", metric=by_length)(scenario)


def test_refine_keeps_what_it_has() -> None:
    """A later round that fails ends the search; a first one that fails is the outcome."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == "abc"
        with pytest.raises(LMServerError):
            await scene.ask()

    play(saying("abc"), LMServerError("down"), LMServerError("down"), kind="refine", metric=by_length)(scenario)


@pytest.mark.parametrize("kind", ["refine", "best_of_n"])
def test_what_was_paid_for_is_kept_when_the_provider_is_busy(kind: str) -> None:
    """A provider that takes no more calls ends no search that has an answer."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == "abc"

    play(saying("abc"), *(Overloaded("full") for _ in range(2)), kind=kind, metric=by_length)(scenario)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "chain"}, "expected one of the kinds"),
        ({"kind": "chain_of_though"}, "did you mean 'chain_of_thought'"),
        ({"n": 3}, "expected the settings .*, got 'n'; that is an option of best_of_n and refine"),
        ({"kind": "best_of_n"}, "expected the option metric of the kind best_of_n, got nothing, at metric"),
        ({"kind": "best_of_n", "metric": by_length, "n": 0}, "a whole number from 1, got 0, at n"),
        ({"kind": "refine", "metric": by_length, "threshold": 2}, "a number from 0 to 1, got 2, at threshold"),
        ({"kind": "refine", "metric": "exact_mach"}, "did you mean 'exact_match'"),
        ({"state": ProgramState({"first": PredictorState()})}, "one of the predictors predict, got 'first'"),
    ],
)
def test_refused_settings(settings: dict[str, Any], words: str) -> None:
    """A kind takes its own options and no others, and checks them at once."""
    with pytest.raises(ConfigError, match=words):
        ModulePlan.of({"signature": "question -> answer", "provider": "local", **settings})


# -- states ----------------------------------------------------------------------------------------

TAUGHT = ProgramState({ONLY: PredictorState("Be brief.", ({"question": "Two?", "answer": "2"},))})


def test_a_state_for_one_call() -> None:
    """A call may bring a state; others at the same time see nothing of it."""

    async def scenario(scene: Scene) -> None:
        engine = scene.house.engine
        with_state = engine.outside.call_async("module/qa", Predict({"question": "x"}, state=TAUGHT), timeout=9.0)
        await gather(with_state, scene.ask())
        first, second = (request.messages for request in scene.provider.requests)
        assert (len(first), len(second)) == (4, 2)
        assert "Be brief." in str(first[0].content)
        assert "Be brief." not in str(second[0].content)
        assert await state(scene) == ProgramState({ONLY: PredictorState()})

    play(delay=1.0)(scenario)


def test_a_state_is_taken_and_given_back() -> None:
    """What a module is told it says again; without instructions the signature's own hold."""

    async def scenario(scene: Scene) -> None:
        await scene.house.call("module/qa", UpdateModule(state=TAUGHT))
        assert await state(scene) == TAUGHT
        status = await scene.status()
        assert (status.instructions, status.demos) == ("Be brief.", 1)
        assert status.predictors == {ONLY: Signature("question -> answer", "Own words.")}
        await scene.house.call("module/qa", UpdateModule(state=ProgramState({ONLY: PredictorState()})))
        assert (await scene.status()).instructions == "Own words."
        assert await state(scene) == ProgramState({ONLY: PredictorState()})

    play(instructions="Own words.")(scenario)


def test_states_of_typed_fields_are_json() -> None:
    """Values become JSON on the way out and have their types again on the way in."""
    settings = {"signature": "day: date -> parts: tuple[int, int]", "provider": "local"}
    plan = ModulePlan.of({**settings, "demos": [{"day": date(2024, 5, 1), "parts": (1, 2)}]})
    found = ProgramState.from_dict(json.loads(json.dumps(plan.state.to_dict())))
    assert found.predictors[ONLY].demos == ({"day": "2024-05-01", "parts": [1, 2]},)
    assert ModulePlan.of({**settings, "state": found}).predictors[ONLY].demos == plan.predictors[ONLY].demos
    wrong = ProgramState({ONLY: PredictorState(None, ({"day": "2024-05-01", "parts": ["1", 2]},))})
    with pytest.raises(SignatureError, match=r"got list, at predict.*'parts'"):
        plan.with_state(wrong)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    """A wrong demo is refused with its place."""

    async def scenario(scene: Scene) -> None:
        wrong = ProgramState({ONLY: PredictorState("New.", ({"question": "x", "answer": 1},))})
        with pytest.raises(SignatureError, match=r"expected str, got int, at predict\.demos"):
            await scene.house.call("module/qa", UpdateModule(state=wrong))
        with pytest.raises(SignatureError):
            await scene.house.call("module/qa", Predict({"question": "x"}, state=wrong))
        assert (await scene.status()).instructions is None

    play()(scenario)


# -- traces, runs, caches ----------------------------------------------------------------------------


def test_a_trace_has_the_calls_of_predictors() -> None:
    """Inputs and outputs as JSON, if they are asked for, and nothing if not."""

    async def scenario(scene: Scene) -> None:
        traced = await scene.house.call("module/qa", Predict({"question": "x"}, trace=True))
        assert traced.info.calls == (PredictorCall(ONLY, {"question": "x"}, {"answer": "Paris"}),)
        assert (await scene.ask()).info.calls == ()

    play()(scenario)


def test_calls_of_a_run_are_paid_once() -> None:
    """Asked again at the same place of the run, everything is answered from its journal, repairs included."""

    async def scenario(scene: Scene) -> None:
        journal = await scene.actor(Journal, "run-journal/r1")
        message = Predict({"question": "x"}, run=RunScope("r1", "t", "0"))
        first = await scene.house.call("module/qa", message)
        again = await scene.house.call("module/qa", message)
        assert (first, again.answer) == (again, 1.5)
        assert len(scene.provider.requests) == len(journal.kept) == 2
        await scene.house.call("module/qa", replace(message, run=RunScope("r1", "t", "1")))
        assert len(scene.provider.requests) == 3

    script = (saying("many"), saying("1.5"), saying("2.5"))
    play(*script, signature="question -> answer: float")(scenario)


def test_the_cache_may_be_passed_by() -> None:
    """``cache`` and ``rollout`` of a call reach the provider."""

    async def scenario(scene: Scene) -> None:
        seen = watch(scene)
        await scene.ask()
        await scene.ask({"cache": False, "rollout": "2"})
        assert [(each.cache, each.rollout) for each in seen] == [(True, None), (False, "2")]

    play()(scenario)


@pytest.mark.parametrize("options", [{"cache": 1}, {"rollout": 2}])
def test_cache_options_are_checked(options: Mapping[str, Any]) -> None:
    """A flag is a flag and a text a text."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        PredictOptions.of(options)


# -- histories ---------------------------------------------------------------------------------------

TALK = 'history: Class["dspex.actors.modules.history:History"], question -> answer'


def test_a_history_becomes_earlier_messages() -> None:
    """Its turns stand between the instructions and the question; the field itself is not shown."""

    async def scenario(scene: Scene) -> None:
        past = History().then(question="France?", answer="Paris").then(question="Norway?", answer="Oslo")
        await scene.ask(history=past, question="Spain?")
        [request] = scene.provider.requests
        assert [message.role for message in request.messages] == ["system", *["user", "assistant"] * 2, "user"]
        texts = [str(message.content) for message in request.messages]
        assert "France?" in texts[1]
        assert "Oslo" in texts[4]
        assert "Spain?" in texts[5]
        assert "history" not in "".join(texts)

    play(signature=TALK)(scenario)


def test_a_history_that_does_not_fit_is_refused() -> None:
    """Turns are checked as worked examples are; no model is asked."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(SignatureError, match=r"got 'anser', at history\[0\].*did you mean 'answer'"):
            await scene.ask(history=History(({"question": "x", "anser": "y"},)), question="Spain?")
        with pytest.raises(SignatureError, match="turns"):
            History(("x",))  # type: ignore[arg-type]
        with pytest.raises(SignatureError, match="turns of a conversation, got int"):
            History(5)  # type: ignore[arg-type]
        assert scene.provider.requests == []

    play(signature=TALK)(scenario)


def test_parse_errors_stay_parse_errors() -> None:
    """A kind without a second chance fails as predict does."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(ParseError):
            await scene.ask()

    play(response("[[ ## answer ## ]]\nx"), kind="chain_of_thought", retry_failed_predictions=False)(scenario)


def watch(scene: Scene) -> list[Complete]:
    """What the provider is asked."""
    return scene.provider.asks


async def state(scene: Scene) -> ProgramState:
    """What the module tells its model."""
    found = await scene.house.call("module/qa", GetState())
    assert isinstance(found, ProgramState)
    return found
