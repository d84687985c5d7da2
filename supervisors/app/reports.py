"""Supervisor reports and engine warnings, brought to where people look: the event store and the log.

A telemetry handler like any other. It runs on the engine's thread, inside the supervisor that
reports, so it only casts and logs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ...actors.events.kinds import EngineReport, Event, SupervisorReport
from ...actors.events.outbox import EventOutbox
from ...runtime.context import Context
from ...runtime.engine import Engine
from ...runtime.errors import Error
from ...runtime.log import get_logger
from ...runtime.reasons import Crash, describe
from ...runtime.telemetry import EventName, Handler
from ..reports import REPORT_EVENT
from .failure import unfold

Facts: TypeAlias = Mapping[str, Any]
DEADLOCK: Final = ("dspex", "engine", "deadlock")
STUCK_HANDLER: Final = ("dspex", "engine", "stuck_handler")


class ReportHandler:
    """Turns each supervisor report into an event and a log line, and what the engine's watchdog finds into an event.

    Args:
        engine: whose telemetry it listens to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outbox = EventOutbox(engine)
        self._log = get_logger("dspex.supervisor")

        self._handlers: dict[str, tuple[EventName, Handler]] = {
            "dspex.reports": (REPORT_EVENT, self._report),
            "dspex.deadlock": (DEADLOCK, self._deadlock),
            "dspex.stuck_handler": (STUCK_HANDLER, self._stuck_handler),
        }

    def attach(self) -> None:
        """Begin to listen."""
        for id, (event, handler) in self._handlers.items():
            self._engine.telemetry.attach(id, event, handler)

    def detach(self) -> None:
        """Stop listening."""
        for id in self._handlers:
            self._engine.telemetry.detach(id)

    def _report(self, event: EventName, measurements: Facts, metadata: Facts, config: Any) -> None:
        supervisor, kind = metadata["supervisor"], metadata["kind"]
        below, reason = unfold(metadata["reason"])
        child = str(metadata["child"].name or metadata["child"].id)
        why = "/".join(below) + ": " * bool(below) + describe(reason)
        self._emit(SupervisorReport, supervisor, kind=kind, supervisor=supervisor, child=child, reason=why)
        # An error of ours says it all in one sentence; of any other one wants to see where.
        unforeseen = isinstance(reason, Crash) and not isinstance(reason.error, Error)
        details = {"exc_info": reason.error} if unforeseen else {}
        self._log.warning(kind, supervisor=supervisor, child=child, reason=why, **details)

    def _deadlock(self, event: EventName, measurements: Facts, metadata: Facts, config: Any) -> None:
        chain, left = metadata["chain"], measurements["seconds_left"]
        seconds = None if math.isinf(left) else max(0.0, left)
        self._emit(
            EngineReport, chain[0], kind="deadlock", actors=chain, messages=metadata["messages"], seconds=seconds
        )

    def _stuck_handler(self, event: EventName, measurements: Facts, metadata: Facts, config: Any) -> None:
        actor, message = metadata["actor"], metadata["message_type"]
        seconds = measurements["seconds"]
        self._emit(EngineReport, actor, kind="stuck_handler", actors=(actor,), messages=(message,), seconds=seconds)

    def _emit(self, cls: type[Event], source: str, **fields: Any) -> None:
        engine = self._engine
        context = Context.root(engine.ids)
        self._outbox.emit(
            cls(
                id=engine.ids.sortable(),
                time=engine.clock.time(),
                trace_id=context.trace_id,
                span_id=context.span_id,
                source=source,
                **fields,
            )
        )
