"""Optimization runs: ``app.optimize`` begins one or goes on with it, ``app.runs`` knows all of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, Required, TypeAlias, TypedDict, TypeVar

from ...actors.config_messages import GetSetting
from ...actors.examples import Example
from ...actors.optimizers.bench import Optimizer
from ...actors.program_state import ProgramState
from ...actors.run_messages import (
    FINAL,
    KIND,
    OVER,
    CancelRun,
    GetResult,
    PauseRun,
    ResumeRun,
    RunInfo,
    RunResult,
    RunStatus,
    Wish,
)
from ...actors.run_plan import RunBudget, RunPlan, checked_examples, example_from_dict, held_out, options_of
from ...actors.run_program import program_of
from ...actors.run_store import RunStore, StoredRun
from ...actors.scoring import Metric, Scorer, find_metric
from ...actors.settings import OptimizationSettings
from ...runtime.child_spec import ChildSpec
from ...runtime.errors import ActorDied, ConfigError, RunError, StartError, SupervisorError, UsageError, did_you_mean
from ..keeper import Declare, Undeclare
from ..supervisor import Supervisor
from . import names
from .failure import cause_of, unfold
from .life import Life
from .views import CALL_TIMEOUT

T = TypeVar("T")
Examples: TypeAlias = Iterable[Example | Mapping[str, Any]]
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunOptions(TypedDict, total=False):
    """How to optimize.

    Keys:
        metric: how good a prediction is: a function of example and prediction, its import path
            ``"package.module:function"``, the word for a shipped one, or the name of an actor. Only by import path,
            word or name can another process go on with the run by itself.
        method: ``labeled_few_shot``, ``bootstrap``, ``random_search``, ``mipro``, ``gepa``, or an optimizer.
        options: of the method, if that is given by its word.
        run_id: the run's id; one that exists goes on where it was, or answers its result. By default a new one.
        valset: examples to choose by; without them half of the training examples are held out, drawn by the seed.
        seed: of the run's randomness.
        budget: what it may spend in all: ``calls``, ``tokens``, ``money`` (US dollars), ``seconds`` of work.
        workers: examples run on at once; never more than the module works on at once.
        patience: steps without a better score after which it stops; 0 never stops it.
        max_steps: steps after which it stops in any case; 0 never stops it.
        fork: id of an older run whose model answers are used again where the very same is asked.
        prompt_provider: id of the provider whose model writes instructions; by default the module's.
        prompt_model: which model of it.
        blocking: whether a plain metric function runs on a daemon thread, because it waits or computes long.
    """

    metric: Required[Metric]
    method: str | Optimizer
    options: Mapping[str, Any]
    run_id: str | None
    valset: Examples | None
    seed: int
    budget: RunBudget | Mapping[str, Any] | None
    workers: int | None
    patience: int | None
    max_steps: int | None
    fork: str | None
    prompt_provider: str | None
    prompt_model: str | None
    blocking: bool


class AsyncRun:
    """A run to be awaited: ``result = await run.result()``.

    Attributes:
        id: its id.
        name: its registered name, ``run/<id>``.
    """

    def __init__(self, life: Life, id: str) -> None:
        self._life = life
        self.id = id
        self.name = f"run/{id}"

    async def status(self) -> RunStatus:
        """How it is: progress, the best so far, what it cost."""
        return await self._ask(RunInfo())

    async def pause(self) -> RunStatus:
        """Begin no further example; those in work end."""
        return await self._ask(PauseRun())

    async def resume(self) -> RunStatus:
        """Go on after a pause."""
        return await self._ask(ResumeRun())

    async def cancel(self) -> RunStatus:
        """End it now; the best so far stays its result."""
        return await self._ask(CancelRun(), None)

    async def result(self, timeout: float | None = None) -> RunResult:
        """Wait for its end, over crashes of the run; whatever the outcome, ``state`` may be used.

        Args:
            timeout: seconds to wait, None for ever.

        Raises:
            RunError: it failed; started again under its id it goes on where it was.
            CallTimeout: it still runs.
            CallError: it is gone, or the application is.
        """
        clock = self._life.engine.clock
        end = None if timeout is None else clock.monotonic() + timeout
        while True:
            left = None if end is None else max(end - clock.monotonic(), 0.0)
            try:
                found: RunResult = await self._life.call(self.name, GetResult(), timeout=left)
            except ActorDied:
                continue  # its supervisor starts it again: asked anew, the call waits for that, or fails for good
            return found

    async def _ask(self, message: Any, timeout: float | None = CALL_TIMEOUT) -> RunStatus:
        return await self._life.call(self.name, message, timeout=timeout)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Run:
    """A run: ``result = run.result()``; see :class:`AsyncRun`.

    Attributes:
        aio: the awaitable view.
        id: its id.
        name: its registered name, ``run/<id>``.
    """

    def __init__(self, life: Life, id: str) -> None:
        self._life = life
        self.aio = AsyncRun(life, id)
        self.id = id
        self.name = self.aio.name

    def status(self) -> RunStatus:
        """How it is."""
        return self._life.run(self.aio.status())

    def pause(self) -> RunStatus:
        """Begin no further example."""
        return self._life.run(self.aio.pause())

    def resume(self) -> RunStatus:
        """Go on after a pause."""
        return self._life.run(self.aio.resume())

    def cancel(self) -> RunStatus:
        """End it now."""
        return self._life.run(self.aio.cancel())

    def result(self, timeout: float | None = None) -> RunResult:
        """Wait for its end; see :meth:`AsyncRun.result`."""
        return self._life.run(self.aio.result(timeout))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


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
        return await start(self._life, await replan(self._life, stored))

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

    def wish(self, id: str, wish: Wish) -> StoredRun:
        """Ask a run to ``cancel``, ``pause`` or ``resume``; see :meth:`AsyncRuns.wish`."""
        return self._life.run(self._aio.wish(id, wish))

    def forget(self, older: float) -> int:
        """Forget old runs that are over; see :meth:`AsyncRuns.forget`."""
        return self._life.run(self._aio.forget(older))


async def optimize(life: Life, module: str, trainset: Examples, how: RunOptions) -> AsyncRun:
    """Begin a run, or go on with the one of that id. See :class:`RunOptions`.

    Raises:
        UsageError: an option is unknown.
        ConfigError: an option or an example is malformed.
        RunConflict: the run was begun with other code, data or settings, or another process works on it.
        CallError: there is no such module.
    """
    from ...actors.optimizers.registry import optimizer  # noqa: PLC0415 - only where it is used

    known = RunOptions.__annotations__
    for name in how:
        if name not in known:
            raise UsageError(f"expected the options {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")
    if "metric" not in how:
        raise ConfigError("expected a metric, got none, at metric", path="metric", expected="a metric", got=None)
    program = await program_of(partial(life.call, timeout=CALL_TIMEOUT), module)
    method = how.get("method", "bootstrap")
    if not isinstance(method, str) and how.get("options"):
        raise UsageError("expected options with the word of a method, got them with an optimizer, which has its own")
    chosen = optimizer(method, **how.get("options", {})) if isinstance(method, str) else method
    seed = _whole("seed", how.get("seed", 0))
    valset = how.get("valset")
    train, validation = held_out(
        checked_examples(trainset, "trainset"), None if valset is None else checked_examples(valset, "valset"), seed
    )
    defaults: OptimizationSettings = await life.call(
        names.CONFIG, GetSetting(("ai", "optimization")), timeout=CALL_TIMEOUT
    )
    workers = _whole("workers", _or(how.get("workers"), defaults.default_parallel_workers), 1)
    plan = RunPlan(
        run=_id(_or(how.get("run_id"), f"{chosen.method}-{life.engine.ids.sortable()[:16]}")),
        module=module,
        program=program,
        optimizer=chosen,
        options=options_of(chosen),
        metric=find_metric(how["metric"]),
        scorer=Scorer(how["metric"], blocking=how.get("blocking", False)),
        blocking=how.get("blocking", False),
        train=train,
        validation=validation,
        seed=seed,
        workers=min(workers, program.concurrency),
        batch=defaults.evaluation_batch_size,
        patience=_whole("patience", _or(how.get("patience"), defaults.early_stopping_patience)),
        max_steps=_whole("max_steps", _or(how.get("max_steps"), defaults.max_optimization_iterations)),
        budget=RunBudget.of(how.get("budget")),
        prompt_provider=how.get("prompt_provider") or program.provider,
        prompt_model=how.get("prompt_model"),
    )
    if defaults.keep_runs is not None:
        await AsyncRuns(life).forget(life.engine.clock.time() - defaults.keep_runs)
    return await start(life, plan, fork=how.get("fork"))


async def replan(life: Life, stored: StoredRun) -> RunPlan:
    """The plan of a run that another process made.

    Raises:
        RunError: its metric or method has no name by which it can be found, or it is no optimization.
    """
    from ...actors.optimizers.registry import METHODS, optimizer  # noqa: PLC0415 - only where it is used

    kept = stored.plan
    if stored.kind != KIND:
        raise RunError(
            f"expected an optimization, got a run of kind {stored.kind}, at {stored.id}; "
            f"what began it goes on with it, given run_id={stored.id!r}",
            run_id=stored.id,
        )
    if kept["metric"] is None or kept["method"] not in METHODS:
        which = "metric" if kept["metric"] is None else "method"
        raise RunError(
            f"expected a {which} that can be found by its name, got one of the program's own, at {stored.id}; "
            f"go on from there: app.optimize(..., run_id={stored.id!r})",
            run_id=stored.id,
        )
    program = await program_of(partial(life.call, timeout=CALL_TIMEOUT), kept["module"])
    return RunPlan(
        run=stored.id,
        module=kept["module"],
        program=program,
        optimizer=optimizer(kept["method"], **kept["options"]),
        options=kept["options"],
        metric=find_metric(kept["metric"]),
        scorer=Scorer(kept["metric"], blocking=kept["blocking"]),
        blocking=kept["blocking"],
        train=tuple(example_from_dict(each) for each in kept["train"]),
        validation=tuple(example_from_dict(each) for each in kept["validation"]),
        seed=kept["seed"],
        workers=kept["workers"],
        batch=kept["batch"],
        patience=kept["patience"],
        max_steps=kept["max_steps"],
        budget=RunBudget.of(kept["budget"]),
        prompt_provider=kept["prompt_provider"],
        prompt_model=kept["prompt_model"],
    )


async def start(life: Life, plan: RunPlan, *, fork: str | None = None) -> AsyncRun:
    """Start a planned run below the supervisor of runs, or find it at work.

    Raises:
        RunConflict: it was begun otherwise, or another process works on it.
        RunError: the run to fork does not exist.
    """
    store, run = life.plan.runs, AsyncRun(life, plan.run)
    stored = await asyncio.to_thread(store.find, plan.run)
    if stored is not None:
        plan.check_same(stored.plan)
        plan = plan.begun_with(ProgramState.from_dict(stored.plan["base"]))
    elif fork is not None:
        await asyncio.to_thread(store.get, fork)
    if stored is None or stored.state not in FINAL:
        await asyncio.to_thread(store.begin, plan.run, KIND, plan.to_dict())
    if stored is None and fork is not None:
        await asyncio.to_thread(store.fork, fork, plan.run)
    if stored is not None and stored.state in OVER - FINAL:
        await _forget(life, plan.run)  # it ended here, and is to go on
    await _declare(life, run_spec(plan, store))
    if stored is not None and stored.state == "paused":
        await run.resume()
    return run


def run_spec(plan: RunPlan, store: RunStore) -> ChildSpec:
    """The supervisor of one run. Its journal stands left of it, so that a crash of the run does not touch that."""
    from ...actors.run import OptimizationRun  # noqa: PLC0415 - only where it is used
    from ...actors.run_journal import RunJournal  # noqa: PLC0415 - likewise

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


async def _declare(life: Life, spec: ChildSpec) -> None:
    try:
        await life.call(names.RUN_KEEPER, Declare(spec), timeout=None)
    except SupervisorError as error:
        if error.reason != "already_present":
            raise  # it is at work here already
    except StartError as error:
        cause = cause_of(unfold(error.reason)[1])
        raise (cause if isinstance(cause, Exception) else error) from cause


async def _forget(life: Life, id: str) -> None:
    try:
        await life.call(names.RUN_KEEPER, Undeclare(f"supervisor/run/{id}"), timeout=None)
    except SupervisorError as error:
        if error.reason != "not_found":
            raise  # it ended in another process


def _id(value: object) -> str:
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    expected = "letters, digits, '.', '_' and '-', at most 100, a letter or digit first"
    raise ConfigError(f"expected {expected}, got {value!r}, at run_id", path="run_id", expected=expected, got=value)


def _whole(path: str, value: object, least: int = 0) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and (value >= least or path == "seed"):
        return value
    expected = "a whole number" if path == "seed" else f"a whole number from {least}"
    raise ConfigError(f"expected {expected}, got {value!r}, at {path}", path=path, expected=expected, got=repr(value))


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
