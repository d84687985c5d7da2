"""For tests of metrics: values, recorded as they come from events."""

from __future__ import annotations

from collections.abc import Mapping

from dspex.actors.telemetry.metric_values import LabelValue, update
from dspex.actors.telemetry.metrics import Metrics


def increment(
    metrics: Metrics, name: str, value: float = 1, labels: Mapping[str, LabelValue] | None = None, *, now: float
) -> None:
    """Add to a counter."""
    metrics.record(update("counter", name, value, labels), now)


def observe(
    metrics: Metrics, name: str, value: float, labels: Mapping[str, LabelValue] | None = None, *, now: float
) -> None:
    """Count a number into a histogram."""
    metrics.record(update("histogram", name, value, labels), now)
