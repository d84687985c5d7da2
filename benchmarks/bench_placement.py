"""Placement: what an actor in a child interpreter costs, beside one in the caller's own, and what it gains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dspex
from dspex.runtime.child_spec import Placement
from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer, Started, call, cast

from .harness import Benchmark

CALLS = 2_000
CASTS = 20_000
BURST = 5_000
PREDICTIONS, COMPUTED = 100, 200_000


class Ask:
    """A call that is answered at once."""

    __slots__ = ()


class Tell:
    """A cast."""

    __slots__ = ()


class Memory:
    """A call: the resident memory of the process, in MB."""

    __slots__ = ()


class Block:
    """A call with content."""

    def __init__(self, content: bytes) -> None:
        self.content = content


class Echo(GenServer):
    """Answers, counts, and knows how much memory its process has."""

    def init(self) -> None:
        self.count = 0

    @call
    def ask(self, message: Ask) -> int:
        return self.count

    @call
    def memory(self, message: Memory) -> float:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
        return int(fields["VmRSS"].split()[0]) / 1024

    @call
    def measure(self, message: Block) -> int:
        return len(message.content)

    @cast
    def tell(self, message: Tell) -> None:
        self.count += 1


class Rounds:
    """Call this one so often."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer


class Caller(GenServer):
    """Awaits calls, one after the other."""

    @call
    async def rounds(self, message: Rounds) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            await self.call(message.peer, ASK)
        return CALLS / (time.perf_counter() - began)


ASK, TELL = Ask(), Tell()


def with_echo(work: Callable[[Engine, Any], Awaitable[float]], placement: Placement) -> float:
    """Measure with a fresh engine on the running loop, and one actor."""

    async def run() -> float:
        engine = Engine(loop="current")
        try:
            outcome = await engine.spawn(Echo, placement=placement)
            assert isinstance(outcome, Started), outcome
            return await work(engine, outcome.address)
        finally:
            await engine.astop()

    return asyncio.run(run())


async def calls(engine: Engine, echo: Any) -> float:
    caller = await engine.spawn(Caller)
    assert isinstance(caller, Started)
    rate: float = await engine.call_async(caller.address, Rounds(echo), 60.0)
    return rate


async def calls_at_once(engine: Engine, echo: Any) -> float:
    began = time.perf_counter()
    for _ in range(CALLS // 100):
        await asyncio.gather(*(engine.call_async(echo, ASK, 60.0) for _ in range(100)))
    return CALLS / (time.perf_counter() - began)


async def casts(engine: Engine, echo: Any) -> float:
    count, began = 0, time.perf_counter()
    for _ in range(CASTS // BURST):
        for _ in range(BURST):
            engine.cast(echo, TELL)
        count = await engine.call_async(echo, ASK, 60.0)
    assert count == CASTS
    return CASTS / (time.perf_counter() - began)


async def megabytes(engine: Engine, echo: Any) -> float:
    block = bytes(1_000_000)
    began = time.perf_counter()
    for _ in range(100):
        await engine.call_async(echo, Block(block), 60.0)
    return 100 / (time.perf_counter() - began)


async def memory(engine: Engine, echo: Any) -> float:
    found: float = await engine.call_async(echo, Memory())
    return found


def starts() -> float:
    """Milliseconds from ``spawn`` to a running actor."""
    began = time.perf_counter()

    async def started(engine: Engine, echo: Any) -> float:
        return (time.perf_counter() - began) * 1000

    return with_echo(started, "process")


class Computes(dspex.Module):
    """A program whose time goes into its own code, not into waiting for a model."""

    ask = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> dict[str, str]:
        return {"answer": str(sum(number * number for number in range(COMPUTED)))}


def computed(workers: int, placement: Placement) -> float:
    """Predictions a second of such a program, many at once."""

    async def run() -> float:
        async with dspex.astart(config={"events": {"in_memory": True}}) as app:
            await app.configure_provider("none", kind="openai", base_url="http://127.0.0.1:1/v1")
            program = await app.start_program("c", Computes, provider="none", workers=workers, placement=placement)
            await asyncio.gather(*(program(question="warm") for _ in range(2 * workers)))
            began = time.perf_counter()
            await asyncio.gather(*(program(question="?") for _ in range(PREDICTIONS)))
            return PREDICTIONS / (time.perf_counter() - began)

    return asyncio.run(run())


HERE = "predictions that compute, one worker here"
BENCHMARKS = (
    Benchmark("calls, local actor", lambda: with_echo(calls, "local"), "1/s"),
    Benchmark("calls, placed actor", lambda: with_echo(calls, "process"), "1/s", floor=2_000),
    Benchmark("100 calls at once, local", lambda: with_echo(calls_at_once, "local"), "1/s"),
    Benchmark("100 calls at once, placed", lambda: with_echo(calls_at_once, "process"), "1/s", floor=8_000),
    Benchmark("casts in batches, local", lambda: with_echo(casts, "local"), "1/s"),
    Benchmark("casts in batches, placed", lambda: with_echo(casts, "process"), "1/s", floor=30_000),
    Benchmark("megabytes in single calls, placed", lambda: with_echo(megabytes, "process"), "MB/s", floor=100),
    Benchmark("start of a placed actor", starts, "ms", better="lower", floor=500),
    Benchmark(HERE, lambda: computed(1, "local"), "1/s"),
    Benchmark("the same, 2 workers in processes", lambda: computed(2, "process"), "1/s", baseline=HERE, floor=1.4),
    Benchmark("memory of a child", lambda: with_echo(memory, "process"), "MB", better="lower", floor=60),
)
