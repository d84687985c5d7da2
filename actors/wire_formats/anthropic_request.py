"""Writes a request, which is in OpenAI's form, as the body of Anthropic's ``POST /v1/messages``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..configuration.provider_settings import ProviderSettings
from ..lm.values import LMRequest, Message, ToolCall
from .content_parts import MediaPart, TextPart, check_turn, read_parts, read_texts
from .request_fields import (
    ANSWER_TOOL,
    FunctionTool,
    OutputFormat,
    ToolChoice,
    add_extra,
    call_arguments,
    check_sampling,
    chosen_model,
    described,
    read_output_format,
    read_tool_choice,
    read_tools,
    refusal,
)

_IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any"}
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}

# The first version without sampling parameters, and the last one with them.
_VERSION: Final = "2026-10-21"
_SAMPLING_VERSION: Final = "2023-06-01"


def api_version(request: LMRequest, settings: ProviderSettings) -> str:
    """The value of ``anthropic-version``: as configured, else the newest one that knows what the request sets."""
    if settings.api_version is not None:
        return settings.api_version
    sampled = request.temperature is not None or request.top_p is not None or "top_k" in request.extra
    return _SAMPLING_VERSION if sampled else _VERSION


def request_body(request: LMRequest, settings: ProviderSettings, *, stream: bool) -> dict[str, Any]:
    """The body for a request.

    Raises:
        LMInvalidRequest: it asks for what the protocol or the provider cannot do.
    """
    check_sampling(request, settings)
    if request.seed is not None:
        raise refusal("seed", "nothing, because this protocol has no seed", request.seed)
    body: dict[str, Any] = {
        "model": chosen_model(request, settings),
        "max_tokens": settings.default_max_tokens if request.max_tokens is None else request.max_tokens,
    }
    if system := _system(request.messages):
        body["system"] = system
    body["messages"] = _turns(request.messages)
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop is not None:
        body["stop_sequences"] = list(request.stop)
    _add_tools(body, request, settings)
    if stream:
        body["stream"] = True
    add_extra(body, request.extra)
    return body


def _add_tools(body: dict[str, Any], request: LMRequest, settings: ProviderSettings) -> None:
    tools = read_tools(request)
    if tools:
        body["tools"] = [_tool(tool) for tool in tools]
    if choice := read_tool_choice(request, tools):
        body["tool_choice"] = _choice(choice)
    wanted = read_output_format(request, settings, tools, ("json_schema", "tool"))
    if wanted is None:
        return
    if wanted.mode == "tool":
        body["tools"] = [_answer_tool(wanted)]
        body["tool_choice"] = {"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": True}
    elif wanted.schema is None:
        more = "; or set schema_mode to tool"
        raise refusal("response_format.type", "json_schema, this protocol has no json_object", "json_object", more)
    else:
        body["output_config"] = {"format": {"type": "json_schema", "schema": wanted.schema}}


def _tool(tool: FunctionTool) -> dict[str, Any]:
    written: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["input_schema"] = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    if tool.strict:
        written["strict"] = True
    return written


def _answer_tool(wanted: OutputFormat) -> dict[str, Any]:
    schema = _ANY_OBJECT if wanted.schema is None else wanted.schema
    return {"name": ANSWER_TOOL, "description": "Give the answer.", "input_schema": schema}


def _choice(choice: ToolChoice) -> dict[str, Any]:
    return {"type": "tool", "name": choice.name} if choice.mode == "named" else {"type": _CHOICES[choice.mode]}


def _system(messages: tuple[Message, ...]) -> str | list[dict[str, Any]]:
    """The system prompt. It stands above the conversation, wherever its parts stood."""
    blocks: list[dict[str, Any]] = []
    for index, turn in enumerate(messages):
        if turn.role in ("system", "developer"):
            check_turn(turn, f"messages[{index}]")
            blocks += [_text(part) for part in read_texts(turn.content, f"messages[{index}]")]
    return _short(blocks)


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The turns of user and assistant; neighbours of the same role become one turn."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for index, turn in enumerate(messages):
        if turn.role in ("system", "developer"):
            continue
        role = "assistant" if turn.role == "assistant" else "user"
        blocks = _blocks(turn, f"messages[{index}]")
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if not turns:
        raise refusal("messages", "a message of user or assistant", [turn.role for turn in messages])
    return [{"role": role, "content": _short(blocks)} for role, blocks in turns]


def _short(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    # One plain text is written as such.
    text: object = blocks[0].get("text") if len(blocks) == 1 and len(blocks[0]) == 2 else None
    return text if isinstance(text, str) else blocks


def _blocks(turn: Message, where: str) -> list[dict[str, Any]]:
    check_turn(turn, where)
    if turn.role == "tool":
        return [_result(turn, where)]
    if turn.role == "assistant":
        blocks = [_text(part) for part in read_texts(turn.content, where)]
        blocks += [_use(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(turn.tool_calls)]
    else:
        blocks = [_block(part, where) for part in read_parts(turn.content, where)]
    if not blocks:
        raise refusal(f"{where}.content", "something said, this protocol refuses empty turns", described(turn.content))
    return blocks


def _result(turn: Message, where: str) -> dict[str, Any]:
    if not turn.tool_call_id:
        raise refusal(f"{where}.tool_call_id", "the id of the tool call that it answers", turn.tool_call_id)
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": turn.tool_call_id}
    if said := [_block(part, where) for part in read_parts(turn.content, where)]:
        block["content"] = _short(said)
    return block


def _use(call: ToolCall, where: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call_arguments(call, where)}


def _block(part: TextPart | MediaPart, where: str) -> dict[str, Any]:
    return _text(part) if isinstance(part, TextPart) else _media(part, where)


def _text(part: TextPart) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": part.text}
    if part.cache_control is not None:
        block["cache_control"] = part.cache_control
    return block


def _media(part: MediaPart, where: str) -> dict[str, Any]:
    where = f"{where}.content"
    if part.url:
        if not part.url.startswith("https://"):
            raise refusal(where, "an image with an https address, or as a data: URL", described(part.url))
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    if part.kind == "image":
        if part.media_type not in _IMAGES:
            raise refusal(where, f"an image of {', '.join(_IMAGES)}", part.media_type)
        return {"type": "image", "source": source}
    if part.media_type != "application/pdf":
        raise refusal(where, "text, images or application/pdf in this protocol", part.media_type)
    return {"type": "document", "source": source, **({"title": part.title} if part.title else {})}
