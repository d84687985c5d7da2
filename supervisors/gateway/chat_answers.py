"""Answers as OpenAI's clients read them: a whole completion, or its pieces as server-sent events."""

from __future__ import annotations

import json
from typing import Any

from ...actors.lm.chunks import LMChunk, ToolCallDelta
from ...actors.lm.values import LMResponse, Usage
from .problems import Problem

DONE = b"data: [DONE]\n\n"


def completion(response: LMResponse, *, id: str, created: int) -> dict[str, Any]:
    """A whole answer.

    Args:
        response: the answer.
        id: its id, if the provider gave none.
        created: wall clock, seconds since the epoch.
    """
    message: dict[str, Any] = {
        "role": "assistant",
        # As OpenAI has it: an answer that only calls tools, or refuses, has no content.
        "content": response.text if response.text or not (response.tool_calls or response.refusal) else None,
        "refusal": response.refusal,
    }
    if response.reasoning is not None:
        message["reasoning_content"] = response.reasoning
    if response.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in response.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": response.finish_reason}
    answer = {
        "id": response.response_id or id,
        "object": "chat.completion",
        "created": created,
        "model": response.model,
        "choices": [choice],
    }
    usage = usage_of(response.usage)
    return answer if usage is None else {**answer, "usage": usage}


def usage_of(usage: Usage) -> dict[str, Any] | None:
    """The tokens; None if they are unknown."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    total = usage.total_tokens
    found: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens if total is None else total,
    }
    if usage.cached_tokens is not None:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        found["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return found


class ChunkWriter:
    """Writes one stream.

    Args:
        id: the id of the answer.
        model: what the model is called.
        created: wall clock, seconds since the epoch.
        include_usage: whether the end tells the usage.
    """

    def __init__(self, id: str, model: str, created: int, *, include_usage: bool) -> None:
        self._frame: dict[str, Any] = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._include_usage = include_usage
        if include_usage:
            self._frame["usage"] = None
        self._opening: dict[str, Any] = {"role": "assistant"}

    def piece(self, chunk: LMChunk) -> bytes:
        """One piece of the answer."""
        delta, self._opening = self._opening, {}
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if chunk.refusal:
            delta["refusal"] = chunk.refusal
        if chunk.tool_call is not None:
            delta["tool_calls"] = [_tool_call(chunk.tool_call)]
        return self._choice(delta, None)

    def end(self, response: LMResponse) -> bytes:
        """The end of a whole answer."""
        data = self._choice(self._opening, response.finish_reason)
        if self._include_usage:
            data += _event({**self._frame, "choices": [], "usage": usage_of(response.usage)})
        return data + DONE

    def _choice(self, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**self._frame, "choices": [choice]})


def broken(problem: Problem) -> bytes:
    """The end of a stream that failed; no ``[DONE]`` follows."""
    return _event(problem.body())


def _tool_call(delta: ToolCallDelta) -> dict[str, Any]:
    call: dict[str, Any] = {"index": delta.index, "function": {"arguments": delta.arguments}}
    if delta.id:
        call |= {"id": delta.id, "type": "function"}
    if delta.name:
        call["function"]["name"] = delta.name
    return call


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
