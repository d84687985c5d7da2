"""The life of one application: start, calls from outside, draining, stop, and the news of its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from thespian.actors import ActorAddress

from ...runtime.cell import Cell
from ...runtime.clock import SystemClock
from ...runtime.context import Context
from ...runtime.engine import Engine
from ...runtime.errors import ApplicationDown, CallError, NoProcess, UsageError
from ...runtime.names import NameEntry, qualify
from ...runtime.outcomes import Started, StartFailed
from ...runtime.reasons import Reason, describe
from ...runtime.system_base import ExternalEndpoint
from ..gateway.messages import Drain
from ..keeper import DeclaredSet
from ..supervisor import Supervisor
from . import names
from .console.server import Console
from .failure import start_error
from .reports import ReportHandler
from .tree.standard import PATIENCE, Plan, application_children

T = TypeVar("T")
STOP_TIMEOUT = 10.0


class Life:
    """What holds an application together: engine, root supervisor and the way to their end.

    Args:
        engine: a started engine.
        plan: what to start.

    Attributes:
        endpoint: for Thespian's tell and ask.
    """

    def __init__(self, engine: Engine, plan: Plan) -> None:
        self.engine = engine
        self.plan = plan
        self.endpoint = ExternalEndpoint(engine)
        self._reports = ReportHandler(engine)
        self._draining = False
        self._root: Cell | None = None
        self._console: Console | None = None
        engine.ended.add_done_callback(lambda _: plan.runs.close())
        # On time of its own, as in tests, there is nothing that another process could watch.
        if plan.settings.app.console and type(engine.clock) is SystemClock:
            self._console = Console(engine, plan.settings.app.name)
            engine.ended.add_done_callback(lambda _: self._close_console())

    def _close_console(self) -> None:
        if self._console is not None:
            self._console.close()

    @property
    def ended(self) -> Future[Reason]:
        """Done, with the reason, when the application has ended."""
        return self.engine.ended

    @property
    def root(self) -> Cell:
        """The root supervisor."""
        if self._root is None:
            raise ApplicationDown("the application has not started", reason="never started")
        return self._root

    async def start(self) -> None:
        """Start the standard tree. On the engine's thread.

        Raises:
            StartError: a part did not start; everything that had started is stopped again.
        """
        self._reports.attach()
        if self._console is not None:
            self._console.open()  # first, so that a start that hangs can be looked at
        try:
            await self._start_tree()
        except BaseException:  # fault boundary: what did not start is not shown; it is raised again
            self._close_console()
            raise

    async def _start_tree(self) -> None:
        outcome = await self.engine.spawn(
            Supervisor,
            (application_children(self.plan),),
            {"strategy": "rest_for_one", **PATIENCE},
            name=names.APPLICATION,
        )
        if not isinstance(outcome, Started):
            raise start_error(outcome.reason if isinstance(outcome, StartFailed) else "ignore")
        self._root = outcome.address.cell
        self.root.watch(self.engine.next_number(), self._root_ended)
        for keeper in (names.PROVIDER_KEEPER, names.MODULE_KEEPER):
            # Answered behind the keeper's first pass: what configuration declares has been tried by then.
            await self.engine.outside.call_async(keeper, DeclaredSet(), timeout=None)

    def _root_ended(self, address: object, reason: Reason) -> None:
        # The tree is gone, by its own decision or by a kill: an engine without it serves nobody.
        if not self.engine.outside.closed:
            self.engine.request_stop(reason, STOP_TIMEOUT)

    # -- calls -----------------------------------------------------------------------------------

    def admit(self) -> None:
        """Refuse new work while draining.

        Raises:
            ApplicationDown: the application is stopping.
        """
        if self._draining and not self.ended.done():
            raise ApplicationDown("the application is draining and takes no new calls", reason="draining")

    async def call(
        self,
        target: str | ActorAddress,
        message: Any,
        *,
        timeout: float | None,
        namespace: str = "",
        fail_fast: bool = False,
        context: Context | None = None,
    ) -> Any:
        """Call an actor from a coroutine on any loop. Raises as :meth:`.AsyncApp.call`."""
        self.admit()
        _check_timeout(timeout)
        return await self.engine.outside.call_async(
            target, message, timeout=timeout, namespace=namespace, fail_fast=fail_fast, context=context
        )

    def call_blocking(
        self,
        target: str | ActorAddress,
        message: Any,
        *,
        timeout: float | None,
        namespace: str = "",
        fail_fast: bool = False,
        context: Context | None = None,
    ) -> Any:
        """Call an actor from plain code and wait. Raises as :meth:`.App.call`."""
        self.admit()
        _check_timeout(timeout)
        return self.engine.outside.call_blocking(
            target, message, timeout=timeout, namespace=namespace, fail_fast=fail_fast, context=context
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and wait for it, from plain code.

        Raises:
            WrongThread: this is the engine's own thread; await there.
        """
        return self.engine.outside.run_coroutine(work)

    def entry(self, name: str, namespace: str = "") -> NameEntry | None:
        """What the name table says of a name.

        Raises:
            UsageError: ``name`` is no text; as ForkedProcess: this is a forked child, whose table is a dead copy.
        """
        self.engine.outside.check_process()
        if not isinstance(cast("object", name), str):
            raise UsageError(f"expected a name, got {type(name).__name__}")
        return self.engine.names.get(qualify(namespace, name))

    def known(self, name: str) -> NameEntry:
        """What the name table says of a name that must have been there once.

        Raises:
            NoProcess: nobody ever had it.
        """
        entry = self.entry(name)
        if entry is None:
            hint = self.engine.names.near(name)
            raise NoProcess(f"no process {name!r}: nobody ever had this name{hint}", target=name, reason=None)
        return entry

    def signal(self, target: str | ActorAddress, reason: Reason, namespace: str) -> None:
        """Send an exit signal. Raises as :meth:`.AsyncApp.kill`."""
        if not isinstance(cast("object", target), str | ActorAddress):
            raise UsageError(f"expected a name or an address, got {type(target).__name__}")
        if isinstance(target, str) and not self.engine.outside.closed:
            target = self.known(qualify(namespace, target)).name
        if self.engine.outside.on_thread():
            self.engine.kill(target, reason)  # at once: what the caller does next comes behind it
        else:
            self.engine.post(self.engine.kill, target, reason)

    def drop_name(self, name: str) -> None:
        """Forget a name that nobody has any more, and what was named after it. On the engine's thread."""
        family = (name, f"supervisor/{name}", f"streams/{name}")
        for entry in self.engine.names.entries():
            named_so = entry.name in family or entry.name.startswith(tuple(f"{each}/" for each in family))
            if named_so and not self.engine.alive(entry.name):
                self.engine.names.drop(entry.name)

    async def on_engine(self, function: Callable[[], T]) -> T:
        """Call a function on the engine's thread and await its result."""
        engine = self.engine
        if self.ended.done():
            raise ApplicationDown(
                f"the application has stopped ({describe(self.ended.result())})", reason=self.ended.result()
            )
        if engine.outside.on_thread():
            return function()
        done: Future[T] = Future()

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return  # nobody waits any more
            try:
                done.set_result(function())
            except BaseException as error:  # fault boundary: it is raised at the waiting coroutine
                done.set_exception(error)

        engine.post(work)
        return await asyncio.wrap_future(done)

    # -- the end ---------------------------------------------------------------------------------

    async def stop(self, drain: float, reason: Reason) -> None:
        """Drain, then stop everything. Twice is once."""
        if self.ended.done():
            return
        if drain > 0:
            await self._drain(drain)
        await self.engine.astop(reason, STOP_TIMEOUT)
        self._close_console()

    def stop_blocking(self, drain: float, reason: Reason) -> None:
        """The same, from a thread that is not the engine's."""
        if self.ended.done():
            return
        if drain > 0:
            self.run(self._drain(drain))
        self.engine.stop(reason, STOP_TIMEOUT)
        self._close_console()

    async def _drain(self, seconds: float) -> None:
        """Refuse new calls, and wait until none from outside is in progress, or the time is up."""
        self._draining = True
        engine = self.engine
        until = engine.clock.monotonic() + seconds
        if self.plan.settings.gateway.enabled:
            with contextlib.suppress(CallError):  # it is down, or the time is up
                await engine.outside.call_async(names.GATEWAY, Drain(), timeout=seconds, fail_fast=True)
            seconds = max(0.0, until - engine.clock.monotonic())
        if engine.outside.on_thread():
            await engine.outside.wait_idle(seconds)
        else:
            waiting = asyncio.run_coroutine_threadsafe(engine.outside.wait_idle(seconds), engine.loop)
            await asyncio.wrap_future(waiting)

    async def wait(self, timeout: float | None) -> Reason:
        """Wait for the end from a coroutine. Raises as :meth:`.AsyncApp.wait`."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()

        def ended(_: Future[Reason]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(told.set)

        # Not wrap_future: who stops waiting would cancel the one future that all wait for.
        self.ended.add_done_callback(ended)
        async with asyncio.timeout(timeout):
            await told.wait()
        return self.ended.result()

    def wait_blocking(self, timeout: float | None) -> Reason:
        """Wait for the end from plain code. Raises as :meth:`.App.wait`."""
        if not self.ended.done():
            self.engine.outside.refuse_here("wait", "await the same of the awaitable view")
        return self.ended.result(timeout)

    def on_exit(self, callback: Callable[[Reason], None]) -> None:
        """Have ``callback(reason)`` called once when the application ends; at once if it has."""
        self.engine.outside.check_process()
        if not callable(cast("object", callback)):
            raise UsageError(f"expected a function that takes the reason, got {type(callback).__name__}")
        self.ended.add_done_callback(lambda future: callback(future.result()))


def _check_timeout(timeout: float | None) -> None:
    given = cast("object", timeout)
    if given is not None and not (isinstance(given, int | float) and given >= 0):  # not a number is neither
        raise UsageError(f"expected seconds (0 or more) or None, got {given!r}, at timeout")
