"""Metrics as Prometheus' text exposition format (version 0.0.4), which every scraper of metrics reads.

Counters end in ``_total``, histograms are sums over true buckets (``le``), and label values and help texts are
escaped. What a user's own metrics may bring along is put right rather than refused: a scrape has no one to blame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from .metrics_snapshot import Family, HistogramValue, Labels, MetricsSnapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The ``Content-Type`` of an HTTP answer with this text."""

_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})
_VALUE: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def prometheus_text(snapshot: MetricsSnapshot) -> str:
    """The metrics of a snapshot as text, each family with its ``# HELP`` and ``# TYPE``.

    Args:
        snapshot: what to show; values are as of its time, and carry no timestamp of their own.
    """
    taken = {family.name for family in snapshot.families}
    lines = (line for family in snapshot.families for line in _family(family, _exposed_name(family, taken)))
    text = "".join(f"{line}\n" for line in lines)
    # Half a surrogate pair is text to Python, and none to UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def _exposed_name(family: Family, taken: set[str]) -> str:
    total = f"{family.name}_total"
    return family.name if family.kind != "counter" or family.name.endswith("_total") or total in taken else total


def _family(family: Family, name: str) -> Iterator[str]:
    if family.help:
        yield f"# HELP {name} {family.help.translate(_HELP)}"
    yield f"# TYPE {name} {family.kind}"
    for series in family.series:
        if isinstance(series.value, HistogramValue):
            yield from _histogram(name, series.labels, series.value)
        else:
            yield f"{name}{_labels(series.labels)} {_number(series.value)}"


def _histogram(name: str, labels: Labels, value: HistogramValue) -> Iterator[str]:
    # `le` is the format's own; Prometheus gives a label that collides this prefix too.
    own = tuple((f"exported_{label}" if label == "le" else label, text) for label, text in labels)
    for bound, count in value.buckets:
        yield f"{name}_bucket{_labels((*own, ('le', _number(bound))))} {count}"
    yield f"{name}_sum{_labels(own)} {_number(value.sum)}"
    yield f"{name}_count{_labels(own)} {value.count}"


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    pairs = ",".join(f'{name}="{value.translate(_VALUE)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
