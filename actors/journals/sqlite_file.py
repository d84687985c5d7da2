"""The file of the SQLite journal: where it lies, how it is made and opened, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

import platformdirs

from ...runtime.errors import StoreCorrupt, StoreError, StoreUnavailable

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x64737078  # "dspx": tells our files from other programs' databases

# `counter` and not AUTOINCREMENT: places are handed out once a transaction, not once a row.
# Indexes end with the row's id, which is seq, so each also answers in the order of the log.
_SCHEMA: Final = (
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, time REAL NOT NULL,
        trace_id TEXT, body TEXT NOT NULL)""",
    "CREATE INDEX events_type ON events (type)",
    "CREATE INDEX events_time ON events (time)",
    "CREATE INDEX events_trace ON events (trace_id) WHERE trace_id IS NOT NULL",
    "CREATE TABLE counter (next INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (1)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

# Above this size a full check would make every start slow; damage then shows where it is met.
_CHECK_WHOLE_BELOW: Final = 32 * 2**20
_PAGES_BETWEEN_CHECKPOINTS: Final = 4000


def default_path(app: str) -> Path:
    """Where the event log of an application lies: ``<user state dir>/dspex/<app>.db``.

    Raises:
        StoreError: the name is empty or would leave the directory.
    """
    if not app or app != Path(app).name or app in (".", ".."):
        raise StoreError(f"expected an application name that can be a file's name, got {app!r}", key="app")
    return platformdirs.user_state_path("dspex", appauthor=False) / f"{app}.db"


def create_private(path: Path) -> None:
    """Make the file, and its directory, for their owner only; what exists is left as it is.

    Raises:
        StoreUnavailable: it cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its side files the permissions of this one. O_EXCL: to open a file that exists and close
        # it again would drop this process's POSIX locks on it, which another journal here may rely on
        # (SQLite, "How to corrupt an SQLite database file", 2.2).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnavailable(
            f"expected a file that can be written, got {error.strerror}, at {path}", path=str(path), cause="open"
        ) from error


def connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open the file, without a look inside.

    Args:
        path: the file.
        busy_timeout: seconds to wait for another process to finish writing.
    """
    try:
        return sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise translated(error, path) from error


def prepare(connection: sqlite3.Connection, path: Path, *, power_safe: bool, max_bytes: int | None) -> None:
    """Check the file, make its tables if it is new, and set how it is written.

    Raises:
        StoreCorrupt: it is no database, another program's, or damaged.
        StoreError: a newer dspex wrote it.
        StoreUnavailable: it cannot be written.
    """
    try:
        _check(connection, path)
        _use_wal(connection)
        _make_tables(connection)
        # NORMAL: a commit is handed to the operating system, which outlives the process; a checkpoint is forced
        # to the disk. FULL: each commit is forced to the disk.
        connection.execute(f"PRAGMA synchronous = {'FULL' if power_safe else 'NORMAL'}")
        if power_safe:
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_BETWEEN_CHECKPOINTS}")
        if max_bytes is not None:
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_size)}")
    except sqlite3.Error as error:
        raise translated(error, path) from error


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if tables and owner != APPLICATION_ID:
        raise corrupt(path, "a database of another program")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"expected an event log of version {SCHEMA_VERSION} or older, got version {version}, at {path}; "
            f"a newer dspex wrote it: use that one, or another path",
            path=str(path),
            expected=SCHEMA_VERSION,
            got=version,
        )
    if path.stat().st_size < _CHECK_WHOLE_BELOW:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise corrupt(path, verdict)


def _use_wal(connection: sqlite3.Connection) -> None:
    # Two processes that open a new file at once collide here, and SQLite does not wait: we do, on a lock.
    for _ in range(100):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def corrupt(path: Path, what: str) -> StoreCorrupt:
    """The error for a file that is not what it should be; the file itself is never touched."""
    return StoreCorrupt(
        f"expected an event log, got {what}, at {path}; nothing was changed: move the file away to begin a new "
        f"log, or restore a copy (`sqlite3 FILE .recover` saves what can be read)",
        path=str(path),
    )


_CAUSES: Final = {
    sqlite3.SQLITE_BUSY: ("locked", "a file that another process kept locked for too long"),
    sqlite3.SQLITE_LOCKED: ("locked", "a file that was locked for too long"),
    sqlite3.SQLITE_FULL: ("full", "a full disk, or a log at its own size limit"),
    sqlite3.SQLITE_READONLY: ("readonly", "a file that may only be read"),
    sqlite3.SQLITE_CANTOPEN: ("open", "a file that cannot be opened"),
    sqlite3.SQLITE_IOERR: ("io", "an input/output error"),
}


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """Our error for one of SQLite's."""
    code = _primary_code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(path, str(error))
    cause, what = _CAUSES.get(code, ("other", "an error"))
    return StoreUnavailable(
        f"expected an event log that works, got {what} ({error}), at {path}", path=str(path), cause=cause
    )


def _primary_code(error: sqlite3.Error) -> int:
    # Errors of Python's own module, such as a closed connection, carry no code.
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
