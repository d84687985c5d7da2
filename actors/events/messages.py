"""What the event store is asked and told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast as cast_type

from thespian.actors import ActorAddress

from ...runtime.errors import EventInvalid, StoreError
from ..journal import JournalStats
from .kinds import Event
from .query import EVERYTHING, EventQuery, is_moment, is_text


@dataclass(frozen=True, slots=True)
class Append:
    """Cast: store these events, all or none; nobody waits.

    Raises:
        EventInvalid: made of something else than a tuple or list.
    """

    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        _check_batch(self.events)


@dataclass(frozen=True, slots=True)
class AppendAcked:
    """Call: store these events, all or none. Answers their ids once they are stored.

    Raises at the caller: EventInvalid (where it is made: no tuple or list), StoreUnavailable.
    """

    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        _check_batch(self.events)


def _check_batch(events: object) -> None:
    # Here, at the sender: in the store it would be a crash, and a cast has nobody to tell.
    if not isinstance(events, (tuple, list)):
        kind = type(events).__name__
        expected = "a tuple of events"
        raise EventInvalid(
            f"expected {expected}, got {kind}, at an append", field="events", expected=expected, got=kind
        )


def _check_query(query: object) -> None:
    if not isinstance(query, EventQuery):
        kind = type(query).__name__
        raise StoreError(f"expected an EventQuery, got {kind}; EventQuery.of(type=..., ...) makes one", key="query")


@dataclass(frozen=True, slots=True)
class Query:
    """Call: answers an :class:`~dspex.actors.events.query.EventPage`."""

    query: EventQuery = EVERYTHING

    def __post_init__(self) -> None:
        _check_query(self.query)


@dataclass(frozen=True, slots=True)
class GetEvent:
    """Call: answers the event with this id. Raises at the caller: EventNotFound; StoreError if it can be no id."""

    id: str

    def __post_init__(self) -> None:
        if not is_text(self.id):
            kind = type(self.id).__name__
            raise StoreError(
                f"expected the id of an event, got {kind}, at a look-up; an id is a text of Unicode", key="id"
            )


@dataclass(frozen=True, slots=True)
class TraceTree:
    """Call: answers everything of one trace (correlation id), nested: a tuple of TraceNode, empty if unknown."""

    trace_id: str


@dataclass(frozen=True, slots=True)
class Prune:
    """Call: forget events older than ``before`` (epoch seconds), of these types or of all. Answers how many.

    Raises:
        StoreError: made of something else; a database would compare a text too, and forget everything.
    """

    before: float
    types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        before: object = self.before
        if not is_moment(before):
            shown = repr(before) if isinstance(before, (str, float)) else type(before).__name__
            raise StoreError(f"expected seconds since the epoch, got {shown}, at 'before' of a pruning", key="before")
        types = cast_type("object", self.types)
        if not isinstance(types, (tuple, list)) or not all(
            is_text(each) for each in cast_type("tuple[object, ...]", types)
        ):
            shown = type(types).__name__ if isinstance(types, str) else repr(self.types)
            raise StoreError(f"expected a tuple of types, got {shown}, at 'types' of a pruning", key="types")


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Call: answers a :class:`StoreStatistics`."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Call: have each stored event that meets ``query`` sent to ``subscriber``. Answers a subscription id.

    Events come as :class:`EventNotification` info messages, in the order of the log, once stored, if they were
    appended through this actor (another process that writes to the same file is not heard). ``order``, ``limit``
    and ``cursor`` of the query mean nothing here. A subscription ends with its subscriber, by
    :class:`Unsubscribe`, or with the store: monitor it, subscribe again, and ask from the last ``seq`` on.
    """

    subscriber: ActorAddress
    query: EventQuery = EVERYTHING

    def __post_init__(self) -> None:
        _check_query(self.query)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Call: end a subscription. Answers whether there was one."""

    subscription: int


@dataclass(frozen=True, slots=True)
class EventNotification:
    """To a subscriber: events that were stored, and the place of each in the log."""

    subscription: int
    events: tuple[Event, ...]
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SubscriptionEnded:
    """To a subscriber: its predicate raised, so its subscription is over."""

    subscription: int
    error: StoreError


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What the store has done since it started, and what its journal holds.

    Attributes:
        journal: of the journal.
        lost: events of casts that could not be stored.
        subscriptions: open now.
    """

    journal: JournalStats
    lost: int
    subscriptions: int
