"""Optimization runs: ``app.optimize`` begins one or goes on with it, ``app.runs`` knows all of them."""

from __future__ import annotations

import asyncio
from functools import partial

from ....actors.configuration.messages import GetSetting
from ....actors.configuration.settings import OptimizationSettings
from ....actors.evaluation.report import EvaluationReport
from ....actors.modules.program_state import ProgramState
from ....actors.runs.messages import FINAL, KIND, OVER, RunInfo, RunStatus, Wish
from ....actors.runs.plan import RunPlan
from ....actors.runs.store import RunStore, StoredRun
from ....runtime.child_spec import ChildSpec
from ....runtime.errors import CallTimeout, NoProcess, StartError, SupervisorError
from ...keeper import Declare, Undeclare
from ...supervisor import Supervisor
from .. import names
from ..failure import cause_of, unfold
from ..life import Life
from ..views import CALL_TIMEOUT
from .bar import Progress
from .evaluations import go_on, report_of
from .handles import AsyncRun, Run
from .options import Examples, RunOptions, plan_of, replan


class AsyncRuns:
    """The application's runs, those of other processes and of former ones among them."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def list(self) -> list[StoredRun]:
        """Every run, newest first."""
        return await asyncio.to_thread(self._store.runs)

    async def get(self, id: str) -> StoredRun:
        """A run as it is written down.

        Raises:
            RunError: there is none.
        """
        return await asyncio.to_thread(self._store.get, id)

    async def resume(self, id: str) -> AsyncRun:
        """Go on with a run in this process, as it was planned.

        Raises:
            RunError: there is none, or its metric or method has no name by which it can be found.
            RunConflict: another process works on it, or the module is another one now.
        """
        stored = await self.get(id)
        if stored.kind == "dspy":
            from .dspy_runs import resume  # noqa: PLC0415 - it is built on this

            return await resume(self._life, stored)
        return await start(self._life, await replan(self._life, stored))

    async def report(self, id: str) -> EvaluationReport:
        """The report of an evaluation as its journal has it, also of one that is not over.

        Raises:
            RunError: there is none of that id.
        """
        return await report_of(self._life, await self.get(id))

    async def evaluate(self, id: str, *, progress: Progress = None) -> EvaluationReport:
        """Go on with an evaluation in this process, as it was planned, and wait for its report.

        Args:
            id: its id.
            progress: as for ``app.evaluate``.

        Raises:
            RunError: there is none of that id, or its metric has no name by which it can be found.
            RunConflict: another process works on it, or the module is another one now.
        """
        return await go_on(self._life, id, progress)

    async def wish(self, id: str, wish: Wish) -> StoredRun:
        """Ask a run to ``cancel``, ``pause`` or ``resume``, whichever process works on it; seen within seconds.

        Raises:
            RunError: there is none, or it is over.
        """
        return await asyncio.to_thread(self._store.wish, id, wish)

    async def forget(self, older: float) -> int:
        """Forget runs that are over and were last at work before ``older`` (epoch seconds); how many."""
        return await asyncio.to_thread(self._store.forget, older)

    @property
    def _store(self) -> RunStore:
        return self._life.plan.runs


class Runs:
    """The application's runs; see :class:`AsyncRuns`."""

    def __init__(self, aio: AsyncRuns, life: Life) -> None:
        self._aio = aio
        self._life = life

    def list(self) -> list[StoredRun]:
        """Every run, newest first."""
        return self._life.run(self._aio.list())

    def get(self, id: str) -> StoredRun:
        """A run as it is written down."""
        return self._life.run(self._aio.get(id))

    def resume(self, id: str) -> Run:
        """Go on with a run in this process; see :meth:`AsyncRuns.resume`."""
        self._life.run(self._aio.resume(id))
        return Run(self._life, id)

    def report(self, id: str) -> EvaluationReport:
        """The report of an evaluation as its journal has it; see :meth:`AsyncRuns.report`."""
        return self._life.run(self._aio.report(id))

    def evaluate(self, id: str, *, progress: Progress = None) -> EvaluationReport:
        """Go on with an evaluation in this process; see :meth:`AsyncRuns.evaluate`."""
        return self._life.run(self._aio.evaluate(id, progress=progress))

    def wish(self, id: str, wish: Wish) -> StoredRun:
        """Ask a run to ``cancel``, ``pause`` or ``resume``; see :meth:`AsyncRuns.wish`."""
        return self._life.run(self._aio.wish(id, wish))

    def forget(self, older: float) -> int:
        """Forget old runs that are over; see :meth:`AsyncRuns.forget`."""
        return self._life.run(self._aio.forget(older))


async def optimize(life: Life, module: str, trainset: Examples, how: RunOptions) -> AsyncRun:
    """Begin a run, or go on with the one of that id. See :class:`~.options.RunOptions`.

    Raises:
        UsageError: an option is unknown.
        ConfigError: an option or an example is malformed.
        RunConflict: the run was begun with other code, data or settings, or another process works on it.
        CallError: there is no such module.
    """
    defaults: OptimizationSettings = await life.call(
        names.CONFIG, GetSetting(("ai", "optimization")), timeout=CALL_TIMEOUT
    )
    plan = await plan_of(life, module, trainset, how, defaults)
    if defaults.keep_runs is not None:
        older = life.engine.clock.time() - defaults.keep_runs
        await asyncio.to_thread(partial(life.plan.runs.forget, older, spare=plan.run))
    return await start(life, plan, fork=how.get("fork"))


async def start(life: Life, plan: RunPlan, *, fork: str | None = None) -> AsyncRun:
    """Start a planned run below the supervisor of runs, or find it at work.

    Raises:
        RunConflict: it was begun otherwise, or another process works on it.
        RunError: the run to fork does not exist.
    """
    store, run = life.plan.runs, AsyncRun(life, plan.run)
    stored = await asyncio.to_thread(store.find, plan.run)
    if stored is not None and stored.kind == KIND:
        plan.check_same(stored.plan)
        plan = plan.begun_with(ProgramState.from_dict(stored.plan["base"]))
    await asyncio.to_thread(partial(store.begin, plan.run, KIND, plan.to_dict(), fork=fork, again=True))
    if await failed_here(life, plan.run):
        await forget_run(life, plan.run)  # and is to go on
    await declare_run(life, run_spec(plan, store))
    if stored is not None and stored.state == "paused":
        await run.resume()
    return run


def run_spec(plan: RunPlan, store: RunStore) -> ChildSpec:
    """The supervisor of one run. Its journal stands left of it, so that a crash of the run does not touch that."""
    from ....actors.runs.actor import OptimizationRun  # noqa: PLC0415 - only where it is used
    from ....actors.runs.journal import RunJournal  # noqa: PLC0415 - likewise

    id = plan.run
    return Supervisor.child_spec(
        f"run/{id}",
        [
            ChildSpec("journal", RunJournal, (id, KIND, plan.to_dict(), store), name=f"run-journal/{id}"),
            ChildSpec("run", OptimizationRun, (plan,), name=f"run/{id}"),
        ],
        strategy="rest_for_one",
        restart="transient",
        name=f"supervisor/run/{id}",
    )


async def declare_run(life: Life, spec: ChildSpec) -> None:
    """Have a run's supervisor started, unless it is; a start that failed is told by its cause."""
    try:
        await life.call(names.RUN_KEEPER, Declare(spec), timeout=None)
    except SupervisorError as error:
        if error.reason != "already_present":
            raise  # it is at work here already
    except StartError as error:
        cause = cause_of(unfold(error.reason)[1])
        raise (cause if isinstance(cause, Exception) else error) from cause


async def failed_here(life: Life, id: str) -> bool:
    """Whether this process has the run, and it can do no more; the file may say otherwise, if that was the failure."""
    if life.entry(f"run/{id}") is None:
        return False
    try:
        status: RunStatus = await life.call(f"run/{id}", RunInfo(), timeout=CALL_TIMEOUT)
    except NoProcess:
        return True  # its supervisor gave it up
    except CallTimeout:
        return False  # it is busy
    return status.state in OVER - FINAL


async def forget_run(life: Life, id: str) -> None:
    """End a run's supervisor, if it is here."""
    try:
        await life.call(names.RUN_KEEPER, Undeclare(f"supervisor/run/{id}"), timeout=None)
    except SupervisorError as error:
        if error.reason != "not_found":
            raise  # it ended in another process
