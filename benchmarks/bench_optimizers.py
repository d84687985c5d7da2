"""Optimizers beside DSPy's namesakes: the same simulated model behind HTTP, data, seeds, threads and budget.

What is measured is a run from its start to its result, in the mean of some seeds, each with data of its own: seconds,
calls and tokens of the model, and the score on examples that were held out. The model answers at once and is a
simulation (``dspex.actors.testing.simulated_lm``): the scores say which search finds what is there to find, not what
a real task would gain. Both work with their own settings, and both could go on after a crash: ours writes its journal
to disk, DSPy its cache. As that cache is no small part of DSPy's time, one search is measured without it, too. DSPy
works in a process of its own; ``DSPEX_BENCH_DSPY`` names the interpreter that has it, if not this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dspex
from dspex.actors.examples import Example
from dspex.actors.modules.program_state import ONLY, PredictorState
from dspex.actors.testing.simulated_lm import CLUE, SIGNATURE, dataset, judge

from .bench_providers import dspy_python
from .harness import Benchmark
from .lm_server import lm_server, used

SEEDS: Final = 5
WORKERS: Final = 8
TRAIN, VALIDATION, HELD_OUT = 40, 50, 200
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Contest:
    """One method, in both libraries.

    Attributes:
        ours, dspy: options that mean the same.
        budget: calls, if that bounds the search.
    """

    ours: Mapping[str, Any]
    dspy: Mapping[str, Any]
    budget: int | None = None


_DEMOS: Final = {"max_bootstrapped_demos": 4, "max_labeled_demos": 4}
CONTESTS: Final[Mapping[str, Contest]] = {
    "labeled_few_shot": Contest({}, {"k": 4}),
    "bootstrap": Contest({}, _DEMOS),
    # DSPy counts the labelled set and the unshuffled one apart; and the program as it is, as ours does.
    "random_search": Contest({"candidates": 16}, {**_DEMOS, "num_candidate_programs": 14}),
    # DSPy counts what the program has already among its candidates.
    "mipro": Contest(
        {"proposals": 7, "demo_sets": 7, "generations": 8, "generation": 4},
        {**_DEMOS, "num_candidates": 8, "num_trials": 32},
    ),
    "gepa": Contest({}, {"max_metric_calls": 360}, 360),
}


@dataclass(frozen=True, slots=True)
class Task:
    """Data and seed of one run."""

    seed: int

    @property
    def examples(self) -> tuple[list[Example], list[Example], list[Example]]:
        """To learn from, to choose by, and held out."""
        first = self.seed * 10_000
        train, validation = dataset(TRAIN, first), dataset(VALIDATION, first + TRAIN)
        return train, validation, dataset(HELD_OUT, first + TRAIN + VALIDATION)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        names = ("train", "validation", "held_out")
        return {"seed": self.seed} | {
            name: [dict(each) for each in rows] for name, rows in zip(names, self.examples, strict=True)
        }


TASKS: Final = tuple(Task(seed) for seed in range(1, SEEDS + 1))


def ours(method: str) -> list[Figures]:
    """Each task, by a run of dspex."""
    with lm_server() as url, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_ours(method, url, folder))


async def _ours(method: str, url: str, folder: str) -> list[Figures]:
    async with dspex.astart(config={"events": {"path": str(Path(folder) / "bench.db")}}) as app:
        await app.configure_provider("sim", kind="openai", base_url=url, default_model="simulated", api_key="bench")
        await app.start_module("sort", SIGNATURE, provider="sim", max_concurrency=WORKERS)
        await _run(app, "labeled_few_shot", Task(0), url)
        return [await _run(app, method, task, url) for task in TASKS]


async def _run(app: dspex.AsyncApp, method: str, task: Task, url: str) -> Figures:
    train, validation, held_out = task.examples
    contest = CONTESTS[method]
    budget = {} if contest.budget is None else {"calls": contest.budget}
    before, began = used(url), time.perf_counter()
    run = await app.optimize(
        "sort",
        train,
        metric=judge,
        method=method,
        options=contest.ours,
        valset=validation,
        seed=task.seed,
        budget=budget,
        workers=WORKERS,
        patience=0,
    )
    result = await run.result()
    seconds, after = time.perf_counter() - began, used(url)
    best = result.state.predictors.get(ONLY, PredictorState())
    signature = SIGNATURE.with_instructions(best.instructions or SIGNATURE.instructions)
    better = await app.start_module(f"{run.id}-best", signature, provider="sim", demos=list(best.demos))
    report = await app.evaluate(better, held_out, metric=judge, workers=WORKERS, progress=False)
    return {"seconds": seconds, "score": report.score, **{name: after[name] - before[name] for name in after}}


def theirs(method: str, python: str, cache: bool = True) -> list[Figures]:
    """Each task, by DSPy under another interpreter."""
    script = Path(__file__).with_name("dspy_optimizers.py")
    with lm_server() as url, tempfile.TemporaryDirectory() as folder:
        job = {
            "url": url,
            "method": method,
            "options": CONTESTS[method].dspy,
            "workers": WORKERS,
            "cache": cache,
            "signature": SIGNATURE.text,
            "instructions": SIGNATURE.instructions,
            "clue": CLUE,
            "warm_up": Task(0).to_dict()["validation"],
            "tasks": [task.to_dict() for task in TASKS],
        }
        surroundings = {**os.environ, "DSPY_CACHEDIR": folder}
        command = [python, str(script)]
        done = subprocess.run(
            command, check=False, input=json.dumps(job), capture_output=True, text=True, env=surroundings
        )
        if done.returncode:
            raise RuntimeError(f"DSPy's {method} failed:\n{done.stderr[-4000:]}")
        found: list[Figures] = json.loads(done.stdout)
        return found


class Measured:
    """One measurement gives several figures; it is made anew when one is asked for a second time.

    Args:
        measure: answers the figures of each task.
    """

    def __init__(self, measure: Callable[[], Sequence[Figures]]) -> None:
        self._measure = measure
        self._left: dict[str, float] = {}

    def figure(self, name: str) -> Callable[[], float]:
        """What answers the mean of one figure."""

        def take() -> float:
            if name not in self._left:
                tasks = self._measure()
                self._left = {each: statistics.fmean(task[each] for task in tasks) for each in tasks[0]}
            return self._left.pop(name)

        return take


def _contest(method: str, python: str | None) -> list[Benchmark]:
    mine, found = Measured(lambda: ours(method)), list[Benchmark]()
    dspy = None if python is None else Measured(lambda: theirs(method, python))
    for name, unit, better, floor in (
        ("seconds", "s", "lower", 3.0),
        ("score", "", "higher", 0.98),
        ("calls", "", "lower", None),
        ("tokens", "", "lower", None),
    ):
        words: dict[str, Any] = {"unit": unit, "better": better}
        if dspy is None:
            found.append(Benchmark(f"{method}: {name}", mine.figure(name), **words))
        else:
            base = f"{method}: {name}, DSPy"
            found.append(Benchmark(base, dspy.figure(name), **words))
            found.append(Benchmark(f"{method}: {name}", mine.figure(name), baseline=base, floor=floor, **words))
    return found


def _benchmarks() -> tuple[Benchmark, ...]:
    python = dspy_python()
    if python is None:
        print("DSPy is not installed: optimizers have nothing to be compared with", file=sys.stderr)
    found = [each for method in CONTESTS for each in _contest(method, python)]
    if python is not None:
        bare = Measured(lambda: theirs("random_search", python, cache=False)).figure("seconds")
        beside: dict[str, Any] = {"unit": "s", "better": "lower", "baseline": "random_search: seconds"}
        found.append(Benchmark("random_search: seconds, DSPy without its cache", bare, **beside))
    return tuple(found)


BENCHMARKS = _benchmarks()
