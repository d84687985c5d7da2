"""Where events are kept: the port. Its implementations stand in ``journals/``.

A journal is an ordered log of :class:`~dspex.actors.events.kinds.Event`. Whatever keeps these promises may stand behind
the event-store actor; ``tests/conformance/test_journals.py`` checks each of them on every implementation:

* ``append`` is all or nothing, and its order is the order of the log. Once its future has a result, the events
  are kept as long as the journal promises (``durability`` of the SQLite one).
* An id is stored once. The same event again is answered with its place; another event under a taken id is
  refused, and nothing is ever replaced.
* A place (``seq``) is never used twice, also after pruning, and grows with every append.
* Queries mean what :class:`~dspex.actors.events.query.EventQuery` says.
* Methods may be called from any thread of the process that opened the journal. Those that answer with a future
  return at once; the others may block, so an actor calls them with ``run_blocking``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from ..runtime.errors import EventInvalid
from .events.codec import Record, same
from .events.kinds import Event
from .events.query import EventPage, EventQuery


@dataclass(frozen=True, slots=True)
class JournalStats:
    """What a journal holds and has done.

    Attributes:
        events: in the log now, whoever wrote them.
        bytes: the size of the log.
        oldest, newest: wall time of the first and the last event in the log; None if it is empty.
        appended: events this journal object has stored.
        pruned: events this journal object has forgotten, by retention or on request.
        refused: events this journal object could not store.
        waiting: events taken and not stored yet.
        path: the file, or None.
    """

    events: int
    bytes: int
    oldest: float | None
    newest: float | None
    appended: int
    pruned: int
    refused: int
    waiting: int
    path: str | None


def resolve_duplicate(record: Record, seq: int, stored: str) -> int:
    """The place of an event whose id is taken: the same event keeps its place, another one is refused.

    Raises:
        EventInvalid: the stored line says something else.
    """
    if same(record.body, stored):
        return seq
    raise EventInvalid(
        f"expected a new event id, got {record.id!r}, under which another event is stored",
        field="id",
        expected="a new id",
        got=record.id,
    )


class Journal(Protocol):
    """An ordered log of events. See the module for what it promises."""

    def append(self, events: Sequence[Event]) -> Future[tuple[int, ...]]:
        """Store a batch, whole or not at all. Returns at once.

        Returns:
            A future of the place of each event, which fails with EventInvalid (a malformed or too large event,
            or a taken id) or StoreUnavailable (disk full, file locked or gone, journal closed).
        """
        ...

    def query(self, query: EventQuery) -> EventPage:
        """Answer a query.

        Raises:
            StoreError: the predicate raised.
            StoreCorrupt, StoreUnavailable: the log cannot be read.
        """
        ...

    def get(self, event_id: str) -> Event:
        """The event with this id.

        Raises:
            EventNotFound: there is none.
        """
        ...

    def prune(self, before: float, types: Sequence[str] = ()) -> Future[int]:
        """Forget events older than ``before`` (wall time, epoch seconds), of these types or of all.

        Returns:
            A future of how many were forgotten.
        """
        ...

    def stats(self) -> JournalStats:
        """What the journal holds and has done."""
        ...

    def close(self) -> None:
        """Store what waits, then let go of everything. Appending fails afterwards; closing again does nothing."""
        ...
