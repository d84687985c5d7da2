"""Making an event in an actor, where and when it happened.

:func:`stamp` checks each field. What every request makes is made of values that were checked where they came from, so
pydantic would check them a second time: :func:`stamp_unchecked` puts them together as they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol, TypeVar

from ...runtime.clock import Clock
from ...runtime.context import Context
from ...runtime.ids import IdSource
from .event import Event

E = TypeVar("E", bound=Event)


class EventSource(Protocol):
    """What :func:`stamp` needs of an actor; every GenServer has it."""

    @property
    def ids(self) -> IdSource:
        """Where ids come from."""
        ...

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        ...

    @property
    def context(self) -> Context:
        """The trace of the message being handled."""
        ...

    @property
    def name(self) -> str | None:
        """The registered name, or None."""
        ...


def stamp(actor: EventSource, cls: type[E], **fields: Any) -> E:
    """Make an event that happened in an actor, now, in the trace of the message it handles.

    Args:
        actor: where it happened: its ids, clock, context and name are used.
        cls: which event.
        **fields: the event's own fields; a common one given here wins over the actor's.

    Raises:
        EventInvalid: a field is missing, malformed or unknown.
    """
    context = actor.context
    common: dict[str, Any] = {
        "id": actor.ids.sortable(),
        "time": actor.clock.time(),
        "trace_id": context.trace_id,
        "span_id": context.span_id,
        "parent_id": context.parent_id,
        "user": context.user,
        "source": actor.name,
    }
    return cls(**(common | fields))


def stamp_unchecked(actor: EventSource, cls: type[E], context: Context, /, **fields: Any) -> E:
    """The event that :func:`stamp` would make, of fields that are known to be right.

    Args:
        actor: where it happened: its ids, clock and name are used.
        cls: which event.
        context: where in a trace it happened.
        **fields: the event's own fields, each of exactly the type that the class declares.
    """
    fields["id"] = actor.ids.sortable()
    fields["time"] = actor.clock.time()
    fields["trace_id"], fields["span_id"] = context.trace_id, context.span_id
    fields["parent_id"], fields["user"] = context.parent_id, context.user
    fields["source"] = actor.name
    event = cls.__new__(cls)
    # As pydantic's model_construct does it, without its loop over the fields.
    place = object.__setattr__
    place(event, "__dict__", _defaults(cls) | fields)
    place(event, "__pydantic_fields_set__", set(fields))
    place(event, "__pydantic_extra__", {})
    place(event, "__pydantic_private__", None)
    return event


@cache
def _defaults(cls: type[Event]) -> dict[str, Any]:
    """All fields in their order, with their defaults; None for those that are always given."""
    return {name: None if field.is_required() else field.default for name, field in cls.model_fields.items()}
