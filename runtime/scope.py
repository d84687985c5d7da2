"""Where the running code stands: in which actor, for which call, in which trace.

Coroutines carry it in a context variable. Plain handlers do not pay for one: while such a handler
runs, the engine's thread knows its actor.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .address import known_engines
from .context import Context

if TYPE_CHECKING:
    from .calls import Call
    from .cell import Cell


class Scope:
    """What a handler's or a task's coroutine runs for.

    Attributes:
        cell: the actor.
        call: the call being served, or None.
        context: the trace context, or None while nobody asked for one.
        in_handler: whether the actor's mailbox waits for this code (a task's code does not hold it up).
    """

    __slots__ = ("call", "cell", "context", "in_handler")

    def __init__(self, cell: Cell, call: Call | None, context: Context | None, in_handler: bool) -> None:
        self.cell = cell
        self.call = call
        self.context = context
        self.in_handler = in_handler


SCOPE: ContextVar[Scope | None] = ContextVar("dspex_scope", default=None)


@contextmanager
def awaiting(other: Cell) -> Generator[None, None, None]:
    """The calling code waits for another actor's start or end: noted at its own actor, if its mailbox waits too."""
    scope = SCOPE.get()
    if scope is None or not scope.in_handler:
        yield
        return
    cell = scope.cell
    if cell.awaits is None:
        cell.awaits = {}
    cell.awaits[other] = None
    try:
        yield
    finally:
        cell.awaits.pop(other, None)


def current_context() -> Context | None:
    """The trace context of the code that calls, for log processors and the like; None outside actors."""
    # A plain handler that answers a coroutine's call on the spot runs in that coroutine's context: the
    # engine knows better who runs.
    thread = threading.get_ident()
    for engine in known_engines():
        if engine.thread_id == thread and engine.running is not None:
            return engine.running.context
    scope = SCOPE.get()
    return scope.context if scope is not None else None
