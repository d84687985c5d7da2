"""The application, as coroutines: the one core that both views share.

Works from any event loop, also one that is not the engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self, TypeAlias, Unpack, cast

from ...actors.configuration.messages import (
    DeclareModule,
    DeclareProvider,
    DeclareRoute,
    GetSetting,
    UndeclareModule,
    UndeclareProvider,
    UndeclareRoute,
    UpdateSetting,
)
from ...actors.evaluation.report import EvaluationReport
from ...actors.evaluation.scoring import Metric
from ...actors.examples import Example
from ...actors.modules.program import Module as ProgramClass
from ...actors.signatures.signature import Signature
from ...runtime.child_spec import ChildSpec
from ...runtime.errors import ConfigError, Error, StartError, SupervisorError
from ...runtime.reasons import SHUTDOWN, Reason
from ..keeper import Declare, DeclaredSet, Kept, Undeclare
from . import names
from .declarations import check_settings, declared_settings, program_settings
from .failure import cause_of, unfold
from .guard_views import AsyncBudgets, AsyncCache, AsyncProtection
from .handles import AsyncModule
from .life import Life
from .own_actors import AsyncActors
from .runs.bar import Progress
from .runs.evaluations import Program, Workers, evaluate
from .runs.handles import AsyncRun
from .runs.options import Examples, RunOptions
from .runs.views import AsyncRuns, optimize
from .tree.declared import load_actors, module_spec, provider_spec, route_spec
from .views import AsyncEvents, AsyncLM, AsyncRegistry, AsyncTelemetry

Undo: TypeAlias = UndeclareProvider | UndeclareRoute | UndeclareModule


class AsyncApp(AsyncActors):
    """A running application, its methods coroutines. ``dspex.astart()`` makes one.

    Methods that only tell (``cast``, ``tell``, ``kill``) or only look (``module``, ``entry``, ``namespace``) are plain.

    Args:
        life: what started the application and will stop it.
        namespace: names of one's own actors are resolved in it.

    Attributes:
        registry: who is who.
        events: what happened.
        telemetry: how much of it.
        lm: the providers themselves.
        protection: limits, breaker and gates around them.
        budgets: what was spent, and what may be.
        cache: the cache of model answers.
        runs: optimizations, those of other processes among them.
    """

    def __init__(self, life: Life, namespace: str = "") -> None:
        super().__init__(life, namespace)
        self.registry = AsyncRegistry(life, namespace)
        self.events = AsyncEvents(life)
        self.telemetry = AsyncTelemetry(life)
        self.lm = AsyncLM(life)
        self.protection = AsyncProtection(life)
        self.budgets = AsyncBudgets(life)
        self.cache = AsyncCache(life)
        self.runs = AsyncRuns(life)

    # -- providers and modules -------------------------------------------------------------------

    async def configure_provider(self, name: str, /, **settings: Any) -> None:
        """Declare a provider, or change one that runs; it is validated, journaled, applied and kept.

        Args:
            name: its id; calls go to ``provider/<name>``.
            **settings: fields of ``ProviderSettings``: kind, base_url, api_key, default_model, ...

        Raises:
            ConfigError: a setting is unknown, of the wrong type or out of range.
        """
        await asyncio.to_thread(load_actors)  # once; not on the loop
        await self._ask(names.CONFIG, DeclareProvider(name, settings))
        await self._keep(
            names.PROVIDER_KEEPER, provider_spec(name, self._life.plan.protections), UndeclareProvider(name)
        )

    async def remove_provider(self, name: str) -> None:
        """Stop a provider and forget it.

        Raises:
            ConfigError: there is none.
        """
        await self._ask(names.CONFIG, UndeclareProvider(name))
        protections = self._life.plan.protections
        await self._forget(names.PROVIDER_KEEPER, provider_spec(name, protections))
        protections.forget(name)

    async def configure_route(self, name: str, /, *targets: str | Mapping[str, Any], **settings: Any) -> None:
        """Declare a route across several providers, or change one that runs; modules name it as they name a provider.

        Args:
            name: its id; calls go to ``provider/<name>``.
            *targets: ids of the providers in order of preference, or tables of provider, model and weight.
            **settings: further fields of ``RouteSettings``: strategy, fallback_on.

        Raises:
            ConfigError: a setting is unknown, of the wrong type or out of range, or a provider has the name.
        """
        tables = [_target(target) for target in targets]
        await self._ask(names.CONFIG, DeclareRoute(name, {"targets": tables, **settings}))
        await self._keep(names.PROVIDER_KEEPER, route_spec(name), UndeclareRoute(name))

    async def remove_route(self, name: str) -> None:
        """Stop a route and forget it.

        Raises:
            ConfigError: there is none.
        """
        await self._ask(names.CONFIG, UndeclareRoute(name))
        await self._forget(names.PROVIDER_KEEPER, route_spec(name))

    async def start_module(
        self, id: str, signature: str | Signature | type[Signature], /, *, provider: str, **settings: Any
    ) -> AsyncModule:
        """Declare a module and start it; it comes back after any restart.

        Args:
            id: its id; calls go to ``module/<id>``.
            signature: inputs and outputs, ``"question -> answer"``, or a ``dspex.Signature``.
            provider: id of the provider it asks.
            **settings: fields of ``ModuleSettings``: kind, instructions, demos, model, timeout, workers, placement,
                ...; and those of its kind: metric, n, tools, ...; functions and classes in them stand at the top of
                a module.

        Raises:
            SignatureError: the signature is malformed.
            ConfigError: a setting is.
        """
        return await self._start_module(id, {"signature": signature, "provider": provider, **settings})

    async def start_program(
        self, id: str, program: type[ProgramClass] | str, /, *, provider: str, **settings: Any
    ) -> AsyncModule:
        """Declare a program of one's own as a module and start it; it comes back after any restart.

        Args:
            id: its id; calls go to ``module/<id>``.
            program: a class below ``dspex.Module`` at the top of a module, or its import path,
                ``"package.module:Class"``.
            provider: id of the provider that its predictors ask.
            **settings: fields of ``ModuleSettings``: signature, model, timeout, max_concurrency, workers, placement,
                ...

        Raises:
            SignatureError: what it takes and gives cannot be told from ``forward``.
            ConfigError: it is no program, cannot be imported, or a setting is malformed.
        """
        return await self._start_module(id, program_settings(program, {"provider": provider, **settings}))

    async def _start_module(self, id: str, settings: Mapping[str, Any]) -> AsyncModule:
        settings = declared_settings(settings)
        await asyncio.to_thread(check_settings, settings)
        declared = await self._ask(names.CONFIG, DeclareModule(id, settings))
        await self._keep(names.MODULE_KEEPER, module_spec(id, declared), UndeclareModule(id))
        return AsyncModule(self._life, id)

    async def stop_module(self, id: str) -> None:
        """Stop a module and forget it.

        Raises:
            ConfigError: there is none.
        """
        await self._ask(names.CONFIG, UndeclareModule(id))
        await self._forget(names.MODULE_KEEPER, module_spec(id))

    def module(self, id: str) -> AsyncModule:
        """A handle of a module that was started, here or by configuration.

        Raises:
            NoProcess: there never was one of that id.
        """
        self._life.known(f"module/{id}")
        return AsyncModule(self._life, id)

    async def evaluate(
        self,
        program: Program,
        dataset: Iterable[Example | Mapping[str, Any]],
        /,
        *,
        metric: Metric,
        workers: Workers = None,
        max_errors: int | None = None,
        run_id: str | None = None,
        fork: str | None = None,
        progress: Progress = None,
        blocking: bool = False,
    ) -> EvaluationReport:
        """Run a dataset through a module and score what it answers. A failure scores 0; no row is left out.

        While it runs, ``run/<run_id>`` answers ``RunInfo``, ``PauseRun``, ``ResumeRun`` and ``CancelRun``.

        Args:
            program: a module, with its call options, or its id.
            dataset: examples; all that is no input of the module is what the metric compares with.
            metric: a function of an example and a prediction, its import path (``"package.module:function"``), the
                name of an actor, ``exact_match``, ``contains``, ``f1``, or an ``LMJudge``.
            workers: examples in work at once, never more than the module works on at once; ``"auto"`` fits the
                machine; None: as ``dspex.evaluation`` says.
            max_errors: failures that are borne; the next one ends it, with a report of what was done. None: all.
            run_id: a name for it. With one, what is paid for is kept in a journal: begun again under its name, also
                after a crash of the process, it goes on where it was, or gives its report once more. An example whose
                module is away is waited for then, and where the next one would fail too (no credit, no module) it
                ends, to be gone on with. None makes a name, and keeps nothing.
            fork: id of an older run whose model answers are used again where the very same is asked.
            progress: True shows a bar on stderr, False nothing, None a bar if that is a terminal; or a function,
                called with an ``EvaluationProgress`` some times a second on the engine's thread: it must be quick.
            blocking: whether a plain metric function runs on a daemon thread, because it waits or computes long.

        Raises:
            ConfigError: the dataset is empty or holds what is no example, or an argument is out of range.
            UsageError: ``program`` is no module, ``progress`` nothing that can be told, or ``fork`` without a run id.
            RunConflict: a run with this id is at work, or was begun with another program, dataset or metric.
            RunError: there is no run to fork.
            StoreError: its journal cannot be written or read.
            NoProcess: there is no such module.
            CallError: the evaluation crashed, or the application has stopped.
        """
        return await evaluate(
            self._life,
            program,
            dataset,
            metric=metric,
            workers=workers,
            max_errors=max_errors,
            run_id=run_id,
            fork=fork,
            progress=progress,
            blocking=blocking,
        )

    async def optimize(self, module: str | AsyncModule, trainset: Examples, /, **how: Unpack[RunOptions]) -> AsyncRun:
        """Begin to search for a better state of a module, or go on with a run that was begun. The module goes on.

        Args:
            module: a module, or its id.
            trainset: examples to learn from.
            **how: ``metric``, ``method``, ``run_id``, ``valset``, ``seed``, ``budget``...: see :class:`.RunOptions`.

        Raises:
            UsageError, ConfigError: an option or an example is malformed.
            RunConflict: the run was begun with other code, data or settings, or another process works on it.
            NoProcess: there is no such module.
        """
        return await optimize(self._life, module if isinstance(module, str) else module.id, trainset, how)

    async def _keep(self, keeper: str, spec: ChildSpec, undo: Undo) -> None:
        try:
            await self._ask(keeper, Declare(spec), None)
        except SupervisorError as error:
            if error.reason != "already_present":
                raise  # it runs already, and has taken the new settings from configuration
        except StartError as error:
            kept: tuple[Kept, ...] = await self._ask(keeper, DeclaredSet(), None)
            if all(each.name != spec.name for each in kept):
                await self._ask(names.CONFIG, undo)  # what never ran is not declared, and nobody misses it
                await self._life.on_engine(partial(self._life.drop_name, str(spec.id)))
            cause = cause_of(unfold(error.reason)[1])
            raise (cause if isinstance(cause, Error) else error) from cause

    async def _forget(self, keeper: str, spec: ChildSpec) -> None:
        assert spec.name is not None
        try:
            await self._ask(keeper, Undeclare(spec.name), None)
        except SupervisorError as error:
            if error.reason != "not_found":
                raise  # configured, but never kept: nothing to stop
        await self._life.on_engine(partial(self._life.drop_name, str(spec.id)))

    # -- configuration ---------------------------------------------------------------------------

    async def setting(self, *path: str) -> Any:
        """One setting, or with no path all of them.

        Raises:
            ConfigError: there is no such path.
        """
        return await self._ask(names.CONFIG, GetSetting(path))

    async def update_setting(self, path: tuple[str, ...], value: Any) -> None:
        """Change a setting of the running application; acknowledged once it is journaled.

        Raises:
            ConfigError: unknown path, bad value, or a path that only a restart may change.
        """
        await self._ask(names.CONFIG, UpdateSetting(path, value))

    def namespace(self, name: str) -> AsyncApp:
        """A view in which the names of one's own actors are resolved in another namespace.

        Providers, modules, configuration, events and telemetry are the application's, the same in every view.
        """
        return AsyncApp(self._life, name)

    # -- life ------------------------------------------------------------------------------------

    async def stop(self, *, drain: float = 0.0, reason: Reason = SHUTDOWN) -> None:
        """Stop everything in reverse start order.

        Args:
            drain: seconds to let calls in progress finish; new ones are refused meanwhile.
            reason: what ``wait`` returns and later calls are told.
        """
        await self._life.stop(drain, reason)

    async def wait(self, timeout: float | None = None) -> Reason:
        """Wait until the application has stopped; why.

        Args:
            timeout: seconds to wait, None for ever.

        Raises:
            TimeoutError: it still runs after ``timeout``.
        """
        return await self._life.wait(timeout)

    def on_exit(self, callback: Callable[[Reason], None]) -> None:
        """Have ``callback(reason)`` called once when the application ends; at once if it has."""
        self._life.on_exit(callback)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


def _target(target: object) -> dict[str, Any]:
    if isinstance(target, str):
        return {"provider": target}
    if isinstance(target, Mapping):
        return dict(cast("Mapping[str, Any]", target))
    got = type(target).__name__
    raise ConfigError(
        f"expected each target as a provider's id or a table, got {got}, at targets",
        path="targets",
        expected="a provider's id or a table",
        got=got,
    )
