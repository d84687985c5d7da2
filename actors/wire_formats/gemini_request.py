"""Writes a request, which is in OpenAI's form, as the body of Gemini's ``generateContent``."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from typing import Any, Final

from ..configuration.provider_settings import ProviderSettings
from ..lm.values import LMRequest, Message
from .content_parts import MediaPart, TextPart, check_turn, read_parts, read_texts
from .request_fields import (
    ANSWER_TOOL,
    FunctionTool,
    OutputFormat,
    ToolChoice,
    add_extra,
    call_arguments,
    check_sampling,
    described,
    read_output_format,
    read_tool_choice,
    read_tools,
    refusal,
)

OWN_ID: Final = "dspex_call_"
"""How ids begin that were made by us, because the model gave its call none."""

_CHOICES: Final[Mapping[str, str]] = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}

# From its third generation on, Gemini refuses a call in the conversation that does not bear the signature it came
# with. The canonical form has no place for it; this is the documented word for calls that have lost theirs.
_UNSIGNED: Final = re.compile(r"(?:models/)?gemini-(?![12][.-])")
_NO_SIGNATURE: Final = "skip_thought_signature_validator"


def request_body(request: LMRequest, settings: ProviderSettings, model: str) -> dict[str, Any]:
    """The body for a request.

    Raises:
        LMInvalidRequest: it asks for what the protocol or the provider cannot do.
    """
    check_sampling(request, settings)
    body: dict[str, Any] = {"contents": _contents(request.messages, signed=bool(_UNSIGNED.match(model)))}
    if system := _system(request.messages):
        body["systemInstruction"] = {"parts": system}
    config: dict[str, Any] = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "seed": request.seed,
        "maxOutputTokens": request.max_tokens,
        "stopSequences": None if request.stop is None else list(request.stop),
    }
    config = {name: value for name, value in config.items() if value is not None}
    _add_tools(body, config, request, settings)
    if config:
        body["generationConfig"] = config
    add_extra(body, request.extra)
    return body


def _add_tools(body: dict[str, Any], config: dict[str, Any], request: LMRequest, settings: ProviderSettings) -> None:
    tools = read_tools(request)
    choice = read_tool_choice(request, tools)
    wanted = read_output_format(request, settings, tools, ("json_schema", "json_object", "tool"))
    if wanted is not None and wanted.mode == "tool":
        tools, choice = (_answer_tool(wanted),), ToolChoice("named", ANSWER_TOOL)
    elif wanted is not None:
        config["responseMimeType"] = "application/json"
        if wanted.mode == "json_schema" and wanted.schema is not None:
            config["responseJsonSchema"] = wanted.schema
    if tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in tools]}]
        if calling := _calling(choice, tools):
            body["toolConfig"] = {"functionCallingConfig": calling}


def _answer_tool(wanted: OutputFormat) -> FunctionTool:
    return FunctionTool(ANSWER_TOOL, "Give the answer.", wanted.schema or {"type": "object"})


def _declaration(tool: FunctionTool) -> dict[str, Any]:
    written: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.parameters is not None:
        written["parametersJsonSchema"] = tool.parameters
    return written


def _calling(choice: ToolChoice | None, tools: tuple[FunctionTool, ...]) -> dict[str, Any]:
    if choice is not None and choice.mode == "named":
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    # Arguments that fit their schema are what OpenAI calls strict; ANY holds them to it anyway.
    if any(tool.strict for tool in tools) and (choice is None or choice.mode == "auto"):
        return {"mode": "VALIDATED"}
    return {} if choice is None else {"mode": _CHOICES[choice.mode]}


def _system(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The system prompt. It stands above the conversation, wherever its parts stood."""
    parts: list[dict[str, Any]] = []
    for index, turn in enumerate(messages):
        if turn.role in ("system", "developer"):
            check_turn(turn, f"messages[{index}]")
            parts += [_part(part, f"messages[{index}]") for part in read_texts(turn.content, f"messages[{index}]")]
    return parts


def _contents(messages: tuple[Message, ...], *, signed: bool) -> list[dict[str, Any]]:
    """The turns of user and model; neighbours of the same role become one turn."""
    contents: list[dict[str, Any]] = []
    called: dict[str, str] = {}  # id: name of the tool
    for index, turn in enumerate(messages):
        if turn.role in ("system", "developer"):
            continue
        where = f"messages[{index}]"
        check_turn(turn, where)
        role = "model" if turn.role == "assistant" else "user"
        if turn.role == "assistant":
            called.update({call.id: call.name for call in turn.tool_calls})
            parts = _model_parts(turn, where, signed=signed)
        else:
            parts = _user_parts(turn, where, called)
        if not parts:
            raise refusal(
                f"{where}.content", "something said, this protocol refuses empty turns", described(turn.content)
            )
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    if not contents:
        raise refusal("messages", "a message of user or assistant", [turn.role for turn in messages])
    return contents


def _model_parts(turn: Message, where: str, *, signed: bool) -> list[dict[str, Any]]:
    parts = [_part(part, where) for part in read_texts(turn.content, where)]
    for index, call in enumerate(turn.tool_calls):
        arguments = call_arguments(call, f"{where}.tool_calls[{index}]")
        part: dict[str, Any] = {"functionCall": {**_id(call.id), "name": call.name, "args": arguments}}
        if call.signature:
            part["thoughtSignature"] = call.signature
        elif signed and index == 0:
            part["thoughtSignature"] = _NO_SIGNATURE
        parts.append(part)
    return parts


def _user_parts(turn: Message, where: str, called: Mapping[str, str]) -> list[dict[str, Any]]:
    if turn.role != "tool":
        return [_part(part, where) for part in read_parts(turn.content, where)]
    id = turn.tool_call_id or ""
    name = called.get(id) or turn.name
    if not name:
        raise refusal(f"{where}.tool_call_id", "the id of a tool call that stands before it", turn.tool_call_id)
    text = "".join(part.text for part in read_texts(turn.content, where))
    return [{"functionResponse": {**_id(id), "name": name, "response": {"output": text}}}]


def _id(id: str) -> dict[str, str]:
    return {"id": id} if id and not id.startswith(OWN_ID) else {}


def _part(part: TextPart | MediaPart, where: str) -> dict[str, Any]:
    if isinstance(part, MediaPart):
        if part.data:
            return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
        guessed = mimetypes.guess_type(part.url)[0]
        return {"fileData": {**({"mimeType": guessed} if guessed else {}), "fileUri": part.url}}
    if part.cache_control is not None:
        raise refusal(
            f"{where}.content.cache_control", "nothing, this protocol has no such mark", described(part.cache_control)
        )
    return {"text": part.text}
