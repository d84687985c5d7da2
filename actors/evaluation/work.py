"""The work of an evaluation: each example is predicted and scored once, by several workers side by side.

It knows no actors: whoever runs it says how an example is predicted and how a prediction is scored. What fails scores
0 and is counted; nothing is left out. Rows stand in the order of the examples, whatever order they were done in. Beside
the rows, no more is held than the workers have in hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ...runtime.errors import ConfigError, Error, RunStopped
from ..examples import Example
from ..modules.prediction import Prediction
from .scoring import MetricResult, failure_code

Outcome: TypeAlias = Literal["completed", "too_many_errors", "cancelled", "stopped"]
Predicting: TypeAlias = Callable[[int, Example], Awaitable[Prediction]]
Scoring: TypeAlias = Callable[[int, Example, Prediction], Awaitable[MetricResult]]

PREDICTION_FAILED: Final = "crashed"


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """What became of one example.

    Attributes:
        index: its place in the dataset, from 0.
        example: the example itself.
        score: the metric's, 0 to 1; a failure scores 0.
        prediction: what was predicted, or None if that failed.
        error: code of the failure, or None: the error's own, ``crashed`` for an exception that is none of ours,
            ``metric_failed`` or ``metric_broken`` if the prediction could not be scored.
        message: what the failure says.
        feedback: what the metric says.
        duration: seconds, scoring included.
    """

    index: int
    example: Example
    score: float
    prediction: Prediction | None = None
    error: str | None = None
    message: str = ""
    feedback: str = ""
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """How far an evaluation is.

    Attributes:
        run_id: which.
        done: examples that are done; true completions, in whatever order they came.
        total: how many there are.
        failures: those of ``done`` that failed.
        score: their mean score, failures as 0; None before the first.
    """

    run_id: str
    done: int
    total: int
    failures: int
    score: float | None


@dataclass(frozen=True, slots=True)
class EvaluationStatus:
    """How an evaluation is.

    Attributes:
        progress: how far.
        state: ``running``, ``paused``, or its outcome.
        module: what is evaluated.
        metric: by which metric.
        workers: examples in work at once.
        elapsed: seconds of work, over all starts.
    """

    progress: EvaluationProgress
    state: str
    module: str
    metric: str
    workers: int
    elapsed: float


class Evaluator:
    """Runs examples through a program and a metric. Use it once.

    Args:
        predict: predicts an example; what it raises is that example's failure.
        score: scores a prediction; likewise.
        monotonic: seconds that never run backwards.
        workers: examples in work at once.
        max_errors: failures that are borne; the next one ends the evaluation. None bears all.
        on_row: told of each row as it is done.
        keep: keeps each row, before it counts; what it raises ends the evaluation.

    Attributes:
        rows: those done so far, by index.
        failures: how many of them failed.
        total_score: the sum of their scores.
        outcome: how it ended; None while it goes on.
        stopped: who predicts or scores said that no more is to be done; None if nobody did.

    Raises:
        ConfigError: ``workers`` or ``max_errors`` is out of range.
    """

    def __init__(
        self,
        predict: Predicting,
        score: Scoring,
        *,
        monotonic: Callable[[], float],
        workers: int = 1,
        max_errors: int | None = None,
        on_row: Callable[[EvaluationRow], object] | None = None,
        keep: Callable[[EvaluationRow], Awaitable[object]] | None = None,
    ) -> None:
        check_whole("workers", workers, 1)
        if max_errors is not None:
            check_whole("max_errors", max_errors, 0)
        self._predict = predict
        self._score = score
        self._monotonic = monotonic
        self._workers = workers
        self._max_errors = max_errors
        self._on_row = on_row
        self._keep = keep
        self._tasks: list[asyncio.Task[None]] = []
        self._going = asyncio.Event()
        self._going.set()
        self.rows: dict[int, EvaluationRow] = {}
        self.failures = 0
        self.total_score = 0.0
        self.outcome: Outcome | None = None
        self.stopped: RunStopped | None = None

    # -- control ---------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether no further example is begun."""
        return not self._going.is_set()

    def pause(self) -> None:
        """Begin no further example; those in work are finished."""
        self._going.clear()

    def resume(self) -> None:
        """Go on."""
        self._going.set()

    def stop(self, outcome: Outcome = "cancelled") -> None:
        """End it; examples in work are given up and have no row."""
        if self.outcome is None:
            self.outcome = outcome
            for task in self._tasks:
                task.cancel()

    # -- work ------------------------------------------------------------------------------------

    def recall(self, known: Mapping[int, EvaluationRow]) -> None:
        """Count rows that were done before, by index; their examples are not done again."""
        for row in known.values():
            self._count(row)

    async def run(self, examples: Iterable[Example]) -> list[EvaluationRow]:
        """Do the work; the rows that were done, in the order of the examples.

        Args:
            examples: read as workers get free.

        Raises:
            Exception: what ``keep`` raised.
        """
        source = self._left(examples)
        self._tasks = [asyncio.create_task(self._work(source)) for _ in range(self._workers)]
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        self.outcome = self.outcome or "completed"
        return [self.rows[index] for index in sorted(self.rows)]

    def _left(self, examples: Iterable[Example]) -> Iterator[tuple[int, Example]]:
        """What is to be done."""
        known = frozenset(self.rows)
        for index, example in enumerate(examples):
            if index not in known:
                yield index, example

    async def _work(self, source: Iterator[tuple[int, Example]]) -> None:
        """One worker."""
        while (following := await self._next(source)) is not None:
            try:
                row = await self._row(*following)
            except RunStopped as stopped:
                self._end_gently(stopped)
                return
            if self._keep is not None:
                await self._keep(row)
            self._note(row)

    async def _row(self, index: int, example: Example) -> EvaluationRow:
        began, prediction = self._monotonic(), None
        try:
            prediction = await self._predict(index, example)
            result = await self._score(index, example, prediction)
        except RunStopped:
            raise
        except Exception as error:  # fault boundary: a program or metric that fails on an example, fails that example
            code = _code(error) if prediction is None else failure_code(error)
            took = self._monotonic() - began
            return EvaluationRow(index, example, 0.0, prediction, code, _said(error), duration=took)
        took = self._monotonic() - began
        return EvaluationRow(index, example, result.score, prediction, feedback=result.feedback, duration=took)

    async def _next(self, source: Iterator[tuple[int, Example]]) -> tuple[int, Example] | None:
        await self._going.wait()
        return next(source, None) if self.outcome is None else None

    def _end_gently(self, stopped: RunStopped) -> None:
        """Begin nothing further; what the others have in hand is paid for, so they finish it."""
        if self.outcome is None:
            self.outcome, self.stopped = "stopped", stopped
            self._going.set()

    def _count(self, row: EvaluationRow) -> None:
        self.rows[row.index] = row
        self.total_score += row.score
        self.failures += row.error is not None

    def _note(self, row: EvaluationRow) -> None:
        self._count(row)
        if self._on_row is not None:
            self._on_row(row)
        if self._max_errors is not None and self.failures > self._max_errors:
            self.stop("too_many_errors")


def _code(error: Exception) -> str:
    return error.code if isinstance(error, Error) else PREDICTION_FAILED


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"


def check_whole(path: str, value: object, least: int) -> None:
    """Check a count.

    Raises:
        ConfigError: it is no whole number from ``least``.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return
    expected = f"a whole number from {least}"
    raise ConfigError(f"expected {expected}, got {value!r}, at {path}", path=path, expected=expected, got=value)
