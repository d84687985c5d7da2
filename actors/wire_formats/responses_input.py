"""Writes a request, which is in the form of OpenAI's chat completions, for OpenAI's responses.

What responses have no place for is refused with the field's name, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..configuration.provider_settings import ProviderSettings
from ..json_values import json_object
from ..lm.values import LMRequest, Message
from .content_parts import check_nameless
from .request_fields import read_output_format, refusal

_NOT_THERE: Final = ("seed", "stop")
_NATIVE: Final = ("input_text", "input_image", "input_file")


def responses_body(request: LMRequest, settings: ProviderSettings) -> dict[str, Any]:
    """The body's keys for all of the request but model, stream and extra ones.

    Raises:
        LMInvalidRequest: something cannot be expressed.
    """
    for name in _NOT_THERE:
        if (value := getattr(request, name)) is not None:
            raise refusal(name, "nothing, because this protocol has no such field", value)
    instructions, items = _conversation(request.messages)
    body: dict[str, Any] = {"instructions": instructions} if instructions else {}
    body["input"] = items
    for name in ("temperature", "top_p"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.response_format is not None:
        body["text"] = {"format": _text_format(request, settings)}
    if request.tools is not None:
        body["tools"] = [_tool(json_object(tool), f"tools[{index}]") for index, tool in enumerate(request.tools)]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    return body


def _conversation(messages: tuple[Message, ...]) -> tuple[str, list[dict[str, Any]]]:
    """Instructions, which are the texts of system and developer messages at the beginning, and the other items."""
    first, texts = 0, list[str]()
    for turn in messages:
        if turn.role not in {"system", "developer"} or not isinstance(turn.content, str):
            break
        check_nameless(turn, f"messages[{first}]")
        first += 1
        texts.append(turn.content)
    items: list[dict[str, Any]] = []
    for index, turn in enumerate(messages[first:], first):
        items += _items(turn, f"messages[{index}]")
    return "\n\n".join(texts), items


def _items(turn: Message, where: str) -> list[dict[str, Any]]:
    check_nameless(turn, where)
    if turn.role == "tool":
        if turn.tool_call_id is None:
            raise refusal(f"{where}.tool_call_id", "the id of the call that this answers", None)
        return [{"type": "function_call_output", "call_id": turn.tool_call_id, "output": _content(turn, where)}]
    items: list[dict[str, Any]] = []
    if turn.content or not turn.tool_calls:
        items.append({"role": turn.role, "content": _content(turn, where)})
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in turn.tool_calls
    ]
    return items


def _content(turn: Message, where: str) -> str | list[dict[str, Any]]:
    if not isinstance(turn.content, tuple):
        return turn.content or ""
    said = turn.role == "assistant"
    return [
        (_said if said else _shown)(json_object(part), f"{where}.content[{index}]")
        for index, part in enumerate(turn.content)
    ]


def _said(part: dict[str, Any], where: str) -> dict[str, Any]:
    """A part of what the assistant said."""
    if part.get("type") == "text":
        return _renamed(part, "output_text")
    if part.get("type") in {"output_text", "refusal"}:
        return part
    raise refusal(f"{where}.type", "text or refusal", part.get("type"))


def _shown(part: dict[str, Any], where: str) -> dict[str, Any]:
    """A part of what the model is shown."""
    kind = part.get("type")
    if kind == "text":
        return _renamed(part, "input_text")
    if kind == "image_url":
        image = json_object(part.get("image_url"))
        if not isinstance(url := image.get("url"), str):
            raise refusal(f"{where}.image_url.url", "an address, or a data: URL", url)
        return {"type": "input_image", "image_url": url, "detail": image.get("detail", "auto")}
    if kind == "file" and (file := json_object(part.get("file"))):
        return {"type": "input_file", **file}
    if kind in _NATIVE:
        return part
    raise refusal(f"{where}.type", f"one of text, image_url, file, {', '.join(_NATIVE)}", kind)


def _renamed(part: dict[str, Any], kind: str) -> dict[str, Any]:
    return part | {"type": kind}


def _text_format(request: LMRequest, settings: ProviderSettings) -> dict[str, Any]:
    output = read_output_format(request, settings, (), ("json_schema", "json_object"))
    if output is None:
        return {"type": "text"}
    if output.schema is None or output.mode == "json_object":
        return {"type": "json_object"}
    # A schema has a name here, as in chat completions, but no level of its own.
    return {"type": "json_schema", **json_object((request.response_format or {}).get("json_schema"))}


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    """A tool without the level ``function``; those of the provider's own (``web_search``...) as they are."""
    if tool.get("type") != "function" or "function" not in tool:
        if not isinstance(tool.get("type"), str):
            raise refusal(where, "a tool with its type", tool)
        return tool
    function = json_object(tool["function"])
    if not isinstance(name := function.get("name"), str):
        raise refusal(f"{where}.function.name", "the tool's name", name)
    # Both default otherwise than in chat completions, whose meaning our requests have.
    return {"type": "function", "parameters": {"type": "object", "properties": {}}, "strict": False, **function}


def _tool_choice(found: str | Mapping[str, Any]) -> str | dict[str, Any]:
    if isinstance(found, str):
        return found
    function = json_object(found.get("function"))
    return {"type": "function", **function} if function else dict(found)
