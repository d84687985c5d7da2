"""The application for plain code: the methods of the awaitable view, each waiting for its result.

Safe from any thread but the engine's own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Self, Unpack

from thespian.actors import Actor, ActorAddress

from ...actors.evaluation.report import EvaluationReport
from ...actors.evaluation.scoring import Metric
from ...actors.examples import Example
from ...actors.modules.program import Module as ProgramClass
from ...actors.signatures.signature import Signature
from ...runtime.child_spec import ChildSpec
from ...runtime.context import Context
from ...runtime.engine import Engine
from ...runtime.names import NameEntry
from ...runtime.outcomes import Ignored, Started
from ...runtime.reasons import KILL, SHUTDOWN, Reason
from . import names
from .awaitable import AsyncApp
from .blocking_views import LM, Events, Registry, Telemetry
from .console.picture import TreeNode
from .guard_views import Budgets, Cache, Protection
from .handles import Module
from .health import Health, health_of
from .life import Life
from .runs.bar import Progress
from .runs.evaluations import Program, Workers
from .runs.handles import Run
from .runs.options import Examples, RunOptions
from .runs.views import Runs, optimize
from .views import CALL_TIMEOUT


class App:
    """A running application. ``dspex.start()`` makes one; use it with ``with``.

    Every method of :class:`~.awaitable.AsyncApp` is here under the same name; :attr:`aio` is that view.

    Attributes:
        aio: the awaitable view of this application.
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
        self._life = life
        self._namespace = namespace
        self.aio = AsyncApp(life, namespace)
        self.registry = Registry(self.aio.registry, life.run)
        self.events = Events(self.aio.events, life.run)
        self.telemetry = Telemetry(self.aio.telemetry, life.run)
        self.lm = LM(self.aio.lm, life)
        self.protection = Protection(self.aio.protection, life)
        self.budgets = Budgets(self.aio.budgets, life)
        self.cache = Cache(self.aio.cache, life)
        self.runs = Runs(self.aio.runs, life)

    @property
    def engine(self) -> Engine:
        """The engine below."""
        return self._life.engine

    # -- providers and modules -------------------------------------------------------------------

    def configure_provider(self, name: str, /, **settings: Any) -> None:
        """Declare a provider, or change one that runs; see :meth:`.AsyncApp.configure_provider`."""
        self._life.run(self.aio.configure_provider(name, **settings))

    def remove_provider(self, name: str) -> None:
        """Stop a provider and forget it."""
        self._life.run(self.aio.remove_provider(name))

    def configure_route(self, name: str, /, *targets: str | Mapping[str, Any], **settings: Any) -> None:
        """Declare a route across several providers; see :meth:`.AsyncApp.configure_route`."""
        self._life.run(self.aio.configure_route(name, *targets, **settings))

    def remove_route(self, name: str) -> None:
        """Stop a route and forget it."""
        self._life.run(self.aio.remove_route(name))

    def start_module(
        self, id: str, signature: str | Signature | type[Signature], /, *, provider: str, **settings: Any
    ) -> Module:
        """Declare a module and start it; see :meth:`.AsyncApp.start_module`."""
        self._life.run(self.aio.start_module(id, signature, provider=provider, **settings))
        return Module(self._life, id)

    def start_program(self, id: str, program: type[ProgramClass] | str, /, *, provider: str, **settings: Any) -> Module:
        """Declare a program of one's own as a module and start it; see :meth:`.AsyncApp.start_program`."""
        self._life.run(self.aio.start_program(id, program, provider=provider, **settings))
        return Module(self._life, id)

    def stop_module(self, id: str) -> None:
        """Stop a module and forget it."""
        self._life.run(self.aio.stop_module(id))

    def module(self, id: str) -> Module:
        """A handle of a module that was started; see :meth:`.AsyncApp.module`."""
        self._life.known(f"module/{id}")
        return Module(self._life, id)

    def evaluate(
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
        """Run a dataset through a module and score what it answers; see :meth:`.AsyncApp.evaluate`."""
        work = self.aio.evaluate(
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
        return self._life.run(work)

    def optimize(self, module: str | Module, trainset: Examples, /, **how: Unpack[RunOptions]) -> Run:
        """Begin to search for a better state of a module, or go on; see :meth:`.AsyncApp.optimize`."""
        id = module if isinstance(module, str) else module.id
        return Run(self._life, self._life.run(optimize(self._life, id, trainset, how)).id)

    # -- configuration ---------------------------------------------------------------------------

    def setting(self, *path: str) -> Any:
        """One setting, or with no path all of them."""
        return self._life.run(self.aio.setting(*path))

    def update_setting(self, path: tuple[str, ...], value: Any) -> None:
        """Change a setting of the running application."""
        self._life.run(self.aio.update_setting(path, value))

    # -- actors of one's own ---------------------------------------------------------------------

    def start_child(
        self, spec: ChildSpec | Mapping[str, Any] | type[Actor], *, under: str = names.CHILDREN
    ) -> Started | Ignored:
        """Start an actor of one's own; see :meth:`.AsyncApp.start_child`."""
        return self._life.run(self.aio.start_child(spec, under=under))

    def stop_child(self, child: Hashable | ActorAddress, *, under: str = names.CHILDREN) -> None:
        """Stop an actor of one's own for good; see :meth:`.AsyncApp.stop_child`."""
        self._life.run(self.aio.stop_child(child, under=under))

    def call(
        self,
        target: str | ActorAddress,
        message: Any,
        *,
        timeout: float | None = CALL_TIMEOUT,
        fail_fast: bool = False,
        context: Context | None = None,
    ) -> Any:
        """Ask an actor and wait for its answer; see :meth:`.AsyncApp.call`."""
        return self._life.call_blocking(
            target, message, timeout=timeout, namespace=self._namespace, fail_fast=fail_fast, context=context
        )

    def cast(self, target: str | ActorAddress, message: Any) -> None:
        """Tell an actor; what cannot be delivered is counted."""
        self.aio.cast(target, message)

    def tell(self, address: ActorAddress, message: Any) -> None:
        """Thespian's tell."""
        self.aio.tell(address, message)

    def ask(self, address: ActorAddress, message: Any, timeout: timedelta | float | None = None) -> Any:
        """Thespian's ask: the next message any actor sends back, or None after ``timeout`` seconds."""
        return self._life.endpoint.ask(address, message, timeout)

    def kill(self, target: str | ActorAddress, reason: Reason = KILL) -> None:
        """Send an exit signal, ``kill`` unless told otherwise; see :meth:`.AsyncApp.kill`."""
        self.aio.kill(target, reason)

    # -- looking ---------------------------------------------------------------------------------

    def entry(self, name: str) -> NameEntry | None:
        """What the name table says of a name; needs no actor."""
        return self.aio.entry(name)

    def tree_data(self) -> TreeNode:
        """The supervision tree as data."""
        return self._life.run(self.aio.tree_data())

    def tree(self) -> str:
        """The supervision tree as text."""
        return self._life.run(self.aio.tree())

    def health(self) -> Health:
        """Whether every part is up, and what is not."""
        return health_of(self.engine)

    def namespace(self, name: str) -> App:
        """A view on another namespace; see :meth:`.AsyncApp.namespace`."""
        return App(self._life, name)

    # -- life ------------------------------------------------------------------------------------

    def stop(self, *, drain: float = 0.0, reason: Reason = SHUTDOWN) -> None:
        """Stop everything in reverse start order; ``drain`` seconds let calls in progress finish."""
        self._life.stop_blocking(drain, reason)

    def wait(self, timeout: float | None = None) -> Reason:
        """Wait until the application has stopped; why.

        Args:
            timeout: seconds to wait, None for ever.

        Raises:
            TimeoutError: it still runs after ``timeout``.
        """
        return self._life.wait_blocking(timeout)

    def on_exit(self, callback: Callable[[Reason], None]) -> None:
        """Have ``callback(reason)`` called once when the application ends; at once if it has."""
        self.aio.on_exit(callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
