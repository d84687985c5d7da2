"""Telemetry of a child interpreter: executed there, and in the parent as well."""

from __future__ import annotations

from collections.abc import Mapping
from traceback import format_tb
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..errors import ApplicationDown, UsageError
from ..log import Logger
from ..telemetry import EventName, Telemetry
from . import wire

if TYPE_CHECKING:
    from ..engine import Engine
    from .portal import Portal

_CRASHED: Final = ("dspex", "engine", "crashed")
_EMPTY: Final[Mapping[str, Any]] = {}
log = Logger("dspex.placement")


class Uplink(Telemetry):
    """Telemetry whose events the parent's handlers hear too, in order, with the next batch.

    Args:
        engine: of the child.
        portal: to the parent.
    """

    def __init__(self, engine: Engine, portal: Portal) -> None:
        super().__init__(engine.clock)
        self._engine = engine
        self._portal = portal

    def execute(
        self, event: EventName, measurements: Mapping[str, Any] = _EMPTY, metadata: Mapping[str, Any] = _EMPTY
    ) -> None:
        """As in the base; from any thread."""
        super().execute(event, measurements, metadata)
        twin = self._portal.twin
        if event == _CRASHED and twin is not None and metadata.get("actor") == twin.label:
            return  # of the placed actor itself the parent's engine tells
        try:
            data = wire.dumps((event, dict(measurements), {key: _portable(value) for key, value in metadata.items()}))
        except UsageError as error:
            log.warning(
                "an event of a child interpreter does not cross to its parent", event_name=event, why=str(error)
            )
            return
        if self._engine.outside.on_thread():
            self._send(data)
            return
        try:
            self._engine.post(self._send, data)
        except ApplicationDown:
            return  # the child ends: nobody hears of it any more

    def _send(self, data: bytes) -> None:
        if not self._portal.full:
            self._portal.write(wire.EVENT, 0, data)


def _portable(value: Any) -> Any:
    """A value as it crosses: a stack trace as its text, an exception as itself or in words."""
    if isinstance(value, TracebackType):
        return "".join(format_tb(value))
    return wire.portable_error(value) if isinstance(value, BaseException) else value
