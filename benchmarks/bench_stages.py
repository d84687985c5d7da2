"""Stages: events one at a time from an async source to a consumer, beside a bare queue pair and a bare loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from dspex.runtime.address import LocalAddress
from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import NoReply, Started, call
from dspex.runtime.stages import Consumer, Credit, FromEnumerable, Producer, Subscription, stream

from .harness import Benchmark

EVENTS = 100_000
STREAMS = 1_000


class Finish:
    """Call of a counter: answer when all events have come."""


class Source(Producer):
    """Emits one event at a time, from a task, when asked."""

    def init(self) -> None:
        self.credit = Credit()
        self.start_task(self.pump())

    def handle_demand(self, demand: int) -> None:
        self.credit.add(demand)

    async def pump(self) -> None:
        for number in range(EVENTS):
            await self.credit.take()
            self.emit((number,))


class Counter(Consumer):
    """Counts events."""

    def init(self, source: Any, max_demand: int) -> None:
        self.left = EVENTS
        self.source, self.max_demand = source, max_demand

    @call
    def finish(self, message: Finish) -> NoReply:
        self.who = self.caller
        self.subscribe_to(self.source, max_demand=self.max_demand)
        return NoReply()

    def handle_events(self, events: tuple[int, ...], subscription: Subscription) -> None:
        self.left -= len(events)
        if not self.left:
            self.reply(self.who, None)


class Batches(Producer):
    """Emits what it is asked for."""

    def handle_demand(self, demand: int) -> range:
        return range(demand)


def _with_engine(measure: Callable[[Engine], float]) -> Callable[[], float]:
    def run() -> float:
        engine = Engine()
        try:
            return measure(engine)
        finally:
            engine.stop()

    return run


def _one_at_a_time(max_demand: int) -> Callable[[], float]:
    def measure(engine: Engine) -> float:
        source = engine.outside.spawn(Source).address
        counter = engine.outside.spawn(Counter, (source, max_demand)).address
        began = time.perf_counter()
        engine.outside.call_blocking(counter, Finish(), timeout=None)
        return EVENTS / (time.perf_counter() - began)

    return _with_engine(measure)


def _batches(engine: Engine) -> float:
    counter = engine.outside.spawn(Counter, (engine.outside.spawn(Batches).address, 1000)).address
    began = time.perf_counter()
    engine.outside.call_blocking(counter, Finish(), timeout=None)
    return EVENTS / (time.perf_counter() - began)


async def _numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def _numbers_producer(engine: Engine, count: int) -> LocalAddress:
    outcome = await engine.spawn(FromEnumerable, (_numbers(count),))
    assert isinstance(outcome, Started)
    return outcome.address


def _stream(engine: Engine) -> float:
    async def read() -> float:
        source = await _numbers_producer(engine, EVENTS)
        began = time.perf_counter()
        async for _ in stream(source, engine, cancel="transient"):
            pass
        return EVENTS / (time.perf_counter() - began)

    return engine.outside.run_coroutine(read())


def _many_streams(engine: Engine) -> float:
    each = EVENTS // STREAMS

    async def read() -> None:
        source = await _numbers_producer(engine, each)
        async for _ in stream(source, engine, cancel="transient", max_demand=8):
            pass

    async def read_all() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(read() for _ in range(STREAMS)))
        return EVENTS / (time.perf_counter() - began)

    return engine.outside.run_coroutine(read_all())


def _queue_pair() -> float:
    async def main() -> float:
        there: asyncio.Queue[int] = asyncio.Queue(1000)

        async def produce() -> None:
            for number in range(EVENTS):
                await there.put(number)

        began = time.perf_counter()
        task = asyncio.create_task(produce())
        for _ in range(EVENTS):
            await there.get()
        await task
        return EVENTS / (time.perf_counter() - began)

    return asyncio.run(main())


def _bare_loop() -> float:
    async def main() -> float:
        began = time.perf_counter()
        async for _ in _numbers(EVENTS):
            pass
        return EVENTS / (time.perf_counter() - began)

    return asyncio.run(main())


QUEUES = "bare asyncio.Queue, one producer, one consumer"
BENCHMARKS = (
    Benchmark("bare async for loop", _bare_loop, "1/s"),
    Benchmark(QUEUES, _queue_pair, "1/s"),
    Benchmark("events, one at a time, max_demand 8", _one_at_a_time(8), "1/s", floor=100_000),
    Benchmark("events, one at a time, max_demand 100", _one_at_a_time(100), "1/s", floor=100_000),
    Benchmark("events, one at a time, max_demand 1000", _one_at_a_time(1000), "1/s", baseline=QUEUES, floor=0.3),
    Benchmark("events, in batches, max_demand 1000", _with_engine(_batches), "1/s", baseline=QUEUES, floor=2.0),
    Benchmark("events of a stream, read one at a time", _with_engine(_stream), "1/s", baseline=QUEUES, floor=0.1),
    Benchmark("events of 1,000 streams at once", _with_engine(_many_streams), "1/s", baseline=QUEUES, floor=0.02),
)
