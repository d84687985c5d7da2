"""The answers on disk against real ends: kill -9, two processes, a full, locked or slow disk, damage at any place."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dspex.actors.cache import actor as cache
from dspex.actors.cache.actor import NAME, CacheActor, CacheClear, CacheHit, CacheLead, CacheLookup, CacheStore
from dspex.actors.cache.sqlite import AnswerFile
from dspex.actors.cache.store import DiskOutcome, DiskStore, DiskWork
from dspex.actors.configuration.settings import CachingSettings
from dspex.runtime.address import LocalAddress
from dspex.runtime.clock import SystemClock
from kit.engine import Lab, in_lab

ROOT = Path(__file__).resolve().parents[2]
TTL = 3600.0

PRELUDE = """
import itertools, resource, sys
from pathlib import Path
from dspex.actors.cache.store import DiskStore, DiskWork
from dspex.runtime.clock import SystemClock
path, name = Path(sys.argv[1]), sys.argv[2]
store = DiskStore(path, SystemClock())
def keep(key, value):
    outcome = store.run(DiskWork(writes={key: value}), 3600.0)
    return [error.facts.get("cause") for error in outcome.errors]
print("ready", flush=True)
"""
ENDLESS = """
for n in itertools.count():
    if not keep(f"{name}-{n}", "x" * 5000):
        print(f"{name}-{n}", flush=True)
"""
COUNTED = """
sys.stdin.readline()
print(sum(not keep(f"{name}-{n}", "x" * 100) for n in range(200)), flush=True)
"""
# The system refuses the file any growth, as a full disk does; then there is room again.
FULL_DISK = """
from dspex.actors.cache import store as cache_store
cache_store.REST = 0.0
assert not keep("before", "y")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
failed = {cause for n in range(60) for cause in keep(f"{n}", "x" * 20_000)}
assert failed and failed <= {"full", "io"}, failed
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert not keep("after", "y")
print(*store.run(DiskWork(reads=dict.fromkeys(["before", "after"])), 3600.0).found, flush=True)
"""


@contextmanager
def child(script: str, path: Path, name: str = "a") -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script; gone at the end."""
    arguments = [sys.executable, "-c", PRELUDE + script, str(path), name]
    process = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The next line of a child's output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def run(path: Path, **work: Any) -> DiskOutcome:
    """One piece of work, as the next process would do it."""
    store = DiskStore(path, SystemClock())
    try:
        return store.run(DiskWork(**work), TTL)
    finally:
        store.close()


@pytest.mark.parametrize("answers", [1, 40])
def test_what_was_written_survives_kill_9(tmp_path: Path, answers: int) -> None:
    """Killed while it writes: all that was written before is found, and the file is sound."""
    path = tmp_path / "cache" / "app.db"
    with child(ENDLESS, path) as process:
        written = [line(process) for _ in range(answers)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    outcome = run(path, reads=dict.fromkeys(written))
    assert list(outcome.found) == written
    assert (outcome.errors, outcome.damaged) == ([], None)


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    """Both write at once; nothing is lost, nothing is damaged."""
    path = tmp_path / "app.db"
    run(path, writes={"first": "1"})
    with child(COUNTED, path, "a") as one, child(COUNTED, path, "b") as two:
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert (line(one), line(two)) == ("200", "200")
    keys = [f"{name}-{n}" for name in "ab" for n in range(200)]
    assert list(run(path, reads=dict.fromkeys(keys)).found) == keys


def test_a_full_disk_costs_only_what_it_has_no_room_for(tmp_path: Path) -> None:
    """What was there stays, and once there is room again answers are kept again."""
    with child(FULL_DISK, tmp_path / "app.db") as process:
        assert line(process) == "before after"


def test_a_locked_file_is_waited_for_briefly(tmp_path: Path) -> None:
    """Somebody else writes and does not end: a typed failure, what is there can still be read."""
    path = tmp_path / "app.db"
    run(path, writes={"k": "value"})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = DiskStore(path, SystemClock())
    assert store.run(DiskWork(reads={"k": None}), TTL).found["k"][0] == "value"
    (error, *_) = store.run(DiskWork(writes={"n": "value"}), TTL).errors
    assert error.facts["cause"] == "locked"
    assert store.resting
    other.execute("ROLLBACK")
    other.close()
    store.close()


@pytest.mark.parametrize("seed", range(10))
def test_damage_at_any_place_is_survived(tmp_path: Path, seed: int) -> None:
    """Bytes overwritten anywhere: found as it was, missed, or moved aside; then answers are kept again."""
    path = tmp_path / "app.db"
    run(path, writes={f"k{n}": "x" * 500 for n in range(50)})
    rng = random.Random(seed)
    damaged = bytearray(path.read_bytes())
    start = rng.randrange(len(damaged))
    damaged[start : start + 3000] = rng.randbytes(min(3000, len(damaged) - start))
    path.write_bytes(damaged)
    store = DiskStore(path, SystemClock())
    store.run(DiskWork(reads={f"k{n}": None for n in range(50)}), TTL)
    for number in range(3):  # damage may show at the first writing only
        store.run(DiskWork(writes={f"n{number}": "new"}), TTL)
    assert store.run(DiskWork(reads={"n2": None}), TTL).found["n2"][0] == "new"
    store.close()


def test_a_damaged_file_takes_the_very_write_that_met_it(tmp_path: Path) -> None:
    """It is moved aside and the new one is used at once; what was in the way is kept."""
    path = tmp_path / "app.db"
    path.write_bytes(b"no database at all, " * 100)
    outcome = run(path, writes={"k": "value"})
    assert outcome.damaged is not None
    assert outcome.damaged[1] == tmp_path / "app.db.corrupt"
    assert run(path, reads={"k": None}).found["k"][0] == "value"


def test_another_programs_database_is_moved_aside_whole(tmp_path: Path) -> None:
    """Nothing is written into it, whatever its tables are called."""
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE answers (question TEXT)")
    other.execute("INSERT INTO answers VALUES ('theirs')")
    other.commit()
    other.close()
    before = path.read_bytes()
    (error,) = run(path, writes={"k": "value"}).errors
    assert "another program" in str(error)
    assert (tmp_path / "app.db.corrupt").read_bytes() == before


def kept(path: Path) -> set[str]:
    """All keys in a file, whatever their age."""
    connection = sqlite3.connect(path)
    try:
        return {key for (key,) in connection.execute("SELECT key FROM answers")}
    finally:
        connection.close()


class Gate:
    """Holds a method of the file up, in its thread, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.reached, self.open, self.passed = threading.Event(), threading.Event(), threading.Event()
        real = getattr(AnswerFile, method)

        def held(file: AnswerFile, *arguments: Any) -> Any:
            self.reached.set()
            assert self.open.wait(30)
            try:
                return real(file, *arguments)
            finally:
                self.passed.set()

        monkeypatch.setattr(AnswerFile, method, held)


async def caching(lab: Lab, folder: Path) -> LocalAddress:
    """Start the cache."""
    settings = CachingSettings(disk_cache_enabled=True, disk_cache_path=str(folder))
    return await lab.start(CacheActor, name=NAME, kwargs={"settings": settings})


def test_a_slow_disk_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it too long asks the model; what is found late is used, and who waits then gets it."""
    gate = Gate(monkeypatch, "read")
    monkeypatch.setattr(cache, "PATIENCE", 0.05)

    async def test(lab: Lab) -> None:
        before = DiskStore(tmp_path / "dspex.db", lab.engine.clock)
        before.run(DiskWork(writes={"k": "value"}), TTL)
        before.close()
        await caching(lab, tmp_path)
        assert await lab.call(NAME, CacheLookup("k", "1"), 20) == CacheLead()
        waiter = asyncio.ensure_future(lab.call(NAME, CacheLookup("k", "2"), 20))
        await lab.settle()
        gate.open.set()
        assert await waiter == CacheHit("value")
        assert await lab.call(NAME, CacheLookup("k", "3"), 20) == CacheHit("value")
        lab.engine.cast(NAME, CacheStore("k", "1", "newer"))
        assert await lab.call(NAME, CacheLookup("k", "4"), 20) == CacheHit("newer")

    in_lab(test, virtual=False)


def test_what_a_slow_disk_does_not_find_makes_no_second_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the leader goes on waiting for it."""
    gate = Gate(monkeypatch, "read")
    monkeypatch.setattr(cache, "PATIENCE", 0.05)

    async def test(lab: Lab) -> None:
        await caching(lab, tmp_path)
        assert await lab.call(NAME, CacheLookup("k", "1"), 20) == CacheLead()
        waiter = asyncio.ensure_future(lab.call(NAME, CacheLookup("k", "2"), 20))
        await lab.settle()
        gate.open.set()
        await lab.call(NAME, CacheClear(), 20)  # its turn comes after the look-up
        assert not waiter.done()
        lab.engine.cast(NAME, CacheStore("k", "1", "value"))
        assert await waiter == CacheHit("value")

    in_lab(test, virtual=False)


def test_an_orderly_end_writes_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that came while the disk was busy are there for the next process."""
    gate = Gate(monkeypatch, "write")

    async def test(lab: Lab) -> None:
        address = await caching(lab, tmp_path)
        lab.engine.cast(NAME, CacheStore("first", "1", "1"))
        await asyncio.to_thread(gate.reached.wait, 20)
        lab.engine.cast(NAME, CacheStore("second", "2", "2"))
        await lab.settle()
        ending = asyncio.ensure_future(lab.order_down(address))
        await lab.settle()
        gate.open.set()
        assert await ending == "shutdown"

    in_lab(test, virtual=False)
    assert kept(tmp_path / "dspex.db") == {"first", "second"}


def test_clear_forgets_what_waits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was on its way to the disk does not come back."""
    gate = Gate(monkeypatch, "write")

    async def test(lab: Lab) -> None:
        await caching(lab, tmp_path)
        lab.engine.cast(NAME, CacheStore("first", "1", "1"))
        await asyncio.to_thread(gate.reached.wait, 20)
        lab.engine.cast(NAME, CacheStore("second", "2", "2"))
        clearing = asyncio.ensure_future(lab.call(NAME, CacheClear(), 20))
        await lab.settle()
        gate.open.set()
        await clearing

    in_lab(test, virtual=False)
    assert kept(tmp_path / "dspex.db") == set()
