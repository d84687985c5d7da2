"""The writing half of the SQLite journal: SQL statements, run in the writer's thread only."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ...runtime.clock import Clock
from ...runtime.errors import StoreUnavailable
from ..events.codec import Record
from ..events.retention import Retention, RetentionSchedule
from ..journal import resolve_duplicate
from .sqlite_file import translated

# Each statement lets go of the interpreter, and gets it back only when a busy loop thread hands it over: so one
# statement for many rows, or the writer falls behind.
_ROWS: Final = (100, 10, 1)
_INSERTS: Final = tuple(
    "INSERT INTO events (seq, id, type, time, trace_id, body) VALUES "  # noqa: S608 - question marks only
    + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    + " ON CONFLICT (id) DO NOTHING"
    for rows in _ROWS
)
# Forgetting goes in bites, so that no append ever waits long behind it.
_BITE: Final = 5_000


class SqliteLog:
    """A :class:`~dspex.actors.journals.writer.Log` in a SQLite file.

    Args:
        connection: a prepared connection of its own.
        path: the file.
        retention: what it forgets by itself.
        clock: where time is read from.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, retention: Retention, clock: Clock) -> None:
        self._db = connection
        self._path = path
        self._identity = self._file_identity()
        self._retention = retention
        self._clock = clock
        self._schedule = RetentionSchedule(retention, clock)
        self.appended = 0
        self.pruned = 0

    def write(self, batches: Sequence[Sequence[Record]]) -> list[tuple[int, ...]]:
        """Store all batches in one transaction.

        Raises:
            EventInvalid: an id is taken by another event.
            StoreUnavailable, StoreCorrupt: the file cannot be written; nothing of this was.
        """
        records = [record for batch in batches for record in batch]
        if not records:
            return [() for _ in batches]
        if self._file_identity() != self._identity:
            raise StoreUnavailable(
                f"expected the event log that was opened, got a file that was moved or deleted, at {self._path}",
                path=str(self._path),
                cause="moved",
            )
        with self._transaction():
            (first,) = self._db.execute("SELECT next FROM counter").fetchone()
            seqs = range(first, first + len(records))
            self._db.execute("UPDATE counter SET next = ?", (seqs.stop,))
            before = self._db.total_changes
            self._insert(seqs, records)
            inserted = self._db.total_changes - before
            # Fewer rows than events: some ids were there already.
            places: Sequence[int] = seqs if inserted == len(records) else [self._place(record) for record in records]
        self.appended += inserted
        self._schedule.added(inserted)
        return _cut(places, batches)

    def _insert(self, seqs: range, records: Sequence[Record]) -> None:
        done = 0
        for rows, statement in zip(_ROWS, _INSERTS, strict=True):
            while done + rows <= len(records):
                places = range(done, done + rows)
                self._db.execute(statement, [value for place in places for value in (seqs[place], *records[place])])
                done += rows

    def _place(self, record: Record) -> int:
        seq, stored = self._db.execute("SELECT seq, body FROM events WHERE id = ?", (record.id,)).fetchone()
        return resolve_duplicate(record, seq, stored)

    def prune(self, before: float, types: Sequence[str]) -> int:
        """Forget events older than ``before``, of these types or of all.

        Raises:
            StoreUnavailable, StoreCorrupt: the file cannot be written.
        """
        condition, arguments = "time < ?", [before, *types]
        if types:
            condition += f" AND type IN ({_marks(types)})"
        total = 0
        while True:
            count = self._forget(condition, arguments)
            total += count
            if count < _BITE:
                return total

    def maintain(self) -> float | None:
        """Apply retention if it is due, one bite of each kind.

        Returns:
            Seconds until it wants to be called again though nothing was written, or None.
        """
        rule, schedule = self._retention, self._schedule
        kept = f" AND type NOT IN ({_marks(rule.keep)})" if rule.keep else ""
        if schedule.too_many_due():
            # The newest place that is not among the `max_events` newest events; NULL if there is none.
            beyond = "seq <= (SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?)"
            count = self._forget(beyond + kept, [rule.max_events, *rule.keep])
            schedule.looked_for_too_many(finished=count < _BITE)
        if schedule.too_old_due() and rule.max_age is not None:
            count = self._forget("time < ?" + kept, [self._clock.time() - rule.max_age, *rule.keep])
            schedule.looked_for_too_old(finished=count < _BITE)
        return schedule.pause()

    def _forget(self, condition: str, arguments: Sequence[Any]) -> int:
        # `condition` is made of constants of this file and question marks only.
        chosen = f"SELECT seq FROM events WHERE {condition} ORDER BY seq LIMIT {_BITE}"  # noqa: S608
        with self._transaction():
            count = self._db.execute(f"DELETE FROM events WHERE seq IN ({chosen})", arguments).rowcount  # noqa: S608
        self.pruned += count
        return count

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Generator[None]:
        # IMMEDIATE: another process that writes is waited for here, where nothing has been read yet.
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        finally:
            # After a full disk SQLite may have rolled back already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def _cut(places: Sequence[int], batches: Sequence[Sequence[Record]]) -> list[tuple[int, ...]]:
    cut: list[tuple[int, ...]] = []
    start = 0
    for batch in batches:
        cut.append(tuple(places[start : start + len(batch)]))
        start += len(batch)
    return cut


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
