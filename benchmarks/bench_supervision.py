"""Supervision: one child of many costs what one child of few costs, and a large group restarts at once.

Each operation on a dynamic supervisor's child takes the same time however many there are: the floor says that with
10,000 children it takes less than twice as long as with 100.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from dspex.runtime.address import LocalAddress
from dspex.runtime.child_spec import ChildSpec, StartChild
from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer
from dspex.runtime.outcomes import Started
from dspex.runtime.reasons import KILL
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.messages import ChildInfo, TerminateChild, WhichChild
from dspex.supervisors.supervisor import Supervisor

from .harness import Benchmark

SIZES = (100, 1_000, 10_000)
OPERATIONS = 200
GROUP = 1_000
SPEC = ChildSpec("child", GenServer)


class _Pool:
    """An engine with a supervisor and its children."""

    def __init__(self, engine: Engine, supervisor: LocalAddress) -> None:
        self.engine = engine
        self.supervisor = supervisor

    async def call(self, message: object) -> object:
        return await self.engine.call_async(self.supervisor, message, None)

    async def start_one(self) -> LocalAddress:
        started = await self.call(StartChild(SPEC))
        assert isinstance(started, Started)
        return started.address

    async def address_of(self, child: int) -> LocalAddress:
        info = await self.call(WhichChild(child))
        assert isinstance(info, ChildInfo)
        assert isinstance(info.address, LocalAddress)
        return info.address

    async def kill(self, child: LocalAddress, other: LocalAddress) -> None:
        """Kill a child and wait until it runs again: the supervisor answers afterwards."""
        self.engine.kill(child, KILL)
        await self.call(WhichChild(other))


async def _in_pool(size: int, measure: Callable[[_Pool, list[LocalAddress]], Awaitable[float]]) -> float:
    engine = Engine(loop="current")
    try:
        outcome = await engine.spawn(DynamicSupervisor, (), {"max_restarts": 10 * OPERATIONS})
        assert isinstance(outcome, Started)
        pool = _Pool(engine, outcome.address)
        return await measure(pool, [await pool.start_one() for _ in range(size)])
    finally:
        await engine.astop()


def _microseconds(began: float, operations: int) -> float:
    return (time.perf_counter() - began) * 1e6 / operations


async def _start(pool: _Pool, children: list[LocalAddress]) -> float:
    began = time.perf_counter()
    for _ in range(OPERATIONS):
        await pool.start_one()
    return _microseconds(began, OPERATIONS)


async def _kill_and_restart(pool: _Pool, children: list[LocalAddress]) -> float:
    *victims, other = random.Random(0).sample(children, min(OPERATIONS, len(children)))
    began = time.perf_counter()
    for victim in victims:
        await pool.kill(victim, other)
    return _microseconds(began, len(victims))


async def _terminate(pool: _Pool, children: list[LocalAddress]) -> float:
    victims = random.Random(0).sample(children, min(OPERATIONS, len(children)))
    began = time.perf_counter()
    for victim in victims:
        await pool.call(TerminateChild(victim))
    return _microseconds(began, len(victims))


async def _one_for_all() -> float:
    engine = Engine(loop="current")
    try:
        children = [ChildSpec(number, GenServer) for number in range(GROUP)]
        outcome = await engine.spawn(Supervisor, (children,), {"strategy": "one_for_all"})
        assert isinstance(outcome, Started)
        pool = _Pool(engine, outcome.address)
        victim, other = await pool.address_of(GROUP // 2), await pool.address_of(0)
        began = time.perf_counter()
        engine.kill(victim, KILL)
        renewed = await pool.address_of(0)
        taken = (time.perf_counter() - began) * 1000
        assert renewed != other
        return taken
    finally:
        await engine.astop()


def _of_many(name: str, size: int, measure: Callable[[_Pool, list[LocalAddress]], Awaitable[float]]) -> Benchmark:
    largest = size == SIZES[-1]
    return Benchmark(
        f"{name}, {size:,} children",
        lambda: asyncio.run(_in_pool(size, measure)),
        "us",
        better="lower",
        baseline=f"{name}, {SIZES[0]:,} children" if largest else None,
        floor=0.5 if largest else None,
    )


BENCHMARKS = (
    *(_of_many("start a child", size, _start) for size in SIZES),
    *(_of_many("kill and restart a child", size, _kill_and_restart) for size in SIZES),
    *(_of_many("terminate a child", size, _terminate) for size in SIZES),
    Benchmark(
        f"one_for_all restart of {GROUP:,} children",
        lambda: asyncio.run(_one_for_all()),
        "ms",
        better="lower",
        floor=100.0,
    ),
)
