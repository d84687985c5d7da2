"""Anthropic's and Gemini's protocols against a third-party server, ``llmock``, in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.actors.lm.chunks import LMChunk
from dspex.actors.lm.failures import error_from_response, failure_of
from dspex.actors.lm.stream_decoder import StreamDecoder
from dspex.actors.lm.values import LMRequest, LMResponse, Message
from dspex.actors.providers.credentials import Credentials
from dspex.actors.wire_format import WireFormat
from dspex.actors.wire_formats.anthropic import AnthropicMessages
from dspex.actors.wire_formats.gemini import GeminiGenerate
from dspex.runtime.errors import LMError, LMProtocolError
from kit.llmock_server import LLMock, llmock_server

KEY = "sk-llmock-test-0123456789"
FORMATS: dict[str, WireFormat] = {"anthropic": AnthropicMessages(), "gemini": GeminiGenerate()}
MODELS = {"anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-pro"}
KINDS = pytest.mark.parametrize("kind", list(FORMATS))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city.", "parameters": SCHEMA},
}
TIME = {"type": "function", "function": {"name": "clock", "description": "The time of day."}}


@pytest.fixture(scope="module")
def running() -> Iterator[LLMock]:
    """One server for the module."""
    with llmock_server("--response-style", "echo", "--context-window", "2000") as server:
        yield server


@pytest.fixture
def server(running: LLMock) -> LLMock:
    """The server, without plans."""
    running.reset()
    return running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """One client for the module."""
    with httpx.Client(trust_env=False, timeout=10) as found:
        yield found


def request(server: LLMock, kind: str, *turns: Message, stream: bool = False, **fields: Any) -> HttpRequest:
    """What is sent to it."""
    values = {"kind": kind, "base_url": f"{server.root}/{kind}", "default_model": MODELS[kind]}
    settings = ProviderSettings.model_validate(values | fields.pop("settings", {}))
    asked = LMRequest(turns or (Message("user", "Good morning"),), **fields)
    return FORMATS[kind].encode(asked, settings, Credentials(KEY), stream=stream)


def ask(client: httpx.Client, server: LLMock, kind: str, *turns: Message, **fields: Any) -> LMResponse:
    """Ask for a whole answer."""
    asked = request(server, kind, *turns, **fields)
    got = client.request(asked.method, asked.url, headers=asked.headers, content=asked.body)
    answer = HttpResponse(got.status_code, {name.lower(): value for name, value in got.headers.items()}, got.content)
    if answer.status != 200:
        raise error_from_response(answer, secrets=(KEY,))
    return FORMATS[kind].decode(answer, model=MODELS[kind], secrets=(KEY,))


def stream(
    client: httpx.Client, server: LLMock, kind: str, *turns: Message, **fields: Any
) -> tuple[list[LMChunk], LMResponse]:
    """Ask for an answer in pieces."""
    asked = request(server, kind, *turns, stream=True, **fields)
    with client.stream(asked.method, asked.url, headers=asked.headers, content=asked.body) as got:
        head = HttpResponse(got.status_code, {name.lower(): value for name, value in got.headers.items()})
        assert head.status == 200, got.read()
        decoder = StreamDecoder(FORMATS[kind], head, model=MODELS[kind], secrets=(KEY,))
        chunks = [chunk for data in got.iter_bytes() for chunk in decoder.feed(data)]
    chunks += decoder.close()
    return chunks, decoder.response()


@KINDS
def test_an_answer(client: httpx.Client, server: LLMock, kind: str) -> None:
    """Text, model, usage and finish reason of a real server's answer."""
    system = Message("system", "Be brief")
    answer = ask(
        client, server, kind, system, Message("user", "Good morning"), temperature=0, max_tokens=50, stop=("#",)
    )
    assert "Good morning" in answer.text
    assert answer.model == MODELS[kind]
    assert (answer.finish_reason, answer.usage.source) == ("stop", "provider")
    assert answer.usage.input_tokens and answer.usage.output_tokens  # noqa: PT018
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@KINDS
def test_a_stream(client: httpx.Client, server: LLMock, kind: str) -> None:
    """The pieces make the same answer as the whole."""
    chunks, answer = stream(client, server, kind)
    whole = ask(client, server, kind)
    assert len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == answer.text == whole.text
    assert (answer.finish_reason, answer.usage, answer.model) == (whole.finish_reason, whole.usage, whole.model)


@KINDS
def test_a_tool_is_called_and_answered(client: httpx.Client, server: LLMock, kind: str) -> None:
    """The model calls a tool, is told the result, and answers in text: three roles, there and back."""
    turns = [Message("user", "What is the weather in Oslo?")]
    asked = ask(client, server, kind, *turns, tools=(TIME, WEATHER))
    (call,) = asked.tool_calls
    assert (call.name, asked.finish_reason) == ("weather", "tool_calls")
    assert json.loads(call.arguments).keys() == {"city"}
    turns.append(Message("assistant", asked.text or None, tool_calls=asked.tool_calls))
    turns.append(Message("tool", "Rain", tool_call_id=call.id))
    answer = ask(client, server, kind, *turns, tools=(TIME, WEATHER))
    assert (answer.finish_reason, answer.tool_calls) == ("stop", ())
    assert answer.text


@KINDS
def test_streamed_tool_calls(client: httpx.Client, server: LLMock, kind: str) -> None:
    """Text and two calls in one stream, in the order in which they came."""
    planned = [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "clock", "arguments": {}}]
    server.plan({"type": "reply", "text": "One moment", "tool_calls": planned})
    chunks, answer = stream(client, server, kind, tools=(TIME, WEATHER))
    assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [
        ("weather", {"city": "Oslo"}),
        ("clock", {}),
    ]
    assert (answer.text, answer.finish_reason) == ("One moment", "tool_calls")
    deltas = [chunk.tool_call for chunk in chunks if chunk.tool_call]
    assert [delta.name for delta in deltas if delta.name] == ["weather", "clock"]
    for index, call in enumerate(answer.tool_calls):
        assert "".join(delta.arguments for delta in deltas if delta.index == index) == call.arguments


@KINDS
@pytest.mark.parametrize(("choice", "called"), [("none", ()), ("required", ("weather",))])
def test_tool_choices(client: httpx.Client, server: LLMock, kind: str, choice: str, called: tuple[str, ...]) -> None:
    """A real server understands whether it is to call."""
    answer = ask(client, server, kind, tools=(WEATHER,), tool_choice=choice)
    assert tuple(call.name for call in answer.tool_calls) == called


@KINDS
def test_structured_output_as_a_forced_tool(client: httpx.Client, server: LLMock, kind: str) -> None:
    """The forced tool's input is the answer's text, whole and streamed."""
    wanted = {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA}}
    options: dict[str, Any] = {"response_format": wanted, "settings": {"schema_mode": "tool"}}
    answer = ask(client, server, kind, **options)
    assert json.loads(answer.text).keys() == {"city"}
    assert (answer.tool_calls, answer.finish_reason) == ((), "stop")
    chunks, streamed = stream(client, server, kind, **options)
    assert json.loads("".join(chunk.text for chunk in chunks)) == json.loads(streamed.text) == json.loads(answer.text)


@KINDS
@pytest.mark.parametrize("fault", ["truncate", "disconnect", "malformed"])
def test_a_stream_that_breaks(client: httpx.Client, server: LLMock, kind: str, fault: str) -> None:
    """A stream that stops or breaks is never taken for a whole answer."""
    server.plan({"type": "stream_fault", "kind": fault, "after_chunks": 3})
    with pytest.raises((LMProtocolError, httpx.RemoteProtocolError)):
        stream(client, server, kind, Message("user", "tell me a longer story of ten words or so"))


@KINDS
@pytest.mark.parametrize(
    ("status", "row"),
    [
        (400, "invalid"),
        (401, "auth"),
        (403, "auth"),
        (404, "invalid"),
        (429, "rate"),
        (500, "server"),
        (529, "overloaded"),
    ],
)
def test_an_error_status(client: httpx.Client, server: LLMock, kind: str, status: int, row: str) -> None:
    """The server's errors, in each provider's form, have their rows, without the key."""
    server.plan({"type": "fail", "status": status, "retry_after": 2, "message": "as planned"})
    with pytest.raises(LMError) as caught:
        ask(client, server, kind)
    failure = failure_of(caught.value)
    assert failure is not None
    assert (failure.name, caught.value.status) == (row, status)
    assert "as planned" in str(caught.value)
    assert KEY not in repr((str(caught.value), caught.value.facts))
    if status == 429:
        assert caught.value.retry_after == 2.0


@KINDS
def test_a_prompt_too_long(client: httpx.Client, server: LLMock, kind: str) -> None:
    """A prompt beyond the context window is told apart from other bad requests."""
    with pytest.raises(LMError) as caught:
        ask(client, server, kind, Message("user", "word " * 5000))
    failure = failure_of(caught.value)
    assert failure is not None
    assert failure.name == "context_length"
