"""The bench of a run: what an optimizer does through it is journaled, spread over workers, and counted.

Nothing that was written down is done again: a trial of the same name on the same example with the same state is
answered from the journal. So an optimizer that is begun anew, after a crash, is soon where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, TypeVar

from ...runtime.errors import (
    Error,
    LMBudgetExceeded,
    LMError,
    RunStopped,
)
from ...runtime.gen_server import GenServer
from ..evaluation.scoring import failure_code
from ..examples import Example
from ..lm.values import LMRequest, LMResponse, Message
from ..modules.messages import Predict
from ..modules.prediction import Prediction
from ..modules.program_state import ProgramState
from ..optimizers.bench import Outcome
from ..providers.messages import Complete
from ..signatures.signature import Signature
from .gathering import Gathering
from .messages import Entry, Recall, RecallAll, RecallKeys, Record
from .plan import RunPlan
from .recorded_call import failure_entry, recorded, recorded_failure
from .recorded_host import RecordedHost
from .rows import decode_row, encode_row, row_key
from .scope import RunScope
from .spending import Spending
from .stopwatch import Stopwatch
from .trials import Step, Trial, Watcher
from .tries import HOPELESS, tried

T = TypeVar("T")
ANSWER_TIME: Final = 5.0
"""Seconds beyond a module's own deadline in which its word about a missed one arrives."""


class RunBench:
    """A :class:`~.optimizers.bench.Bench` over a module actor.

    Args:
        actor: in whose task it is used.
        plan: what to do.
        watcher: who is told.
        elapsed: seconds of work before this start.

    Attributes:
        best, best_score: what was told to be the best so far; None before anything was.
        base_score: the score that was told first.
        stop: why the work is to end, or None.
    """

    predictors: Mapping[str, Signature]
    base: ProgramState
    train: Sequence[Example]
    validation: Sequence[Example]
    rng: Random

    def __init__(self, actor: GenServer, plan: RunPlan, watcher: Watcher, elapsed: float) -> None:
        self.predictors = plan.program.predictors
        self.base = plan.program.base
        self.train = plan.train
        self.validation = plan.validation
        self.rng = Random(plan.seed)
        self.best: ProgramState | None = None
        self.best_score: float | None = None
        self.base_score: float | None = None
        self.stop: RunStopped | None = None
        self._going = asyncio.Event()
        self.trials: dict[str, Trial] = {}
        self.steps: dict[int, Step] = {}
        self._actor = actor
        self._plan = plan
        self._watcher = watcher
        self._journal = f"run-journal/{plan.run}"
        self._slots = asyncio.Semaphore(plan.workers)
        self._spending = Spending()
        self._watch = Stopwatch(actor.clock.monotonic, elapsed)
        self._since_best = 0
        self._failures: list[Entry] = []
        self._met: set[str] = set()  # keys of the states that were tried
        self._kept: set[str] = set()  # keys of the examples that the journal has

    async def recall(self) -> None:
        """Learn what was done before this start."""
        self.trials = {each.name: each for each in [Trial(**json.loads(text)) for text in await self._all("trial")]}
        self._met = {each.candidate for each in self.trials.values()}
        self.steps = {each.number: each for each in [Step(**json.loads(text)) for text in await self._all("step")]}
        self._kept.update(await self._actor.call(self._journal, RecallKeys("row"), timeout=None))

    async def _all(self, kind: Any) -> list[str]:
        entries: list[Entry] = await self._actor.call(self._journal, RecallAll(kind), timeout=None)
        return [entry.value for entry in entries]

    @property
    def elapsed(self) -> float:
        """Seconds of work, over all starts; not those of pauses."""
        return self._watch.seconds

    def go(self) -> None:
        """Begin, or go on after a pause."""
        self._watch.go()
        self._going.set()

    def pause(self) -> None:
        """Begin no further example."""
        self._watch.halt()
        self._going.clear()

    # -- the port ----------------------------------------------------------------------------------

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """See :class:`~.optimizers.bench.Bench`."""
        await self._keep_failures()
        self._meet(state, trial)
        done: dict[int, Outcome] = {}
        problems: list[Error] = []
        waiting = iter(enumerate(examples))

        async def worker() -> None:
            # An iterator that all workers share: as many coroutines as work at once, however many examples.
            for index, example in waiting:
                try:
                    done[index] = await self._one(state, example, index, trial, trace, rows)
                except Error as error:
                    # The others end what they have begun: it is paid for.
                    problems.append(error)
                    return
                if problems:
                    return

        async with asyncio.TaskGroup() as workers:
            rows = Gathering(workers, self._record, problems, self._plan.workers)
            for _ in range(min(self._plan.workers, self._plan.batch, len(examples))):
                workers.create_task(worker())
        rest = rows.rest()
        if problems:
            if rest:
                await self._record(*rest)
            raise next((error for error in problems if not isinstance(error, RunStopped)), problems[0])
        outcomes = [done[index] for index in range(len(examples))]
        await self._trial_done(trial, state, outcomes, trace, rest)
        return outcomes

    async def ask(self, prompt: str, *, trial: str, ordinal: int = 0, temperature: float | None = None) -> str:
        """See :class:`~.optimizers.bench.Bench`."""
        plan = self._plan
        await self._keep_failures()
        request = LMRequest((Message("user", prompt),), model=plan.prompt_model, temperature=temperature)
        scope = RunScope(plan.run, trial, "", "ask")
        # The same prompt is asked for several different answers: each has a place of its own in the cache.
        wanted = Complete(request, rollout=f"{trial}/{ordinal}")

        async def send(ask: Complete) -> LMResponse:
            answer: LMResponse = await self._actor.call(f"provider/{plan.prompt_provider}", ask, timeout=None)
            return answer

        failure = await recorded_failure(self._actor, scope, ordinal, wanted)
        if failure is not None:
            raise failure
        await self._turn()
        try:
            async with self._slots:
                response = await self._tried(lambda: recorded(self._actor, scope, ordinal, wanted, send))
        except LMError as error:
            if not isinstance(error, HOPELESS):
                self._failures.append(failure_entry(scope, ordinal, wanted, error))
            raise
        return response.text

    async def tell(self, step: int, *, candidates: int, score: float | None, state: ProgramState | None) -> None:
        """See :class:`~.optimizers.bench.Bench`."""
        await self._keep_failures()
        if self.base_score is None:
            self.base_score = score
        if state is not None:
            self.best, self.best_score, self._since_best = state, score, 0
        else:
            self._since_best += 1
        done = Step(step, candidates, score, self.best_score)
        again = self.steps.get(step) == done  # a step that a budget cut short is another one when it is whole
        self.steps[step] = done
        if not again:
            await self._record(done.entry, progress=self._watcher.progress())
        await self._watcher.step_done(done, again=again)
        if self._plan.patience and self._since_best >= self._plan.patience:
            raise self._stop("stopped_early", f"no better score in {self._since_best} steps")
        if 0 < self._plan.max_steps <= step:
            raise self._stop("stopped_early", f"{step} steps after the first are done, as many as it may take")
        self._check()

    def _meet(self, state: ProgramState, trial: str) -> None:
        if state.key not in self._met:
            self._met.add(state.key)
            self._watcher.candidate_met(state, trial)

    # -- one example -------------------------------------------------------------------------------

    async def _one(
        self, state: ProgramState, example: Example, index: int, trial: str, trace: bool, rows: Gathering
    ) -> Outcome:
        key = row_key(trial, index)
        if key in self._kept:
            kept: str | None = await self._actor.call(self._journal, Recall("row", key), timeout=None)
            found = None if kept is None else decode_row(kept, index, example, state, traced=trace)
            if found is not None:
                return found
        async with self._slots:
            await self._turn()
            outcome = await self._outcome(state, example, index, trial, trace)
        text = encode_row(outcome, example, state, traced=trace)
        rows.keep(Entry("row", key, text))
        self._kept.add(key)
        again = decode_row(text, index, example, state, traced=trace)
        # What is used is what would be read after a crash.
        assert again is not None
        return again

    async def _outcome(self, state: ProgramState, example: Example, index: int, trial: str, trace: bool) -> Outcome:
        plan = self._plan
        scope = RunScope(plan.run, trial, str(index))
        message = Predict(example.inputs(plan.program.inputs), state=state, run=scope, trace=trace)
        timeout = plan.program.timeout + ANSWER_TIME
        try:
            prediction: Prediction = await self._tried(
                lambda: self._actor.call(f"module/{plan.module}", message, timeout=timeout)
            )
        except (*HOPELESS, RunStopped):
            raise
        except Error as error:
            return Outcome(index, 0.0, error=error.code, feedback=error.message)
        calls = prediction.info.calls if trace else ()
        outcome = Outcome(index, 0.0, prediction, calls=calls)
        try:
            judged = await self._tried(
                lambda: plan.scorer.score(example, prediction, RecordedHost(self._actor, scope.within("metric")))
            )
        except (*HOPELESS, RunStopped):
            raise
        except Exception as error:  # fault boundary: a metric is the user's, its failure is the example's
            return replace(outcome, error=failure_code(error), feedback=f"the metric failed: {error!r}")
        return replace(outcome, score=judged.score, feedback=judged.feedback)

    async def _tried(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it; again if an actor died under it, or if there was no room in the budget and then some."""

        async def begin() -> T:
            self._check()
            return await tried(work)

        try:
            return await self._spending.do(begin)
        except LMBudgetExceeded as error:
            raise self._stop("budget_exhausted", error.message) from error

    # -- to go on or not ---------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Wait while the run is paused, and see whether anything is to be begun at all."""
        await self._going.wait()
        self._check()

    def _check(self) -> None:
        limit = self._plan.budget.seconds
        if self.stop is None and limit is not None and self.elapsed >= limit:
            self._stop("budget_exhausted", f"{limit:g} s of work are over")
        if self.stop is not None:
            raise RunStopped(self.stop.message, **self.stop.facts)

    def _stop(self, outcome: str, why: str) -> RunStopped:
        if self.stop is None:
            message = f"the run {self._plan.run!r} ends: {why}"
            self.stop = RunStopped(message, run_id=self._plan.run, outcome=outcome, why=why)
        return RunStopped(self.stop.message, **self.stop.facts)

    async def _trial_done(
        self, name: str, state: ProgramState, outcomes: Sequence[Outcome], traced: bool, rows: Sequence[Entry]
    ) -> None:
        errors = sum(outcome.error is not None for outcome in outcomes)
        score = sum(outcome.score for outcome in outcomes) / len(outcomes) if outcomes else 0.0
        done = Trial(name, len(outcomes), errors, score, traced, state.key)
        if self.trials.get(name) != done:
            self.trials[name] = done
            await self._record(*rows, done.entry, progress=self._watcher.progress())
            self._watcher.trial_done(done)
        elif rows:
            await self._record(*rows)

    async def _keep_failures(self) -> None:
        """The optimizer goes on after failures: they decide what it does now, so they are what they were for ever.

        Not before: one that ends the run with it is free to find the model well again.
        """
        if self._failures:
            kept, self._failures = self._failures, []
            await self._record(*kept)

    async def _record(self, *entries: Entry, progress: Mapping[str, Any] | None = None) -> None:
        await self._actor.call(self._journal, Record(entries, progress=progress), timeout=None)
