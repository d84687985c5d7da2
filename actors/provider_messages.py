"""What a provider actor is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .lm import LMRequest
from .provider_tally import Health


@dataclass(frozen=True, slots=True)
class Complete:
    """Sends one request and answers an :class:`~.lm.LMResponse`.

    Fails with an ``LMError``. Give up on the call and the request ends, connection included.
    """

    request: LMRequest


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Answers a :class:`ProviderStatusReport`."""


@dataclass(frozen=True, slots=True)
class ProviderStatusReport:
    """How a provider is; counts are of this incarnation of the actor.

    Attributes:
        provider: its id.
        kind: its wire protocol.
        base_url: where it is.
        default_model: the model of requests that name none.
        health: ``ready``, ``failing`` or ``misconfigured``.
        in_flight: requests being served now.
        requests, responses: all, and those that were answered.
        errors: the others, by the error's code.
        input_tokens, output_tokens: sums of what the provider counted.
        unknown_usage: answers whose tokens nobody told.
        last_error: what the last failure said, or None.
        uptime: seconds since the actor was started.
    """

    provider: str
    kind: str
    base_url: str
    default_model: str | None
    health: Health
    in_flight: int
    requests: int
    responses: int
    errors: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    unknown_usage: int
    last_error: str | None
    uptime: float
