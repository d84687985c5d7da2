"""Actors: how fast they start, how little they weigh, how soon a crashed one answers again."""

from __future__ import annotations

import gc
import os
import statistics
import time
from pathlib import Path
from typing import Any

from dspex.runtime.child_spec import ChildSpec, StartChild
from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer, call, cast
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.supervisor import Supervisor

from .harness import Benchmark

MANY = 100_000
SUPERVISED = 20_000
CRASHES = 1_000


class Crash:
    """Raise."""


class Hello:
    """Answer."""


class SpawnAll:
    """Start this many supervised actors."""


class CrashAll:
    """Crash the worker many times, and wait each time until its name answers."""


class Worker(GenServer):
    """Idle; answers and crashes on demand."""

    @call
    def hello(self, msg: Hello) -> int:
        return 1

    @cast
    def crash(self, msg: Crash) -> None:
        raise ValueError("on demand")


class Driver(GenServer):
    """Drives from inside, where nothing but the engine is measured."""

    @call
    async def spawn_all(self, msg: SpawnAll) -> float:
        began = time.perf_counter()
        for number in range(SUPERVISED):
            await self.call("bench/pool", StartChild(ChildSpec(number, Worker)), timeout=None)
        return SUPERVISED / (time.perf_counter() - began)

    @call
    async def crash_all(self, msg: CrashAll) -> float:
        taken: list[float] = []
        for _ in range(CRASHES):
            incarnation = self._incarnation()
            began = time.perf_counter()
            self.cast("bench/worker", Crash())
            while True:
                try:
                    await self.call("bench/worker", Hello())
                except Exception:  # fault boundary: the call that came between crash and restart
                    continue
                if self._incarnation() > incarnation:
                    break
            taken.append(time.perf_counter() - began)
        return statistics.median(taken) * 1e6

    def _incarnation(self) -> int:
        entry = self.system.names.get("bench/worker")
        return entry.incarnation if entry is not None else 0


def _drive(message: Any) -> float:
    engine = Engine()
    try:
        worker = ChildSpec("worker", Worker, name="bench/worker")
        engine.outside.spawn(Supervisor, ([worker],), {"max_restarts": CRASHES * 2})
        engine.outside.spawn(DynamicSupervisor, name="bench/pool")
        driver = engine.outside.spawn(Driver).address
        figure: float = engine.outside.call_blocking(driver, message, timeout=None)
        return figure
    finally:
        engine.stop(timeout=30.0)


async def _spawn(engine: Engine, count: int) -> list[Any]:
    return [(await engine.spawn(Worker)).address for _ in range(count)]  # type: ignore[union-attr]


def _unsupervised() -> float:
    engine = Engine()
    try:
        began = time.perf_counter()
        engine.outside.run_coroutine(_spawn(engine, SUPERVISED))
        return SUPERVISED / (time.perf_counter() - began)
    finally:
        engine.stop(timeout=30.0)


def _resident() -> int:
    with Path("/proc/self/statm").open(encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _bytes_per_actor() -> float:
    engine = Engine()
    try:
        gc.collect()
        before = _resident()
        addresses = engine.outside.run_coroutine(_spawn(engine, MANY))
        weight = (_resident() - before) / MANY
        for address in (addresses[0], addresses[MANY // 2], addresses[-1]):
            engine.outside.call_blocking(address, Hello(), timeout=5.0)
        return weight
    finally:
        engine.stop(timeout=30.0)


BENCHMARKS = (
    Benchmark("spawn, unsupervised", _unsupervised, "1/s", floor=50_000),
    Benchmark("spawn, supervised", lambda: _drive(SpawnAll()), "1/s", floor=20_000),
    Benchmark("weight of an idle actor (100,000 of them)", _bytes_per_actor, "bytes", better="lower", floor=3072),
    Benchmark(
        "crash until the name answers again, median", lambda: _drive(CrashAll()), "us", better="lower", floor=300
    ),
)
