"""Events that happen while the event store is away."""

from __future__ import annotations

import gc
import weakref

from dspex.actors.events.outbox import EventOutbox
from dspex.actors.events.store import LOST, NAME, Append
from dspex.runtime.child_spec import child_spec
from dspex.runtime.gen_server import GenServer, cast
from dspex.runtime.messages import GetStatistics
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.supervisor import Supervisor
from kit.event_makers import make
from kit.supervision import House, in_house


class Log(GenServer):
    """Stands in for the event store: writes down the ids of each batch."""

    def init(self, batches: list[str]) -> None:
        self.batches = batches

    @cast
    def append(self, msg: Append) -> None:
        self.batches.append("".join(event.id for event in msg.events))


class Store:
    """A store below a supervisor that waits a second before it restarts it.

    Attributes:
        lost: losses told by telemetry, as (count, code).
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.batches: list[str] = []
        self.lost: list[tuple[int, str]] = []
        house.engine.telemetry.attach(
            "lost", LOST, lambda event, measured, facts, _: self.lost.append((measured["count"], facts["code"]))
        )

    async def start(self) -> None:
        """Start it."""
        backoff = Backoff(initial=1.0, jitter=False)
        spec = child_spec("events", Log, self.batches, name=NAME, backoff=backoff)
        await self.house.start(Supervisor, [spec])

    async def kill(self) -> None:
        """Kill it; it is away for a second."""
        address = self.house.address(NAME)
        self.house.engine.kill(NAME, "kill")
        await self.house.engine.wait_down(address, None)
        assert self.house.state(NAME) in ("restarting", "backing_off")

    async def stored(self) -> list[str]:
        """The batches, once it runs and has handled all that was sent."""
        await self.house.call(NAME, GetStatistics())
        return self.batches


def emit(outbox: EventOutbox, *batches: str) -> None:
    """Emit batches; each letter is the id of an event."""
    for batch in batches:
        outbox.emit(*(make(id=id) for id in batch))


def test_events_wait_for_a_store_that_comes_back() -> None:
    """Emitted before, during and after its restarts, all arrive, each once, in order, their batches as they were."""

    async def run(house: House) -> None:
        store, outbox = Store(house), EventOutbox(house.engine)
        await store.start()
        emit(outbox, "a")
        assert await store.stored() == ["a"]
        for batches in (("bc", "d"), ("e", "fg")):
            await store.kill()
            emit(outbox, *batches)
            assert (await store.stored())[-2:] == list(batches)
        emit(outbox, "h")
        assert await store.stored() == ["a", "bc", "d", "e", "fg", "h"]
        assert store.lost == []

    in_house(run)


def test_what_waits_is_bounded() -> None:
    """The newest wait; the others are told of as lost, and the log goes on with what was kept."""

    async def run(house: House) -> None:
        store, outbox = Store(house), EventOutbox(house.engine, limit=2)
        await store.start()
        await store.kill()
        emit(outbox, "ab", "c", "d", "e")
        assert store.lost == [(2, "overloaded"), (1, "overloaded")]
        assert await store.stored() == ["d", "e"]

    in_house(run)


def test_events_outlive_their_emitter() -> None:
    """An outbox that nobody holds any more still delivers what waits in it, and is then gone."""

    async def run(house: House) -> None:
        store = Store(house)
        await store.start()
        await store.kill()
        outbox = EventOutbox(house.engine)
        emit(outbox, "a")
        nobody = weakref.ref(outbox)
        del outbox
        gc.collect()
        assert await store.stored() == ["a"]
        gc.collect()
        assert nobody() is None

    in_house(run)


def test_a_store_that_is_gone_for_good_loses_them_audibly() -> None:
    """Waiting events are told of as lost when nobody restarts the store; later ones are dead letters."""

    async def run(house: House) -> None:
        store, outbox = Store(house), EventOutbox(house.engine)
        await store.start()
        await store.kill()
        emit(outbox, "ab", "c")
        house.engine.names.set_state(NAME, "dead", "shutdown")
        assert store.lost == [(3, "noproc")]
        before = house.engine.dead_letters.count
        emit(outbox, "d")
        assert (house.engine.dead_letters.count, len(store.lost)) == (before + 1, 1)

    in_house(run)


def test_without_a_store_nothing_is_kept() -> None:
    """Where there never was an event store each batch is a dead letter."""

    async def run(house: House) -> None:
        before = house.engine.dead_letters.count
        emit(EventOutbox(house.engine), "ab")
        assert house.engine.dead_letters.count == before + 1

    in_house(run)
