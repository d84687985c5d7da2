"""OpenAI chat completions: what is sent, and how real servers' answers are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.configuration.provider_settings import BASE_URLS, ProviderSettings
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.actors.lm.chunks import LMChunk
from dspex.actors.lm.stream_collector import Collector
from dspex.actors.lm.values import LMRequest, LMResponse, Message, ToolCall, Usage
from dspex.actors.providers.credentials import Credentials
from dspex.actors.wire_formats import WIRE_FORMATS, wire_format
from dspex.actors.wire_formats.openai_chat import OpenAIChat
from dspex.actors.wire_formats.openai_responses import OpenAIResponses
from dspex.runtime.errors import ConfigError, LMError, LMInvalidRequest, LMProtocolError, LMRateLimited
from kit.recorded_streams import decoder, delta, events, read

CHAT = OpenAIChat()
USER = (Message("user", "Hi"),)
KEY = "test-key-12345"
LOCAL = "http://127.0.0.1:8080/v1"


def settings(**fields: Any) -> ProviderSettings:
    """A provider on this machine."""
    return ProviderSettings.model_validate({"kind": "openai", "base_url": LOCAL, "default_model": "m"} | fields)


def encode(
    request: LMRequest, key: str | None = KEY, headers: dict[str, str] | None = None, **fields: Any
) -> HttpRequest:
    """What is sent for a request."""
    return CHAT.encode(request, settings(**fields), Credentials(key, headers or {}))


def body_of(**fields: Any) -> dict[str, Any]:
    """The JSON that is sent for a request with these fields."""
    body = json.loads(encode(LMRequest(messages=USER, **fields)).body)
    assert isinstance(body, dict)
    return body


def decode(body: bytes | dict[str, Any], content_type: str = "application/json", **headers: str) -> LMResponse:
    """Read a recorded answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-type": content_type}
    return CHAT.decode(HttpResponse(200, found, data), model="asked", secrets=(KEY,))


# -- requests ------------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    """Only model and messages are sent when nothing else is set: no temperature, no stream, no n."""
    request = encode(LMRequest(messages=USER))
    assert (request.method, request.url) == ("POST", f"{LOCAL}/chat/completions")
    assert json.loads(request.body) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


def test_everything_set_is_sent() -> None:
    """Each field goes out under its wire name."""
    body = body_of(
        model="other",
        temperature=0,
        top_p=0.5,
        seed=7,
        stop=("a", "b"),
        max_tokens=9,
        response_format={"type": "json_object"},
        tools=({"type": "function"},),
        tool_choice="auto",
        extra={"reasoning_effort": "low"},
    )
    assert body == {
        "model": "other",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["a", "b"],
        "max_tokens": 9,
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function"}],
        "tool_choice": "auto",
        "reasoning_effort": "low",
    }


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "max_tokens"),
        ({"base_url": "https://api.openai.com/v1"}, "max_completion_tokens"),
        ({"base_url": "https://api.openai.com/v1", "max_tokens_field": "max_tokens"}, "max_tokens"),
        ({"max_tokens_field": "max_completion_tokens"}, "max_completion_tokens"),
        ({"base_url": "https://api.openai.com.evil.example/v1"}, "max_tokens"),
    ],
)
def test_the_token_bound_has_the_name_the_server_reads(fields: dict[str, Any], name: str) -> None:
    """OpenAI reads ``max_completion_tokens``, most others only ``max_tokens``; settings override."""
    body = json.loads(encode(LMRequest(messages=USER, max_tokens=5), **fields).body)
    assert body[name] == 5
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1


def test_tool_turns_are_written() -> None:
    """Tool calls and their results have OpenAI's form."""
    turns = (
        Message("assistant", None, (ToolCall("c1", "add", '{"a":1}'),)),
        Message("tool", "3", tool_call_id="c1"),
        Message("user", ({"type": "text", "text": "x"},), name="bob"),
    )
    assert json.loads(encode(LMRequest(messages=turns)).body)["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "bob"},
    ]


def test_no_model_is_refused() -> None:
    """Neither the request nor the settings name a model: LMInvalidRequest, nothing is guessed."""
    with pytest.raises(LMInvalidRequest, match="default_model"):
        encode(LMRequest(messages=USER), default_model=None)


def test_a_server_without_a_key_gets_none() -> None:
    """No key, no Authorization header."""
    assert "authorization" not in encode(LMRequest(messages=USER), key=None).headers


def test_headers_of_the_settings_are_sent() -> None:
    """Organization, project and extra headers go out; the user's own win."""
    headers = encode(
        LMRequest(messages=USER), headers={"X-Gateway": "g", "Authorization": "Token t"}, organization="o", project="p"
    ).headers
    assert headers["openai-organization"] == "o"
    assert headers["openai-project"] == "p"
    assert headers["x-gateway"] == "g"
    assert headers["authorization"] == "Token t"
    assert "Authorization" not in headers


def test_the_key_shows_in_no_repr() -> None:
    """Credentials and requests print without their secrets."""
    shown = repr((Credentials(KEY, {"x": KEY}), encode(LMRequest(messages=USER), headers={"x": KEY})))
    assert KEY not in shown


def test_a_stream_is_asked_for_with_its_usage() -> None:
    """``stream`` adds two keys and the type that is accepted, and nothing else changes."""
    request = LMRequest(messages=USER)
    plain, streamed = encode(request), CHAT.encode(request, settings(), Credentials(KEY), stream=True)
    more = {"stream": True, "stream_options": {"include_usage": True}}
    assert json.loads(streamed.body) == json.loads(plain.body) | more
    assert streamed.headers["accept"] == "text/event-stream, application/json"
    assert (streamed.url, streamed.headers["authorization"]) == (plain.url, plain.headers["authorization"])


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"top_p": 1.0}, {"seed": 0}])
def test_sampling_is_refused_where_the_model_takes_none(fields: dict[str, Any]) -> None:
    """``sampling = false`` refuses the field by its name, zero too; other requests go out."""
    (name,) = fields
    with pytest.raises(LMInvalidRequest, match=f"at {name}") as caught:
        encode(LMRequest(messages=USER, **fields), sampling=False)
    assert caught.value.facts["field"] == name
    assert name in body_of(**fields)
    assert encode(LMRequest(messages=USER, max_tokens=5), sampling=False).body


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA, "strict": True}}
OPENAI_URL = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("mode", "asked", "sent", "url"),
    [
        (None, BY_SCHEMA, BY_SCHEMA, LOCAL),
        ("json_schema", BY_SCHEMA, BY_SCHEMA, LOCAL),
        ("json_schema", {"type": "json_object"}, {"type": "json_object"}, LOCAL),
        ("json_object", BY_SCHEMA, {"type": "json_object", "schema": SCHEMA}, LOCAL),
        ("json_object", BY_SCHEMA, {"type": "json_object"}, OPENAI_URL),
        ("json_object", {"type": "json_object"}, {"type": "json_object"}, LOCAL),
        ("none", {"type": "text"}, {"type": "text"}, LOCAL),
    ],
)
def test_structured_output_is_asked_for_as_the_server_has_it(mode: Any, asked: Any, sent: Any, url: str) -> None:
    """By schema, or as a JSON object with the schema where llama.cpp reads it (OpenAI refuses unknown keys)."""
    request = LMRequest(messages=USER, response_format=asked)
    assert json.loads(encode(request, schema_mode=mode, base_url=url).body)["response_format"] == sent


@pytest.mark.parametrize("mode", ["none", "tool"])
@pytest.mark.parametrize("asked", [BY_SCHEMA, {"type": "json_object"}])
def test_structured_output_is_refused_where_there_is_none(mode: str, asked: dict[str, Any]) -> None:
    """Not left out: the answer would be free text."""
    with pytest.raises(LMInvalidRequest, match=r"schema_mode json_schema or json_object .* at response_format"):
        encode(LMRequest(messages=USER, response_format=asked), schema_mode=mode)


@given(st.text())
def test_any_text_can_be_sent(text: str) -> None:
    """Any Python text, halves of surrogate pairs too, is valid JSON on the wire."""
    body = json.loads(encode(LMRequest(messages=(Message("user", text),))).body)
    assert body["messages"][0]["content"] == text


# -- answers -------------------------------------------------------------------------------------

OPENAI = b"""{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,
"model":"gpt-test-2026","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!","refusal":null,
"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,
"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default"}"""


def message(content: Any = "x", **more: Any) -> dict[str, Any]:
    """The smallest answer with this content."""
    return {"choices": [{"message": {"role": "assistant", "content": content} | more}]}


def test_a_recorded_answer_of_openai() -> None:
    """Text, model, ids, finish reason and usage with cached tokens are read."""
    answer = decode(OPENAI, x_request_id="req_1")
    assert answer == LMResponse(
        text="Hello!",
        model="gpt-test-2026",
        finish_reason="stop",
        usage=Usage(19, 10, 29, 4, "provider", None, 0),
        request_id="req_1",
        response_id="chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    )


def test_what_is_absent_is_unknown() -> None:
    """No usage, no finish_reason, no model, no id: unknown, the model asked for, None."""
    answer = decode(message("hi"))
    assert (answer.text, answer.model, answer.finish_reason, answer.response_id) == ("hi", "asked", None, None)
    assert answer.usage == Usage()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ([], Usage()),
        ("many", Usage()),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(0, 0, 0, None, "provider")),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4, 7, None, "provider")),
        ({"total_tokens": 9}, Usage(None, None, 9, None, "provider")),
        ({"prompt_tokens": 3.0, "completion_tokens": -1, "total_tokens": True}, Usage(3, None, None, None, "provider")),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(3, None, None, None, "provider")),
        ({"prompt_tokens": float("nan"), "total_tokens": float("inf")}, Usage()),
        ({"prompt_tokens": 1e300, "total_tokens": 2**63}, Usage()),
        (
            {
                "prompt_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
                "completion_tokens": 4,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 4, 13, 5, "provider", 2, 3),
        ),
        ({"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": "x"}}, Usage(1, source="provider")),
    ],
)
def test_usage_as_servers_send_it(usage: Any, expected: Usage) -> None:
    """Missing or malformed counts are unknown, zero is zero."""
    assert decode(message() | {"usage": usage}).usage == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("", ""),
        ("é \N{GRINNING FACE}", "é \N{GRINNING FACE}"),
        ([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}], "ab"),
        ([], ""),
        (5, ""),
        ("half \ud83d", "half \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_content_as_servers_send_it(content: Any, text: str) -> None:
    """Null, parts and broken characters become a text that can be written anywhere."""
    assert decode(message(content)).text == text


def test_a_refusal_is_an_outcome() -> None:
    """A refusal has its words in ``refusal`` and no text."""
    answer = decode(message(None, refusal="I cannot."))
    assert (answer.text, answer.refusal) == ("", "I cannot.")


def test_tool_calls_are_read() -> None:
    """Arguments stay the text the model wrote; an object becomes its text; half a call breaks nothing."""
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": None, "function": {"name": "g", "arguments": {"b": 2}}},
        {"id": "c3"},
        "nonsense",
    ]
    assert decode(message(None, tool_calls=calls)).tool_calls == (
        ToolCall("c1", "f", '{"a": 1}'),
        ToolCall("", "g", '{"b":2}'),
        ToolCall("c3", "", ""),
        ToolCall("", "", ""),
    )


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thoughts_are_read(key: str) -> None:
    """Servers show what the model thinks under one of two names."""
    assert decode(message("x", **{key: "Hm."})).reasoning == "Hm."
    assert decode(message("x", **{key: None})).reasoning is None


def test_an_answer_that_ended_in_an_error_is_that_error() -> None:
    """Routers answer 200 with half a text and the error beside it."""
    body = message("half")
    body["choices"][0] |= {"finish_reason": "error", "error": {"code": 429, "message": "slow"}}
    with pytest.raises(LMRateLimited, match="slow"):
        decode(body)


def test_an_answer_without_a_content_type_is_read() -> None:
    """Some small servers name no type."""
    assert decode(message("hi"), content_type="").text == "hi"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html><body>Sign in</body></html>", "text/html; charset=utf-8"),
        (OPENAI, "text/html"),
        (OPENAI, "text/plain"),
        (b"data: {}\n\n", "text/event-stream"),
        (OPENAI[:100], "application/json"),
        (b"", "application/json"),
        (b"null", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"{}", "application/json"),
        (b'{"choices":null}', "application/json"),
        (b'{"choices":[]}', "application/json"),
        (b'{"choices":{}}', "application/json"),
        (b'{"choices":[{}]}', "application/json"),
        (b'{"choices":[{"message":null}]}', "application/json"),
        (b'{"choices":["x"]}', "application/json"),
    ],
)
def test_what_is_no_completion_is_refused(body: bytes, kind: str) -> None:
    """HTML, truncated or other JSON, no choice: LMProtocolError, never an empty answer that looks right."""
    with pytest.raises(LMProtocolError, match=r"expected (a .*|JSON), got "):
        decode(body, kind)


@pytest.mark.parametrize("kind", ["text/html", "application/json", ""])
def test_a_refused_answer_is_not_quoted(kind: str) -> None:
    """What came may be a prompt, an answer or a key: its kind, length and hash are told, never a word of it."""
    for body in (f"<html>{KEY} the answer is Bob", '{"said": "Bob"}', '["Bob"]', "Bob"):
        with pytest.raises(LMProtocolError, match=rf"{len(body)} bytes \(SHA-256 [0-9a-f]{{16}}\)") as caught:
            decode(body.encode(), kind)
        assert KEY not in str(caught.value)
        assert "Bob" not in str(caught.value)


def test_an_error_in_a_success_is_that_error() -> None:
    """Some gateways answer 200 with an error object."""
    with pytest.raises(LMRateLimited, match="slow"):
        decode({"error": {"message": "slow", "code": 429}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "error", "tool_calls", "prompt_tokens", "text", "model"]
            ),
            inner,
        )
    ),
)


@given(json_values)
def test_no_json_breaks_the_reader(value: Any) -> None:
    """Any JSON is an answer or an LMError, and its texts can be written."""
    try:
        answer = decode(json.dumps(value).encode())
    except LMError as error:
        str(error).encode()
    else:
        repr((answer.text, answer.model, answer.refusal)).encode()
        answer.text.encode()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    """Any bytes are an answer or an LMError."""
    try:
        decode(body)
    except LMError:
        return
    json.loads(body)


# -- streams -------------------------------------------------------------------------------------


def streamed(*chunks: Any, done: bool = True) -> LMResponse:
    """The answer of a stream of these chunks."""
    decoding = decoder(CHAT)
    read(decoding, [events(*chunks, done=done)])
    return decoding.response()


def call(*fragments: Any) -> list[dict[str, Any]]:
    """Chunks with one fragment of a tool call each, and the last one."""
    return [*(delta(tool_calls=[fragment]) for fragment in fragments), delta("tool_calls")]


def piece(arguments: Any = None, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A fragment of a tool call."""
    return fields | {"function": {"arguments": arguments} | ({} if name is None else {"name": name})}


def test_each_kind_of_delta_is_a_chunk() -> None:
    """Text, thoughts under both names, refusal; the role alone is none."""
    decoding = decoder(CHAT)
    found = read(
        decoding,
        [
            events(
                delta(role="assistant", content=""),
                delta(reasoning_content="a"),
                delta(reasoning="b"),
                delta(content="c", refusal=None),
                delta(content=[{"type": "text", "text": "d"}]),
                delta("stop", refusal="e"),
            )
        ],
    )
    assert found == [
        LMChunk(0, reasoning="a"),
        LMChunk(1, reasoning="b"),
        LMChunk(2, "c"),
        LMChunk(3, "d"),
        LMChunk(4, refusal="e"),
    ]
    answer = decoding.response()
    assert (answer.text, answer.reasoning, answer.refusal, answer.finish_reason) == ("cd", "ab", "e", "stop")


TWO = (ToolCall("t1", "f", '{"a":1}'), ToolCall("t2", "g", '{"b":2}'))


@pytest.mark.parametrize(
    "fragments",
    [
        # OpenAI: by index, id and name once.
        [
            piece("", "f", index=0, id="t1"),
            piece('{"a"', index=0),
            piece(":1}", index=0),
            piece("", "g", index=1, id="t2"),
            piece('{"b":2}', index=1),
        ],
        # interleaved
        [
            piece("", "f", index=0, id="t1"),
            piece("", "g", index=1, id="t2"),
            piece('{"a"', index=0),
            piece('{"b":2}', index=1),
            piece(":1}", index=0),
        ],
        # numbered from 1, id and name in every piece
        [
            piece('{"a"', "f", index=1, id="t1"),
            piece(":1}", "f", index=1, id="t1"),
            piece('{"b":2}', "g", index=2, id="t2"),
        ],
        # an id of its own for each piece
        [piece('{"a"', "f", index=0, id="t1"), piece(":1}", index=0, id="x"), piece('{"b":2}', "g", index=1, id="t2")],
        # whole calls, all with the index 0
        [piece('{"a":1}', "f", index=0, id="t1"), piece('{"b":2}', "g", index=0, id="t2")],
        # ... in pieces
        [
            piece('{"a"', "f", index=0, id="t1"),
            piece(":1}", index=0),
            piece("", "g", index=0, id="t2"),
            piece('{"b":2}', index=0),
        ],
        # no index: whole calls
        [piece('{"a":1}', "f", id="t1"), piece('{"b":2}', "g", id="t2")],
        # ... in pieces, with null for what is not said
        [
            piece("", "f", id="t1", index=None),
            piece('{"a"', id=None),
            piece(":1}"),
            piece(None, "g", id="t2"),
            piece('{"b":2}', id=""),
        ],
        # ... pieces that name their call
        [piece("", "f", id="t1"), piece("", "g", id="t2"), piece('{"a":1}', id="t1"), piece('{"b":2}', id="t2")],
        # arguments as objects
        [piece({"a": 1}, "f", index=0, id="t1"), piece({"b": 2}, "g", index=1, id="t2")],
    ],
)
def test_tool_calls_in_pieces(fragments: list[dict[str, Any]]) -> None:
    """However a server numbers its pieces, two calls are two calls, told apart in the chunks too."""
    decoding = decoder(CHAT)
    pieces = [chunk.tool_call for chunk in read(decoding, [events(*call(*fragments))]) if chunk.tool_call]
    answer = decoding.response()
    assert answer.tool_calls == TWO
    assert answer.finish_reason == "tool_calls"
    for index, whole in enumerate(TWO):
        mine = [piece for piece in pieces if piece.index == index]
        assert (mine[0].id, mine[0].name) == (whole.id, whole.name)
        assert all((piece.id, piece.name) == ("", "") for piece in mine[1:])
        assert "".join(piece.arguments for piece in mine) == whole.arguments


def test_whole_calls_without_any_mark_are_told_apart_by_their_names() -> None:
    """No index, no id: a name begins a call."""
    answer = streamed(*call(piece("{}", "f"), piece("[1", "g"), piece("]")))
    assert answer.tool_calls == (ToolCall("", "f", "{}"), ToolCall("", "g", "[1]"))


def test_two_calls_in_one_chunk() -> None:
    """Several fragments may come at once."""
    answer = streamed(
        delta(
            "tool_calls", tool_calls=[piece('{"a":1}', "f", index=0, id="t1"), piece('{"b":2}', "g", index=1, id="t2")]
        )
    )
    assert answer.tool_calls == TWO


@pytest.mark.parametrize("first", ["usage", "finish"])
def test_usage_may_come_on_any_chunk(first: str) -> None:
    """Before the end, at it or after it; a later count replaces an earlier one; nonsense changes nothing."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    counted, end = delta(content="x") | {"usage": usage}, delta("stop") | {"usage": None}
    order = [counted, end] if first == "usage" else [delta(content="x"), end, {"choices": [], "usage": usage}]
    earlier = delta(content="x") | {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    assert streamed(earlier, *order, {"usage": {}}, {"usage": "many"}).usage == Usage(1, 2, 3, None, "provider")


@pytest.mark.parametrize("more", [{}, {"choices": []}, {"choices": None}, {"choices": [{}]}, {"choices": ["x"]}])
def test_chunks_without_a_choice_are_normal(more: dict[str, Any]) -> None:
    """Servers send filters' results, usage and keep-alives so."""
    assert streamed({"id": "c1"} | more, delta(content="x"), {"id": "c1"} | more, delta("stop")).text == "x"


def test_only_the_first_of_several_choices_is_read() -> None:
    """Another choice is not mixed into the answer, and does not end it."""
    other = {"id": "c1", "choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    assert streamed(delta(content="x"), other, delta("length")).finish_reason == "length"
    assert streamed(delta(content="x"), other, delta("stop")).text == "x"
    with pytest.raises(LMProtocolError):
        streamed(delta(content="x"), other, done=False)


@pytest.mark.parametrize("reason", [None, "", 0])
def test_no_reason_is_no_end(reason: Any) -> None:
    """An empty ``finish_reason`` does not end the answer; [DONE] does."""
    assert streamed(delta(reason, content="x")).finish_reason is None
    with pytest.raises(LMProtocolError, match="terminal"):
        streamed(delta(reason, content="x"), done=False)


def test_the_reason_is_enough() -> None:
    """A server that closes after ``finish_reason`` without [DONE] gave the whole answer."""
    assert streamed(delta("stop", content="x"), done=False).text == "x"


@pytest.mark.parametrize("before", [[], [{"id": "c1", "choices": []}]])
def test_an_end_without_a_begin_is_refused(before: list[Any]) -> None:
    """[DONE] alone is no empty answer."""
    with pytest.raises(LMProtocolError, match=r"\[DONE\] before any choice"):
        streamed(*before)


@pytest.mark.parametrize("code", [429, "429", "rate_limit_exceeded"])
@pytest.mark.parametrize("more", [{}, {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}])
def test_an_error_in_a_stream_is_that_error(code: Any, more: dict[str, Any]) -> None:
    """Whatever type its code has, alone or on a chunk; its text is scrubbed."""
    with pytest.raises(LMRateLimited, match="slow") as caught:
        streamed(delta(content="x"), more | {"error": {"message": f"slow {KEY}", "type": None, "code": code}})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "boom", "code": None}},
        {"error": "boom"},
        {"object": "error", "message": "boom", "code": 500},
        delta("error", content="") | {"error": {"message": "boom"}},
        {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "boom", "code": 502}}]},
    ],
)
def test_errors_in_the_shapes_of_other_servers(error: dict[str, Any]) -> None:
    """With null, text, or no envelope at all: an LMError with its words, never an end."""
    with pytest.raises(LMError, match="boom"):
        streamed(delta(content="x"), error)


def test_a_named_error_event_is_an_error() -> None:
    """Some servers tell it by the event's name alone."""
    decoding = decoder(CHAT)
    with pytest.raises(LMError, match="boom"):
        decoding.feed(b'event: error\ndata: {"message": "boom", "code": 500}\n\n')


def test_a_reason_that_is_an_error_is_no_end() -> None:
    """``finish_reason: error`` without any explanation is an error all the same."""
    with pytest.raises(LMError, match="finish_reason error"):
        streamed(delta("error", content="half"))


# -- finding it ----------------------------------------------------------------------------------


def test_a_kind_finds_its_format() -> None:
    """``openai`` is chat completions, every kind has one; another is a ConfigError that lists them."""
    assert isinstance(wire_format("openai"), OpenAIChat)
    assert isinstance(wire_format("openai_responses"), OpenAIResponses)
    assert set(WIRE_FORMATS) == set(BASE_URLS)
    with pytest.raises(ConfigError, match=r"\(openai, .*\), got 'nope'"):
        wire_format("nope")


def test_usage_need_not_be_asked_for() -> None:
    """stream_usage = false leaves stream_options out, for servers that refuse them."""
    request = LMRequest((Message("user", "Hi"),))
    for asked in (True, False):
        wire = OpenAIChat().encode(request, settings(stream_usage=asked), Credentials(), stream=True)
        body = json.loads(wire.body)
        assert body["stream"] is True
        assert ("stream_options" in body) is asked


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_cache_hit_tokens": 1}},
    ],
)
def test_usage_of_other_shapes(chunk: dict[str, Any]) -> None:
    """Groq's usage stands in x_groq, DeepSeek counts cached tokens beside the others."""
    collector = Collector("m")
    OpenAIChat().read_event("message", json.dumps(chunk), collector)
    assert (collector.usage.input_tokens, collector.usage.output_tokens, collector.usage.total_tokens) == (3, 2, 5)
    assert collector.usage.cached_tokens == chunk.get("usage", {}).get("prompt_cache_hit_tokens")
