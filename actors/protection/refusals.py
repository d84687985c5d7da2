"""The errors with which the protection of a provider refuses."""

from __future__ import annotations

from typing import Final

from ...runtime.errors import LMError
from ..lm.failures import lm_error
from .breaker import Breaker
from .gates import Gate
from .limit_buckets import Shortage

_SAID: Final = {
    "quota": "an account with money left, got one that is used up",
    "auth": "a working key and settings, got some that the provider refused",
}


def breaker_open(provider: str, breaker: Breaker, last_failure: str | None) -> LMError:
    """The breaker lets nobody pass.

    Args:
        provider: the provider's id.
        breaker: its breaker.
        last_failure: the row of the last failure that it counted, if that is known.
    """
    report, wait = breaker.describe(), breaker.next_probe
    when = "while probes find out" if wait is None else f"next probe in {wait:.3g} s"
    if last_failure is not None:
        when += f"; the last failure was {last_failure!r}"
    return lm_error(
        "circuit_open",
        f"expected a closed breaker, got one that is {report.state} ({when}), at provider/{provider}",
        provider=provider,
        local=True,
        gate="breaker",
        state=report.state,
        retry_after=wait,
        last_failure=last_failure,
    )


def gate_closed(provider: str, gate: Gate) -> LMError:
    """A gate lets nobody pass."""
    wait = gate.next_try
    when = "one request is finding out" if wait is None else f"next try in {wait:.3g} s"
    return lm_error(
        gate.name,
        f"expected {_SAID[gate.name]} ({when}), at provider/{provider}; nothing was sent",
        provider=provider,
        local=True,
        gate=gate.name,
        state=gate.state,
        retry_after=wait,
    )


def no_room(provider: str, short: Shortage, wait: float | None, why: str) -> LMError:
    """A request found no room.

    Args:
        provider: the provider's id.
        short: the limit that had none.
        wait: seconds until there is room if nobody else comes; None if that is not known, or never.
        why: why it does not wait, or wait any longer.
    """
    whose = "the user" if short.scope == "user" else "all"
    when = "" if wait is None else f"; there is room in {wait:.3g} s"
    return lm_error(
        "limit",
        f"expected room within the limits of {whose}, got none ({short.limit}): {why}{when}, at provider/{provider}",
        provider=provider,
        local=True,
        gate="limit",
        limit=short.limit,
        scope=short.scope,
        retry_after=wait,
    )
