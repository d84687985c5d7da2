"""An optimization run, ``run/<id>``: lets an optimizer work on a module, and says at any time what the best is so far.

It holds nothing that cannot be had again. After a crash the optimizer begins anew, with the same seed, and what was
paid for comes from the journal (``run-journal/<id>``, which stands left of it). The module itself is not changed:
candidates travel with the calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ...runtime.calls import Call
from ...runtime.errors import Error, RunConflict, RunStopped, StoreError
from ...runtime.gen_server import Continue, Fail, NoReply, call, info
from ...runtime.messages import TaskDone, TaskFailed
from ...runtime.reasons import describe
from ..modules.program_state import ProgramState
from .bench import RunBench
from .budget import close_account, open_account
from .messages import (
    OVER,
    CancelRun,
    JournalInfo,
    JournalStatus,
    Outcome,
    PauseRun,
    Record,
    ResumeRun,
    RunInfo,
    RunState,
    RunStatus,
    Wished,
)
from .news import RunNews
from .plan import RunPlan
from .provenance import provenance_of
from .result import GivesResult
from .trials import Step, Trial

_WORK: Final = "work"


@dataclass(frozen=True, slots=True)
class _End:
    """How the work ended."""

    outcome: Outcome
    state: ProgramState | None = None
    score: float | None = None
    reason: str | None = None


class OptimizationRun(GivesResult):
    """One optimization run.

    Args:
        plan: what to do.
    """

    def init(self, plan: RunPlan) -> Continue:
        """Nothing is done yet: whoever started it need not wait."""
        self._plan = plan
        self._state: RunState = "running"
        self._cancelled = False
        self._reason: str | None = None
        self._last: Mapping[str, Any] = {}
        self._bench: RunBench | None = None
        self._leaving: list[Call] = []
        self._news = RunNews(self, plan)
        return Continue()

    async def handle_continue(self, value: Any) -> None:
        """See how far it is, and go on."""
        try:
            await self._begin()
        except (RunConflict, StoreError) as error:
            await self._lose(error)

    async def _begin(self) -> None:
        journal = await self._journal()
        self._last = journal.progress
        if journal.state in OVER:
            self._state = journal.state
            self._over(journal)
            return
        plan = self._plan
        self._bench = bench = RunBench(self, plan, self, float(self._last.get("elapsed", 0.0)))
        await bench.recall()
        if journal.state == "paused":
            self._state = "paused"
        else:
            bench.go()
        await open_account(self, plan.run, plan.budget, journal.paid)
        if not self._last:
            self._news.started()
        await self._write(self._state)
        self._task = self.start_task(self._work(bench), tag=_WORK)
        self._announce()

    # -- the work ----------------------------------------------------------------------------------

    async def _work(self, bench: RunBench) -> _End:
        try:
            state = await self._plan.optimizer.optimize(bench)
            score = bench.best_score
            if bench.best is not None and bench.best.key != state.key:
                outcomes = await bench.run(state, bench.validation, trial="result")
                score = sum(outcome.score for outcome in outcomes) / len(outcomes)
        except RunStopped as stopped:
            return _End(stopped.facts["outcome"], reason=stopped.facts.get("why"))
        except Error as error:
            return _End("failed", reason=f"{error.code}: {error.message}")
        return _End("completed", state, score)

    @info
    async def work_done(self, msg: TaskDone | TaskFailed) -> None:
        """It is over; make known what came of it."""
        if msg.tag != _WORK:
            return
        if isinstance(msg, TaskDone):
            end = msg.value
        elif self._cancelled:
            end = _End("cancelled", reason="it was cancelled")
        else:
            end = _End("failed", reason=describe(msg.reason))
        await self._finish(end)

    async def _lose(self, error: RunConflict | StoreError) -> None:
        """The journal is another process's, or cannot be used: here the run has failed, and the file says no more."""
        self._state = "failed"
        self._last = {**self._last, "reason": f"{error.code}: {error.message}"}
        await close_account(self, self._plan.run)
        self._over(await self._journal())

    async def _finish(self, end: _End) -> None:
        bench = self._bench
        assert bench is not None
        state, score = (end.state, end.score) if end.state is not None else self._best(bench)
        journal = await self._journal()
        made = provenance_of(
            self._plan, outcome=end.outcome, score=score, base_score=bench.base_score, paid=journal.paid
        )
        self._state, self._reason = end.outcome, end.reason
        self._last = self.progress() | {
            "best": ProgramState(state.predictors, {**state.provenance, **made}).to_dict(),
            "best_score": score,
            "reason": end.reason,
        }
        try:
            await self.call(self._journal_name, Record(progress=self._last, state=end.outcome), timeout=None)
        except (RunConflict, StoreError) as error:
            await self._lose(error)
            return
        self._news.ended(
            end.outcome,
            steps=len(bench.steps),
            score=score,
            reason=end.reason,
            seconds=bench.elapsed,
            paid=journal.paid,
        )
        await close_account(self, self._plan.run)
        self._over(journal)

    def _best(self, bench: RunBench) -> tuple[ProgramState, float | None]:
        """The best so far; before this start has come so far, that of the last one."""
        kept, score = self._last.get("best"), self._last.get("best_score")
        if kept is not None and score is not None and (bench.best_score is None or score > bench.best_score):
            return ProgramState.from_dict(kept), score
        return (bench.base if bench.best is None else bench.best), bench.best_score

    def _over(self, journal: JournalStatus) -> None:
        """Answer everybody who waits for the end."""
        assert self._state in OVER
        self._reason = self._last.get("reason")
        status = self._status(journal)
        self._settle(status)
        leaving, self._leaving = self._leaving, []
        for caller in leaving:
            self.reply(caller, status)
        self._announce()

    # -- how it goes -------------------------------------------------------------------------------

    def candidate_met(self, state: ProgramState, trial: str) -> None:
        """See :class:`~.runs.trials.Watcher`."""
        self._news.candidate(state, trial)

    def trial_done(self, trial: Trial) -> None:
        """See :class:`~.runs.trials.Watcher`."""
        self._news.trial(trial)
        self._announce()

    async def step_done(self, step: Step, *, again: bool) -> None:
        """See :class:`~.runs.trials.Watcher`."""
        bench = self._bench
        assert bench is not None
        if again:
            return
        best, _ = self._best(bench)
        paid = (await self._journal()).paid
        self._news.step(step, base_score=bench.base_score, best=best.key, paid=paid)
        self._announce()

    def progress(self) -> dict[str, Any]:
        """See :class:`~.runs.trials.Watcher`."""
        plan, bench = self._plan, self._bench
        assert bench is not None
        best, score = self._best(bench)
        trials = bench.trials.values()
        return {
            "module": plan.module,
            "method": plan.optimizer.method,
            "step": len(bench.steps),
            "steps": plan.optimizer.steps(bench),
            "trials": len(trials),
            "rows": sum(trial.examples for trial in trials),
            "errors": sum(trial.errors for trial in trials),
            "best": best.to_dict(),
            "best_score": score,
            "base_score": bench.base_score if bench.base_score is not None else self._last.get("base_score"),
            "elapsed": bench.elapsed,
            "reason": self._reason,
        }

    def _status(self, journal: JournalStatus) -> RunStatus:
        plan = self._plan
        running = self._bench is not None and self._state not in OVER
        return RunStatus.of(
            self.progress() if running else self._last,
            journal,
            base=plan.program.base,
            run=plan.run,
            module=plan.module,
            method=plan.optimizer.method,
            state=self._state,
        )

    # -- what it is asked --------------------------------------------------------------------------

    @call
    def run_info(self, _: RunInfo) -> NoReply:
        """How it is."""
        return self.serve(self._told())

    @call
    async def pause(self, _: PauseRun) -> NoReply | Fail:
        """Begin nothing further."""
        return await self._turned(self._pause)

    @call
    async def resume(self, _: ResumeRun) -> NoReply | Fail:
        """Go on."""
        return await self._turned(self._resume)

    @call
    def cancel(self, _: CancelRun) -> NoReply:
        """End now; the answer follows when it has."""
        self._cancel()
        if self._result is None:
            self._leaving.append(self.caller)
            return NoReply()
        return self.serve(self._told())

    @info
    async def wished(self, msg: Wished) -> None:
        """Somebody asked for it through the file of runs."""
        if msg.wish == "cancel":
            self._cancel()
        else:
            with suppress(RunConflict, StoreError):  # the work meets it too
                await (self._pause if msg.wish == "pause" else self._resume)()

    async def _turned(self, turn: Callable[[], Awaitable[None]]) -> NoReply | Fail:
        try:
            await turn()
        except (RunConflict, StoreError) as error:
            return Fail(error)
        return self.serve(self._told())

    async def _pause(self) -> None:
        if self._state == "running" and self._bench is not None:
            self._state = "paused"
            self._bench.pause()
            await self._write("paused")
            self._announce()

    async def _resume(self) -> None:
        if self._state == "paused" and self._bench is not None:
            await self._write("running")
            self._state = "running"
            self._bench.go()
            self._announce()

    def _cancel(self) -> None:
        if self._state not in OVER and self._bench is not None:
            self._cancelled = True
            self._task.cancel()

    async def _told(self) -> RunStatus:
        return self._status(await self._journal())

    # -- others ------------------------------------------------------------------------------------

    @property
    def _journal_name(self) -> str:
        return f"run-journal/{self._plan.run}"

    async def _journal(self) -> JournalStatus:
        status: JournalStatus = await self.call(self._journal_name, JournalInfo(), timeout=None)
        return status

    async def _write(self, state: RunState | None = None) -> None:
        await self.call(self._journal_name, Record(progress=self.progress(), state=state), timeout=None)

    def _announce(self) -> None:
        over = self._bench is None or self._state in OVER
        self._news.announce(self._state, self._last if over else self.progress())
