"""``app.evaluate``: from a dataset to a report, by way of an evaluation of its own below ``supervisor/runs``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias, cast

from ...actors.config_messages import GetSetting
from ...actors.evaluation import EvaluationProgress, check_whole
from ...actors.evaluation_actor import PROGRESS, EvaluationRun
from ...actors.evaluation_plan import KIND, EvaluationPlan, check_same, fingerprint
from ...actors.evaluation_report import EvaluationReport
from ...actors.examples import Example
from ...actors.module_messages import DEFAULT_OPTIONS, ModuleInfo, ModuleStatus, PredictOptions
from ...actors.run_journal import RunJournal
from ...actors.run_messages import GetResult
from ...actors.run_plan import checked_examples
from ...actors.scoring import Metric, Scorer
from ...actors.settings import EvaluationSettings
from ...runtime.child_spec import ChildSpec, StartChild
from ...runtime.context import Context
from ...runtime.engine import Engine
from ...runtime.errors import (
    ActorDied,
    AlreadyStarted,
    CallError,
    ConfigError,
    Error,
    RunConflict,
    StartError,
    SupervisorError,
    UsageError,
)
from ..messages import TerminateChild
from ..supervisor import Supervisor
from . import names
from .asks import check_who
from .failure import cause_of, unfold
from .handles import AsyncModule, Module
from .life import Life
from .views import CALL_TIMEOUT

Watching: TypeAlias = Callable[[EvaluationProgress], object]
Progress: TypeAlias = bool | Watching | None
Program: TypeAlias = str | Module | AsyncModule
Workers: TypeAlias = int | Literal["auto"] | None

AUTO_MOST: Final = 32
"""Workers that ``auto`` chooses at most: they wait for models, so there may be more than processors."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``app.evaluate`` was asked for, checked.

    Attributes:
        module: id of the module.
        dataset: the examples.
        scorer: the metric.
        workers: how many, or None for the configured number.
        max_errors: failures that are borne, or None.
        run_id: the evaluation's id, or None for a new one.
        options: of each prediction.
        user: on whose behalf.
    """

    module: str
    dataset: tuple[Example, ...]
    scorer: Scorer
    workers: Workers
    max_errors: int | None
    run_id: str | None
    options: PredictOptions
    user: str | None


def evaluation(
    program: Program,
    dataset: Iterable[Example | Mapping[str, Any]],
    *,
    metric: Metric,
    workers: Workers,
    max_errors: int | None,
    run_id: str | None,
    blocking: bool,
) -> Evaluation:
    """Check what is asked for, before anything is started.

    Raises:
        ConfigError: the dataset is empty or holds what is no example, the metric is none, or a count is out of range.
        UsageError: ``program`` is no module.
    """
    options, user = DEFAULT_OPTIONS, None
    if isinstance(program, Module | AsyncModule):
        called = program.call_options
        program, options, user = program.id, called.predict, called.user
    elif not isinstance(cast("object", program), str):
        raise UsageError(f"expected a module or its id, got {type(program).__name__}, at the program")
    if workers not in (None, "auto"):
        check_whole("workers", workers, 1)
    if max_errors is not None:
        check_whole("max_errors", max_errors, 0)
    check_who(run_id, None)
    examples = tuple(_example(each, index) for index, each in enumerate(dataset))
    if not examples:
        raise _refuse("at least one example", "none", "dataset")
    scorer = Scorer(metric, blocking=blocking)
    return Evaluation(program, examples, scorer, workers, max_errors, run_id, options, user)


async def evaluate(life: Life, asked: Evaluation, progress: Progress) -> EvaluationReport:
    """Run an evaluation and wait for its report; it is stopped with the caller.

    Raises:
        RunConflict: a run with this id is at work, or was begun with another program, dataset or metric.
        NoProcess: there is no such module.
        CallError: the evaluation crashed, or the application has stopped.
        StoreError: the journal cannot be written or read.
    """
    path = ("dspex", "evaluation")
    settings: EvaluationSettings = await life.call(names.CONFIG, GetSetting(path), timeout=CALL_TIMEOUT)
    plan = EvaluationPlan(
        run_id=asked.run_id or f"eval-{life.engine.ids.sortable()}",
        module=asked.module,
        dataset=asked.dataset,
        scorer=asked.scorer,
        workers=_workers(asked.workers, settings),
        max_errors=asked.max_errors,
        options=asked.options,
        context=Context.root(life.engine.ids, user=asked.user),
    )
    spec = _plain(plan) if asked.run_id is None else await _journaled(life, plan)
    with _watched(life.engine, plan, _watching(progress, settings)):
        start = asyncio.create_task(_start(life, plan, spec))
        try:
            await asyncio.shield(start)
            return await _report(life, plan)
        finally:
            await asyncio.wait([start])  # who gives up while it starts must not leave it behind
            if not start.cancelled() and start.exception() is None:
                await _remove(life, plan, spec)


def _plain(plan: EvaluationPlan) -> ChildSpec:
    """An evaluation without a journal. It is never restarted: it would pay again for what was done."""
    name = f"run/{plan.run_id}"
    return ChildSpec(name, EvaluationRun, (plan,), restart="temporary", name=name)


async def _journaled(life: Life, plan: EvaluationPlan) -> ChildSpec:
    """A supervisor with the evaluation and, left of it, its journal.

    Raises:
        ConfigError: an example is not JSON.
        RunConflict: the run was begun with another program, dataset or metric.
        CallError: there is no such module.
    """
    checked_examples(plan.dataset, "dataset")
    run, store = plan.run_id, life.plan.runs
    module: ModuleStatus = await life.call(f"module/{plan.module}", ModuleInfo(), timeout=CALL_TIMEOUT)
    now = fingerprint(plan, module)
    stored = await asyncio.to_thread(store.find, run)
    if stored is not None and stored.kind == KIND:
        check_same(run, stored.plan["fingerprint"], now)
    kept = {"module": plan.module, "method": plan.scorer.name, "workers": plan.workers, "fingerprint": now}
    return Supervisor.child_spec(
        f"run/{run}",
        [
            ChildSpec("journal", RunJournal, (run, KIND, kept, store), name=f"run-journal/{run}"),
            ChildSpec("run", EvaluationRun, (replace(plan, journaled=True),), name=f"run/{run}"),
        ],
        strategy="rest_for_one",
        restart="temporary",
        name=f"supervisor/run/{run}",
    )


async def _report(life: Life, plan: EvaluationPlan) -> EvaluationReport:
    name = f"run/{plan.run_id}"
    while True:
        try:
            return await life.call(name, GetResult(), timeout=None)  # type: ignore[no-any-return]
        except ActorDied:
            entry = life.entry(name)
            if entry is None or entry.state == "dead":
                raise  # nobody starts it again


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


async def _remove(life: Life, plan: EvaluationPlan, spec: ChildSpec) -> None:
    with suppress(SupervisorError, CallError):  # it has ended, or the application has
        await life.call(names.RUN_POOL, TerminateChild(spec.name), timeout=None)
        await _drop(life, plan)


async def _drop(life: Life, plan: EvaluationPlan) -> None:
    for kind in ("run", "run-journal", "supervisor/run"):
        await life.on_engine(partial(life.drop_name, f"{kind}/{plan.run_id}"))


def _workers(asked: Workers, settings: EvaluationSettings) -> int:
    if isinstance(asked, int):
        return asked
    if asked is None and not settings.parallel_execution:
        return 1
    configured = settings.max_workers if asked is None else asked
    return min(AUTO_MOST, 4 * (os.cpu_count() or 1)) if configured == "auto" else configured


# -- progress --------------------------------------------------------------------------------------


def _watching(progress: object, settings: EvaluationSettings) -> Watching | Literal["bar"] | None:
    """Who is told of progress: a function, the bar, or nobody."""
    if callable(progress):
        return cast("Watching", progress)
    if progress is None:
        return "bar" if settings.progress_reporting and sys.stderr.isatty() else None
    if isinstance(progress, bool):
        return "bar" if progress else None
    raise UsageError(f"expected True, False, None or a function, got {type(progress).__name__}, at progress")


@contextmanager
def _watched(
    engine: Engine, plan: EvaluationPlan, watching: Watching | Literal["bar"] | None
) -> Generator[None, None, None]:
    """Have somebody told of the progress of a run; one that raises is told no more."""
    if watching is None:
        yield
        return
    with _bar(plan) if watching == "bar" else nullcontext(watching) as told:

        def on_progress(event: object, measured: object, facts: Mapping[str, Any], config: object) -> None:
            if facts["run_id"] == plan.run_id:
                told(facts["progress"])

        handler = ("dspex-evaluation-progress", plan.run_id, engine.ids.span_id())
        engine.telemetry.attach(handler, PROGRESS, on_progress)
        try:
            yield
        finally:
            engine.telemetry.detach(handler)


@contextmanager
def _bar(plan: EvaluationPlan) -> Generator[Watching, None, None]:
    """A progress bar on stderr; it goes away at the end. What is no terminal gets its last state as a line."""
    from rich import progress as bars  # noqa: PLC0415 - only where something is shown
    from rich.console import Console  # noqa: PLC0415 - likewise

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("score {task.fields[score]}, {task.fields[failures]} failed"),
        bars.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with bars.Progress(*columns, console=console, transient=console.is_terminal) as shown:
        task = shown.add_task(f"evaluate {plan.module}", total=len(plan.dataset), score="-", failures=0)

        def told(now: EvaluationProgress) -> None:
            score = "-" if now.score is None else f"{now.score:.1%}"
            shown.update(task, completed=now.done, score=score, failures=now.failures)

        yield told


# -- checks ----------------------------------------------------------------------------------------


def _example(given: object, index: int) -> Example:
    if isinstance(given, Example):
        return given
    if isinstance(given, Mapping):
        return Example(cast("Mapping[str, Any]", given))
    raise _refuse("examples or mappings", type(given).__name__, f"dataset[{index}]")


def _refuse(expected: str, got: str, path: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)
