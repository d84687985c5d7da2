"""What is special to the journal in a SQLite file: the file itself, its damage, its limits, and the writer."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dspex.actors.events.codec import Record, encode_all
from dspex.actors.events.query import EventQuery
from dspex.actors.events.retention import Retention
from dspex.actors.journals.sqlite import SqliteJournal
from dspex.actors.journals.sqlite_file import default_path
from dspex.actors.journals.writer import MAX_GROUP, GroupWriter
from dspex.runtime.errors import EventInvalid, ForkedProcess, StoreCorrupt, StoreError, StoreUnavailable
from kit.event_makers import ManualClock, make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file will be."""
    return tmp_path / "state" / "events.db"


def ids(journal: SqliteJournal) -> list[str]:
    """All ids, oldest first."""
    return [event.id for event in journal.query(EventQuery.of(order="oldest", limit=1000)).events]


def fill(path: Path, count: int = 100) -> None:
    """A file with events e0, e1, ..., closed."""
    journal = SqliteJournal(path)
    journal.append([make(id=f"e{n}", text="x" * 500) for n in range(count)]).result(5)
    journal.close()


# -- the file ----------------------------------------------------------------------------------------


def test_events_are_there_after_opening_again(path: Path) -> None:
    """A log is read on, and places go on where they stopped."""
    fill(path, 3)
    journal = SqliteJournal(str(path))
    assert ids(journal) == ["e0", "e1", "e2"]
    assert journal.append([make(id="e3")]).result(5) == (4,)
    journal.close()


def test_file_and_directory_are_their_owners_only(path: Path) -> None:
    """0600 and 0700, side files too, whatever the umask."""
    before = os.umask(0)
    try:
        journal = SqliteJournal(path)
        journal.append([make()]).result(5)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {"events.db": 0o600, "events.db-wal": 0o600, "events.db-shm": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        journal.close()
    finally:
        os.umask(before)


def test_the_default_path_is_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """<user state dir>/dspex/<app>.db; a name that would leave it is refused."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path("shop").name == "shop.db"
    assert default_path("shop").parent.name == "dspex"
    for bad in ("", "..", ".", "a/b", "/etc/passwd"):
        with pytest.raises(StoreError, match="application name"):
            default_path(bad)


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """The error names the path and the cause."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"events\.db") as caught:
        SqliteJournal(tmp_path / "file" / "events.db")
    assert caught.value.cause == "open"


@pytest.mark.parametrize(
    ("durability", "synchronous"),
    [("process", 1), ("power", 2)],
)
def test_durability_sets_when_sqlite_waits_for_the_disk(
    path: Path, durability: Any, synchronous: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NORMAL hands a commit to the system, FULL forces it to the disk; the log is a WAL in both."""
    connections: list[sqlite3.Connection] = []
    real = sqlite3.connect

    def spy(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connections.append(real(*args, **kwargs))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", spy)
    journal = SqliteJournal(path, durability=durability)
    assert connections[0].execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert connections[0].execute("PRAGMA journal_mode").fetchone() == ("wal",)
    journal.close()


def test_an_unknown_durability_is_refused(path: Path) -> None:
    """With the nearest word."""
    with pytest.raises(StoreError, match="did you mean 'process'"):
        SqliteJournal(path, durability="proces")  # type: ignore[arg-type]
    assert not path.exists()


# -- damage ------------------------------------------------------------------------------------------


def _text(path: Path) -> None:
    path.write_bytes(b"this is a letter, not a database\n" * 50)


def _truncated(path: Path) -> None:
    fill(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _scribbled(path: Path) -> None:
    fill(path)
    data = bytearray(path.read_bytes())
    data[8192:40960] = b"\xa5" * (40960 - 8192)
    path.write_bytes(bytes(data))


def _of_another_program(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.commit()
    other.close()


@pytest.mark.parametrize("damage", [_text, _truncated, _scribbled, _of_another_program])
def test_a_file_that_is_no_event_log_is_refused_and_left_alone(path: Path, damage: Callable[[Path], None]) -> None:
    """StoreCorrupt when opened, with the path and what to do; not one byte is changed."""
    path.parent.mkdir()
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="move the file away") as caught:
        SqliteJournal(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    """An older dspex does not touch what a newer one wrote."""
    fill(path, 1)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match=r"version 99.*newer dspex") as caught:
        SqliteJournal(path)
    assert not isinstance(caught.value, StoreCorrupt)


def test_a_moved_file_is_noticed(path: Path) -> None:
    """Events are not acknowledged into a file that nobody will find again."""
    journal = SqliteJournal(path)
    journal.append([make()]).result(5)
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailable, match="moved or deleted") as caught:
        journal.append([make()]).result(5)
    assert caught.value.cause == "moved"
    journal.close()


# -- limits ------------------------------------------------------------------------------------------


def test_a_full_log_refuses_whole_batches_and_works_again(path: Path) -> None:
    """At its limit nothing is half-written; small ones still fit; after forgetting large ones do again."""
    journal = SqliteJournal(path, max_bytes=400_000)
    journal.append([make(id=f"old{n}", time=1.0, text="x" * 1000) for n in range(100)]).result(5)
    big = [make(id=f"big{n}", time=2.0, text="y" * 1000) for n in range(500)]
    futures = [journal.append(batch) for batch in ([make(id="before")], big, [make(id="after")])]
    with pytest.raises(StoreUnavailable, match="full disk") as caught:
        futures[1].result(5)
    assert caught.value.cause == "full"
    futures[0].result(5)
    futures[2].result(5)
    assert not [each for each in ids(journal) if each.startswith("big")]
    assert journal.prune(1.5).result(5) == 102
    journal.append(big[:100]).result(5)
    assert len(ids(journal)) == 100
    journal.close()


def test_a_file_that_another_process_locks_is_waited_for_then_unavailable(path: Path) -> None:
    """The wait is bounded; the error says locked; afterwards all is well."""
    journal = SqliteJournal(path, busy_timeout=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    futures = [journal.append([make(id=f"{n}")]) for n in range(3)]
    for future in futures:
        with pytest.raises(StoreUnavailable, match="locked") as caught:
            future.result(5)
        assert caught.value.cause == "locked"
    assert ids(journal) == []
    other.execute("ROLLBACK")
    other.close()
    journal.append([make(id="x")]).result(5)
    assert ids(journal) == ["x"]
    journal.close()


def test_opening_a_new_file_waits_for_whoever_is_making_it(path: Path) -> None:
    """SQLite gives up at once when two make a new file a log together; we wait for our turn."""
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.1, other.execute, ["ROLLBACK"])
    release.start()
    journal = SqliteJournal(path)
    release.join()
    journal.append([make(id="a")]).result(5)
    assert ids(journal) == ["a"]
    journal.close()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        SqliteJournal(path, busy_timeout=0.01)
    other.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_refused(path: Path) -> None:
    """SQLite forbids a connection to cross a fork; the error says to open the file again."""
    journal = SqliteJournal(path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            journal.append([make()])
        except ForkedProcess as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert "open the file again in the child" in answer.read()
    journal.append([make(id="parent")]).result(5)
    assert ids(journal) == ["parent"]
    journal.close()


def test_a_closed_journal_cannot_be_asked(path: Path) -> None:
    """A typed error, and no connection left open."""
    journal = SqliteJournal(path)
    assert ids(journal) == []
    journal.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        journal.query(EventQuery())
    assert [file.name for file in path.parent.iterdir()] == ["events.db"]


def test_retention_of_a_large_backlog_goes_in_bites(path: Path) -> None:
    """What an earlier process left over the bound goes at the next start, without an append."""
    journal = SqliteJournal(path)
    journal.append([make(id=f"{n:05}") for n in range(12_000)]).result(10)
    journal.close()
    journal = SqliteJournal(path, retention=Retention(max_events=10))
    for _ in range(20):  # each pruning stands behind one more bite
        journal.prune(-1.0).result(5)
    assert ids(journal) == [f"{n:05}" for n in range(11_990, 12_000)]
    assert journal.stats().pruned == 11_990
    journal.close()


class LookedAt(ManualClock):
    """A clock that tells when somebody asks for the wall time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def time(self) -> float:
        self.asked.set()
        return self.now


def test_old_events_go_though_nothing_is_appended(path: Path) -> None:
    """The writer wakes up by itself to forget what has become too old."""
    clock = LookedAt()
    journal = SqliteJournal(path, retention=Retention(max_age=0.1), clock=clock)
    assert clock.asked.wait(5)  # the first look, at the start
    journal.append([make(id="a", time=clock.now)]).result(5)
    assert ids(journal) == ["a"]
    clock.asked.clear()
    clock.now += 60.0
    assert clock.asked.wait(5)
    journal.prune(-1.0).result(5)  # stands behind the forgetting
    assert ids(journal) == []
    journal.close()


# -- the writer --------------------------------------------------------------------------------------


class SlowLog:
    """A log whose first transaction waits until told."""

    def __init__(self, *failures: Exception | None) -> None:
        self.groups: list[list[int]] = []
        self.failures = list(failures)
        self.faults = 0
        self.entered = threading.Event()
        self.go = threading.Event()
        self.closed = False

    def write(self, batches: Sequence[Sequence[Record]]) -> list[tuple[int, ...]]:
        self.groups.append([len(batch) for batch in batches])
        if len(self.groups) == 1:
            self.entered.set()
            assert self.go.wait(5)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return [tuple(range(len(batch))) for batch in batches]

    def prune(self, before: float, types: Sequence[str]) -> int:
        self.groups.append([-1])
        return 7

    def maintain(self) -> float | None:
        if self.faults:
            self.faults -= 1
            raise StoreUnavailable("locked", cause="locked")
        return None

    def close(self) -> None:
        self.closed = True


def records(count: int = 1) -> Sequence[Record]:
    """So many records."""
    return encode_all([make() for _ in range(count)])


def held(log: SlowLog, **options: Any) -> tuple[GroupWriter, Future[tuple[int, ...]]]:
    """A writer that is busy with its first transaction."""
    writer = GroupWriter(log, "test-writer", **options)
    first = writer.append(records())
    assert log.entered.wait(5)
    return writer, first


def test_what_waits_becomes_one_transaction() -> None:
    """Group commit: while one transaction is written the next ones gather; a pruning keeps its place."""
    log = SlowLog()
    writer, first = held(log)
    futures = [writer.append(records(n)) for n in (1, 2, 3)]
    pruned = writer.prune(0.0, ())
    last = writer.append(records())
    assert not first.done()
    log.go.set()
    assert [len(future.result(5)) for future in futures] == [1, 2, 3]
    assert pruned.result(5) == 7
    last.result(5)
    assert log.groups == [[1], [1, 2, 3], [-1], [1]]
    writer.close()
    assert log.closed


def test_a_group_is_bounded() -> None:
    """More than a group's worth goes in several; a batch is never cut."""
    log = SlowLog()
    writer, _ = held(log)
    batch = records(MAX_GROUP // 2)
    futures = [writer.append(batch) for _ in range(3)]
    log.go.set()
    for future in futures:
        future.result(10)
    assert log.groups[1:] == [[5000, 5000], [5000]]
    writer.close()


def test_too_much_waiting_is_refused() -> None:
    """A disk that does not keep up does not eat the memory."""
    log = SlowLog()
    writer, _ = held(log, max_waiting=5)
    waiting = writer.append(records(4))
    with pytest.raises(StoreUnavailable, match="4 events waiting") as caught:
        writer.append(records(2)).result(0)
    assert caught.value.cause == "full_queue"
    log.go.set()
    waiting.result(5)
    assert len(writer.append(records(9)).result(5)) == 9
    assert writer.refused == 2
    writer.close()


def test_an_empty_batch_is_never_too_much() -> None:
    """It says when all before it are stored, a batch beyond the bound among them."""
    log = SlowLog()
    writer, _ = held(log, max_waiting=5)
    large, last = writer.append(records(9)), writer.append(())
    assert not last.done()
    log.go.set()
    assert last.result(5) == ()
    assert large.done()
    writer.close()


def test_an_append_taken_back_in_time_is_not_written() -> None:
    """Cancelling the future before its transaction takes the events back; later it does not."""
    log = SlowLog()
    writer, first = held(log)
    second, third = writer.append(records(2)), writer.append(records(3))
    assert second.cancel()
    assert not first.cancel()
    log.go.set()
    third.result(5)
    assert log.groups == [[1], [3]]
    assert writer.waiting == 0
    writer.close()


@pytest.mark.parametrize(
    ("error", "groups"),
    [
        (EventInvalid("taken"), [[1], [1, 2], [1], [2]]),
        (StoreUnavailable("full", cause="full"), [[1], [1, 2], [1], [2]]),
        (StoreUnavailable("locked", cause="locked"), [[1], [1, 2]]),
    ],
)
def test_a_failed_group_is_tried_batch_by_batch(error: StoreError, groups: list[list[int]]) -> None:
    """One bad batch does not take the others with it; a lock is not waited for once more by each."""
    log = SlowLog(None, error, error)
    writer, _ = held(log)
    futures = [writer.append(records(1)), writer.append(records(2))]
    log.go.set()
    with pytest.raises(type(error)):
        futures[0].result(5)
    assert (futures[1].exception(5) is None) == (len(groups) == 4)
    assert log.groups == groups
    writer.close()


def test_an_unforeseen_error_ends_neither_thread_nor_future() -> None:
    """A fault of the log itself is answered as unavailable, and the next append works."""
    log = SlowLog(None, RuntimeError("bug"))
    writer, _ = held(log)
    bad = writer.append(records())
    log.go.set()
    with pytest.raises(StoreUnavailable, match="bug"):
        bad.result(5)
    assert writer.append(records()).result(5) == (0,)
    writer.close()


def test_a_failing_retention_does_not_fail_appends() -> None:
    """Nobody waits for forgetting: its fault is not theirs, and the thread lives."""
    log = SlowLog()
    log.faults = 2
    writer, first = held(log)
    log.go.set()
    first.result(5)
    assert writer.append(records()).result(5) == (0,)
    writer.close()
    assert log.closed


def test_an_unforeseen_error_of_retention_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the log itself while it forgets is logged, and appends go on."""

    class Faulty(SlowLog):
        def maintain(self) -> float | None:
            raise RuntimeError("bug")

    log = Faulty()
    writer, first = held(log)
    log.go.set()
    first.result(5)
    assert writer.append(records()).result(5) == (0,)
    writer.close()
    assert log.closed
    assert "bug" in caplog.text


def test_each_refused_batch_has_an_error_of_its_own() -> None:
    """An error is told its caller's trace, so two callers must not share one."""
    log = SlowLog(None, StoreUnavailable("locked", cause="locked"))
    writer, _ = held(log)
    futures = [writer.append(records()) for _ in range(2)]
    log.go.set()
    one, two = (future.exception(5) for future in futures)
    assert isinstance(one, StoreUnavailable)
    assert isinstance(two, StoreUnavailable)
    assert one is not two
    assert (one.cause, one.message) == (two.cause, two.message) == ("locked", "locked")
    writer.close()


def test_a_callback_may_close_the_writer() -> None:
    """Closing from the writer's own thread does not wait for itself."""
    log = SlowLog()
    writer, first = held(log)
    done = threading.Event()

    def close(_: Future[Any]) -> None:
        writer.close()
        done.set()

    first.add_done_callback(close)
    log.go.set()
    assert done.wait(5)
