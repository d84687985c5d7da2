"""The journal in a SQLite file: what was acknowledged survives the process, however it ends.

One thread writes (:mod:`~dspex.actors.journals.writer`); readers have connections of their own and see the log as of
their last look. Several processes may append to one file: each waits its turn, and the file hands out the places.

What ``durability`` promises of an acknowledged event:

* ``"process"`` (the default): it survives the end of the process, ``kill -9`` included, because the commit has
  been handed to the operating system. A power cut or a crash of the *machine* may lose the last moments (at most
  what was written since the last checkpoint), never the file.
* ``"power"``: it survives those too; each commit waits for the disk.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Literal, TypeAlias, get_args

from ...runtime.clock import Clock, SystemClock
from ...runtime.errors import EventInvalid, EventNotFound, ForkedProcess, StoreError, StoreUnavailable, did_you_mean
from ..events.codec import decode, encode_all, fields_of
from ..events.kinds import Event
from ..events.query import EventPage, EventQuery, Row, select
from ..events.retention import Retention
from ..journal import JournalStats
from .sqlite_file import connect, create_private, prepare, translated
from .sqlite_log import SqliteLog
from .sqlite_query import statement
from .writer import GroupWriter

Durability: TypeAlias = Literal["process", "power"]

DURABILITIES: Final[tuple[str, ...]] = get_args(Durability)
_MAX_IDLE_READERS: Final = 4
_ROWS_A_LOOK: Final = 1000


class SqliteJournal:
    """A :class:`~dspex.actors.journal.Journal` in a SQLite file.

    Args:
        path: the file; it and its directory are made for their owner only if they are not there.
        retention: what it forgets by itself; by default all but the last million events. Space is used again,
            the file does not shrink.
        durability: ``"process"`` or ``"power"``, see the module.
        max_bytes: the most bytes the file may grow to; then appending fails until something is forgotten.
        busy_timeout: seconds to wait for another process that writes.
        clock: where the age of events is read from.

    Raises:
        StoreCorrupt: the file is no database, another program's, or damaged. Nothing in it is changed.
        StoreUnavailable: it cannot be made or written.
        StoreError: a newer dspex wrote it, or an argument is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retention: Retention | None = None,
        durability: Durability = "process",
        max_bytes: int | None = None,
        busy_timeout: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        if durability not in DURABILITIES:
            hint = did_you_mean(str(durability), DURABILITIES)
            raise StoreError(f"expected durability 'process' or 'power', got {durability!r}{hint}", key="durability")
        self._path = Path(path).absolute()
        self._busy_timeout = busy_timeout
        self._process = os.getpid()
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._closed = threading.Event()
        self._invalid = 0
        create_private(self._path)
        connection = connect(self._path, busy_timeout)
        try:
            prepare(connection, self._path, power_safe=durability == "power", max_bytes=max_bytes)
        except StoreError:
            connection.close()
            raise
        rule = retention or Retention(max_events=1_000_000)
        self._log = SqliteLog(connection, self._path, rule, clock or SystemClock())
        self._writer = GroupWriter(self._log, f"dspex-journal-{self._path.stem}")

    def append(self, events: Sequence[Event]) -> Future[tuple[int, ...]]:
        """Store a batch, whole or not at all. Returns at once; see the port."""
        self._check_process()
        try:
            records = encode_all(events)
        except EventInvalid as error:
            self._invalid += len(events)
            refused: Future[tuple[int, ...]] = Future()
            refused.set_exception(error)
            return refused
        return self._writer.append(records)

    def query(self, query: EventQuery) -> EventPage:
        """Answer a query. May block on the disk; appends go on meanwhile."""
        self._check_process()
        return select(self._rows(query), query)

    def _rows(self, query: EventQuery) -> Iterator[Row]:
        # Look by look, not one long read: that would keep SQLite from reusing its side file.
        cursor = query.cursor
        size = min(query.limit + 1, _ROWS_A_LOOK)
        while True:
            sql, arguments = statement(query, cursor, size)
            with self._reader() as reader:
                rows = [Row(seq, body) for seq, body in reader.execute(sql, arguments)]
            yield from rows
            if len(rows) < size:
                return
            cursor = rows[-1].seq
            size = _ROWS_A_LOOK

    def get(self, event_id: str) -> Event:
        """The event with this id."""
        self._check_process()
        with self._reader() as reader:
            row = reader.execute("SELECT body FROM events WHERE id = ?", (event_id,)).fetchone()
        if row is None:
            raise EventNotFound(f"expected the id of an event, got {event_id!r}, which no event has", id=event_id)
        return decode(fields_of(row[0]))

    def prune(self, before: float, types: Sequence[str] = ()) -> Future[int]:
        """Forget events older than ``before``. Returns at once; see the port."""
        self._check_process()
        return self._writer.prune(before, tuple(types))

    def stats(self) -> JournalStats:
        """What the journal holds and has done. Counts the events, so it may take a moment on a large log."""
        self._check_process()
        with self._reader() as reader:
            (count,) = reader.execute("SELECT count(*) FROM events").fetchone()
            oldest = reader.execute("SELECT time FROM events ORDER BY seq ASC LIMIT 1").fetchone()
            newest = reader.execute("SELECT time FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return JournalStats(
            events=count,
            bytes=sum(file.stat().st_size for file in files if file.exists()),
            oldest=oldest[0] if oldest else None,
            newest=newest[0] if newest else None,
            appended=self._log.appended,
            pruned=self._log.pruned,
            refused=self._writer.refused + self._invalid,
            waiting=self._writer.waiting,
            path=str(self._path),
        )

    def close(self) -> None:
        """Store what waits, then close the file; closing again does nothing."""
        self._check_process()
        self._closed.set()
        self._writer.close()
        while True:
            try:
                self._readers.get_nowait().close()
            except Empty:
                return

    @contextmanager
    def _reader(self) -> Generator[sqlite3.Connection]:
        if self._closed.is_set():
            raise StoreUnavailable("expected an open journal, got a closed one", path=str(self._path), cause="closed")
        try:
            reader = self._readers.get_nowait()
        except Empty:
            reader = connect(self._path, self._busy_timeout)
            reader.execute("PRAGMA query_only = ON")
        try:
            yield reader
        except sqlite3.Error as error:
            reader.close()
            raise translated(error, self._path) from error
        if self._closed.is_set() or self._readers.qsize() >= _MAX_IDLE_READERS:
            reader.close()
        else:
            self._readers.put(reader)

    def _check_process(self) -> None:
        # SQLite forbids a connection to cross a fork, and the writer's thread does not cross it.
        if os.getpid() != self._process:
            raise ForkedProcess(
                f"expected the process that opened the journal, got a forked child, at {self._path}; "
                f"open the file again in the child",
                path=str(self._path),
            )
