"""What holds of metrics whatever is recorded."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.telemetry.metric_values import update
from dspex.actors.telemetry.metrics import OVERFLOW, Metric, Metrics, MetricsSnapshot
from dspex.actors.telemetry.metrics_snapshot import Kind
from dspex.actors.telemetry.quantiles import MAX_BINS, RELATIVE_ERROR, QuantileSketch, SketchValue
from kit.metrics import increment, observe

# Below this, floats have fewer digits than the relative error needs.
numbers = st.floats(-1e300, 1e300).filter(lambda number: number == 0 or abs(number) > 1e-290)
some = st.lists(numbers, min_size=1, max_size=60)
# Whole numbers: their sums are exact in any order.
whole = st.integers(1, 10_000).map(float)
operations = st.lists(
    st.tuples(st.sampled_from(["c_total", "g", "h"]), st.sampled_from("abc"), whole, st.integers(0, 100)), max_size=40
)


def sketched(values: list[float]) -> SketchValue:
    """The sketch of some numbers."""
    sketch = QuantileSketch()
    for value in values:
        sketch.add(value)
    return sketch.value()


@given(some, st.floats(0, 1))
def test_a_quantile_is_within_its_relative_error(values: list[float], q: float) -> None:
    """The answer is within 1 % of the number at that place of the sorted numbers, at every scale and sign."""
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert sketched(values).quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001, abs=0)


@given(some)
def test_quantiles_rise(values: list[float]) -> None:
    """A higher quantile is never a lower number."""
    sketch = sketched(values)
    answers = [sketch.quantile(q / 20) for q in range(21)]
    assert answers == sorted(answers)


@given(some, some)
def test_merged_sketches_are_the_sketch_of_all(one: list[float], two: list[float]) -> None:
    """Merging loses nothing: it equals having seen all numbers in one place."""
    merged = QuantileSketch()
    merged.absorb(sketched(one))
    merged.absorb(sketched(two))
    assert merged.value() == sketched(one + two)


def test_a_sketch_is_bounded_and_keeps_its_high_end() -> None:
    """Numbers over 600 orders of magnitude take no more bins than allowed; high quantiles stay right."""
    values = [10.0 ** (power / 16) for power in range(-4800, 4800)]
    sketch = sketched(values)
    assert len(sketch.positive) <= MAX_BINS
    assert sum(count for _, count in sketch.positive) == len(values)
    assert sketch.quantile(0.99) == pytest.approx(values[math.floor(0.99 * (len(values) - 1))], rel=RELATIVE_ERROR)


@given(st.lists(numbers.filter(lambda number: abs(number) < 1e100), min_size=1, max_size=60))
def test_a_histogram_accounts_for_every_number(values: list[float]) -> None:
    """Count, sum and extremes are exact, each bucket holds those at or below its bound, quantiles stay inside."""
    bounds = (-1.0, 0.0, 1.0, 1e6)
    metrics = Metrics([Metric("h", "histogram", buckets=bounds)])
    for value in values:
        observe(metrics, "h", value, now=0.0)
    seen = metrics.snapshot(now=0.0, time=0.0).histogram("h")
    assert seen is not None
    assert (seen.count, seen.min, seen.max) == (len(values), min(values), max(values))
    assert seen.sum == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-9 * max(map(abs, values)))
    assert seen.buckets == tuple((bound, sum(value <= bound for value in values)) for bound in (*bounds, math.inf))
    assert all(seen.min <= seen.quantile(q / 10) <= seen.max for q in range(11))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1000)), max_size=80), st.integers(1, 10))
def test_the_bound_holds_and_the_total_stays(values: list[tuple[int, int]], bound: int) -> None:
    """Whatever the labels: series stay bounded, the sum is that of all values, known series are exact."""
    metrics = Metrics(max_series=bound)
    for label, value in values:
        increment(metrics, "c_total", value, {"label": label}, now=0.0)
    seen = metrics.snapshot(now=0.0, time=0.0)
    series = {one.labels: one.value for one in seen.select("c_total")}
    assert len(series) <= bound + 1
    assert seen.total("c_total") == sum(value for _, value in values)
    first = list(dict.fromkeys(label for label, _ in values))[:bound]
    exact = Counter[int]()
    for label, value in values:
        exact[label] += value
    assert {key: value for key, value in series.items() if key != OVERFLOW} == {
        (("label", str(label)),): exact[label] for label in first
    }
    family = seen.family("c_total")
    assert (family.overflowed if family else 0) == sum(label not in first for label, _ in values)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1000)), max_size=60), st.floats(1, 500), st.floats(0, 1000))
def test_retention_drops_exactly_what_is_older(values: list[tuple[int, float]], retention: float, later: float) -> None:
    """A series is there if and only if its last value is not older than the retention."""
    metrics = Metrics(retention=retention)
    last: dict[str, float] = {}
    now = 0.0
    for label, moment in sorted(values, key=lambda pair: pair[1]):
        now = moment
        metrics.set("g", 1, {"label": label}, now=now)
        last[str(label)] = now
    now += later
    seen = metrics.snapshot(now=now, time=now)
    assert {dict(one.labels)["label"] for one in seen.select("g")} == {
        label for label, moment in last.items() if now - moment <= retention
    }


def recorded(steps: list[tuple[str, str, float, int]]) -> MetricsSnapshot:
    """Metrics of some steps, at moment 100."""
    metrics = Metrics()
    for name, label, value, now in sorted(steps, key=lambda step: step[3]):
        kinds: dict[str, Kind] = {"c_total": "counter", "g": "gauge", "h": "histogram"}
        metrics.record(update(kinds[name], name, value, {"label": label}), float(now))
    return metrics.snapshot(now=100.0, time=100.0)


def merged(*snapshots: MetricsSnapshot) -> MetricsSnapshot:
    """Snapshots taken together, at moment 100."""
    metrics = Metrics()
    for one in snapshots:
        metrics.merge(one, 100.0)
    return metrics.snapshot(now=100.0, time=100.0)


@given(operations, operations, operations)
def test_merging_does_not_depend_on_order_or_grouping(
    one: list[tuple[str, str, float, int]],
    two: list[tuple[str, str, float, int]],
    three: list[tuple[str, str, float, int]],
) -> None:
    """Merging is commutative and associative, and nothing is its neutral element."""
    a, b, c = recorded(one), recorded(two), recorded(three)
    assert merged(a, b, c) == merged(c, b, a) == merged(a, merged(b, c))
    assert merged(a, MetricsSnapshot(100.0, ())) == a
