"""The cache actor, ``observers/cache``: answers of models, in memory and, if configured, on disk.

Whoever is about to ask a model looks up the request's key first. Of several that ask the same at once one leads and
the others wait for its answer. Memory is looked at on the spot; the disk by one task beside the mailbox, and for a
moment only: a disk that is slow, full or gone costs hits, never answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from thespian.actors import ActorAddress

from ...runtime.calls import Call, RequestedCall
from ...runtime.errors import CallCancelled
from ...runtime.gen_server import Exit, NoReply, call, cast, info
from ...runtime.log import get_logger
from ...runtime.messages import Down, ExitSignal, TaskDone, TaskFailed
from ...runtime.reasons import Reason
from ...runtime.timers import Timer
from ..configuration.follower import SettingsFollower
from ..configuration.settings import CachingSettings, Settings
from ..events.kinds import stamp
from ..events.outbox import EventOutbox
from ..registry.actor import announce
from .disk import CacheDisk
from .flights import Flights
from .memory import AnswerMemory
from .messages import (
    NAME,
    CacheAbandon,
    CacheClear,
    CacheHit,
    CacheLead,
    CacheLookup,
    CacheReport,
    CacheStatus,
    CacheStatusReport,
    CacheStore,
)
from .store import MAX_BYTES, DiskOutcome, DiskStore, DiskWork, answer_file

PATIENCE: Final = 0.5
"""Seconds that a look-up waits for the disk at most."""
MAX_VALUE: Final = 2**20
"""The longest answer that is kept, in characters."""

HIT: Final = ("dspex", "cache", "hit")
"""Telemetry: an answer was found. Measurements: ``count``; metadata: ``tier`` (memory, disk, shared)."""
MISS: Final = ("dspex", "cache", "miss")
"""Telemetry: somebody is to ask the model. Measurements: ``count``."""
STORE: Final = ("dspex", "cache", "store")
"""Telemetry: an answer was taken. Measurements: ``count``."""
EVICT: Final = ("dspex", "cache", "evict")
"""Telemetry: answers went for want of room. Measurements: ``count``; metadata: ``tier`` (memory, disk)."""
ERROR: Final = ("dspex", "cache", "error")
"""Telemetry: the disk failed, or an answer was too large. Measurements: ``count``; metadata: ``code``, ``cause``."""

_ONE: Final[Mapping[str, int]] = {"count": 1}
_MEMORY: Final[Mapping[str, str]] = {"tier": "memory"}
_DISK: Final[Mapping[str, str]] = {"tier": "disk"}
_SHARED: Final[Mapping[str, str]] = {"tier": "shared"}
_LEAD: Final = CacheLead()


@dataclass(frozen=True, slots=True)
class _DiskLate:
    """To itself: the disk took too long over this key."""

    key: str


@dataclass(slots=True)
class _Asker:
    """Who looked up: its call, and the actor that ends it."""

    call: Call
    owner: ActorAddress | None

    @property
    def over(self) -> bool:
        """Whether the call that it led for has ended: then it asks no model any more, told or not."""
        return self.call.parent is not None and self.call.parent.settled


@dataclass(slots=True)
class _Counts:
    memory_hits: int = 0
    disk_hits: int = 0
    shared_hits: int = 0
    misses: int = 0
    stored: int = 0
    disk_evicted: int = 0
    errors: int = 0
    bytes: int | None = None
    last_error: str | None = None


class CacheActor(SettingsFollower):
    """The cache.

    Args:
        settings: as configured (``ai.caching``); from the configuration actor if not given, changes included.
        app: the application's name, after which the file is called; from there too.
        max_bytes: the most that answers on disk take.

    Raises:
        StoreError: the application's name cannot be a file's name.
    """

    trap_exit = True  # so that terminate runs, and what waits is written

    async def init(
        self, *, settings: CachingSettings | None = None, app: str = "dspex", max_bytes: int = MAX_BYTES
    ) -> None:
        """Read the settings, and be told when they change."""
        self._max_bytes = max_bytes
        self._counts = _Counts()
        self._memory = AnswerMemory(0)
        self._flights = Flights[_Asker](lambda asker: not asker.call.settled)
        # What each actor leads: keys and the ids of their look-ups.
        self._leads: dict[ActorAddress, dict[str, str]] = {}
        self._late: dict[str, Timer] = {}
        self._disk: CacheDisk | None = None
        self._outbox = EventOutbox(self.system)
        self._log = get_logger("dspex.cache")
        self._started = self.clock.monotonic()
        if settings is None:
            whole = await self.follow_settings(("ai", "caching"))
            settings, app = whole.ai.caching, whole.app.name
        self._adopt(settings, app)

    # -- looking up ------------------------------------------------------------------------------

    @call
    def lookup(self, msg: CacheLookup) -> CacheHit | CacheLead | NoReply:
        """Answer from memory on the spot; else wait for a leader or the disk; else the asker leads."""
        key = msg.key
        value = self._memory.get(key, self.clock.monotonic())
        if value is not None:
            self._counts.memory_hits += 1
            self.system.telemetry.execute(HIT, _ONE, _MEMORY)
            return CacheHit(value)
        if not self._keeps:
            return self._miss()
        asker = _Asker(self.caller, msg.owner or _maker(self.caller))
        flight, disk = self._flights.get(key), self._disk
        if flight is None and (disk is None or disk.resting):
            return self._lead(key, msg.id, asker)
        if flight is not None and flight.leader is not None:
            id, leader = flight.leader
            if id == msg.id:
                return _LEAD
            if leader.over:
                self._unwatch(key, leader)
                return self._lead(key, msg.id, asker)
        self._flights.wait(key, msg.id, asker)
        if flight is None and disk is not None:
            self._late[key] = self.start_timer(PATIENCE, _DiskLate(key))
            disk.read(key)
        return NoReply()

    @cast
    def store(self, msg: CacheStore) -> None:
        """Keep an answer, and give it to those who wait for it."""
        flight = self._flights.land(msg.key)
        self._unwatch(msg.key, flight.leader[1] if flight.leader else None)
        for asker in flight.waiting.values():
            self._hit(asker, msg.value, _SHARED)
        self._counts.shared_hits += len(flight.waiting)
        if not self._keeps:
            return
        if len(msg.value) > MAX_VALUE:
            self._failed(f"an answer of {len(msg.value)} characters is too large to keep", "too_large", "size")
            return
        self._counts.stored += 1
        self.system.telemetry.execute(STORE, _ONE)
        self._remember(msg.key, msg.value, self._ttl)
        if self._disk is not None and not self._disk.write(msg.key, msg.value):
            self._failed("the disk does not keep up", "store_unavailable", "full_queue")

    @cast
    def abandon(self, msg: CacheAbandon) -> None:
        """Have the next one lead, or take a waiter out."""
        flight = self._flights.get(msg.key)
        if flight is not None and flight.leader is not None and flight.leader[0] == msg.id:
            self._unwatch(msg.key, flight.leader[1])
            self._promote(msg.key)
            return
        waiter = self._flights.leave(msg.key, msg.id)
        if waiter is not None and not waiter.call.settled:
            self.fail(waiter.call, CallCancelled(f"the look-up {msg.id} was abandoned", target=NAME))

    @info
    def leader_ended(self, msg: Down) -> None:
        """Have the next ones lead."""
        led = self._leads.pop(msg.address, {}) if msg.address is not None else {}
        for key, id in led.items():
            flight = self._flights.get(key)
            if flight is not None and flight.leader is not None and flight.leader[0] == id:
                self._promote(key)

    @info
    def disk_late(self, msg: _DiskLate) -> None:
        """Go on without the disk."""
        if self._late.pop(msg.key, None) is not None:
            self._promote(msg.key)

    def _promote(self, key: str) -> None:
        asker = self._flights.promote(key)
        if asker is None:
            return
        flight = self._flights.get(key)
        assert flight is not None
        assert flight.leader is not None
        self._watch(key, flight.leader[0], asker)
        self.reply(asker.call, self._miss())

    def _lead(self, key: str, id: str, asker: _Asker) -> CacheLead:
        self._flights.lead(key, id, asker)
        self._watch(key, id, asker)
        return self._miss()

    def _miss(self) -> CacheLead:
        self._counts.misses += 1
        self.system.telemetry.execute(MISS, _ONE)
        return _LEAD

    def _hit(self, asker: _Asker, value: str, tier: Mapping[str, str]) -> None:
        self.system.telemetry.execute(HIT, _ONE, tier)
        self.reply(asker.call, CacheHit(value))

    def _watch(self, key: str, id: str, leader: _Asker) -> None:
        if leader.owner is None:
            return
        leads = self._leads.get(leader.owner)
        if leads is None:
            # Once for each actor, until its end: most ask many times.
            leads = self._leads[leader.owner] = {}
            self.monitor(leader.owner)
        leads[key] = id

    def _unwatch(self, key: str, leader: _Asker | None) -> None:
        if leader is not None and leader.owner is not None:
            self._leads.get(leader.owner, {}).pop(key, None)

    def _remember(self, key: str, value: str, seconds: float) -> None:
        before = self._memory.evicted
        self._memory.put(key, value, self.clock.monotonic() + seconds)
        self._told_evicted(self._memory.evicted - before, _MEMORY)

    def _told_evicted(self, count: int, tier: Mapping[str, str]) -> None:
        if count:
            self.system.telemetry.execute(EVICT, {"count": count}, tier)

    # -- the disk --------------------------------------------------------------------------------

    def _worked(self, work: DiskWork, outcome: DiskOutcome) -> None:
        self._counts.bytes = outcome.bytes
        self._counts.disk_evicted += outcome.evicted
        self._told_evicted(outcome.evicted, _DISK)
        for error in outcome.errors:
            self._failed(str(error), error.code, str(error.facts.get("cause")))
        if outcome.damaged is not None:
            error, kept = outcome.damaged
            path, kept_as = str(error.facts["path"]), None if kept is None else str(kept)
            report = stamp(self, CacheReport, kind="corrupt_file", path=path, kept_as=kept_as, message=str(error))
            self._outbox.emit(report)
        for key in work.reads:
            self._looked(key, outcome.found.get(key))

    def _looked(self, key: str, found: tuple[str, float] | None) -> None:
        """The disk was looked at for a key."""
        timer = self._late.pop(key, None)
        if timer is not None:
            timer.cancel()
        if found is not None and self._keeps and found[1] < self._ttl:
            self._remember(key, found[0], self._ttl - found[1])
        if found is None:
            if timer is not None:  # else it took too long, and somebody leads already
                self._promote(key)
            return
        flight = self._flights.land(key)
        self._unwatch(key, flight.leader[1] if flight.leader else None)
        for asker in flight.waiting.values():
            self._hit(asker, found[0], _DISK)
        self._counts.disk_hits += len(flight.waiting)

    def _failed(self, what: str, code: str, cause: str) -> None:
        self._counts.errors += 1
        if what != self._counts.last_error:
            self._log.warning("the cache goes on without", what=what)
        self._counts.last_error = what
        self.system.telemetry.execute(ERROR, _ONE, {"code": code, "cause": cause})

    @info
    def disk_done(self, msg: TaskDone) -> None:
        """There is nothing to do for the disk."""

    @info
    def disk_failed(self, msg: TaskFailed) -> None:
        """It is a defect of ours: the supervisor decides."""
        raise Exit(msg.reason)

    # -- managing --------------------------------------------------------------------------------

    @call
    def clear(self, msg: CacheClear) -> NoReply | None:
        """Forget everything."""
        self._memory.clear()
        if self._disk is None:
            return None
        self._disk.clear(self.caller)
        return NoReply()

    @call
    def status(self, msg: CacheStatus) -> CacheStatusReport:
        """How it is."""
        counts = self._counts
        return CacheStatusReport(
            enabled=self._keeps,
            entries=len(self._memory),
            capacity=self._memory.capacity,
            ttl=self._ttl,
            in_work=self._flights.leading,
            waiting=self._flights.waiting,
            memory_hits=counts.memory_hits,
            disk_hits=counts.disk_hits,
            shared_hits=counts.shared_hits,
            misses=counts.misses,
            stored=counts.stored,
            evicted=self._memory.evicted + counts.disk_evicted,
            errors=counts.errors,
            path=None if self._disk is None else str(self._disk.path),
            bytes=counts.bytes,
            last_error=counts.last_error,
            uptime=self.clock.monotonic() - self._started,
        )

    # -- settings --------------------------------------------------------------------------------

    async def use_settings(self, settings: Settings) -> None:
        """Go on with the new settings."""
        self._adopt(settings.ai.caching, settings.app.name)

    def _adopt(self, settings: CachingSettings, app: str) -> None:
        self._ttl = settings.ttl_seconds
        self._keeps = settings.enabled and self._ttl > 0
        before = self._memory.evicted
        self._memory.resize(settings.memory_cache_size if self._keeps else 0)
        self._memory.shorten(self.clock.monotonic() + self._ttl)
        self._told_evicted(self._memory.evicted - before, _MEMORY)
        wanted = (
            answer_file(settings.disk_cache_path, app) if settings.enabled and settings.disk_cache_enabled else None
        )
        if wanted != (None if self._disk is None else self._disk.path):
            self._drop_disk()
            if wanted is not None:
                store = DiskStore(wanted, self.clock, max_bytes=self._max_bytes)
                self._disk = CacheDisk(self, store, self._ttl, self._worked)
        if self._disk is not None:
            self._disk.ttl = self._ttl
            if not self._keeps and self._disk.path.exists():
                self._disk.clear()  # nothing is to be kept for any time, nor what is there already
        on_disk = self._disk is not None
        announce(self, {"type": "cache", "enabled": self._keeps, "size": settings.memory_cache_size, "disk": on_disk})

    def _drop_disk(self) -> None:
        """Go on without the disk: those who wait for it lead."""
        disk, self._disk = self._disk, None
        if disk is None:
            return
        disk.close()
        self._counts.bytes = None
        for timer in self._late.values():
            timer.cancel()
        late, self._late = self._late, {}
        for key in late:
            self._promote(key)

    # -- the end ---------------------------------------------------------------------------------

    @info
    def linked_ended(self, msg: ExitSignal) -> None:
        """Nobody of ours: the parent's signal ends this actor by itself."""

    async def terminate(self, reason: Reason) -> None:
        """Write what waits."""
        if self._disk is not None:
            await self._disk.flush()


def _maker(asked: Call) -> ActorAddress | None:
    """The actor that a call was made by, as far as the call knows."""
    if isinstance(asked, RequestedCall):
        return asked.sender.address
    cell = asked.holder or (None if asked.parent is None else asked.parent.to)
    return None if cell is None else cell.address


__all__ = (
    "ERROR",
    "EVICT",
    "HIT",
    "MAX_VALUE",
    "MISS",
    "NAME",
    "PATIENCE",
    "STORE",
    "CacheAbandon",
    "CacheActor",
    "CacheClear",
    "CacheHit",
    "CacheLead",
    "CacheLookup",
    "CacheStatus",
    "CacheStatusReport",
    "CacheStore",
)
