"""The engine's watchdog: handlers that wait for each other in a circle, and handlers that take too long.

It looks every so often at bookkeeping that is there anyway, so that no message pays for it. What it
finds it tells once: an event, a count, a line in the log. It ends nothing: that is for deadlines and supervisors.

Who waits for whom: an actor waits if its mailbox is held up by a coroutine or a thread of it, and that code made
a call that another such actor has in its mailbox or in hand; or if it waits for an actor to start or to end.
A call that a task made counts for the handler that waits for that task's call, if that one was left to the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .calls import Call
from .cell import BUSY, INIT, TERMINATING, Cell
from .circles import circles
from .server_cell import ServerCell
from .steps import Steps

if TYPE_CHECKING:
    from .engine import Engine

LOOK_EVERY: Final = 1.0
"""Seconds between two looks, of an application."""
STUCK_AFTER: Final = 30.0
"""Seconds that a handler may take, its waiting included."""

Waits = dict[Cell, dict[Cell, Call | None]]
"""For whom each actor waits, and the call by which it does; None where it waits for a start or an end."""


class _Seen(NamedTuple):
    """A handler that was under way at a look."""

    work: Any
    since: float
    told: bool


class Watchdog:
    """Looks after the handlers of one engine. On the engine's thread.

    Args:
        engine: which.
        every: seconds between two looks; None: it only looks when told to.
        stuck_after: seconds that a handler may take, waiting included, unless its actor's class says otherwise.
    """

    def __init__(self, engine: Engine, every: float | None, stuck_after: float) -> None:
        self._engine = engine
        self._every = every
        self._stuck_after = stuck_after
        self._seen: dict[Cell, _Seen] = {}
        self._known: dict[tuple[Any, ...], None] = {}

    def start(self) -> None:
        """Begin to look, if it is to."""
        if self._every is not None:
            self._engine.timers.at(self._engine.now() + self._every, self._look_and_go_on)

    def _look_and_go_on(self) -> None:
        self.start()
        self.look()

    def look(self) -> None:
        """Tell of circles and of handlers that take too long, unless they are known."""
        busy = [cell for cell in self._engine.cells.values() if cell.run_task is not None and _at_work(cell)]
        self._tell_circles(waits(busy))
        self._tell_stuck(busy)

    def _tell_circles(self, waiting: Waits) -> None:
        known, self._known = self._known, {}
        for circle in circles(waiting):
            # Of these very handlers: the same actors may run into it again.
            key = tuple(cell.run_task for cell in circle)
            self._known[key] = None
            if key not in known:
                pairs = zip(circle, (*circle[1:], circle[0]), strict=True)
                self._engine.log.deadlock([(cell, waiting[cell][other]) for cell, other in pairs])

    def _tell_stuck(self, busy: list[Cell]) -> None:
        now, before, self._seen = self._engine.now(), self._seen, {}
        for cell in busy:
            seen = before.get(cell)
            if seen is None or seen.work is not cell.run_task:
                seen = _Seen(cell.run_task, now, False)
            limit = self._limit(cell)
            if not seen.told and limit is not None and now - seen.since >= limit:
                self._engine.log.stuck_handler(cell, in_hand(cell), now - seen.since)
                seen = seen._replace(told=True)
            self._seen[cell] = seen

    def _limit(self, cell: Cell) -> float | None:
        limit: float | None = getattr(cell.actor_class, "handler_limit", None)
        return self._stuck_after if limit == -1 else limit


def _at_work(cell: Cell) -> bool:
    return cell.status in (BUSY, INIT, TERMINATING)


def waits(busy: list[Cell]) -> Waits:
    """Who waits for whom among actors whose handlers are under way."""
    found: Waits = {cell: {} for cell in busy}
    for cell in busy:
        for call in _calls_at(cell):
            waiter = _waiter(call)
            if waiter in found:
                found[waiter].setdefault(cell, call)
    for cell in busy:
        for other in cell.awaits or ():
            if other in found:
                found[cell].setdefault(other, None)
    return {cell: others for cell, others in found.items() if others}


def _calls_at(cell: Cell) -> Iterator[Call]:
    """The open calls that cannot be answered before this actor's handler is over."""
    if cell.call is not None and not cell.call.settled:
        yield cell.call
    for item in cell.mailbox or ():
        if isinstance(item, Call) and not item.settled:
            yield item


def _waiter(call: Call) -> Cell | None:
    """The actor whose handler cannot go on before this call is answered, if there is one."""
    while not call.settled:
        if call.holder is not None:
            return call.holder
        above = call.parent
        # A task beside a handler holds nobody up, unless the answer was left to it.
        if above is None or above.to is None or above not in (above.to.open_calls or ()):
            return None
        call = above
    return None


def in_hand(cell: Cell) -> str:
    """What an actor's handler is about: the class of the call in hand, or the name of the code that runs."""
    if cell.status == INIT:
        return "init"
    if cell.status == TERMINATING:
        return "terminate"
    if cell.call is not None:
        return type(cell.call.message).__name__
    code = _code_of(cell)
    tables = (cell.casts, cell.infos) if isinstance(cell, ServerCell) and code is not None else ()
    for table in tables:
        for kind, handler in table.items():
            if handler is not None and getattr(handler.function, "__code__", None) is code:
                return kind.__name__
    return getattr(code, "co_name", "a message")


def _code_of(cell: Cell) -> Any:
    get_coro = getattr(cell.run_task, "get_coro", None)
    steps = None if get_coro is None else get_coro()
    return steps.code if isinstance(steps, Steps) else None


__all__ = ("LOOK_EVERY", "STUCK_AFTER", "Waits", "Watchdog", "in_hand", "waits")
