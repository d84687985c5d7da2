"""The run of a DSPy optimizer, ``run/<id>``: has a worker in a process of its own do it, and says how it goes.

It holds nothing that cannot be had again: if its worker dies, another one is started, the optimizer begins anew, and
what was paid for comes from the journal. A pause is the end of the worker. No DSPy is imported in this process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from thespian.actors import ActorAddress

from ...runtime.errors import Error, RunConflict, StoreError
from ...runtime.gen_server import Continue, Started, call, cast, info
from ...runtime.messages import ExitSignal, TaskDone
from ...runtime.timers import Timer
from ..events.kinds import OptimizationEnded, OptimizationIteration, OptimizationStarted, stamp
from ..events.outbox import EventOutbox
from ..modules.program_state import ProgramState
from ..registry.actor import announce
from ..runs.budget import close_account
from ..runs.messages import (
    OVER,
    CancelRun,
    JournalInfo,
    JournalStatus,
    Outcome,
    Paid,
    PauseRun,
    Record,
    ResumeRun,
    RunInfo,
    RunState,
    RunStatus,
    Wished,
)
from ..runs.result import GivesResult
from .optimizer_messages import CannotGoOn, Evaluated, NotOptimized, Optimize, Optimized
from .optimizer_plan import OptimizerPlan
from .optimizer_worker import OptimizerWorker

KIND: Final = "dspy"
_START_TIMEOUT: Final = 60.0
_WORK: Final = "work"
_DEATHS: Final = 3
"""How often its process may die without any further model answer in the journal."""


@dataclass(frozen=True, slots=True)
class _TimeOver:
    """To itself: the seconds of its budget are over."""


@dataclass(frozen=True, slots=True)
class _Go:
    """To itself: have the optimizer begin."""


class OptimizerRun(GivesResult):
    """One run.

    Args:
        plan: what to do.
    """

    trap_exit = True  # its worker may die alone

    def init(self, plan: OptimizerPlan) -> Continue:
        """Nothing is done yet: whoever started it need not wait."""
        self._plan = plan
        self._state: RunState = "running"
        self._last: dict[str, Any] = {}
        self._before, self._began = 0.0, self.clock.monotonic()
        self._worker: ActorAddress | None = None
        self._timer: Timer | None = None
        self._deaths = self._recorded = 0
        self._outbox = EventOutbox(self.system)
        return Continue()

    async def handle_continue(self, value: Any) -> None:
        """See how far it is, and go on."""
        journal = await self._journal()
        self._last = known = dict(journal.progress)
        self._before = float(known.get("elapsed", 0.0))
        if journal.state in OVER:
            self._state = journal.state
            self._over(journal)
            return
        plan = self._plan
        if not known:
            config, budget = dict(plan.options) | {"seed": plan.seed}, plan.budget.to_dict()
            self._emit(OptimizationStarted, module=plan.factory, method=plan.method, config=config, budget=budget)
            self._last = {"module": plan.factory, "method": plan.method}
        if journal.state == "paused":
            self._state = "paused"
            self._announce()
        else:
            self._go()

    # -- the work ----------------------------------------------------------------------------------

    def _go(self) -> None:
        # Not at once: whoever asked need not wait for a process.
        self._state, self._began = "running", self.clock.monotonic()
        self.send(self.myAddress, _Go())

    @info
    async def go(self, _: _Go) -> None:
        """Have the optimizer begin, anew if it had; what it did before it soon has done again."""
        if self._state != "running" or self._worker is not None:
            return  # it was asked otherwise meanwhile
        self._last |= {"step": 0, "trials": 0, "rows": 0, "reason": None}
        self._recorded = (await self._journal()).recorded
        started = await self.spawn_link(
            OptimizerWorker, self._plan.to_dict(), placement="process", supervised=False, start_timeout=_START_TIMEOUT
        )
        if not isinstance(started, Started):
            await self._finish("failed", reason=f"its process did not start: {getattr(started, 'reason', 'ignored')}")
            return
        self._worker = started.address
        if (seconds := self._plan.budget.seconds) is not None:
            self._timer = self.start_timer(max(seconds - self._before, 0.0), _TimeOver())
        if not await self._write("running"):
            return
        self._announce()
        self.start_task(self._work(started.address), tag=_WORK)

    async def _work(self, worker: ActorAddress) -> tuple[ActorAddress, Optimized | NotOptimized | Error]:
        try:
            found: Optimized | NotOptimized = await self.call(worker, Optimize(), timeout=None)
        except Error as error:
            return worker, error
        return worker, found

    @info
    async def work_done(self, msg: TaskDone) -> None:
        """It is over, or its worker is gone: then it is done again."""
        worker, found = msg.value
        if worker != self._worker:
            return  # it was let go of
        self._leave()
        if isinstance(found, Optimized):
            await self._finish("completed", found)
        elif isinstance(found, NotOptimized):
            await self._finish("failed", reason=f"{found.code}: {found.why}")
        else:
            await self._again(found)

    @info
    def worker_down(self, _: ExitSignal) -> None:
        """Its process is gone; whoever waits for it learns of it too."""

    async def _again(self, error: Error) -> None:
        """Its process died. Something in it may have killed it, and would each time."""
        further = (await self._journal()).recorded > self._recorded
        self._deaths = 1 if further else self._deaths + 1
        if self._deaths < _DEATHS:
            self._before = self._elapsed
            self._go()
        else:
            why = f"its process died {_DEATHS} times, the last time at the same place: {error.message}"
            await self._finish("failed", reason=why)

    @cast
    async def cannot_go_on(self, msg: CannotGoOn) -> None:
        """What the optimizer does from here on means nothing."""
        if self._worker is not None:
            self._leave()
            await self._finish(msg.outcome, reason=msg.why)

    @info
    async def time_over(self, msg: _TimeOver) -> None:
        """It may work no longer."""
        if self._worker is not None:
            self._leave()
            await self._finish("budget_exhausted", reason=f"{self._plan.budget.seconds:g} s of work are over")

    @cast
    async def evaluated(self, msg: Evaluated) -> None:
        """The optimizer has evaluated a program."""
        if self._worker is None:
            return
        last = self._last
        last["base_score"] = last.get("base_score", msg.score)
        # Before a crash it may have been better; and parts of the data are no match for the whole.
        known = (last.get("best_of", 0), last.get("best_score", -1.0))
        if msg.best is not None and (msg.examples, msg.score) > known:
            made = self._made(msg.best, msg.score, (await self._journal()).paid)
            last |= {"best_of": msg.examples, "best_score": msg.score, "best": made.to_dict()}
        last["trials"] += 1
        last["rows"] += msg.examples
        last["step"] = last["trials"]
        self._emit(
            OptimizationIteration,
            method=self._plan.method,
            iteration=last["step"],
            candidate_count=1,
            score=msg.score,
            best_score=last.get("best_score"),
            improvement=None if last.get("best_score") is None else last["best_score"] - last["base_score"],
        )
        await self._write()
        self._announce()

    async def _finish(self, outcome: Outcome, found: Optimized | None = None, *, reason: str | None = None) -> None:
        journal = await self._journal()
        if found is not None:
            score = self._last.get("best_score") if found.score is None else found.score
            self._last |= {"best_score": score, "best": self._made(found, score, journal.paid).to_dict()}
        self._last |= {"reason": reason, "elapsed": self._elapsed}
        self._state = outcome
        if not await self._write(outcome):
            return
        self._emit(
            OptimizationEnded,
            outcome=outcome,
            iterations=self._last.get("step", 0),
            best_score=self._last.get("best_score"),
            reason=reason,
        )
        await close_account(self, self._plan.run)
        self._over(journal)

    def _made(self, found: Optimized, score: float | None, paid: Paid) -> ProgramState:
        plan = self._plan
        provenance = {
            "run": plan.run,
            "method": plan.method,
            "score": score,
            "paid": paid.to_dict(),
            **plan.fingerprint,
            "dspy": dict(found.saved),
        }
        return ProgramState(found.state.predictors, provenance)

    def _over(self, journal: JournalStatus) -> None:
        """Answer everybody who waits for the end."""
        self._settle(self._status(journal))
        self._announce()

    # -- what it is asked --------------------------------------------------------------------------

    @call
    async def run_info(self, _: RunInfo) -> RunStatus:
        """How it is."""
        return self._status(await self._journal())

    @call
    async def cancel(self, _: CancelRun) -> RunStatus:
        """End now: the process is killed, and its model calls end."""
        await self._cancel()
        return self._status(await self._journal())

    @call
    async def pause(self, _: PauseRun) -> RunStatus:
        """End the process, and keep what is written down; calls in flight end, and are paid for again."""
        await self._pause()
        return self._status(await self._journal())

    @call
    async def resume(self, _: ResumeRun) -> RunStatus:
        """Have it begin anew, in a process of its own; the journal answers until it is where it was."""
        await self._resume()
        return self._status(await self._journal())

    @info
    async def wished(self, msg: Wished) -> None:
        """Somebody asked for it through the file of runs."""
        await {"cancel": self._cancel, "pause": self._pause, "resume": self._resume}[msg.wish]()

    async def _pause(self) -> None:
        if self._state == "running":
            self._leave()
            self._before, self._state = self._elapsed, "paused"
            await self._write("paused")
            self._announce()

    async def _resume(self) -> None:
        if self._state == "paused":
            self._go()

    async def _cancel(self) -> None:
        if self._state not in OVER:
            self._leave()
            await self._finish("cancelled", reason="it was cancelled")

    def _leave(self) -> None:
        """Let go of the worker, and end its process."""
        worker, self._worker = self._worker, None
        if self._timer is not None:
            self._timer.cancel()
        if worker is not None:
            self.unlink(worker)
            self.exit(worker, "kill")

    # -- how it is ---------------------------------------------------------------------------------

    @property
    def _elapsed(self) -> float:
        """Seconds of work, over all starts."""
        return self._before + (self.clock.monotonic() - self._began if self._state == "running" else 0.0)

    def _status(self, journal: JournalStatus) -> RunStatus:
        last, plan = self._last, self._plan
        return RunStatus.of(
            last,
            journal,
            base=ProgramState(),
            run=plan.run,
            module=plan.factory,
            method=plan.method,
            state=self._state,
            elapsed=last.get("elapsed", 0.0) if self._state in OVER else self._elapsed,
        )

    async def _journal(self) -> JournalStatus:
        status: JournalStatus = await self.call(f"run-journal/{self._plan.run}", JournalInfo(), timeout=None)
        return status

    async def _write(self, state: RunState | None = None) -> bool:
        """Write down how it is; false if that failed, and the run with it: here, as the file says no more."""
        if self._state not in OVER:
            self._last["elapsed"] = self._elapsed
        try:
            await self.call(
                f"run-journal/{self._plan.run}", Record(progress=dict(self._last), state=state), timeout=None
            )
        except (RunConflict, StoreError) as error:
            self._leave()
            self._state, self._last["reason"] = "failed", f"{error.code}: {error.message}"
            await close_account(self, self._plan.run)
            self._over(await self._journal())
            return False
        return True

    def _announce(self) -> None:
        plan, last = self._plan, self._last
        told = {"type": "run", "kind": KIND, "module": plan.factory, "method": plan.method, "status": self._state}
        announce(self, told | {"step": last.get("step", 0), "steps": None, "best_score": last.get("best_score")})

    def _emit(self, cls: Any, **fields: Any) -> None:
        self._outbox.emit(stamp(self, cls, run_id=self._plan.run, **fields))
