"""The life of one call of a DSPy program: when it is given up, the model calls that its threads wait for end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from ...runtime.engine import Engine
from ...runtime.errors import CallCancelled

T = TypeVar("T")


class Lifeline:
    """Runs work of a program's threads on the engine's loop, until it is cut.

    Python cannot stop a thread. One that computes goes on until its next model call, which is refused.

    Args:
        engine: whose loop it is.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._cut = False
        self._open: dict[Future[Any], None] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for it in a thread.

        Raises:
            CallCancelled: the line is cut, or was meanwhile.
        """
        try:
            return self._submit(work).result()
        except CancelledError:
            raise _given_up() from None

    async def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        """The same for a coroutine on any loop; cancelled, it cancels the work. Raises as :meth:`run`."""
        future = self._submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._cut:
                raise _given_up() from None
            raise

    def cut(self) -> None:
        """End what runs, and refuse what comes. From any thread; twice is once."""
        with self._lock:
            self._cut, running = True, list(self._open)
        for future in running:
            future.cancel()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._cut or self._engine.outside.closed:
                work.close()
                raise _given_up()
            future = asyncio.run_coroutine_threadsafe(work, self._engine.loop)
            self._open[future] = None
        future.add_done_callback(lambda done: self._open.pop(done, None))
        return future


def _given_up() -> CallCancelled:
    return CallCancelled("the call that the program worked for was given up, and its model calls with it")
