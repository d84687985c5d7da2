"""An asyncio event loop whose time jumps: when nothing is ready, it is the next timer's moment at once."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is pending: the run would wait for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: passes the timeout on to the loop's clock instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Deadlock("nothing is ready and no timer is pending")
        if timeout > 0:
            self.loop.jump(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop in virtual time; its sockets work, but nobody waits for them.

    Args:
        start: the first moment, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self._moment = start

    def time(self) -> float:
        """Virtual seconds."""
        return self._moment

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._moment += seconds


class LoopClock:
    """A clock that reads a loop's time, for both kinds of time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        """Seconds on the loop's clock."""
        return self._loop.time()

    def time(self) -> float:
        """The same seconds as wall-clock time."""
        return self._loop.time()
