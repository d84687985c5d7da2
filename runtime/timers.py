"""A timer heap with cancel, over one timer of the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
from collections.abc import Callable, Iterator
from typing import Any

from .errors import UsageError

_COMPACT_AT = 512


class Timer:
    """One pending timer. ``cancel`` returns whether it came in time."""

    __slots__ = ("_args", "_fire", "_heap", "when")

    def __init__(self, when: float, fire: Callable[..., None], args: tuple[Any, ...], heap: TimerHeap) -> None:
        self.when = when
        self._fire: Callable[..., None] | None = fire
        self._args = args
        self._heap = heap

    @property
    def owner(self) -> object:
        """Whose method it calls, if it is a method."""
        return getattr(self._fire, "__self__", None)

    @property
    def active(self) -> bool:
        """Whether it neither fired nor was cancelled."""
        return self._fire is not None

    def cancel(self) -> bool:
        """Cancel; True if it had not fired (or been cancelled) yet."""
        if self._fire is None:
            return False
        self._fire, self._args = None, ()
        self._heap.note_cancelled()
        return True

    def fire(self) -> None:
        """Call the function, once."""
        fire, args = self._fire, self._args
        self._fire, self._args = None, ()
        if fire is not None:
            fire(*args)


class TimerHeap:
    """All timers of one engine; only the earliest is known to the event loop.

    Timers of the same moment fire in the order in which they were started.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Timer]] = []
        self._context = contextvars.Context()
        self._count = 0
        self._cancelled = 0
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def at(self, when: float, fire: Callable[..., None], *args: Any) -> Timer:
        """Call ``fire(*args)`` at ``when``, in seconds on the loop's clock.

        Raises:
            UsageError: ``when`` is no number.
        """
        if math.isnan(when):
            raise UsageError("expected a moment in seconds, got nan")
        timer = Timer(when, fire, args, self)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, timer))
        if self._heap[0][2] is timer:
            self._arm()
        return timer

    def pending(self) -> Iterator[Timer]:
        """All timers that are active."""
        return (timer for _, _, timer in self._heap if timer.active)

    def note_cancelled(self) -> None:
        """A timer in the heap was cancelled; sweep when most of the heap is dead."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_AT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Drop everything."""
        self._heap.clear()
        self._cancelled = 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        # In a context of its own: the one of whoever started the timer is none of its business.
        when = self._heap[0][0] if self._heap else None
        self._handle = None if when is None else self._loop.call_at(when, self._run, context=self._context)

    def _run(self) -> None:
        self._handle = None
        # The loop may call up to one clock tick early; treat that as on time.
        now, last = self._loop.time() + 1e-9, self._count
        # A timer started meanwhile waits for its own run, or one that starts itself again would go on for ever.
        try:
            while self._heap and self._heap[0][0] <= now and self._heap[0][1] <= last:
                timer = heapq.heappop(self._heap)[2]
                if timer.active:
                    timer.fire()
                else:
                    self._cancelled -= 1
        finally:
            if self._handle is None:
                self._arm()
