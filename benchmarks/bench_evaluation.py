"""10,000 examples, 64 at once, against a server that answers at once: how fast, beside bare calls; how much memory.

Once as it is, once with a journal, which writes down each answer and each row before it goes on.

Memory is what the process holds after a full collection, and it is weighed after a tenth, a half and all of the
examples: the rows are kept to the end, and nothing else may grow with their number. Two figures say that: KB for each
example between a tenth and all, and by how much the second half weighs more than the first.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import dspex
from dspex.actors.evaluation.work import EvaluationProgress
from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction

from .bench_providers import workers
from .harness import Benchmark
from .lm_server import lm_server

EXAMPLES: Final = 10_000
WORKERS: Final = 64
WEIGHED: Final = (EXAMPLES // 10, EXAMPLES // 2, EXAMPLES)
"""After how many examples memory is weighed."""
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


def examples(run_id: str | None) -> Measure:
    """Examples a second, with a journal if it has a name."""

    async def measure(app: dspex.AsyncApp, qa: Any) -> float:
        data = dataset("example")
        began = time.perf_counter()
        report = await app.evaluate(qa, data, metric=right, workers=WORKERS, progress=False, run_id=run_id)
        took = time.perf_counter() - began
        assert (report.score, report.failures) == (1.0, 0), report
        return EXAMPLES / took

    return measure


def resident() -> float:
    """Resident memory of this process, in KB: what is used, not what the allocator keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1000


def memory(run_id: str | None) -> Measure:
    """KB by which memory grows for each example, with a journal if it has a name."""

    async def measure(app: dspex.AsyncApp, qa: Any) -> float:
        seen: list[tuple[int, float]] = []

        def look(now: EvaluationProgress) -> None:
            if now.done >= WEIGHED[min(len(seen), len(WEIGHED) - 1)]:
                seen.append((now.done, resident()))

        data = dataset("memory")
        await app.evaluate(qa, data, metric=right, workers=WORKERS, progress=look, run_id=run_id)
        (first, before), (half, between), (last, after) = *seen[:2], seen[-1]
        halves = (between - before) / (half - first), (after - between) / (last - half)
        shown = ", ".join(f"{kb / 1000:.1f} MB after {done:,}" for done, kb in seen)
        print(f"  {shown}: {halves[0]:.2f} KB an example, then {halves[1]:.2f}", file=sys.stderr)
        return (after - before) / (last - first)

    return measure


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


def weighed(run_id: str | None) -> Callable[[], float]:
    """What weighs an evaluation in a process of its own: in this one, others have left memory to be used again."""

    def start() -> float:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            return fresh.submit(weigh, run_id).result()

    return start


def weigh(run_id: str | None) -> float:
    """See :func:`memory`."""
    return measured(memory(run_id))()


def _benchmarks() -> tuple[Benchmark, ...]:
    bare = "10,000 module calls"
    found = [
        Benchmark(bare, measured(bare_calls), "1/s"),
        Benchmark("10,000 examples evaluated", measured(examples(None)), "1/s", baseline=bare, floor=0.7),
        Benchmark("10,000 examples, journaled", measured(examples("bench")), "1/s", baseline=bare, floor=0.6),
    ]
    if sys.platform == "linux":
        for words, run_id in (("memory of an evaluated example", None), ("memory of a journaled example", "bench")):
            found.append(Benchmark(words, weighed(run_id), "KB", better="lower", floor=5))
    return tuple(found)


BENCHMARKS = _benchmarks()
