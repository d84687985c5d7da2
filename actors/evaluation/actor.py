"""An evaluation, ``run/<id>``: a dataset, run through a module and scored by a metric, several examples side by side.

It asks the module as anybody does, so limits, budgets, cache and events are those of any call; all of them stand in
the one trace of the evaluation. A prediction that fails scores 0; only a defect ends the actor. It stays until it is
stopped, and answers its report to whoever asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from ...runtime.calls import Call
from ...runtime.errors import Error, LMBudgetExceeded, RunConflict, RunStopped, StoreError
from ...runtime.gen_server import Continue, Fail, GenServer, NoReply, Stop, call, info
from ...runtime.messages import Reply, TaskDone, TaskFailed
from ..examples import Example
from ..modules.messages import ModuleInfo, ModuleStatus, Predict
from ..modules.prediction import Prediction
from ..runs.messages import CancelRun, GetResult, PauseRun, ResumeRun, RunInfo, RunState, Wished
from ..runs.recorded_host import RecordedHost
from ..runs.scope import RunScope
from ..runs.spending import Spending
from ..runs.stopwatch import Stopwatch
from ..runs.tries import HOPELESS, tried
from ..signatures.signature import Signature
from .journal import NOTHING, STATES, TRIAL, EvaluationJournal, Recalled, progress_of
from .news import EvaluationNews
from .plan import EvaluationPlan
from .report import EvaluationReport
from .scoring import Host, MetricResult
from .work import EvaluationProgress, EvaluationRow, EvaluationStatus, Evaluator

T = TypeVar("T")
_ANSWER_TIME: Final = 1.0
"""Seconds beyond the module's own deadline in which its word about a missed one arrives."""


class EvaluationRun(GenServer):
    """One evaluation. Calls: ``RunInfo`` (answers :class:`~.evaluation.work.EvaluationStatus`), ``PauseRun``,
    ``ResumeRun``, ``CancelRun`` (these answer the status too) and ``GetResult`` (answers the
    :class:`~.evaluation.report.EvaluationReport` once it is over, whatever the outcome).

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
        self._waiting: list[Call] = []
        self._leaving: list[Call] = []
        self._report: EvaluationReport | None = None
        self._failure: Error | None = None
        self._journal = EvaluationJournal(self, plan.run_id) if plan.journaled else None
        self._spending = Spending()
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
        plan, evaluator = self._plan, self._evaluator
        if plan.context is not None:
            self.set_context(plan.context)
        self._trace = self.context.trace_id
        recalled = NOTHING if self._journal is None else await self._journal.recall(plan.dataset)
        self._watch = Stopwatch(self.clock.monotonic, recalled.elapsed)
        evaluator.recall(recalled.rows)
        if recalled.ended is not None:
            evaluator.stop(recalled.ended)
        elif recalled.paused:
            evaluator.pause()
        else:
            self._watch.go()
        self._news = EvaluationNews(self, plan)
        self._news.started(self._progress(), self._workers)
        self._announce()
        self.start_task(self._work(recalled))

    # -- work ------------------------------------------------------------------------------------

    async def _work(self, recalled: Recalled) -> tuple[EvaluationRow, ...] | Error:
        evaluator = self._evaluator
        try:
            if recalled.ended is None:
                await self._write("paused" if recalled.paused else "running")
            rows = await evaluator.run(self._plan.dataset)
            self._watch.halt()
            if recalled.ended is None:
                await self._write(self._ended())
        except (RunConflict, StoreError) as error:
            return error
        return tuple(rows)

    async def _predict(self, index: int, example: Example) -> Prediction:
        plan = self._plan
        scope = RunScope(plan.run_id, TRIAL, str(index)) if plan.journaled else None
        message = Predict(example.inputs(self._inputs), plan.options, run=scope)
        answer: Prediction = await self._tried(
            lambda: self.call(f"module/{plan.module}", message, timeout=self._timeout)
        )
        # Rows are kept to the end: without what is large and stands in the event log too.
        return Prediction(answer.to_dict(), replace(answer.info, text="", attempts=()))

    async def _score(self, index: int, example: Example, prediction: Prediction) -> MetricResult:
        run = self._plan.run_id

        def score() -> Awaitable[MetricResult]:
            host: Host = (
                self if self._journal is None else RecordedHost(self, RunScope(run, TRIAL, str(index), "metric"))
            )
            return self._plan.scorer.score(example, prediction, host)

        return await self._tried(score)

    async def _tried(self, work: Callable[[], Awaitable[T]]) -> T:
        """With a journal no example is scored 0 because nobody was there to work on it, or nobody was paid.

        Raises:
            RunStopped: the next example would meet the same failure.
        """
        if self._journal is None:
            return await work()
        try:
            return await self._spending.do(lambda: tried(work))
        except (*HOPELESS, LMBudgetExceeded) as error:
            state = "budget_exhausted" if isinstance(error, LMBudgetExceeded) else "failed"
            raise RunStopped(f"{error.code}: {error.message}", run_id=self._plan.run_id, state=state) from error

    def _row_done(self, row: EvaluationRow) -> None:
        if self._news.row_done(self._progress()):
            self._announce()
            if self._journal is not None:
                self._journal.tell(self._kept())

    async def _write(self, state: RunState) -> None:
        if self._journal is not None:
            await self._journal.write(self._kept(), state)

    def _kept(self) -> dict[str, Any]:
        stopped = self._evaluator.stopped
        why = None if stopped is None else stopped.message
        return progress_of(self._progress(), self._watch.seconds, correlation_id=self._trace, reason=why)

    def _ended(self) -> RunState:
        stopped = self._evaluator.stopped
        state: RunState | None = None if stopped is None else stopped.facts.get("state")
        return state or STATES[self._evaluator.outcome or "completed"]

    def _progress(self) -> EvaluationProgress:
        evaluator = self._evaluator
        done = len(evaluator.rows)
        score = evaluator.total_score / done if done else None
        return EvaluationProgress(self._plan.run_id, done, len(self._plan.dataset), evaluator.failures, score)

    # -- its end ---------------------------------------------------------------------------------

    @info
    def work_done(self, msg: TaskDone) -> None:
        """All rows are there, or it was stopped: report. Or the journal cannot go on."""
        if isinstance(msg.value, Error):
            self._failure = msg.value
            self._evaluator.stop("stopped")
        else:
            self._report = self._reported(msg.value)
            self._news.ended(self._progress(), self._report)
        self._announce()
        for caller in self._waiting:
            if self._report is not None:
                self.reply(caller, self._report)
            else:
                self.fail(caller, msg.value)
        for caller in self._leaving:
            self.reply(caller, self.status(RunInfo()))
        self._waiting.clear()
        self._leaving.clear()

    @info
    def progress_noted(self, msg: Reply) -> None:
        """How far it is was written down, or was not: the next row will meet that too."""

    @info
    def work_failed(self, msg: TaskFailed) -> Stop:
        """A defect."""
        return Stop(msg.reason)

    def _reported(self, rows: tuple[EvaluationRow, ...]) -> EvaluationReport:
        plan, stopped = self._plan, self._evaluator.stopped
        return EvaluationReport(
            run_id=plan.run_id,
            module=plan.module,
            metric=plan.scorer.name,
            rows=rows,
            total=len(plan.dataset),
            outcome=self._evaluator.outcome or "completed",
            reason=None if stopped is None else stopped.message,
            workers=self._workers,
            duration=self._watch.seconds,
            correlation_id=self._trace,
            inputs=tuple(self._inputs),
        )

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
        plan = self._plan
        name, now = plan.scorer.name, self._progress()
        return EvaluationStatus(now, self._state, plan.module, name, self._workers, self._watch.seconds)

    @call
    async def pause(self, msg: PauseRun) -> EvaluationStatus | Fail:
        """Begin no further example; the journal remembers it over a crash."""
        return await self._turn(on=False)

    @call
    async def resume(self, msg: ResumeRun) -> EvaluationStatus | Fail:
        """Go on."""
        return await self._turn(on=True)

    @call
    def cancel(self, msg: CancelRun) -> EvaluationStatus | NoReply:
        """End it, requests in flight too; the answer follows when that is written down, and so final."""
        self._evaluator.stop("cancelled")
        if self._report is None and self._failure is None:
            self._leaving.append(self.caller)
            return NoReply()
        return self.status(RunInfo())

    @info
    async def wished(self, msg: Wished) -> None:
        """Somebody asked for something through the file of runs."""
        if msg.wish == "cancel":
            self._evaluator.stop("cancelled")
        else:
            await self._turn(on=msg.wish == "resume")

    async def _turn(self, *, on: bool) -> EvaluationStatus | Fail:
        evaluator = self._evaluator
        if evaluator.outcome is None:
            if on:
                evaluator.resume()
                self._watch.go()
            else:
                evaluator.pause()
                self._watch.halt()
            self._announce()
            try:
                await self._write("running" if on else "paused")
            except (RunConflict, StoreError) as error:
                return Fail(error)
        return self.status(RunInfo())

    @property
    def _state(self) -> str:
        evaluator = self._evaluator
        return evaluator.outcome or ("paused" if evaluator.paused else "running")

    def _announce(self) -> None:
        self._news.announce(self._progress(), self._state)
