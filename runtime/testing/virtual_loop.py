"""An asyncio event loop whose time jumps: when nothing is ready, it is the next timer's moment at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is pending (or time may not move by itself): the run would wait for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: passes the timeout on to the loop's clock instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0) or self.loop.tell_idle():
            return events
        self.loop.pass_time(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop in virtual time; its sockets work, but nobody waits for them.

    Args:
        start: the first moment, in seconds.
        auto_jump: whether time moves by itself when nothing is left to do.
    """

    def __init__(self, start: float = 1000.0, *, auto_jump: bool = True) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self.auto_jump = auto_jump
        self._moment = start
        self._waiting_for_idle: list[asyncio.Future[None]] = []

    def time(self) -> float:
        """Virtual seconds."""
        return self._moment

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._moment += seconds

    @contextmanager
    def jumping(self) -> Generator[None, None, None]:
        """Time moves by itself in here, whatever ``auto_jump`` says."""
        before, self.auto_jump = self.auto_jump, True
        try:
            yield
        finally:
            self.auto_jump = before

    def idle(self) -> asyncio.Future[None]:
        """Done when nothing is left to do at this moment, before time moves."""
        waiting = self.create_future()
        self._waiting_for_idle.append(waiting)
        return waiting

    def tell_idle(self) -> bool:
        """Nothing is ready: wake who waits for that; whether there was somebody."""
        waiting, self._waiting_for_idle = self._waiting_for_idle, []
        awake = [each for each in waiting if not each.done()]
        for each in awake:
            each.set_result(None)
        return bool(awake)

    def pass_time(self, seconds: float | None) -> None:
        """Nothing is ready for so long (None: for ever): jump there.

        Raises:
            Deadlock: nothing would ever happen, or time moves only by hand.
        """
        if seconds is None:
            raise Deadlock("nothing is ready and no timer is pending")
        if not self.auto_jump:
            raise Deadlock(f"nothing is left to do for {seconds:g} s, and time moves only by hand: advance it")
        self.jump(seconds)


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
