"""A request as DSPy makes it, read into an :class:`~dspex.actors.lm.values.LMRequest`.

Parts and settings are told apart by their ``type`` and name, so nothing of DSPy is imported here. What a provider
actor cannot carry is refused with its place, never left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from ...runtime.errors import LMInvalidRequest
from ..lm.values import LMRequest, Message, ToolCall

_SAME: Final = ("temperature", "top_p", "max_tokens", "seed")
_EXTRA: Final = {
    "top_k": "top_k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "service_tier": "service_tier",
    "user_id": "user",
    "store": "store",
}
"""Settings that go to the provider as they are, with their names on the wire."""
_AUDIO: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_MEDIA: Final = ("image", "audio", "document")


def read_request(request: Any, model: str | None = None) -> LMRequest:
    """Read a ``dspy.lm15.Request``.

    Args:
        request: what DSPy asks.
        model: which model to ask; None takes the provider's default.

    Raises:
        LMInvalidRequest: it holds what a provider actor cannot carry.
    """
    config = request.config
    for name in ("logprobs", "probabilities"):
        if getattr(config, name, None) not in (None, "off"):
            _refuse(f"config.{name}", "none, as answers come without them", getattr(config, name))
    extra = {key: getattr(config, name) for name, key in _EXTRA.items() if getattr(config, name) is not None}
    return LMRequest(
        tuple(_messages(request)),
        model=model,
        stop=tuple(config.stop) or None,
        response_format=_response_format(config.response_format),
        tools=tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools)) or None,
        tool_choice=_tool_choice(config.tool_choice),
        extra={**extra, **_reasoning(config.reasoning), **_parallel(config.tool_choice), **(config.extensions or {})},
        **{name: value for name in _SAME if (value := getattr(config, name)) is not None},
    )


# -- messages ----------------------------------------------------------------------------------------


def _messages(request: Any) -> Iterable[Message]:
    if request.system is not None:
        system = request.system
        yield Message("system", system if isinstance(system, str) else _content(system, "system"))
    for index, turn in enumerate(request.messages):
        where = f"messages[{index}]"
        if turn.role == "tool":
            yield from (_tool_result(part, f"{where}.parts[{at}]") for at, part in enumerate(turn.parts))
            continue
        calls = tuple(
            ToolCall(part.id, part.name, json.dumps(part.input)) for part in turn.parts if part.type == "tool_call"
        )
        # What the model thought aloud before is no part of a conversation; providers that want it back have no
        # place for it here.
        said = [part for part in turn.parts if part.type not in {"tool_call", "thinking"}]
        yield Message(turn.role, _content(said, where), tool_calls=calls)


def _tool_result(part: Any, where: str) -> Message:
    content = _content(part.content, where)
    return Message("tool", content, tool_call_id=part.id, name=part.name)


def _content(parts: Iterable[Any], where: str) -> str | tuple[Mapping[str, Any], ...] | None:
    read = tuple(_part(part, f"{where}.parts[{index}]") for index, part in enumerate(parts))
    if not read:
        return None
    if all(part["type"] == "text" for part in read):
        return "\n".join(part["text"] for part in read)
    return read


def _part(part: Any, where: str) -> Mapping[str, Any]:
    kind = part.type
    if kind in {"text", "refusal"}:
        return {"type": "text", "text": part.text}
    if kind == "data":
        return {"type": "text", "text": json.dumps(part.value)}
    if kind not in _MEDIA:
        _refuse(where, f"text, data, {', '.join(_MEDIA)}", kind)
    return _WRITERS[kind](part, where)


def _image(part: Any, where: str) -> Mapping[str, Any]:
    detail = {} if part.detail is None else {"detail": part.detail}
    return {"type": "image_url", "image_url": {"url": part.url or _data_url(part, where), **detail}}


def _audio(part: Any, where: str) -> Mapping[str, Any]:
    form = _AUDIO.get(part.media_type)
    if part.data is None or form is None:
        _refuse(where, f"inline audio of one of {', '.join(_AUDIO)}", part.media_type)
    return {"type": "input_audio", "input_audio": {"data": part.data, "format": form}}


def _document(part: Any, where: str) -> Mapping[str, Any]:
    return {"type": "file", "file": {"filename": "document", "file_data": _data_url(part, where)}}


_WRITERS: Final[Mapping[str, Callable[[Any, str], Mapping[str, Any]]]] = {
    "image": _image,
    "audio": _audio,
    "document": _document,
}


def _data_url(part: Any, where: str) -> str:
    if part.data is None:
        _refuse(where, f"an inline {part.type}", "one that lies elsewhere")
    return f"data:{part.media_type};base64,{part.data}"


# -- settings ----------------------------------------------------------------------------------------


def _response_format(found: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if found is None or found["type"] == "json_object":
        return found
    schema = {key: found[key] for key in ("schema", "strict") if key in found}
    return {"type": "json_schema", "json_schema": {"name": found.get("name", "response"), **schema}}


def _tool(tool: Any, where: str) -> Mapping[str, Any]:
    if tool.type != "function":
        _refuse(where, "a function, as tools of the provider's own are not carried", tool.type)
    told = {} if tool.description is None else {"description": tool.description}
    return {"type": "function", "function": {"name": tool.name, **told, "parameters": tool.parameters}}


def _tool_choice(choice: Any) -> str | Mapping[str, Any] | None:
    if choice is None:
        return None
    if len(choice.allowed) == 1 and choice.mode == "required":
        return {"type": "function", "function": {"name": choice.allowed[0]}}
    if choice.allowed:
        _refuse("config.tool_choice.allowed", "one required tool, or all", choice.allowed)
    mode: str = choice.mode
    return mode


def _parallel(choice: Any) -> Mapping[str, Any]:
    return {} if choice is None or choice.parallel is None else {"parallel_tool_calls": choice.parallel}


def _reasoning(found: Any) -> Mapping[str, Any]:
    if found is None:
        return {}
    if found.thinking_budget is not None or found.summary is not None:
        _refuse("config.reasoning", "an effort only", "a thinking budget or a summary")
    return {"reasoning_effort": "none" if found.effort == "off" else found.effort}


def _refuse(where: str, expected: str, got: object) -> NoReturn:
    raise LMInvalidRequest(f"expected {expected}, got {got!r}, at {where}", field=where, expected=expected)
