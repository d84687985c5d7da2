"""The file of runs: one owner each, taken over from the dead, written all or nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from dspex.actors.runs.file import APPLICATION_ID, RunFile
from dspex.actors.runs.messages import Entry, Paid
from dspex.actors.runs.owner import LEASE, Owner, start_time
from dspex.actors.runs.store import RunStore, runs_path
from dspex.runtime.errors import RunConflict, RunError, StoreCorrupt, StoreError, StoreUnavailable

PLAN = {"module": "qa"}
NOBODY = "NULL, NULL, NULL, 0"


class Wall:
    """A wall clock that stands where it is put."""

    now = 1000.0

    def time(self) -> float:
        """Epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """Unused."""
        return 0.0


@pytest.fixture
def wall() -> Wall:
    """A wall clock of the test's own."""
    return Wall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file lies."""
    return tmp_path / "state" / "app.runs.db"


@pytest.fixture
def store(path: Path, wall: Wall) -> Iterator[RunStore]:
    """A file of runs, used by this process."""
    store = RunStore(path, clock=wall)
    yield store
    store.close()


Others: TypeAlias = Callable[..., RunStore]


@pytest.fixture
def other(path: Path, wall: Wall) -> Iterator[Others]:
    """The same file, used by somebody else; another live process of this machine unless told otherwise."""
    me, pid = Owner.myself(), os.getppid()
    facts = {"host": me.host, "space": me.space, "pid": pid, "started": start_time(pid), "token": "other"}
    with ExitStack() as made:

        def make(**owner: Any) -> RunStore:
            store = RunStore(path, clock=wall, owner=Owner(**{**facts, **owner}))
            made.callback(store.close)
            return store

        yield make


def test_the_file_is_its_owners_only(store: RunStore, path: Path) -> None:
    """File and folder are made private; they hold model answers in clear."""
    store.begin("r", "optimization", PLAN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_lies_beside_the_events() -> None:
    """The file is named after that of the events."""
    assert runs_path(Path("/x/app.db")) == Path("/x/app.runs.db")
    assert runs_path(Path("/x/log")) == Path("/x/log.runs.db")


def test_what_was_written_is_read_by_the_next(store: RunStore, path: Path, wall: Wall) -> None:
    """Entries, sums, progress and state come back, entries in the order in which they were first written."""
    store.begin("r", "optimization", PLAN)
    paid = Paid(2, 30, Decimal("0.25"), 1)
    store.write("r", [Entry("call", "b", "1"), Entry("call", "a", "2"), Entry("row", "a", "3")], paid=paid)
    store.write("r", [Entry("call", "b", "4")], progress={"step": 3}, state="paused")
    store.close()
    again = RunStore(path, clock=wall)
    found = again.get("r")
    assert (found.state, found.progress, found.paid, found.plan) == ("paused", {"step": 3}, paid, PLAN)
    assert again.entries("r", "call") == [Entry("call", "b", "4"), Entry("call", "a", "2")]
    assert again.read("r", "row", "a") == "3"
    assert again.read("r", "row", "b") is None
    assert again.keys("r") == {("call", "a"), ("call", "b"), ("row", "a")}
    again.close()


def test_a_living_owner_keeps_its_run(store: RunStore, other: Others) -> None:
    """Somebody else is refused while the owner lives and gives signs of life, and told who it is."""
    theirs = other()
    theirs.begin("r", "optimization", PLAN)
    with pytest.raises(RunConflict, match=f"process {os.getppid()} on"):
        store.begin("r", "optimization", PLAN)
    theirs.close()  # lets go of it
    assert store.begin("r", "optimization", PLAN).owner == store.owner


@pytest.mark.parametrize(
    "owner", [{"pid": 2**22 + 1}, {"started": "another beginning"}], ids=["no such process", "another process"]
)
def test_a_dead_owner_is_followed_at_once(store: RunStore, other: Others, owner: dict[str, Any]) -> None:
    """A process that is gone, or whose number belongs to another one now, owns nothing; what it writes is refused."""
    dead = other(**owner)
    dead.begin("r", "optimization", PLAN)
    assert store.get("r").state == "orphaned"
    assert store.begin("r", "optimization", PLAN).state == "running"
    with pytest.raises(RunConflict, match="expected to own the run 'r'"):
        dead.write("r", [Entry("call", "late", "1")])
    assert store.keys("r") == set()


@pytest.mark.parametrize("where", [{"host": "far away"}, {"space": "pid:[1]"}], ids=["machine", "container"])
def test_an_owner_elsewhere_is_followed_when_it_is_silent(
    store: RunStore, other: Others, wall: Wall, where: dict[str, str]
) -> None:
    """Of a process on another machine, or in another container, only its signs of life are known: the lease."""
    far = other(pid=2**22 + 1, **where)
    far.begin("r", "optimization", PLAN)
    wall.now += LEASE - 1
    far.write("r")
    wall.now += LEASE - 1
    with pytest.raises(RunConflict, match=f"process {2**22 + 1}"):
        store.begin("r", "optimization", PLAN)
    wall.now += 1
    assert store.begin("r", "optimization", PLAN).owner == store.owner


def test_a_wish_comes_too_late_for_a_run_that_is_over(store: RunStore, other: Others) -> None:
    """Who asks is told so; the run stays as it ended, and is not cancelled when it is begun again."""
    store.begin("r", "optimization", PLAN)
    store.write("r", state="failed")
    with pytest.raises(RunError, match="which is over: failed"):
        other().wish("r", "cancel")
    assert store.begin("r", "optimization", PLAN, again=True).state == "running"
    assert store.write("r") is None


def test_a_zombie_is_dead() -> None:
    """A process that has ended, and whose parent has not looked, does not run."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert start_time(process.pid) is not None
    os.kill(process.pid, 9)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet collected
    assert start_time(process.pid) is None
    process.communicate()


def test_an_end_lets_go_and_stays(store: RunStore, other: Others) -> None:
    """A run that is over belongs to nobody; beginning it again changes nothing, unless it failed."""
    for run, state in (("done", "completed"), ("bad", "failed")):
        store.begin(run, "optimization", PLAN)
        store.write(run, state=state)  # type: ignore[arg-type]
        assert store.get(run).owner is None
    theirs = other()
    assert theirs.begin("done", "optimization", {"module": "else"}).plan == PLAN
    assert theirs.begin("bad", "optimization", {"module": "else"}, again=True).owner == theirs.owner
    theirs.close()


def test_a_wish_is_told_once(store: RunStore, other: Others) -> None:
    """What somebody asks of a run at work reaches its owner with its next sign of life."""
    store.begin("r", "optimization", PLAN)
    theirs = other()
    assert theirs.wish("r", "pause").wish == "pause"
    theirs.close()
    assert store.write("r") == "pause"
    assert store.write("r") is None


def test_a_wish_to_cancel_stays_until_it_is_over(store: RunStore) -> None:
    """The owner may die when it has heard of it: then whoever goes on with the run finds it cancelled."""
    store.begin("r", "optimization", PLAN)
    store.wish("r", "cancel")
    assert store.write("r") == "cancel"
    assert store.write("r", state="paused") == "cancel"
    assert store.write("r", state="cancelled") == "cancel"
    assert store.get("r").wish is None


@pytest.mark.parametrize("told", [False, True])
def test_a_run_whose_owner_died_with_a_cancel_is_cancelled(
    store: RunStore, other: Others, path: Path, told: bool
) -> None:
    """Who asked for it need not ask again; what the run had found stays."""
    theirs = other(pid=2**22 + 1)
    theirs.begin("r", "optimization", PLAN)
    theirs.write("r", progress={"step": 3})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE runs SET wish = 'cancel'")  # while it was alive
    if told:
        assert theirs.write("r") == "cancel"
    found = store.begin("r", "optimization", PLAN)
    assert (found.state, found.wish, found.owner, found.progress) == ("cancelled", None, None, {"step": 3})
    theirs.close()


def test_other_wishes_end_with_the_owner(store: RunStore, other: Others) -> None:
    """A journal that is restarted finds what was asked meanwhile; a new owner was started by somebody who knows."""
    store.begin("r", "optimization", PLAN)
    store.wish("r", "pause")
    assert store.begin("r", "optimization", PLAN).wish == "pause"
    store.release("r")
    theirs = other()
    assert theirs.begin("r", "optimization", PLAN).wish is None
    theirs.close()


def test_a_run_without_a_process_is_cancelled_at_once(store: RunStore) -> None:
    """Nobody else would do it; and what is over cannot be asked for anything."""
    store.begin("r", "optimization", PLAN)
    store.release("r")
    assert store.wish("r", "cancel").state == "cancelled"
    with pytest.raises(RunError, match="which is over: cancelled"):
        store.wish("r", "cancel")


def test_an_unknown_run_is_refused_with_a_guess(store: RunStore) -> None:
    """A misspelt id gets the one that was meant."""
    store.begin("nightly", "optimization", PLAN)
    with pytest.raises(RunError, match="did you mean 'nightly'"):
        store.get("nihgtly")


@pytest.mark.parametrize("state", ["failed", "budget_exhausted", "completed"])
def test_what_ended_goes_on_only_if_asked(store: RunStore, state: Any) -> None:
    """A run that failed or ran out of budget is taken up again by who says so; one that is done never is."""
    store.begin("r", "optimization", PLAN)
    store.write("r", state=state)
    left = store.begin("r", "optimization", PLAN)
    assert (left.state, left.owner) == (state, None)
    taken = store.begin("r", "optimization", PLAN, again=True)
    assert (taken.state, taken.owner) == ((state, None) if state == "completed" else ("running", store.owner))


def test_a_fork_takes_the_model_answers_only(store: RunStore) -> None:
    """Scores and trials are of the old code and data; answers are used again where the same is asked."""
    store.begin("old", "optimization", PLAN)
    store.write("old", [Entry("call", "a", "1"), Entry("row", "a", "2"), Entry("failure", "b", "3")])
    store.begin("new", "optimization", PLAN, fork="old")
    assert store.keys("new") == {("call", "a")}
    assert store.begin("new", "optimization", PLAN, fork="forgotten since").state == "running"
    assert store.keys("new") == {("call", "a")}


def test_a_fork_of_nothing_begins_nothing(store: RunStore) -> None:
    """The new run and the answers it takes over are there together, or not at all."""
    with pytest.raises(RunError, match="which no run has"):
        store.begin("new", "optimization", PLAN, fork="old")
    assert store.find("new") is None


def test_old_runs_are_forgotten_with_their_journals(store: RunStore, wall: Wall, path: Path) -> None:
    """Retention takes what is over and old; what goes on stays, however old."""
    for run, state in (("old", "completed"), ("orphan", None)):
        store.begin(run, "optimization", PLAN)
        store.write(run, [Entry("call", run, "1")], state=state)  # type: ignore[arg-type]
    wall.now += 100
    store.begin("new", "optimization", PLAN)
    store.write("new", state="completed")
    assert store.forget(older=wall.now - 50) == 1
    assert sorted(run.id for run in store.runs()) == ["new", "orphan"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT run FROM entries").fetchall() == [("orphan",)]


def test_a_batch_is_whole_or_nothing(store: RunStore) -> None:
    """One entry that cannot be written takes the whole batch with it."""
    store.begin("r", "optimization", PLAN)
    with pytest.raises(StoreError):
        store.write("r", [Entry("call", "a", "1"), Entry("call", "b", None)], state="completed")  # type: ignore[arg-type]
    assert store.keys("r") == set()
    assert store.get("r").state == "running"


def test_another_programs_file_is_left_alone(path: Path) -> None:
    """A database that is not ours, or no database, is refused and not changed."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="another program"):
        RunStore(path).runs()
    assert path.read_bytes() == before
    path.write_bytes(b"no database at all, not even close" * 100)
    with pytest.raises(StoreCorrupt):
        RunStore(path).runs()


def test_runs_in_memory_last_as_long_as_the_store() -> None:
    """Without a path everything works the same, and nothing is left."""
    store = RunStore(None)
    store.begin("r", "optimization", PLAN)
    store.write("r", [Entry("call", "a", "1")])
    assert store.read("r", "call", "a") == "1"
    store.close()
    assert store.runs() == []
    store.close()


def test_a_file_of_the_first_version_is_taken_over(path: Path, wall: Wall) -> None:
    """Its plans lay in the rows of its runs."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE runs (id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, plan TEXT NOT NULL, "
            "progress TEXT NOT NULL, paid TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, wish TEXT, "
            "owner TEXT, token TEXT, heartbeat REAL NOT NULL)"
        )
        db.execute(
            "CREATE TABLE entries (seq INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, "
            "kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (run, kind, key))"
        )
        paid = json.dumps(Paid(3, 30).to_dict())
        db.execute(
            f"INSERT INTO runs VALUES ('r', 'k', 'paused', '{{\"module\": \"qa\"}}', '{{}}', '{paid}', 1, 2, {NOBODY})"
        )
        db.execute("INSERT INTO entries VALUES (1, 'r', 'call', 'a', '1')")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
    with closing(RunStore(path, clock=wall)) as store:
        assert store.get("r").plan == PLAN
        run = store.begin("r", "k", {"module": "qb"})
        assert (run.state, run.plan, run.paid) == ("paused", {"module": "qb"}, Paid(3, 30))
        assert store.read("r", "call", "a") == "1"
        store.begin("new", "k", PLAN)
    with closing(RunStore(path, clock=wall)) as store:
        assert {run.id: run.plan for run in store.runs()} == {"r": {"module": "qb"}, "new": PLAN}


def test_who_must_not_wait_is_refused(tmp_path: Path) -> None:
    """While another thread or another process uses the file, and before it was opened: at once, and nothing is done."""
    file, other = RunFile(tmp_path / "app.runs.db"), RunFile(tmp_path / "app.runs.db")

    def refused() -> bool:
        with pytest.raises(StoreUnavailable), file.transaction_now():
            return False
        return True

    assert refused()
    with ThreadPoolExecutor(1) as thread:
        with file.transaction():
            assert thread.submit(refused).result(5)
        with other.transaction():
            assert refused()

    def spoiled() -> None:
        with file.transaction_now() as db:
            db.execute("INSERT INTO runs VALUES ('r', 'k', 'running', '', '', 0, 0, NULL, NULL, NULL, 0)")
            db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StoreUnavailable, match="nowhere"):
        spoiled()
    with file.transaction_now() as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    file.close()
    other.close()


def test_the_log_is_begun_anew_by_who_may_wait(tmp_path: Path) -> None:
    """That waits for the disk: whoever must not wait finds it begun."""
    file = RunFile(tmp_path / "app.runs.db")
    log = tmp_path / "app.runs.db-wal"

    def salt() -> bytes:
        return log.read_bytes()[16:24]  # another one in each log (SQLite's file format, 4.1)

    with file.transaction() as db:
        db.execute("INSERT INTO runs VALUES ('r', 'k', 'running', '', '', 0, 0, NULL, NULL, NULL, 0)")
    for _ in range(2):
        before = salt()
        for _ in range(400):
            with file.transaction_now() as db:
                db.execute("UPDATE runs SET heartbeat = heartbeat + 1")
        assert salt() == before
        with file.transaction() as db:
            db.execute("UPDATE runs SET heartbeat = 0")
        assert salt() != before
    file.close()
