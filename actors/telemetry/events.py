"""Turns telemetry events into values for metrics, by the table of :mod:`~.telemetry.rules`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from ...runtime.telemetry import EventName
from .metric_values import MAX_LABEL_LENGTH, Metric, Update, Value
from .metrics_snapshot import Kind, Labels
from .rules import RULES, Constant, Metadata, Rule, label_text

# Sets of labels that are remembered for each event; it begins anew with more.
_MAX_KNOWN: Final = 256


def labels_of(rule: Rule, metadata: Metadata) -> Labels:
    """The labels that a rule makes of an event."""
    return tuple(
        [
            (name, label_text(metadata.get(source) if isinstance(source, str) else source(metadata)))
            for name, source in rule.labels
        ]
    )


def usable_number(kind: str, value: object) -> float | None:
    """A measurement as a number this kind of metric can take, or None."""
    if type(value) is float and 0.0 <= value < math.inf:
        return value
    if type(value) is int and 0 <= value < 2**63:
        return value
    if isinstance(value, Decimal):
        value = float(value) if value.is_finite() else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    fits = abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)
    return value if fits and (kind != "counter" or value >= 0) else None


_Step: TypeAlias = tuple[Callable[[Metadata], bool] | None, str | Callable[[Metadata], float] | None, Kind, str]


class _Table:
    """The rules of one event, and the labels that they made of values seen before: making them is what costs."""

    __slots__ = ("_known", "_sources", "rules", "steps")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.steps: tuple[_Step, ...] = tuple(
            (one.when, one.value, one.metric.kind, one.metric.name) for one in self.rules
        )
        sources = dict.fromkeys(source for rule in self.rules for _, source in rule.labels)
        self._sources = tuple(source for source in sources if not isinstance(source, Constant))
        self._known: dict[tuple[object, ...], tuple[Labels, ...]] = {}

    def labels(self, metadata: Metadata) -> tuple[Labels, ...]:
        """The labels of each rule."""
        values = tuple([metadata.get(one) if isinstance(one, str) else one(metadata) for one in self._sources])
        try:
            known = self._known.get(values)
        except TypeError:  # a value that has no hash
            known = None
        if known is None:
            known = tuple(labels_of(rule, metadata) for rule in self.rules)
            # Only texts: True would be found where 1 was meant.
            if all(one is None or (type(one) is str and len(one) <= MAX_LABEL_LENGTH) for one in values):
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[values] = known
        return known


class Translator:
    """Turns telemetry events into values for metrics, by a table.

    Args:
        rules: the table.
    """

    def __init__(self, rules: Iterable[Rule] = RULES) -> None:
        by_event: dict[EventName, list[Rule]] = {}
        self.malformed = 0
        for rule in rules:
            by_event.setdefault(rule.event, []).append(rule)
        self._by_event = {event: _Table(each) for event, each in by_event.items()}

    @property
    def events(self) -> tuple[EventName, ...]:
        """The events it knows."""
        return tuple(self._by_event)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics they feed, each once."""
        return tuple(dict.fromkeys(rule.metric for table in self._by_event.values() for rule in table.rules))

    def translate(self, event: EventName, measurements: Mapping[str, Any], metadata: Metadata) -> list[Update]:
        """What one event says; unknown measurements are left out, unusable ones counted in ``malformed``."""
        return [Update(*one) for one in self.values(event, measurements, metadata)]

    def values(self, event: EventName, measurements: Mapping[str, Any], metadata: Metadata) -> list[Value]:
        """As :meth:`translate`, in plain tuples: those are made twice as fast, and are no work for the collector."""
        values: list[Value] = []
        table = self._by_event.get(event)
        if table is None:
            return values
        for (when, source, kind, name), labels in zip(table.steps, table.labels(metadata), strict=True):
            if when is not None and not when(metadata):
                continue
            if source is None:
                values.append((kind, name, labels, 1.0))
                continue
            measured = measurements.get(source) if isinstance(source, str) else source(metadata)
            if measured is None:
                continue
            usable = usable_number(kind, measured)
            if usable is None:
                self.malformed += 1
            else:
                values.append((kind, name, labels, usable))
        return values
