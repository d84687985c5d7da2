"""Supervisor reports and engine warnings, brought to where people look: the event store and the log.

A telemetry handler like any other. It runs on the engine's thread, inside the supervisor that
reports, so it only casts and logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...actors.event_outbox import EventOutbox
from ...actors.events import SupervisorReport
from ...runtime.context import Context
from ...runtime.engine import Engine
from ...runtime.errors import Error
from ...runtime.log import get_logger
from ...runtime.reasons import Crash, describe
from ..reports import REPORT_EVENT
from .failure import unfold

HANDLER_ID: Final = "dspex.reports"


class ReportHandler:
    """Turns each supervisor report into an event and a log line.

    Args:
        engine: whose telemetry it listens to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outbox = EventOutbox(engine)
        self._log = get_logger("dspex.supervisor")

    def attach(self) -> None:
        """Begin to listen."""
        self._engine.telemetry.attach(HANDLER_ID, REPORT_EVENT, self._handle)

    def detach(self) -> None:
        """Stop listening."""
        self._engine.telemetry.detach(HANDLER_ID)

    def _handle(
        self, event: tuple[str, ...], measurements: Mapping[str, Any], metadata: Mapping[str, Any], config: Any
    ) -> None:
        supervisor, kind = metadata["supervisor"], metadata["kind"]
        below, reason = unfold(metadata["reason"])
        child = str(metadata["child"].name or metadata["child"].id)
        why = "/".join(below) + ": " * bool(below) + describe(reason)
        context = Context.root(self._engine.ids)
        self._outbox.emit(
            SupervisorReport(
                id=self._engine.ids.sortable(),
                time=self._engine.clock.time(),
                trace_id=context.trace_id,
                span_id=context.span_id,
                source=supervisor,
                kind=kind,
                supervisor=supervisor,
                child=child,
                reason=why,
            )
        )
        # An error of ours says it all in one sentence; of any other one wants to see where.
        unforeseen = isinstance(reason, Crash) and not isinstance(reason.error, Error)
        details = {"exc_info": reason.error} if unforeseen else {}
        self._log.warning(kind, supervisor=supervisor, child=child, reason=why, **details)
