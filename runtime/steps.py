"""A coroutine of an actor, run step by step, so that a step that holds the event loop is noticed."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Generator
from types import CodeType
from typing import TYPE_CHECKING, Any

from .outcomes import Exit
from .reasons import Crash

if TYPE_CHECKING:
    from .cell import Cell

Done = Callable[[Any, BaseException | None], None]


class Steps(Coroutine[Any, Any, Any]):
    """What a task of an actor runs: the actor's coroutine, watched at each step.

    Args:
        cell: the actor.
        work: its coroutine.
        done: told the result or the exception as soon as the coroutine is over, unless the actor has
            ended by then; without it the task itself carries the outcome. A ``SystemExit`` becomes an
            ``Exit`` of the actor: raised out of a task it would end the whole loop.
    """

    __slots__ = ("_cell", "_done", "_taken", "_work")

    def __init__(self, cell: Cell, work: Coroutine[Any, Any, Any], done: Done | None = None) -> None:
        self._cell = cell
        self._work = work
        self._done = done
        self._taken: Any = None

    def begin(self, context: contextvars.Context) -> bool:
        """Take the first step now, without a task; whether that was all.

        For coroutines that mostly end without waiting, and do not ask which task they run in. One that
        waits is given to a task next, which finds the first step taken.
        """
        try:
            self._taken = context.run(self.send, None)
        except StopIteration:
            return True
        except BaseException:  # fault boundary: the actor ended in this very step, nobody wants the outcome
            if self._cell.alive:
                raise
            return True
        return False

    @property
    def code(self) -> CodeType | None:
        """What code it runs."""
        return getattr(self._work, "cr_code", None)

    def send(self, value: Any, /) -> Any:
        """Run until the next suspension."""
        if self._taken is not None:
            taken, self._taken = self._taken, None
            return taken
        return self._step(self._work.send, value)

    def throw(self, *exception: Any) -> Any:
        """Raise an exception in the coroutine, and run until the next suspension."""
        self._taken = None
        return self._step(self._work.throw, *exception)

    def close(self) -> None:
        """End the coroutine."""
        self._work.close()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._work.__await__()

    def _step(self, resume: Callable[..., Any], *args: Any) -> Any:
        cell = self._cell
        began = time.perf_counter()
        try:
            return resume(*args)
        except StopIteration as end:
            if self._done is None:
                raise
            result, failure = end.value, None
        except BaseException as error:  # fault boundary: an actor's coroutine ends at most the actor (OTP GS-08)
            cell.engine.reraise_interrupt(error)
            if self._done is None and isinstance(error, SystemExit):
                raise Exit(Crash(error)) from error
            if self._done is None or (isinstance(error, asyncio.CancelledError) and not cell.alive):
                raise
            # Of an actor that has ended already nobody wants to know; a task that carried it would complain.
            result, failure = None, error
        finally:
            seconds = time.perf_counter() - began
            if seconds > cell.engine.slow_handler:
                cell.engine.log.slow_handler(cell, seconds)
        if cell.alive:
            self._done(result, failure)
        raise StopIteration


__all__ = ("Done", "Steps")
