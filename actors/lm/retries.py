"""When a failed attempt is followed by another one, and after which pause. Pure."""

from __future__ import annotations

import math
import random
from typing import Final

from ...runtime.errors import LMError
from ..configuration.provider_settings import ProviderSettings
from .failures import failure_of

JITTER: Final = 0.1
"""Part of a Retry-After that is waited at most on top of it, so that not all callers come back at once."""


def pause(error: LMError, attempt: int, settings: ProviderSettings, rng: random.Random) -> float | None:
    """Seconds to wait before the next attempt, or None if there is none.

    Full jitter: anything between nothing and a bound that doubles with each attempt (twice that for an overloaded
    provider). What the provider asks for (Retry-After) is a minimum, and too long a one ends the trying.

    Args:
        error: what the attempt failed with.
        attempt: its number; 1 is the first.
        settings: the provider's.
        rng: where the jitter comes from.
    """
    row = failure_of(error)
    if row is None or not error.facts.get("retryable", row.retryable) or attempt >= settings.retry_attempts:
        return None
    bound = settings.retry_base_delay * 2.0 ** min(attempt - 1, 62)
    if row.effect == "lower_rate":
        bound *= 2.0
    bound = min(bound, settings.retry_max_delay)
    asked: float | None = error.facts.get("retry_after")
    if asked is None:
        return rng.uniform(0.0, bound)
    if not math.isfinite(asked) or asked > settings.retry_after_max:
        return None
    return asked + rng.uniform(0.0, min(bound, asked * JITTER))
