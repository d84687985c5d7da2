"""What of a provider's protection outlives its actor: breaker, gates, pause and the counts of the limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .breaker_verdicts import CANCELLED

if TYPE_CHECKING:  # an application without providers need not load the libraries below
    from .safeguards import Safeguards
    from .ticket import Ticket


def _no_tickets() -> dict[str, Ticket]:
    return {}


@dataclass(slots=True)
class ProtectionMemory:
    """The state of one provider's protection; given to each incarnation of its actor.

    Attributes:
        guards: breaker, gates and limits; None before the first start.
        tickets: what was admitted or waits, by id.
    """

    guards: Safeguards | None = None
    tickets: dict[str, Ticket] = field(default_factory=_no_tickets)

    def settle_all(self) -> None:
        """Take back what an earlier incarnation admitted: who held it has ended with it, or will not be believed."""
        tickets, self.tickets = self.tickets, {}
        for ticket in tickets.values():
            if ticket.held is not None and self.guards is not None:
                self.guards.settle(ticket, ticket.held, CANCELLED, None, None)


@dataclass(slots=True)
class ProtectionMemories:
    """Those of all providers, by id."""

    _by_provider: dict[str, ProtectionMemory] = field(default_factory=dict[str, ProtectionMemory])

    def of(self, provider: str) -> ProtectionMemory:
        """That of one provider, empty at first."""
        return self._by_provider.setdefault(provider, ProtectionMemory())

    def forget(self, provider: str) -> None:
        """The provider was removed: one of the same name begins anew."""
        self._by_provider.pop(provider, None)
