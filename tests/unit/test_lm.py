"""Canonical LM values: what they accept, what they refuse, how prompts are hashed and counted."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.lm.values import (
    Attempt,
    LMRequest,
    LMResponse,
    Message,
    ToolCall,
    Usage,
    canonical_json,
    estimate_tokens,
    prompt_hash,
)
from dspex.runtime.errors import LMInvalidRequest

HELLO = Message("user", "Hello")
texts = st.text(max_size=40)
messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), min_size=1, max_size=5
).map(tuple)


def test_a_request_holds_only_what_was_set() -> None:
    """Every field but the messages is None or empty unless the user set it."""
    request = LMRequest(messages=(HELLO,))
    unset = {request.model, request.temperature, request.top_p, request.max_tokens, request.stop, request.seed}
    assert unset == {None}
    assert request.extra == {}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": ()}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": 3}, "messages"),
        ({"messages": [HELLO, {"role": "user"}]}, "messages[1]"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": -(10**5000)}, "max_tokens"),
        ({"temperature": 10**400}, "temperature"),
        ({"model": 5}, "model"),
        ({"seed": "x"}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": (1,)}, "stop"),
        ({"stop": 5}, "stop"),
        ({"extra": None}, "extra"),
        ({"extra": "n"}, "extra"),
        ({"extra": {"x": 10**5000}}, "extra"),
        ({"extra": {"model": "x"}}, "extra.model"),
        ({"extra": {"temperature": 1}}, "extra.temperature"),
        ({"extra": {"stream": True}}, "extra.stream"),
        ({"extra": {"n": 2}}, "extra.n"),
        ({"extra": {"x": {1, 2}}}, "extra"),
        ({"response_format": {"x": float("inf")}}, "response_format"),
        ({"tools": ({"x": object()},)}, "tools"),
    ],
)
def test_bad_values_are_refused_at_once(fields: dict[str, Any], field: str) -> None:
    """A bad value raises LMInvalidRequest that names the field, what was expected and what came."""
    with pytest.raises(LMInvalidRequest, match=r"expected .*, got ") as caught:
        LMRequest(**({"messages": (HELLO,)} | fields))
    assert caught.value.field == field


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"seed": -1}, {"seed": 0}, {"max_tokens": 1}, {"top_p": 0.0}])
def test_zero_is_a_value(fields: dict[str, Any]) -> None:
    """Zero is kept where it has a meaning."""
    request = LMRequest(messages=(HELLO,), **fields)
    ((name, value),) = fields.items()
    assert getattr(request, name) == value


def test_an_unknown_role_is_refused_with_a_hint() -> None:
    """A misspelt role gets a did-you-mean."""
    with pytest.raises(LMInvalidRequest, match="did you mean 'assistant'"):
        Message("asistant", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"content": 5}, "content"),
        ({"content": ({1, 2},)}, "content"),
        ({"content": ["text"]}, "content[0]"),
        ({"name": 5}, "name"),
        ({"tool_call_id": b"1"}, "tool_call_id"),
        ({"tool_calls": ({"id": "1"},)}, "tool_calls[0]"),
    ],
)
def test_messages_that_no_provider_could_be_sent_are_refused(fields: dict[str, Any], field: str) -> None:
    """Content is text, parts or None, all else text: refused where the message is made, not where it is sent."""
    with pytest.raises(LMInvalidRequest, match=r"expected .*, got ") as caught:
        Message("user", **fields)
    assert caught.value.field == field


def test_a_tool_call_is_made_of_texts() -> None:
    """Arguments are the JSON text, not what it says."""
    with pytest.raises(LMInvalidRequest, match="arguments"):
        ToolCall("1", "f", {"x": 1})  # type: ignore[arg-type]


def test_parts_are_independent_of_what_they_were_made_from() -> None:
    """Changing a part afterwards changes no message, whether it came in a list or a tuple."""
    part = {"type": "text", "text": "before"}
    messages = Message("user", [part]), Message("user", (part,))  # type: ignore[arg-type]
    part["text"] = "after"
    assert [message.content for message in messages] == [({"type": "text", "text": "before"},)] * 2


def test_one_stop_text_is_a_sequence_of_one() -> None:
    """``stop="x"`` is not split into letters."""
    assert LMRequest(messages=(HELLO,), stop="END").stop == ("END",)  # type: ignore[arg-type]


def test_lists_become_tuples() -> None:
    """Lists are welcome, and frozen."""
    request = LMRequest(messages=[HELLO], tools=[{"type": "function"}])  # type: ignore[arg-type]
    assert request.messages == (HELLO,)
    assert request.tools == ({"type": "function"},)


def test_a_request_is_independent_of_what_it_was_made_from() -> None:
    """Changing a dict afterwards does not change what is sent."""
    extra: dict[str, Any] = {"metadata": {"a": 1}}
    request = LMRequest(messages=(HELLO,), extra=extra)
    extra["metadata"]["a"] = 2
    assert request.extra == {"metadata": {"a": 1}}


def test_values_pickle_compare_and_hash() -> None:
    """Requests and answers cross process borders unchanged."""
    request = LMRequest(messages=(HELLO, Message("assistant", None, (ToolCall("1", "f", "{}"),))), extra={"a": [1]})
    usage = Usage(1, 2, 3, None, "provider")
    answer = LMResponse(text="x", model="m", usage=usage, attempts=(Attempt(1, 200, 0.1, "r"),))
    for value in (request, answer):
        assert pickle.loads(pickle.dumps(value)) == value
        assert hash(pickle.loads(pickle.dumps(value))) == hash(value)


def test_unknown_usage_is_not_zero() -> None:
    """Usage nobody told is None everywhere, and says so."""
    usage = LMResponse(text="", model="m").usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.source) == (None, None, None, "unknown")


@given(messages)
def test_the_hash_depends_on_the_words_alone(turns: tuple[Message, ...]) -> None:
    """Equal messages have equal hashes, 64 hex digits, whatever their identity."""
    again = pickle.loads(pickle.dumps(turns))
    assert prompt_hash(again) == prompt_hash(list(turns))
    assert len(prompt_hash(turns)) == 64


@given(messages, messages)
def test_other_words_have_another_hash(one: tuple[Message, ...], two: tuple[Message, ...]) -> None:
    """Different messages have different hashes: no joining of texts makes two prompts one."""
    assert (prompt_hash(one) == prompt_hash(two)) == (one == two)


def test_the_hash_takes_any_text() -> None:
    """Halves of surrogate pairs hash too, instead of raising."""
    assert prompt_hash([Message("user", "\ud800")]) != prompt_hash([Message("user", "?")])


def test_canonical_json_has_one_text() -> None:
    """Order of keys does not matter; NaN is refused."""
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}' == canonical_json({"a": "é", "b": 1})
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_tokens_are_a_quarter_of_the_characters_rounded_up() -> None:
    """Roles, text and tool calls count; images do not."""
    assert estimate_tokens([Message("user", "12345")]) == 3  # (4 + 5) / 4
    assert estimate_tokens([Message("assistant", None, (ToolCall("id", "look", '{"q":1}'),))]) == 5  # (9 + 4 + 7) / 4
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 10_000}}
    assert estimate_tokens([Message("user", ({"type": "text", "text": "1234"}, image))]) == 2


@given(messages)
def test_more_words_are_not_fewer_tokens(turns: tuple[Message, ...]) -> None:
    """The estimate grows with the prompt and is never zero."""
    assert 0 < estimate_tokens(turns) <= estimate_tokens((*turns, HELLO))


@pytest.mark.parametrize("model", ["gpt\ud800", "gpt\n4"])
def test_a_model_that_cannot_be_written_down_is_refused(model: str) -> None:
    """Half a character and control characters: refused where the request is made."""
    with pytest.raises(LMInvalidRequest, match="printable"):
        LMRequest((Message("user", "Hi"),), model=model)
