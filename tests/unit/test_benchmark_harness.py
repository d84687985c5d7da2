"""The benchmark harness: medians, ratios, floors, crashes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.harness import Benchmark, judge, run_rounds, table, with_baselines


def series(*figures: float) -> Callable[[], float]:
    """A benchmark's function that measures these figures, one a run."""
    left = list(figures)
    return lambda: left.pop(0)


def verdicts(*benchmarks: Benchmark, rounds: int = 1) -> list[tuple[str, float | None]]:
    """Verdict and ratio of each."""
    return [(one.verdict, one.ratio) for one in judge(benchmarks, run_rounds(benchmarks, rounds))]


def test_rounds_are_interleaved_and_medians_count() -> None:
    """Each round runs every benchmark once; one slow round does not decide."""
    order: list[str] = []

    def note(name: str, figures: Callable[[], float]) -> Callable[[], float]:
        def run() -> float:
            order.append(name)
            return figures()

        return run

    pair = (Benchmark("a", note("a", series(1, 100, 2)), "s"), Benchmark("b", note("b", series(5, 5, 5)), "s"))
    results = judge(pair, run_rounds(pair, 3))
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert [one.median for one in results] == [2, 5]


@pytest.mark.parametrize(
    ("better", "figure", "base", "ratio"),
    [("higher", 30.0, 10.0, 3.0), ("lower", 10.0, 30.0, 3.0), ("lower", 30.0, 10.0, 1 / 3)],
)
def test_a_ratio_says_how_many_times_better(better: Any, figure: float, base: float, ratio: float) -> None:
    """Above one is better than the baseline, whichever way the figure counts."""
    pair = (Benchmark("base", series(base), "x"), Benchmark("own", series(figure), "x", better, "base"))
    [_, (verdict, measured)] = verdicts(*pair)
    assert verdict == ""
    assert measured == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("better", "figure", "floor", "verdict"),
    [
        ("higher", 10.0, 10.0, "ok"),
        ("higher", 9.0, 10.0, "MISSED"),
        ("lower", 10.0, 10.0, "ok"),
        ("lower", 11.0, 10.0, "MISSED"),
        ("lower", 1e9, None, ""),
        ("higher", math.nan, 10.0, "MISSED"),
    ],
)
def test_a_floor_without_baseline_is_the_figure_itself(
    better: Any, figure: float, floor: float | None, verdict: str
) -> None:
    """At least so high, or at most if lower is better."""
    assert verdicts(Benchmark("own", series(figure), "x", better, floor=floor)) == [(verdict, None)]


@pytest.mark.parametrize(("floor", "verdict"), [(2.0, "ok"), (3.1, "MISSED")])
def test_a_floor_with_baseline_is_a_ratio(floor: float, verdict: str) -> None:
    """So many times better than the baseline."""
    pair = (
        Benchmark("base", series(30.0), "x", "lower"),
        Benchmark("own", series(10.0), "x", "lower", "base", floor),
    )
    assert verdicts(*pair)[1] == (verdict, 3.0)


def test_a_crash_is_shown_and_the_others_run(capsys: pytest.CaptureFixture[str]) -> None:
    """One that raises is marked; who compares with it has missed its floor, not met it."""

    def crash() -> float:
        raise ValueError("on demand")

    three = (
        Benchmark("bad", crash, "x"),
        Benchmark("own", series(1.0, 1.0), "x", baseline="bad", floor=0.1),
        Benchmark("free", series(1.0, 1.0), "x"),
    )
    assert verdicts(*three, rounds=2) == [("crashed", None), ("MISSED", None), ("", None)]
    assert capsys.readouterr().err.count("ValueError: on demand") == 1


def test_baselines_come_along() -> None:
    """Who is chosen brings its baseline; names are unique, baselines exist."""
    base, own, other = (
        Benchmark("base", series(), "x"),
        Benchmark("own", series(), "x", baseline="base"),
        Benchmark("other", series(), "x"),
    )
    assert with_baselines([own], [base, own, other]) == [base, own]
    with pytest.raises(ValueError, match="two of 'base'"):
        with_baselines([base], [base, Benchmark("base", series(), "x")])
    with pytest.raises(ValueError, match="known baseline, got 'base'"):
        with_baselines([own], [own])


def test_the_table_lines_up() -> None:
    """One line each: figure, unit, ratio, floor, verdict."""
    pair = (
        Benchmark("base", series(1000.0), "1/s"),
        Benchmark("own", series(2500.0), "1/s", baseline="base", floor=4.0),
    )
    assert table(judge(pair, run_rounds(pair, 1))).splitlines() == [
        "benchmark  median  unit  ratio  floor",
        "base        1,000  1/s",
        "own         2,500  1/s   2.50x     4x  MISSED",
    ]


def test_the_command_prints_json_and_exits_by_crashes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missed floor is exit status 0, a crash or a module that cannot be imported 1, an unknown name 2."""

    def crash() -> float:
        raise ValueError("on demand")

    modules = {
        "good": (Benchmark("slow", lambda: 1.0, "x", floor=2.0),),
        "bad": (Benchmark("fails", crash, "x"),),
    }
    broken: list[str] = []
    monkeypatch.setattr(command, "load_modules", lambda: (modules, broken))
    assert command.main(["good", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["median"], row["verdict"], len(row["figures"])) == ("slow", 1.0, "MISSED", 3)
    assert command.main(["FAIL", "--rounds", "1"]) == 1
    assert "crashed" in capsys.readouterr().out
    broken.append("torn")
    assert command.main(["slow"]) == 0
    assert command.main(["torn"]) == 1
    for wrong in (["nothing"], ["--rounds", "0"]):
        with pytest.raises(SystemExit) as caught:
            command.main(wrong)
        assert caught.value.code == 2


def test_the_real_modules_load() -> None:
    """Each module beside the harness offers benchmarks whose names and baselines fit."""
    modules, broken = command.load_modules()
    assert broken == []
    everything = [one for benchmarks in modules.values() for one in benchmarks]
    assert with_baselines(everything, everything) == everything
