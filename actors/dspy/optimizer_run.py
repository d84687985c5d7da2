"""The run of a DSPy optimizer, ``run/<id>``: has a worker in a process of its own do it, and says how it goes.

It holds nothing that cannot be had again: if it or its worker dies, its supervisor starts it again, the optimizer
begins anew, and what was paid for comes from the journal. No DSPy is imported in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from thespian.actors import ActorAddress

from ...runtime.calls import Call
from ...runtime.errors import RunError
from ...runtime.gen_server import Continue, Fail, GenServer, NoReply, Started, Stop, call, cast, info
from ...runtime.messages import TaskDone, TaskFailed
from ..events.kinds import OptimizationEnded, OptimizationIteration, OptimizationStarted, stamp
from ..events.outbox import EventOutbox
from ..modules.program_state import ProgramState
from ..registry.actor import announce
from ..runs.messages import (
    FINAL,
    OVER,
    CancelRun,
    GetResult,
    JournalInfo,
    JournalStatus,
    Outcome,
    PauseRun,
    Record,
    ResumeRun,
    RunInfo,
    RunResult,
    RunState,
    RunStatus,
    Wished,
)
from .optimizer_messages import Evaluated, NotOptimized, Optimize, Optimized
from .optimizer_plan import OptimizerPlan
from .optimizer_worker import OptimizerWorker

KIND: Final = "dspy"
_START_TIMEOUT: Final = 60.0
_WORK: Final = "work"


class OptimizerRun(GenServer):
    """One run.

    Args:
        plan: what to do.
    """

    def init(self, plan: OptimizerPlan) -> Continue:
        """Nothing is done yet: whoever started it need not wait."""
        self._plan = plan
        self._state: RunState = "running"
        self._last: dict[str, Any] = {}
        self._result: RunResult | None = None
        self._waiting: list[Call] = []
        self._began, self._before = self.clock.monotonic(), 0.0
        self._worker: ActorAddress | None = None
        self._outbox = EventOutbox(self.system)
        return Continue()

    async def handle_continue(self, value: Any) -> None:
        """See how far it is, and go on."""
        journal = await self._journal()
        known = dict(journal.progress)
        if journal.state in FINAL:
            self._state, self._last = journal.state, known
            self._over(journal)
            return
        plan = self._plan
        self._before = float(known.get("elapsed", 0.0))
        if not known:
            config = dict(plan.options) | {"seed": plan.seed}
            self._emit(OptimizationStarted, module=plan.factory, method=plan.method, config=config)
        # The optimizer begins anew; what it did before it soon has done again.
        self._last = {"module": plan.factory, "method": plan.method, "trials": 0, "rows": 0}
        started = await self.spawn_link(
            OptimizerWorker, plan.to_dict(), placement="process", supervised=False, start_timeout=_START_TIMEOUT
        )
        if not isinstance(started, Started):
            await self._finish("failed", reason=f"its process did not start: {getattr(started, 'reason', 'ignored')}")
            return
        self._worker = started.address
        await self._write("running")
        self._announce()
        self.start_task(self._work(started.address), tag=_WORK)

    # -- the work ----------------------------------------------------------------------------------

    async def _work(self, worker: ActorAddress) -> Optimized | NotOptimized:
        found: Optimized | NotOptimized = await self.call(worker, Optimize(), timeout=None)
        return found

    @info
    async def work_done(self, msg: TaskDone | TaskFailed) -> Stop | None:
        """It is over, or its worker is gone: then it is done again."""
        if self._state in OVER:
            return None
        if isinstance(msg, TaskFailed):
            return Stop(msg.reason)
        found = msg.value
        if isinstance(found, NotOptimized):
            await self._finish("failed", reason=f"{found.code}: {found.why}")
        else:
            await self._finish("completed", found)
        self._leave()
        return None

    @cast
    async def evaluated(self, msg: Evaluated) -> None:
        """The optimizer has evaluated a program."""
        if self._state in OVER:
            return
        last = self._last
        best = last.get("best_score")
        last["base_score"] = last.get("base_score", msg.score)
        last["best_score"] = msg.score if best is None else max(best, msg.score)
        last["trials"] += 1
        last["rows"] += msg.examples
        last["step"] = last["trials"]
        self._emit(
            OptimizationIteration,
            method=self._plan.method,
            iteration=last["step"],
            candidate_count=1,
            score=msg.score,
            best_score=last["best_score"],
            improvement=last["best_score"] - last["base_score"],
        )
        await self._write()
        self._announce()

    async def _finish(self, outcome: Outcome, found: Optimized | None = None, *, reason: str | None = None) -> None:
        journal = await self._journal()
        if found is not None:
            score = self._last.get("best_score") if found.score is None else found.score
            self._last |= {"best_score": score, "best": self._made(found, score, journal).to_dict()}
        self._state = outcome
        self._last |= {"reason": reason, "elapsed": self._elapsed}
        await self._write(outcome)
        self._emit(
            OptimizationEnded,
            outcome=outcome,
            iterations=self._last.get("step", 0),
            best_score=self._last.get("best_score"),
            reason=reason,
        )
        self._over(journal)

    def _made(self, found: Optimized, score: float | None, journal: JournalStatus) -> ProgramState:
        plan = self._plan
        provenance = {
            "run": plan.run,
            "method": plan.method,
            "score": score,
            "paid": journal.paid.to_dict(),
            **plan.fingerprint,
            "dspy": dict(found.saved),
        }
        return ProgramState(found.state.predictors, provenance)

    def _over(self, journal: JournalStatus) -> None:
        """Answer everybody who waits for the end."""
        status, state = self._status(journal), self._state
        self._result = RunResult(
            run=self._plan.run,
            outcome=state,  # type: ignore[arg-type]
            state=status.best,
            score=status.best_score,
            base_score=status.base_score,
            status=status,
        )
        waiting, self._waiting = self._waiting, []
        for caller in waiting:
            self._answer(caller, self._result)
        self._announce()

    def _answer(self, caller: Call, result: RunResult) -> None:
        if result.outcome == "failed":
            why = result.status.reason
            self.fail(caller, RunError(f"the run {result.run!r} failed: {why}", run_id=result.run, reason=why))
        else:
            self.reply(caller, result)

    # -- what it is asked --------------------------------------------------------------------------

    @call
    async def run_info(self, _: RunInfo) -> RunStatus:
        """How it is."""
        return self._status(await self._journal())

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
    async def cancel(self, _: CancelRun) -> RunStatus:
        """End now: the process is killed, and its model calls end."""
        await self._cancel()
        return self._status(await self._journal())

    @call
    def pause(self, _: PauseRun) -> Fail:
        """Refused: an optimizer of DSPy's has no place where it could wait."""
        run = self._plan.run
        text = f"expected a run that can be paused, got an optimizer of DSPy's, at {run}"
        return Fail(RunError(f"{text}; what it has paid for is kept if the application stops meanwhile", run_id=run))

    @call
    def resume(self, _: ResumeRun) -> Fail:
        """Refused: nothing is paused."""
        text = f"expected a paused run, got one that is {self._state}, at {self._plan.run}"
        return Fail(RunError(text, run_id=self._plan.run))

    @info
    async def wished(self, msg: Wished) -> None:
        """Somebody asked for it through the file of runs; only an end can be had."""
        if msg.wish == "cancel":
            await self._cancel()

    async def _cancel(self) -> None:
        if self._state not in OVER:
            self._leave()
            await self._finish("cancelled", reason="it was cancelled")

    def _leave(self) -> None:
        """Let go of the worker, and end its process."""
        worker, self._worker = self._worker, None
        if worker is not None:
            self.unlink(worker)
            self.exit(worker, "kill")

    # -- how it is ---------------------------------------------------------------------------------

    @property
    def _elapsed(self) -> float:
        return self._before + self.clock.monotonic() - self._began

    def _status(self, journal: JournalStatus) -> RunStatus:
        last, plan = self._last, self._plan
        best = last.get("best")
        return RunStatus(
            run=plan.run,
            module=plan.factory,
            method=plan.method,
            state=self._state,
            step=last.get("step", 0),
            steps=None,
            trials=last.get("trials", 0),
            rows=last.get("rows", 0),
            errors=0,
            best_score=last.get("best_score"),
            base_score=last.get("base_score"),
            best=ProgramState() if best is None else ProgramState.from_dict(best),
            paid=journal.paid,
            recalled=journal.recalled,
            elapsed=last.get("elapsed", 0.0) if self._state in OVER else self._elapsed,
            reason=last.get("reason"),
        )

    async def _journal(self) -> JournalStatus:
        status: JournalStatus = await self.call(f"run-journal/{self._plan.run}", JournalInfo(), timeout=None)
        return status

    async def _write(self, state: RunState | None = None) -> None:
        progress: Mapping[str, Any] = {"elapsed": self._elapsed, **self._last}
        await self.call(f"run-journal/{self._plan.run}", Record(progress=progress, state=state), timeout=None)

    def _announce(self) -> None:
        plan, last = self._plan, self._last
        told = {"type": "run", "kind": KIND, "module": plan.factory, "method": plan.method, "status": self._state}
        announce(self, told | {"step": last.get("step", 0), "steps": None, "best_score": last.get("best_score")})

    def _emit(self, cls: Any, **fields: Any) -> None:
        self._outbox.emit(stamp(self, cls, run_id=self._plan.run, **fields))
