"""One event: the fields that all have, how a mistake in one is told, and which types there are.

The set of types is open: a subclass of :class:`Event` whose ``type`` has a default is known from then on.

*Versions.* A field may be added to a type at any time if it has a default; then ``version`` goes up. A reader
that is older keeps the fields it does not know (``model_extra``); a type it does not know loads as
:class:`UnknownEvent`. Fields are never renamed and never change their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainSerializer, ValidationError, model_validator

from ...runtime.errors import DefinitionError, EventInvalid, did_you_mean

Data = dict[str, JsonValue]
"""Free JSON data; anything else in it is refused when the event is made."""

Money = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
"""A decimal that JSON shows as a number, so that queries can compare it; exact to 15 digits."""

# The open set of types, filled as their classes are defined.
_KNOWN: Final[dict[str, type[Event]]] = {}

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Event(BaseModel, frozen=True):
    """The base of all events, and the fields that every event has.

    Attributes:
        id: unique everywhere, sorts by time.
        type: the event's type, in lower case with underscores.
        version: of the type's fields.
        time: wall clock, seconds since the epoch.
        trace_id: the piece of work it belongs to, also its correlation id; None outside any.
        span_id: the step in that work.
        parent_id: the span that asked for that step.
        user: on whose behalf.
        source: the actor that reported it.

    Raises:
        EventInvalid: a field is missing, malformed or unknown (facts: type, field, expected, got).
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    id: str = Field(min_length=1, max_length=128)
    type: str = Field(min_length=1, max_length=128)
    version: int = Field(default=1, ge=1)
    time: float
    trace_id: str | None = None
    span_id: str | None = None
    parent_id: str | None = None
    user: str | None = None
    source: str | None = None

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _invalid(type(self), fields, error) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        name = cls.model_fields["type"].default
        if not isinstance(name, str):
            return
        taken = _KNOWN.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise DefinitionError(f"expected a new event type, got {name!r} of {taken.__qualname__}, at {cls.__name__}")
        _KNOWN[name] = cls

    @model_validator(mode="after")
    def _only_newer_versions_bring_unknown_fields(self) -> Self:
        fields = type(self).model_fields
        if self.model_extra and self.version <= fields["version"].default:
            word = next(iter(self.model_extra))
            raise ValueError(f"unknown field {word!r}{did_you_mean(word, fields)}")
        return self


def _invalid(cls: type[Event], fields: Mapping[str, Any], error: ValidationError) -> EventInvalid:
    first = error.errors(include_url=False, include_context=False)[0]
    kind = fields.get("type") or cls.model_fields["type"].default or cls.__name__
    field = ".".join(str(part) for part in first["loc"][:4]) or "event"
    expected = first["msg"].removeprefix("Value error, ")
    value = first["input"]
    # The value itself only where it cannot hold anything private.
    got = repr(value) if isinstance(value, int | float | None) else type(value).__name__
    if first["type"] == "missing":
        near = did_you_mean(field, [word for word in fields if word not in cls.model_fields])
        got = "nothing" + near.replace("did you mean", "was it meant by")
    return EventInvalid(
        f"expected a valid {kind} event, got {got}, at {field!r}: {expected}",
        type=kind,
        field=field,
        expected=expected,
        got=got,
    )


def event_types() -> tuple[str, ...]:
    """The types of event that somebody declared."""
    return tuple(_KNOWN)


def event_class(type_name: str) -> type[Event] | None:
    """The class of a type of event, or None for a type nobody declared."""
    return _KNOWN.get(type_name)


class CustomEvent(Event, frozen=True):
    """An event of the user's own: any ``type`` that dspex does not use itself, with free ``data``."""

    data: Data = {}

    @model_validator(mode="after")
    def _type_is_free(self) -> Self:
        if type(self) is CustomEvent and self.type in _KNOWN:
            raise ValueError(f"type {self.type!r} belongs to {_KNOWN[self.type].__name__}")
        return self


class UnknownEvent(Event, frozen=True):
    """An event whose type or version this program does not know; its own fields are all in ``model_extra``."""

    version: int = Field(default=0, ge=0)
