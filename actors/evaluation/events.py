"""What happens to evaluations, as events of the log."""

from __future__ import annotations

from typing import Literal

from ..events.kinds import Count, Event, Money, Seconds


class EvaluationStarted(Event, frozen=True):
    """An evaluation began. ``known`` of its examples were done before, and are not done again."""

    type: Literal["evaluation_started"] = "evaluation_started"
    run_id: str
    module: str
    metric: str
    examples: Count
    workers: Count
    known: Count = 0


class EvaluationProgressed(Event, frozen=True):
    """Another part of the examples is done; told of some twenty times, however many examples there are."""

    type: Literal["evaluation_progressed"] = "evaluation_progressed"
    run_id: str
    done: Count
    total: Count
    failures: Count
    score: float | None = None


class EvaluationEnded(Event, frozen=True):
    """An evaluation is over, and how. ``score`` is the mean of what was done, failures as 0."""

    type: Literal["evaluation_ended"] = "evaluation_ended"
    run_id: str
    outcome: Literal["completed", "too_many_errors", "cancelled", "stopped"]
    done: Count
    total: Count
    failures: Count
    score: float | None = None
    duration: Seconds
    cost: Money | None = None
