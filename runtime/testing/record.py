"""What happened in a run: telemetry events, and among them what supervisors decided."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple

from ..engine import Engine
from ..reasons import Reason
from .inbox import Inbox
from .virtual_loop import VirtualLoop

EventName = tuple[str, ...]
REPORT: Final = ("dspex", "supervisor", "report")
START: Final = ("dspex", "supervisor", "start")
RECORDED: Final[tuple[EventName, ...]] = (
    REPORT,
    START,
    *(("dspex", "engine", word) for word in ("crashed", "dead_letter", "late_output", "overloaded", "unhandled")),
    *(("dspex", part, word) for part in ("lm", "module") for word in ("start", "stop", "exception")),
    *(("dspex", "registry", word) for word in ("registered", "unregistered", "refused")),
    *(("dspex", "event_store", word) for word in ("appended", "lost")),
    ("dspex", "config", "updated"),
)
"""The events that are recorded without being asked for."""


class RecordedEvent(NamedTuple):
    """One telemetry event.

    Attributes:
        at: when, virtual seconds.
        event: its name.
        measurements: its numbers.
        metadata: its facts; of a supervisor report ``child`` is the child's id, its fields are ``child_fields``.
    """

    at: float
    event: EventName
    measurements: Mapping[str, Any]
    metadata: Mapping[str, Any]

    def has(self, facts: Mapping[str, Any]) -> bool:
        """Whether its metadata holds all of these."""
        return all(name in self.metadata and self.metadata[name] == value for name, value in facts.items())


class Decision(NamedTuple):
    """One supervisor report: what a supervisor saw and did.

    Attributes:
        at: when, virtual seconds.
        supervisor: its name, or class and address.
        kind: ``progress``, ``child_terminated``, ``start_error``, ``shutdown`` or ``shutdown_error``.
        child: the child's id.
        reason: why; None for ``progress``.
    """

    at: float
    supervisor: str
    kind: str
    child: Hashable
    reason: Reason


class Record:
    """Listens to the telemetry of one engine.

    Args:
        engine: whose.
        loop: the loop it runs on.

    Attributes:
        decisions: what supervisors reported, in order.
        events: all recorded events nobody expected yet.
    """

    def __init__(self, engine: Engine, loop: VirtualLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._names: dict[EventName, None] = {}
        self.decisions: list[Decision] = []
        self.events: Inbox[RecordedEvent] = Inbox(loop)
        for event in RECORDED:
            self.add(event)

    def add(self, event: EventName) -> None:
        """Record this event too, from now on."""
        if event not in self._names:
            self._engine.telemetry.attach(("test-kit", id(self), event), event, self._take)
            self._names[event] = None

    def knows(self, event: EventName) -> bool:
        """Whether it is recorded."""
        return event in self._names

    def wanted(self, event: EventName, facts: Mapping[str, Any]) -> Callable[[RecordedEvent], bool]:
        """What tells whether a recorded event is this one, with these facts."""
        return lambda seen: seen.event == event and seen.has(facts)

    def _take(self, event: EventName, measurements: Mapping[str, Any], metadata: Mapping[str, Any], _: Any) -> None:
        now = self._loop.time()
        if event == REPORT:
            # The id is what a test knows of a child; a start names it that way already.
            metadata = {**metadata, "child": metadata["child"].id, "child_fields": metadata["child"]}
        self.events.put(RecordedEvent(now, event, measurements, metadata))
        if event in (REPORT, START):
            facts = (metadata["supervisor"], metadata["kind"], metadata["child"], metadata.get("reason"))
            self.decisions.append(Decision(now, *facts))
