"""How far a run is: the trials and steps that are done, as its journal keeps them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..modules.program_state import ProgramState
from .messages import Entry


@dataclass(frozen=True, slots=True)
class Trial:
    """A piece of work that is done.

    Attributes:
        name: unique in the run.
        examples: how many.
        errors: how many of them failed.
        score: the mean, failures as 0.
        traced: whether it was for learning (with a trace), and no measurement.
        candidate: key of the state that was tried.
    """

    name: str
    examples: int
    errors: int
    score: float
    traced: bool
    candidate: str = ""

    @property
    def entry(self) -> Entry:
        """As the journal keeps it."""
        return Entry("trial", self.name, json.dumps(asdict(self)))


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is done.

    Attributes:
        number: from 0.
        candidates: how many were tried in it.
        score: the best of them, or None.
        best_score: the best of all so far, or None.
    """

    number: int
    candidates: int
    score: float | None
    best_score: float | None

    @property
    def entry(self) -> Entry:
        """As the journal keeps it."""
        return Entry("step", str(self.number), json.dumps(asdict(self)))


class Watcher(Protocol):
    """Who is told how the work goes."""

    def candidate_met(self, state: ProgramState, trial: str) -> None:
        """A state is tried that was not tried before, by this piece of work."""
        ...

    def progress(self) -> Mapping[str, Any]:
        """How far the run is, as its journal keeps it; written with each trial and step."""
        ...

    def trial_done(self, trial: Trial) -> None:
        """A trial is done, for the first time, and written down."""
        ...

    async def step_done(self, step: Step, *, again: bool) -> None:
        """A step is done, and written down; ``again`` if that was known already."""
        ...
