"""OpenAI chat completions: what is sent, and how real servers' answers are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.credentials import Credentials
from dspex.actors.lm import LMRequest, LMResponse, Message, ToolCall, Usage
from dspex.actors.settings import ProviderSettings
from dspex.actors.transport import HttpRequest, HttpResponse
from dspex.actors.wire_formats import wire_format
from dspex.actors.wire_formats.openai_chat import OpenAIChat
from dspex.runtime.errors import ConfigError, LMError, LMInvalidRequest, LMProtocolError, LMRateLimited

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
        usage=Usage(19, 10, 29, 4, "provider"),
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
        ToolCall("", "g", '{"b": 2}'),
        ToolCall("c3", "", ""),
        ToolCall("", "", ""),
    )


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
    with pytest.raises(LMProtocolError, match=r"expected a .*, got "):
        decode(body, kind)


def test_a_refused_answer_is_quoted_without_the_key() -> None:
    """The excerpt is short and scrubbed."""
    with pytest.raises(LMProtocolError) as caught:
        decode(f"<html>{KEY}{'x' * 9000}".encode(), "text/html")
    assert KEY not in str(caught.value)
    assert len(str(caught.value)) < 500


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


# -- finding it ----------------------------------------------------------------------------------


def test_a_kind_finds_its_format() -> None:
    """``openai`` is chat completions; a kind without a format is a ConfigError that lists the others."""
    assert isinstance(wire_format("openai"), OpenAIChat)
    with pytest.raises(ConfigError, match=r"\(openai\), got 'nope'"):
        wire_format("nope")
