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
from contextlib import contextmanager
from functools import partial
from typing import Any, Required, TypedDict, Unpack

from ....actors.dspy.engine import lm_on
from ....actors.dspy.journaled import AskEnd, JournaledProvider, Ordinals
from ....actors.dspy.line import Journaled, Line
from ....actors.dspy.optimizer_messages import CannotGoOn
from ....actors.dspy.optimizer_plan import OptimizerPlan, examples_of
from ....actors.dspy.optimizer_run import KIND, OptimizerRun
from ....actors.dspy.optimizer_worker import TRIAL
from ....actors.foreign_code import path_of
from ....actors.runs.budget import RunBudget
from ....actors.runs.journal import RunJournal
from ....actors.runs.messages import FINAL, JournalInfo, Record, RunState
from ....actors.runs.scope import RunScope
from ....actors.runs.store import RunStore, StoredRun
from ....runtime.child_spec import ChildSpec
from ....runtime.errors import ConfigError, RunConflict, RunError, UsageError, did_you_mean
from ...keeper import Undeclare
from ...supervisor import Supervisor
from .. import names
from ..awaitable import AsyncApp
from ..blocking import App
from ..life import Life
from .handles import AsyncRun, Run
from .options import checked_id
from .views import declare_run, failed_here, forget_run


@contextmanager
def dspy_run(
    app: App,
    run_id: str,
    /,
    *,
    provider: str,
    model: str | None = None,
    budget: RunBudget | Mapping[str, Any] | None = None,
    **options: Any,
) -> Generator[Any, None, None]:
    """A ``dspy.LM`` for one run of a DSPy optimizer, in plain code; the run is over with the ``with`` block.

    The run is told of in ``app.runs`` and by ``dspex runs``.
    A block that fails, or whose process dies, leaves a run that goes on when it is started again; so does one in
    which the budget was spent or a key was refused, though DSPy scores that as 0 and goes on. One that was completed
    is answered from its journal only: a call that is not in there is refused (RunConflict).

    Args:
        app: the application.
        run_id: the run's id; one that exists goes on.
        provider: id of the provider or route; give the same when it goes on.
        model: which model to ask; None takes the provider's default.
        budget: what it may spend in all: ``calls``, ``tokens``, ``money`` (US dollars). Its time is yours.
        **options: of ``dspy.LM``: temperature, max_tokens, ...

    Yields:
        The LM. Program, data, seed and number of threads must be the same when the run goes on: what was not asked
        before is asked then, and paid for.

    Raises:
        ConfigError: DSPy is not installed, or the id or the budget is malformed.
        RunConflict: another process works on the run, or it is of another kind.
        StoreError: the file of runs cannot be used.
    """
    life = app._life  # pyright: ignore[reportPrivateUsage] - the application's own half
    limits = RunBudget.of(budget)
    if limits.seconds is not None:
        text = "expected the parts calls, tokens, money, got 'seconds', at budget; optimize_dspy has it"
        raise ConfigError(text, path="budget.seconds", expected="calls, tokens, money", got=limits.seconds)
    scope = RunScope(checked_id(run_id), TRIAL, "")
    line = Line(life.engine, provider, model=model, journaled=Journaled(f"dspy-run/{run_id}", _placed(scope)))
    lm = lm_on(line, **options)
    plan: Mapping[str, Any] = {"provider": provider, "model": model}
    _refuse_other(life, run_id)
    life.plan.runs.begin(run_id, KIND, plan, again=True)
    life.run(declare_run(life, _spec(run_id, provider, limits, plan, life.plan.runs)))
    outcome: RunState = "failed"
    try:
        yield lm
        end: CannotGoOn | None = app.call(f"dspy-run/{run_id}", AskEnd(), timeout=None)
        outcome = "completed" if end is None else end.outcome
    finally:
        journal = f"run-journal/{run_id}"
        if app.call(journal, JournalInfo(), timeout=None).state not in FINAL:
            app.call(journal, Record(state=outcome), timeout=None)
        app.call(names.RUN_KEEPER, Undeclare(f"supervisor/run/{run_id}"), timeout=None)


class DspyOptions(TypedDict, total=False):
    """How an optimizer of DSPy's is run.

    Keys:
        optimizer: a name in ``dspy``, or the import path of a class.
        metric: import path of DSPy's metric, or a function at the top of a module; None for optimizers without one.
        provider: id of the provider or route.
        model: which model to ask; None takes the provider's default.
        run_id: the run's id; one that exists goes on where it was, or answers its result. By default a new one.
        valset: examples for the optimizer's ``valset``.
        seed: of the process's randomness, and of the optimizer's if it takes one.
        budget: what it may spend in all: ``calls``, ``tokens``, ``money`` (US dollars), ``seconds`` of work.
        options: arguments of the optimizer and of its ``compile``. A mapping with ``provider`` (and ``model``,
            ``temperature``, ...) is a model: ``{"reflection_lm": {"provider": "large"}}``.
        lm: options of the ``dspy.LM``: temperature, max_tokens, ...
    """

    optimizer: Required[str]
    metric: str | Any | None
    provider: Required[str]
    model: str | None
    run_id: str | None
    valset: Iterable[Any] | None
    seed: int
    budget: RunBudget | Mapping[str, Any] | None
    options: Mapping[str, Any] | None
    lm: Mapping[str, Any] | None


def optimize_dspy(app: App, factory: str, trainset: Iterable[Any], /, **how: Unpack[DspyOptions]) -> Run:
    """Run an optimizer of DSPy's in a process of its own, or go on with the run of that id.

    The run is an actor, ``run/<id>``, and its handle is that of ``app.optimize``. A cancel kills the process. So does
    a pause: what was in flight is paid for again, and the journal has the rest. The best program that the optimizer
    has evaluated so far is in ``status().best``. The result's ``state`` may be given to a hosted module
    (``app.module(id).update(state)``); ``state.provenance["dspy"]`` is what ``module.save`` would have written, for
    ``hosted_spec(state=...)`` and ``module.load_state``.

    Args:
        app: the application.
        factory: import path of what makes the ``dspy.Module``, ``"package.module:build"``.
        trainset: examples of ours, mappings, or ``dspy.Example``; of JSON values.
        **how: see :class:`DspyOptions`.

    Raises:
        UsageError: an option is unknown, or one is missing.
        ConfigError: an option or an example is malformed, or the metric cannot be found by an import path.
        RunConflict: the run was begun with other data or settings, or another process works on it.
        StoreError: the file of runs cannot be used.
    """
    life = app._life  # pyright: ignore[reportPrivateUsage] - the application's own half
    return Run(life, life.run(_optimize(life, factory, trainset, how)).id)


async def aoptimize_dspy(
    app: AsyncApp, factory: str, trainset: Iterable[Any], /, **how: Unpack[DspyOptions]
) -> AsyncRun:
    """As :func:`optimize_dspy`, for ``dspex.astart()`` and ``app.aio``."""
    return await _optimize(app._life, factory, trainset, how)  # pyright: ignore[reportPrivateUsage] - likewise


async def _optimize(life: Life, factory: str, trainset: Iterable[Any], how: DspyOptions) -> AsyncRun:
    known = DspyOptions.__annotations__
    for name in how:
        if name not in known:
            raise UsageError(f"expected the options {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")
    for name in ("optimizer", "provider"):
        if name not in how:
            raise UsageError(f"expected the option {name}, got none")
    run, metric, valset = how.get("run_id"), how.get("metric"), how.get("valset")
    plan = OptimizerPlan(
        run=checked_id(f"dspy-{life.engine.ids.sortable()[:16]}" if run is None else run),
        factory=factory,
        optimizer=how["optimizer"],
        options=how.get("options") or {},
        metric=metric if metric is None or isinstance(metric, str) else path_of(metric, "metric"),
        provider=how["provider"],
        model=how.get("model"),
        lm=how.get("lm") or {},
        train=examples_of(trainset, "trainset"),
        validation=None if valset is None else examples_of(valset, "valset"),
        seed=how.get("seed", 0),
        budget=RunBudget.of(how.get("budget")),
    )
    return await _start(life, plan)


async def resume(life: Life, stored: StoredRun) -> AsyncRun:
    """Go on with a run of :func:`optimize_dspy`, in this process, as it was planned.

    Raises:
        RunError: it is one of :func:`dspy_run`, whose program only its own code knows.
        RunConflict: another process works on it.
    """
    if "factory" not in stored.plan:
        text = f"expected a run of optimize_dspy, got one of dspy_run, at {stored.id}"
        raise RunError(f"{text}; go on from there: dspy_run(app, {stored.id!r}, ...)", run_id=stored.id)
    return await _start(life, OptimizerPlan.from_dict(stored.plan))


async def _start(life: Life, plan: OptimizerPlan) -> AsyncRun:
    store, run = life.plan.runs, AsyncRun(life, plan.run)
    stored = await asyncio.to_thread(store.find, plan.run)
    if stored is not None and stored.kind == KIND:  # one of another kind is refused by the journal
        plan.check_same(stored.plan)
    await asyncio.to_thread(store.begin, plan.run, KIND, plan.to_dict(), again=True)
    if await failed_here(life, plan.run):
        await forget_run(life, plan.run)  # and is to go on
    worker = ChildSpec("run", OptimizerRun, (plan,), name=f"run/{plan.run}")
    await declare_run(life, _spec(plan.run, plan.provider, plan.budget, plan.to_dict(), store, worker))
    if stored is not None and stored.state == "paused":
        await run.resume()
    return run


def _refuse_other(life: Life, id: str) -> None:
    """What this process works on, or optimize_dspy began, is not to be taken over by plain code."""
    stored, here, got = life.plan.runs.find(id), life.entry(f"supervisor/run/{id}"), None
    if stored is not None and "factory" in stored.plan:
        got = "one of optimize_dspy"
    elif here is not None and here.state != "dead":
        got = "one that this process works on"
    if got is not None:
        raise RunConflict(f"expected a run of dspy_run that nobody works on, got {got}, at {id}", run_id=id)


def _placed(scope: RunScope) -> Any:
    return partial(Ordinals().place, scope=scope)


def _spec(
    id: str, provider: str, budget: RunBudget, plan: Mapping[str, Any], store: RunStore, *further: ChildSpec
) -> ChildSpec:
    """The supervisor of the run; its journal stands left of who asks, so that a crash does not touch that."""
    return Supervisor.child_spec(
        f"run/{id}",
        [
            ChildSpec("journal", RunJournal, (id, KIND, plan, store), name=f"run-journal/{id}"),
            ChildSpec("provider", JournaledProvider, (id, provider, budget), name=f"dspy-run/{id}"),
            *further,
        ],
        strategy="rest_for_one",
        restart="transient",
        name=f"supervisor/run/{id}",
    )
