"""What is told of an evaluation while it runs: events of the log, telemetry, its line in the registry."""

from __future__ import annotations

from typing import Any, Final

from ...runtime.gen_server import GenServer
from ..events.kinds import Event, stamp
from ..events.outbox import EventOutbox
from ..registry.actor import announce
from .events import EvaluationEnded, EvaluationProgressed, EvaluationStarted
from .plan import KIND, EvaluationPlan
from .report import EvaluationReport
from .work import EvaluationProgress

STARTED: Final = ("dspex", "evaluation", "start")
PROGRESS: Final = ("dspex", "evaluation", "progress")
ENDED: Final = ("dspex", "evaluation", "stop")
TOLD_EVERY: Final = 0.1
"""Seconds between two telemetry events of progress; the last one is always told."""
PARTS: Final = 20
"""Events of progress in the log, at most; the registry and the file of runs hear of it as often."""


class EvaluationNews:
    """Tells of one evaluation. Everything of it stands in the trace that the actor is in now.

    Args:
        actor: the evaluation.
        plan: what it does.
    """

    def __init__(self, actor: GenServer, plan: EvaluationPlan) -> None:
        self._actor = actor
        self._plan = plan
        self._outbox = EventOutbox(actor.system)
        self._trace = actor.context
        self._told_at = actor.clock.monotonic()
        self._done = self._failures = self._part = 0

    def started(self, known: EvaluationProgress, workers: int) -> None:
        """It begins; so much was done before, and is not told of again."""
        self._done, self._failures, self._part = known.done, known.failures, known.done * PARTS // known.total
        plan = self._plan
        self._emit(
            EvaluationStarted,
            known=known.done,
            module=plan.module,
            metric=plan.scorer.name,
            examples=known.total,
            workers=workers,
        )
        self._actor.system.telemetry.execute(STARTED, {"examples": known.total}, self._facts())

    def row_done(self, now: EvaluationProgress) -> bool:
        """An example is done; whether with it another part of them is."""
        seconds = self._actor.clock.monotonic()
        if seconds - self._told_at >= TOLD_EVERY or now.done == now.total:
            self._tell(now)
            self._told_at = seconds
        part = now.done * PARTS // now.total
        if part == self._part:
            return False
        self._part = part
        self._emit(EvaluationProgressed, done=now.done, total=now.total, failures=now.failures, score=now.score)
        return True

    def ended(self, now: EvaluationProgress, report: EvaluationReport) -> None:
        """It is over."""
        if now.done > self._done:
            self._tell(now)
        cost = report.spent.cost
        self._emit(
            EvaluationEnded,
            outcome=report.outcome,
            done=now.done,
            total=now.total,
            failures=now.failures,
            score=now.score,
            duration=report.duration,
            cost=cost,
        )
        measured = {"duration": report.duration, "score": now.score, "cost": cost}
        self._actor.system.telemetry.execute(ENDED, measured, {**self._facts(), "outcome": report.outcome})

    def announce(self, now: EvaluationProgress, state: str) -> None:
        """Bring the registry up to date."""
        announce(
            self._actor,
            {
                "type": "run",
                "kind": KIND,
                "module": self._plan.module,
                "metric": self._plan.scorer.name,
                "status": state,
                "done": now.done,
                "total": now.total,
                "failures": now.failures,
                "score": now.score,
            },
        )

    def _tell(self, now: EvaluationProgress) -> None:
        """Telemetry of what was done since the last time."""
        measured = {"count": now.done - self._done, "failed": now.failures - self._failures, "score": now.score}
        self._done, self._failures = now.done, now.failures
        self._actor.system.telemetry.execute(PROGRESS, measured, {**self._facts(), "progress": now})

    def _facts(self) -> dict[str, Any]:
        return {"run_id": self._plan.run_id, "module": self._plan.module, "metric": self._plan.scorer.name}

    def _emit(self, kind: type[Event], **fields: Any) -> None:
        trace = {name: getattr(self._trace, name) for name in ("trace_id", "span_id", "parent_id", "user")}
        self._outbox.emit(stamp(self._actor, kind, run_id=self._plan.run_id, **fields, **trace))
