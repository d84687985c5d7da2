"""react: tools really run, checked, bounded and seen; the model answers in the end."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.lm.values import LMResponse, ToolCall
from dspex.actors.modules.plan import ModulePlan
from dspex.actors.modules.tool_events import ToolExecution
from dspex.actors.modules.tools import BadArgumentsError, make_tool
from dspex.runtime.errors import ConfigError, SignatureError
from dspex.runtime.gen_server import Fail, GenServer, call
from kit.modules import PARIS, Scene, play, response

STARTED: list[str] = []
ENDED: list[str] = []


async def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


async def wait(seconds: float, name: str = "x") -> str:
    """Waits."""
    STARTED.append(name)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ENDED.append(name)
        raise
    return f"waited {seconds:g}"


async def broken(text: str) -> str:
    """Fails."""
    raise KeyError(text)


@dataclass(frozen=True)
class FindPrice:
    """Asks what something costs."""

    of: str
    most: int = 3


class Shop(GenServer):
    """Knows prices."""

    @call
    def price(self, msg: FindPrice) -> dict[str, Any] | Fail:
        return Fail(SignatureError("out of stock")) if msg.of == "tea" else {"price": len(msg.of)}


def calling(*calls: tuple[str, Any], text: str = "") -> LMResponse:
    """A model that calls tools."""
    made = [
        ToolCall(f"c{number}", name, given if isinstance(given, str) else json.dumps(given))
        for number, (name, given) in enumerate(calls)
    ]
    return response(text, tool_calls=tuple(made), finish_reason="tool_calls")


def react(*script: Any, **settings: Any) -> Callable[[Any], None]:
    """Run a coroutine with a react module."""
    tools = {"tools": (add, wait, broken, {"actor": "tool/shop", "message": FindPrice})}
    return play(*script, kind="react", **{**tools, **settings})


def observations(scene: Scene, request: int) -> list[str]:
    """What the tools said in a request."""
    return [str(each.content) for each in scene.provider.requests[request].messages if each.role == "tool"]


def test_tools_run_until_the_model_answers() -> None:
    """Functions and actors run with what the model wrote; it sees what they say, and answers; all of it is told."""

    async def scenario(scene: Scene) -> None:
        await scene.actor(Shop, "tool/shop")
        answer = await scene.ask(question="x")
        assert answer.answer == "Paris"
        assert answer.trajectory == [
            step(0, "add", '{"a": 2}', "3", thought="Let me see."),
            step(0, "find_price", '{"of": "bread"}', '{"price":5}', thought="Let me see."),
            step(1, "wait", '{"seconds": 1}', "waited 1"),
        ]
        first, second, _ = scene.provider.requests
        assert [tool["function"]["name"] for tool in first.tools or ()] == ["add", "wait", "broken", "find_price"]
        _, _, assistant, *said = second.messages
        assert (assistant.role, assistant.content, len(assistant.tool_calls)) == ("assistant", "Let me see.", 2)
        assert [(each.role, each.tool_call_id) for each in said] == [("tool", "c0"), ("tool", "c1")]
        assert answer.info.usage.total_tokens == 45

    script = (
        calling(("add", {"a": 2}), ("find_price", {"of": "bread"}), text="Let me see."),
        calling(("wait", {"seconds": 1})),
        response(PARIS),
    )
    react(*script)(scenario)


def test_each_tool_call_is_an_event_of_the_trace() -> None:
    """Names and outcomes, no values."""

    async def scenario(scene: Scene) -> None:
        await scene.ask()
        events = [event for event in scene.book.events if isinstance(event, ToolExecution)]
        assert [(each.module, each.tool, each.success, each.error_code) for each in events] == [
            ("qa", "wait", True, None),
            ("qa", "broken", False, "tool_failed"),
        ]
        assert events[0].duration == pytest.approx(2.0)
        assert {each.span_id for each in events} == {scene.executions[0].span_id}
        assert "hush" not in "".join(each.model_dump_json() for each in events)

    react(calling(("wait", {"seconds": 2, "name": "hush"})), calling(("broken", {"text": "hush"})))(scenario)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("add", {"a": "many"}, "Error: bad arguments: a: Input should be a valid integer"),
        ("add", {}, "Error: bad arguments: a: Field required"),
        ("add", {"a": 1, "c": 2}, "Error: bad arguments: c: Extra inputs are not permitted"),
        ("add", "{not json", "Error: bad arguments"),
        ("ad", {"a": 1}, "Error: there is no tool 'ad'; did you mean 'add'"),
        ("broken", {"text": "why"}, "Error: KeyError: 'why'"),
        ("find_price", {"of": "tea"}, "Error: out of stock"),
        ("wait", {"seconds": 9}, "Error: wait did not end within 5 s"),
    ],
)
def test_what_goes_wrong_is_an_observation(name: str, arguments: Any, said: str) -> None:
    """The model is told, and may do better; neither the call nor the actor ends."""

    async def scenario(scene: Scene) -> None:
        await scene.actor(Shop, "tool/shop")
        answer = await scene.ask()
        [observed] = observations(scene, 1)
        assert observed.startswith(said)
        assert answer.trajectory[0]["error"] is True
        assert answer.answer == "Paris"

    react(calling((name, arguments)), tool_timeout=5.0)(scenario)


class Speechless(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError


async def dumb() -> None:
    """Fails, and its failure fails."""
    raise Speechless


async def leaves() -> None:
    """Ends itself."""
    raise SystemExit(1)


async def gives_up() -> None:
    """Cancels itself."""
    raise asyncio.CancelledError


async def total(numbers: list[int]) -> int:
    """Adds them up."""
    return sum(numbers)


def test_no_tool_ends_more_than_itself() -> None:
    """Whatever it does is told to the model, in few words, beside what the others found."""

    async def scenario(scene: Scene) -> None:
        answer = await scene.ask()
        assert answer.answer == "Paris"
        *wrong, bad, long, unknown, good = observations(scene, 1)
        assert long == "Error: bad arguments: arguments: at most 200000 characters, not 300013"
        assert wrong == ["Error: Speechless: ", "Error: SystemExit: 1", "Error: gives_up cancelled itself"]
        assert bad.startswith("Error: bad arguments: numbers.0: Input should be a valid integer")
        assert bad.endswith("; and 9995 more")
        assert (len(bad) < 1000, len(unknown) < 1000, good) == (True, True, "3")

    many = calling(
        ("dumb", {}),
        ("leaves", {}),
        ("gives_up", {}),
        ("total", {"numbers": ["x"] * 10_000}),
        ("total", {"numbers": [1] * 100_000}),
        ("x" * 100_000, {}),
        ("total", {"numbers": [1, 2]}),
    )
    react(many, tools=(dumb, leaves, gives_up, total))(scenario)


def test_a_field_that_react_adds_itself() -> None:
    """A signature that has it is refused."""
    with pytest.raises(ConfigError, match="without a field 'trajectory'"):
        ModulePlan.of({"signature": "q -> trajectory", "provider": "p", "kind": "react", "tools": [total]})


def test_steps_are_bounded() -> None:
    """After the last one the model may call nothing and has to answer."""

    async def scenario(scene: Scene) -> None:
        answer = await scene.ask()
        assert len(answer.trajectory) == 2
        *_, last = scene.provider.requests
        assert len(scene.provider.requests) == 3
        assert (last.tool_choice, last.messages[-1].role) == ("none", "user")
        assert scene.provider.requests[0].tool_choice is None

    react(calling(("add", {"a": 1})), calling(("add", {"a": 2})), response(PARIS), max_steps=2)(scenario)


def test_tools_end_with_the_call() -> None:
    """A caller that gives up takes the tools with it."""
    STARTED.clear()
    ENDED.clear()

    async def scenario(scene: Scene) -> None:
        with pytest.raises(TimeoutError):
            await scene.ask(timeout=1.0)
        await asyncio.sleep(0.1)
        assert (sorted(STARTED), sorted(ENDED)) == (["a", "b"], ["a", "b"])

    react(calling(("wait", {"seconds": 9, "name": "a"}), ("wait", {"seconds": 9, "name": "b"})))(scenario)


def test_a_long_observation_is_cut() -> None:
    """The prompt stays bounded."""

    async def scenario(scene: Scene) -> None:
        await scene.ask()
        [observed] = observations(scene, 1)
        assert len(observed) == 20_003

    react(calling(("long", {})), tools=(long,))(scenario)


async def long() -> str:
    """Says much."""
    return "x" * 30_000


def test_a_final_answer_is_repaired() -> None:
    """As that of a predict module; no tool may be called in the repair."""

    async def scenario(scene: Scene) -> None:
        assert (await scene.ask()).answer == 1.5
        assert scene.provider.requests[-1].tool_choice == "none"

    wrong, right = response("[[ ## answer ## ]]\nmany"), response("[[ ## answer ## ]]\n1.5")
    react(wrong, right, signature="question -> answer: float")(scenario)


# -- tools -----------------------------------------------------------------------------------------


def test_a_tool_is_described() -> None:
    """Name, words and JSON schema come from the function."""
    assert make_tool(add).offer == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"title": "A", "type": "integer"},
                    "b": {"default": 1, "title": "B", "type": "integer"},
                },
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
    assert make_tool(f"{__name__}:add").name == "add"


def schema(json: int, copy: str = "x") -> str:
    """Parameters whose names pydantic's models have too."""
    return f"{json} {copy}"


def bare(text, times=2, loud=False):  # type: ignore[no-untyped-def]
    """Has no types."""
    return text * times, loud


def test_parameters_without_types() -> None:
    """They have those of their defaults, or are text."""
    tool = make_tool(bare)
    kinds = {name: each["type"] for name, each in tool.parameters["properties"].items()}
    assert kinds == {"text": "string", "times": "integer", "loud": "boolean"}
    assert tool.arguments('{"text": "x", "times": 3}') == {"text": "x", "times": 3, "loud": False}


@given(st.integers(), st.integers())
def test_arguments_arrive_as_they_were_written(a: int, b: int) -> None:
    """What fits is given to the function under its own names."""
    assert make_tool(add).arguments(json.dumps({"a": a, "b": b})) == {"a": a, "b": b}
    assert make_tool(schema).arguments(json.dumps({"json": a})) == {"json": a, "copy": "x"}


@given(st.text())
def test_bad_arguments_are_one_kind_of_error(text: str) -> None:
    """Whatever a model writes, it fits or is refused."""
    try:
        found = make_tool(add).arguments(text)
    except BadArgumentsError:
        return
    assert set(found) == {"a", "b"}


def untyped(*many: int) -> int:
    """Takes any number."""
    return len(many)


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ((), "one at least, got 'none', at tools"),
        ((add, add), "tools of different names"),
        ((5,), r"a function, or a table of actor and message, got int, at tools\[0\]"),
        (("json:laods",), "did you mean 'loads'"),
        ((untyped,), "named parameters"),
        ((functools.partial(add, a=1),), r"a function, or a table of actor and message, got partial, at tools\[0\]"),
        ((print,), "named parameters"),
        ((getattr,), r"parameters of types that JSON can carry.*at tools\[0\]"),
        ((lambda a: a,), "a name of letters"),
        (({"actor": "tool/x"},), r"a dataclass or a pydantic model, got None, at tools\[0\].message"),
        (({"actor": "tool/x", "mesage": FindPrice},), "did you mean 'message'"),
        (({"actor": "", "message": FindPrice},), "the name of an actor"),
    ],
)
def test_refused_tools(tools: Any, words: str) -> None:
    """A tool that cannot be called is refused when the module is made."""
    with pytest.raises(ConfigError, match=words):
        ModulePlan.of({"signature": "q -> a", "provider": "local", "kind": "react", "tools": tools})


@pytest.mark.parametrize("option", [{"max_steps": 0}, {"tool_timeout": 0}])
def test_refused_bounds(option: dict[str, Any]) -> None:
    """Bounds are positive."""
    with pytest.raises(ConfigError, match=next(iter(option))):
        ModulePlan.of({"signature": "q -> a", "provider": "local", "kind": "react", "tools": (add,), **option})


def step(number: int, tool: str, arguments: str, observation: str, thought: str = "") -> dict[str, Any]:
    """A row of a trajectory."""
    row = {"step": number, "thought": thought, "tool": tool, "arguments": arguments}
    return {**row, "observation": observation, "error": False}
