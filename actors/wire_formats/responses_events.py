"""Reads the events of a streamed response of OpenAI's responses: a table of what each kind of event adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..json_values import json_count, json_list, json_object, json_text
from ..lm.stream_collector import Collector
from .answers import IN_STREAM
from .responses_output import failure, read_response, tool_call


class _Items:
    """Which tool call an output item is: items are told by their place in the output, or by their id."""

    def __init__(self) -> None:
        self._numbers: dict[int | str, int] = {}
        self._count = 0

    def number(self, place: object, id: object) -> int:
        keys = [key for key in (json_count(place), json_text(id) or None) if key is not None] or [""]
        number = next((self._numbers[key] for key in keys if key in self._numbers), self._count)
        self._count = max(self._count, number + 1)
        self._numbers.update(dict.fromkeys(keys, number))
        return number


def _items(into: Collector) -> _Items:
    items: _Items = into.state.setdefault("items", _Items())
    return items


def _text(value: object) -> str:
    # Not json_text: half of a surrogate pair may find its other half in the next event.
    return value if isinstance(value, str) else ""


def _rest(whole: str, so_far: str) -> str:
    """What was not delivered in pieces; nothing if the pieces said something else."""
    return whole[len(so_far) :] if whole.startswith(so_far) else ""


def _add_call(item: dict[str, Any], place: object, into: Collector) -> None:
    """What a whole item tells of its call beyond the pieces that came."""
    number, call = _items(into).number(place, item.get("id")), tool_call(item)
    rest = _rest(call.arguments, into.arguments(number))
    into.add_tool_call(number, id=call.id, name=call.name, arguments=rest)


def _on_begin(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    response = json_object(body.get("response"))
    into.response_id = json_text(response.get("id")) or into.response_id
    into.model = json_text(response.get("model")) or into.model


def _on_text(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    into.add_text(_text(body.get("delta")))


def _on_refusal(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    into.add_refusal(_text(body.get("delta")))


def _on_reasoning(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    into.add_reasoning(_text(body.get("delta")))


def _on_part(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    if json_object(body.get("part")).get("type") in {"summary_text", "reasoning_text"} and into.has_reasoning:
        into.add_reasoning("\n\n")


def _on_item(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    item = json_object(body.get("item"))
    if item.get("type") == "function_call":
        # At first without arguments, should a server send them here and in pieces as well.
        begun = item | {"arguments": ""} if body.get("type") == "response.output_item.added" else item
        _add_call(begun, body.get("output_index"), into)


def _on_arguments(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    number = _items(into).number(body.get("output_index"), body.get("item_id"))
    into.add_tool_call(number, arguments=_text(body.get("delta")))


def _on_end(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    """The whole response: its end and usage, and whatever was not delivered in pieces."""
    found = json_object(body.get("response"))
    status = json_text(body.get("type")).rpartition(".")[2]
    answer = read_response(found, into.model, IN_STREAM, secrets, status=status)
    if not into.has_reasoning:
        into.add_reasoning(answer.reasoning or "")
    into.add_text(_rest(answer.text, into.text))
    into.add_refusal(_rest(answer.refusal or "", into.refusal))
    for place, item in enumerate(json_object(item) for item in json_list(found.get("output"))):
        if item.get("type") == "function_call":
            _add_call(item, place, into)
    into.model, into.response_id = answer.model, answer.response_id or into.response_id
    into.usage = answer.usage
    called = answer.finish_reason == "stop" and "items" in into.state
    into.finish("tool_calls" if called else answer.finish_reason or "stop")
    into.end()


def _on_error(body: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    raise failure(body.get("error") or body, secrets, IN_STREAM)


EVENT_READERS: Final[Mapping[str, Callable[[dict[str, Any], Collector, tuple[str, ...]], None]]] = {
    "response.created": _on_begin,
    "response.output_text.delta": _on_text,
    "response.refusal.delta": _on_refusal,
    "response.reasoning_text.delta": _on_reasoning,
    "response.reasoning_summary_text.delta": _on_reasoning,
    "response.reasoning_summary_part.added": _on_part,
    "response.content_part.added": _on_part,
    "response.output_item.added": _on_item,
    "response.output_item.done": _on_item,
    "response.function_call_arguments.delta": _on_arguments,
    "response.completed": _on_end,
    "response.incomplete": _on_end,
    "response.failed": _on_end,
    "response.cancelled": _on_end,
    "error": _on_error,
}
"""What each type of event adds, from its body; the secrets must not show in errors. Other types are ignored."""
