"""Reads a whole response object of OpenAI's responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ...runtime.errors import LMError
from ..http.transport import HttpResponse
from ..json_values import json_count, json_list, json_object, json_text
from ..lm.values import UNKNOWN_USAGE, LMResponse, ToolCall, Usage
from ..scrub import excerpt
from .answers import malformed, told_error

# Why an answer is incomplete, in the words of chat completions; other reasons keep theirs.
_INCOMPLETE: Final[Mapping[str, str]] = {"max_output_tokens": "length", "content_filter": "content_filter"}
# Codes of a failed response that say that the request was at fault.
_FAULT_OF_REQUEST: Final = re.compile(r"invalid_|image|policy|data_residency")


def read_response(
    found: dict[str, Any], model: str, response: HttpResponse, secrets: tuple[str, ...], *, status: str = "completed"
) -> LMResponse:
    """Read a response object.

    Args:
        found: the object.
        model: the model asked for, in case it names none.
        response: the answer that it stands in.
        secrets: what must not show in an error, in clear.
        status: its status, in case it names none.

    Raises:
        LMProtocolError: it is not finished.
        LMError: it failed.
    """
    status = json_text(found.get("status")) or status
    if found.get("error") or status == "failed":
        raise failure(found.get("error"), secrets, response)
    if status not in {"completed", "incomplete"}:
        raise malformed("a finished response", f"one with status {excerpt(status, secrets, limit=40)}", response)
    output = [json_object(item) for item in json_list(found.get("output"))]
    calls = tuple(tool_call(item) for item in output if item.get("type") == "function_call")
    reason = "tool_calls" if calls else "stop"
    if status == "incomplete":
        why = json_text(json_object(found.get("incomplete_details")).get("reason"))
        reason = _INCOMPLETE.get(why, why) or "length"
    return LMResponse(
        text=_said(output, "output_text", "text"),
        model=json_text(found.get("model")) or model,
        finish_reason=reason,
        usage=read_usage(found.get("usage")),
        request_id=response.request_id,
        response_id=json_text(found.get("id")) or None,
        refusal=_said(output, "refusal", "refusal") or None,
        reasoning="\n\n".join(_thoughts(output)) or None,
        tool_calls=calls,
    )


def read_usage(found: object) -> Usage:
    """Read a ``usage`` object; what is missing or malformed is unknown, never zero."""
    usage = json_object(found)
    given, made, total = (json_count(usage.get(f"{name}_tokens")) for name in ("input", "output", "total"))
    if given is None and made is None and total is None:
        return UNKNOWN_USAGE
    if total is None and given is not None and made is not None:
        total = given + made
    inputs, outputs = (json_object(usage.get(f"{name}_tokens_details")) for name in ("input", "output"))
    return Usage(
        given,
        made,
        total,
        json_count(inputs.get("cached_tokens")),
        "provider",
        json_count(inputs.get("cache_write_tokens")),
        json_count(outputs.get("reasoning_tokens")),
    )


def failure(error: object, secrets: tuple[str, ...], response: HttpResponse) -> LMError:
    """The error for what a failed response, or an event, tells."""
    told = json_object(error)
    if _FAULT_OF_REQUEST.search(json_text(told.get("code"))):
        told = told | {"type": "invalid_request_error"}
    return told_error({"error": told or error or "the response failed"}, secrets, response)


def _said(output: list[dict[str, Any]], kind: str, key: str) -> str:
    parts = (json_object(part) for item in output if item.get("type") == "message" for part in _parts(item))
    return "".join(json_text(part.get(key)) for part in parts if part.get("type") == kind)


def _parts(item: dict[str, Any]) -> list[Any]:
    return json_list(item.get("content"))


def _thoughts(output: list[dict[str, Any]]) -> list[str]:
    items = (item for item in output if item.get("type") == "reasoning")
    parts = (part for item in items for part in [*json_list(item.get("summary")), *_parts(item)])
    return [text for part in parts if (text := json_text(json_object(part).get("text")))]


def tool_call(item: dict[str, Any]) -> ToolCall:
    """Read an item of the type ``function_call``."""
    id = json_text(item.get("call_id")) or json_text(item.get("id"))
    return ToolCall(id, json_text(item.get("name")), json_text(item.get("arguments")))
