"""The work of an evaluation: rows in order, failures as failures, bounded work, pause and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from dspex.actors.evaluation.scoring import MetricResult
from dspex.actors.evaluation.work import EvaluationRow, Evaluator
from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.runtime.errors import ConfigError, LMServerError, RunStopped, SignatureError


def examples(count: int) -> list[Example]:
    """So many of them."""
    return [Example(n=n) for n in range(count)]


async def echo(index: int, example: Example) -> Prediction:
    """Predict the number itself."""
    return Prediction({"n": example.n})


async def even(index: int, example: Example, prediction: Prediction) -> MetricResult:
    """1 for even numbers."""
    return MetricResult(float(prediction.n % 2 == 0), f"{prediction.n}")


def evaluator(
    predict: Callable[[int, Example], Awaitable[Prediction]] = echo, score: Any = even, **options: Any
) -> Evaluator:
    """One whose clock counts its looks."""
    ticks = iter(range(10_000))
    return Evaluator(predict, score, monotonic=lambda: float(next(ticks)), **options)


def test_rows_stand_in_the_order_of_the_examples() -> None:
    """Whatever order they were done in."""
    done: list[int] = []

    async def scenario() -> list[EvaluationRow]:
        gates = [asyncio.Event() for _ in range(4)]

        async def backwards(index: int, example: Example) -> Prediction:
            if index < 3:
                await gates[index + 1].wait()
            gates[index].set()
            return await echo(index, example)

        return await evaluator(backwards, workers=4, on_row=lambda row: done.append(row.index)).run(examples(4))

    rows = asyncio.run(scenario())
    assert done == [3, 2, 1, 0]
    assert [(row.index, row.score, row.feedback, row.example.n) for row in rows] == [
        (0, 1.0, "0", 0),
        (1, 0.0, "1", 1),
        (2, 1.0, "2", 2),
        (3, 0.0, "3", 3),
    ]
    assert all(row.prediction is not None and row.error is None and row.duration > 0 for row in rows)


def test_a_failure_scores_nothing_and_is_counted() -> None:
    """A failed prediction, whatever raised, is a row with its code: 1 of 100 right with 99 crashes is 1 %."""

    async def fragile(index: int, example: Example) -> Prediction:
        if index == 0:
            return Prediction({"n": 0})
        raise [LMServerError("down"), SignatureError("no n"), ZeroDivisionError("oops")][index % 3]

    work = evaluator(fragile, workers=3)
    rows = asyncio.run(work.run(examples(100)))
    assert (len(rows), work.failures, work.total_score) == (100, 99, 1.0)
    assert [(row.error, row.message) for row in rows[:4]] == [
        (None, ""),
        ("signature_error", "no n"),
        ("crashed", "ZeroDivisionError: oops"),
        ("lm_server_error", "down"),
    ]
    assert all(row.prediction is None and row.score == 0 for row in rows[1:])


def test_a_failed_metric_is_a_failure_too() -> None:
    """The prediction is kept; a judge whose model failed is told from a metric with a bug."""

    async def broken(index: int, example: Example, prediction: Prediction) -> MetricResult:
        if index == 0:
            raise KeyError("answer")
        raise LMServerError("the judge is down")

    rows = asyncio.run(evaluator(score=broken).run(examples(2)))
    assert [row.error for row in rows] == ["metric_failed", "lm_server_error"]
    assert rows[0].message == "KeyError: 'answer'"
    assert [row.prediction for row in rows] == [Prediction({"n": 0}), Prediction({"n": 1})]


def test_an_empty_prediction_whose_metric_fails_is_a_failed_metric() -> None:
    """A prediction without fields is one."""

    async def empty(index: int, example: Example) -> Prediction:
        return Prediction({})

    [row] = asyncio.run(evaluator(empty).run(examples(1)))
    assert row.error == "metric_broken"


@pytest.mark.parametrize(("max_errors", "done"), [(0, 1), (2, 3), (9, 10), (10, 10), (None, 10)])
def test_too_many_errors_end_it(max_errors: int | None, done: int) -> None:
    """One more failure than is borne ends it, with the rows that were done."""

    async def never(index: int, example: Example) -> Prediction:
        raise LMServerError("down")

    work = evaluator(never, max_errors=max_errors)
    rows = asyncio.run(work.run(examples(10)))
    assert len(rows) == done
    expected = "too_many_errors" if max_errors is not None and max_errors < 10 else "completed"
    assert work.outcome == expected


def test_examples_are_read_as_workers_get_free() -> None:
    """No more examples are in hand than there are workers, and no more are in work."""

    async def scenario() -> int:
        read = running = most = 0

        def source() -> Iterator[Example]:
            nonlocal read
            for example in examples(50):
                read += 1
                yield example

        async def slow(index: int, example: Example) -> Prediction:
            nonlocal running, most
            running += 1
            most = max(most, running)
            assert read <= len(work.rows) + 4
            await asyncio.sleep(0)
            running -= 1
            return await echo(index, example)

        work = evaluator(slow, workers=4)
        assert len(await work.run(source())) == 50
        return most

    assert asyncio.run(scenario()) == 4


def test_paused_it_begins_nothing_and_finishes_what_it_has() -> None:
    """Resumed, it does the rest."""

    async def scenario() -> None:
        begun: list[int] = []
        gate, both = asyncio.Event(), asyncio.Event()

        async def gated(index: int, example: Example) -> Prediction:
            begun.append(index)
            if len(begun) == 2:
                both.set()
            await gate.wait()
            return await echo(index, example)

        work = evaluator(gated, workers=2)
        running = asyncio.create_task(work.run(examples(6)))
        await both.wait()
        work.pause()
        assert work.paused
        gate.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (begun, sorted(work.rows)) == ([0, 1], [0, 1])
        work.resume()
        assert len(await running) == 6
        assert work.outcome == "completed"

    asyncio.run(scenario())


@pytest.mark.parametrize("paused", [False, True])
def test_stopped_it_gives_up_what_is_in_work(paused: bool) -> None:
    """Done rows stay, the rest has none, and the work is cancelled; when it was paused, too."""

    async def scenario() -> None:
        cancelled = 0

        async def stuck(index: int, example: Example) -> Prediction:
            nonlocal cancelled
            if index == 0:
                return await echo(index, example)
            try:
                await asyncio.Event().wait()
            finally:
                cancelled += 1
            raise AssertionError

        first = asyncio.Event()
        work = evaluator(stuck, workers=3, on_row=lambda row: first.set())
        running = asyncio.create_task(work.run(examples(9)))
        await first.wait()
        if paused:
            work.pause()
        await asyncio.sleep(0)
        work.stop()
        assert [row.index for row in await running] == [0]
        assert (work.outcome, cancelled) == ("cancelled", 3)

    asyncio.run(scenario())


def test_stopped_before_it_begins_it_does_nothing() -> None:
    """There is no row."""
    work = evaluator()
    work.stop()
    assert asyncio.run(work.run(examples(3))) == []
    assert work.outcome == "cancelled"


def test_known_rows_are_not_done_again() -> None:
    """They count, and stand in their places."""
    asked: list[int] = []

    async def noting(index: int, example: Example) -> Prediction:
        asked.append(index)
        return await echo(index, example)

    some = examples(4)
    known = {1: EvaluationRow(1, some[1], 0.5), 3: EvaluationRow(3, some[3], 0.0, error="lm_timeout")}
    work = evaluator(noting)
    work.recall(known)
    rows = asyncio.run(work.run(some))
    assert asked == [0, 2]
    assert [row.score for row in rows] == [1.0, 0.5, 1.0, 0.0]
    assert (work.failures, work.total_score) == (1, 2.5)


def test_a_run_that_wants_no_more_ends_it() -> None:
    """RunStopped is no failure of an example: nothing further is begun, what is in hand is finished, paused or not."""

    async def scenario() -> None:
        stopped, begun = asyncio.Event(), list[int]()

        async def stopping(index: int, example: Example) -> Prediction:
            begun.append(index)
            if index == 2:
                work.pause()
                stopped.set()
                raise RunStopped("the budget is spent", outcome="budget_exhausted")
            await stopped.wait()
            return await echo(index, example)

        work = evaluator(stopping, workers=3)
        assert [row.index for row in await work.run(examples(9))] == [0, 1]
        assert (work.outcome, work.failures, begun) == ("stopped", 0, [0, 1, 2])
        assert work.stopped is not None
        assert work.stopped.facts["outcome"] == "budget_exhausted"

    asyncio.run(scenario())


def test_cancelled_it_leaves_nothing_running() -> None:
    """Who waits for it gives up: its workers end first."""

    async def scenario() -> None:
        ended: list[int] = []

        async def stuck(index: int, example: Example) -> Prediction:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(index)
            raise AssertionError

        running = asyncio.create_task(evaluator(stuck, workers=2).run(examples(3)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert sorted(ended) == [0, 1]

    asyncio.run(scenario())


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": True}, {"workers": 1.5}, {"max_errors": -1}])
def test_counts_out_of_range_are_refused(options: dict[str, Any]) -> None:
    """With what was expected and where."""
    with pytest.raises(ConfigError) as caught:
        evaluator(**options)
    assert caught.value.path in options
