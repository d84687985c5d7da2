"""The file of runs, beside the event log: what each run needs to begin again, and everything it has paid for.

It holds model answers and examples in clear, so it is its owner's only. Several processes may use it at once; a run
belongs to one of them, by lease: it is taken over when that process is dead, and what the old owner might still
write is refused (its token no longer fits).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..runtime.clock import Clock, SystemClock
from ..runtime.errors import RunConflict, RunError, StoreCorrupt, StoreError, StoreUnavailable, did_you_mean
from .journals.sqlite_file import create_private
from .run_messages import FINAL, OVER, Entry, EntryKind, Paid, RunState, Wish
from .run_owner import Owner

APPLICATION_ID: Final = 0x64737072  # "dspr": tells our files from other programs' databases
SCHEMA_VERSION: Final = 1
_BUSY_TIMEOUT: Final = 5.0
_SCHEMA: Final = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, plan TEXT NOT NULL, progress TEXT NOT NULL,
        paid TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, wish TEXT,
        owner TEXT, token TEXT, heartbeat REAL NOT NULL)""",
    """CREATE TABLE entries (
        seq INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, kind TEXT NOT NULL,
        key TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (run, kind, key))""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_ROW: Final = "SELECT id, kind, state, plan, progress, paid, created, updated, wish, owner, heartbeat FROM runs"
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as the file has it.

    Attributes:
        id: its id.
        kind: ``optimization``, ``evaluation``...
        state: as it was last written; ``orphaned`` if it was at work and its process is dead.
        plan: JSON: what it needs to begin again.
        progress: JSON: how far it is.
        paid: what its model calls came to.
        created, updated: epoch seconds.
        wish: what somebody asked of it and it has not seen yet.
        owner: the living process that works on it, or None.
    """

    id: str
    kind: str
    state: RunState
    plan: Mapping[str, Any] = field(repr=False)
    progress: Mapping[str, Any]
    paid: Paid
    created: float
    updated: float
    wish: Wish | None
    owner: Owner | None


class RunStore:
    """The runs of an application, in a file or in memory; opened when it is first used. For any thread; may block.

    Args:
        path: the file; it and its folder are made for their owner only. None keeps the runs in memory, as long as
            this object lives.
        clock: whose wall time is written down.
        owner: who works on runs through this object; this process if not given.
    """

    def __init__(self, path: Path | None, *, clock: Clock | None = None, owner: Owner | None = None) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._given = owner
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None

    @property
    def owner(self) -> Owner:
        """Who works on runs through this object."""
        if self._given is None:
            self._given = Owner.myself()
        return self._given

    # -- runs --------------------------------------------------------------------------------------

    def begin(self, id: str, kind: str, plan: Mapping[str, Any]) -> StoredRun:
        """Take a run, for as long as this process lives, and write its plan down; a final result stays as it is.

        Raises:
            RunConflict: another process works on it (``owner``), or it is a run of another kind.
            StoreError: the file cannot be used.
        """
        now = self._clock.time()
        with self._transaction() as db:
            found = self._find(db, id)
            if found is None:
                db.execute(
                    "INSERT INTO runs VALUES (?, ?, 'running', ?, '{}', ?, ?, ?, NULL, NULL, NULL, 0)",
                    (id, kind, json.dumps(plan), json.dumps(Paid().to_dict()), now, now),
                )
            elif found.kind != kind:
                raise RunConflict(
                    f"expected a run of kind {kind}, got {found.kind}, at {id}", run_id=id, kind=found.kind
                )
            else:
                self._refuse_if_owned(found)
            if found is None or found.state not in FINAL:
                # Not the state: it stays paused over a crash.
                db.execute(
                    "UPDATE runs SET owner = ?, token = ?, heartbeat = ?, plan = ?, wish = NULL WHERE id = ?",
                    (self.owner.to_json(), self.owner.token, now, json.dumps(plan), id),
                )
            run = self._find(db, id)
        assert run is not None
        return run

    def _refuse_if_owned(self, run: StoredRun) -> None:
        owner = run.owner
        if owner is not None and owner.token != self.owner.token:
            raise RunConflict(
                f"expected a run that nobody works on, got {run.id!r}, on which {owner} does",
                run_id=run.id,
                owner=str(owner),
            )

    def find(self, id: str) -> StoredRun | None:
        """A run, or None."""
        with self._reading() as db:
            return self._find(db, id)

    def get(self, id: str) -> StoredRun:
        """A run.

        Raises:
            RunError: there is none.
        """
        found = self.find(id)
        if found is None:
            known = [run.id for run in self.runs()]
            raise RunError(
                f"expected the id of a run, got {id!r}, which no run has{did_you_mean(id, known)}", run_id=id
            )
        return found

    def runs(self) -> list[StoredRun]:
        """Every run, newest first."""
        with self._reading() as db:
            now = self._clock.time()
            return [_stored(row, now) for row in db.execute(f"{_ROW} ORDER BY created DESC, id")]

    def _find(self, db: sqlite3.Connection, id: str) -> StoredRun | None:
        row = db.execute(f"{_ROW} WHERE id = ?", (id,)).fetchone()
        return None if row is None else _stored(row, self._clock.time())

    def wish(self, id: str, wish: Wish) -> StoredRun:
        """Ask something of a run that perhaps another process works on; one that nobody works on is cancelled here.

        Raises:
            RunError: there is none, or it is over.
        """
        run = self.get(id)
        if run.state in OVER:
            raise RunError(f"expected a run that goes on, got {id!r}, which is over: {run.state}", run_id=id)
        with self._transaction() as db:
            if wish == "cancel" and run.owner is None:
                db.execute(
                    "UPDATE runs SET state = 'cancelled', owner = NULL, token = NULL, updated = ? WHERE id = ?",
                    (self._clock.time(), id),
                )
            else:
                db.execute("UPDATE runs SET wish = ? WHERE id = ?", (wish, id))
        return self.get(id)

    def fork(self, old: str, new: str) -> int:
        """Begin another run with the model answers of an old one; how many were taken over.

        Only answers to the very same requests are used again, so code, data and settings may differ.

        Raises:
            RunError: there is no such run, or the new one exists and has answers.
        """
        self.get(old)
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM entries WHERE run = ? LIMIT 1", (new,)).fetchone():
                raise RunError(f"expected the id of a new run, got {new!r}, which has begun", run_id=new)
            return db.execute(
                "INSERT INTO entries (run, kind, key, value) "
                "SELECT ?, kind, key, value FROM entries WHERE run = ? AND kind = 'call' ORDER BY seq",
                (new, old),
            ).rowcount

    def forget(self, older: float) -> int:
        """Forget runs that are over and were last written before ``older`` (epoch seconds); how many."""
        marks = ", ".join("?" * len(OVER))
        with self._transaction() as db:
            return db.execute(
                f"DELETE FROM runs WHERE updated < ? AND state IN ({marks})",  # noqa: S608 - only marks are put in
                (older, *sorted(OVER)),
            ).rowcount

    # -- the journal of a run ------------------------------------------------------------------------

    def keys(self, id: str) -> set[tuple[str, str]]:
        """Kind and key of everything that a run has recorded."""
        with self._reading() as db:
            return set(db.execute("SELECT kind, key FROM entries WHERE run = ?", (id,)))

    def read(self, id: str, kind: EntryKind, key: str) -> str | None:
        """The value under a key, or None."""
        with self._reading() as db:
            row = db.execute(
                "SELECT value FROM entries WHERE run = ? AND kind = ? AND key = ?", (id, kind, key)
            ).fetchone()
        return None if row is None else row[0]

    def entries(self, id: str, kind: EntryKind) -> list[Entry]:
        """All entries of a kind, in the order in which they were first written."""
        with self._reading() as db:
            rows = db.execute("SELECT key, value FROM entries WHERE run = ? AND kind = ? ORDER BY seq", (id, kind))
            return [Entry(kind, key, value) for key, value in rows]

    def write(
        self,
        id: str,
        entries: Sequence[Entry] = (),
        *,
        paid: Paid | None = None,
        progress: Mapping[str, Any] | None = None,
        state: RunState | None = None,
    ) -> Wish | None:
        """Write to one's own run, all or nothing; also a sign of life.

        Returns:
            What somebody has asked of the run meanwhile; it is told once.

        Raises:
            RunConflict: the run has another owner now.
            StoreError: the file cannot be written.
        """
        now = self._clock.time()
        with self._transaction() as db:
            row = db.execute("SELECT wish, token, owner FROM runs WHERE id = ?", (id,)).fetchone()
            if row is None or row[1] != self.owner.token:
                owner = "nobody" if row is None or row[2] is None else str(Owner.from_json(row[2]))
                raise RunConflict(f"expected to own the run {id!r}, got {owner} as its owner", run_id=id, owner=owner)
            db.executemany(
                "INSERT INTO entries (run, kind, key, value) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (run, kind, key) DO UPDATE SET value = excluded.value",
                [(id, entry.kind, entry.key, entry.value) for entry in entries],
            )
            changes: dict[str, Any] = {"heartbeat": now, "updated": now, "wish": None}
            if paid is not None:
                changes["paid"] = json.dumps(paid.to_dict())
            if progress is not None:
                changes["progress"] = json.dumps(progress)
            if state is not None:
                changes["state"] = state
                if state in OVER:
                    changes |= {"owner": None, "token": None}
            sets = ", ".join(f"{name} = ?" for name in changes)  # names of this function
            db.execute(f"UPDATE runs SET {sets} WHERE id = ?", (*changes.values(), id))  # noqa: S608
        wish: Wish | None = row[0]
        return wish

    def release(self, id: str | None = None) -> None:
        """Let go of a run, or of all: others need not wait for the lease to end."""
        which, arguments = ("", ()) if id is None else (" AND id = ?", (id,))
        with self._transaction() as db:
            db.execute(
                f"UPDATE runs SET owner = NULL, token = NULL WHERE token = ?{which}",  # noqa: S608 - constants
                (self.owner.token, *arguments),
            )

    def close(self) -> None:
        """Let go of all runs and of the file; what was in memory is gone. Closing again does nothing."""
        with self._lock:
            if self._db is None:
                return
            try:
                self.release()
            finally:
                self._db.close()
                self._db = None

    # -- below -----------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        if self.path is not None:
            create_private(self.path)
        db = sqlite3.connect(
            self.path or ":memory:", timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(db)
        except (sqlite3.Error, StoreError):
            db.close()
            raise
        self._db = db
        return db

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
        if version == 0:  # else another process was faster
            for statement in _SCHEMA:
                db.execute(statement)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
        # A commit is handed to the operating system, which outlives the process, kill -9 included.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with self._lock, self._translated():
            yield self._open()

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._reading() as db:
            # IMMEDIATE: another process that writes is waited for here, where nothing has been read yet.
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

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

    def _corrupt(self, what: str) -> StoreCorrupt:
        return StoreCorrupt(
            f"expected a file of runs, got {what}, at {self.path}; nothing was changed", path=str(self.path)
        )


def _stored(row: Sequence[Any], now: float) -> StoredRun:
    id, kind, state, plan, progress, paid, created, updated, wish, owner, heartbeat = row
    holder = None if owner is None else Owner.from_json(owner)
    if holder is not None and not holder.alive(heartbeat, now):
        holder = None
    if state == "running" and holder is None:
        state = "orphaned"
    return StoredRun(
        id=id,
        kind=kind,
        state=state,
        plan=json.loads(plan),
        progress=json.loads(progress),
        paid=Paid.from_dict(json.loads(paid)),
        created=created,
        updated=updated,
        wish=wish,
        owner=holder,
    )


def runs_path(events: Path) -> Path:
    """Where the runs lie: beside the event log, ``<name>.runs.db`` for ``<name>.db``."""
    return events.with_name(f"{events.name.removesuffix('.db')}.runs.db")
