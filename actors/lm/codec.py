"""A model's answer as JSON text, as the cache keeps it, and which answers may be kept. Pure."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final, NoReturn

from ...runtime.errors import LMInvalidRequest, StoreError
from ..json_values import json_list, json_object
from .values import LMResponse, ToolCall, Usage, canonical_json

_WHOLE: Final = ("stop", "tool_calls")
_OPTIONAL_TEXTS: Final = ("finish_reason", "response_id", "reasoning")
# We counted: nothing was sent.
_NOTHING_SPENT: Final = Usage(0, 0, 0, cached_tokens=0, source="estimated", cache_write_tokens=0, reasoning_tokens=0)


def cacheable(response: LMResponse) -> bool:
    """Whether an answer may be kept: a whole one, no refusal, and none that came from the cache itself."""
    return response.finish_reason in _WHOLE and response.refusal is None and not response.cache_hit


def encode_response(response: LMResponse) -> str:
    """Write what is worth keeping of an answer: not what it cost, nor how it was obtained."""
    return canonical_json(
        {
            "text": response.text,
            "model": response.model,
            "provider": response.provider,
            "tool_calls": [[tool.id, tool.name, tool.arguments, tool.signature] for tool in response.tool_calls],
            **{name: getattr(response, name) for name in _OPTIONAL_TEXTS},
        }
    )


def decode_response(text: str) -> LMResponse:
    """Read an answer that was kept: a cache hit, for which nothing was sent and nothing spent.

    Raises:
        StoreError: it is no such text; facts: field, expected.
    """
    try:
        found = json_object(json.loads(text))
    except (ValueError, RecursionError):
        found = {}
    if not found:
        _refuse("answer", "a JSON object")
    for name in ("text", "model", "provider"):
        if not isinstance(found.get(name), str):
            _refuse(name, "text")
    for name in _OPTIONAL_TEXTS:
        if not isinstance(found.get(name), str | None):
            _refuse(name, "text or null")
    return LMResponse(
        text=found["text"],
        model=found["model"],
        provider=found["provider"],
        tool_calls=_tool_calls(found.get("tool_calls")),
        usage=_NOTHING_SPENT,
        cost=Decimal(0),
        cache_hit=True,
        finish_reason=found.get("finish_reason"),
        response_id=found.get("response_id"),
        reasoning=found.get("reasoning"),
    )


def _tool_calls(value: Any) -> tuple[ToolCall, ...]:
    try:
        return tuple(ToolCall(*json_list(call)) for call in json_list(value))
    except (TypeError, LMInvalidRequest):
        _refuse("tool_calls", "a list of [id, name, arguments, signature]")


def _refuse(field: str, expected: str) -> NoReturn:
    raise StoreError(
        f"expected {expected}, got something else, at {field} of a kept answer", field=field, expected=expected
    )
