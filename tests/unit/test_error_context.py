"""What an error of a model request says of its circumstances, and what it never says."""

from __future__ import annotations

import pickle
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.lm.error_context import AIContext, detect_prompt_type, new_ai_context, response_hash, with_context
from dspex.actors.lm.values import LMRequest, LMResponse, Message, ToolCall, Usage, prompt_hash
from dspex.runtime.errors import LMTimeout

SECRET = "what nobody may read"
TOOL = {"type": "function", "function": {"name": "look"}}
CALL = ToolCall("1", "look", '{"at": "it"}')


def request(*messages: Message, **fields: Any) -> LMRequest:
    """A request; by default one text of the user."""
    return LMRequest(messages or (Message("user", SECRET),), **fields)


def context(**fields: Any) -> AIContext:
    """The circumstances of a plain request."""
    return new_ai_context(request(), provider="p", model="m", **fields)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (request(), "completion"),
        (request(Message("system", "be brief"), Message("user", "hi")), "chat"),
        (request(Message("user", "hi"), Message("assistant", "ho"), Message("user", "and?")), "chat"),
        (request(Message("assistant", "ho")), "chat"),
        (request(Message("user", ({"type": "text", "text": "hi"},))), "chat"),
        (request(tools=(TOOL,)), "tool"),
        (request(Message("assistant", tool_calls=(CALL,)), Message("tool", "3", tool_call_id="1")), "tool"),
        (request(tools=(TOOL,), response_format={"type": "json_object"}), "tool"),
        (request(response_format={"type": "json_object"}), "structured"),
    ],
)
def test_the_type_of_a_prompt(asked: LMRequest, kind: str) -> None:
    """Tools first, then a prescribed form, then a single text of the user; all else is chat."""
    assert detect_prompt_type(asked) == kind


def test_a_context_holds_hashes_and_numbers() -> None:
    """The prompt's hash is that of the events; its text is nowhere."""
    found = context(attempts=2, correlation_id="c" * 32, estimated_cost=Decimal("0.5"))
    assert (found.provider, found.model, found.prompt_type) == ("p", "m", "completion")
    assert found.prompt_hash == prompt_hash(request().messages)
    assert (found.prompt_tokens, found.attempts, found.correlation_id) == (6, 2, "c" * 32)
    assert found.estimated_cost == Decimal("0.5")
    assert SECRET not in repr(found)


def test_an_answer_adds_what_is_known_of_it() -> None:
    """Hash, tokens and the reason it ended; unknown counts stay unknown."""
    answer = LMResponse(text=SECRET, model="m", finish_reason="length", usage=Usage(output_tokens=7, total_tokens=9))
    found = context().with_response(answer)
    assert (found.finish_reason, found.response_tokens, found.total_tokens) == ("length", 7, 9)
    assert found.response_hash == response_hash(answer)
    assert SECRET not in repr(found)
    assert context().with_response(LMResponse(text="", model="m")).response_tokens is None


def test_the_hash_of_an_answer() -> None:
    """It tells texts, refusals and tool calls apart, takes an answer without text, and ignores what is no answer."""
    answers = [
        LMResponse(text="", model="m"),
        LMResponse(text="yes", model="m"),
        LMResponse(text="", model="m", refusal="yes"),
        LMResponse(text="", model="m", tool_calls=(CALL,)),
        LMResponse(text="", model="m", tool_calls=(replace(CALL, arguments="{}"),)),
        LMResponse(text="half a pair: \ud800", model="m"),
    ]
    hashes = {response_hash(answer) for answer in answers}
    assert len(hashes) == len(answers)
    assert all(len(one) == 64 for one in hashes)
    assert response_hash(LMResponse(text="yes", model="other", finish_reason="stop", provider="q")) == response_hash(
        answers[1]
    )


def test_an_error_carries_its_context_across_processes() -> None:
    """It is read as ``error.ai_context``, and pickles; without one there is no such attribute."""
    error = LMTimeout("too late", status=504)
    assert not hasattr(error, "ai_context")
    assert with_context(error, context()) is error
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, LMTimeout)
    assert (again.ai_context, again.status) == (context(), 504)
