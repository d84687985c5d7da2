"""The body of a chat completion request, read into an :class:`~dspex.actors.lm.values.LMRequest`.

What cannot be kept is refused with its place, never left out in silence: a client that asks for two answers, or for
sound, must not get one in text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar, cast

from ...actors.json_values import json_list, json_object
from ...actors.lm.values import LMRequest, Message, ToolCall
from ...runtime.errors import LMInvalidRequest, did_you_mean
from .models import Target
from .problems import Refused, refused

T = TypeVar("T")

_SAME: Final = ("temperature", "top_p", "seed", "stop", "response_format", "tools", "tool_choice")
"""Keys that are fields of ``LMRequest`` under the same name."""
_OWN: Final = ("model", "messages", "stream", "stream_options", "n", "user", "max_tokens", "max_completion_tokens")
"""Keys that the gateway itself reads. All others go to the provider as they are."""
_LOST: Final = {
    "audio": "answers are text",
    "functions": "use tools",
    "function_call": "use tool_choice",
    "logprobs": "they are not handed on",
    "top_logprobs": "they are not handed on",
}
"""Keys whose effect on the answer would be lost."""
_MESSAGE: Final = ("role", "content", "name", "tool_calls", "tool_call_id")
_ECHOED: Final = ("refusal", "annotations", "reasoning", "reasoning_content")
"""Keys that an answer has and a request need not: clients send answers back as they came."""
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (str, "text"),
    (list, "a list"),
    (dict, "an object"),
    (bool, "true or false"),
    ((int, float), "a number"),
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client wants.

    Attributes:
        target: who is asked.
        request: what.
        stream: whether the answer comes in pieces.
        include_usage: whether a stream tells the usage at its end.
        user: on whose behalf.
    """

    target: Target
    request: LMRequest
    stream: bool
    include_usage: bool
    user: str | None


def read_chat_request(data: bytes, resolve: Callable[[str], Target]) -> ChatRequest:
    """Read a request.

    Args:
        data: the body.
        resolve: who answers for a model's name.

    Raises:
        Refused: it is malformed (400, with the place), or nobody has that model (404).
        LMInvalidRequest: a value is out of range.
    """
    body = {name: value for name, value in _parsed(data).items() if value is not None}
    target = resolve(_typed(body, "model", str, "the name of a model"))
    stream = _typed(body, "stream", bool, "true or false", False)
    _check(body, stream=stream)
    request = LMRequest(
        _messages(json_list(body["messages"])),
        model=target.model,
        max_tokens=body.get("max_completion_tokens", body.get("max_tokens")),
        extra={name: value for name, value in body.items() if name not in _SAME and name not in _OWN},
        **{name: body[name] for name in _SAME if name in body},
    )
    options = json_object(body.get("stream_options"))
    include_usage = _typed(options, "include_usage", bool, "true or false", False, "stream_options.")
    return ChatRequest(target, request, stream, include_usage, body.get("user"))


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body: object = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        # Not the decoder's own words: they may quote the body.
        place = f" at line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise refused(400, f"expected a JSON object, got a body that is no JSON{place}", "invalid_json") from None
    if not isinstance(body, dict):
        raise refused(400, f"expected a JSON object, got {_kind(body)}", "invalid_json")
    return json_object(cast("object", body))


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _check(body: dict[str, Any], *, stream: bool) -> None:
    _typed(body, "messages", list, "a list of messages")
    _typed(body, "stream_options", dict, "an object", {})
    if "stream_options" in body and not stream:
        raise _invalid("stream_options", "nothing, as stream is not true", body["stream_options"])
    count: object = body.get("n", 1)
    if count is True or count != 1:
        raise _invalid("n", "1, as a request is one answer", count)
    user = _typed(body, "user", str, "text", "-")
    if not user or not user.isprintable():
        raise _invalid("user", "printable text", user)
    if body.get("modalities", ["text"]) != ["text"]:
        raise _invalid("modalities", '["text"]', body["modalities"])
    for name, why in _LOST.items():
        if body.get(name, False) is not False:
            raise refused(400, f"expected no {name} ({why}), got some, at {name}", "unsupported_parameter", param=name)
        body.pop(name, None)
    _typed(body, "tools", list, "a list of tools", [])
    _typed(body, "response_format", dict, "an object", {})
    for name, kind in (("tool_choice", dict), ("stop", list)):
        value: object = body.get(name, "")
        if not isinstance(value, str | kind):
            raise _invalid(name, "text or " + ("an object" if kind is dict else "a list"), value)


def _messages(found: list[Any]) -> tuple[Message, ...]:
    return tuple(_message(turn, f"messages[{index}]") for index, turn in enumerate(found))


def _message(found: object, where: str) -> Message:
    if not isinstance(found, dict):
        raise _invalid(where, "an object", found)
    turn = {name: value for name, value in json_object(cast("object", found)).items() if value is not None}
    for name in turn:
        if name not in _MESSAGE and name not in _ECHOED:
            raise _invalid(f"{where}.{name}", f"one of {', '.join(_MESSAGE)}", name, did_you_mean(name, _MESSAGE))
    role = _typed(turn, "role", str, "a role", where=f"{where}.")
    content = turn.get("content")
    if role == "assistant":
        content = turn.get("refusal") if content is None else content
    elif content is None:
        raise _invalid(f"{where}.content", "text or parts", None)
    calls = _typed(turn, "tool_calls", list, "a list of tool calls", [], f"{where}.")
    try:
        return Message(
            role,  # type: ignore[arg-type]  # Message checks it
            content,
            tuple(_tool_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)),
            turn.get("tool_call_id"),
            turn.get("name"),
        )
    except LMInvalidRequest as error:
        field = f"{where}.{error.facts.get('field')}"
        raise refused(400, f"{error}, in {where}", "lm_invalid_request", param=field) from None


def _tool_call(found: object, where: str) -> ToolCall:
    call = json_object(found)
    function = json_object(call.get("function"))
    if call.get("type", "function") != "function" or not function:
        raise _invalid(where, 'a tool call {"id": ..., "type": "function", "function": {...}}', found)
    id = _typed(call, "id", str, "text", where=f"{where}.")
    name, arguments = (_typed(function, key, str, "text", where=f"{where}.function.") for key in ("name", "arguments"))
    return ToolCall(id, name, arguments)


def _typed(
    found: dict[str, Any], name: str, kind: type[T], expected: str, default: T | None = None, where: str = ""
) -> T:
    value = found.get(name, default)
    if not isinstance(value, kind):
        raise _invalid(where + name, expected, value)
    return value


def _invalid(where: str, expected: str, got: object, more: str = "") -> Refused:
    shown = got if isinstance(got, int | float) or got is None else _kind(got)
    shown = "nothing" if shown is None else shown
    return refused(400, f"expected {expected}, got {shown}, at {where}{more}", "lm_invalid_request", param=where)


def _kind(value: object) -> str:
    """What a value is, without quoting it: errors are logged by clients, prompts should not be."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")
