"""The journal that lives in memory: for tests, notebooks, and whoever asks for no file.

It keeps the very lines that a file would hold, so an event that comes back is a copy, and one that could not be
written to a file is refused here too. What it promises lasts as long as the object.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from ...runtime.clock import Clock, SystemClock
from ...runtime.errors import EventNotFound, StoreError, StoreUnavailable
from ..events.codec import Record, decode, encode_all, fields_of
from ..events.kinds import Event
from ..events.query import EventPage, EventQuery, Row, select
from ..events.retention import Retention, RetentionSchedule
from ..journal import JournalStats, resolve_duplicate


class _Entry(NamedTuple):
    seq: int
    record: Record


def _seq(entry: _Entry) -> int:
    return entry.seq


class MemoryJournal:
    """A :class:`~dspex.actors.journal.Journal` in memory.

    Args:
        retention: what it forgets by itself, at an append; by default all but the last 100,000 events.
        clock: where the age of events is read from.
    """

    def __init__(self, *, retention: Retention | None = None, clock: Clock | None = None) -> None:
        self._retention = retention or Retention(max_events=100_000)
        self._clock = clock or SystemClock()
        self._schedule = RetentionSchedule(self._retention, self._clock)
        self._lock = threading.Lock()
        # Only ever appended to in place; forgetting makes a new list, so that readers need no lock.
        self._entries: list[_Entry] = []
        self._ids: dict[str, _Entry] = {}
        self._next = 1
        self._bytes = 0
        self._appended = self._pruned = self._refused = 0
        self._closed = False

    def append(self, events: Sequence[Event]) -> Future[tuple[int, ...]]:
        """Store a batch, whole or not at all; the future is done already."""
        future: Future[tuple[int, ...]] = Future()
        try:
            records = encode_all(events)
            with self._lock:
                places = self._store(records)
        except StoreError as error:
            self._refused += len(events)
            future.set_exception(error)
        else:
            future.set_result(places)
        return future

    def _store(self, records: Sequence[Record]) -> tuple[int, ...]:
        if self._closed:
            raise StoreUnavailable("expected an open journal, got a closed one, at append", cause="closed")
        new: dict[str, _Entry] = {}
        places: list[int] = []
        for record in records:
            taken = self._ids.get(record.id) or new.get(record.id)
            if taken is not None:
                places.append(resolve_duplicate(record, taken.seq, taken.record.body))
                continue
            entry = _Entry(self._next + len(new), record)
            new[record.id] = entry
            places.append(entry.seq)
        # Nothing above changed anything: a batch that is refused leaves no trace.
        self._ids.update(new)
        self._entries.extend(new.values())
        self._next += len(new)
        self._appended += len(new)
        self._bytes += sum(len(entry.record.body) for entry in new.values())
        self._schedule.added(len(new))
        if self._schedule.too_many_due() or self._schedule.too_old_due():
            self._retain()
        return tuple(places)

    def _retain(self) -> None:
        rule, entries = self._retention, self._entries
        beyond = 0 if rule.max_events is None else max(0, len(entries) - rule.max_events)
        oldest = -math.inf if rule.max_age is None else self._clock.time() - rule.max_age
        # Old ones may stand anywhere, too many only at the front: there is no need to look at all of them each time.
        looked_at = entries if self._schedule.too_old_due() else entries[:beyond]
        self._schedule.looked_for_too_many()
        if looked_at is entries:
            self._schedule.looked_for_too_old()
        self._forget(
            [
                entry
                for place, entry in enumerate(looked_at)
                if (place < beyond or entry.record.time < oldest) and entry.record.type not in rule.keep
            ]
        )

    def _forget(self, doomed: Sequence[_Entry]) -> int:
        # `doomed` in the order of the log.
        if doomed:
            for entry in doomed:
                del self._ids[entry.record.id]
                self._bytes -= len(entry.record.body)
            seqs = {entry.seq for entry in doomed}
            end = bisect_right(self._entries, doomed[-1].seq, key=_seq)
            self._entries = [entry for entry in self._entries[:end] if entry.seq not in seqs] + self._entries[end:]
            self._pruned += len(doomed)
        return len(doomed)

    def query(self, query: EventQuery) -> EventPage:
        """Answer a query."""
        return select(self._rows(query), query)

    def _rows(self, query: EventQuery) -> Iterator[Row]:
        with self._lock:
            entries, end = self._entries, len(self._entries)
        places = range(end)
        if query.cursor is not None and query.order == "oldest":
            places = range(bisect_right(entries, query.cursor, hi=end, key=_seq), end)
        elif query.cursor is not None:
            places = range(bisect_left(entries, query.cursor, hi=end, key=_seq))
        for place in places if query.order == "oldest" else reversed(places):
            seq, record = entries[place]
            if (not query.types or record.type in query.types) and query.trace_id in (None, record.trace_id):
                yield Row(seq, record.body)

    def get(self, event_id: str) -> Event:
        """The event with this id."""
        with self._lock:
            entry = self._ids.get(event_id)
        if entry is None:
            raise EventNotFound(f"expected the id of an event, got {event_id!r}, which no event has", id=event_id)
        return decode(fields_of(entry.record.body))

    def prune(self, before: float, types: Sequence[str] = ()) -> Future[int]:
        """Forget events older than ``before``; the future is done already."""
        with self._lock:
            doomed = [
                entry
                for entry in self._entries
                if entry.record.time < before and (not types or entry.record.type in types)
            ]
            count = self._forget(doomed)
        future: Future[int] = Future()
        future.set_result(count)
        return future

    def stats(self) -> JournalStats:
        """What the journal holds and has done."""
        with self._lock:
            entries = self._entries
            return JournalStats(
                events=len(entries),
                bytes=self._bytes,
                oldest=entries[0].record.time if entries else None,
                newest=entries[-1].record.time if entries else None,
                appended=self._appended,
                pruned=self._pruned,
                refused=self._refused,
                waiting=0,
                path=None,
            )

    def close(self) -> None:
        """Append no more. What was stored can still be read."""
        with self._lock:
            self._closed = True
