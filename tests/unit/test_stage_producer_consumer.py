"""Producer-consumers: between a producer and consumers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from dspex.runtime.gen_server import Stop
from dspex.runtime.stages import EstimateBufferedCount, SetDemandMode, Subscription, SyncInfo
from dspex.runtime.stages.messages import Ask, Cancel, Events, ProducerDown
from kit.engine import Lab, Probe, in_lab
from kit.stages import Between, Do, Numbers, Seen, Taker


class Chain:
    """Numbers, something between, and a consumer that asks by hand."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.made, self.passed, self.taken = Seen(), Seen(), Seen()

    async def start(self, cls: type[Between] = Between, make: Any = None, **options: Any) -> Chain:
        """Start all three."""
        options = {"max_demand": 4, "min_demand": 2, **options}
        self.source = await self.lab.start(Numbers, self.made)
        self.between = await self.lab.start(cls, self.passed, self.source, make, kwargs=options)
        how = {"manual": True, "cancel": "temporary"}
        self.consumer = await self.lab.start(Taker, self.taken, self.between, kwargs=how)
        await self.lab.settle()
        return self

    async def ask(self, count: int) -> None:
        """Have the consumer ask."""
        await self.lab.call(self.consumer, Do(lambda stage: stage.ask(stage.seen.subscriptions[0], count)))
        await self.lab.settle()


def test_messages_wait_for_demand_and_are_then_handled_whole() -> None:
    """STG-20: one is taken only while downstream demand is above 0, cut in chunks; handle_demand is never called."""

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start()
        assert (chain.made.demand, chain.passed.batches) == ([4], [])
        await chain.ask(1)
        assert chain.passed.batches == [(0, 1), (2, 3)]
        assert chain.taken.events == [0]
        assert await lab.call(chain.between, EstimateBufferedCount()) == 3
        assert chain.made.demand == [4, 2, 2]

    in_lab(test)


def test_a_consumer_that_stops_asking_stops_the_source() -> None:
    """STG-21, INV-5: at most max_demand events wait in the queue, and the outputs of one message in the buffer."""

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start()
        await chain.ask(1)
        asked = sum(chain.made.demand)
        for _ in range(5):
            await lab.settle()
        assert sum(chain.made.demand) == asked <= 4 + 4 + 1
        await chain.ask(100)
        while sum(chain.made.demand) < 100:
            await lab.settle()
        assert chain.taken.events == list(range(len(chain.taken.events)))

    in_lab(test)


def test_demand_falls_by_what_is_emitted() -> None:
    """STG-22: emitting none keeps the demand, and the next message is taken."""

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start(make=lambda event: [event] if event % 10 == 9 else [])
        await chain.ask(1)
        assert chain.taken.events == [9]

    in_lab(test)


def test_more_out_than_in() -> None:
    """STG-22: surplus waits in the buffer and is served first; demand is not lost over it."""

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start(make=lambda event: [event] * 5, max_demand=1, min_demand=0)
        for count in range(1, 13):
            await chain.ask(1)
            assert len(chain.taken.events) == count
        assert chain.taken.events == [0] * 5 + [1] * 5 + [2] * 2

    in_lab(test)


@pytest.mark.parametrize("mode", ["permanent", "transient"])
def test_the_producers_end_waits_behind_its_events(mode: str) -> None:
    """STG-23: they are handled first, then handle_cancel and the exit; nobody asks a producer that is gone."""

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start(cancel=mode)
        lab.engine.stop_actor(chain.source, "broken")
        await lab.settle()
        assert (chain.passed.all, lab.engine.alive(chain.between)) == ([], True)
        await chain.ask(2)
        assert chain.passed.all == [0, 1, 2, 3, ("down", "broken")]
        assert await lab.down(chain.between) == "broken"
        assert chain.made.demand == [4]
        assert chain.taken.events == [0, 1]

    in_lab(test)


def test_without_events_before_it_the_end_comes_at_once() -> None:
    """STG-23: an empty queue holds nothing up, whatever the demand."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Probe)
        seen = Seen()
        between = await lab.start(Between, seen, producer, kwargs={"cancel": "transient"})
        lab.engine.stop_actor(producer, "normal")
        await lab.settle()
        assert seen.cancels == [("down", "normal")]
        assert lab.engine.alive(between)

    in_lab(test)


def test_no_ask_to_a_producer_that_is_gone() -> None:
    """STG-23: its last events are handled, and not asked for again."""

    async def test(lab: Lab) -> None:
        got: list[Any] = []
        producer = await lab.start(Probe, got)
        seen, taken = Seen(), Seen()
        between = await lab.start(Between, seen, producer, kwargs={"max_demand": 2, "min_demand": 1})
        consumer = await lab.start(Taker, taken, between, kwargs={"manual": True, "cancel": "temporary"})
        await lab.settle()
        ref = got[0].ref
        lab.engine.send(between, Events(ref, 0, (1, 2)), None)
        lab.engine.send(between, ProducerDown(0, None, "normal", ref), None)
        await lab.call(consumer, Do(lambda stage: stage.ask(stage.seen.subscriptions[0], 2)))
        await lab.settle()
        assert (taken.events, got[2:]) == ([1, 2], [])

    in_lab(test)


def test_infos_wait_behind_the_queue_too() -> None:
    """STG-50: behind incoming messages, then behind the buffer."""

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start()
        await lab.call(chain.between, SyncInfo("noted"))
        await lab.settle()
        assert chain.passed.infos == []
        await chain.ask(1)
        assert chain.passed.all == [0, 1, 2, 3]
        await chain.ask(4)
        assert chain.passed.infos == ["noted"]
        empty = await lab.start(Between, seen := Seen())
        await lab.call(empty, SyncInfo("at once"))
        await lab.settle()
        assert seen.infos == ["at once"]

    in_lab(test)


def test_an_async_one() -> None:
    """handle_events may await; order, asks and demand are the same."""

    class Slow(Between):
        async def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> Any:  # type: ignore[override]
            await asyncio.sleep(1.0)
            return super().handle_events(events, subscription)

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start(Slow)
        await chain.ask(3)
        await asyncio.sleep(1.5)
        assert (chain.taken.events, chain.made.demand) == ([0, 1], [4, 2])
        await asyncio.sleep(1.0)
        assert (chain.taken.events, chain.made.demand) == ([0, 1, 2], [4, 2, 2])

    in_lab(test)


def test_a_stop_ends_it() -> None:
    """handle_events may end it; consumers get what was emitted before."""

    class Ends(Between):
        def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> Any:
            self.emit(events)
            return Stop("enough")

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start(Ends)
        await chain.ask(9)
        assert await lab.down(chain.between) == "enough"
        assert (chain.taken.all, chain.made.cancels) == ([0, 1, ("down", "enough")], [("down", "enough")])

    in_lab(test)


def test_it_knows_only_forward(caplog: pytest.LogCaptureFixture) -> None:
    """STG-30: the demand mode is for producers; accumulate is logged and ignored."""

    async def test(lab: Lab) -> None:
        chain = await Chain(lab).start()
        with caplog.at_level(logging.ERROR, "dspex.stages"):
            lab.engine.cast(chain.between, SetDemandMode("accumulate"))
            lab.engine.cast(chain.between, SetDemandMode("forward"))
            await chain.ask(2)
        assert len(caplog.records) == 1
        assert chain.taken.events == [0, 1]

    in_lab(test)


def test_events_of_an_unknown_subscription_are_cancelled() -> None:
    """STG-14: their sender is told unknown_subscription, and nothing is queued."""

    async def test(lab: Lab) -> None:
        got: list[Any] = []
        stranger = await lab.start(Probe, got)
        between = await lab.start(Between)
        lab.engine.send(between, Events("x", 0, (1,)), stranger.cell)
        await lab.settle()
        assert got == [Cancel("x", "unknown_subscription")]
        assert Ask("x", 1) not in got

    in_lab(test)


def test_its_buffer_is_unlimited() -> None:
    """STG-01: any number of outputs waits, unless it is configured otherwise."""

    async def test(lab: Lab) -> None:
        between = await lab.start(Between)
        await lab.call(between, Do(lambda stage: stage.emit(range(20_000))))
        assert await lab.call(between, EstimateBufferedCount()) == 20_000

    in_lab(test)
