"""The SQLite file of runs: opened when it is first used, its owner's only, one transaction at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...runtime.errors import StoreCorrupt, StoreError, StoreUnavailable
from ..journals.sqlite_file import create_private

APPLICATION_ID: Final = 0x64737072  # "dspr": tells our files from other programs' databases
SCHEMA_VERSION: Final = 2
_BUSY_TIMEOUT: Final = 5.0
_MANY: Final = 250
"""Rows that are written promptly before the log is brought into the file with the next transaction."""
# Apart: it holds the dataset, and to change a row is to write all of it.
_PLANS: Final = "CREATE TABLE plans (run TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE, plan TEXT NOT NULL)"
_SCHEMA: Final = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, progress TEXT NOT NULL,
        paid TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, wish TEXT,
        owner TEXT, token TEXT, heartbeat REAL NOT NULL)""",
    _PLANS,
    """CREATE TABLE entries (
        seq INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, kind TEXT NOT NULL,
        key TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (run, kind, key))""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_FROM_1: Final = (
    _PLANS,
    "INSERT INTO plans SELECT id, plan FROM runs",
    "ALTER TABLE runs DROP COLUMN plan",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_STEPS: Final = {0: _SCHEMA, 1: _FROM_1}
"""What is to be done to a file of each older version; 0 is a new one."""
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class RunFile:
    """The file of runs, for any thread; may block.

    Args:
        path: where it lies; None keeps it in memory, as long as this object lives.

    Attributes:
        path: the same.
        lock: who holds it is the only one of this process that reads or writes.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._prompt: sqlite3.Connection | None = None  # never waits
        self._brought = 0  # rows of it that were brought into the file

    @property
    def opened(self) -> bool:
        """Whether it was used, and is not closed."""
        return self._db is not None

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A connection to read with.

        Raises:
            StoreCorrupt: it is no file of runs, or is damaged.
            StoreUnavailable: it cannot be used.
        """
        with self.lock, self._translated():
            yield self._open()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """A connection to write with: all of it, or nothing if an exception comes. Raises as :meth:`reading`."""
        with self.reading() as db:
            self._bring(db)
            with _whole(db):
                yield db

    @contextmanager
    def transaction_now(self) -> Generator[sqlite3.Connection]:
        """The same for a thread that must not wait: for nobody who writes, and for no disk.

        What is written is handed to the operating system; to bring it from the log into the file, which waits for the
        disk, is left to :meth:`transaction`.

        Raises:
            StoreUnavailable: as :meth:`reading`, or it would have to wait; nothing was written.
            StoreCorrupt: as :meth:`reading`.
        """
        if not self.lock.acquire(blocking=False):
            raise self._in_use()
        try:
            if self._prompt is None:
                raise self._in_use()
            with self._translated(), _whole(self._prompt):
                yield self._prompt
        finally:
            self.lock.release()

    def close(self) -> None:
        """Let go of it; what was in memory is gone."""
        with self.lock:
            for db in (self._prompt, self._db):
                if db is not None:
                    db.close()
            self._db = self._prompt = None
            self._brought = 0

    def _bring(self, db: sqlite3.Connection) -> None:
        # Before the transaction, which then begins the log anew: that waits for the disk as well, and no prompt one
        # is to do it.
        written = 0 if self._prompt is None else self._prompt.total_changes
        if self.path is not None and written - self._brought >= _MANY:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._brought = written

    def _open(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        if self.path is not None:
            create_private(self.path)
        db = self._connected(_BUSY_TIMEOUT)
        try:
            self._prepare(db)
            prompt = self._prompt_beside(db)
        except (sqlite3.Error, StoreError):
            db.close()
            raise
        self._db, self._prompt = db, prompt
        return db

    def _prompt_beside(self, db: sqlite3.Connection) -> sqlite3.Connection | None:
        if self.path is None:
            return db
        (mode,) = db.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":  # some file systems do not have it: there each commit waits for the disk
            return None
        prompt = self._connected(0.0)
        _set_up(prompt)
        prompt.execute("PRAGMA wal_autocheckpoint = 0")
        return prompt

    def _connected(self, patience: float) -> sqlite3.Connection:
        return sqlite3.connect(self.path or ":memory:", timeout=patience, isolation_level=None, check_same_thread=False)

    def _prepare(self, db: sqlite3.Connection) -> None:
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (owner,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if tables and owner != APPLICATION_ID:
            raise self._corrupt("a database of another program")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"expected a file of runs of version {SCHEMA_VERSION} or older, got version {version}, at {self.path}; "
                "a newer dspex wrote it",
                path=str(self.path),
                expected=SCHEMA_VERSION,
                got=version,
            )
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for statement in _STEPS.get(version, ()):  # none: it is as it should be, by another process perhaps
            db.execute(statement)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
        _set_up(db)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # Errors of Python's own module, such as a closed connection, carry no code.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise self._corrupt(str(error)) from error
            raise StoreUnavailable(
                f"expected a file of runs that works, got {error}, at {self.path}", path=str(self.path), cause="sqlite"
            ) from error

    def _in_use(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"expected a file of runs that nobody uses at the moment, got one in use, at {self.path}",
            path=str(self.path),
            cause="in_use",
        )

    def _corrupt(self, what: str) -> StoreCorrupt:
        return StoreCorrupt(
            f"expected a file of runs, got {what}, at {self.path}; nothing was changed", path=str(self.path)
        )


@contextmanager
def _whole(db: sqlite3.Connection) -> Generator[None]:
    # IMMEDIATE: another process that writes is waited for here, where nothing has been read yet.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _set_up(db: sqlite3.Connection) -> None:
    # A commit is handed to the operating system, which outlives the process, kill -9 included.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
