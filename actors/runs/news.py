"""What an optimization run tells of itself: events, telemetry, its row in the registry. Never its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...runtime.gen_server import GenServer
from ..events.kinds import (
    Event,
    OptimizationCheckpoint,
    OptimizationEnded,
    OptimizationIteration,
    OptimizationStarted,
    stamp,
)
from ..events.outbox import EventOutbox
from ..modules.program_state import ProgramState
from ..registry.actor import announce
from .events import OptimizationCandidate, OptimizationTrial
from .messages import KIND, Outcome, Paid, RunState
from .plan import RunPlan
from .trials import Step, Trial


class RunNews:
    """What a run tells of itself.

    Args:
        actor: the run.
        plan: what it does.
    """

    def __init__(self, actor: GenServer, plan: RunPlan) -> None:
        self._actor = actor
        self._plan = plan
        self._method = plan.optimizer.method
        self._outbox = EventOutbox(actor.system)
        self._labels = {"run": plan.run, "module": plan.module, "method": self._method}

    def started(self) -> None:
        """It begins, for the first time."""
        plan = self._plan
        config = dict(plan.options) | {"seed": plan.seed, "workers": plan.workers, "patience": plan.patience}
        budget = plan.budget.to_dict()
        self._emit(OptimizationStarted, module=plan.module, method=self._method, config=config, budget=budget)

    def candidate(self, state: ProgramState, trial: str) -> None:
        """A state is tried for the first time."""
        self._emit(
            OptimizationCandidate,
            method=self._method,
            candidate=state.key,
            trial=trial,
            demos=sum(len(each.demos) for each in state.predictors.values()),
            instructed=tuple(name for name, each in state.predictors.items() if each.instructions is not None),
        )

    def trial(self, trial: Trial) -> None:
        """A trial is done."""
        self._emit(
            OptimizationTrial,
            method=self._method,
            trial=trial.name,
            candidate=trial.candidate,
            examples=trial.examples,
            errors=trial.errors,
            score=trial.score,
            traced=trial.traced,
        )
        self._execute("trial", {"score": trial.score, "examples": trial.examples, "errors": trial.errors})

    def step(self, step: Step, *, base_score: float | None, best: str, paid: Paid) -> None:
        """A step is done.

        Args:
            step: that.
            base_score: what the program scored as it was, if that is known.
            best: key of the best state so far.
            paid: what the run has cost so far.
        """
        gained = None if step.best_score is None or base_score is None else step.best_score - base_score
        self._emit(
            OptimizationIteration,
            method=self._method,
            iteration=step.number,
            candidate_count=step.candidates,
            score=step.score,
            best_score=step.best_score,
            improvement=gained,
        )
        self._emit(OptimizationCheckpoint, iteration=step.number, state={"best": best, "best_score": step.best_score})
        self._execute("iteration", {"score": step.score, "best_score": step.best_score, **_spent(paid)})

    def ended(
        self, outcome: Outcome, *, steps: int, score: float | None, reason: str | None, seconds: float, paid: Paid
    ) -> None:
        """It is over.

        Args:
            outcome: how.
            steps: steps done.
            score: the best.
            reason: why, if there is more to say.
            seconds: of work, over all starts.
            paid: what it cost.
        """
        self._emit(OptimizationEnded, outcome=outcome, iterations=steps, best_score=score, reason=reason)
        measured = {"duration": seconds, "best_score": score, **_spent(paid)}
        self._execute("stop", measured, outcome=outcome)

    def announce(self, state: RunState, progress: Mapping[str, Any]) -> None:
        """Write how it is into the registry."""
        shown = {"step": progress.get("step", 0), "steps": progress.get("steps"), "status": state}
        facts = {"type": "run", "kind": KIND, "module": self._plan.module, "method": self._method}
        announce(self._actor, {**facts, **shown, "best_score": progress.get("best_score")})

    def _emit(self, kind: type[Event], **facts: Any) -> None:
        self._outbox.emit(stamp(self._actor, kind, run_id=self._plan.run, **facts))

    def _execute(self, what: str, measured: Mapping[str, Any], **labels: str) -> None:
        self._actor.system.telemetry.execute(("dspex", "optimization", what), measured, {**self._labels, **labels})


def _spent(paid: Paid) -> dict[str, Any]:
    return {"calls": paid.calls, "cost": paid.money}
