"""The answers on disk: one SQLite file, written and read by whoever holds it, one operation at a time.

Used from threads that may block. Ages are counted by the wall clock, as the file outlives the process; several
processes may use one file.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...runtime.errors import StoreCorrupt, StoreError, StoreUnavailable
from ..journals.sqlite_file import create_private

APPLICATION_ID: Final = 0x64737063  # "dspc": tells our files from other programs' databases
SCHEMA_VERSION: Final = 1

_SCHEMA: Final = (
    # `value` as bytes and with a sum over key and value: SQLite has none, and a wrong answer is worse than none.
    """CREATE TABLE answers (
        key TEXT PRIMARY KEY, created REAL NOT NULL, sum INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX answers_created ON answers (created)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
# What goes at once, so that no look-up waits long behind it.
_BITE: Final = 1000
# Another process writes for moments only; and a look-up has better things to do than to wait for a cache.
_BUSY_TIMEOUT: Final = 0.5
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CAUSES: Final = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_CANTOPEN: "open",
    sqlite3.SQLITE_IOERR: "io",
}


class AnswerFile:
    """Answers by key, each with the moment it was written.

    Args:
        path: the file; it and its folder are made for their owner only if they are not there.
        max_bytes: with more than this the oldest answers go.

    Raises:
        StoreCorrupt: it is no database, another program's, of another version, or damaged.
        StoreUnavailable: it cannot be made or opened.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        create_private(path)
        with self._translated():
            self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            with self._translated():
                self._prepare()
        except StoreError:
            self._db.close()
            raise
        self._identity = self._file_identity()

    def _prepare(self) -> None:
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (owner,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and (owner, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise self._corrupt("a database of another program or version")
        self._db.execute("PRAGMA journal_mode = WAL")
        # What a power cut takes is asked for again; the file itself is safe.
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            self._make_tables()

    def _make_tables(self) -> None:
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:  # else another process was faster
                for statement in _SCHEMA:
                    self._db.execute(statement)

    def read(self, keys: Sequence[str], since: float, now: float) -> dict[str, tuple[str, float]]:
        """The answers that were written after ``since`` and not later than ``now``, each with that moment.

        Raises:
            StoreCorrupt, StoreUnavailable: the file cannot be read.
        """
        found: dict[str, tuple[str, float]] = {}
        with self._translated():
            self._check_place()
            for key in keys:
                query = "SELECT value, sum, created FROM answers WHERE key = ? AND created > ? AND created <= ?"
                row = self._db.execute(query, (key, since, now)).fetchone()
                if row is not None:
                    found[key] = (self._checked(key, row[0], row[1]), row[2])
        return found

    def _checked(self, key: str, value: object, expected: object) -> str:
        if not isinstance(value, bytes) or _sum(key, value) != expected:
            raise self._corrupt("an answer that does not fit its check sum")
        return value.decode("utf-8", "surrogatepass")

    def write(self, answers: Mapping[str, str], now: float) -> None:
        """Keep answers, in the place of older ones.

        Raises:
            StoreCorrupt, StoreUnavailable: the file cannot be written; nothing of this was.
        """
        encoded = {key: value.encode("utf-8", "surrogatepass") for key, value in answers.items()}
        rows = [(key, now, _sum(key, value), value) for key, value in encoded.items()]
        with self._translated():
            self._check_place()
            with self._transaction():
                self._db.executemany(
                    "INSERT OR REPLACE INTO answers (key, created, sum, value) VALUES (?, ?, ?, ?)", rows
                )

    def forget(self, since: float) -> int:
        """Forget answers not written after ``since``, then the oldest while the file is too large.

        Returns:
            How many went for want of room.

        Raises:
            StoreCorrupt, StoreUnavailable: the file cannot be written.
        """
        evicted = 0
        with self._translated():
            chosen = "SELECT key FROM answers WHERE created <= ? ORDER BY created LIMIT ?"
            while self._delete(chosen, (since, _BITE)) == _BITE:
                pass
            while self._taken() > self._max_bytes:
                (count,) = self._db.execute("SELECT count(*) FROM answers").fetchone()
                # A tenth at a time: not at every answer anew.
                gone = self._delete("SELECT key FROM answers ORDER BY created LIMIT ?", (min(_BITE, -(-count // 10)),))
                evicted += gone
                if not gone:
                    break
        return evicted

    def _delete(self, chosen: str, arguments: tuple[float, ...]) -> int:
        # `chosen` is a constant of this file.
        with self._transaction():
            return self._db.execute(f"DELETE FROM answers WHERE key IN ({chosen})", arguments).rowcount  # noqa: S608

    def clear(self) -> None:
        """Forget everything; the space is given back.

        Raises:
            StoreCorrupt, StoreUnavailable: the file cannot be written.
        """
        with self._translated():
            self._check_place()
            with self._transaction():
                self._db.execute("DELETE FROM answers")
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def size(self) -> int:
        """The bytes that answers take, free pages not counted.

        Raises:
            StoreCorrupt, StoreUnavailable: the file cannot be read.
        """
        with self._translated():
            return self._taken()

    def _taken(self) -> int:
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._db.execute("PRAGMA page_size").fetchone()
        taken: int = (pages - free) * size
        return taken

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # -- below -----------------------------------------------------------------------------------

    def _check_place(self) -> None:
        if self._file_identity() != self._identity:
            raise self._unavailable("a file that was moved or deleted", "moved")

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _transaction(self) -> Generator[None]:
        # IMMEDIATE: another process that writes is waited for here, where nothing has been read yet.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            # After a full disk SQLite may have rolled back already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # Errors of Python's own module, such as a closed connection, carry no code.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _DAMAGED:
                raise self._corrupt(str(error)) from error
            raise self._unavailable(str(error), _CAUSES.get(code, "other")) from error

    def _corrupt(self, what: str) -> StoreCorrupt:
        return StoreCorrupt(f"expected a file of kept answers, got {what}, at {self.path}", path=str(self.path))

    def _unavailable(self, what: str, cause: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"expected a file of kept answers that works, got {what}, at {self.path}", path=str(self.path), cause=cause
        )


def _sum(key: str, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key.encode("utf-8", "surrogatepass")))
