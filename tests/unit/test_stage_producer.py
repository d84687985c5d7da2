"""Producers: options, demand, buffer, infos, demand modes, protocol."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Iterable
from typing import Any

import pytest

from dspex.runtime.errors import DefinitionError, SpecError
from dspex.runtime.gen_server import GenServer, StartFailed, Stop, call
from dspex.runtime.stages import (
    AsyncInfo,
    BroadcastDispatcher,
    Credit,
    DemandDispatcher,
    EstimateBufferedCount,
    PartitionDispatcher,
    Producer,
    SetDemandMode,
    StageOptions,
    Subscribe,
    SubscribeOptions,
    Subscription,
    SyncInfo,
)
from dspex.runtime.stages.messages import Ask, Cancel, Cancelled, Events, Request
from kit.engine import Lab, Probe, in_lab
from kit.stages import Do, Numbers, Seen, Taker


async def pair(lab: Lab, silent: bool = True, **options: Any) -> tuple[Any, Any, Seen, Seen, Subscription]:
    """A producer and a consumer that asks by hand."""
    made, taken = Seen(), Seen()
    producer = await lab.start(Numbers, made, kwargs={"silent": silent, **options})
    consumer = await lab.start(Taker, taken, producer, kwargs={"manual": True, "cancel": "temporary"})
    await lab.settle()
    return producer, consumer, made, taken, taken.subscriptions[0]


async def ask(lab: Lab, consumer: Any, subscription: Subscription, count: int) -> None:
    """Have the consumer ask."""
    await lab.call(consumer, Do(lambda stage: stage.ask(subscription, count)))
    await lab.settle()


async def emit(lab: Lab, producer: Any, count: int) -> None:
    """Have the producer emit its next numbers."""
    await lab.call(producer, Do(lambda stage: stage.emit(stage.take(count))))
    await lab.settle()


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"buffer_size": 0}, "buffer_size: expected a whole number from 1, or None, got 0"),
        ({"buffer_keep": "latest"}, "did you mean 'last'"),
        ({"demand": "hold"}, "demand: expected one of 'forward', 'accumulate'"),
        ({"dispatcher": 3}, "dispatcher"),
        ({"bufer_size": 3}, "did you mean 'buffer_size'"),
    ],
)
def test_bad_options_fail_the_start(options: dict[str, Any], match: str) -> None:
    """STG-01: unknown or bad options end the start with ("bad_opts", text)."""

    async def test(lab: Lab) -> None:
        outcome = await lab.engine.spawn(Numbers, (), options)
        assert isinstance(outcome, StartFailed)
        kind, text = outcome.reason
        assert kind == "bad_opts"
        assert match in text

    in_lab(test)


def test_the_defaults() -> None:
    """STG-01: demand dispatcher, 10,000 events, keep last, forward; a class attribute changes them for a class."""
    assert StageOptions() == StageOptions(DemandDispatcher, -1, "last", "forward")
    assert Producer.dspex_buffer_size == 10_000

    class Small(Numbers):
        options = StageOptions(buffer_size=2)

    async def test(lab: Lab) -> None:
        for cls, kept in ((Numbers, 10_000), (Small, 2)):
            producer = await lab.start(cls, kwargs={"silent": True})
            await emit(lab, producer, 10_001)
            assert await lab.call(producer, EstimateBufferedCount()) == kept

    in_lab(test)


def test_a_stage_is_not_blocking() -> None:
    """What cannot work is refused when the class is made: blocking stages, async hooks."""
    with pytest.raises(DefinitionError, match="not blocking"):
        type("Bad", (Producer,), {"blocking": True})

    async def handle_cancel(self: Any, kind: str, reason: Any, subscription: Any) -> None: ...

    with pytest.raises(DefinitionError, match="handle_cancel"):
        type("Bad", (Producer,), {"handle_cancel": handle_cancel})
    with pytest.raises(SpecError, match="demand"):
        SetDemandMode("later")  # type: ignore[arg-type]


# -- demand ----------------------------------------------------------------------------------------


def test_demand_is_served_from_the_buffer_first() -> None:
    """STG-40: what is left goes to handle_demand, exactly; 0 never calls it; surplus is buffered."""

    async def test(lab: Lab) -> None:
        producer, consumer, made, taken, subscription = await pair(lab)
        await emit(lab, producer, 5)
        assert taken.events == []
        await ask(lab, consumer, subscription, 3)
        assert (made.demand, taken.batches) == ([], [(0, 1, 2)])
        await ask(lab, consumer, subscription, 6)
        assert (made.demand, taken.batches[1:]) == ([4], [(3, 4)])

    in_lab(test)


def test_the_debt_is_the_producers() -> None:
    """STG-40: emitting less than asked, handle_demand is not called again; what comes later goes straight out."""

    async def test(lab: Lab) -> None:
        producer, consumer, made, taken, subscription = await pair(lab)
        await ask(lab, consumer, subscription, 3)
        await emit(lab, producer, 1)
        await emit(lab, producer, 1)
        assert (made.demand, taken.batches) == ([3], [(0,), (1,)])
        assert await lab.call(producer, EstimateBufferedCount()) == 0

    in_lab(test)


@pytest.mark.parametrize(("keep", "left"), [("last", [2, 3, 4]), ("first", [0, 1, 2])])
def test_a_full_buffer_drops_and_says_so_once(keep: str, left: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """STG-41, STG-43: keep last drops the oldest, keep first the newest; one warning and event for each emit."""

    async def test(lab: Lab) -> None:
        told: list[tuple[Any, Any]] = []
        lab.engine.telemetry.attach("t", ("dspex", "stage", "discarded"), lambda e, m, d, c: told.append((m, d)))
        producer, consumer, _, taken, subscription = await pair(lab, buffer_size=3, buffer_keep=keep)
        with caplog.at_level(logging.WARNING, "dspex.stages"):
            await emit(lab, producer, 5)
        assert len(caplog.records) == len(told) == 1
        assert told[0][0] == {"count": 2}
        assert await lab.call(producer, EstimateBufferedCount()) == 3
        await ask(lab, consumer, subscription, 9)
        assert taken.events == left

    in_lab(test)


def test_format_discarded_decides_the_warning(caplog: pytest.LogCaptureFixture) -> None:
    """STG-42: it is told the number; if it says no, nothing is logged."""
    asked: list[int] = []

    class Quiet(Numbers):
        def format_discarded(self, count: int) -> bool:
            asked.append(count)
            return False

    async def test(lab: Lab) -> None:
        producer = await lab.start(Quiet, kwargs={"silent": True, "buffer_size": 1})
        with caplog.at_level(logging.WARNING, "dspex.stages"):
            await emit(lab, producer, 4)
        assert (asked, caplog.records) == ([3], [])

    in_lab(test)


def test_events_go_out_before_the_reply() -> None:
    """STG-60: what a call handler emits is dispatched before its caller is answered."""

    class Other(GenServer):
        @call
        async def ask_it(self, message: Do) -> Any:
            return await message.function(self)

    async def test(lab: Lab) -> None:
        producer, consumer, _, _, subscription = await pair(lab)
        await ask(lab, consumer, subscription, 3)
        other = await lab.start(Other)
        order: list[str] = []

        async def call_it(actor: GenServer) -> None:
            await actor.call(producer, Do(lambda stage: stage.emit(stage.take(1))))
            # The consumer's mailbox had the event first: what we ask it now comes behind.
            order.extend(map(str, await actor.call(consumer, Do(lambda stage: tuple(stage.seen.events)))))

        await lab.call(other, Do(call_it))
        assert order == ["0"]

    in_lab(test)


def test_an_async_handle_demand() -> None:
    """handle_demand may await; what it returns is emitted, in order, also after accumulated demand."""

    class Slow(Numbers):
        async def handle_demand(self, demand: int) -> Iterable[int]:  # type: ignore[override]
            await asyncio.sleep(1.0)
            return super().handle_demand(demand)

    async def test(lab: Lab) -> None:
        made, taken = Seen(), Seen()
        producer = await lab.start(Slow, made, kwargs={"demand": "accumulate"})
        await lab.start(Taker, taken, producer, kwargs={"max_demand": 2, "min_demand": 1})
        await lab.settle()
        assert made.demand == []
        lab.engine.cast(producer, SetDemandMode("forward"))
        await asyncio.sleep(3.5)
        assert (made.demand[:3], taken.events) == ([2, 1, 1], [0, 1, 2, 3])

    in_lab(test)


def test_credit_remembers_the_debt() -> None:
    """A task that takes from Credit reads its source only when an event was asked for."""
    reads: list[int] = []

    class Pump(Producer):
        def init(self) -> None:
            self.credit = Credit()
            self.start_task(self.pump())

        def handle_demand(self, demand: int) -> None:
            self.credit.add(demand)

        async def pump(self) -> None:
            for number in range(100):
                await self.credit.take()
                reads.append(number)
                self.emit((number,))

    async def test(lab: Lab) -> None:
        taken = Seen()
        producer = await lab.start(Pump)
        consumer = await lab.start(Taker, taken, producer, kwargs={"manual": True})
        await lab.settle()
        assert reads == []
        await ask(lab, consumer, taken.subscriptions[0], 3)
        assert reads == taken.events == [0, 1, 2]
        await ask(lab, consumer, taken.subscriptions[0], 1)
        assert reads == taken.events == [0, 1, 2, 3]
        full = Credit()
        full.add(5)
        assert (await full.take(3), await full.take(9), full.left) == (3, 2, 0)

    in_lab(test)


def test_emit_from_a_thread() -> None:
    """What run_blocking code emits is handed to the engine's thread; after the stage's end it is dropped."""

    class Threaded(Numbers):
        @call
        async def do(self, message: Do) -> Any:
            return await self.run_blocking(message.function, self)

    async def test(lab: Lab) -> None:
        taken = Seen()
        producer = await lab.start(Threaded, kwargs={"silent": True})
        await lab.start(Taker, taken, producer)
        await lab.call(producer, Do(lambda stage: stage.emit(stage.take(2))))
        await lab.call(producer, Do(lambda stage: None))  # behind what the thread handed over
        await lab.settle()
        assert taken.events == [0, 1]

    in_lab(test, virtual=False)


def test_handle_demand_may_stop_or_crash() -> None:
    """A Stop of handle_demand ends the producer; a producer without handle_demand says so."""

    class Ends(Producer):
        def handle_demand(self, demand: int) -> Stop:
            return Stop("done")

    class Bare(Producer):
        pass

    async def test(lab: Lab) -> None:
        for cls, told in ((Ends, "done"), (Bare, None)):
            producer = await lab.start(cls)
            await lab.start(Taker, None, producer, kwargs={"cancel": "temporary"})
            reason = await lab.down(producer)
            assert reason == told or "defines no handle_demand" in str(reason)

    in_lab(test)


# -- demand mode -----------------------------------------------------------------------------------


def test_accumulate_keeps_asks_and_events_back() -> None:
    """STG-30, STG-31: forward replays them in order, handle_demand once for each ask; twice changes nothing."""

    async def test(lab: Lab) -> None:
        producer, consumer, made, taken, subscription = await pair(lab, demand="accumulate")
        await ask(lab, consumer, subscription, 2)
        await ask(lab, consumer, subscription, 3)
        await emit(lab, producer, 1)
        lab.engine.cast(producer, SetDemandMode("accumulate"))
        await lab.settle()
        assert (made.demand, taken.events) == ([], [])
        for _ in range(2):
            await lab.call(producer, Do(lambda stage: stage.set_demand_mode("forward")))
            await lab.settle()
            assert (made.demand, taken.events) == ([2, 3], [0])

    in_lab(test)


def test_an_ask_takes_the_buffer_into_the_queue() -> None:
    """STG-30: while accumulating, an ask still empties the buffer, but the events wait for forward."""

    async def test(lab: Lab) -> None:
        producer, consumer, _, taken, subscription = await pair(lab)
        await emit(lab, producer, 3)
        lab.engine.cast(producer, SetDemandMode("accumulate"))
        await ask(lab, consumer, subscription, 2)
        assert (taken.events, await lab.call(producer, EstimateBufferedCount())) == ([], 1)
        lab.engine.cast(producer, SetDemandMode("forward"))
        await lab.settle()
        assert taken.events == [0, 1]

    in_lab(test)


# -- infos -----------------------------------------------------------------------------------------


def test_infos_come_behind_the_buffered_events() -> None:
    """STG-50: at once when the buffer is empty, else after the events before them, in order."""

    async def test(lab: Lab) -> None:
        producer, consumer, made, _, subscription = await pair(lab)
        assert await lab.call(producer, SyncInfo("first")) is None
        await lab.settle()
        assert made.infos == ["first"]
        await emit(lab, producer, 3)
        lab.engine.cast(producer, AsyncInfo("second"))
        await lab.call(producer, Do(lambda stage: stage.async_info("third")))
        await ask(lab, consumer, subscription, 2)
        assert made.infos == ["first"]
        await ask(lab, consumer, subscription, 1)
        assert made.infos == ["first", "second", "third"]

    in_lab(test)


def test_infos_are_never_discarded() -> None:
    """STG-51: when the events before them are dropped they are delivered."""

    async def test(lab: Lab) -> None:
        producer, _, made, _, _ = await pair(lab, buffer_size=2)
        await emit(lab, producer, 2)
        await lab.call(producer, SyncInfo("kept"))
        await emit(lab, producer, 1)
        assert made.infos == []
        await emit(lab, producer, 1)
        assert made.infos == ["kept"]

    in_lab(test)


def test_a_consumer_has_an_info_at_once() -> None:
    """STG-50: it has no buffer."""

    async def test(lab: Lab) -> None:
        _, consumer, _, taken, _ = await pair(lab)
        await lab.call(consumer, SyncInfo("a"))
        lab.engine.cast(consumer, AsyncInfo("b"))
        await lab.settle()
        assert taken.infos == ["a", "b"]

    in_lab(test)


# -- subscriptions -----------------------------------------------------------------------------------


def test_a_consumer_that_cancels_or_dies() -> None:
    """STG-10: the subscription is dropped, handle_cancel runs with the kind and reason, then the dispatcher is told."""

    async def test(lab: Lab) -> None:
        producer, consumer, made, taken, subscription = await pair(lab)
        await ask(lab, consumer, subscription, 2)
        await lab.call(consumer, Do(lambda stage: stage.cancel_subscription(subscription, "enough")))
        await lab.settle()
        assert (made.cancels, taken.cancels) == ([("cancel", "enough")], [("cancel", "enough")])
        await lab.call(consumer, Subscribe(producer, SubscribeOptions(cancel="temporary")))
        await lab.settle()
        await ask(lab, consumer, taken.subscriptions[1], 2)
        assert made.demand == [2]  # what was asked for the old one is pending: it is not asked again
        lab.engine.kill(consumer)
        await lab.settle()
        assert made.cancels[1:] == [("down", "killed")]

    in_lab(test)


def test_without_consumers_events_are_buffered() -> None:
    """STG-10, DSP-03: nobody is there to dispatch to, and what is pending stays so."""

    async def test(lab: Lab) -> None:
        producer, consumer, made, taken, subscription = await pair(lab)
        await ask(lab, consumer, subscription, 5)
        await lab.call(consumer, Do(lambda stage: stage.cancel_subscription(subscription)))
        await lab.settle()
        await emit(lab, producer, 2)
        await lab.call(consumer, Subscribe(producer, SubscribeOptions(cancel="temporary")))
        await ask(lab, consumer, taken.subscriptions[1], 5)
        assert (made.demand, taken.events) == ([5], [])
        await ask(lab, consumer, taken.subscriptions[1], 3)
        assert (made.demand, taken.events) == ([5, 1], [0, 1])

    in_lab(test)


def test_a_subscription_that_is_over_is_watched_no_more() -> None:
    """STG-10: neither end keeps a monitor, also of a subscription that was refused."""

    async def test(lab: Lab) -> None:
        producer, consumer, _, _, subscription = await pair(lab, dispatcher=BroadcastDispatcher)
        await lab.call(consumer, Subscribe(producer, SubscribeOptions(cancel="temporary")))
        await lab.call(consumer, Do(lambda stage: stage.cancel_subscription(subscription)))
        await lab.settle()
        for address in (producer, consumer):
            assert (address.cell.watching or {}, address.cell.monitors or {}) == ({}, {})

    in_lab(test)


def test_a_producer_ends_a_subscription() -> None:
    """STG-10, STG-11: cancel_consumer runs handle_cancel here and there."""

    async def test(lab: Lab) -> None:
        producer, _, made, taken, _ = await pair(lab)
        await lab.call(producer, Do(lambda stage: stage.cancel_consumer(stage.seen.subscriptions[0], "full")))
        await lab.settle()
        assert (made.cancels, taken.cancels) == ([("cancel", "full")], [("cancel", "full")])

    in_lab(test)


def test_a_producer_side_must_answer_automatic() -> None:
    """STG-06: anything else ends it with bad_return_value; a Stop with its reason."""

    class Odd(Numbers):
        answer: Any = "manual"

        def handle_subscribe(self, role: str, options: Any, subscription: Any) -> Any:
            return self.answer

    class Refusing(Odd):
        answer = Stop("closed")

    async def test(lab: Lab) -> None:
        for cls, reason in ((Odd, ("bad_return_value", "manual")), (Refusing, "closed")):
            producer = await lab.start(cls)
            await lab.start(Taker, None, producer, kwargs={"cancel": "temporary"})
            assert await lab.down(producer) == reason

    in_lab(test)


def test_protocol_errors() -> None:
    """STG-14: a ref twice is cancelled as duplicated, an ask for an unknown one as unknown; a cancel is ignored."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        probe = await lab.start(Probe, seen)
        producer = await lab.start(Numbers)
        assert probe.cell is not None
        for message in (Request("r", {}, None), Request("r", {}, None), Ask("x", 3), Cancel("x", "y"), Ask("r", 2)):
            lab.engine.send(producer, message, probe.cell)
        await lab.settle()
        assert seen == [
            Cancelled("r", "duplicated_subscription"),
            Cancelled("x", "unknown_subscription"),
            Events("r", 0, (0, 1)),
        ]
        lab.engine.send(producer, Ask("r", 1), probe.cell)
        await lab.settle()
        assert seen[-1] == Events("r", 2, (2,))  # the number of the first event goes on

    in_lab(test)


def test_the_wrong_kind_of_stage() -> None:
    """STG-14: events for a producer, an ask for a consumer: counted and dropped."""

    async def test(lab: Lab) -> None:
        producer, consumer = await lab.start(Numbers), await lab.start(Taker)
        lab.engine.send(producer, Events("r", 0, (1,)), None)
        lab.engine.send(consumer, Ask("r", 1), None)
        await lab.settle()
        assert lab.engine.counters.unhandled == 2
        assert lab.engine.alive(producer)
        assert lab.engine.alive(consumer)

    in_lab(test)


def test_a_broadcast_refuses_a_second_subscription() -> None:
    """DSP-13, STG-14: cancelled as already_subscribed, which never ends a consumer, permanent or not."""

    async def test(lab: Lab) -> None:
        made, taken = Seen(), Seen()
        producer = await lab.start(Numbers, made, kwargs={"dispatcher": BroadcastDispatcher, "silent": True})
        consumer = await lab.start(Taker, taken, producer, kwargs={"max_demand": 2})
        await lab.call(consumer, Subscribe(producer))
        await lab.settle()
        assert taken.cancels == [("cancel", "already_subscribed")]
        assert lab.engine.alive(consumer)
        await emit(lab, producer, 2)
        assert taken.events == [0, 1]

    in_lab(test)


def test_a_selector_of_a_broadcast() -> None:
    """DSP-14: refused events are asked for again, on the consumer's behalf."""

    async def test(lab: Lab) -> None:
        made, taken = Seen(), Seen()
        producer = await lab.start(Numbers, made, kwargs={"dispatcher": BroadcastDispatcher, "silent": True})
        options = {"max_demand": 4, "min_demand": 3, "selector": lambda event: event % 2}
        await lab.start(Taker, taken, producer, kwargs=options)
        await lab.settle()
        await emit(lab, producer, 4)
        assert (made.demand, taken.events) == ([4, 2, 1, 1], [1, 3])

    in_lab(test)


def test_a_wrong_partition_ends_the_producer() -> None:
    """DSP-24: it raises in the producer."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers, kwargs={"dispatcher": lambda: PartitionDispatcher(2)})
        await lab.start(Taker, None, producer, kwargs={"cancel": "temporary", "partition": 2})
        assert "one of 0, 1" in str(await lab.down(producer))

    in_lab(test)


def test_messages_between_stages_are_plain_values() -> None:
    """What stages send each other pickles."""

    async def test(lab: Lab) -> None:
        address = await lab.start(Numbers)
        messages = (
            Events("r", 3, (1, "a")),
            Ask("r", 1),
            Request("r", {"partition": 1}, ("q", "normal")),
            Subscribe(address, SubscribeOptions(5), Subscription("r", address)),
        )
        for message in messages:
            assert pickle.loads(pickle.dumps(message)) == message

    in_lab(test)
