"""What a metric is, and the checks of its names, labels and values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias, get_args

from ...runtime.errors import MetricError
from .metrics_snapshot import Kind, Labels

LabelValue: TypeAlias = str | int | bool

DEFAULT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; for work inside one machine."""
LM_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Seconds; for requests to a model."""
MAX_LABELS: Final = 16
MAX_LABEL_LENGTH: Final = 256

# Prometheus' rules (data model), which are OpenTelemetry's too once dots are out of the way.
_METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Metric:
    """The definition of a metric.

    Args:
        name: as Prometheus wants it; counters end in ``_total``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: what it counts, for people.
        unit: ``seconds``, ``tokens``, ...; may be empty.
        buckets: rising upper bounds, for a histogram.
        keep: its series are never dropped for being old.

    Raises:
        MetricError: the name, kind or buckets are malformed.
    """

    name: str
    kind: Kind
    help: str = ""
    unit: str = ""
    buckets: tuple[float, ...] = DEFAULT_BUCKETS
    keep: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in get_args(Kind):
            raise MetricError(f"expected one of {get_args(Kind)}, got {self.kind!r}, at {self.name!r}", name=self.name)
        rising = all(low < high for low, high in pairwise(self.buckets))
        if not self.buckets or not rising or not all(map(math.isfinite, self.buckets)):
            raise MetricError(f"expected rising finite buckets, got {self.buckets!r}, at {self.name!r}", name=self.name)


Value: TypeAlias = tuple[Kind, str, Labels, float]
"""What an :class:`Update` holds: kind, name, labels, value; one is a value too."""


class Update(NamedTuple):
    """One value for one series; made by :func:`update`, which checks it."""

    kind: Kind
    name: str
    labels: Labels
    value: float


def update(kind: Kind, name: str, value: float, labels: Mapping[str, LabelValue] | None = None) -> Update:
    """Check a value for a metric.

    Args:
        kind: of the metric.
        name: of the metric.
        value: a finite number; not negative for a counter.
        labels: at most 16; texts of at most 256 characters, whole numbers or truth values.

    Raises:
        MetricError: something is malformed; it says what was expected.
    """
    check_name(name)
    return Update(kind, name, label_key(name, {} if labels is None else labels), check_value(kind, name, value))


def check_name(name: object) -> None:
    """Refuse what is not a metric name."""
    if not isinstance(name, str):
        raise MetricError(f"expected a metric name as text, got {name!r}", name=name)
    if not _METRIC_NAME.fullmatch(name):
        guess = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
        hint = f"; did you mean {guess!r}?" if _METRIC_NAME.fullmatch(guess) else ""
        raise MetricError(f"expected a metric name of letters, digits and _, got {name!r}{hint}", name=name)


def check_value(kind: Kind, name: str, value: object) -> float:
    """Return the value if it is a number this kind of metric can take."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise MetricError(f"expected a finite number, got {value!r}, at {kind} {name!r}", name=name)
    if kind == "counter" and value < 0:
        raise MetricError(f"expected a number >= 0, got {value!r}, at counter {name!r}", name=name)
    return value


def label_key(name: str, labels: Mapping[str, LabelValue]) -> Labels:
    """Return the labels as sorted pairs of texts, checked."""
    if not isinstance(labels, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MetricError(f"expected labels as a mapping, got {labels!r}, at {name!r}", name=name)
    if len(labels) > MAX_LABELS:
        raise MetricError(f"expected at most {MAX_LABELS} labels, got {len(labels)}, at {name!r}", name=name)
    return tuple(sorted((_label_name(name, label), _label_value(name, label, labels[label])) for label in labels))


def _label_name(name: str, label: object) -> str:
    if not isinstance(label, str) or not _LABEL_NAME.fullmatch(label):
        raise MetricError(f"expected a label name of letters, digits and _, got {label!r}, at {name!r}", name=name)
    return label


def _label_value(name: str, label: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise MetricError(f"expected text, got {value!r}, at label {label!r} of {name!r}", name=name)
    if len(value) > MAX_LABEL_LENGTH:
        raise MetricError(
            f"expected at most {MAX_LABEL_LENGTH} characters, got {len(value)}, at label {label!r} of {name!r}",
            name=name,
        )
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False
