"""The gateway's reading of requests and writing of answers."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.lm.chunks import LMChunk, ToolCallDelta
from dspex.actors.lm.values import LMResponse, Message, ToolCall, Usage
from dspex.runtime.errors import LMInvalidRequest
from dspex.supervisors.gateway.chat_answers import ChunkWriter, completion, usage_of
from dspex.supervisors.gateway.chat_request import ChatRequest, read_chat_request
from dspex.supervisors.gateway.models import Target
from dspex.supervisors.gateway.problems import Refused

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def resolve(name: str) -> Target:
    """Everybody has every model."""
    return Target("p", name, name)


def read(body: object) -> ChatRequest:
    """Read a body that is given as a value, or as bytes."""
    return read_chat_request(body if isinstance(body, bytes) else json.dumps(body).encode(), resolve)


def said(text: str, finish_reason: str | None = None, **more: Any) -> LMResponse:
    """An answer."""
    return LMResponse(text=text, model="m", finish_reason=finish_reason, **more)


def test_every_field_of_a_request_is_kept() -> None:
    """Our fields are read, the user and the stream's options are the gateway's, all others go on as they are."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    more = {"parallel_tool_calls": False, "presence_penalty": 0.5, "metadata": {"a": "b"}, "x": [1]}
    found = read(
        HELLO
        | {"temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": "END", "max_tokens": 7, "n": 1, "user": "u1"}
        | {"stream": True, "stream_options": {"include_usage": True}, "tools": tools, "tool_choice": "auto"}
        | {"response_format": {"type": "json_object"}, "logprobs": False, "modalities": ["text"]}
        | more
    )
    request = found.request
    assert (request.model, request.messages) == ("m", (Message("user", "hello"),))
    assert (request.temperature, request.top_p, request.seed, request.stop) == (0.5, 0.9, 3, ("END",))
    assert (request.max_tokens, request.tools, request.tool_choice) == (7, tuple(tools), "auto")
    assert request.response_format == {"type": "json_object"}
    assert request.extra == {**more, "modalities": ["text"]}
    assert (found.stream, found.include_usage, found.user) == (True, True, "u1")


def test_nothing_given_is_nothing_sent() -> None:
    """Keys that are null or absent leave their fields unset."""
    found = read(HELLO | dict.fromkeys(["temperature", "stop", "tools", "user", "n", "stream", "logprobs", "x"]))
    assert (found.request.temperature, found.request.stop, found.request.tools) == (None, None, None)
    assert (found.stream, found.include_usage, found.user, found.request.extra) == (False, False, None, {})


def test_the_newer_name_of_the_limit_wins() -> None:
    """max_completion_tokens goes before max_tokens."""
    assert read(HELLO | {"max_tokens": 1, "max_completion_tokens": 2}).request.max_tokens == 2


def test_a_conversation_with_tools_is_read() -> None:
    """An answer of ours, sent back as clients dump it, and a tool's result are read; a refusal is what was said."""
    echoed: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None}
    found = read(
        HELLO
        | {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "weather?"}], "name": "ann"},
                echoed | {"tool_calls": [CALL], "function_call": None, "reasoning_content": "hm"},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"},
                echoed | {"refusal": "I will not"},
            ]
        }
    )
    asked, called, result, refusal = found.request.messages
    assert (asked.content, asked.name) == (({"type": "text", "text": "weather?"},), "ann")
    assert called.tool_calls == (ToolCall("c1", "weather", '{"city": "Oslo"}'),)
    assert (result.tool_call_id, result.content, refusal.content) == ("c1", "rain", "I will not")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "usr", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "contnt": "y"}]}, "messages[0].contnt"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL | {"id": 1}]}]}, "messages[0].tool_calls[0].id"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"user": 1}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": []}, "tool_choice"),
        ({"stop": {}}, "stop"),
        ({"response_format": "json"}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"functions": []}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(change: dict[str, Any], param: str) -> None:
    """A wrong type, and what would be lost, is a 400 that names the place and quotes no prompt."""
    with pytest.raises(Refused) as refusal:
        read({name: value for name, value in (HELLO | change).items() if value is not None})
    problem = refusal.value.problem
    assert (problem.status, problem.param) == (400, param)
    assert param.partition("[")[0] in problem.message
    assert "hello" not in problem.message


@pytest.mark.parametrize("change", [{"temperature": "hot"}, {"max_tokens": 0}, {"stop": [1]}, {"seed": 0.5}])
def test_a_value_out_of_range_names_its_field(change: dict[str, Any]) -> None:
    """What a request refuses itself is refused with its field."""
    with pytest.raises(LMInvalidRequest) as refusal:
        read(HELLO | change)
    assert refusal.value.facts["field"] == next(iter(change))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"temperature": NaN}', b'{"seed": ' + b"9" * 9999]
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """A body that is no JSON object is a 400 and quotes nothing."""
    with pytest.raises(Refused) as refusal:
        read(body)
    assert (refusal.value.problem.status, refusal.value.problem.code) == (400, "invalid_json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [*HELLO, "stream", "stream_options", "n", "user", "tools", "stop", "tool_choice", "response_format", "seed", "x"]
)
TURN = st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls", "tool_call_id", "refusal"]), JSON)


@given(st.dictionaries(KEYS, JSON), st.lists(TURN, max_size=2))
def test_any_body_is_read_or_refused(body: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    """Whatever JSON comes, it is a request or a typed refusal, never a defect."""
    for each in (HELLO | body, HELLO | body | {"messages": turns}):
        with suppress(Refused, LMInvalidRequest):
            assert read(each).request.messages


def test_a_whole_answer_is_openais() -> None:
    """Text, usage with details, model and finish reason stand where OpenAI has them."""
    usage = Usage(10, 5, 15, 4, "provider", None, 2)
    response = LMResponse(
        text="Oslo",
        model="m-1",
        finish_reason="stop",
        usage=usage,
        response_id="r1",
        reasoning="hm",
        cost=Decimal("0.1"),
    )
    assert completion(response, id="x", created=7) == {
        "id": "r1",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Oslo", "refusal": None, "reasoning_content": "hm"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_an_answer_without_text_has_no_content() -> None:
    """Tool calls and refusals stand beside null; an empty text is one; unknown usage is left out, not zero."""
    called = completion(said("", "tool_calls", tool_calls=(ToolCall("c", "f", "{}"),)), id="x", created=1)
    message = called["choices"][0]["message"]
    assert (message["content"], message["tool_calls"][0]["function"]) == (None, {"name": "f", "arguments": "{}"})
    refused = completion(said("", refusal="no"), id="x", created=1)
    assert refused["choices"][0]["message"] == {"role": "assistant", "content": None, "refusal": "no"}
    empty = completion(said(""), id="x", created=1)
    assert (empty["choices"][0]["message"]["content"], empty["id"], "usage" in empty) == ("", "x", False)
    assert usage_of(Usage(1, None)) is None


def events_of(data: bytes) -> list[Any]:
    """The events of a written stream."""
    lines = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_stream_is_written_as_openai_does() -> None:
    """The role comes once, pieces in their places, then the finish reason, the usage if asked for, and [DONE]."""
    writer = ChunkWriter("id", "m", 7, include_usage=True)
    response = said("Hi", "tool_calls", usage=Usage(1, 2, 3))
    data = b"".join(
        [
            writer.piece(LMChunk(0, text="Hi")),
            writer.piece(LMChunk(1, reasoning="hm", refusal="no")),
            writer.piece(LMChunk(2, tool_call=ToolCallDelta(0, "c", "f", '{"a"'))),
            writer.piece(LMChunk(3, tool_call=ToolCallDelta(0, arguments=":1}"))),
            writer.end(response),
        ]
    )
    *chunks, usage, done = events_of(data)
    assert done == "[DONE]"
    assert {(c["id"], c["object"], c["created"], c["model"], c["usage"]) for c in chunks} == {
        ("id", "chat.completion.chunk", 7, "m", None)
    }
    assert [c["choices"][0]["delta"] for c in chunks] == [
        {"role": "assistant", "content": "Hi"},
        {"reasoning_content": "hm", "refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * 4 + ["tool_calls"]
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 3)


def test_an_empty_stream_has_a_role_and_no_usage_unasked() -> None:
    """A stream without pieces still tells the role; usage is not there unless asked for."""
    only, done = events_of(ChunkWriter("id", "m", 7, include_usage=False).end(said("", "stop")))
    assert (only["choices"][0]["delta"], done, "usage" in only) == ({"role": "assistant"}, "[DONE]", False)
