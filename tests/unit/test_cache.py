"""The cache actor: hits, one leader for many, giving up, dying, settings that change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dspex.actors.cache.actor import (
    NAME,
    CacheAbandon,
    CacheActor,
    CacheClear,
    CacheHit,
    CacheLead,
    CacheLookup,
    CacheStatus,
    CacheStatusReport,
    CacheStore,
)
from dspex.actors.cache.messages import CacheReport
from dspex.actors.cache.store import answer_file
from dspex.actors.configuration.actor import ConfigurationActor
from dspex.actors.configuration.messages import UpdateSetting
from dspex.actors.configuration.settings import CachingSettings, Settings
from dspex.runtime.errors import CallCancelled, CallTimeout, StartError, StoreError, StoreUnavailable
from dspex.runtime.gen_server import GenServer, NoReply, call
from dspex.runtime.reasons import Crash
from dspex.runtime.testing import VirtualSystem
from kit.providers import Notebook

HIT = ("dspex", "cache", "hit")
ERROR = ("dspex", "cache", "error")


@pytest.fixture
def system() -> Iterator[VirtualSystem]:
    """Virtual time; the disk is used inline."""
    with VirtualSystem(seed=1) as found:
        yield found


@dataclass(frozen=True)
class Look:
    """To a client: look a key up; whoever leads stores after ``work`` seconds, or never."""

    key: str
    id: str
    work: float | None = None


class Client(GenServer):
    """Looks up as a provider does: in a task that serves a call."""

    @call
    def look(self, msg: Look) -> NoReply:
        return self.serve(self._look(msg))

    async def _look(self, msg: Look) -> str:
        done = False
        try:
            answer = await self.call(NAME, CacheLookup(msg.key, msg.id), timeout=None)
            done = isinstance(answer, CacheHit)
            if isinstance(answer, CacheHit):
                return answer.value
            if msg.work is None:
                await asyncio.Event().wait()
            await asyncio.sleep(msg.work or 0)
            self.cast(NAME, CacheStore(msg.key, msg.id, f"by {msg.id}"))
            done = True
            return f"by {msg.id}"
        finally:
            if not done:
                self.cast(NAME, CacheAbandon(msg.key, msg.id))


def start(system: VirtualSystem, **fields: Any) -> None:
    """Start the cache with settings of its own, and three clients."""
    system.spawn(CacheActor, settings=CachingSettings(**fields), name=NAME)
    for name in ("one", "two", "three"):
        system.spawn(Client, name=f"client/{name}")


def status(system: VirtualSystem) -> CacheStatusReport:
    """How the cache is."""
    found = system.call(NAME, CacheStatus())
    assert isinstance(found, CacheStatusReport)
    return found


def look(system: VirtualSystem, key: str, id: str = "x", timeout: float = 5.0) -> Any:
    """Look a key up from outside."""
    return system.call(NAME, CacheLookup(key, id), timeout=timeout)


def keep(system: VirtualSystem, key: str, value: str) -> None:
    """Ask for a key and answer it."""
    assert look(system, key, f"keeper of {key}") == CacheLead()
    system.cast(NAME, CacheStore(key, f"keeper of {key}", value))
    system.settle()


def end_actor(system: VirtualSystem, name: str, reason: str) -> None:
    """Have an actor's parent order it to end."""
    entry = system.engine.names.get(name)
    assert entry is not None
    assert entry.address is not None
    assert entry.address.cell is not None
    entry.address.cell.signal(reason, None, from_parent=True)


async def ask(system: VirtualSystem, client: str, message: Look, timeout: float = 60.0) -> Any:
    """Have a client look up."""
    return await system.engine.call_async(f"client/{client}", message, timeout)


# -- memory ----------------------------------------------------------------------------------------


def test_an_answer_is_found_again(system: VirtualSystem) -> None:
    """The first who asks leads; what it stores is everybody's."""
    start(system)
    assert look(system, "k") == CacheLead()
    system.cast(NAME, CacheStore("k", "x", "value"))
    assert look(system, "k", "y") == CacheHit("value")
    report = status(system)
    assert (report.misses, report.memory_hits, report.stored, report.entries, report.in_work) == (1, 1, 1, 1, 0)


def test_an_answer_is_forgotten_at_its_age(system: VirtualSystem) -> None:
    """Just before ttl_seconds it is there, at that age it is not."""
    start(system, ttl_seconds=60)
    keep(system, "k", "value")
    system.advance(59.9)
    assert look(system, "k") == CacheHit("value")
    system.advance(0.1)
    assert look(system, "k") == CacheLead()


def test_the_least_recently_used_goes_first(system: VirtualSystem) -> None:
    """A hit is a use; what goes is told of."""
    start(system, memory_cache_size=2)
    evicted = ("dspex", "cache", "evict")
    system.record(evicted)
    keep(system, "a", "1")
    keep(system, "b", "2")
    assert look(system, "a") == CacheHit("1")
    keep(system, "c", "3")
    assert look(system, "a") == CacheHit("1")
    assert look(system, "b") == CacheLead()
    assert status(system).evicted == 1
    system.expect_event(evicted, tier="memory")


@pytest.mark.parametrize("fields", [{"enabled": False}, {"ttl_seconds": 0}])
def test_what_keeps_nothing_has_everybody_ask(system: VirtualSystem, fields: dict[str, Any]) -> None:
    """Switched off, or with no time to keep anything: nobody waits for anybody, nothing is stored."""
    start(system, **fields)
    assert look(system, "k", "1") == CacheLead()
    assert look(system, "k", "2") == CacheLead()
    system.cast(NAME, CacheStore("k", "1", "value"))
    assert look(system, "k", "3") == CacheLead()
    assert status(system).entries == 0


def test_too_large_an_answer_is_not_kept(system: VirtualSystem) -> None:
    """It is counted, and those who wait for it still get it."""
    start(system)

    async def run() -> Any:
        await system.engine.call_async(NAME, CacheLookup("k", "leader"), 5)
        waiter = asyncio.ensure_future(system.engine.call_async(NAME, CacheLookup("k", "waiter"), 5))
        await asyncio.sleep(0.1)
        system.engine.cast(NAME, CacheStore("k", "leader", "x" * (2**20 + 1)))
        return await waiter

    assert len(system.run(run()).value) == 2**20 + 1
    report = status(system)
    assert (report.entries, report.errors) == (0, 1)


def test_clear_forgets(system: VirtualSystem) -> None:
    """After it every key is asked anew."""
    start(system)
    keep(system, "k", "value")
    assert system.call(NAME, CacheClear()) is None
    assert look(system, "k") == CacheLead()


# -- one leader ------------------------------------------------------------------------------------


def test_equal_requests_at_once_ask_once(system: VirtualSystem) -> None:
    """One leads, the others wait and get its answer; a repeated look-up of the leader leads still."""
    start(system)

    async def run() -> list[Any]:
        asked = [ask(system, name, Look("k", name, work=1.0)) for name in ("one", "two", "three")]
        return await asyncio.gather(*asked)

    answers = system.run(run())
    assert len(set(answers)) == 1
    report = status(system)
    assert (report.misses, report.shared_hits, report.waiting, report.in_work) == (1, 2, 0, 0)
    assert look(system, "other") == look(system, "other") == CacheLead()


@pytest.mark.parametrize("end", ["killed", "gave up"])
def test_the_next_one_leads_if_the_leader_ends(system: VirtualSystem, end: str) -> None:
    """Its actor dies, or its caller gives up: one waiter leads, the last one gets that one's answer."""
    start(system)

    async def run() -> tuple[Any, Any]:
        leader = asyncio.ensure_future(ask(system, "one", Look("k", "1")))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(ask(system, "two", Look("k", "2", work=1.0)))
        await asyncio.sleep(0.1)
        third = asyncio.ensure_future(ask(system, "three", Look("k", "3", work=1.0)))
        await asyncio.sleep(0.1)
        if end == "killed":
            end_actor(system, "client/one", "kill")
        else:
            leader.cancel()
        answers = await second, await third
        await asyncio.gather(leader, return_exceptions=True)
        return answers

    assert system.run(run()) == ("by 2", "by 2")
    report = status(system)
    assert (report.misses, report.shared_hits, report.in_work) == (2, 1, 0)


def test_who_gave_up_is_passed_over(system: VirtualSystem) -> None:
    """A waiter's deadline holds, and it never becomes leader afterwards."""
    start(system)
    assert look(system, "k", "leader") == CacheLead()
    with pytest.raises(CallTimeout):
        look(system, "k", "late", timeout=1.0)
    assert status(system).waiting == 0
    system.cast(NAME, CacheAbandon("k", "leader"))
    assert status(system).in_work == 0
    assert look(system, "k", "next") == CacheLead()


def test_a_waiter_may_abandon(system: VirtualSystem) -> None:
    """Its look-up ends, nobody else's does."""
    start(system)

    async def run() -> None:
        engine = system.engine
        await engine.call_async(NAME, CacheLookup("k", "leader"), 5)
        waiter = asyncio.ensure_future(engine.call_async(NAME, CacheLookup("k", "waiter"), 5))
        other = asyncio.ensure_future(engine.call_async(NAME, CacheLookup("k", "other"), 5))
        await asyncio.sleep(0.1)
        engine.cast(NAME, CacheAbandon("k", "waiter"))
        with pytest.raises(CallCancelled):
            await waiter
        engine.cast(NAME, CacheStore("k", "leader", "value"))
        assert await other == CacheHit("value")

    system.run(run())


def test_what_nobody_knows_is_ignored(system: VirtualSystem) -> None:
    """An unknown id abandons nothing; the answer of a leader from before a restart is kept."""
    start(system)
    assert look(system, "k", "leader") == CacheLead()
    system.cast(NAME, CacheAbandon("k", "somebody"))
    system.cast(NAME, CacheAbandon("unknown", "somebody"))
    assert status(system).in_work == 1
    system.cast(NAME, CacheStore("late", "from before", "value"))
    assert look(system, "late") == CacheHit("value")


def test_a_leader_whose_own_caller_is_gone_leads_no_more(system: VirtualSystem) -> None:
    """Even if it never said so: the next one who asks leads."""

    class Forgetful(GenServer):
        @call
        def look(self, msg: Look) -> NoReply:
            return self.serve(self._look(msg))

        async def _look(self, msg: Look) -> Any:
            return await self.call(NAME, CacheLookup(msg.key, msg.id))

    start(system)
    system.spawn(Forgetful, name="client/forgetful")
    assert system.call("client/forgetful", Look("k", "1")) == CacheLead()
    assert look(system, "k", "2") == CacheLead()
    assert status(system).in_work == 1


def test_an_owner_may_be_named(system: VirtualSystem) -> None:
    """For look-ups that no served call tells the maker of."""
    start(system)
    owner = system.spawn(Client)
    assert system.call(NAME, CacheLookup("k", "1", owner=owner)) == CacheLead()
    system.kill(owner)
    system.settle()
    assert status(system).in_work == 0


def test_an_owner_is_monitored_once_and_gives_up_all_that_it_leads(system: VirtualSystem) -> None:
    """However often it looks up; at its end the keys that it answered stay answered, the others are free."""
    start(system)
    owner = system.spawn(Client)
    cell = owner.cell
    assert cell is not None
    before = len(cell.monitors or ())
    for number in range(5):
        assert system.call(NAME, CacheLookup(f"k{number}", str(number), owner=owner)) == CacheLead()
    assert len(cell.monitors or ()) == before + 1
    system.cast(NAME, CacheStore("k0", "0", "value"))
    system.cast(NAME, CacheAbandon("k1", "1"))
    assert look(system, "k1", "another") == CacheLead()
    assert status(system).in_work == 4
    system.kill(owner)
    system.settle()
    assert status(system).in_work == 1
    assert look(system, "k0") == CacheHit("value")
    assert look(system, "k2") == CacheLead()


# -- disk ------------------------------------------------------------------------------------------


def disk(folder: Path, **fields: Any) -> dict[str, Any]:
    """Settings with a disk."""
    return {"disk_cache_enabled": True, "disk_cache_path": str(folder)} | fields


def test_the_disk_outlives_the_actor(tmp_path: Path, system: VirtualSystem) -> None:
    """What was stored is found by the next incarnation, then in memory; file and folder are the owner's only."""
    folder = tmp_path / "answers"
    start(system, **disk(folder))
    keep(system, "k", "value")
    system.kill(NAME)
    system.spawn(CacheActor, settings=CachingSettings(**disk(folder)), name=NAME)
    assert look(system, "k", "1") == CacheHit("value")
    assert look(system, "k", "2") == CacheHit("value")
    report = status(system)
    assert (report.disk_hits, report.memory_hits, report.path) == (1, 1, str(folder / "dspex.db"))
    assert report.bytes
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_an_answer_on_disk_ages_too(tmp_path: Path, system: VirtualSystem) -> None:
    """Its whole age counts: found on disk, it is not young again in memory."""
    start(system, **disk(tmp_path, ttl_seconds=60))
    keep(system, "k", "value")
    system.advance(40)
    system.kill(NAME)
    system.spawn(CacheActor, settings=CachingSettings(**disk(tmp_path, ttl_seconds=60)), name=NAME)
    assert look(system, "k", "1") == CacheHit("value")
    system.advance(20)
    assert look(system, "k", "2") == CacheLead()


def test_a_shutdown_writes_what_waits(tmp_path: Path, system: VirtualSystem) -> None:
    """An orderly end loses no answer."""
    start(system, **disk(tmp_path))
    look(system, "k")
    system.cast(NAME, CacheStore("k", "x", "value"))
    end_actor(system, NAME, "shutdown")
    system.settle()
    system.spawn(CacheActor, settings=CachingSettings(**disk(tmp_path)), name=NAME)
    assert look(system, "k") == CacheHit("value")


def test_clear_empties_the_disk(tmp_path: Path, system: VirtualSystem) -> None:
    """Once it has answered, no incarnation finds anything."""
    start(system, **disk(tmp_path))
    keep(system, "k", "value")
    assert system.call(NAME, CacheClear()) is None
    system.kill(NAME)
    system.spawn(CacheActor, settings=CachingSettings(**disk(tmp_path)), name=NAME)
    assert look(system, "k") == CacheLead()


def test_a_damaged_file_is_moved_aside(tmp_path: Path, system: VirtualSystem) -> None:
    """It is told of by event and telemetry, kept once beside the new one, and answers are kept again."""
    file = tmp_path / "dspex.db"
    (tmp_path / "dspex.db.corrupt").write_text("from last time")
    file.write_bytes(b"no database at all, " * 100)
    events: list[Any] = []
    announced: list[Mapping[str, Any]] = []
    system.spawn(Notebook, events, announced, name="core/events")
    system.record(ERROR)
    start(system, **disk(tmp_path))
    keep(system, "k", "value")
    system.expect_event(ERROR, code="store_corrupt")
    (report,) = events
    assert isinstance(report, CacheReport)
    assert (report.path, report.kept_as) == (str(file), str(file) + ".corrupt")
    assert (tmp_path / "dspex.db.corrupt").read_bytes().startswith(b"no database")
    system.kill(NAME)
    system.spawn(CacheActor, settings=CachingSettings(**disk(tmp_path)), name=NAME)
    assert look(system, "k") == CacheHit("value")


def test_without_a_disk_memory_goes_on(tmp_path: Path, system: VirtualSystem) -> None:
    """A folder that cannot be made: counted, answers are kept in memory, the disk is tried again later."""
    (tmp_path / "file").write_text("in the way")
    start(system, **disk(tmp_path / "file"))
    keep(system, "k", "value")
    assert look(system, "k") == CacheHit("value")
    report = status(system)
    assert report.errors == 1
    assert report.last_error is not None
    assert str(tmp_path) in report.last_error
    with pytest.raises(StoreUnavailable):
        system.call(NAME, CacheClear())
    assert look(system, "k", "y") == CacheLead()
    system.cast(NAME, CacheStore("k", "y", "value"))
    (tmp_path / "file").unlink()
    system.advance(6)
    keep(system, "other", "value")
    assert status(system).errors == 1
    assert (tmp_path / "file" / "dspex.db").exists()


def test_a_file_that_is_taken_away_comes_back(tmp_path: Path, system: VirtualSystem) -> None:
    """Deleted while it is used: one error, then a new file."""
    start(system, **disk(tmp_path))
    keep(system, "a", "1")
    for file in tmp_path.iterdir():
        file.unlink()
    keep(system, "b", "2")
    assert status(system).errors == 1
    system.advance(6)
    keep(system, "c", "3")
    system.kill(NAME)
    system.spawn(CacheActor, settings=CachingSettings(**disk(tmp_path)), name=NAME)
    assert [look(system, key) for key in "abc"] == [CacheLead(), CacheLead(), CacheHit("3")]


def test_the_file_keeps_to_its_bound(tmp_path: Path, system: VirtualSystem) -> None:
    """Beyond it the oldest answers go; memory is not concerned."""
    caching = CachingSettings(**disk(tmp_path))
    system.spawn(CacheActor, settings=caching, name=NAME, max_bytes=500_000)
    for number in range(100):
        keep(system, f"k{number}", f"{number}" + "x" * 20_000)
        system.advance(1)
    assert status(system).evicted > 70
    system.kill(NAME)
    system.spawn(CacheActor, settings=caching, name=NAME)
    assert look(system, "k0") == CacheLead()
    assert isinstance(look(system, "k99"), CacheHit)


@pytest.mark.parametrize(
    ("app", "folder", "said"), [("../x", None, "application name"), ("x", "~nobody-has-this-name/x", "disk_cache_path")]
)
def test_a_place_that_cannot_be_is_refused(system: VirtualSystem, app: str, folder: str | None, said: str) -> None:
    """The start fails with what is wrong."""
    settings = CachingSettings(disk_cache_enabled=True, disk_cache_path=folder)
    with pytest.raises(StartError) as caught:
        system.spawn(CacheActor, settings=settings, app=app, name=NAME)
    assert isinstance(caught.value.reason, Crash)
    assert isinstance(caught.value.reason.error, StoreError)
    assert said in str(caught.value.reason.error)


def test_by_default_the_users_cache_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the application's name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert answer_file(None, "mine").name == "mine.db"
    assert answer_file(None, "mine").parent.name == "dspex"


# -- settings --------------------------------------------------------------------------------------


def test_settings_change_while_it_runs(tmp_path: Path, system: VirtualSystem) -> None:
    """Size, age, switch and disk follow the configuration; a smaller size and age hold for what is there."""
    caching = CachingSettings(**disk(tmp_path))
    settings = Settings.model_validate({"app": {"name": "mine"}, "ai": {"caching": caching.model_dump()}})
    system.spawn(ConfigurationActor, settings, name="core/config")
    system.spawn(CacheActor, name=NAME)
    keep(system, "a", "1")
    keep(system, "b", "2")

    def put(key: str, value: Any) -> None:
        system.call("core/config", UpdateSetting(("ai", "caching", key), value))
        system.settle()

    put("memory_cache_size", 1)
    report = status(system)
    assert (report.entries, report.capacity, report.evicted) == (1, 1, 1)
    put("ttl_seconds", 10)
    system.advance(10)
    assert look(system, "b") == CacheLead()
    assert status(system).path == str(tmp_path / "mine.db")
    keep(system, "c", "3")
    put("enabled", False)
    report = status(system)
    assert (report.enabled, report.entries, report.path) == (False, 0, None)
    put("enabled", True)
    assert look(system, "c") == CacheHit("3")
    put("ttl_seconds", 0)
    put("ttl_seconds", 60)
    assert look(system, "c") == CacheLead()
