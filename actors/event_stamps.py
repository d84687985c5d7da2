"""Events of our own code on the hot path, put together without a check of each field.

What every request makes is made of values that were checked where they came from, so pydantic would check them a
second time. Events of users, of failures and of anything rare go through :func:`~.events.stamp`, which checks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from ..runtime.context import Context
from .events import Event, EventSource

E = TypeVar("E", bound=Event)


def stamp_unchecked(actor: EventSource, cls: type[E], context: Context, /, **fields: Any) -> E:
    """The event that :func:`~.events.stamp` would make, of fields that are known to be right.

    Args:
        actor: where it happened: its ids, clock and name are used.
        cls: which event.
        context: where in a trace it happened.
        **fields: the event's own fields, each of exactly the type that the class declares.
    """
    fields.update(
        id=actor.ids.sortable(),
        time=actor.clock.time(),
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=context.parent_id,
        user=context.user,
        source=actor.name,
    )
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
