"""The content of messages, which is in OpenAI's form, read into parts that another protocol can write."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ..json_values import json_object
from ..lm.values import Content, Message
from .request_fields import check_keys, described, refusal

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+=-]+)*?;base64,(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text. ``cache_control`` is Anthropic's mark where its prompt cache is to reach, or None."""

    text: str
    cache_control: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MediaPart:
    """An image, a sound or a document.

    Attributes:
        kind: what it is.
        media_type: such as ``image/png``; empty if only the ``url`` is known.
        data: its bytes in base64; empty if there is a ``url``.
        url: where the provider finds it.
        title: a file's name, or empty.
    """

    kind: Literal["image", "audio", "file"]
    media_type: str = ""
    data: str = ""
    url: str = ""
    title: str = ""


Part: TypeAlias = TextPart | MediaPart


def read_parts(content: Content, where: str) -> list[Part]:
    """The parts of a message's content; empty texts, which say nothing, are left out.

    Raises:
        LMInvalidRequest: a part is malformed or of an unknown type.
    """
    if not isinstance(content, tuple):
        return [TextPart(content)] if content else []
    parts = [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
    return [part for part in parts if not isinstance(part, TextPart) or part.text]


def read_texts(content: Content, where: str) -> list[TextPart]:
    """As :func:`read_parts`, where only text is possible."""
    texts: list[TextPart] = []
    for part in read_parts(content, where):
        if not isinstance(part, TextPart):
            raise refusal(f"{where}.content", "only text in this role", f"{part.kind} part")
        texts.append(part)
    return texts


def check_nameless(turn: Message, where: str) -> None:
    """Refuse a speaker's name: not every protocol has one.

    Raises:
        LMInvalidRequest: there is one.
    """
    if turn.name is not None and turn.role != "tool":
        raise refusal(f"{where}.name", "no name, which this protocol has no place for", described(turn.name))


def check_turn(turn: Message, where: str) -> None:
    """Refuse what a message has beside its content, and its role has no place for.

    Raises:
        LMInvalidRequest: a name (but a tool's), tool calls of others than the assistant, or an id that is no tool's.
    """
    check_nameless(turn, where)
    if turn.tool_calls and turn.role != "assistant":
        raise refusal(f"{where}.tool_calls", "no tool calls in this role", turn.role)
    if turn.tool_call_id is not None and turn.role != "tool":
        raise refusal(f"{where}.tool_call_id", "no tool call's id in this role", turn.role)


def _part(part: Mapping[str, Any], where: str) -> Part:
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _READERS:
        raise refusal(
            f"{where}.type", f"one of {', '.join(_READERS)}", kind if isinstance(kind, str) else described(kind)
        )
    return _READERS[kind](part, where)


def _text(part: Mapping[str, Any], where: str) -> TextPart:
    check_keys(part, where, ("type", "text", "cache_control"))
    mark = part.get("cache_control")
    if not isinstance(mark, dict | None):
        raise refusal(f"{where}.cache_control", "a mapping", described(mark))
    return TextPart(_said(part, "text", where), json_object(part["cache_control"]) if mark else None)


def _refused(part: Mapping[str, Any], where: str) -> TextPart:
    check_keys(part, where, ("type", "refusal"))
    return TextPart(_said(part, "refusal", where))


def _image(part: Mapping[str, Any], where: str) -> MediaPart:
    inner, where = _inner(part, "image_url", where, ("url", "detail"))
    if inner.get("detail", "auto") != "auto":
        raise refusal(f"{where}.detail", "auto, this protocol has no other", inner["detail"])
    url = _said(inner, "url", where)
    if url.startswith("data:"):
        return _media("image", url, f"{where}.url")
    if not url.startswith(("https://", "http://", "gs://")):
        raise refusal(f"{where}.url", "an address, or a data: URL", described(url))
    return MediaPart("image", url=url)


def _audio(part: Mapping[str, Any], where: str) -> MediaPart:
    inner, where = _inner(part, "input_audio", where, ("data", "format"))
    data = _base64(_said(inner, "data", where), f"{where}.data")
    return MediaPart("audio", f"audio/{_said(inner, 'format', where)}", data)


def _file(part: Mapping[str, Any], where: str) -> MediaPart:
    inner, where = _inner(part, "file", where, ("file_data", "filename"))
    title = _said(inner, "filename", where) if "filename" in inner else ""
    return _media("file", _said(inner, "file_data", where), f"{where}.file_data", title)


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Part]]] = {
    "text": _text,
    "refusal": _refused,
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
}


def _inner(part: Mapping[str, Any], key: str, where: str, known: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    check_keys(part, where, ("type", key))
    inner, where = json_object(part.get(key)), f"{where}.{key}"
    if not inner:
        raise refusal(where, "a mapping", described(part.get(key)))
    check_keys(inner, where, known)
    return inner, where


def _said(found: Mapping[str, Any], key: str, where: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise refusal(f"{where}.{key}", "text", described(value))
    return value


def _media(kind: Literal["image", "file"], url: str, where: str, title: str = "") -> MediaPart:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise refusal(where, "data:<media type>;base64,<data>", described(url))
    return MediaPart(kind, found[1].lower(), _base64(found[2], where), title=title)


def _base64(data: str, where: str) -> str:
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        raise refusal(where, "data in base64", described(data)) from None
    return data
