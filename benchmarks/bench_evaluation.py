"""10,000 examples, 64 at once, against a server that answers at once: how fast, beside bare calls; how much memory.

Memory is what the process grew by from the first tenth on: the rows are kept to the end, and nothing else may grow
with their number.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dspex
from dspex.actors.evaluation import EvaluationProgress
from dspex.actors.examples import Example
from dspex.actors.prediction import Prediction

from .bench_providers import workers
from .harness import Benchmark
from .lm_server import lm_server

EXAMPLES = 10_000
WORKERS = 64
Measure = Callable[[dspex.AsyncApp, Any], Awaitable[float]]


def right(example: Example, prediction: Prediction) -> bool:
    """The server says Hello to everybody."""
    return bool(prediction.answer == example.answer)


def dataset(tag: str) -> list[Example]:
    """Examples that are all different, so that none is answered from the cache."""
    return [
        Example(question=f"What is {tag} {number}?", answer="Hello").with_inputs("question")
        for number in range(EXAMPLES)
    ]


async def bare_calls(app: dspex.AsyncApp, qa: Any) -> float:
    """Calls a second."""
    return await workers(lambda text: qa(question=text), EXAMPLES, "call", EXAMPLES)


async def examples(app: dspex.AsyncApp, qa: Any) -> float:
    """Examples a second."""
    data = dataset("example")
    began = time.perf_counter()
    report = await app.evaluate(qa, data, metric=right, workers=WORKERS, progress=False)
    took = time.perf_counter() - began
    assert (report.score, report.failures) == (1.0, 0), report
    return EXAMPLES / took


def resident() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def memory(app: dspex.AsyncApp, qa: Any) -> float:
    """KB by which memory grew for each example after the first tenth."""
    seen: list[tuple[int, float]] = []

    def look(now: EvaluationProgress) -> None:
        if now.done >= EXAMPLES // 10:
            seen.append((now.done, resident()))

    await app.evaluate(qa, dataset("memory"), metric=right, workers=WORKERS, progress=look)
    (first, before), (last, after) = seen[0], seen[-1]
    return (after - before) * 1000 / (last - first)


def measured(measure: Measure) -> Callable[[], float]:
    """What runs a measurement in an application with a warm module."""

    async def run(url: str, folder: str) -> float:
        async with dspex.astart(config={"events": {"path": str(Path(folder) / "bench.db")}}) as app:
            await app.configure_provider("p", kind="openai", base_url=url, default_model="bench", api_key="bench")
            qa = await app.start_module("qa", "question -> answer", provider="p", max_concurrency=WORKERS)
            await workers(lambda text: qa(question=text), 10 * WORKERS, "warm-up", 10 * WORKERS)
            return await measure(app, qa)

    def start() -> float:
        with lm_server() as url, tempfile.TemporaryDirectory() as folder:
            return asyncio.run(run(url, folder))

    return start


def _benchmarks() -> tuple[Benchmark, ...]:
    bare = "10,000 module calls"
    found = [
        Benchmark(bare, measured(bare_calls), "1/s"),
        Benchmark("10,000 examples evaluated", measured(examples), "1/s", baseline=bare, floor=0.7),
    ]
    if sys.platform == "linux":
        found.append(Benchmark("memory of an evaluated example", measured(memory), "KB", better="lower", floor=5))
    return tuple(found)


BENCHMARKS = _benchmarks()
