"""An evaluation, ``run/<id>``: a dataset, run through a module and scored by a metric, several examples side by side.

It asks the module as anybody does, so limits, budgets, cache and events are those of any call; all of them stand in
the one trace of the evaluation. A prediction that fails scores 0; only a defect ends the actor. It stays until it is
stopped, and answers its report to whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..runtime.calls import Call
from ..runtime.context import Context
from ..runtime.errors import RunStopped
from ..runtime.gen_server import Continue, GenServer, NoReply, Stop, call, info
from ..runtime.messages import TaskDone, TaskFailed
from .evaluation import EvaluationProgress, EvaluationRow, Evaluator, Outcome, check_whole
from .evaluation_events import EvaluationEnded, EvaluationProgressed, EvaluationStarted
from .evaluation_report import EvaluationReport
from .event_outbox import EventOutbox
from .events import Event, stamp
from .examples import Example
from .module_messages import DEFAULT_OPTIONS, ModuleInfo, ModuleStatus, Predict, PredictOptions
from .prediction import Prediction
from .registry import announce
from .run_messages import CancelRun, GetResult, PauseRun, ResumeRun, RunInfo
from .run_scope import RunScope
from .scoring import MetricResult, Scorer
from .signature import Signature

KIND: Final = "evaluation"
TRIAL: Final = "eval"
"""The one trial of an evaluation, in the run's journal."""
STARTED: Final = ("dspex", "evaluation", "start")
PROGRESS: Final = ("dspex", "evaluation", "progress")
ENDED: Final = ("dspex", "evaluation", "stop")
TOLD_EVERY: Final = 0.1
"""Seconds between two telemetry events of progress; the last one is always told."""
PARTS: Final = 20
"""Events of progress in the log, at most; the registry hears of it as often."""
_ANSWER_TIME: Final = 1.0
"""Seconds beyond the module's own deadline in which its word about a missed one arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """What is to be evaluated, and how.

    Args:
        run_id: id of the evaluation.
        module: id of the module.
        dataset: the examples.
        scorer: the metric.
        workers: examples in work at once.
        max_errors: failures that are borne; the next one ends the evaluation. None bears all.
        options: of each prediction.
        predict: further fields of each :class:`~.module_messages.Predict`: the ``state`` of a candidate...
        journaled: whether the run has a journal; then each prediction says where in the run it belongs.
        context: the trace it is part of; None begins one.

    Raises:
        ConfigError: a count is out of range.
    """

    run_id: str
    module: str
    dataset: Sequence[Example] = field(repr=False)
    scorer: Scorer
    workers: int = 1
    max_errors: int | None = None
    options: PredictOptions = DEFAULT_OPTIONS
    predict: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    journaled: bool = False
    context: Context | None = None

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)
        if self.max_errors is not None:
            check_whole("max_errors", self.max_errors, 0)


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
        self._outbox = EventOutbox(self.system)
        self._waiting: list[Call] = []
        self._report: EvaluationReport | None = None
        self._told_at, self._told, self._noted = self.clock.monotonic(), (0, 0), 0
        self._evaluator = Evaluator(
            self._predict,
            self._score,
            monotonic=self.clock.monotonic,
            workers=min(plan.workers, max(len(plan.dataset), 1)),
            max_errors=plan.max_errors,
            on_row=self._row_done,
        )
        return Continue()

    def handle_continue(self, value: Any) -> None:
        """Begin."""
        plan = self._plan
        if plan.context is not None:
            self.set_context(plan.context)
        self._began = self.clock.monotonic()
        self._trace = self.context
        self._emit(
            EvaluationStarted,
            module=plan.module,
            metric=plan.scorer.name,
            examples=len(plan.dataset),
            workers=plan.workers,
        )
        self.system.telemetry.execute(STARTED, {"examples": len(plan.dataset)}, self._facts())
        self._announce()
        self.start_task(self._work())

    # -- work ------------------------------------------------------------------------------------

    async def _work(self) -> tuple[EvaluationRow, ...]:
        try:
            return tuple(await self._evaluator.run(self._plan.dataset))
        except RunStopped:  # its budget is spent: what was done is reported
            rows = self._evaluator.rows
            self._evaluator.stop("stopped")
            return tuple(rows[index] for index in sorted(rows))

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
        return await self._plan.scorer.score(example, prediction, self)

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
        """All rows are there, or it was stopped: report."""
        self._finish(msg.value)

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
            workers=plan.workers,
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
    def result(self, msg: GetResult) -> EvaluationReport | NoReply:
        """The report, once there is one."""
        if self._report is not None:
            return self._report
        self._waiting.append(self.caller)
        return NoReply()

    @call
    def status(self, msg: RunInfo) -> EvaluationStatus:
        """How it is."""
        plan, report = self._plan, self._report
        elapsed = self.clock.monotonic() - self._began if report is None else report.duration
        return EvaluationStatus(self._progress(), self._state, plan.module, plan.scorer.name, plan.workers, elapsed)

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
