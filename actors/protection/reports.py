"""What the event store and telemetry are told of a provider's protection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from ...runtime.gen_server import GenServer
from ..events.kinds import ProtectionChanged, stamp
from ..events.outbox import EventOutbox
from .limit_report import BucketReport
from .messages import ProtectionReport
from .safeguards import Change

_GATES: Final = ("quota", "auth")


class ProtectionReports:
    """Tells in the protection actor's name.

    Telemetry: ``("dspex", "protection", ...)`` with ``breaker``, ``gate`` (quota and auth), ``pause``, ``slowdown`` and
    ``storage`` for changes of state (``gate``, ``state``, ``reason``; measured: ``seconds``, if known), ``refused``
    (``reason``) and ``waited`` (measured: ``seconds``). Each change is also an event.

    Args:
        actor: in whose name.
        provider: the provider's id.

    Attributes:
        refusals: how many there were, by what refused.
    """

    def __init__(self, actor: GenServer, provider: str) -> None:
        self._actor = actor
        self._provider = provider
        self._outbox = EventOutbox(actor.system)
        self.refusals: Counter[str] = Counter()

    def changed(self, change: Change) -> None:
        """Something changed its state."""
        facts = {"gate": change.gate, "state": change.state, "reason": change.reason}
        measured = {} if change.seconds is None else {"seconds": change.seconds}
        self._execute("gate" if change.gate in _GATES else change.gate, measured, facts)
        event = stamp(self._actor, ProtectionChanged, provider=self._provider, seconds=change.seconds, **facts)
        self._outbox.emit(event)

    def refused(self, reason: str) -> None:
        """A request was refused."""
        self.refusals[reason] += 1
        self._execute("refused", {}, {"reason": reason})

    def waited(self, seconds: float) -> None:
        """A request was let in after it had waited."""
        self._execute("waited", {"seconds": seconds}, {})

    def _execute(self, what: str, measured: Mapping[str, float], facts: Mapping[str, str]) -> None:
        metadata = {"provider": self._provider, **facts}
        self._actor.system.telemetry.execute(("dspex", "protection", what), measured, metadata)


def told(report: ProtectionReport) -> dict[str, Any]:
    """A report as a person reads it."""
    breaker = report.breaker
    shown: dict[str, Any] = {"breaker": f"{breaker.state}, {breaker.failures} of {breaker.threshold} failures"}
    if breaker.next_probe is not None:
        shown["breaker"] += f", next probe in {breaker.next_probe:.1f} s"
    for gate in report.gates:
        wait = "" if gate.next_try is None else f", next try in {gate.next_try:.1f} s"
        shown[f"gate of {gate.gate}"] = f"{gate.state}{wait}"
    shown["limits"] = [_limit(bucket) for bucket in report.buckets if bucket.scope == "all"]
    shown |= {"users with limits": report.users, "in flight": report.in_flight, "waiting": report.waiting}
    if report.pause_left:
        shown["pause"] = f"{report.pause_left:.1f} s left"
    if report.slowed_to is not None:
        shown["slowed to"] = f"{report.slowed_to} at once"
    failures = f", {report.storage_failures} failures" if report.storage_failures else ""
    return shown | {
        "storage": f"{report.storage}{failures}",
        "admitted": report.admitted,
        "refused": dict(report.refused),
    }


def _limit(bucket: BucketReport) -> str:
    back = "" if bucket.reset_in is None or not bucket.used else f", all back in {bucket.reset_in:.1f} s"
    return f"{bucket.limit}: {bucket.used} of {bucket.of}{back}"
