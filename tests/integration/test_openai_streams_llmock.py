"""OpenAI's two protocols against a real third-party server: whole answers, streams, tool calls, broken streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.actors.lm.stream_decoder import StreamDecoder
from dspex.actors.lm.values import LMRequest, LMResponse, Message
from dspex.actors.providers.credentials import Credentials
from dspex.actors.wire_formats import wire_format
from dspex.runtime.errors import LMProtocolError
from kit.llmock_server import LLMock, llmock_server

KINDS = ("openai", "openai_responses")
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[LLMock]:
    """One server for all tests."""
    with llmock_server() as running:
        yield running


def written(server: LLMock, kind: str, *, stream: bool, **fields: Any) -> HttpRequest:
    """The request as it is sent to the server."""
    found = {"kind": kind, "base_url": server.openai_url, "default_model": "gpt-4o"}
    settings = ProviderSettings.model_validate(found)
    turns = (Message("system", "Be brief."), Message("user", "What is the weather?"))
    request = LMRequest(messages=turns, **fields)
    return wire_format(kind).encode(request, settings, Credentials("test-key-12345"), stream=stream)


def asked(server: LLMock, kind: str, **fields: Any) -> LMResponse:
    """A whole answer."""
    request = written(server, kind, stream=False, **fields)
    answer = httpx.post(request.url, headers=dict(request.headers), content=request.body, timeout=10)
    head = HttpResponse(answer.status_code, dict(answer.headers), answer.content)
    return wire_format(kind).decode(head, model="asked")


def streamed(server: LLMock, kind: str, **fields: Any) -> tuple[LMResponse, int]:
    """A streamed answer, and of how many chunks."""
    request = written(server, kind, stream=True, **fields)
    with httpx.stream("POST", request.url, headers=dict(request.headers), content=request.body, timeout=10) as answer:
        head = HttpResponse(answer.status_code, dict(answer.headers))
        decoding = StreamDecoder(wire_format(kind), head, model="asked")
        count = sum(len(decoding.feed(data)) for data in answer.iter_raw())
    count += len(decoding.close())
    return decoding.response(), count


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_says_what_the_whole_answer_says(server: LLMock, kind: str) -> None:
    """Both have a text, usage and the reason to end; the stream comes in several chunks."""
    whole, (pieces, count) = asked(server, kind), streamed(server, kind)
    for answer in (whole, pieces):
        assert answer.text
        assert answer.finish_reason == "stop"
        assert answer.usage.source == "provider"
        assert answer.usage.output_tokens
        assert answer.response_id
    assert count > 1


@pytest.mark.parametrize("kind", KINDS)
def test_tool_calls_arrive(server: LLMock, kind: str) -> None:
    """Tools are written as the server reads them, and its calls are read whole and in pieces."""
    fields: dict[str, Any] = {"tools": (TOOL,), "tool_choice": "required"}
    for answer in (asked(server, kind, **fields), streamed(server, kind, **fields)[0]):
        (call,) = answer.tool_calls
        assert call.id
        assert (call.name, call.arguments) == ("weather", '{"city": "mock-city"}')
        assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["truncate", "malformed"])
def test_a_broken_stream_is_no_answer(server: LLMock, kind: str, fault: str) -> None:
    """A stream that ends early without a word, or with broken JSON, is an error: nothing passes as the answer."""
    server.plan({"type": "stream_fault", "kind": fault, "after_chunks": 3, "times": 1})
    try:
        with pytest.raises(LMProtocolError):
            streamed(server, kind)
    finally:
        server.reset()
