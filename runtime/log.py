"""What the engine says: telemetry events, and log lines through structlog over ``logging``.

The logger is wrapped here, locally: neither ``structlog`` nor ``logging`` is configured for the
host program. Messages are named by their class only; their content may be private.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from .garbage import Garbage
from .reasons import Crash, describe
from .scope import current_context

if TYPE_CHECKING:
    from .calls import Call
    from .cell import Cell
    from .dead_letters import DeadLetter
    from .engine import Engine

_NOT_SHOWN: Final = ("event", "exc_info", "traceback")
_ONE: Final[Mapping[str, int]] = {"count": 1}


def add_trace(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: puts the trace, span and user of the running actor into the event."""
    context = current_context()
    if context is not None:
        event.setdefault("trace_id", context.trace_id)
        event.setdefault("span_id", context.span_id)
        if context.user is not None:
            event.setdefault("user", context.user)
    return event


def say_it_all(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: a message that reads by itself, where the host program shows no extra fields."""
    shown = (f"{name}={value}" for name, value in event.items() if name not in _NOT_SHOWN)
    event["event"] = " ".join([str(event.get("event")), *shown])
    return event


class Logger:
    """A structlog logger over ``logging.getLogger(name)`` that carries the trace; it configures nothing.

    structlog is loaded at the first line that somebody will read: with all it brings along it is a
    tenth of the time that a start takes.
    """

    def __init__(self, name: str) -> None:
        self._target = logging.getLogger(name)
        self._bound: Any = None

    def debug(self, event: str, **fields: Any) -> None:
        """For who looks for a defect."""
        self._say(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What is as it should be."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What somebody should look at."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """What went wrong for good."""
        self._say(logging.ERROR, event, fields)

    def _say(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if not self._target.isEnabledFor(level):
            return
        if self._bound is None:
            self._bound = _bind(self._target)
        self._bound.log(level, event, **fields)


def _bind(target: logging.Logger) -> Any:
    import structlog  # noqa: PLC0415 - its import costs more than the rest; not every run logs

    return structlog.wrap_logger(
        target,
        processors=[say_it_all, add_trace, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def get_logger(name: str = "dspex") -> Logger:
    """The logger of one part of dspex, by its dotted name."""
    return Logger(name)


class EngineLog:
    """Reports of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._log = get_logger("dspex.engine")
        self.garbage = Garbage()
        self._telling = False

    def slow_handler(self, cell: Cell, seconds: float) -> None:
        """An actor held the loop for too long, just now; what Python's collector took of that does not count."""
        now = time.perf_counter()
        seconds -= self.garbage.seconds(now - seconds, now)
        if seconds <= self._engine.slow_handler:
            return
        self._engine.counters.slow_handlers += 1
        self._tell("slow_handler", {"seconds": seconds}, {"actor": cell.label})
        self._log.warning(
            "a handler held the loop; let it await, or make its actor blocking",
            actor=cell.label,
            seconds=round(seconds, 3),
        )

    def stuck_handler(self, cell: Cell, message_type: str, seconds: float) -> None:
        """An actor's handler takes too long: its mailbox waits."""
        self._engine.counters.stuck_handlers += 1
        told = {"actor": cell.label, "message_type": message_type}
        self._tell("stuck_handler", {"seconds": seconds}, told)
        self._log.warning("a handler does not come to an end", **told, seconds=round(seconds, 1))

    def deadlock(self, circle: Sequence[tuple[Cell, Call | None]]) -> None:
        """Actors wait for each other: each one's handler, by a call or for a start or an end, for the next one."""
        self._engine.counters.deadlocks += 1
        chain = tuple(cell.label for cell, _ in circle)
        messages = tuple(None if call is None else type(call.message).__name__ for _, call in circle)
        deadlines = [call.deadline for _, call in circle if call is not None and call.deadline is not None]
        left = min(deadlines) - self._engine.now() if deadlines else math.inf
        self._tell("deadlock", {"count": 1, "seconds_left": left}, {"chain": chain, "messages": messages})
        path = " -> ".join((*chain, chain[0]))
        self._log.warning("actors wait for each other", path=path, messages=messages, seconds_left=round(left, 1))

    def late_reply(self, call: Call) -> None:
        """A reply came after its caller had gone."""
        self._engine.counters.late_replies += 1
        self._tell("late_reply", _ONE, {"target": str(call.target), "message_type": type(call.message).__name__})

    def late_output(self, cell: Cell) -> None:
        """Code of an actor that has ended already still said something."""
        self._engine.counters.late_output += 1
        self._tell("late_output", _ONE, {"actor": cell.label})

    def overloaded(self, cell: Cell, message: Any) -> None:
        """A full mailbox refused a message."""
        self._engine.counters.overloaded += 1
        self._tell("overloaded", _ONE, {"actor": cell.label, "message_type": type(message).__name__})

    def dead_letter(self, letter: DeadLetter) -> None:
        """A message reached nobody."""
        self._tell("dead_letter", _ONE, {"target": letter.target, "message_type": letter.message_type})

    def unhandled(self, cell: Cell, message: Any) -> None:
        """A plain message without a handler."""
        self._engine.counters.unhandled += 1
        kind = type(message).__name__
        self._tell("unhandled", _ONE, {"actor": cell.label, "message_type": kind})
        self._log.info("unhandled message", actor=cell.label, message_type=kind)

    def crashed(self, cell: Cell, crash: Crash) -> None:
        """An actor ends by an exception; if it has a supervisor, that one reports it."""
        self._engine.counters.crashed += 1
        self._tell("crashed", _ONE, {"actor": cell.label, "reason": crash})
        tell = self._log.debug if cell.supervised else self._log.error
        tell("an actor crashed", actor=cell.label, reason=describe(crash), exc_info=crash.error)

    def creation_failed(self, parent: Cell, error: Exception) -> None:
        """A plain actor's constructor failed."""
        self._log.warning(
            "an actor could not be created", parent=parent.label, error=f"{type(error).__name__}: {error}"
        )

    def callback_failed(self, function: Callable[..., Any], error: Exception) -> None:
        """A function that the engine was asked to call failed."""
        name = getattr(function, "__qualname__", repr(function))
        self._log.error("a function called by the engine failed", function=name, exc_info=error)

    def task_exited(self, error: BaseException) -> None:
        """A task that is no actor's own, such as one of ``asyncio.gather``, ended with ``sys.exit``."""
        self._log.error("a task ended with an exit; the engine goes on", exc_info=error)

    def stop_overdue(self, running: Cell | None, seconds: float) -> None:
        """The engine does not stop, because a handler holds its thread."""
        actor = "nobody" if running is None else running.label
        self._log.error("the engine did not stop in time; its thread is left behind", running=actor, seconds=seconds)

    def resource_closed(self, task: asyncio.Task[Any], owner: str) -> None:
        """An asynchronous close is over."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.close_failed(owner, error)

    def close_failed(self, owner: str, error: BaseException) -> None:
        """Closing something an ended actor owned failed."""
        self._log.warning("closing a resource failed", owner=owner, error=f"{type(error).__name__}: {error}")

    def _tell(self, event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        # A handler that causes such an event itself (a cast to nobody, say) must not be told of it for ever.
        if not self._telling:
            self._telling = True
            try:
                self._engine.telemetry.execute(("dspex", "engine", event), measurements, metadata)
            finally:
                self._telling = False
