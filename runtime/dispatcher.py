"""Daemon threads for code that blocks (a *dispatcher*, as Akka calls it).

The pool of ``concurrent.futures`` joins its threads when the interpreter exits, so one abandoned
blocking call would hang it for ever. These threads are daemons, and started only when needed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from .errors import ApplicationDown

P = ParamSpec("P")
T = TypeVar("T")


class DaemonDispatcher(Executor):
    """An executor of daemon threads.

    Args:
        max_threads: more work than this waits for a free thread.
        idle_seconds: a thread without work for so long ends.
        name: prefix of the threads' names.
    """

    def __init__(self, max_threads: int = 64, idle_seconds: float = 10.0, name: str = "dspex") -> None:
        self._max_threads = max_threads
        self._idle_seconds = idle_seconds
        self._name = name
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._condition = threading.Condition()
        self._threads: dict[threading.Thread, None] = {}
        self._ending: list[threading.Thread] = []
        self._idle = 0
        self._started = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` on one of the threads.

        Raises:
            ApplicationDown: the dispatcher was shut down.
        """
        future: Future[T] = Future()
        with self._condition:
            if self._closed:
                raise ApplicationDown("the dispatcher has shut down", reason="shutdown")
            self._work.append((future, lambda: fn(*args, **kwargs)))
            if self._idle >= len(self._work):
                self._condition.notify()
            elif len(self._threads) < self._max_threads:
                self._started += 1
                thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True)
                self._threads[thread] = None
                thread.start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Refuse new work and let the threads end. A thread that is stuck in user code is abandoned."""
        with self._condition:
            self._closed = True
            if cancel_futures:
                for future, _ in self._work:
                    future.cancel()
                self._work.clear()
            self._condition.notify_all()
            self._ending = [*self._ending, *self._threads]
        if wait:
            for thread in self._ending:
                thread.join()

    def join(self, timeout: float) -> None:
        """After a shutdown: wait up to ``timeout`` seconds, in all, for the threads to end."""
        deadline = time.monotonic() + timeout
        for thread in self._ending:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def threads(self) -> int:
        """Threads alive now."""
        return len(self._threads)

    def _serve(self) -> None:
        try:
            while (job := self._next()) is not None:
                future, work = job
                if future.set_running_or_notify_cancel():
                    _settle(future, work)
                del future, work, job  # keep no result alive while idle
        finally:
            with self._condition:
                self._threads.pop(threading.current_thread(), None)

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._condition:
            self._idle += 1
            try:
                if not self._work and not self._closed:
                    self._condition.wait_for(lambda: bool(self._work) or self._closed, self._idle_seconds)
                return self._work.popleft() if self._work else None
            finally:
                self._idle -= 1


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:  # fault boundary: the caller's future carries it
        future.set_exception(error)
    else:
        future.set_result(result)


class InlineDispatcher(Executor):
    """Runs everything at once in the calling thread: no threads, for runs in virtual time."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` now; the future is done when this returns."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        _settle(future, lambda: fn(*args, **kwargs))
        return future
