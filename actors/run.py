"""An optimization run, ``run/<id>``: lets an optimizer work on a module, and says at any time what the best is so far.

It holds nothing that cannot be had again. After a crash the optimizer begins anew, with the same seed, and what was
paid for comes from the journal (``run-journal/<id>``, which stands left of it). The module itself is not changed:
candidates travel with the calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..runtime.calls import Call
from ..runtime.errors import CallError, Error, RunError, RunStopped
from ..runtime.gen_server import Continue, GenServer, NoReply, call, info
from ..runtime.messages import TaskDone, TaskFailed
from ..runtime.reasons import describe
from .budget_messages import Amount, BudgetReport, BudgetStatus, SetBudget
from .event_outbox import EventOutbox
from .events import (
    Event,
    OptimizationCheckpoint,
    OptimizationEnded,
    OptimizationIteration,
    OptimizationStarted,
    stamp,
)
from .program_state import ProgramState
from .registry import announce
from .run_bench import RunBench, Step, Trial
from .run_messages import (
    FINAL,
    KIND,
    OVER,
    CancelRun,
    GetResult,
    JournalInfo,
    JournalStatus,
    Outcome,
    Paid,
    PauseRun,
    Record,
    ResumeRun,
    RunInfo,
    RunResult,
    RunState,
    RunStatus,
    Wished,
)
from .run_plan import RunPlan, data_hash
from .settings_providers import Budget

BUDGETS: Final = "core/budgets"
_WORK: Final = "work"


@dataclass(frozen=True, slots=True)
class _End:
    """How the work ended."""

    outcome: Outcome
    state: ProgramState | None = None
    score: float | None = None
    reason: str | None = None


class OptimizationRun(GenServer):
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
        self._result: RunResult | None = None
        self._bench: RunBench | None = None
        self._waiting: list[Call] = []
        self._leaving: list[Call] = []
        self._outbox = EventOutbox(self.system)
        return Continue()

    async def handle_continue(self, value: Any) -> None:
        """See how far it is, and go on."""
        journal = await self._journal()
        self._last = journal.progress
        if journal.state in FINAL:
            self._state = journal.state
            self._over(journal)
            return
        plan = self._plan
        self._bench = bench = RunBench(self, plan, self, float(self._last.get("elapsed", 0.0)))
        await bench.recall()
        if journal.state == "paused":
            self._state = "paused"
            bench.going.clear()
        await self._set_budget(journal.paid)
        if not self._last:
            options = dict(plan.options) | {"seed": plan.seed, "workers": plan.workers, "patience": plan.patience}
            event = {"module": plan.module, "method": plan.optimizer.method, "config": options}
            self._emit(OptimizationStarted, **event, budget=plan.budget.to_dict())
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

    async def _finish(self, end: _End) -> None:
        bench = self._bench
        assert bench is not None
        state, score = (end.state, end.score) if end.state is not None else self._best(bench)
        journal = await self._journal()
        made = dict(state.provenance) | self._provenance(end, score, journal.paid)
        self._state, self._reason = end.outcome, end.reason
        self._last = self._progress() | {
            "best": ProgramState(state.predictors, made).to_dict(),
            "best_score": score,
            "reason": end.reason,
        }
        await self.call(self._journal_name, Record(progress=self._last, state=end.outcome), timeout=None)
        self._emit(
            OptimizationEnded,
            outcome=end.outcome,
            iterations=len(bench.steps),
            best_score=score,
            reason=end.reason,
        )
        self.system.telemetry.execute(
            ("dspex", "optimization", "stop"),
            {"duration": bench.elapsed, "best_score": score, **_spent(journal.paid)},
            {**self._labels, "outcome": end.outcome},
        )
        await self._forget_budget()
        self._over(journal)

    def _best(self, bench: RunBench) -> tuple[ProgramState, float | None]:
        """The best so far; before this start has come so far, that of the last one."""
        kept, score = self._last.get("best"), self._last.get("best_score")
        if kept is not None and score is not None and (bench.best_score is None or score > bench.best_score):
            return ProgramState.from_dict(kept), score
        return (bench.base if bench.best is None else bench.best), bench.best_score

    def _provenance(self, end: _End, score: float | None, paid: Paid) -> dict[str, Any]:
        plan, bench = self._plan, self._bench
        assert bench is not None
        return {
            "run": plan.run,
            "module": plan.module,
            "method": plan.optimizer.method,
            "options": dict(plan.options),
            "metric": plan.scorer.name,
            "seed": plan.seed,
            "outcome": end.outcome,
            "score": score,
            "base_score": bench.base_score,
            "data": {
                "train": {"examples": len(plan.train), "hash": data_hash(plan.train)},
                "validation": {"examples": len(plan.validation), "hash": data_hash(plan.validation)},
            },
            "paid": paid.to_dict(),
        }

    def _over(self, journal: JournalStatus) -> None:
        """Answer everybody who waits for the end."""
        plan, last = self._plan, self._last
        best = ProgramState.from_dict(last["best"]) if last.get("best") is not None else plan.program.base
        state = self._state
        assert state in OVER
        self._reason = last.get("reason")
        self._result = RunResult(
            run=plan.run,
            outcome=state,  # type: ignore[arg-type]
            state=best,
            score=last.get("best_score"),
            base_score=last.get("base_score"),
            status=self._status(journal),
        )
        waiting, self._waiting = self._waiting, []
        for caller in waiting:
            self._answer(caller, self._result)
        leaving, self._leaving = self._leaving, []
        for caller in leaving:
            self.reply(caller, self._result.status)
        self._announce()

    def _answer(self, caller: Call, result: RunResult) -> None:
        if result.outcome == "failed":
            why = result.status.reason
            self.fail(caller, RunError(f"the run {result.run!r} failed: {why}", run_id=result.run, reason=why))
        else:
            self.reply(caller, result)

    # -- how it goes -------------------------------------------------------------------------------

    async def trial_done(self, trial: Trial) -> None:
        """See :class:`~.run_bench.Watcher`."""
        measurements = {"score": trial.score, "examples": trial.examples, "errors": trial.errors}
        self.system.telemetry.execute(("dspex", "optimization", "trial"), measurements, self._labels)
        await self._write()
        self._announce()

    async def step_done(self, step: Step, *, again: bool) -> None:
        """See :class:`~.run_bench.Watcher`."""
        plan, bench = self._plan, self._bench
        assert bench is not None
        if again:
            return
        gained = None
        if step.best_score is not None and bench.base_score is not None:
            gained = step.best_score - bench.base_score
        self._emit(
            OptimizationIteration,
            method=plan.optimizer.method,
            iteration=step.number,
            candidate_count=step.candidates,
            score=step.score,
            best_score=step.best_score,
            improvement=gained,
        )
        best, _ = self._best(bench)
        # Its demos are data: they stand in the run's own journal, not in the log.
        self._emit(
            OptimizationCheckpoint, iteration=step.number, state={"best": best.key, "best_score": step.best_score}
        )
        self.system.telemetry.execute(
            ("dspex", "optimization", "iteration"),
            {"score": step.score, "best_score": step.best_score, **_spent((await self._journal()).paid)},
            self._labels,
        )
        await self._write()
        self._announce()

    def _progress(self) -> dict[str, Any]:
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
        now = self._progress() if running else self._last
        best = now.get("best")
        return RunStatus(
            run=plan.run,
            module=plan.module,
            method=plan.optimizer.method,
            state=self._state,
            step=now.get("step", 0),
            steps=now.get("steps"),
            trials=now.get("trials", 0),
            rows=now.get("rows", 0),
            errors=now.get("errors", 0),
            best_score=now.get("best_score"),
            base_score=now.get("base_score"),
            best=plan.program.base if best is None else ProgramState.from_dict(best),
            paid=journal.paid,
            recalled=journal.recalled,
            elapsed=now.get("elapsed", 0.0),
            reason=now.get("reason"),
        )

    # -- what it is asked --------------------------------------------------------------------------

    @call
    def run_info(self, _: RunInfo) -> NoReply:
        """How it is."""
        return self.serve(self._told())

    @call
    def get_result(self, _: GetResult) -> NoReply:
        """What came of it, once something has."""
        if self._result is None:
            self._waiting = [caller for caller in self._waiting if not caller.settled]
            self._waiting.append(self.caller)
        else:
            self._answer(self.caller, self._result)
        return NoReply()

    @call
    async def pause(self, _: PauseRun) -> NoReply:
        """Begin nothing further."""
        if self._state == "running" and self._bench is not None:
            self._state = "paused"
            self._bench.going.clear()
            await self._write("paused")
            self._announce()
        return self.serve(self._told())

    @call
    async def resume(self, _: ResumeRun) -> NoReply:
        """Go on."""
        if self._state == "paused" and self._bench is not None:
            self._state = "running"
            await self._write("running")
            self._bench.going.set()
            self._announce()
        return self.serve(self._told())

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
        elif msg.wish == "pause":
            await self.pause(PauseRun())
        else:
            await self.resume(ResumeRun())

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
        await self.call(self._journal_name, Record(progress=self._progress(), state=state), timeout=None)

    def _announce(self) -> None:
        plan, bench = self._plan, self._bench
        now = self._last if bench is None or self._state in OVER else self._progress()
        announce(
            self,
            {
                "type": "run",
                "kind": KIND,
                "module": plan.module,
                "method": plan.optimizer.method,
                "status": self._state,
                "step": now.get("step", 0),
                "steps": now.get("steps"),
                "best_score": now.get("best_score"),
            },
        )

    def _emit(self, kind: type[Event], **facts: Any) -> None:
        self._outbox.emit(stamp(self, kind, run_id=self._plan.run, **facts))

    @property
    def _labels(self) -> dict[str, str]:
        return {"run": self._plan.run, "module": self._plan.module, "method": self._plan.optimizer.method}

    @property
    def _account(self) -> str:
        return f"run/{self._plan.run}"

    async def _set_budget(self, paid: Paid) -> None:
        """Let the budget actor refuse what goes beyond; what was paid in other processes counts too."""
        budget = self._plan.budget
        if (budget.calls, budget.tokens, budget.money) == (None, None, None):
            return
        whole = Budget(requests=budget.calls, tokens=budget.tokens, money=budget.money)
        await self.call(BUDGETS, SetBudget(self._account, whole), timeout=None)
        reports: tuple[BudgetReport, ...] = await self.call(BUDGETS, BudgetStatus(self._account), timeout=None)
        spent = reports[0].spent if reports else Amount()
        # The account may know less (its log was in memory) or more (of requests that failed) than the journal.
        left = Budget(
            requests=_left(budget.calls, paid.calls, spent.requests),
            tokens=_left(budget.tokens, paid.tokens, spent.tokens),
            money=_left(budget.money, paid.money, spent.money),
        )
        await self.call(BUDGETS, SetBudget(self._account, left), timeout=None)

    async def _forget_budget(self) -> None:
        try:
            await self.call(BUDGETS, SetBudget(self._account, None))
        except CallError:
            return  # nobody spends on it any more


def _spent(paid: Paid) -> dict[str, Any]:
    return {"calls": paid.calls, "cost": paid.money}


def _left(limit: Any, paid: Any, counted: Any) -> Any:
    """A limit for an account that has counted so much already, such that the run can spend what it has left."""
    if limit is None:
        return None
    return type(limit)(counted + max(limit - paid, type(limit)(0)))
