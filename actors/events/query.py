"""What can be asked of an event log, as values, and what each question means.

A query's meaning is :meth:`EventQuery.matches` and nothing else: a journal may use an index to look at fewer
events, but what it looks at it asks here. So every journal gives the same answer.

Pages are cut by ``seq``, the place of an event in the log: places are never used twice, and an event's place
never changes, so a page that was read stays read while others append or prune.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, get_args

from ...runtime.errors import RegistryError, StoreError, did_you_mean
from ...runtime.registry_query import Clause, Where, clauses
from .codec import decode, fields_of
from .kinds import Event

Order: TypeAlias = Literal["newest", "oldest"]
Predicate: TypeAlias = Callable[[Event], bool]

ORDERS: Final[tuple[str, ...]] = get_args(Order)
MAX_LIMIT: Final = 100_000
"""The largest page; more is read page by page."""

_LAST: Final = 2**63 - 1
_TEXT_FIELDS: Final = ("trace_id", "span_id", "parent_id", "user", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events, in which order, how many. All conditions must hold; one left out holds for every event.

    Make it with :meth:`of`, which takes looser forms and finds misspelt keys.

    Attributes:
        types: any of these types; empty means all.
        since, until: wall time, epoch seconds; ``since <= time < until``.
        trace_id, span_id, parent_id, user, source: exactly this value.
        where: clauses on the event's fields, as the registry has them: ``("cost", "gt", 0.01)``; a path with
            dots goes into ``data``: ``("data.stage", "in", ["dev", "test"])``.
        predicate: a function of the event, asked last.
        order: ``newest`` or ``oldest`` first, by place in the log.
        limit: the most events to answer, 1 to :data:`MAX_LIMIT`.
        cursor: go on after this place (before it, if newest first).
    """

    types: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_id: str | None = None
    user: str | None = None
    source: str | None = None
    where: tuple[Clause, ...] = ()
    predicate: Predicate | None = None
    order: Order = "newest"
    limit: int = 100
    cursor: int | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            value = getattr(self, name)
            _check(name, value, "seconds since the epoch", lambda value: value is None or is_moment(value))
        for name in _TEXT_FIELDS:
            _check(name, getattr(self, name), "a text of Unicode", lambda value: value is None or is_text(value))
        _check("types", self.types, "a tuple of texts", _are_texts)
        _check("predicate", self.predicate, "a function", lambda value: value is None or callable(value))
        hint = did_you_mean(str(self.order), ORDERS)
        _check("order", self.order, f"one of {', '.join(ORDERS)}", lambda value: value in ORDERS, hint)
        _check("limit", self.limit, f"a whole number, 1 to {MAX_LIMIT}", lambda value: _whole(value, 1, MAX_LIMIT))
        _check("cursor", self.cursor, "a cursor of a page", lambda value: value is None or _whole(value, 0, _LAST))

    @classmethod
    def of(cls, **keys: Any) -> EventQuery:
        """Make a query from keywords.

        Beside the attributes: ``type`` is one type or several; ``correlation_id`` is another word for
        ``trace_id``; ``where`` is a list of ``(path, op, value)``, or a mapping whose values must be equal.

        Raises:
            StoreError: a key is unknown, or a value is of the wrong type or out of range.
        """
        for alias, name in _ALIASES.items():
            if alias in keys:
                if name in keys:
                    raise StoreError(f"expected {alias} or {name}, got both, in an event query", key=alias)
                keys[name] = keys.pop(alias)
        known = [field.name for field in fields(cls)]
        for key in keys:
            if key not in known:
                hint = did_you_mean(key, [*known, *_ALIASES])
                raise StoreError(f"expected a key of an event query, got {key!r}{hint}", key=key)
        if "types" in keys:
            keys["types"] = _types(keys["types"])
        if "where" in keys:
            keys["where"] = _where(keys["where"])
        return cls(**keys)

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether an event's fields, as JSON values, meet all conditions but the predicate."""
        if self.types and values["type"] not in self.types:
            return False
        if self.since is not None and values["time"] < self.since:
            return False
        if self.until is not None and values["time"] >= self.until:
            return False
        for name in _TEXT_FIELDS:
            wanted = getattr(self, name)
            if wanted is not None and values.get(name) != wanted:
                return False
        return all(clause.matches(values) for clause in self.where)

    def accepts(self, event: Event) -> bool:
        """Whether the predicate, if there is one, says yes.

        Raises:
            StoreError: the predicate raised.
        """
        if self.predicate is None:
            return True
        try:
            return bool(self.predicate(event))
        except Exception as error:  # fault boundary: the user's function must not end the store
            raise StoreError(f"the query's predicate raised {type(error).__name__}: {error}", id=event.id) from error


_ALIASES: Final = {"type": "types", "correlation_id": "trace_id"}


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(is_text(each) for each in cast("tuple[object, ...]", value))


def _check(name: str, value: Any, expected: str, good: Callable[[Any], bool], hint: str = "") -> None:
    if not good(value):
        got = repr(value) if isinstance(value, int | float | str) else type(value).__name__
        raise StoreError(f"expected {expected}, got {got}, at {name!r} of an event query{hint}", key=name)


def is_moment(value: object) -> bool:
    """Whether it can be a wall time in seconds."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    except OverflowError:  # a whole number beyond the floats
        return False


def is_text(value: object) -> bool:
    """Whether it is a text that can be in an event: half a surrogate pair cannot, and databases do not take it."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


EVERYTHING: Final = EventQuery()
"""The newest hundred events."""


def _types(given: Any) -> tuple[Any, ...]:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise StoreError(f"expected one or more types, got {type(given).__name__}, at 'type' of an event query")
    # An empty list asks for no type at all; an unset one for every type. The first is surely a mistake.
    kinds = tuple(cast("Iterable[object]", given))
    if not kinds:
        raise StoreError("expected at least one type, got none, at 'type' of an event query", key="type")
    return kinds


def _where(given: Any) -> tuple[Clause, ...]:
    triples: Where = given
    kind = type(given).__name__
    if isinstance(given, Mapping):
        triples = [(path, "eq", value) for path, value in cast("Mapping[str, Any]", given).items()]
    try:
        return clauses(triples)
    except RegistryError as error:
        raise StoreError(f"{error.message}, at 'where' of an event query", key="where") from error
    except TypeError:
        raise StoreError(f"expected a list of (path, op, value), got {kind}", key="where") from None


class Row(NamedTuple):
    """One place in a log."""

    seq: int
    body: str


@dataclass(frozen=True, slots=True)
class EventPage:
    """An answer.

    Attributes:
        events: what was found.
        seqs: the place of each in the log.
        cursor: ask again with it to go on from here; None if nothing was ever read.
        more: whether there may be more behind the cursor now.
    """

    events: tuple[Event, ...]
    seqs: tuple[int, ...]
    cursor: int | None
    more: bool


def select(rows: Iterable[Row], query: EventQuery) -> EventPage:
    """Answer a query from rows that come in its order, beyond its cursor; reads no more of them than it needs.

    Raises:
        StoreError: the predicate raised.
        StoreCorrupt: a row is not JSON.
    """
    events: list[Event] = []
    seqs: list[int] = []
    cursor = query.cursor
    for row in rows:
        if len(events) == query.limit:
            return EventPage(tuple(events), tuple(seqs), cursor, more=True)
        cursor = row.seq
        values = fields_of(row.body)
        if query.matches(values):
            event = decode(values)
            if query.accepts(event):
                events.append(event)
                seqs.append(row.seq)
    return EventPage(tuple(events), tuple(seqs), cursor, more=False)
