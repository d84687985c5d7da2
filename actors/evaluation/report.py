"""The report of an evaluation: its rows, and what they come to. A value; as a table, as JSON, as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal

from ..json_values import as_json
from ..signatures.values import shorten
from .confidence import Interval, bootstrap
from .work import EvaluationRow, Outcome

if TYPE_CHECKING:
    from rich.table import Table

SHOWN: Final = 20
_WIDE: Final = 60
_MESSAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Spent:
    """What the predictions of an evaluation used. Failed ones are not in it: what they used is in the event log.

    Attributes:
        input_tokens, output_tokens: as far as they are known.
        cost: US dollars, as far as it is known; None if it is of no prediction.
        unpriced: predictions whose cost nobody knows.
        cache_hits: predictions that our cache answered.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal | None = None
    unpriced: int = 0
    cache_hits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What came of an evaluation. Prints as one line.

    Attributes:
        run_id: of the evaluation.
        module: what was evaluated.
        metric: by which metric.
        rows: one for each example that was done, in the order of the examples.
        total: examples there were.
        outcome: ``completed``; ``too_many_errors``, ``cancelled`` or ``stopped``: then rows are missing; of one that
            goes on, and is looked at from elsewhere, its state.
        reason: why it was stopped, or None.
        workers: examples in work at once.
        duration: seconds.
        correlation_id: trace of the evaluation; finds its events.
        inputs: names of the fields that the module takes.
    """

    run_id: str
    module: str
    metric: str
    rows: tuple[EvaluationRow, ...] = field(repr=False)
    total: int
    outcome: Outcome | Literal["running", "paused", "orphaned"]
    workers: int
    duration: float
    reason: str | None = None
    correlation_id: str | None = None
    inputs: tuple[str, ...] = ()

    # -- what it comes to ------------------------------------------------------------------------

    @property
    def score(self) -> float:
        """The mean score of the rows, 0 to 1; a failure counts as 0. 0 if there is no row."""
        return fmean(row.score for row in self.rows) if self.rows else 0.0

    @property
    def complete(self) -> bool:
        """Whether every example was done."""
        return len(self.rows) == self.total

    @property
    def failures(self) -> int:
        """How many rows failed; they scored 0."""
        return sum(row.error is not None for row in self.rows)

    @property
    def errors(self) -> dict[str, int]:
        """How many rows failed with which code, the most frequent first."""
        return dict(Counter(row.error for row in self.rows if row.error is not None).most_common())

    @property
    def warning(self) -> str | None:
        """What makes the score say nothing, with the first failure: the metric, or all of it, failed every time."""
        predicted = [row for row in self.rows if row.prediction is not None]
        if not self.rows or any(row.error is None for row in self.rows):
            return None
        if predicted:
            return f"the metric failed on every prediction ({len(predicted)}), first: {_shown_failure(predicted[0])}"
        return f"every example failed ({len(self.rows)}), first: {_shown_failure(self.rows[0])}"

    @property
    def spent(self) -> Spent:
        """What the predictions used; a judge's own requests are not in it."""
        known = [row.prediction.info for row in self.rows if row.prediction is not None]
        costs = [info.cost for info in known if info.cost is not None]
        return Spent(
            input_tokens=sum(info.usage.input_tokens or 0 for info in known),
            output_tokens=sum(info.usage.output_tokens or 0 for info in known),
            cost=sum(costs, Decimal(0)) if costs else None,
            unpriced=len(known) - len(costs),
            cache_hits=sum(info.cache_hit for info in known),
        )

    def interval(self, confidence: float = 0.95, *, seed: int = 0) -> Interval:
        """A bootstrap confidence interval of the score: percentiles of the means of samples drawn with replacement.

        Args:
            confidence: above 0, below 1.
            seed: of the samples; the same seed and scores give the same interval.

        Raises:
            ConfigError: ``confidence`` is out of range.
        """
        return bootstrap(tuple(row.score for row in self.rows), confidence, seed)

    def __str__(self) -> str:
        return f"{self.module} by {self.metric}: {', '.join(f'{name} {text}' for name, text in self._summary())}"

    def _summary(self) -> list[tuple[str, str]]:
        span, spent, warning = self.interval(), self.spent, self.warning
        done = f"{len(self.rows)} of {self.total} examples" if not self.complete else f"{self.total} examples"
        return [
            ("score", f"{self.score:.1%} ({span.confidence:.0%} interval {span.low:.1%} to {span.high:.1%})"),
            ("of", done if self.outcome == "completed" else f"{done}: {self.outcome.replace('_', ' ')}{_why(self)}"),
            ("failures", ", ".join([str(self.failures), *(f"{code} {n}" for code, n in self.errors.items())])),
            *([] if warning is None else [("warning", warning)]),
            ("tokens", f"{spent.input_tokens:,} in, {spent.output_tokens:,} out{_cached(spent)}"),
            ("cost", "unknown" if spent.cost is None else f"${spent.cost:.4f}{_unpriced(spent)}"),
            ("took", f"{self.duration:.1f} s with {self.workers} workers"),
        ]

    # -- as a table, JSON, CSV -------------------------------------------------------------------

    def table(self, *, rows: int = SHOWN) -> Table:
        """A table for ``rich.print``: the first rows, and what all come to.

        Args:
            rows: how many rows to show at most.
        """
        from rich.table import Table  # noqa: PLC0415 - only where something is shown
        from rich.text import Text  # noqa: PLC0415 - likewise

        table = Table(title=Text(f"{self.module} by {self.metric}"), caption_justify="left")
        table.add_column("#", justify="right")
        for column in ("inputs", "expected", "predicted"):
            table.add_column(column, overflow="fold")
        table.add_column("score", justify="right")
        for row in self.rows[:rows]:
            example, failed = row.example, row.error is not None
            said = f"{row.error}: {row.message}" if failed or row.prediction is None else _line(row.prediction)
            given, wanted = _line(example.inputs(self.inputs)), _line(example.labels(self.inputs))
            predicted = Text(shorten(said, _WIDE), "red" if failed else "")
            table.add_row(str(row.index), Text(given), Text(wanted), predicted, f"{row.score:.2f}")
        left = len(self.rows) - rows
        lines = [f"... and {left} more rows"] if left > 0 else []
        table.caption = Text("\n".join([*lines, *(f"{name}: {text}" for name, text in self._summary())]))
        return table

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; ``rows`` hold examples and predictions whole. What is no JSON becomes text."""
        span, spent = self.interval(), self.spent
        return {
            "run_id": self.run_id,
            "module": self.module,
            "metric": self.metric,
            "outcome": self.outcome,
            "reason": self.reason,
            "score": self.score,
            "interval": {"low": span.low, "high": span.high, "confidence": span.confidence},
            "total": self.total,
            "done": len(self.rows),
            "failures": self.failures,
            "errors": self.errors,
            "warning": self.warning,
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
            "cost": None if spent.cost is None else float(spent.cost),
            "unpriced": spent.unpriced,
            "cache_hits": spent.cache_hits,
            "workers": self.workers,
            "duration": self.duration,
            "correlation_id": self.correlation_id,
            "rows": [_row(row) for row in self.rows],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """As JSON text (RFC 8259), which can always be written as UTF-8."""
        return _writable(json.dumps(self.to_dict(), indent=indent, ensure_ascii=False))

    def to_csv(self) -> str:
        """As CSV (RFC 4180): a line for each row; columns ``example.<field>`` and ``predicted.<field>``."""
        rows = [_row(row) for row in self.rows]
        fields = {side: list(dict.fromkeys(_names(rows, side))) for side in ("example", "predicted")}
        plain = [name for name in (rows[0] if rows else ()) if name not in fields]
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow([*plain, *(f"{side}.{name}" for side, names in fields.items() for name in names)])
        for row in rows:
            sides = [_field(row, side, name) for side, names in fields.items() for name in names]
            writer.writerow([*(row[name] for name in plain), *map(_cell, sides)])
        return _writable(out.getvalue())


def _row(row: EvaluationRow) -> dict[str, Any]:
    info = None if row.prediction is None else row.prediction.info
    return {
        "index": row.index,
        "score": row.score,
        "error": row.error,
        "message": row.message,
        "feedback": row.feedback,
        "duration": row.duration,
        "input_tokens": info and info.usage.input_tokens,
        "output_tokens": info and info.usage.output_tokens,
        "cost": None if info is None or info.cost is None else float(info.cost),
        "cache_hit": info and info.cache_hit,
        "correlation_id": info and info.correlation_id,
        "span_id": info and info.span_id,
        "example": _shown(row.example),
        "predicted": None if row.prediction is None else _shown(row.prediction),
    }


def _writable(text: str) -> str:
    """The same, if it can be written as UTF-8; halves of surrogate pairs are escaped, as JSON does it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: as_json(value) for name, value in fields.items()}


def _field(row: Mapping[str, Any], side: str, name: str) -> Any:
    found: Mapping[str, Any] | None = row[side]
    return None if found is None else found.get(name)


def _names(rows: list[dict[str, Any]], side: str) -> Iterator[str]:
    for row in rows:
        yield from row[side] or ()


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else json.dumps(value, ensure_ascii=False)


def _line(fields: Mapping[str, Any]) -> str:
    return shorten(" ".join("; ".join(f"{name}={value}" for name, value in fields.items()).split()), _WIDE)


def _shown_failure(row: EvaluationRow) -> str:
    return shorten(" ".join(f"{row.error}: {row.message}".split()), _MESSAGE)


def _why(report: EvaluationReport) -> str:
    return f" ({report.reason})" if report.reason else ""


def _unpriced(spent: Spent) -> str:
    return f" and {spent.unpriced} predictions without a known price" if spent.unpriced else ""


def _cached(spent: Spent) -> str:
    return f", {spent.cache_hits} predictions from the cache" if spent.cache_hits else ""
