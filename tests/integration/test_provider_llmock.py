"""A provider actor against a third-party server, ``llmock``, in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dspex.actors.lm.values import ToolCall
from dspex.runtime.errors import (
    LMAuthError,
    LMContextLength,
    LMError,
    LMInvalidRequest,
    LMProtocolError,
    LMRateLimited,
    LMServerError,
    LMTimeout,
)
from kit.llmock_server import LLMock, llmock_server
from kit.providers import World, with_world

KEY = "sk-llmock-test-0123456789"


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


def ask(server: LLMock, text: str = "Hi", *, settings: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Ask it through a provider actor."""

    async def run(world: World) -> Any:
        await world.provider(fake=False, **({"base_url": server.openai_url, "api_key": KEY} | (settings or {})))
        return await world.complete(text, **fields)

    return asyncio.run(with_world(run))


def fails(server: LLMock, expected: type[LMError], *behaviors: dict[str, Any], **more: Any) -> LMError:
    """Ask it and expect an error, without a key in it."""
    server.plan(*behaviors)
    with pytest.raises(expected) as caught:
        ask(server, **more)
    assert type(caught.value) is expected
    assert KEY not in repr((str(caught.value), caught.value.facts))
    return caught.value


def test_an_answer(server: LLMock) -> None:
    """Text, model, usage and finish reason of a real server's answer."""
    answer = ask(server, "Good morning", model="gpt-x", temperature=0, max_tokens=50)
    assert "Good morning" in answer.text
    assert (answer.model, answer.finish_reason, answer.usage.source) == ("gpt-x", "stop", "provider")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_a_tool_call(server: LLMock) -> None:
    """A planned tool call arrives with its arguments as text."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    server.plan({"type": "reply", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]})
    answer = ask(server, tools=(tool,))
    (call,) = answer.tool_calls
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments.replace(" ", "")) == ("add", '{"a":1}')
    assert answer.finish_reason == "tool_calls"


def test_a_rate_limit(server: LLMock) -> None:
    """429 with Retry-After: LMRateLimited that says how long."""
    error = fails(server, LMRateLimited, {"type": "fail", "status": 429, "retry_after": 1.5})
    assert error.retry_after == 1.5


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, LMInvalidRequest), (401, LMAuthError), (403, LMAuthError), (404, LMInvalidRequest), (422, LMInvalidRequest)]
    + [(status, LMServerError) for status in (408, 409, 500, 502, 503, 504, 529)],
)
def test_an_error_status(server: LLMock, status: int, expected: type[LMError]) -> None:
    """Each status is its typed error, with the provider's words."""
    error = fails(server, expected, {"type": "fail", "status": status, "message": "as planned"})
    assert error.status == status
    assert len(server.requests()) == 1
    assert "as planned" in str(error)


def test_a_prompt_too_long(server: LLMock) -> None:
    """A prompt beyond the context window: LMContextLength."""
    fails(server, LMContextLength, text="word " * 5000)


def test_a_slow_answer(server: LLMock) -> None:
    """A server slower than the timeout: LMTimeout."""
    fails(server, LMTimeout, {"type": "delay", "seconds": 1}, settings={"timeout": 0.2})


def test_a_wrong_path(server: LLMock) -> None:
    """A base URL that leads nowhere: a typed refusal, no hang and no crash."""
    with pytest.raises((LMInvalidRequest, LMProtocolError)):
        ask(server, settings={"base_url": f"{server.root}/nowhere"})
