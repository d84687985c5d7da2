"""The run queue: which actor handles messages next, fair to each other and to the event loop.

An actor handles at most its batch of messages before the next one's turn, and after ``TURN_BUDGET``
messages or ``TURN_SECONDS`` the event loop runs its timers and sockets. An actor whose messages take long
gets smaller batches. A call from a coroutine runs the queue on the spot (at most ``INLINE_CREDIT`` times
between two turns of the loop), so that a reply that needs no waiting costs no trip through the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .address import LocalAddress
from .calls import MAX_DEPTH, Call
from .cell import MAX_BATCH, OPEN, SUSPENDED, Cell

if TYPE_CHECKING:
    from .routing import Router

TURN_BUDGET: Final = 512
TURN_SECONDS: Final = 0.01
LONG_BATCH: Final = 0.005
"""Seconds after which an actor's batch counts as long: its next batch is a single message."""
INLINE_CREDIT: Final = 64
HAND_OVER: Final = 50e-6
"""Seconds the engine sleeps after waking an outside thread while it has more to do: without a gap
the waiting thread gets the interpreter lock only after its switch interval, again and again."""


class Scheduler:
    """The run queue of one engine.

    Args:
        loop: the event loop.
        slow_handler: seconds after which an actor that held the loop is reported.
        on_slow: told the actor and the seconds.

    Attributes:
        router: places the calls of coroutines; set by the engine.
        running: the actor whose messages are handled now, if any.
    """

    router: Router

    def __init__(
        self, loop: asyncio.AbstractEventLoop, slow_handler: float, on_slow: Callable[[Cell, float], None]
    ) -> None:
        self._loop = loop
        self._slow_handler = slow_handler
        self._on_slow = on_slow
        self._ready: deque[Cell] = deque()
        self._unarmed: list[Call] = []
        self._woken = False
        self._draining = False
        self._credit = INLINE_CREDIT
        self._hand_over = False
        # Plain handlers run in no context of anybody's: neither a caller's nor a thread's.
        self.context = contextvars.Context()
        self.running: Cell | None = None

    def schedule(self, cell: Cell) -> None:
        """A cell has messages and may run."""
        self._ready.append(cell)
        if not self._draining and not self._woken:
            self._wake()

    def watch_deadline(self, call: Call) -> None:
        """Start the call's timer before the loop sleeps, unless it is answered by then."""
        self._unarmed.append(call)
        if not self._draining and not self._woken:
            self._wake()

    def hand_over(self) -> None:
        """An outside thread was woken: let it have the interpreter lock soon."""
        self._hand_over = True

    def place_inline(self, call: Call, caller: Cell, fail_fast: bool) -> None:
        """Place a call of a coroutine of ``caller``, and have it answered on the spot if that is allowed now."""
        if self._draining or self._credit <= 0:
            self.router.place(call, caller.namespace, fail_fast)
            return
        self._credit -= 1
        self._draining = True
        self.context.run(self._place_inline, call, caller, fail_fast)

    def _place_inline(self, call: Call, caller: Cell, fail_fast: bool) -> None:
        target = call.target
        if type(target) is LocalAddress:
            cell = target.cell
        else:
            call.target, cell = self.router.running(target, caller.namespace)
        # Idle: nothing waits before the call, and who is idle does not wait for its maker either.
        if (
            cell is not None
            and not cell.scheduled
            and cell.status == OPEN
            and call.depth <= MAX_DEPTH
            and self._answered_now(cell, call)
        ):
            return
        call.target = target
        try:
            self.router.place(call, caller.namespace, fail_fast)
        finally:
            self._drain(MAX_BATCH)

    def _answered_now(self, cell: Cell, call: Call) -> bool:
        clock = time.perf_counter
        began = clock()
        cell.scheduled, self.running = True, cell
        taken = True
        try:
            taken = cell.take_now(call)
        finally:
            self.running = None
            if taken:
                self._rest(cell)
                if call.deadline is not None and not call.settled:
                    self._unarmed.append(call)
                self._over()
        if not taken:
            cell.scheduled = False
        elif (took := clock() - began) > LONG_BATCH:
            self._took_long(cell, took)
        return taken

    def run_posted(self, work: Callable[[], None]) -> None:
        """Do what another thread asked for, and serve the queue at once: the asker waits."""
        if self._draining:
            work()
            return
        self._draining = True
        try:
            work()
        finally:
            self._serve()

    def _wake(self) -> None:
        self._woken = True
        self._loop.call_soon(self._turn, context=self.context)

    def _turn(self) -> None:
        self._woken = False
        self._serve()

    def _serve(self) -> None:
        self._credit = INLINE_CREDIT
        self._draining = True
        self._drain(TURN_BUDGET)
        if self._hand_over:
            self._hand_over = False
            if self._ready:
                time.sleep(HAND_OVER)  # noqa: TID251 - the point is to let go of the interpreter lock

    def _drain(self, budget: int) -> None:
        ready = self._ready
        clock = time.perf_counter
        now = clock()
        until = now + TURN_SECONDS
        try:
            while ready and budget > 0 and now < until:
                cell = ready.popleft()
                self.running = cell
                before, began = cell.handled, now
                try:
                    cell.run(cell.batch)
                finally:
                    self._rest(cell)
                budget -= cell.handled - before or 1
                now = clock()
                if now - began > LONG_BATCH:
                    self._took_long(cell, now - began)
                elif cell.batch < MAX_BATCH:
                    cell.batch *= 2
                if self._hand_over:
                    break
        finally:
            self._over()

    def _rest(self, cell: Cell) -> None:
        """The cell has had its turn."""
        if cell.status == OPEN:
            if cell.mailbox:
                self._ready.append(cell)
            else:
                cell.scheduled = False
        elif cell.status == SUSPENDED:
            cell.scheduled = False

    def _over(self) -> None:
        """The queue has been served for now."""
        self.running = None
        self._draining = False
        if self._unarmed:
            self._arm()
        if self._ready and not self._woken:
            self._wake()

    def _took_long(self, cell: Cell, seconds: float) -> None:
        cell.batch = 1
        if seconds > self._slow_handler:
            self._on_slow(cell, seconds)

    def _arm(self) -> None:
        calls, self._unarmed = self._unarmed, []
        for call in calls:
            if not call.settled:
                call.arm()
