"""A model's answer as DSPy reads it: a ``dspy.lm15.Response``, or the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...runtime.errors import LMProtocolError
from ..lm.chunks import LMChunk
from ..lm.values import LMResponse, ToolCall, Usage
from .library import lm15

_REASONS: Final = {"stop": "stop", "length": "length", "tool_calls": "tool_call", "content_filter": "content_filter"}


def response_of(answer: LMResponse) -> Any:
    """The ``Response`` that says what a model answered.

    Raises:
        LMProtocolError: the arguments of a tool call are no JSON object.
    """
    types = lm15()
    parts: list[Any] = [types.ThinkingPart(answer.reasoning)] if answer.reasoning else []
    if answer.text or not (answer.refusal or answer.tool_calls):
        parts.append(types.TextPart(answer.text))
    if answer.refusal:
        parts.append(types.RefusalPart(answer.refusal))
    parts += [types.ToolCallPart(call.id, call.name, _arguments(call)) for call in answer.tool_calls]
    return types.Response(
        id=answer.response_id or None,
        model=answer.model or "unknown",
        message=types.Message.assistant(parts),
        finish_reason=finish_reason(answer),
        usage=usage_of(answer.usage),
        provider_data=provider_data(answer),
    )


def finish_reason(answer: LMResponse) -> str:
    """Why it ended, in DSPy's words; what those have no word for is in :func:`provider_data`."""
    return _REASONS.get(answer.finish_reason or "", "stop")


def usage_of(usage: Usage) -> Any:
    """Tokens; unknown ones stay unknown."""
    return lm15().Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def provider_data(answer: LMResponse) -> dict[str, Any]:
    """What we know of an answer beyond what DSPy has fields for; the cost is text, in US dollars, so it stays exact."""
    told = {
        "provider": answer.provider,
        "finish_reason": answer.finish_reason,
        "cost": None if answer.cost is None else str(answer.cost),
        "cache_hit": answer.cache_hit,
        "attempts": len(answer.attempts),
        "request_id": answer.request_id,
        "correlation_id": answer.correlation_id,
    }
    return {"dspex": told}


class EventWriter:
    """Writes the chunks of one stream as DSPy's events: parts are numbered as they first appear."""

    def __init__(self) -> None:
        self._parts: dict[str, int] = {}

    def start(self) -> Any:
        """The event before all others."""
        return lm15().StreamStartEvent()

    def chunk(self, chunk: LMChunk) -> Iterator[Any]:
        """The events of a chunk."""
        types = lm15()
        if chunk.reasoning:
            yield self._event(types.ThinkingDelta(chunk.reasoning, part_index=self._part("thinking")))
        if text := chunk.text or chunk.refusal:  # a stream has no place for a refusal but among the text
            yield self._event(types.TextDelta(text, part_index=self._part("text")))
        if (piece := chunk.tool_call) is not None:
            part = self._part(f"tool {piece.index}")
            known = {"id": piece.id or None, "name": piece.name or None}
            yield self._event(types.ToolCallDelta(piece.arguments, part_index=part, **known))

    def end(self, answer: LMResponse) -> Iterator[Any]:
        """The last events."""
        types = lm15()
        if not self._parts:
            yield self._event(types.TextDelta("", part_index=self._part("text")))
        yield types.StreamEndEvent(finish_reason(answer), usage_of(answer.usage), provider_data(answer))

    def _part(self, key: str) -> int:
        return self._parts.setdefault(key, len(self._parts))

    @staticmethod
    def _event(delta: Any) -> Any:
        return lm15().StreamDeltaEvent(delta)


def _arguments(call: ToolCall) -> Mapping[str, Any]:
    try:
        found: object = json.loads(call.arguments or "{}")
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found  # pyright: ignore[reportUnknownVariableType] - JSON of any kind
    expected = "a JSON object as the arguments of a tool call"
    raise LMProtocolError(f"expected {expected}, got other text, at tool {call.name}", expected=expected)
