"""Events as one line of JSON each, and back.

A :class:`Record` is what a journal keeps: the line, and beside it the few fields that journals search by.
Reading never fails on a line that was once written: what today's classes cannot hold is an
:class:`~dspex.actors.events.kinds.UnknownEvent`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

from pydantic_core import PydanticSerializationError, from_json

from ...runtime.errors import EventInvalid, StoreCorrupt
from .kinds import CustomEvent, Event, UnknownEvent, event_class

MAX_EVENT_BYTES: Final = 1_000_000
"""The longest line of JSON an event may be, in bytes of UTF-8."""


class Record(NamedTuple):
    """An event as a journal keeps it; the last field is the line of JSON."""

    id: str
    type: str
    time: float
    trace_id: str | None
    body: str


def encode(event: Event) -> Record:
    """Turn an event into what is stored.

    Raises:
        EventInvalid: it is not an event, not JSON, or longer than :data:`MAX_EVENT_BYTES`.
    """
    if not isinstance(cast("object", event), Event):
        raise EventInvalid(f"expected an event, got {type(event).__name__}", field="event", expected="an event")
    try:
        line = event.__pydantic_serializer__.to_json(event)
    except PydanticSerializationError as error:
        raise EventInvalid(
            f"expected a {event.type} event of JSON values, got one that is not, at id {event.id!r}: {error}",
            field="event",
            expected="JSON values",
        ) from None
    if len(line) > MAX_EVENT_BYTES:
        raise EventInvalid(
            f"expected a {event.type} event of at most {MAX_EVENT_BYTES} bytes, got {len(line)}, at id {event.id!r}",
            field="event",
            expected=f"at most {MAX_EVENT_BYTES} bytes",
            got=len(line),
        )
    return Record(event.id, event.type, event.time, event.trace_id, line.decode())


def encode_all(events: Iterable[Event]) -> tuple[Record, ...]:
    """Turn a batch into records; one bad event refuses them all.

    Raises:
        EventInvalid: as :func:`encode`.
    """
    return tuple(encode(event) for event in events)


def fields_of(body: str) -> dict[str, Any]:
    """The fields of a stored line, as plain JSON values.

    Raises:
        StoreCorrupt: it is not a JSON object.
    """
    try:
        fields: object = from_json(body)
    except ValueError as error:
        raise StoreCorrupt(f"expected a line of JSON in the event log, got damage: {error}") from error
    if not isinstance(fields, dict):
        raise StoreCorrupt(f"expected a JSON object in the event log, got {type(fields).__name__}")
    return cast("dict[str, Any]", fields)


def decode(fields: dict[str, Any]) -> Event:
    """Make the event that ``fields`` describe, of the newest class that can hold it."""
    cls = event_class(str(fields.get("type")))
    if cls is None:
        cls = CustomEvent if fields.keys() <= CustomEvent.model_fields.keys() else UnknownEvent
    try:
        return cls(**fields)
    except EventInvalid:
        # A newer program wrote it, with another idea of a field than ours.
        return UnknownEvent(**fields)


def same(left: str, right: str) -> bool:
    """Whether two lines say the same, whatever the order of their fields."""
    return left == right or fields_of(left) == fields_of(right)
