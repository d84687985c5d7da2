"""What happens in optimization runs, as events of the log; their start, steps, checkpoints and end: ``events.py``."""

from __future__ import annotations

from typing import Literal

from ..events.kinds import Count, Event


class OptimizationCandidate(Event, frozen=True):
    """A run begins to try a state of its module.

    Attributes:
        candidate: the hash of the state; the state itself holds data, and stands in no log.
        trial: the piece of work that is first to try it.
        demos: worked examples that it shows, in all predictors.
        instructed: predictors whose instructions are its own.
    """

    type: Literal["optimization_candidate"] = "optimization_candidate"
    run_id: str
    method: str
    candidate: str
    trial: str
    demos: Count
    instructed: tuple[str, ...]


class OptimizationTrial(Event, frozen=True):
    """A run has tried a candidate on some examples.

    Attributes:
        trial: names the piece of work.
        candidate: the hash of the state.
        examples: how many.
        errors: how many of them failed.
        score: the mean, failures as 0.
        traced: whether it was for learning, and no measurement.
    """

    type: Literal["optimization_trial"] = "optimization_trial"
    run_id: str
    method: str
    trial: str
    candidate: str
    examples: Count
    errors: Count
    score: float
    traced: bool
