"""What holds of every evaluation, however its examples are spread over workers and whatever fails."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.actors.evaluation.confidence import bootstrap
from dspex.actors.evaluation.report import EvaluationReport
from dspex.actors.evaluation.scoring import MetricResult
from dspex.actors.evaluation.work import EvaluationRow, Evaluator
from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.actors.scorers.normalise import normalise
from dspex.actors.scorers.texts import contains, exact_match, f1
from dspex.runtime.errors import LMServerError

TEXTS = st.text(max_size=20)
FATES = st.lists(
    st.tuples(st.sampled_from(["right", "wrong", "fails", "bug", "metric"]), st.integers(0, 5)), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(fates=FATES, workers=st.integers(1, 6), max_errors=st.none() | st.integers(0, 5))
def test_rows_are_the_same_however_many_work_on_them(
    fates: list[tuple[str, int]], workers: int, max_errors: int | None
) -> None:
    """Order and scores do not depend on workers and delays; every example has one row, unless it stopped early."""

    async def predict(index: int, example: Example) -> Prediction:
        fate, turns = fates[index]
        for _ in range(turns):
            await asyncio.sleep(0)
        if fate == "fails":
            raise LMServerError("down")
        if fate == "bug":
            raise ZeroDivisionError
        return Prediction({"fate": fate})

    async def score(index: int, example: Example, prediction: Prediction) -> MetricResult:
        await asyncio.sleep(0)
        if prediction.fate == "metric":
            raise KeyError("label")
        return MetricResult(float(prediction.fate == "right"))

    work = Evaluator(predict, score, monotonic=lambda: 0.0, workers=workers, max_errors=max_errors)
    rows = asyncio.run(work.run([Example(n=n) for n in range(len(fates))]))
    assert [row.index for row in rows] == sorted({row.index for row in rows})
    for row in rows:
        fate = fates[row.index][0]
        assert row.score == float(fate == "right")
        assert (row.error is None) == (fate in ("right", "wrong"))
    failing = sum(fate not in ("right", "wrong") for fate, _ in fates)
    assert work.failures == sum(row.error is not None for row in rows)
    if max_errors is None or failing <= max_errors:
        assert (work.outcome, len(rows), work.failures) == ("completed", len(fates), failing)
    else:
        assert (work.outcome, work.failures) == ("too_many_errors", max_errors + 1)


@settings(deadline=None)
@given(expected=TEXTS, got=TEXTS)
def test_metrics_of_texts_agree_with_each_other(expected: str, got: str) -> None:
    """Scores lie from 0 to 1; an exact match contains what is expected and has an F1 of 1; F1 is symmetric."""
    example, prediction = Example(q="?", a=expected).with_inputs("q"), Prediction({"a": got})
    scores = [metric(example, prediction).score for metric in (exact_match, contains, f1)]
    assert all(0 <= score <= 1 for score in scores)
    if scores[0] == 1:
        assert scores == [1.0, 1.0, 1.0]
    turned = f1(Example(q="?", a=got).with_inputs("q"), Prediction({"a": expected})).score
    assert turned == scores[2]


@given(text=TEXTS)
def test_normalising_leaves_something(text: str) -> None:
    """A text that is not blank is not made blank: it would be taken for another one."""
    assert bool(normalise(text)) == bool(normalise(text).strip())
    assert exact_match(Example(q="?", a=text).with_inputs("q"), Prediction({"a": text})).score == 1.0


@settings(max_examples=30, deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=30), seed=st.integers(0, 5))
def test_an_interval_lies_within_the_scores(scores: list[float], seed: int) -> None:
    """And its bounds stand in order."""
    span = bootstrap(tuple(scores), seed=seed)
    assert min(scores) - 1e-9 <= span.low <= span.high <= max(scores) + 1e-9


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8) | st.binary()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@settings(max_examples=100, deadline=None)
@given(
    fields=st.dictionaries(TEXTS, VALUES, max_size=3), texts=st.lists(st.text(st.characters()), min_size=2, max_size=2)
)
def test_a_report_can_always_be_written_and_read_again(fields: dict[str, object], texts: list[str]) -> None:
    """Whatever stands in it: JSON without words that are no JSON, a CSV line for each row; texts come back whole."""
    example, prediction = Example({"x": texts[0]}), Prediction({**fields, "x": texts[1]})
    report = EvaluationReport(
        run_id="r",
        module="qa",
        metric=texts[0],
        rows=(EvaluationRow(0, example, 1.0, prediction, message=texts[1]),) * 2,
        total=2,
        outcome="completed",
        workers=1,
        duration=0.0,
    )
    found = json.loads(report.to_json().encode("utf-8"), parse_constant=pytest.fail)
    assert (found["metric"], found["rows"][0]["example"], found["rows"][0]["message"]) == (
        texts[0],
        {"x": texts[0]},
        texts[1],
    )
    assert found["rows"][1]["predicted"].keys() == prediction.keys()
    text = report.to_csv()
    text.encode("utf-8")
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(lines) == 2
    if not any("\ud800" <= mark <= "\udfff" for mark in "".join(texts)):
        assert (lines[1]["message"], lines[1]["example.x"], lines[1]["predicted.x"]) == (texts[1], *texts)


@settings(max_examples=30, deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=2, max_size=30), seed=st.integers(0, 5))
def test_more_confidence_is_a_wider_interval(scores: list[float], seed: int) -> None:
    """Drawn from the same samples; and the same seed draws the same."""
    narrow, wide = (bootstrap(tuple(scores), confidence, seed) for confidence in (0.5, 0.95))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    bootstrap.cache_clear()
    assert bootstrap(tuple(scores), 0.95, seed) == wide
