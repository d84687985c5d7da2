"""What every method of search does alike: score candidates on validation, keep the best, tell of each step in order.

A step is a generation: its candidates are worked on at the same time and judged in the order of their numbers, so
that it does not matter which is ready first. Step 0 is the program as it is, and a candidate must be strictly better
than the best before it. So the result is never worse on validation than what the program had.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from ...runtime.errors import RunError, RunStopped
from ..evaluation.scoring import BROKEN
from ..modules.program_state import ProgramState
from ..signatures.values import shorten
from .bench import Bench, Outcome
from .option_checks import check_data

T = TypeVar("T")
BASELINE: Final = "baseline"
PERFECT: Final = 1.0
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Scored:
    """A state and what it scored on the whole of validation.

    Attributes:
        state: what was scored.
        trial: the piece of work that scored it.
        scores: one for each example of validation.
    """

    state: ProgramState
    trial: str
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """The mean."""
        return mean(self.scores)


class Search:
    """One search on a bench.

    Args:
        bench: what it works with.
        method: the word of the method, for the states' provenance.
    """

    def __init__(self, bench: Bench, method: str) -> None:
        self.bench = bench
        self._method = method
        self._step = 0
        self._known: dict[str, Scored] = {}
        self._best: Scored | None = None

    @property
    def best(self) -> Scored:
        """The best so far; there is one after :meth:`begin`."""
        assert self._best is not None
        return self._best

    @property
    def perfect(self) -> bool:
        """Nothing can be better than what was found."""
        return self.best.score >= PERFECT

    @property
    def result(self) -> ProgramState:
        """The best state, with where it comes from."""
        return self._with_provenance(self.best)

    async def begin(self) -> Scored:
        """Score the program as it is: step 0.

        Raises:
            ConfigError: there are no examples, or no predictors.
            RunError: the metric is broken: there is nothing to learn from.
            RunStopped: the bench wants no more.
        """
        check_data(self.bench)
        base = await self.score(self.bench.base, BASELINE)
        await self.tell([base], candidates=1)
        return base

    async def score(self, state: ProgramState, trial: str) -> Scored:
        """Score a state on validation; one that was scored before costs nothing.

        Raises:
            RunStopped: the bench wants no more.
        """
        if state.key not in self._known:
            outcomes = await self.bench.run(state, self.bench.validation, trial=trial)
            if trial == BASELINE:
                check_metric(outcomes)
            self._known[state.key] = Scored(state, trial, scores_of(outcomes))
        return self._known[state.key]

    async def generation(self, candidates: Mapping[str, ProgramState], *, tried: int | None = None) -> list[Scored]:
        """Score the candidates, named by their trials, at the same time, and tell of them: one step.

        One answer for each candidate, in order; equal ones are scored once, so that no two work on the same.

        Args:
            candidates: the states.
            tried: how many candidates the step had, if some did not get this far.

        Raises:
            RunStopped: the bench wants no more.
        """
        different: dict[str, tuple[str, ProgramState]] = {}
        for trial, state in candidates.items():
            different.setdefault(state.key, (trial, state))
        scored, stopped = await in_order([self.score(state, trial) for trial, state in different.values()])
        await self.tell(scored, candidates=len(candidates) if tried is None else tried, stopped=stopped)
        return [self._known[state.key] for state in candidates.values()]

    async def tell(self, scored: Sequence[Scored], *, candidates: int, stopped: RunStopped | None = None) -> None:
        """A step is done: what was scored in it, in order, and how many candidates it tried.

        Args:
            scored: those that got as far as validation.
            candidates: all of them.
            stopped: why the step is not complete; raised once what it found is told.

        Raises:
            RunStopped: the bench wants no more.
        """
        better = False
        for each in scored:
            if self._best is None or each.score > self._best.score:
                self._best, better = each, True
        if stopped is None or better:
            best = max((each.score for each in scored), default=None)
            state = self.result if better else None
            await self.bench.tell(self._step, candidates=candidates, score=best, state=state)
            self._step += 1
        if stopped is not None:
            raise stopped

    def _with_provenance(self, scored: Scored) -> ProgramState:
        if scored.trial == BASELINE:
            return scored.state
        facts = {"method": self._method, "trial": scored.trial, "score": scored.score}
        base = self._known[self.bench.base.key].score
        return replace(scored.state, provenance={**scored.state.provenance, **facts, "base_score": base})


def check_metric(outcomes: Sequence[Outcome]) -> None:
    """Refuse to search by a metric that is broken for all that the program predicts: a search would only pay.

    A program that fails itself is another matter, and so is a metric that cannot read what it says, or whose model is
    away: worked examples, or time, may mend it.

    Raises:
        RunError: it does; the first failure stands in it (facts: expected, got).
    """
    predicted = [outcome for outcome in outcomes if outcome.prediction is not None]
    if not predicted or any(outcome.error != BROKEN for outcome in predicted):
        return
    first, expected = predicted[0], "a metric that can score what the program predicts"
    got = f"a failure on every prediction ({len(predicted)}), first: {shorten(first.feedback, _SHOWN)}"
    raise RunError(
        f"expected {expected}, got {got}; mend it and begin again under another run_id, with fork= the id of this run "
        "to use its model answers again",
        expected=expected,
        got=got,
    )


async def in_order(work: Sequence[Coroutine[Any, Any, T]]) -> tuple[list[T], RunStopped | None]:
    """Do it all at the same time; the results in the order of the work.

    If some are stopped, the results are those of the others, and why is the second answer: a bench that wants no more
    stops each at its next call, so none is given up in the middle of one that is paid for.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    results: list[T] = []
    stopped: RunStopped | None = None
    try:
        for task in tasks:
            try:
                results.append(await task)
            except RunStopped as why:
                stopped = stopped or why
    finally:  # cancelled from outside, or a failure that ends the search
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return results, stopped


def mean(scores: Sequence[float]) -> float:
    """The mean; of nothing it is 0."""
    return math.fsum(scores) / len(scores) if scores else 0.0


def scores_of(outcomes: Sequence[Outcome]) -> tuple[float, ...]:
    """Their scores; a failure scores 0."""
    return tuple(0.0 if outcome.error else outcome.score for outcome in outcomes)
