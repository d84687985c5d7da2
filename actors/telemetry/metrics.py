"""Counters, gauges and histograms: pure, no clock, no actor.

A metric has a name and one series for each set of labels. The number of series of a metric is bounded: what
exceeds it folds into one overflow series (:data:`OVERFLOW`) and is counted, so totals stay right and a label
with too many values cannot eat the memory. A series that got no value for ``retention`` seconds is dropped,
unless its metric says ``keep``. Times are passed in, in seconds of a clock that never goes back.

Histograms count into fixed buckets (for exporters) and into a sketch (for quantiles within 1 %, ``quantiles.py``).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

from ...runtime.errors import MetricError
from .metric_values import DEFAULT_BUCKETS, LM_BUCKETS, LabelValue, Metric, Update, Value, update
from .metrics_snapshot import OVERFLOW, Family, HistogramValue, Kind, Labels, MetricsSnapshot, Series
from .quantiles import QuantileSketch

MAX_SERIES: Final = 1000
MAX_METRICS: Final = 1000


class _Histogram:
    __slots__ = ("bounds", "count", "counts", "max", "min", "sketch", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf
        self.sketch = QuantileSketch()

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.sum += value
        self.min = min(self.min, value)
        self.max = max(self.max, value)
        self.sketch.add(value)

    def absorb(self, other: HistogramValue) -> None:
        self.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        self.count += other.count
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)
        self.sketch.absorb(other.sketch)

    def value(self) -> HistogramValue:
        return HistogramValue(
            self.count, self.sum, self.min, self.max, self.bounds, tuple(self.counts), self.sketch.value()
        )


class _Series:
    __slots__ = ("histogram", "number", "updated")

    def __init__(self, metric: Metric, now: float) -> None:
        self.number: float = 0
        self.histogram = _Histogram(metric.buckets) if metric.kind == "histogram" else None
        self.updated = now


class _Family:
    __slots__ = ("defined", "metric", "overflowed", "series")

    def __init__(self, metric: Metric, *, defined: bool) -> None:
        self.metric = metric
        self.defined = defined
        self.series: dict[Labels, _Series] = {}
        self.overflowed = 0


class Metrics:
    """All metrics of one application.

    Args:
        definitions: metrics known from the start; others are defined by their first value.
        max_series: series of one metric; more fold into its overflow series.
        max_metrics: names; more are refused.
        retention: seconds after which a series without new values is dropped; None keeps all.

    Raises:
        MetricError: a bound is out of range, or two definitions differ under one name.
    """

    def __init__(
        self,
        definitions: Iterable[Metric] = (),
        *,
        max_series: int = MAX_SERIES,
        max_metrics: int = MAX_METRICS,
        retention: float | None = None,
    ) -> None:
        for word, bound in (("max_series", max_series), ("max_metrics", max_metrics)):
            if bound < 1:
                raise MetricError(f"expected a number >= 1, got {bound!r}, at {word}", name=word)
        if retention is not None and not retention >= 0:
            raise MetricError(f"expected seconds >= 0 or None, got {retention!r}, at retention", name="retention")
        self._max_series = max_series
        self._max_metrics = max_metrics
        self._retention = retention
        self._next_prune = -math.inf
        self._families: dict[str, _Family] = {}
        for metric in definitions:
            self.define(metric)

    def define(self, metric: Metric) -> None:
        """Say what a metric is before its first value; saying the same again is fine.

        Raises:
            MetricError: the name is defined otherwise, or there are too many metrics.
        """
        known = self._families.get(metric.name)
        if known is None:
            self._add_family(metric, defined=True)
        elif known.metric != metric:
            raise MetricError(f"expected {known.metric}, got {metric}, at {metric.name!r}", name=metric.name)

    def set(self, name: str, value: float, labels: Mapping[str, LabelValue] | None = None, *, now: float) -> None:
        """Set a gauge. Raises as :func:`update` and :meth:`record`."""
        self.record(update("gauge", name, value, labels), now)

    def record(self, one: Value, now: float) -> None:
        """Take a checked value.

        Raises:
            MetricError: the metric is of another kind, or there are too many metrics.
        """
        kind, name, labels, value = one
        family = self._families.get(name)
        if family is None or family.metric.kind != kind:
            family = self._family(name, kind)
        series = family.series.get(labels)
        if series is None:
            series = self._series(family, labels, now)
        if series.histogram is not None:
            series.histogram.add(value)
        elif kind == "counter":
            series.number += value
        else:
            series.number = value
        series.updated = now

    def set_total(self, name: str, total: float, *, now: float) -> None:
        """Set a counter without labels to a total that is kept elsewhere. Raises as :meth:`set`."""
        one = update("counter", name, total)
        series = self._series(self._family(name, "counter"), one.labels, now)
        series.number, series.updated = total, now

    def merge(self, snapshot: MetricsSnapshot, now: float) -> None:
        """Take in what was counted elsewhere, once: counters and histograms add, of gauges the newer stays.

        Raises:
            MetricError: a metric is of another kind or has other buckets here, or there are too many metrics;
                nothing is taken in then.
        """
        for family in snapshot.families:
            self._check_same(family)
        self._check_room(sum(family.name not in self._families for family in snapshot.families))
        for family in snapshot.families:
            mine = self._family(family.name, family.kind, _definition(family))
            mine.overflowed += family.overflowed
            for theirs in family.series:
                updated = now - (snapshot.time - theirs.updated)
                known = theirs.labels in mine.series
                series = self._series(mine, theirs.labels, now)
                if isinstance(theirs.value, HistogramValue):
                    assert series.histogram is not None
                    series.histogram.absorb(theirs.value)
                elif family.kind == "counter":
                    series.number += theirs.value
                elif not known or (updated, theirs.value) > (series.updated, series.number):
                    series.number = theirs.value
                series.updated = max(series.updated, updated) if known else updated

    def snapshot(self, *, now: float, time: float, prefix: str = "") -> MetricsSnapshot:
        """All series that are not too old.

        Args:
            now: on the clock of the recorded values.
            time: the same moment as wall clock, seconds since the epoch.
            prefix: only metrics whose names begin with it.
        """
        self.prune(now)
        families = [
            Family(name, metric.kind, metric.help, metric.unit, _frozen(family, now - time), family.overflowed)
            for name, family in sorted(self._families.items())
            if name.startswith(prefix) and family.series
            for metric in [family.metric]
        ]
        return MetricsSnapshot(time, tuple(families))

    def prune(self, now: float) -> int:
        """Drop the series that got no value for longer than the retention; how many."""
        if self._retention is None:
            return 0
        before = self.series_count
        for family in self._families.values():
            if not family.metric.keep:
                family.series = {key: one for key, one in family.series.items() if now - one.updated <= self._retention}
        self._next_prune = now + self._retention / 10
        return before - self.series_count

    def reset(self) -> None:
        """Forget all values; definitions stay."""
        for family in self._families.values():
            family.series.clear()
            family.overflowed = 0

    @property
    def series_count(self) -> int:
        """Series of all metrics."""
        return sum(len(family.series) for family in self._families.values())

    def _family(self, name: str, kind: Kind, metric: Metric | None = None) -> _Family:
        family = self._families.get(name)
        if family is None:
            return self._add_family(metric or Metric(name, kind))
        if family.metric.kind != kind:
            raise MetricError(f"expected a {family.metric.kind}, got a {kind}, at {name!r}", name=name)
        return family

    def _add_family(self, metric: Metric, *, defined: bool = False) -> _Family:
        self._check_room(1)
        family = self._families[metric.name] = _Family(metric, defined=defined)
        return family

    def _check_room(self, names: int) -> None:
        if len(self._families) + names > self._max_metrics:
            # Names whose series have all grown old make room.
            self._families = {name: one for name, one in self._families.items() if one.series or one.defined}
        if len(self._families) + names > self._max_metrics:
            raise MetricError(
                f"expected at most {self._max_metrics} metric names, got {len(self._families) + names}; "
                "what varies belongs into a label",
                limit=self._max_metrics,
            )

    def _series(self, family: _Family, labels: Labels, now: float) -> _Series:
        series = family.series.get(labels)
        if series is not None:
            return series
        if now >= self._next_prune:
            self.prune(now)
        if labels != OVERFLOW and len(family.series) - (OVERFLOW in family.series) >= self._max_series:
            labels = OVERFLOW
            family.overflowed += 1
        series = family.series.get(labels)
        if series is None:
            series = family.series[labels] = _Series(family.metric, now)
        return series

    def _check_same(self, theirs: Family) -> None:
        mine = self._families.get(theirs.name)
        metric = mine.metric if mine is not None else _definition(theirs)
        bounds = {one.value.bounds for one in theirs.series if isinstance(one.value, HistogramValue)}
        if metric.kind != theirs.kind or bounds - {metric.buckets}:
            raise MetricError(
                f"expected a {metric.kind} with the buckets {metric.buckets}, "
                f"got a {theirs.kind} with {sorted(bounds)}, at {theirs.name!r}",
                name=theirs.name,
            )


def _definition(family: Family) -> Metric:
    first = family.series[0].value if family.series else None
    buckets = first.bounds if isinstance(first, HistogramValue) else DEFAULT_BUCKETS
    return Metric(family.name, family.kind, family.help, family.unit, buckets)


def _frozen(family: _Family, offset: float) -> tuple[Series, ...]:
    return tuple(
        Series(labels, one.histogram.value() if one.histogram is not None else one.number, one.updated - offset)
        for labels, one in sorted(family.series.items(), key=lambda item: item[0])
    )


__all__ = (
    "DEFAULT_BUCKETS",
    "LM_BUCKETS",
    "MAX_METRICS",
    "MAX_SERIES",
    "OVERFLOW",
    "Family",
    "HistogramValue",
    "Kind",
    "LabelValue",
    "Labels",
    "Metric",
    "Metrics",
    "MetricsSnapshot",
    "Series",
    "Update",
    "update",
)
