"""The way in from other threads and other event loops.

Everything is handed to the engine's thread through one queue; a burst costs one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from thespian.actors import Actor

from .calls import BlockingCall, Call, FutureCall
from .context import Context
from .errors import ApplicationDown, CallTimeout, Error, ForkedProcess, StartError, WrongThread
from .outcomes import Started
from .reasons import describe

if TYPE_CHECKING:
    from .cell import Cell
    from .engine import Engine

T = TypeVar("T")
GRACE = 0.05
"""Seconds that a blocking caller grants a busy engine to say itself that the time is up."""


class Outside:
    """The entrance of one engine.

    Attributes:
        closed: the engine has stopped; nothing comes in any more.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._inbox: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._signalled = False
        self._pid = os.getpid()
        self._calls: dict[Call, None] = {}
        self._idle: list[asyncio.Future[None]] = []
        self._at_close: dict[int, Callable[[], None]] = {}
        self.closed = False

    # -- functions on the engine's thread ----------------------------------------------------------

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` called on the engine's thread, soon, in order. From any thread.

        Raises:
            ApplicationDown: the engine has stopped.
            ForkedProcess: this is a forked child.
        """
        self.check_process()
        with self._lock:
            if self.closed:
                raise self._engine.router.down()
            self._inbox.append((function, args))
            if self._signalled:
                return
            self._signalled = True
        scheduler = self._engine.scheduler
        try:
            self._engine.loop.call_soon_threadsafe(scheduler.run_posted, self._take, context=scheduler.context)
        except RuntimeError as error:  # the caller's loop, on which the engine ran, is closed
            self.closed = True
            raise self._engine.router.down() from error

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function(*args)`` on the engine's thread and wait for its result."""
        self.check_process()
        if self.on_thread():
            return function(*args)
        done: Future[T] = Future()

        def work() -> None:
            try:
                done.set_result(function(*args))
            except BaseException as error:  # fault boundary: it is raised at the waiting thread
                done.set_exception(error)

        self.post(work)
        return done.result()

    def run_coroutine(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and wait for its result; Ctrl-C while waiting cancels it.

        Raises:
            WrongThread: this is the engine's own thread; await there.
        """
        try:
            self.refuse_here("call", "await it there")
        except Error:
            work.close()
            raise
        waiting = asyncio.run_coroutine_threadsafe(work, self._engine.loop)
        try:
            return waiting.result()
        except BaseException:  # fault boundary: Ctrl-C in the waiting thread, or the work's own failure; raised again
            waiting.cancel()
            raise

    def spawn(
        self, cls: type[Actor], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Started:
        """Start an actor and wait until it runs; options as of ``Engine.spawn``.

        Raises:
            StartError: it did not start.
        """
        outcome = self.run_coroutine(self._engine.spawn(cls, args, kwargs, **options))
        if isinstance(outcome, Started):
            return outcome
        reason = getattr(outcome, "reason", "ignore")
        raise StartError(f"{cls.__name__} did not start: {describe(reason)}", reason=reason)

    def _take(self) -> None:
        self._signalled = False
        inbox = self._inbox
        for _ in range(len(inbox)):
            function, args = inbox.popleft()
            try:
                function(*args)
            except Exception as error:  # fault boundary: what one poster asked for must not cost the next one's
                self._engine.log.callback_failed(function, error)

    # -- calls -------------------------------------------------------------------------------------

    def call_blocking(
        self,
        target: Any,
        message: Any,
        *,
        timeout: float | None,
        namespace: str = "",
        fail_fast: bool = False,
        parent: Call | None = None,
        holder: Cell | None = None,
        context: Context | None = None,
    ) -> Any:
        """Ask and wait, in a thread that is not the engine's.

        Args:
            target: a name or an address.
            message: what to ask.
            timeout: seconds, None for ever.
            namespace: where the name is looked up.
            fail_fast: refuse at once if the name is restarting, instead of waiting for it.
            parent: the call that this one is made for.
            holder: the actor whose handler waits for it.
            context: the trace to go on in.

        Raises:
            CallError: there is no reply, or the error the target failed with.
            WrongThread: this is the engine's own thread.
            ForkedProcess: this is a forked child.
        """
        self.refuse_here("call", "await the same call of the awaitable view")
        call = BlockingCall(self._engine, target, message, timeout, parent, holder, context)
        self.post(self._place, call, namespace, fail_fast)
        wait = None if call.deadline is None else call.deadline - self._engine.now() + GRACE
        try:
            answered = call.wait(wait)
        except BaseException:  # fault boundary: Ctrl-C in the waiting thread; it is raised again
            self._give_up(call)
            raise
        if not answered:
            # The engine's own timer settles a call in time, unless the engine is stuck in a handler.
            self._give_up(call)
            raise CallTimeout(
                f"no reply from {target!s} to {type(message).__name__} within {call.within}; the engine is busy",
                target=str(target),
                timeout=timeout,
                state="unknown",
            )
        if call.error is not None:
            raise call.error
        return call.value

    def _give_up(self, call: Call) -> None:
        try:
            self.post(self._abandon, call)
        except ApplicationDown:
            return  # then the call has ended with the engine

    def _abandon(self, call: Call) -> None:
        call.abandon()
        self.forget(call)

    async def call_async(
        self,
        target: Any,
        message: Any,
        *,
        timeout: float | None,
        namespace: str = "",
        fail_fast: bool = False,
        context: Context | None = None,
    ) -> Any:
        """Ask from a coroutine on any event loop; cancelling it gives the call up. Arguments as above.

        Raises:
            CallError: there is no reply, or the error the target failed with.
            ForkedProcess: this is a forked child.
        """
        self.check_process()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = FutureCall(self._engine, target, message, timeout, None, None, context, answer)
        if self.on_thread():
            if self.closed:
                raise self._engine.router.down()
            self._place(call, namespace, fail_fast)
        else:
            self.post(self._place, call, namespace, fail_fast)
        try:
            return await answer
        except asyncio.CancelledError:
            self._give_up(call)
            raise

    def cast(self, target: Any, message: Any, *, namespace: str = "", context: Context | None = None) -> None:
        """Tell an actor; never fails while the engine runs (OTP GS-05). From any thread."""
        self.check_process()
        if self.closed:
            raise self._engine.router.down()
        if self.on_thread():
            self._engine.router.cast(target, message, namespace, context)
        else:
            self.post(self._engine.router.cast, target, message, namespace, context)

    def _place(self, call: Call, namespace: str, fail_fast: bool) -> None:
        if self.closed:
            call.fail(self._engine.router.down())
            return
        self._calls[call] = None
        self._engine.router.place(call, namespace, fail_fast)

    def forget(self, call: Call) -> None:
        """A call from outside ended."""
        self._calls.pop(call, None)
        if not self._calls:
            for waiting in self._idle:
                if not waiting.done():
                    waiting.set_result(None)
            self._idle.clear()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until no call from outside is in progress, at most so long, on the engine's loop; whether it is so."""
        if self._calls:
            waiting: asyncio.Future[None] = self._engine.loop.create_future()
            self._idle.append(waiting)
            await asyncio.wait([waiting], timeout=seconds)
        return not self._calls

    # -- the end -----------------------------------------------------------------------------------

    def at_close(self, key: int, tell: Callable[[], None] | None) -> None:
        """Have ``tell()`` called when the engine has stopped; None takes it back."""
        if tell is None:
            self._at_close.pop(key, None)
        else:
            self._at_close[key] = tell

    def close(self) -> None:
        """Refuse whatever comes from now on, and answer whoever waits. On the engine's thread."""
        with self._lock:
            self.closed = True
        self._take()
        for call in list(self._calls):
            call.fail(self._engine.router.down())
        for tell in list(self._at_close.values()):
            tell()

    # -- guards ------------------------------------------------------------------------------------

    def on_thread(self) -> bool:
        """Whether the calling thread is the engine's."""
        return threading.get_ident() == self._engine.thread_id

    def refuse_here(self, what: str, instead: str) -> None:
        """Refuse a blocking call where it would wait for ever, or when the engine has stopped.

        Raises:
            WrongThread: this is the engine's own thread.
            ApplicationDown: the engine has stopped.
            ForkedProcess: this is a forked child.
        """
        self.check_process()
        if self.closed:
            raise self._engine.router.down()
        if self.on_thread():
            raise WrongThread(f"a blocking {what} on the engine's own thread would wait for ever; {instead}")

    def check_process(self) -> None:
        """Refuse any use in a forked child: the engine's thread does not exist there.

        Raises:
            ForkedProcess: this is a forked child.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess(
                f"this engine belongs to process {self._pid}; process {os.getpid()} was forked from it: start another",
                owner=self._pid,
            )
