"""The engine: the actors of one process on one asyncio loop.

Everything that touches actors happens on one thread, the *engine's thread*: a thread of its own, or
the one whose loop the caller already runs (see :mod:`.host`). Other threads come in through
:mod:`.outside`. Loop, clock, randomness, ids and executor are arguments, so that a run can be
repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

from thespian.actors import Actor, ActorAddress, ActorExitRequest

from . import succession
from .address import LocalAddress, know_engine
from .cell import Cell
from .clock import Clock, SystemClock
from .context import Context
from .counters import Counters
from .dead_letters import DeadLetterBox
from .dispatcher import DaemonDispatcher
from .host import Host, LoopChoice
from .ids import IdSource
from .items import STOP
from .log import EngineLog
from .names import NameTable, qualify
from .outcomes import StartResult
from .outside import Outside
from .placement.main_module import refuse_to_start_again
from .reasons import KILL, NOPROC, SHUTDOWN, Reason
from .routing import Router
from .scheduler import Scheduler
from .scope import SCOPE, Scope, awaiting
from .spawning import Spawner
from .steps import Done
from .telemetry import Telemetry
from .timers import TimerHeap
from .watchdog import STUCK_AFTER, Watchdog

T = TypeVar("T")
MAILBOX_LIMIT: Final = 10_000
SLOW_HANDLER: Final = 0.1
_engine_numbers = itertools.count(1)


class Engine:
    """The actors of one process. Use it through ``Thespian``'s ``ActorSystem`` or ``dspex.start``.

    Args:
        loop: ``"own"`` for a loop in a thread of its own, ``"current"`` for the caller's running loop.
        loop_factory: makes the own loop.
        clock: for what people see; deadlines and timers run on the loop's own time.
        rng: the random source.
        ids: makes trace, span and event ids.
        executor: runs code that blocks; daemon threads unless given.
        scheduler: makes the run queue, given this engine; for tests.
        mailbox_limit: messages that may wait for one actor.
        slow_handler: seconds a handler may hold the loop before it is reported.
        stuck_handler: seconds a handler may take, waiting included, before it is reported; needs ``watch``.
        watch: seconds between two looks for handlers that are stuck or wait for each other in a circle; None
            (as here, not in an application): nobody looks.
        capabilities: Thespian's system capabilities.
        name: part of the engine's id and of its threads' names.

    Attributes:
        cells: the live actors' bookkeeping, by the number in their address.
        names: the name table; reading needs no message and works from any thread.
        kept: pools whose members somebody else starts again; see :mod:`.succession`.
        watchdog: finds handlers that are stuck.
        ended: done, with the reason, when the engine has stopped.
        stop_reason: why it stops or stopped; None while it runs.

    Raises:
        UsageError: ``loop="current"`` without a running loop, or no such choice; or this is the program's main module,
            run again in the process of a placed actor for what is defined there.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        *,
        loop: LoopChoice = "own",
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        ids: IdSource | None = None,
        executor: Executor | None = None,
        scheduler: Callable[[Engine], Scheduler] | None = None,
        mailbox_limit: int = MAILBOX_LIMIT,
        slow_handler: float = SLOW_HANDLER,
        stuck_handler: float = STUCK_AFTER,
        watch: float | None = None,
        capabilities: dict[str, Any] | None = None,
        name: str = "dspex",
    ) -> None:
        refuse_to_start_again()
        self.id = f"{name}{next(_engine_numbers)}"
        self.clock = clock or SystemClock()
        self.rng = rng or random.Random()
        self.ids = ids or IdSource(self.clock, rng)
        self.mailbox_limit = mailbox_limit
        self.slow_handler = slow_handler
        self.watchdog = Watchdog(self, watch, stuck_handler)
        self.capabilities: dict[str, Any] = {} if capabilities is None else capabilities
        self.counters = Counters()
        self.telemetry = Telemetry(self.clock)
        self.cells: dict[int, Cell] = {}
        self.global_names: dict[str, Cell] = {}
        self.kept: succession.Kept = {}
        self.system_address = LocalAddress(self.id, 0)
        self.stop_reason: Reason = None
        self.ended: Future[Reason] = Future()
        self.executor = executor or DaemonDispatcher(name=self.id)
        self.thread_id = 0
        self._numbers = itertools.count(1)
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._signals: deque[tuple[Cell, Reason, Cell | None, bool]] = deque()
        self._flushing = False
        self._base_context = contextvars.Context()
        self._spawner = Spawner(self)
        self._make_scheduler = scheduler or _scheduler
        self.outside = Outside(self)
        self.log = EngineLog(self)
        self.host = Host(self, loop, loop_factory)
        know_engine(self.id, self)
        self.host.start()

    def adopt_loop(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        """Called by the host once the loop exists: what needs it is made now."""
        self.loop = loop
        self.thread_id = thread_id
        self.now: Callable[[], float] = loop.time
        self.timers = TimerHeap(loop)
        self.names = NameTable(self.now)
        self.dead_letters = DeadLetterBox(self.now, self.log.dead_letter)
        self.router = Router(self)
        self.cell_of = self.router.cell_of
        self.send = self.router.send
        self.scheduler = self._make_scheduler(self)
        self.scheduler.router = self.router
        self.schedule = self.scheduler.schedule
        self.hand_over = self.scheduler.hand_over
        self.watchdog.start()

    # -- from outside ------------------------------------------------------------------------------

    def call_blocking(
        self,
        target: Any,
        message: Any,
        timeout: float | None = 5.0,
        *,
        namespace: str = "",
        fail_fast: bool = False,
        context: Context | None = None,
    ) -> Any:
        """Ask an actor and wait; see :meth:`.outside.Outside.call_blocking`."""
        return self.outside.call_blocking(
            target, message, timeout=timeout, namespace=namespace, fail_fast=fail_fast, context=context
        )

    async def call_async(
        self,
        target: Any,
        message: Any,
        timeout: float | None = 5.0,
        *,
        namespace: str = "",
        fail_fast: bool = False,
        context: Context | None = None,
    ) -> Any:
        """Ask an actor from a coroutine on any loop; see :meth:`.outside.Outside.call_async`."""
        return await self.outside.call_async(
            target, message, timeout=timeout, namespace=namespace, fail_fast=fail_fast, context=context
        )

    def cast(self, target: Any, message: Any, namespace: str = "", context: Context | None = None) -> None:
        """Tell an actor, from any thread; see :meth:`.outside.Outside.cast`."""
        self.outside.cast(target, message, namespace=namespace, context=context)

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function on the engine's thread, soon. From any thread."""
        self.outside.post(function, *args)

    def on_engine(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the engine's thread and wait for it; directly if this is that thread."""
        return self.outside.run(function, *args)

    def alive(self, address: Any) -> bool:
        """Whether the actor with this address (or name) is alive. From any thread."""
        cell = self.cell_of(address)
        return cell is not None and cell.alive

    # -- surroundings ----------------------------------------------------------------------------

    @property
    def running(self) -> Cell | None:
        """The actor whose plain handler runs now, if any."""
        return self.scheduler.running

    @property
    def stopping(self) -> bool:
        """Whether it stops, or has stopped."""
        return self.stop_reason is not None

    def next_number(self) -> int:
        """A number not used before in this engine."""
        return next(self._numbers)

    def context_of(self, scope: Scope) -> contextvars.Context:
        """A context of nobody's, in which code stands at ``scope``."""
        context = self._base_context.copy()
        context.run(SCOPE.set, scope)
        return context

    def create_task(
        self,
        work: Coroutine[Any, Any, Any],
        context: contextvars.Context | None = None,
        over: Callable[[asyncio.Task[Any]], None] | None = None,
    ) -> asyncio.Task[Any]:
        """A task on the engine's loop, in a context of :meth:`context_of`, or at no actor's place.

        Args:
            work: what it runs.
            context: where that stands.
            over: told of the task's end, and then has to :meth:`forget_task` it.
        """
        task = self.loop.create_task(work, context=context or self._base_context.copy())
        self._tasks[task] = None
        task.add_done_callback(over or self.forget_task, context=self._base_context)
        return task

    def forget_task(self, task: asyncio.Task[Any]) -> None:
        """A task has ended."""
        self._tasks.pop(task, None)

    def owned_tasks(self) -> list[asyncio.Task[Any]]:
        """Tasks of this engine that are not over, without the running one."""
        current = asyncio.current_task(self.loop)
        return [task for task in self._tasks if task is not current]

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function that blocks on a daemon thread, and await its result."""
        context = contextvars.copy_context()
        return await asyncio.wrap_future(self.executor.submit(context.run, function, *args), loop=self.loop)

    async def run_blocking_for(self, cell: Cell, function: Callable[..., T], *args: Any) -> T:
        """Run a function of an actor that blocks on a daemon thread, and await its result."""
        context = contextvars.copy_context()
        cell.guards += 1
        future: Future[T] = self.executor.submit(context.run, function, *args)
        waiter: asyncio.Future[T] = self.loop.create_future()

        def over(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.loop.call_soon_threadsafe(settle)

        def settle() -> None:
            # Not when the awaiting coroutine ends: that may be cancelled while the thread runs on.
            cell.guards -= 1
            if waiter.done():
                return
            if future.cancelled():
                waiter.cancel()
            elif (error := future.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(future.result())

        # The loop is woken once, which matters: what is written to disk comes this way.
        future.add_done_callback(over)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not future.cancel() and future.running():
                self.counters.abandoned_threads += 1
            raise

    def run_offloop(self, cell: Cell, work: Callable[[], Any], done: Done) -> Future[Any]:
        """Run a blocking actor's handler on a daemon thread; ``done(result, error)`` on the engine's thread."""
        future: Future[Any] = self.executor.submit(work)

        def finished(future: Future[Any]) -> None:
            if not self.outside.closed and not future.cancelled():
                self.post(settle, future)

        def settle(future: Future[Any]) -> None:
            cell.run_task = None
            if cell.alive:
                error = future.exception()
                done(None if error is not None else future.result(), error)

        future.add_done_callback(finished)
        return future

    def close_resource(self, resource: Any, owner: str) -> None:
        """Close what an ended actor owned."""
        close = getattr(resource, "aclose", None) or getattr(resource, "close", None) or resource
        try:
            result = close()
            if inspect.isawaitable(result):
                task = self.create_task(_await(result))
                task.add_done_callback(lambda done: self.log.resource_closed(done, owner))
        except Exception as error:  # fault boundary: a failing close must not stop the clean-up of the rest
            self.log.close_failed(owner, error)

    def reraise_interrupt(self, error: BaseException) -> None:
        """Let Ctrl-C through: it is for the host program, not for the actor that happened to run.

        Only on the caller's own loop: nobody waits for it on a thread of ours, which it would end.
        """
        if isinstance(error, KeyboardInterrupt) and not self.host.own:
            raise error

    # -- spawning and ends -----------------------------------------------------------------------

    async def spawn(
        self, cls: type[Actor], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> StartResult:
        """Start an actor; on the engine's thread. Options as of :meth:`.spawning.Spawner.spawn`."""
        return await self._spawner.spawn(cls, args, kwargs or {}, **options)

    @property
    def create_actor(self) -> Callable[..., ActorAddress]:
        """Thespian's createActor; see :meth:`.spawning.Spawner.create`."""
        return self._spawner.create

    def start_wakeup(self, cell: Cell, seconds: float, wakeup: Any) -> None:
        """Thespian's wakeupAfter."""
        self.timers.at(self.now() + seconds, cell.deliver_timer, wakeup, None)

    def stop_actor(self, target: Any, reason: Reason) -> None:
        """Have an actor run ``terminate`` and end with ``reason`` (OTP GS-11), behind its mailbox."""
        cell = self.cell_of(target)
        if cell is not None:
            cell.force((STOP, reason))

    def kill(self, target: Any, reason: Reason = KILL) -> bool:
        """Send an exit signal, ``kill`` unless told otherwise; whether there was an actor to get it."""
        cell = self.cell_of(target)
        if cell is None or not cell.alive:
            return False
        self.later_signal(cell, reason, None)
        self.flush_signals()
        return True

    def later_signal(self, to: Cell, reason: Reason, sender: Cell | None, *, from_parent: bool = False) -> None:
        """Queue an exit signal: deaths that cause deaths are handled in order, not in depth."""
        self._signals.append((to, reason, sender, from_parent))

    def flush_signals(self) -> None:
        """Deliver the queued exit signals, and those they cause."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._signals:
                to, reason, sender, from_parent = self._signals.popleft()
                to.signal(reason, sender, from_parent=from_parent)
        finally:
            self._flushing = False

    async def wait_down(self, target: Any, timeout: float | None) -> tuple[bool, Reason]:
        """Wait for an actor's end: ``(True, reason)``, or ``(False, None)`` after ``timeout`` seconds."""
        cell = self.cell_of(target)
        if cell is None:
            return True, NOPROC
        if not cell.alive:
            return True, cell.reason
        over: asyncio.Future[bool] = self.loop.create_future()

        def tell(ended: bool) -> None:
            if not over.done():
                over.set_result(ended)

        ref = self.next_number()
        cell.watch(ref, lambda address, reason: tell(True))
        timer = None if timeout is None else self.timers.at(self.now() + timeout, tell, False)
        try:
            with awaiting(cell):
                return (True, cell.reason) if await over else (False, None)
        finally:
            cell.unwatch(ref)
            if timer is not None:
                timer.cancel()

    def forget(self, cell: Cell) -> None:
        """A cell has died."""
        self.cells.pop(cell.address.number, None)
        self.counters.ended += 1
        if cell.global_name:
            self.global_names.pop(cell.global_name, None)
        if cell.name is not None:
            succession.name_lost(self.names, cell)
        if cell.estate is not None:
            succession.supervisor_lost(self.names, cell)

    def bind_name(self, cell: Cell, name: str) -> None:
        """Give a starting cell its name; it lives in its name's namespace."""
        cell.name = qualify(cell.namespace, name)
        cell.namespace = cell.name.rpartition(":")[0] or cell.namespace
        old = self.names.get(cell.name)
        if old is not None:
            succession.returned(cell.parent, old.address, cell.name)
        self.names.begin(cell.name, cell.address)

    def named_cell_started(self, cell: Cell) -> None:
        """A cell's start is over."""
        if cell.name is not None:
            self.names.set_state(cell.name, "running")

    def update_capability(self, name: str, value: Any) -> None:
        """Change a capability; actors that need another value are asked to exit, as in Thespian."""
        if value is None:
            self.capabilities.pop(name, None)
        else:
            self.capabilities[name] = value
        for cell in list(self.cells.values()):
            check = getattr(cell.actor_class, "actorSystemCapabilityCheck", None)
            if check is not None and not check(self.capabilities, {}):
                cell.put_notice(ActorExitRequest())

    # -- life ------------------------------------------------------------------------------------

    def request_stop(self, reason: Reason = SHUTDOWN, timeout: float = 5.0) -> None:
        """Stop soon; from anywhere, without waiting (for that, see ``ended``)."""
        self.host.request_stop(reason, timeout)

    def stop(self, reason: Reason = SHUTDOWN, timeout: float = 5.0) -> None:
        """Stop every actor and the engine; from a thread that is not the engine's. Twice is once.

        Args:
            reason: what the actors' exit reason is.
            timeout: seconds for all of them; then they are killed.

        Raises:
            WrongThread: on the engine's own thread; await :meth:`astop` there.
            ForkedProcess: this is a forked child.
        """
        self.host.stop(reason, timeout)

    async def astop(self, reason: Reason = SHUTDOWN, timeout: float = 5.0) -> None:
        """The same from a coroutine, on any loop."""
        await self.host.astop(reason, timeout)


def _scheduler(engine: Engine) -> Scheduler:
    return Scheduler(engine.loop, engine.slow_handler, engine.log.slow_handler)


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
