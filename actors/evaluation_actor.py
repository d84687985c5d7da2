"""An evaluation, ``run/<id>``: a dataset, run through a module and scored by a metric, several examples side by side.

It asks the module as anybody does, so limits, budgets, cache and events are those of any call; all of them stand in
the one trace of the evaluation. A prediction that fails scores 0; only a defect ends the actor. It stays until it is
stopped, and answers its report to whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from ..runtime.calls import Call
from ..runtime.errors import Error, RunConflict, RunStopped, StoreError
from ..runtime.gen_server import Continue, Fail, GenServer, NoReply, Stop, call, info
from ..runtime.messages import Reply, TaskDone, TaskFailed
from .evaluation import EvaluationProgress, EvaluationRow, Evaluator, Outcome
from .evaluation_events import EvaluationEnded, EvaluationProgressed, EvaluationStarted
from .evaluation_journal import TRIAL, EvaluationJournal, RecordedHost
from .evaluation_plan import KIND, EvaluationPlan
from .evaluation_report import EvaluationReport
from .event_outbox import EventOutbox
from .events import Event, stamp
from .examples import Example
from .module_messages import ModuleInfo, ModuleStatus, Predict
from .prediction import Prediction
from .registry import announce
from .run_messages import CancelRun, GetResult, PauseRun, ResumeRun, RunInfo, Wished
from .run_scope import RunScope
from .scoring import Host, MetricResult
from .signature import Signature

STARTED: Final = ("dspex", "evaluation", "start")
PROGRESS: Final = ("dspex", "evaluation", "progress")
ENDED: Final = ("dspex", "evaluation", "stop")
TOLD_EVERY: Final = 0.1
"""Seconds between two telemetry events of progress; the last one is always told."""
PARTS: Final = 20
"""Events of progress in the log, at most; the registry hears of it as often."""
_ANSWER_TIME: Final = 1.0
"""Seconds beyond the module's own deadline in which its word about a missed one arrives."""


@dataclass(frozen=True, slots=True)
class EvaluationStatus:
    """How an evaluation is.

    Attributes:
        progress: how far.
        state: ``running``, ``paused``, or its outcome.
        module: what is evaluated.
        metric: by which metric.
        workers: examples in work at once.
        elapsed: seconds since it began, until its end.
    """

    progress: EvaluationProgress
    state: str
    module: str
    metric: str
    workers: int
    elapsed: float


class EvaluationRun(GenServer):
    """One evaluation. Calls: ``RunInfo`` (answers :class:`EvaluationStatus`), ``PauseRun``, ``ResumeRun``,
    ``CancelRun`` (these answer the status too) and ``GetResult`` (answers the
    :class:`~.evaluation_report.EvaluationReport` once it is over, whatever the outcome).

    Args:
        plan: what to do.
    """

    async def init(self, plan: EvaluationPlan) -> Continue:
        """Ask the module what it takes; it must be there.

        Raises:
            CallError: it is not.
        """
        status: ModuleStatus = await self.call(f"module/{plan.module}", ModuleInfo())
        assert status.options.timeout is not None
        self._plan = plan
        self._inputs = Signature(status.signature).input_names
        self._timeout = (plan.options.timeout or status.options.timeout) + _ANSWER_TIME
        # More would but wait at the module, where waiting counts against the time of a prediction.
        self._workers = min(plan.workers, status.max_concurrency)
        self._outbox = EventOutbox(self.system)
        self._waiting: list[Call] = []
        self._report: EvaluationReport | None = None
        self._failure: Error | None = None
        self._journal = EvaluationJournal(self, plan.run_id) if plan.journaled else None
        self._told_at, self._told, self._noted = self.clock.monotonic(), (0, 0), 0
        self._evaluator = Evaluator(
            self._predict,
            self._score,
            monotonic=self.clock.monotonic,
            workers=min(self._workers, max(len(plan.dataset), 1)),
            max_errors=plan.max_errors,
            on_row=self._row_done,
            keep=None if self._journal is None else self._journal.keep,
        )
        return Continue()

    async def handle_continue(self, value: Any) -> None:
        """Begin, or go on where it was."""
        plan = self._plan
        if plan.context is not None:
            self.set_context(plan.context)
        self._began = self.clock.monotonic()
        self._trace = self.context
        known = await self._known()
        self._emit(
            EvaluationStarted,
            known=len(known),
            module=plan.module,
            metric=plan.scorer.name,
            examples=len(plan.dataset),
            workers=self._workers,
        )
        self.system.telemetry.execute(STARTED, {"examples": len(plan.dataset)}, self._facts())
        self._announce()
        self.start_task(self._work(known))

    # -- work ------------------------------------------------------------------------------------

    async def _known(self) -> dict[int, EvaluationRow]:
        """What the journal has of it."""
        if self._journal is None:
            return {}
        known, ended = await self._journal.recall(self._plan.dataset)
        if ended is not None:
            self._evaluator.stop(ended)
        self._told = (len(known), sum(row.error is not None for row in known.values()))
        self._noted = len(known) * PARTS // len(self._plan.dataset)
        return known

    async def _work(self, known: dict[int, EvaluationRow]) -> tuple[EvaluationRow, ...] | Error:
        evaluator, journal = self._evaluator, self._journal
        ended = evaluator.outcome
        try:
            try:
                await evaluator.run(self._plan.dataset, known)
            except RunStopped:  # its budget is spent: what was done is reported
                evaluator.stop("stopped")
            if journal is not None and ended is None:
                await journal.end(self._progress(), evaluator.outcome or "completed")
        except (RunConflict, StoreError) as error:
            return error
        return tuple(evaluator.rows[index] for index in sorted(evaluator.rows))

    async def _predict(self, index: int, example: Example) -> Prediction:
        plan = self._plan
        more = dict(plan.predict)
        if plan.journaled:
            more["run"] = RunScope(plan.run_id, TRIAL, str(index))
        message = Predict(example.inputs(self._inputs), plan.options, **more)
        answer: Prediction = await self.call(f"module/{plan.module}", message, timeout=self._timeout)
        # Rows are kept to the end: without what is large and stands in the event log too.
        return Prediction(answer.to_dict(), replace(answer.info, text="", attempts=()))

    async def _score(self, index: int, example: Example, prediction: Prediction) -> MetricResult:
        host: Host = self
        if self._plan.journaled:
            host = RecordedHost(self, RunScope(self._plan.run_id, TRIAL, str(index), "metric"))
        return await self._plan.scorer.score(example, prediction, host)

    def _row_done(self, row: EvaluationRow) -> None:
        now, done, total = self.clock.monotonic(), len(self._evaluator.rows), len(self._plan.dataset)
        if now - self._told_at >= TOLD_EVERY or done == total:
            self._tell(now)
        if done * PARTS // total > self._noted:
            self._noted = done * PARTS // total
            progress = self._progress()
            self._emit(
                EvaluationProgressed,
                done=done,
                total=total,
                failures=progress.failures,
                score=progress.score,
            )
            self._announce()
            if self._journal is not None and done < total:
                self._journal.tell(progress)

    def _tell(self, now: float) -> None:
        """Telemetry of what was done since the last time."""
        progress, (done, failures) = self._progress(), self._told
        self._told_at, self._told = now, (progress.done, progress.failures)
        measured = {
            "count": progress.done - done,
            "failed": progress.failures - failures,
            "score": progress.score,
        }
        self.system.telemetry.execute(PROGRESS, measured, {**self._facts(), "progress": progress})

    def _progress(self) -> EvaluationProgress:
        evaluator = self._evaluator
        done = len(evaluator.rows)
        score = evaluator.total_score / done if done else None
        return EvaluationProgress(self._plan.run_id, done, len(self._plan.dataset), evaluator.failures, score)

    # -- its end ---------------------------------------------------------------------------------

    @info
    def work_done(self, msg: TaskDone) -> None:
        """All rows are there, or it was stopped: report. Or the journal cannot go on."""
        if not isinstance(msg.value, Error):
            self._finish(msg.value)
            return
        self._failure = msg.value
        self._evaluator.stop("stopped")
        self._announce()
        for caller in self._waiting:
            self.fail(caller, msg.value)
        self._waiting.clear()

    @info
    def progress_noted(self, msg: Reply) -> None:
        """How far it is was written down, or was not: the next row will meet that too."""

    @info
    def work_failed(self, msg: TaskFailed) -> Stop:
        """A defect."""
        return Stop(msg.reason)

    def _finish(self, rows: tuple[EvaluationRow, ...]) -> None:
        plan, now = self._plan, self.clock.monotonic()
        outcome: Outcome = self._evaluator.outcome or "completed"
        if self._told != (len(rows), self._evaluator.failures):
            self._tell(now)
        self._report = report = EvaluationReport(
            run_id=plan.run_id,
            module=plan.module,
            metric=plan.scorer.name,
            rows=rows,
            total=len(plan.dataset),
            outcome=outcome,
            workers=self._workers,
            duration=now - self._began,
            correlation_id=self._trace.trace_id,
            inputs=tuple(self._inputs),
        )
        progress, cost = self._progress(), report.spent.cost
        self._emit(
            EvaluationEnded,
            outcome=outcome,
            done=progress.done,
            total=progress.total,
            failures=progress.failures,
            score=progress.score,
            duration=report.duration,
            cost=cost,
        )
        measured = {"duration": report.duration, "score": progress.score, "cost": cost}
        self.system.telemetry.execute(ENDED, measured, {**self._facts(), "outcome": outcome})
        self._announce()
        for caller in self._waiting:
            self.reply(caller, report)
        self._waiting.clear()

    # -- what it is asked ------------------------------------------------------------------------

    @call
    def result(self, msg: GetResult) -> EvaluationReport | Fail | NoReply:
        """The report, once there is one."""
        if self._failure is not None:
            return Fail(self._failure)
        if self._report is not None:
            return self._report
        self._waiting.append(self.caller)
        return NoReply()

    @call
    def status(self, msg: RunInfo) -> EvaluationStatus:
        """How it is."""
        plan, report = self._plan, self._report
        elapsed = self.clock.monotonic() - self._began if report is None else report.duration
        return EvaluationStatus(self._progress(), self._state, plan.module, plan.scorer.name, self._workers, elapsed)

    @call
    def pause(self, msg: PauseRun) -> EvaluationStatus:
        """Begin no further example."""
        self._evaluator.pause()
        self._announce()
        return self.status(RunInfo())

    @call
    def resume(self, msg: ResumeRun) -> EvaluationStatus:
        """Go on."""
        self._evaluator.resume()
        self._announce()
        return self.status(RunInfo())

    @call
    def cancel(self, msg: CancelRun) -> EvaluationStatus:
        """End it, requests in flight too."""
        self._evaluator.stop("cancelled")
        return self.status(RunInfo())

    @info
    def wished(self, msg: Wished) -> None:
        """Somebody asked for something through the file of runs."""
        if msg.wish == "cancel":
            self._evaluator.stop("cancelled")
        elif msg.wish == "pause":
            self._evaluator.pause()
        else:
            self._evaluator.resume()
        self._announce()

    @property
    def _state(self) -> str:
        evaluator = self._evaluator
        return evaluator.outcome or ("paused" if evaluator.paused else "running")

    # -- what is told of it ----------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return {"run_id": self._plan.run_id, "module": self._plan.module, "metric": self._plan.scorer.name}

    def _emit(self, kind: type[Event], **fields: Any) -> None:
        trace = {name: getattr(self._trace, name) for name in ("trace_id", "span_id", "parent_id", "user")}
        self._outbox.emit(stamp(self, kind, run_id=self._plan.run_id, **fields, **trace))

    def _announce(self) -> None:
        progress = self._progress()
        announce(
            self,
            {
                "type": "run",
                "kind": KIND,
                "module": self._plan.module,
                "metric": self._plan.scorer.name,
                "status": self._state,
                "done": progress.done,
                "total": progress.total,
                "failures": progress.failures,
                "score": progress.score,
            },
        )
