"""What the event store and telemetry are told of a provider's protection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from ..runtime.gen_server import GenServer
from .event_outbox import EventOutbox
from .events import ProtectionChanged, stamp
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
