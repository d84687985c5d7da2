"""DSPy's own optimizers, resumable: their model calls are kept in the journal of a run.

::

    with dspy_run(app, "qa-mipro-1", provider="local") as lm, dspy.context(lm=lm):
        best = dspy.MIPROv2(metric=metric, auto="light").compile(program, trainset=trainset)

Killed and started again under its id, the same program on the same data finds the answers that were paid for.
:func:`optimize_dspy` does it in a process of its own, as ``app.optimize`` does with our optimizers::

    run = optimize_dspy(
        app, "shop.programs:build", trainset, optimizer="MIPROv2", metric="shop.programs:metric", provider="local"
    )
    best = run.result().state
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from ...actors.dspy.engine import lm_on
from ...actors.dspy.journaled import JournaledProvider, Ordinals
from ...actors.dspy.line import Journaled, Line
from ...actors.dspy.optimizer_plan import OptimizerPlan, examples_of
from ...actors.dspy.optimizer_run import KIND, OptimizerRun
from ...actors.dspy.optimizer_worker import TRIAL
from ...actors.foreign_code import path_of
from ...actors.runs.journal import RunJournal
from ...actors.runs.messages import FINAL, OVER, JournalInfo, Record, RunState
from ...actors.runs.scope import RunScope
from ...actors.runs.store import RunStore, StoredRun
from ...runtime.child_spec import ChildSpec
from ...runtime.errors import RunError, StartError, SupervisorError
from ..keeper import Declare, Undeclare
from ..supervisor import Supervisor
from . import names
from .blocking import App
from .failure import cause_of, unfold
from .life import Life
from .run_handles import AsyncRun, Run


@contextmanager
def dspy_run(
    app: App, run_id: str, /, *, provider: str, model: str | None = None, **options: Any
) -> Generator[Any, None, None]:
    """A ``dspy.LM`` for one run of a DSPy optimizer, in plain code; the run is over with the ``with`` block.

    The run is told of in ``app.runs`` and by ``dspex runs``; ``run/<id>`` is an account that budgets may limit.
    A block that fails, or whose process dies, leaves a run that goes on when it is started again. One that was
    completed is answered from its journal only: a call that is not in there is refused (RunConflict).

    Args:
        app: the application.
        run_id: the run's id; one that exists goes on.
        provider: id of the provider or route; give the same when it goes on.
        model: which model to ask; None takes the provider's default.
        **options: of ``dspy.LM``: temperature, max_tokens, ...

    Yields:
        The LM. Program, data, seed and number of threads must be the same when the run goes on: what was not asked
        before is asked then, and paid for.

    Raises:
        ConfigError: DSPy is not installed.
        RunConflict: another process works on the run, or it is of another kind.
        StoreError: the file of runs cannot be used.
    """
    life = app._life  # pyright: ignore[reportPrivateUsage] - the application's own half
    scope = RunScope(run_id, TRIAL, "")
    line = Line(life.engine, provider, model=model, journaled=Journaled(f"dspy-run/{run_id}", _placed(scope)))
    lm = lm_on(line, **options)
    plan: Mapping[str, Any] = {"provider": provider, "model": model}
    life.plan.runs.begin(run_id, KIND, plan, again=True)
    with _told():
        app.call(names.RUN_KEEPER, Declare(_spec(run_id, provider, plan, life.plan.runs)), timeout=None)
    outcome: RunState = "failed"
    try:
        yield lm
        outcome = "completed"
    finally:
        journal = f"run-journal/{run_id}"
        if app.call(journal, JournalInfo(), timeout=None).state not in FINAL:
            app.call(journal, Record(state=outcome), timeout=None)
        app.call(names.RUN_KEEPER, Undeclare(f"supervisor/run/{run_id}"), timeout=None)


def optimize_dspy(
    app: App,
    factory: str,
    trainset: Iterable[Any],
    /,
    *,
    optimizer: str,
    metric: str | Any | None = None,
    provider: str,
    model: str | None = None,
    run_id: str | None = None,
    valset: Iterable[Any] | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    lm: Mapping[str, Any] | None = None,
) -> Run:
    """Run an optimizer of DSPy's in a process of its own, or go on with the run of that id.

    The run is an actor, ``run/<id>``; ``status``, ``result`` and ``cancel`` are those of ``app.optimize``. A cancel
    kills the process; ``pause`` is refused (RunError). The result's ``state`` may be given to a hosted module
    (``app.module(id).update(state)``); ``state.provenance["dspy"]`` is what ``module.save`` would have written, for
    ``hosted_spec(state=...)`` and ``module.load_state``.

    Args:
        app: the application.
        factory: import path of what makes the ``dspy.Module``, ``"package.module:build"``.
        trainset: examples of ours, mappings, or ``dspy.Example``; of JSON values.
        optimizer: a name in ``dspy``, or the import path of a class.
        metric: import path of DSPy's metric, or a function at the top of a module; None for optimizers without one.
        provider: id of the provider or route.
        model: which model to ask; None takes the provider's default.
        run_id: the run's id; one that exists goes on where it was, or answers its result. By default a new one.
        valset: examples for the optimizer's ``valset``.
        seed: of the process's randomness, and of the optimizer's if it takes one.
        options: arguments of the optimizer and of its ``compile``. A mapping with ``provider`` (and ``model``,
            ``temperature``, ...) is a model: ``{"reflection_lm": {"provider": "large"}}``.
        lm: options of the ``dspy.LM``: temperature, max_tokens, ...

    Raises:
        ConfigError: an example or an option is not JSON, or the metric cannot be found by an import path.
        RunConflict: the run was begun with other data or settings, or another process works on it.
        StoreError: the file of runs cannot be used.
    """
    life = app._life  # pyright: ignore[reportPrivateUsage] - the application's own half
    made = OptimizerPlan(
        run=run_id or f"dspy-{life.engine.ids.sortable()[:16]}",
        factory=factory,
        optimizer=optimizer,
        options=options or {},
        metric=metric if metric is None or isinstance(metric, str) else path_of(metric, "metric"),
        provider=provider,
        model=model,
        lm=lm or {},
        train=examples_of(trainset, "trainset"),
        validation=None if valset is None else examples_of(valset, "valset"),
        seed=seed,
    )
    life.run(_start(life, made))
    return Run(life, made.run)


async def resume(life: Life, stored: StoredRun) -> AsyncRun:
    """Go on with a run of :func:`optimize_dspy`, in this process, as it was planned.

    Raises:
        RunError: it is one of :func:`dspy_run`, whose program only its own code knows.
        RunConflict: another process works on it.
    """
    if "factory" not in stored.plan:
        text = f"expected a run of optimize_dspy, got one of dspy_run, at {stored.id}"
        raise RunError(f"{text}; go on from there: dspy_run(app, {stored.id!r}, ...)", run_id=stored.id)
    await _start(life, OptimizerPlan.from_dict(stored.plan))
    return AsyncRun(life, stored.id)


async def _start(life: Life, plan: OptimizerPlan) -> None:
    store = life.plan.runs
    stored = await asyncio.to_thread(store.find, plan.run)
    if stored is not None and stored.kind == KIND:  # one of another kind is refused by the journal
        plan.check_same(stored.plan)
        if stored.state in OVER - FINAL:
            with suppress(SupervisorError):  # it ended in another process
                await life.call(names.RUN_KEEPER, Undeclare(f"supervisor/run/{plan.run}"), timeout=None)
    await asyncio.to_thread(store.begin, plan.run, KIND, plan.to_dict(), again=True)
    worker = ChildSpec("run", OptimizerRun, (plan,), name=f"run/{plan.run}")
    spec = _spec(plan.run, plan.provider, plan.to_dict(), store, worker)
    try:
        with _told():
            await life.call(names.RUN_KEEPER, Declare(spec), timeout=None)
    except SupervisorError as error:
        if error.reason != "already_present":
            raise  # it is at work here already


@contextmanager
def _told() -> Generator[None, None, None]:
    """Tell a start that failed by its cause."""
    try:
        yield
    except StartError as error:
        cause = cause_of(unfold(error.reason)[1])
        raise (cause if isinstance(cause, Exception) else error) from cause


def _placed(scope: RunScope) -> Any:
    return partial(Ordinals().place, scope=scope)


def _spec(id: str, provider: str, plan: Mapping[str, Any], store: RunStore, *further: ChildSpec) -> ChildSpec:
    """The supervisor of the run; its journal stands left of who asks, so that a crash does not touch that."""
    return Supervisor.child_spec(
        f"run/{id}",
        [
            ChildSpec("journal", RunJournal, (id, KIND, plan, store), name=f"run-journal/{id}"),
            ChildSpec("provider", JournaledProvider, (provider,), name=f"dspy-run/{id}"),
            *further,
        ],
        strategy="rest_for_one",
        restart="transient",
        name=f"supervisor/run/{id}",
    )
