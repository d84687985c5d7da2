"""What is given without a name, or by the name another library has for it: refused with the way it is said here."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest

import dspex
from dspex.actors.examples import Example
from dspex.actors.modules.history import History
from dspex.actors.modules.program import Module, Predict
from dspex.runtime.errors import RemoteError, SignatureError
from kit.application import application

UNNAMED: Any = "Who wrote Hamlet?"


def test_a_module_takes_its_inputs_by_name() -> None:
    """A call and a stream, in both views; the error names the module and its inputs, and nothing is sent."""

    async def awaitable(app: dspex.App) -> None:
        qa = app.aio.module("qa")
        with pytest.raises(SignatureError, match=r"by name, question=\.\.\., got 1 without a name, at module/qa"):
            await qa(UNNAMED)
        with pytest.raises(SignatureError, match=r"got 2 without a name, at module/qa"):
            qa.stream(UNNAMED, UNNAMED)

    with application(None, "qa") as (app, server):
        qa = app.module("qa")
        with pytest.raises(SignatureError, match=r"by name, question=\.\.\., got 1 without a name, at module/qa"):
            qa(UNNAMED)
        with pytest.raises(SignatureError, match=r"by name, question=\.\.\., got 1 without a name, at module/qa"):
            qa.options(timeout=5).stream(UNNAMED, question="x")
        asyncio.run(awaitable(app))
        assert server.requests == []
        app.stop_module("qa")
        with pytest.raises(SignatureError, match=r"expected inputs by name, got 1 without a name, at module/qa"):
            qa(UNNAMED)


class Part(Module):
    """A program that is a part of another."""

    ask = Predict("question -> answer")

    async def forward(self, question: str) -> Any:
        """Ask."""
        return await self.ask(question=question)


class Careless(Module):
    """Asks in each wrong way."""

    part = Part()
    ask = Predict("context: list[str], question -> answer")

    async def forward(self, question: str) -> Any:
        """Ask as the question says."""
        given: Any = question
        ways: dict[str, Any] = {
            "call": lambda: self.ask(given, question=question),
            "last": lambda: self.ask.last(given),
            "part": lambda: self.part(given),
            "module": lambda: self.call_module("qa", given),
        }
        return await ways[question]()


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("call", r"expected inputs by name, context=\.\.\., question=\.\.\., got 1 without a name, at ask"),
        ("last", r"context=\.\.\., question=\.\.\., got 1 without a name, at ask"),
        ("part", r"question=\.\.\., got 1 without a name, at Part"),
        ("module", "got 1 without a name, at module/qa"),
    ],
)
def test_so_do_predictors_parts_and_other_modules_within_a_program(way: str, words: str) -> None:
    """It is the caller's typed error, not a TypeError from inside."""
    with application(None, "qa") as (app, server):
        careless = app.start_program("careless", Careless, provider="local")
        with pytest.raises(SignatureError, match=words) as caught:
            careless(question=way)
        assert not isinstance(caught.value, RemoteError)
        assert server.requests == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Example(UNNAMED), "expected a mapping of fields, or fields by name, got str, at Example"),
        (lambda: Example(5), "got int, at Example"),  # type: ignore[arg-type]
        (lambda: Example(UNNAMED, UNNAMED), r"got 2 without a name, at Example"),
        (lambda: Example([UNNAMED]), "got list, at Example"),  # type: ignore[arg-type]
        (lambda: Example(question="x").with_inputs(["question"]), r"expected names of fields, got list, at with_inp"),  # type: ignore[arg-type]
        (lambda: History().then(UNNAMED), "expected a mapping of fields, or fields by name, got str, at then"),
    ],
)
def test_examples_and_turns_have_fields_by_name(make: Any, words: str) -> None:
    """What has no name is no field."""
    with pytest.raises(SignatureError, match=words):
        make()


def test_examples_of_pairs_and_mappings() -> None:
    """What dict takes, but for texts."""
    assert Example([("question", "x")]) == Example({"question": "x"}) == Example(question="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"messages": []}, r"expected History\(turns=\[.*got 'messages'; did you mean 'turns'"),
        ({"turn": []}, "got 'turn'; did you mean 'turns'"),
        ({"question": "x"}, r"or History\(\)\.then\(question=\.\.\., answer=\.\.\.\), got 'question'$"),
        ({"turns": {"question": "x"}}, "expected turns of a conversation, got dict"),
        ({"turns": "hello"}, "expected turns of a conversation, got str"),
    ],
)
def test_a_history_is_made_of_turns(given: Any, words: str) -> None:
    """DSPy says messages; the error says what it is here."""
    with pytest.raises(SignatureError, match=words):
        History(**given)


def test_a_history_has_one_list_of_turns() -> None:
    """Not each turn by itself."""
    turns: list[Any] = [{"question": "x"}, {"question": "y"}]
    with pytest.raises(SignatureError, match="expected one list of turns, got 2"):
        History(*turns)


def test_a_history_is_still_a_value() -> None:
    """Copied, pickled, equal."""
    past = History([{"question": "x"}]).then(answer="y")  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(past)) == copy.deepcopy(past) == past
