"""The report of an evaluation: what the rows come to, and its forms."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from dspex.actors.evaluation.confidence import DRAWS, Interval, bootstrap
from dspex.actors.evaluation.report import EvaluationReport, Spent
from dspex.actors.evaluation.work import EvaluationRow
from dspex.actors.examples import Example
from dspex.actors.lm.values import Usage
from dspex.actors.modules.prediction import Prediction, PredictionInfo
from dspex.runtime.errors import ConfigError


def row(index: int, score: float, answer: Any = "Oslo", *, error: str | None = None, **info: Any) -> EvaluationRow:
    """A row that predicted this, or failed."""
    example = Example(question=f"q{index}", answer="Oslo")
    if error is not None:
        return EvaluationRow(index, example, 0.0, None, error, f"it said {error}", duration=0.5)
    prediction = Prediction({"answer": answer}, PredictionInfo(**info))
    return EvaluationRow(index, example, score, prediction, feedback="so", duration=0.25)


def report(*rows: EvaluationRow, **changes: Any) -> EvaluationReport:
    """A report of these rows."""
    fields: dict[str, Any] = {
        "run_id": "r1",
        "module": "qa",
        "metric": "exact_match",
        "rows": rows,
        "total": len(rows),
        "outcome": "completed",
        "workers": 4,
        "duration": 2.0,
        "correlation_id": "t1",
        "inputs": ("question",),
    }
    return EvaluationReport(**{**fields, **changes})


def test_failures_count_as_nothing_right() -> None:
    """The mean is over all rows, not over those that succeeded; failures are counted by code."""
    rows = [row(0, 1.0), *(row(n, 0, error="lm_timeout" if n % 3 else "crashed") for n in range(1, 10))]
    found = report(*rows)
    assert found.score == pytest.approx(0.1)
    assert (found.failures, found.errors) == (9, {"lm_timeout": 6, "crashed": 3})
    assert found.complete


def test_a_report_without_rows_has_a_score_all_the_same() -> None:
    """It knows nothing, and says so."""
    found = report(total=5, outcome="cancelled")
    assert (found.score, found.complete, found.errors, found.spent) == (0.0, False, {}, Spent())
    assert found.interval() == Interval(0.0, 1.0, 0.95)
    assert "0 of 5 examples: cancelled" in str(found)
    assert found.to_csv().count("\n") == 1


def test_what_predictions_used() -> None:
    """Known tokens and costs are summed, unknown ones are told of and never taken for zero."""
    usage = Usage(input_tokens=10, output_tokens=3)
    found = report(
        row(0, 1.0, usage=usage, cost=Decimal("0.01")),
        row(1, 1.0, usage=usage, cost=Decimal("0.02")),
        row(2, 1.0, cache_hit=True, cost=Decimal(0)),
        row(3, 1.0),
        row(4, 0.0, error="parse_error"),
    )
    assert found.spent == Spent(20, 6, Decimal("0.03"), unpriced=1, cache_hits=1)
    assert report(row(0, 1.0)).spent.cost is None


def test_the_interval_is_seeded_and_narrows() -> None:
    """The same scores and seed give the same interval; more data a narrower one; it holds the mean."""
    some, many = (0.0, 1.0) * 20, (0.0, 1.0) * 500
    uneven = tuple(n / 39 for n in range(40))
    first = bootstrap(uneven, seed=1)
    bootstrap.cache_clear()
    assert bootstrap(uneven, seed=1) == first != bootstrap(uneven, seed=2)
    wide, narrow = bootstrap(some), bootstrap(many)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high
    assert wide.low == pytest.approx(0.345, abs=0.03)
    assert wide.high == pytest.approx(0.655, abs=0.03)
    wider = bootstrap(some, confidence=0.99)
    assert wider.low < wide.low
    assert wider.high > wide.high
    assert bootstrap((1.0, 1.0, 1.0)) == Interval(1.0, 1.0, 0.95)


def test_the_interval_of_many_rows_is_drawn_in_bounded_time() -> None:
    """Fewer samples are drawn of more rows, and the interval is as good: it is near the normal one."""
    scores = (0.0, 1.0) * (DRAWS // 1000)
    span = bootstrap(scores)
    error = 1.96 * 0.5 / len(scores) ** 0.5
    assert span.low == pytest.approx(0.5 - error, abs=error / 3)
    assert span.high == pytest.approx(0.5 + error, abs=error / 3)


@pytest.mark.parametrize("confidence", [0, 1, -1, 95, float("nan")])
def test_a_confidence_is_a_share(confidence: float) -> None:
    """Percent are refused."""
    with pytest.raises(ConfigError):
        report(row(0, 1.0)).interval(confidence)


def test_as_json() -> None:
    """All of it, rows whole; what is no JSON is shown as text."""
    odd = [{1}, object, float("inf"), b"\xff"]
    found = json.loads(report(row(0, 1.0, odd, cost=Decimal("0.5")), row(1, 0, error="crashed")).to_json())
    assert (found["score"], found["failures"], found["total"], found["outcome"]) == (0.5, 1, 2, "completed")
    assert found["interval"]["confidence"] == 0.95
    assert (found["cost"], found["errors"]) == (0.5, {"crashed": 1})
    first, second = found["rows"]
    assert first["example"] == {"question": "q0", "answer": "Oslo"}
    assert first["predicted"] == {"answer": str(odd)}, "it has bytes that are no text"
    assert (first["score"], first["error"], first["feedback"]) == (1.0, None, "so")
    assert (second["predicted"], second["error"], second["message"]) == (None, "crashed", "it said crashed")


def test_as_csv() -> None:
    """A line a row; fields in columns; commas, quotes and line ends in texts survive."""
    odd = 'a "b", c\nd'
    found = report(row(0, 1.0, odd), row(1, 0.5, ["x", "y"]), row(2, 0, error="crashed")).to_csv()
    first, second, third = csv.DictReader(io.StringIO(found, newline=""))
    assert (first["index"], first["score"], first["predicted.answer"]) == ("0", "1.0", odd)
    assert first["example.question"] == "q0"
    assert second["predicted.answer"] == '["x", "y"]'
    assert (third["error"], third["predicted.answer"], third["message"]) == ("crashed", "", "it said crashed")


def test_as_a_table() -> None:
    """The first rows and what all come to; marks of other programs in texts are shown, not obeyed."""
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(report(row(0, 1.0, "[red]Oslo[/red]"), row(1, 0, error="crashed"), row(2, 1.0)).table(rows=2))
    text = console.export_text()
    for part in ("question=q0", "answer=[red]Oslo[/red]", "crashed: it said crashed", "... and 1 more rows"):
        assert part in text
    assert "question=q2" not in text
    assert "score: 66.7%" in text
    assert "failures: 1, crashed 1" in text


def test_in_one_line() -> None:
    """What matters, for a log or a prompt."""
    line = str(report(row(0, 1.0), row(1, 1.0), total=9, outcome="too_many_errors"))
    assert "qa by exact_match: score 100.0%" in line
    assert "2 of 9 examples: too many errors" in line
    assert "\n" not in line
