"""Where the engine runs: a loop in a thread of its own, or the loop the caller already runs.

Starting and stopping leave nothing behind: no thread, no task, no file descriptor. A program that
forgets to stop is cleaned up at interpreter exit, or when the loop it lent us is about to close.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from .cell import INIT
from .dispatcher import DaemonDispatcher
from .errors import ApplicationDown, UsageError, WrongThread
from .reasons import KILL, SHUTDOWN, Reason

if TYPE_CHECKING:
    from .engine import Engine

LoopChoice = Literal["own", "current"]
LAST_WORDS: Final = 1.0
"""Seconds that cancelled tasks get for their clean-up."""
THREADS_END = 0.2
"""Seconds that a blocking stop waits for idle daemon threads to end."""
AT_EXIT: Final = 1.0
"""Seconds the actors get at interpreter exit."""


class Host:
    """The life of one engine.

    Attributes:
        own: whether the loop runs in a thread of its own.
    """

    def __init__(
        self, engine: Engine, choice: LoopChoice, loop_factory: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        if choice not in ("own", "current"):
            raise UsageError(f"expected loop='own' or loop='current', got {choice!r}")
        self.own = choice == "own"
        self._engine = engine
        self._loop_factory = loop_factory
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._stopped = threading.Event()
        self._at_exit: Callable[[], None] | None = None

    # -- start -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Adopt the running loop, or start a thread with one.

        Raises:
            UsageError: the current loop is wanted, and none is running.
        """
        if not self.own:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError as error:
                raise UsageError("loop='current' needs a running event loop; there is none here") from error
            self._engine.log.garbage.open()
            self._engine.adopt_loop(loop, threading.get_ident())
            self._guard = loop.create_task(self._watch_loop())
            return
        self._engine.log.garbage.open()
        ready = threading.Event()
        # A daemon: an engine that nobody stopped must not keep the interpreter from exiting.
        self._thread = threading.Thread(
            target=self._serve, args=(self._loop_factory(), ready), name=self._engine.id, daemon=True
        )
        self._thread.start()
        ready.wait()
        reference = weakref.ref(self)

        def at_exit() -> None:
            host = reference()
            if host is not None:
                host.stop_at_exit()

        self._at_exit = at_exit
        atexit.register(at_exit)

    def _serve(self, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        self._engine.adopt_loop(loop, threading.get_ident())
        loop.call_soon(ready.set)
        try:
            while self._interrupted(loop.run_forever):
                pass
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _interrupted(self, run: Callable[[], None]) -> bool:
        """Whether the loop has to go on: asyncio breaks it off when a task of anybody's ends with ``sys.exit``."""
        try:
            run()
        except (SystemExit, KeyboardInterrupt) as error:  # fault boundary: a task ends itself, not this thread
            self._engine.log.task_exited(error)
            return True
        return False

    async def _watch_loop(self) -> None:
        """Wait on the caller's loop until that is about to close (``asyncio.run`` cancels what still runs)."""
        try:
            await self._engine.loop.create_future()
        finally:
            if not self._stopped.is_set():
                self._break_off()

    # -- stop ------------------------------------------------------------------------------------

    def stop(self, reason: Reason, timeout: float) -> None:
        """Stop and wait for it.

        Raises:
            WrongThread: on the engine's own thread; await ``astop`` there.
        """
        engine = self._engine
        engine.outside.check_process()
        if self._stopped.is_set():
            return
        if engine.outside.on_thread():
            raise WrongThread("a blocking stop on the engine's own thread would wait for ever; await astop() there")
        with contextlib.suppress(ApplicationDown):  # somebody else stops it at this very moment
            engine.post(self._begin_stop, reason, timeout)
        limit = timeout + 2 * LAST_WORDS
        if not self._stopped.wait(limit):
            engine.log.stop_overdue(engine.running, limit)
            engine.outside.closed = True
        elif self._thread is not None:
            self._thread.join(LAST_WORDS)
        if isinstance(engine.executor, DaemonDispatcher):
            engine.executor.join(THREADS_END)

    async def astop(self, reason: Reason, timeout: float) -> None:
        """Stop, from a coroutine on any loop."""
        if self._stopped.is_set():
            return
        if self._engine.outside.on_thread():
            await asyncio.shield(self._begin_stop(reason, timeout))
        else:
            await asyncio.get_running_loop().run_in_executor(None, self.stop, reason, timeout)

    def request_stop(self, reason: Reason, timeout: float) -> None:
        """Stop without waiting."""
        self._engine.post(self._begin_stop, reason, timeout)

    def stop_at_exit(self) -> None:
        """The interpreter exits and nobody stopped this engine."""
        if self._engine.outside.closed:
            return  # somebody tried, in vain
        try:
            self.stop(SHUTDOWN, AT_EXIT)
        except UsageError:
            return  # a forked child exits: the engine is its parent's

    def _begin_stop(self, reason: Reason, timeout: float) -> asyncio.Task[None]:
        if self._stopping is None:
            self._stopping = self._engine.create_task(self._stop(reason, timeout))
        return self._stopping

    async def _stop(self, reason: Reason, timeout: float) -> None:
        engine = self._engine
        engine.stop_reason = reason
        try:
            await self._stop_actors(reason, timeout)
            engine.router.refuse_all_parked()
            engine.outside.close()
            await self._stop_tasks()
        finally:
            self._let_go()

    async def _stop_actors(self, reason: Reason, timeout: float) -> None:
        """Ask the top-level actors one after the other, the youngest first; kill what does not end in time."""
        engine = self._engine
        deadline = engine.now() + timeout
        for cell in list(engine.cells.values()):
            if cell.elsewhere and cell.status == INIT:
                cell.die(SHUTDOWN)  # its supervisor waits for the start, which may never end
        while engine.cells:
            for cell in reversed(list(engine.cells.values())):
                if not cell.alive or (cell.parent is not None and cell.parent.alive):
                    continue
                cell.signal(reason, None, from_parent=True)
                over, _ = await engine.wait_down(cell.address, max(0.0, deadline - engine.now()))
                if not over:
                    engine.kill(cell.address, KILL)

    async def _stop_tasks(self) -> None:
        """Cancelled tasks of actors that ended get a moment to clean up (close sockets, say)."""
        mine = self._engine.owned_tasks()
        if mine:
            await asyncio.wait(mine, timeout=LAST_WORDS)
        # Closed transports need a turn of the loop to let go of their file descriptors.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _break_off(self) -> None:
        """The caller's loop ends under the engine: end everything now, and let nobody wait for ever."""
        engine = self._engine
        engine.stop_reason = "the event loop it ran on has ended"
        for cell in list(engine.cells.values()):
            cell.die(SHUTDOWN)
        engine.router.refuse_all_parked()
        engine.outside.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._stopped.is_set():
            return  # a stop was under way when the loop ended
        engine = self._engine
        engine.outside.closed = True
        engine.log.garbage.close()
        engine.timers.close()
        engine.executor.shutdown(wait=False, cancel_futures=True)
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
            self._at_exit = None
        if self._guard is not None:
            self._guard.cancel()
        self._stopped.set()
        if self.own:
            engine.loop.call_soon(engine.loop.stop)
        engine.ended.set_result(engine.stop_reason)
