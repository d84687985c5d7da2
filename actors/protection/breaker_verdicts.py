"""What outcomes say of a provider's health, and how its breaker reports itself. Pure, and free of the library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..lm.failures import FAILURES

BreakerState: TypeAlias = Literal["closed", "open", "half-open"]
Verdict: TypeAlias = Literal["alive", "failed", "neutral"]
"""What an outcome says of the provider's health."""

CANCELLED: Final = "cancelled"
"""The outcome of an admission whose holder gave up or died."""

_ALIVE: Final = ("invalid", "context_length", "conflict", "too_large")

VERDICTS: Final[Mapping[str | None, Verdict]] = {
    None: "alive",
    CANCELLED: "neutral",
    **{
        name: "failed" if row.counts_for_breaker else "alive" if name in _ALIVE else "neutral"
        for name, row in FAILURES.items()
    },
}
"""What each outcome says, by the name of the failure's row; None is success.

An answer about this very request (4xx) was thought about by the server: it is alive, as after a success. One that a
gate in front of it may have given (429, 401, 402, a redirect) says nothing, nor does what never reached it.
"""


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """How the breaker is.

    Attributes:
        state: ``closed`` (all may pass), ``open`` (none), ``half-open`` (probes).
        failures: counted failures in a row.
        threshold: how many open it; 0: it is turned off.
        successes: successful probes in a row.
        probing: probes under way.
        open_for: seconds since it opened last; None unless it is open.
        next_probe: seconds until a probe may try; None unless it is open.
    """

    state: BreakerState
    failures: int
    threshold: int
    successes: int
    probing: int
    open_for: float | None
    next_probe: float | None
