"""Streams: reading producers from actors, from loops and from threads; every end has one typed outcome."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from dspex.runtime.errors import (
    ActorDied,
    ApplicationDown,
    CallTimeout,
    LMServerError,
    NoProcess,
    SpecError,
    UsageError,
    WrongThread,
)
from dspex.runtime.gen_server import GenServer, Stop, call, info
from dspex.runtime.reasons import Crash
from dspex.runtime.stages import (
    FromEnumerable,
    Next,
    PartitionDispatcher,
    StreamOver,
    SubscribeOptions,
    stream,
)
from dspex.runtime.stages.messages import Ask, Cancel, Cancelled, Events
from dspex.runtime.stages.reader import Close, Reader
from kit.engine import Lab, Probe, in_lab, running_engine
from kit.stages import Do, Numbers, Seen, Taker


class Ending(Numbers):
    """Emits ``last`` numbers, then ends with ``reason`` when they are out."""

    def init(self, last: int, reason: Any = "normal", seen: Seen | None = None) -> None:  # type: ignore[override]
        super().init(seen)
        self.last, self.reason = last, reason

    def handle_demand(self, demand: int) -> Iterable[int]:
        self.seen.demand.append(demand)
        count = min(demand, self.last - self.next)
        self.emit(self.take(count))
        if self.next == self.last:
            self.async_info("end")
        return ()

    @info
    def noted(self, message: str) -> Any:
        if isinstance(self.reason, Exception):
            raise self.reason
        return Stop(self.reason)


class Caller(GenServer):
    """An actor whose tasks read streams."""

    @call
    async def do(self, message: Do) -> Any:
        return await message.function(self)

    @info
    def told(self, message: object) -> None:
        """Task results."""


async def read(events: Any, most: int = 10_000) -> list[Any]:
    """Read up to so many."""
    found: list[Any] = []
    async for event in events:
        found.append(event)
        if len(found) == most:
            break
    return found


# -- reading ---------------------------------------------------------------------------------------


def test_a_stream_reads_all_and_leaves_nothing() -> None:
    """STG-70: it ends when its producers are gone, and nothing is left of it."""

    async def test(lab: Lab) -> None:
        producers = [await lab.start(Ending, 7), await lab.start(Ending, 5)]
        found = await read(stream(producers, lab.engine, cancel="transient", max_demand=3))
        assert sorted(found) == sorted([*range(7), *range(5)])
        await lab.settle()
        assert (list(lab.engine.cells), lab.engine.dead_letters.count) == ([], 0)

    in_lab(test)


def test_the_accounting_is_that_of_a_consumer() -> None:
    """STG-70, STG-04: the next ask leaves when the chunk before was read, not when it came."""

    async def test(lab: Lab) -> None:
        made = Seen()
        producer = await lab.start(Numbers, made)
        async with stream(producer, lab.engine, max_demand=4, min_demand=2) as events:
            await lab.settle()
            assert made.demand == []  # nothing before the first read
            for number, asked in enumerate([[4], [4], [4, 2], [4, 2], [4, 2, 2]]):
                assert await anext(events) == number
                await lab.settle()
                assert made.demand == asked
        await lab.settle()
        assert made.cancels == [("cancel", "normal")]

    in_lab(test)


def test_a_producer_is_set_to_forward() -> None:
    """STG-70: a stream lets go what its producers accumulated."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers, kwargs={"demand": "accumulate"})
        assert await read(stream(producer, lab.engine), 3) == [0, 1, 2]

    in_lab(test)


def test_leaving_early_cancels_the_producers() -> None:
    """STG-70: break out of `async with`, aclose, or dropping the stream: no reader, no message is left."""

    async def test(lab: Lab) -> None:
        for way in ("with", "aclose", "dropped"):
            made = Seen()
            producer = await lab.start(Numbers, made)
            events = stream(producer, lab.engine, max_demand=3)
            if way == "with":
                async with events:
                    assert await read(events, 2) == [0, 1]
            else:
                assert await read(events, 2) == [0, 1]
            if way == "aclose":
                await events.aclose()
                await events.aclose()
            if way == "dropped":
                del events
                gc.collect()
            else:
                assert await read(events) == []
            await lab.settle()
            assert made.cancels == [("cancel", "normal")]
            assert [cell.address for cell in lab.engine.cells.values()] == [producer]
            lab.engine.kill(producer)
        assert lab.engine.dead_letters.count == 0

    in_lab(test)


def test_what_is_under_way_is_not_lost_to_nobody() -> None:
    """STG-70: a reader ends when its producers have ended the subscriptions; what they sent before is taken."""

    async def test(lab: Lab) -> None:
        got: list[Any] = []
        by_hand = await lab.start(Probe, got)
        reader = await lab.start(Reader, [(by_hand, SubscribeOptions())])
        await lab.settle()
        lab.engine.cast(reader, Close())
        lab.engine.send(reader, Events(got[0].ref, 0, (1,)), by_hand.cell)
        await lab.settle()
        assert (got[-1], lab.engine.alive(reader)) == (Cancel(got[0].ref, "normal"), True)
        lab.engine.send(reader, Cancelled(got[0].ref, "normal"), by_hand.cell)
        assert await lab.down(reader) == "normal"
        assert lab.engine.dead_letters.count == 0

    in_lab(test)


def test_an_actors_task_reads() -> None:
    """Within an actor the stream is the actor's: in a handler, or in a task of its."""

    async def test(lab: Lab) -> None:
        caller = await lab.start(Caller)
        producer = await lab.start(Ending, 5)

        async def work(actor: GenServer) -> list[int]:
            return await read(stream(producer, actor, cancel="transient"))

        assert await lab.call(caller, Do(work)) == [0, 1, 2, 3, 4]
        assert len(lab.engine.cells) == 1

    in_lab(test)


def test_names_are_looked_up_in_the_callers_namespace() -> None:
    """An outside caller says its namespace."""

    async def test(lab: Lab) -> None:
        await lab.start(Ending, 2, name="one:producer/p")
        with pytest.raises(NoProcess):
            await read(stream("producer/p", lab.engine))
        assert await read(stream("producer/p", lab.engine, cancel="transient", namespace="one")) == [0, 1]

    in_lab(test)


def test_another_loop_and_a_thread_read() -> None:
    """`async for` on any event loop, `for` in a thread; `for` on the engine's own thread is refused."""
    with running_engine() as engine:

        def start() -> Any:
            return engine.outside.spawn(Ending, (50,)).address

        assert asyncio.run(read(stream(start(), engine, cancel="transient", max_demand=8))) == list(range(50))
        assert list(stream(start(), engine, cancel="transient", max_demand=8)) == list(range(50))
        with stream(engine.outside.spawn(Numbers).address, engine) as events:
            assert [next(events), next(events)] == [0, 1]
        assert list(events) == []
        silent = engine.outside.spawn(Numbers, kwargs={"silent": True}).address
        waiting = stream(silent, engine, timeout=0.01)
        with pytest.raises(CallTimeout):
            next(waiting)
        assert list(waiting) == []
        refused = stream(start(), engine)
        with pytest.raises(WrongThread):
            engine.on_engine(next, refused)


def test_two_readers_at_once_are_refused() -> None:
    """One waits; the other is told so, and the one that waits still gets its event."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers, kwargs={"silent": True})
        reader = await lab.start(Reader, [(producer, SubscribeOptions())])
        first = asyncio.ensure_future(lab.call(reader, Next()))
        await lab.settle()
        assert isinstance(await lab.error(reader, Next()), UsageError)
        await lab.call(producer, Do(lambda stage: stage.emit((1,))))
        assert await first == (1,)

    in_lab(test)


def test_a_pull_answers_what_has_come() -> None:
    """Next answers up to so many, waits if there is nothing, and keeps what came for one who gave up."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers, kwargs={"silent": True})
        reader = await lab.start(Reader, [(producer, SubscribeOptions(10, 0, "transient"))])
        assert isinstance(await lab.error(reader, Next(), 1.0), CallTimeout)
        await lab.call(producer, Do(lambda stage: stage.emit(range(5))))
        await lab.settle()
        assert [await lab.call(reader, Next(2)), await lab.call(reader, Next())] == [(0, 1), (2, 3, 4)]
        lab.engine.stop_actor(producer, "normal")
        assert await lab.call(reader, Next()) == StreamOver("normal", failed=False)
        assert await lab.down(reader) == "normal"

    in_lab(test)


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "reason", "raised"),
    [
        ("permanent", "normal", True),
        ("permanent", "broken", True),
        ("transient", "normal", False),
        ("transient", ("shutdown", "x"), False),
        ("transient", "broken", True),
        ("temporary", "broken", False),
    ],
)
def test_a_producers_end(mode: Any, reason: Any, raised: bool) -> None:
    """STG-71: what came before is read first; permanent and abnormal transient ends raise, once."""

    async def test(lab: Lab) -> None:
        events = stream(await lab.start(Ending, 3, reason), lab.engine, cancel=mode, max_demand=8)
        assert [await anext(events) for _ in range(3)] == [0, 1, 2]
        if raised:
            with pytest.raises(ActorDied) as caught:
                await anext(events)
            assert caught.value.reason == reason
        assert await read(events) == []
        await lab.settle()
        assert list(lab.engine.cells) == []

    in_lab(test)


def test_an_expected_failure_is_raised_as_it_is() -> None:
    """A producer that ends with ("shutdown", error) fails its reader with that error; a crash is its death."""

    async def test(lab: Lab) -> None:
        expected = LMServerError("overloaded", provider="p")
        failing = stream(await lab.start(Ending, 1, ("shutdown", expected)), lab.engine, cancel="transient")
        assert await anext(failing) == 0
        with pytest.raises(LMServerError) as same:
            await anext(failing)
        assert same.value is expected
        crashing = stream(await lab.start(Ending, 1, ValueError("bug")), lab.engine, cancel="transient")
        assert await anext(crashing) == 0
        with pytest.raises(ActorDied) as caught:
            await anext(crashing)
        assert isinstance(caught.value.reason, Crash)
        assert isinstance(caught.value.__cause__, ValueError)

    in_lab(test)


@pytest.mark.parametrize("mode", ["permanent", "transient", "temporary"])
def test_a_producer_that_is_not_there(mode: Any) -> None:
    """STG-71: NoProcess, but a temporary one is an empty stream."""

    async def test(lab: Lab) -> None:
        dead = await lab.start(Numbers)
        lab.engine.kill(dead)
        for target in (dead, "producer/none"):
            events = stream(target, lab.engine, cancel=mode)
            if mode != "temporary":
                with pytest.raises(NoProcess):
                    await anext(events)
            assert await read(events) == []
        await lab.settle()
        assert list(lab.engine.cells) == []

    in_lab(test)


def test_a_producer_that_cancels() -> None:
    """STG-71: a cancel counts as an end; one of several ends a permanent stream and cancels the others."""

    async def test(lab: Lab) -> None:
        one, other = Seen(), Seen()
        first, second = await lab.start(Numbers, one, kwargs={"silent": True}), await lab.start(Numbers, other)
        events = stream([first, second], lab.engine, max_demand=2)
        assert await read(events, 2) == [0, 1]
        await lab.call(first, Do(lambda stage: stage.cancel_consumer(stage.seen.subscriptions[0], "gone")))
        with pytest.raises(ActorDied) as caught:
            await read(events)
        assert caught.value.reason == "gone"
        await lab.settle()
        assert other.cancels == [("cancel", "normal")]
        assert len(lab.engine.cells) == 2

    in_lab(test)


def test_the_reader_is_killed() -> None:
    """Its death is the one outcome; the producer is told."""

    async def test(lab: Lab) -> None:
        made = Seen()
        producer = await lab.start(Numbers, made, kwargs={"silent": True})
        events = stream(producer, lab.engine)
        waiting = asyncio.ensure_future(anext(events))
        await lab.settle()
        (reader,) = [cell for cell in lab.engine.cells.values() if cell.actor_class is Reader]
        lab.engine.kill(reader.address)
        with pytest.raises(ActorDied) as caught:
            await waiting
        assert caught.value.reason == "killed"
        assert await read(events) == []
        assert made.cancels == [("down", "killed")]

    in_lab(test)


def test_the_owner_ends() -> None:
    """A stream ends with the actor that reads it: killed while it waits, or with a stream it forgot to close."""

    async def test(lab: Lab) -> None:
        for waits in (True, False):
            made = Seen()
            producer = await lab.start(Numbers, made, kwargs={"silent": waits})
            caller = await lab.start(Caller)
            kept: list[Any] = []

            async def work(actor: GenServer, kept: list[Any] = kept, producer: Any = producer) -> Any:
                kept.append(stream(producer, actor))
                return await anext(kept[0])

            reading = asyncio.ensure_future(lab.engine.call_async(caller, Do(work)))
            await lab.settle()
            lab.engine.kill(caller)
            if waits:
                with pytest.raises(ActorDied):
                    await reading
            else:
                assert await reading == 0
            await lab.settle()
            assert [cell.address for cell in lab.engine.cells.values()] == [producer]
            assert made.cancels == [("cancel", "normal")]
            lab.engine.kill(producer)

    in_lab(test)


def test_a_read_in_vain_times_out_and_is_the_end() -> None:
    """CallTimeout after `timeout` seconds without an event, or at the deadline of the call that is served."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers, kwargs={"silent": True})
        began = asyncio.get_running_loop().time()
        events = stream(producer, lab.engine, timeout=3.0)
        with pytest.raises(CallTimeout):
            await anext(events)
        assert asyncio.get_running_loop().time() - began == pytest.approx(3.0)
        assert await read(events) == []
        caller = await lab.start(Caller)

        async def work(actor: GenServer) -> Any:
            return await read(stream(producer, actor))

        assert isinstance(await lab.error(caller, Do(work), 2.0), CallTimeout)
        await lab.settle()
        assert len(lab.engine.cells) <= 2

    in_lab(test)


def test_a_cancelled_read_ends_the_stream() -> None:
    """A reader that is cancelled may have lost an event: there is no next one, and nothing is left."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers, kwargs={"silent": True})
        events = stream(producer, lab.engine)
        waiting = asyncio.ensure_future(anext(events))
        await lab.settle()
        waiting.cancel()
        await lab.settle()
        assert waiting.cancelled()
        assert await read(events) == []
        assert len(lab.engine.cells) == 1

    in_lab(test)


def test_the_engine_stops() -> None:
    """Who waits, in a thread or on another loop, gets ApplicationDown; so does who begins afterwards."""
    with running_engine() as engine:
        producer = engine.outside.spawn(Numbers, kwargs={"silent": True}).address
        outcomes: list[Any] = []

        def wait(work: Any) -> None:
            try:
                work()
            except (ApplicationDown, ActorDied) as error:
                outcomes.append(error)

        works = [lambda: next(stream(producer, engine)), lambda: asyncio.run(read(stream(producer, engine)))]
        threads = [threading.Thread(target=wait, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        while sum(cell.actor_class is Reader for cell in list(engine.cells.values())) < 2:
            engine.on_engine(lambda: None)
        engine.stop()
        for thread in threads:
            thread.join(5)
        assert [type(outcome) for outcome in outcomes] == [ApplicationDown, ApplicationDown]
        with pytest.raises(ApplicationDown):
            next(stream(producer, engine))
        with pytest.raises(ApplicationDown):
            asyncio.run(read(stream(producer, engine)))


def test_bad_options_are_refused_at_once() -> None:
    """STG-02: before anything is read."""

    async def test(lab: Lab) -> None:
        with pytest.raises(SpecError, match="max_demand"):
            stream("a", lab.engine, max_demand=0)
        pair = ("producer/none", SubscribeOptions(cancel="temporary"))
        assert await read(stream(pair, lab.engine)) == []
        assert await read(stream([pair, pair], lab.engine)) == []

    in_lab(test)


# -- from_enumerable ---------------------------------------------------------------------------------


async def letters(text: str, reads: list[str] | None = None) -> AsyncIterator[str]:
    """The letters, telling which were read."""
    for letter in text:
        await asyncio.sleep(0.1)
        if reads is not None:
            reads.append(letter)
        yield letter


def test_an_iterable_is_a_producer() -> None:
    """STG-72: it exits normally after the last events were delivered, those in the buffer included."""

    async def test(lab: Lab) -> None:
        sources: tuple[Any, ...] = ("abc", (), iter("abc"), letters("abc"))
        for items in sources:
            producer = await lab.start(FromEnumerable, items)
            found = await read(stream(producer, lab.engine, cancel="transient", max_demand=2))
            assert found == list("abc") or items == ()
            assert await lab.down(producer) in ("normal", "noproc")

    in_lab(test)


def test_an_async_iterable_is_read_on_demand_only() -> None:
    """STG-72: each item is read when somebody asked for it, not before."""

    async def test(lab: Lab) -> None:
        reads: list[str] = []
        producer = await lab.start(FromEnumerable, letters("abcdef", reads))
        async with stream(producer, lab.engine, max_demand=2, min_demand=0) as events:
            await asyncio.sleep(1.0)
            assert reads == []
            assert await anext(events) == "a"
            await asyncio.sleep(1.0)
            assert reads == ["a", "b"]

    in_lab(test)


def test_on_cancel_stop() -> None:
    """STG-72: stop ends it when the last consumer leaves, and closes its iterable; continue does not."""

    async def test(lab: Lab) -> None:
        closed: list[str] = []

        async def items() -> AsyncIterator[int]:
            try:
                for number in range(100):
                    yield number
            finally:
                closed.append("closed")

        for on_cancel, ends in (("stop", True), ("continue", False)):
            producer = await lab.start(FromEnumerable, items(), kwargs={"on_cancel": on_cancel})
            async with stream(producer, lab.engine, max_demand=2) as events:
                assert await read(events, 3) == [0, 1, 2]
                assert lab.engine.alive(producer)
            await lab.settle()
            assert lab.engine.alive(producer) is not ends
        assert closed == ["closed"]

    in_lab(test)


def test_it_ends_when_all_was_delivered_and_all_have_left() -> None:
    """STG-72: not while a partition still holds events; with `stop` not while anybody is still subscribed."""

    async def test(lab: Lab) -> None:
        options = {"dispatcher": lambda: PartitionDispatcher(2), "on_cancel": "stop"}
        producer = await lab.start(FromEnumerable, range(4), kwargs=options)
        zero, one = Seen(), Seen()
        await lab.start(Taker, zero, producer, kwargs={"partition": 0, "cancel": "temporary"})
        await lab.settle()
        assert (zero.events, lab.engine.alive(producer)) == ([0, 2], True)
        await lab.start(Taker, one, producer, kwargs={"partition": 1, "cancel": "temporary"})
        await lab.settle()
        assert (one.events, lab.engine.alive(producer)) == ([1, 3], False)

        shared = await lab.start(FromEnumerable, iter(int, 1), kwargs={"on_cancel": "stop"})
        first, second = stream(shared, lab.engine, max_demand=1), stream(shared, lab.engine, max_demand=1)
        assert [await anext(first), await anext(second)] == [0, 0]
        for events, lives in ((first, True), (second, False)):
            await events.aclose()
            await lab.settle()
            assert lab.engine.alive(shared) is lives

    in_lab(test)


def test_nobody_asks_a_subscription_that_is_over() -> None:
    """STG-70: what was read last is not asked for again when its producer has ended the subscription."""

    async def test(lab: Lab) -> None:
        got: list[Any] = []
        by_hand = await lab.start(Probe, got)
        events = stream(by_hand, lab.engine, max_demand=1, cancel="transient")
        reading = asyncio.ensure_future(anext(events))
        await lab.settle()
        (reader,) = [cell for cell in lab.engine.cells.values() if cell.actor_class is Reader]
        lab.engine.send(reader.address, Events(got[0].ref, 0, (1,)), by_hand.cell)
        lab.engine.send(reader.address, Cancelled(got[0].ref, "normal"), by_hand.cell)
        assert await reading == 1
        assert await read(events) == []
        await lab.settle()
        assert [message for message in got if isinstance(message, Ask)] == [Ask(got[0].ref, 1)]

    in_lab(test)


def test_an_iterable_that_fails() -> None:
    """STG-71, STG-72: the producer crashes with the failure, and the reader is told, after what came before."""

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("cut")

    async def test(lab: Lab) -> None:
        events = stream(await lab.start(FromEnumerable, broken()), lab.engine, cancel="transient")
        assert await anext(events) == 1
        with pytest.raises(ActorDied, match="ValueError: cut"):
            await anext(events)

    in_lab(test)


def test_wrong_arguments_of_from_enumerable() -> None:
    """STG-01: refused with bad_opts."""

    async def test(lab: Lab) -> None:
        for args, options in (((3,), {}), (("a",), {"buffer_size": 0})):
            outcome: Any = await lab.engine.spawn(FromEnumerable, args, options)
            assert outcome.reason[0] == "bad_opts"

    in_lab(test)


def test_many_streams_at_once() -> None:
    """A thousand streams of one engine, half of them left early: nothing of them is left, nor under way."""

    async def test(lab: Lab) -> None:
        async def items() -> AsyncIterator[int]:
            for number in range(20):
                yield number

        async def one(most: int) -> int:
            producer = await lab.start(FromEnumerable, items(), kwargs={"on_cancel": "stop"})
            async with stream(producer, lab.engine, cancel="transient", max_demand=4) as events:
                return sum(await read(events, most))

        assert await asyncio.gather(*(one(10 + 90 * (n % 2)) for n in range(1000))) == [45, 190] * 500
        await lab.settle()
        assert (list(lab.engine.cells), lab.engine.dead_letters.count) == ([], 0)

    in_lab(test)
