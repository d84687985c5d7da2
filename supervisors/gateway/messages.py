"""What the gateway actor is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """Answers a :class:`GatewayReport`, once the gateway listens."""


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """How the gateway is; counts are of this incarnation of the actor.

    Attributes:
        url: where it listens, such as ``http://127.0.0.1:8321``.
        in_work: requests to models in work now.
        requests: all requests to models that were let in.
        refused: those that were not, because too many were in work or it was stopping.
        draining: whether new ones are refused.
    """

    url: str
    in_work: int
    requests: int
    refused: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """Refuse new requests from now on; answered with None when those in work have ended."""
