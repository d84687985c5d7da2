"""``app.evaluate``: from a dataset to a report, by way of an evaluation of its own below ``supervisor/runs``.

With a run id it has a journal, and is a run like an optimization: listed, paused, cancelled, and gone on with after a
crash. Without one nothing is kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal, TypeAlias, cast

from ....actors.configuration.messages import GetSetting
from ....actors.configuration.settings import EvaluationSettings, OptimizationSettings
from ....actors.evaluation.actor import EvaluationRun
from ....actors.evaluation.journal import stored_report
from ....actors.evaluation.plan import KIND, EvaluationPlan, metric_of
from ....actors.evaluation.report import EvaluationReport
from ....actors.evaluation.scoring import Metric, Scorer
from ....actors.evaluation.work import check_whole
from ....actors.examples import Example
from ....actors.modules.messages import DEFAULT_OPTIONS, ModuleInfo, ModuleStatus, PredictOptions
from ....actors.runs.fingerprint import check_same
from ....actors.runs.fitting import must_fit
from ....actors.runs.journal import RunJournal
from ....actors.runs.messages import FINAL, GetResult, ResumeRun
from ....actors.runs.plan import checked_examples, example_from_dict
from ....actors.runs.program import program_of
from ....actors.runs.store import StoredRun
from ....actors.scorers.comparable import must_compare
from ....runtime.child_spec import ChildSpec, StartChild
from ....runtime.context import Context
from ....runtime.errors import (
    ActorDied,
    AlreadyStarted,
    CallError,
    ConfigError,
    Error,
    RunConflict,
    RunError,
    StartError,
    SupervisorError,
    UsageError,
)
from ...messages import TerminateChild
from ...supervisor import Supervisor
from .. import names
from ..failure import cause_of, unfold
from ..handles import AsyncModule, Module
from ..life import Life
from ..views import CALL_TIMEOUT
from .bar import Progress, leave_behind, teller, told
from .metric import judges_of
from .options import checked_id

Program: TypeAlias = str | Module | AsyncModule
Workers: TypeAlias = int | Literal["auto"] | None

AUTO_MOST: Final = 32
"""Workers that ``auto`` chooses at most: they wait for models, so there may be more than processors."""


async def evaluate(
    life: Life,
    program: Program,
    dataset: Iterable[Example | Mapping[str, Any]],
    *,
    metric: Metric,
    workers: Workers,
    max_errors: int | None,
    run_id: str | None,
    fork: str | None,
    progress: Progress,
    blocking: bool,
) -> EvaluationReport:
    """Run an evaluation and wait for its report; it is stopped with the caller. See :meth:`.AsyncApp.evaluate`."""
    options, user = DEFAULT_OPTIONS, None
    if isinstance(program, Module | AsyncModule):
        called = program.call_options
        program, options, user = program.id, called.predict, called.user
    elif not isinstance(cast("object", program), str):
        raise UsageError(f"expected a module or its id, got {type(program).__name__}, at the program")
    if workers not in (None, "auto"):
        check_whole("workers", workers, 1)
    if run_id is not None:
        checked_id(run_id)
    if fork is not None and run_id is None:
        raise UsageError(f"expected a run_id with fork={fork!r}, got none: nothing is kept without one")
    if not isinstance(dataset, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _refuse("a list of examples", type(dataset).__name__, "dataset")
    examples = tuple(_example(each, index) for index, each in enumerate(dataset))
    if not examples:
        raise _refuse("at least one example", "none", "dataset")
    scorer, settings = Scorer(metric, blocking=blocking), await _settings(life)
    judges = await judges_of(life, scorer)
    status: ModuleStatus = await life.call(f"module/{program}", ModuleInfo(), timeout=CALL_TIMEOUT)
    must_fit(status.signature, examples, "dataset")
    must_compare(scorer.metric, status.signature, status.kind, examples)
    plan = EvaluationPlan(
        run_id=run_id or f"eval-{life.engine.ids.sortable()}",
        module=program,
        dataset=examples,
        scorer=scorer,
        workers=_workers(workers, settings),
        max_errors=max_errors,
        options=options,
        journaled=run_id is not None,
        context=Context.root(life.engine.ids, user=user),
    )
    who = teller(progress, settings)
    with told(life.engine, plan, who):
        report = await (_durable(life, plan, judges, fork) if plan.journaled else _run(life, plan, _plain(plan)))
    leave_behind(report, who)
    return report


async def go_on(life: Life, run: str, progress: Progress) -> EvaluationReport:
    """Go on with an evaluation as it was planned, and wait for its report.

    Raises:
        RunError: there is none of that id, or its metric has no name by which it can be found.
        RunConflict: the module is another one now, or another process works on it.
        CallError: there is no such module.
    """
    stored = await asyncio.to_thread(life.plan.runs.get, run)
    _check_kind(stored)
    kept = stored.plan
    if stored.state in FINAL:
        return await report_of(life, stored)
    plan = EvaluationPlan(
        run_id=run,
        module=kept["module"],
        dataset=tuple(example_from_dict(each) for each in kept["dataset"]),
        scorer=metric_of(run, kept),
        workers=kept["workers"],
        max_errors=kept["max_errors"],
        options=PredictOptions.of(kept["options"]),
        journaled=True,
        context=Context.root(life.engine.ids, user=kept["user"]),
    )
    who = teller(progress, await _settings(life))
    with told(life.engine, plan, who):
        report = await _durable(life, plan, await judges_of(life, plan.scorer), None)
    leave_behind(report, who)
    return report


async def report_of(life: Life, stored: StoredRun) -> EvaluationReport:
    """The report of an evaluation, from its journal.

    Raises:
        RunError: the run is none.
    """
    _check_kind(stored)
    return stored_report(stored, await asyncio.to_thread(life.plan.runs.entries, stored.id, "row"))


# -- with and without a journal ----------------------------------------------------------------------


def _plain(plan: EvaluationPlan) -> ChildSpec:
    """An evaluation without a journal. It is never restarted: it would pay again for what was done."""
    name = f"run/{plan.run_id}"
    return ChildSpec(name, EvaluationRun, (plan,), restart="temporary", name=name)


async def _durable(life: Life, plan: EvaluationPlan, judges: str | None, fork: str | None) -> EvaluationReport:
    """An evaluation with a journal: begun, gone on with, or, if it is over, just told of.

    Raises:
        ConfigError: an example is not JSON.
        RunConflict: the run was begun otherwise, or another process works on it.
        RunError: the run to fork does not exist.
        CallError: there is no such module.
    """
    checked_examples(plan.dataset, "dataset")
    run, store = plan.run_id, life.plan.runs
    kept = plan.to_dict(await program_of(partial(life.call, timeout=CALL_TIMEOUT), plan.module), judges)
    stored = await asyncio.to_thread(store.find, run)
    if stored is not None and stored.kind == KIND:
        check_same("evaluation", run, stored.plan["fingerprint"], kept["fingerprint"])
    await _forget_old(life, run)
    begun = await asyncio.to_thread(partial(store.begin, run, KIND, kept, fork=fork, again=True))
    if begun.state in FINAL:
        return await report_of(life, begun)
    spec = Supervisor.child_spec(
        f"run/{run}",
        [
            ChildSpec("journal", RunJournal, (run, KIND, kept, store), name=f"run-journal/{run}"),
            ChildSpec("run", EvaluationRun, (plan,), name=f"run/{run}"),
        ],
        strategy="rest_for_one",
        restart="temporary",
        name=f"supervisor/run/{run}",
    )
    return await _run(life, plan, spec, resume=begun.state == "paused")


async def _forget_old(life: Life, but: str) -> None:
    runs: OptimizationSettings = await life.call(names.CONFIG, GetSetting(("ai", "optimization")), timeout=CALL_TIMEOUT)
    if runs.keep_runs is not None:
        older = life.engine.clock.time() - runs.keep_runs
        await asyncio.to_thread(partial(life.plan.runs.forget, older, spare=but))


# -- below the supervisor of runs --------------------------------------------------------------------


async def _run(life: Life, plan: EvaluationPlan, spec: ChildSpec, *, resume: bool = False) -> EvaluationReport:
    start = asyncio.create_task(_start(life, plan, spec))
    try:
        await asyncio.shield(start)
        if resume:
            await life.call(f"run/{plan.run_id}", ResumeRun(), timeout=CALL_TIMEOUT)
        return await _report(life, plan)
    finally:
        await asyncio.wait([start])  # who gives up while it starts must not leave it behind
        if not start.cancelled() and start.exception() is None:
            await _remove(life, plan, spec)


async def _start(life: Life, plan: EvaluationPlan, spec: ChildSpec) -> None:
    try:
        await life.call(names.RUN_POOL, StartChild(spec), timeout=None)
    except AlreadyStarted as error:
        message = f"expected a new run id, got {plan.run_id!r}, which is at work"
        raise RunConflict(message, run_id=plan.run_id) from error
    except StartError as error:
        await _drop(life, plan)
        cause = cause_of(unfold(error.reason)[1])
        raise (cause if isinstance(cause, Error) else error) from cause


async def _report(life: Life, plan: EvaluationPlan) -> EvaluationReport:
    name = f"run/{plan.run_id}"
    while True:
        try:
            return await life.call(name, GetResult(), timeout=None)  # type: ignore[no-any-return]
        except ActorDied:
            entry = life.entry(name)
            if entry is None or entry.state == "dead":
                raise  # nobody starts it again


async def _remove(life: Life, plan: EvaluationPlan, spec: ChildSpec) -> None:
    with suppress(SupervisorError, CallError):  # it has ended, or the application has
        await life.call(names.RUN_POOL, TerminateChild(spec.name), timeout=None)
        await _drop(life, plan)


async def _drop(life: Life, plan: EvaluationPlan) -> None:
    for kind in ("run", "run-journal", "supervisor/run"):
        await life.on_engine(partial(life.drop_name, f"{kind}/{plan.run_id}"))


# -- checks ------------------------------------------------------------------------------------------


async def _settings(life: Life) -> EvaluationSettings:
    return await life.call(  # type: ignore[no-any-return]
        names.CONFIG, GetSetting(("dspex", "evaluation")), timeout=CALL_TIMEOUT
    )


def _workers(asked: Workers, settings: EvaluationSettings) -> int:
    if isinstance(asked, int):
        return asked
    if asked is None and not settings.parallel_execution:
        return 1
    configured = settings.max_workers if asked is None else asked
    return min(AUTO_MOST, 4 * (os.cpu_count() or 1)) if configured == "auto" else configured


def _check_kind(run: StoredRun) -> None:
    if run.kind != KIND:
        raise RunError(f"expected an evaluation, got a run of kind {run.kind}, at {run.id}", run_id=run.id)


def _example(given: object, index: int) -> Example:
    if isinstance(given, Example):
        return given
    if isinstance(given, Mapping):
        return Example(cast("Mapping[str, Any]", given))
    raise _refuse("examples or mappings", type(given).__name__, f"dataset[{index}]")


def _refuse(expected: str, got: str, path: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)
