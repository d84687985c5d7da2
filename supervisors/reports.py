"""Supervisor reports (OTP 1.11), as data; they go out as telemetry, before the supervisor acts on them.

==============================  ==================================================================
``dspex.supervisor.report``     child_terminated, start_error, shutdown, shutdown_error (LOG-01..04)
``dspex.supervisor.start``      progress: a child started (LOG-05)
==============================  ==================================================================

Both have the measurement ``count`` (1) and the metadata of :meth:`Report.metadata`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from thespian.actors import ActorAddress

from ..runtime.child_spec import ChildSpec, ChildType, Restart, Shutdown
from ..runtime.reasons import Reason
from .children import Child, start_name

ReportKind = Literal["child_terminated", "start_error", "shutdown", "shutdown_error"]
TRIPPED: Final = "reached_max_restart_intensity"

REPORT_EVENT: Final = ("dspex", "supervisor", "report")
START_EVENT: Final = ("dspex", "supervisor", "start")


@dataclass(frozen=True, slots=True)
class ChildFields:
    """The child a report is about (OTP LOG-06).

    Attributes:
        id: its id.
        address: its process; for a retry, the last one.
        start: its class or start function, as text.
        args: positional arguments; not in the repr, as they may hold what no log should show.
        restart: its restart type.
        significant: whether its end may end the supervisor.
        shutdown: its shutdown rule; seconds.
        type: ``worker`` or ``supervisor``.
        name: its registered name, or None.
        count: for the parallel stop of a simple_one_for_one supervisor, how many children ended with
            this reason (there is no address then); None otherwise.
    """

    id: Hashable
    address: ActorAddress | None
    start: str
    args: tuple[Any, ...] = field(repr=False)
    restart: Restart
    significant: bool
    shutdown: Shutdown
    type: ChildType
    name: str | None = None
    count: int | None = None

    @classmethod
    def of(cls, child: Child, count: int | None = None) -> ChildFields:
        """The fields of a child as it is now."""
        spec: ChildSpec = child.spec
        return cls(
            id=spec.id,
            address=child.address if count is None else None,
            start=start_name(spec),
            args=spec.args,
            restart=spec.restart,
            significant=spec.significant,
            shutdown=spec.shutdown,
            type=spec.type,
            name=child.name,
            count=count,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """One supervisor report.

    Attributes:
        kind: which of them.
        supervisor: the supervisor's registered name, or its class and address.
        address: its address.
        child: the child it is about.
        reason: why.
    """

    kind: ReportKind
    supervisor: str
    address: ActorAddress
    child: ChildFields
    reason: Reason

    def metadata(self) -> Mapping[str, Any]:
        """As telemetry metadata."""
        return {
            "kind": self.kind,
            "supervisor": self.supervisor,
            "address": self.address,
            "child": self.child,
            "reason": self.reason,
        }
