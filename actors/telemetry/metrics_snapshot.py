"""Metrics at one moment, as frozen data: what exporters, the command line and tests read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, Literal, TypeAlias

from ...runtime.errors import MetricError
from .quantiles import QuantileSketch, SketchValue

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of name and value, sorted by name."""

OVERFLOW: Final[Labels] = (("overflow", "__overflow__"),)
"""The labels of the series into which a metric folds what exceeds its number of series."""


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """What a histogram has seen.

    Attributes:
        count: how many numbers.
        sum: of the numbers.
        min: the least.
        max: the greatest.
        bounds: upper bounds (inclusive) of the buckets, rising; the last bucket, without bound, is not named.
        counts: numbers in each bucket alone, one more than there are bounds.
        sketch: from which quantiles come, with a relative error of 1 %.
    """

    count: int
    sum: float
    min: float
    max: float
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sketch: SketchValue = field(repr=False)

    @property
    def mean(self) -> float:
        """The average."""
        return self.sum / self.count

    @property
    def p50(self) -> float:
        """The median."""
        return self.quantile(0.5)

    @property
    def p90(self) -> float:
        """The number that 90 % do not exceed."""
        return self.quantile(0.9)

    @property
    def p99(self) -> float:
        """The number that 99 % do not exceed."""
        return self.quantile(0.99)

    def quantile(self, q: float) -> float:
        """The number at place ``q`` (0 to 1) of the sorted numbers, within 1 % and within ``min`` and ``max``.

        Raises:
            ValueError: ``q`` is out of range.
        """
        return min(max(self.sketch.quantile(q), self.min), self.max)

    @property
    def buckets(self) -> tuple[tuple[float, int], ...]:
        """(upper bound, how many numbers do not exceed it), the last bound being infinite; Prometheus' ``le``."""
        return tuple(zip((*self.bounds, math.inf), accumulate(self.counts), strict=True))

    def merge(self, other: HistogramValue) -> HistogramValue:
        """Both together.

        Raises:
            MetricError: their buckets differ.
        """
        if self.bounds != other.bounds:
            raise MetricError(f"expected the buckets {self.bounds}, got {other.bounds}, at a merge of histograms")
        sketch = QuantileSketch()
        sketch.absorb(self.sketch)
        sketch.absorb(other.sketch)
        return HistogramValue(
            self.count + other.count,
            self.sum + other.sum,
            min(self.min, other.min),
            max(self.max, other.max),
            self.bounds,
            tuple(one + two for one, two in zip(self.counts, other.counts, strict=True)),
            sketch.value(),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {
            "count": self.count,
            "sum": self.sum,
            "min": self.min,
            "max": self.max,
            "p50": self.p50,
            "p90": self.p90,
            "p99": self.p99,
            "buckets": [[None if math.isinf(bound) else bound, count] for bound, count in self.buckets],
        }


@dataclass(frozen=True, slots=True)
class Series:
    """One metric with one set of labels.

    Attributes:
        labels: sorted pairs.
        value: a number, or what a histogram has seen.
        updated: when it last changed, wall clock, seconds since the epoch.
    """

    labels: Labels
    value: float | HistogramValue
    updated: float

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether it has all of these labels."""
        return labels.items() <= dict(self.labels).items()


@dataclass(frozen=True, slots=True)
class Family:
    """All series of one metric.

    Attributes:
        name: in Prometheus' style.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: what it counts, for people.
        unit: ``seconds``, ``tokens``, ...; may be empty.
        series: sorted by labels.
        overflowed: how many values went into the overflow series.
    """

    name: str
    kind: Kind
    help: str
    unit: str
    series: tuple[Series, ...]
    overflowed: int = 0


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """All metrics at one moment.

    Attributes:
        time: wall clock, seconds since the epoch.
        families: sorted by name.
    """

    time: float
    families: tuple[Family, ...]

    def prefixed(self, prefix: str) -> MetricsSnapshot:
        """Only the metrics whose names begin with ``prefix``."""
        return MetricsSnapshot(self.time, tuple(one for one in self.families if one.name.startswith(prefix)))

    def family(self, name: str) -> Family | None:
        """The metric of this name, or None."""
        return next((one for one in self.families if one.name == name), None)

    def select(self, name: str, /, **labels: str) -> tuple[Series, ...]:
        """The series of a metric that have all of these labels, whatever other labels they have."""
        family = self.family(name)
        return tuple(one for one in family.series if one.matches(labels)) if family else ()

    def total(self, name: str, /, **labels: str) -> float:
        """The sum of the selected series of a counter or gauge; 0 if there are none.

        Raises:
            MetricError: it is a histogram.
        """
        return sum(_numbers(name, self.select(name, **labels)))

    def histogram(self, name: str, /, **labels: str) -> HistogramValue | None:
        """The selected series of a histogram merged into one; None if there are none.

        Raises:
            MetricError: it is no histogram.
        """
        merged: HistogramValue | None = None
        for one in self.select(name, **labels):
            if not isinstance(one.value, HistogramValue):
                raise MetricError(f"expected a histogram, got a counter or gauge, at {name!r}", name=name)
            merged = merged.merge(one.value) if merged else one.value
        return merged

    def samples(self) -> tuple[tuple[str, str, str], ...]:
        """One row of texts for each series, for people: name, labels, value."""
        return tuple(
            (family.name, " ".join(f"{name}={text}" for name, text in one.labels), _value_text(one.value))
            for family in self.families
            for one in family.series
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {"time": self.time, "metrics": [_family_dict(family) for family in self.families]}


def _numbers(name: str, series: Iterable[Series]) -> Iterable[float]:
    for one in series:
        if isinstance(one.value, HistogramValue):
            raise MetricError(f"expected a counter or gauge, got a histogram, at {name!r}", name=name)
        yield one.value


def _value_text(value: float | HistogramValue) -> str:
    if not isinstance(value, HistogramValue):
        return str(value) if isinstance(value, int) else f"{value:.6g}"
    rest = {"mean": value.mean, "p50": value.p50, "p90": value.p90, "p99": value.p99}
    return " ".join([f"count={value.count}", *(f"{name}={number:.4g}" for name, number in rest.items())])


def _family_dict(family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "kind": family.kind,
        "help": family.help,
        "unit": family.unit,
        "overflowed": family.overflowed,
        "series": [
            {
                "labels": dict(one.labels),
                "value": one.value.to_dict() if isinstance(one.value, HistogramValue) else one.value,
                "updated": one.updated,
            }
            for one in family.series
        ],
    }
