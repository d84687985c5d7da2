"""Benchmarks as data, run in interleaved rounds, judged by their medians.

Absolute figures differ from machine to machine, ratios much less: so a benchmark may name another one as its
baseline. All benchmarks of a module run once a round, one after the other, so that a machine that gets slower
for a while slows them all.
"""

from __future__ import annotations

import gc
import math
import statistics
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Verdict = Literal["ok", "MISSED", "crashed", ""]
HEADER: Final = ("benchmark", "median", "unit", "ratio", "floor", "")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One figure to measure.

    Args:
        name: unique among all benchmarks.
        run: measures once and returns the figure.
        unit: of the figure.
        better: whether a higher or a lower figure is better.
        baseline: the benchmark to compare with.
        floor: what is demanded: with a baseline, how many times better than it; without, the figure itself
            (at least so high, or at most if lower is better).
    """

    name: str
    run: Callable[[], float]
    unit: str
    better: Literal["higher", "lower"] = "higher"
    baseline: str | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one benchmark.

    Attributes:
        benchmark: which.
        figures: of each round; empty if it crashed.
        ratio: how many times better than its baseline; None without one.
        verdict: ``ok`` or ``MISSED`` against the floor, empty without one, or ``crashed``.
    """

    benchmark: Benchmark
    figures: tuple[float, ...]
    ratio: float | None
    verdict: Verdict

    @property
    def median(self) -> float:
        """The median figure; NaN if it crashed."""
        return statistics.median(self.figures) if self.figures else math.nan

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        one = self.benchmark
        return {
            "name": one.name,
            "median": self.median if self.figures else None,
            "figures": list(self.figures),
            "unit": one.unit,
            "better": one.better,
            "baseline": one.baseline,
            "ratio": self.ratio,
            "floor": one.floor,
            "verdict": self.verdict,
        }


def run_rounds(benchmarks: Sequence[Benchmark], rounds: int) -> dict[str, tuple[float, ...]]:
    """Run each benchmark once a round; the figures by name, none for one that crashed."""
    figures: dict[str, list[float]] = {one.name: [] for one in benchmarks}
    crashed: set[str] = set()
    for _ in range(rounds):
        for one in benchmarks:
            if one.name in crashed:
                continue
            gc.collect()
            try:
                figures[one.name].append(one.run())
            except Exception:  # fault boundary: one that crashes must not keep the others from running
                print(f"benchmark {one.name!r} crashed:", file=sys.stderr)
                traceback.print_exc()
                crashed.add(one.name)
    return {name: () if name in crashed else tuple(values) for name, values in figures.items()}


def judge(benchmarks: Iterable[Benchmark], figures: Mapping[str, tuple[float, ...]]) -> list[Result]:
    """Compare each benchmark with its baseline and its floor.

    Args:
        benchmarks: to judge.
        figures: of them and of their baselines; none if one crashed.
    """
    return [_judged(one, figures[one.name], figures.get(one.baseline or "", ())) for one in benchmarks]


def with_baselines(chosen: Iterable[Benchmark], known: Iterable[Benchmark]) -> list[Benchmark]:
    """The chosen benchmarks and those they compare themselves with, in the order of ``known``.

    Raises:
        ValueError: two benchmarks have one name, or a baseline is not there.
    """
    by_name: dict[str, Benchmark] = {}
    for one in known:
        if by_name.setdefault(one.name, one) is not one:
            raise ValueError(f"expected benchmarks with different names, got two of {one.name!r}")
    wanted: set[str] = set()
    for one in chosen:
        wanted.add(one.name)
        if one.baseline is not None and one.baseline not in by_name:
            raise ValueError(f"expected a known baseline, got {one.baseline!r}, at benchmark {one.name!r}")
        if one.baseline is not None:
            wanted.add(one.baseline)
    return [one for name, one in by_name.items() if name in wanted]


def table(results: Iterable[Result]) -> str:
    """The results as text."""
    rows = [HEADER, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines: list[str] = []
    for name, median, unit, ratio, floor, verdict in rows:
        cells = (
            name.ljust(widths[0]),
            median.rjust(widths[1]),
            unit.ljust(widths[2]),
            ratio.rjust(widths[3]),
            floor.rjust(widths[4]),
            verdict,
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _judged(one: Benchmark, own: tuple[float, ...], base: tuple[float, ...]) -> Result:
    if not own:
        return Result(one, (), None, "crashed")
    figure, ratio = statistics.median(own), None
    if base:
        ratio = _times_better(figure, statistics.median(base), one.better)
    if one.floor is None:
        return Result(one, own, ratio, "")
    if one.baseline is not None:
        # A baseline that crashed leaves nothing to compare with: the floor is not shown to be met.
        met = ratio is not None and ratio >= one.floor
    else:
        met = figure >= one.floor if one.better == "higher" else figure <= one.floor
    return Result(one, own, ratio, "ok" if met else "MISSED")


def _times_better(figure: float, base: float, better: str) -> float:
    high, low = (figure, base) if better == "higher" else (base, figure)
    return high / low if low else math.inf


def _row(result: Result) -> tuple[str, str, str, str, str, str]:
    one = result.benchmark
    floor = "" if one.floor is None else _number(one.floor)
    if floor and one.baseline is not None:
        floor = f"{floor}x"
    elif floor:
        floor = f"{'>=' if one.better == 'higher' else '<='} {floor}"
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}x"
    median = "-" if not result.figures else _number(result.median)
    return one.name, median, one.unit, ratio, floor, result.verdict


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
