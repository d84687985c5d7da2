"""The file of runs, beside the event log: what each run needs to begin again, and everything it has paid for.

It holds model answers and examples in clear, so it is its owner's only. Several processes may use it at once; a run
belongs to one of them, by lease: it is taken over when that process is dead, and what the old owner might still
write is refused (its token no longer fits).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...runtime.clock import Clock, SystemClock
from ...runtime.errors import RunConflict, RunError, did_you_mean
from .file import RunFile
from .messages import FINAL, OVER, Entry, EntryKind, Paid, RunState, Wish
from .owner import Owner

_CANCEL: Final = (
    "UPDATE runs SET state = 'cancelled', owner = NULL, token = NULL, wish = NULL, updated = ? WHERE id = ?"
)
_ROW: Final = (
    "SELECT id, kind, state, plan, progress, paid, created, updated, wish, owner, heartbeat "
    "FROM runs JOIN plans ON plans.run = runs.id"
)


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
        self._file = RunFile(path)
        self._writers: dict[str, object] = {}

    @property
    def owner(self) -> Owner:
        """Who works on runs through this object."""
        if self._given is None:
            self._given = Owner.myself()
        return self._given

    # -- runs --------------------------------------------------------------------------------------

    def begin(
        self, id: str, kind: str, plan: Mapping[str, Any], *, fork: str | None = None, again: bool = False
    ) -> StoredRun:
        """Take a run, for as long as this process lives, and write its plan down; one that is over stays as it is.

        One that was to be cancelled when its owner died is cancelled now.

        Args:
            id: the run's id.
            kind: what kind of run.
            plan: what it needs to begin again.
            fork: an older run whose model answers a new one begins with. Only answers to the very same requests are
                used again, so code, data and settings may differ.
            again: whether one that failed, or whose budget was spent, is to go on.

        Raises:
            RunConflict: another process works on it (``owner``), or it is a run of another kind.
            RunError: the run is new, and the one to fork does not exist.
            StoreError: the file cannot be used.
        """
        with self._file.transaction() as db:
            found = self._find(db, id)
            if found is None:
                if fork is not None:
                    self.get(fork)
                self._insert(db, id, kind, fork)
            elif found.kind != kind:
                raise RunConflict(
                    f"expected a run of kind {kind}, got {found.kind}, at {id}", run_id=id, kind=found.kind
                )
            else:
                self._refuse_if_owned(found)
            if found is not None and again and found.state in OVER - FINAL:
                db.execute("UPDATE runs SET state = 'running' WHERE id = ?", (id,))
            elif found is not None and found.state in OVER:
                return found
            self._take(db, id, plan)
            run = self._find(db, id)
        assert run is not None
        return run

    def _insert(self, db: sqlite3.Connection, id: str, kind: str, fork: str | None) -> None:
        now = self._clock.time()
        db.execute(
            "INSERT INTO runs VALUES (?, ?, 'running', '{}', ?, ?, ?, NULL, NULL, NULL, 0)",
            (id, kind, json.dumps(Paid().to_dict()), now, now),
        )
        db.execute("INSERT INTO plans VALUES (?, '{}')", (id,))
        db.execute(
            "INSERT INTO entries (run, kind, key, value) "
            "SELECT ?, kind, key, value FROM entries WHERE run = ? AND kind = 'call' ORDER BY seq",
            (id, fork),
        )

    def _take(self, db: sqlite3.Connection, id: str, plan: Mapping[str, Any]) -> None:
        # Not the state: it stays paused over a crash. What was wished stays with its owner, whose journal began anew.
        db.execute(
            "UPDATE runs SET owner = ?, token = ?, heartbeat = ?, "
            "wish = CASE WHEN wish = 'cancel' OR token = ? THEN wish END WHERE id = ?",
            (self.owner.to_json(), self.owner.token, self._clock.time(), self.owner.token, id),
        )
        db.execute("UPDATE plans SET plan = ? WHERE run = ?", (json.dumps(plan), id))
        db.execute(f"{_CANCEL} AND wish = 'cancel'", (self._clock.time(), id))

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
        with self._file.reading() as db:
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
        with self._file.reading() as db:
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
        with self._file.transaction() as db:
            run = self.get(id)
            if run.state in OVER:
                raise RunError(f"expected a run that goes on, got {id!r}, which is over: {run.state}", run_id=id)
            if wish == "cancel" and run.owner is None:
                db.execute(_CANCEL, (self._clock.time(), id))
            else:
                db.execute("UPDATE runs SET wish = ? WHERE id = ?", (wish, id))
        return self.get(id)

    def forget(self, older: float, *, spare: str | None = None) -> int:
        """Forget runs that are over and were last written before ``older`` (epoch seconds); how many.

        Args:
            older: that time.
            spare: the id of one that stays however old it is.
        """
        marks = ", ".join("?" * len(OVER))
        with self._file.transaction() as db:
            return db.execute(
                f"DELETE FROM runs WHERE updated < ? AND id IS NOT ? AND state IN ({marks})",  # noqa: S608 - only marks
                (older, spare, *sorted(OVER)),
            ).rowcount

    # -- the journal of a run ------------------------------------------------------------------------

    def keys(self, id: str) -> set[tuple[str, str]]:
        """Kind and key of everything that a run has recorded."""
        with self._file.reading() as db:
            return set(db.execute("SELECT kind, key FROM entries WHERE run = ?", (id,)))

    def read(self, id: str, kind: EntryKind, key: str) -> str | None:
        """The value under a key, or None."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT value FROM entries WHERE run = ? AND kind = ? AND key = ?", (id, kind, key)
            ).fetchone()
        return None if row is None else row[0]

    def entries(self, id: str, kind: EntryKind) -> list[Entry]:
        """All entries of a kind, in the order in which they were first written."""
        with self._file.reading() as db:
            rows = db.execute("SELECT key, value FROM entries WHERE run = ? AND kind = ? ORDER BY seq", (id, kind))
            return [Entry(kind, key, value) for key, value in rows]

    def take_pen(self, id: str) -> object:
        """Be the only one here who writes to a run: who took the pen before is refused from now on.

        A journal that was killed may have left a thread that is about to write: it has written before this returns, or
        never will.
        """
        with self._file.lock:
            pen = self._writers[id] = object()
        return pen

    def write(
        self,
        id: str,
        entries: Sequence[Entry] = (),
        *,
        pen: object | None = None,
        paid: Paid | None = None,
        progress: Mapping[str, Any] | None = None,
        state: RunState | None = None,
        wait: bool = True,
    ) -> Wish | None:
        """Write to one's own run, all or nothing; also a sign of life. A given ``pen`` must be the last one taken.

        Without ``wait`` it is quick, or refused: it waits neither for others who use the file nor for the disk.

        Returns:
            What somebody has asked of the run meanwhile; it is told once, but a cancel until the run is over: it
            must not be lost with a process that heard of it.

        Raises:
            RunConflict: the run has another owner now, or the pen is another's.
            StoreError: the file cannot be written.
        """
        now = self._clock.time()
        with self._file.transaction() if wait else self._file.transaction_now() as db:
            if pen is not None and self._writers.get(id) is not pen:
                raise RunConflict(f"expected the journal of the run {id!r}, got one that was replaced", run_id=id)
            row = db.execute("SELECT wish, token, owner FROM runs WHERE id = ?", (id,)).fetchone()
            if row is None or row[1] != self.owner.token:
                owner = "nobody" if row is None or row[2] is None else str(Owner.from_json(row[2]))
                raise RunConflict(f"expected to own the run {id!r}, got {owner} as its owner", run_id=id, owner=owner)
            db.executemany(
                "INSERT INTO entries (run, kind, key, value) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (run, kind, key) DO UPDATE SET value = excluded.value",
                [(id, entry.kind, entry.key, entry.value) for entry in entries],
            )
            changes: dict[str, Any] = {"heartbeat": now, "updated": now}
            if row[0] != "cancel" or state in OVER:
                changes["wish"] = None
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
        with self._file.transaction() as db:
            db.execute(
                f"UPDATE runs SET owner = NULL, token = NULL WHERE token = ?{which}",  # noqa: S608 - constants
                (self.owner.token, *arguments),
            )

    def close(self) -> None:
        """Let go of all runs and of the file; what was in memory is gone. Closing again does nothing."""
        if self._file.opened:
            try:
                self.release()
            finally:
                self._file.close()


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
