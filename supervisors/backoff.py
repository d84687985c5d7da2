"""An opt-in delay before restarts: exponential, with full jitter.

Beside OTP's rule, never instead: each restart still counts against the supervisor's intensity, and
without a ``Backoff`` in the child's spec a restart is made at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from ..runtime.child_spec import checked_seconds
from ..runtime.errors import SpecError


@dataclass(frozen=True, slots=True)
class Backoff:
    """A delay drawn evenly from 0 to ``initial * factor ** (failures - 1)`` seconds, at most ``maximum``.

    Full jitter, because children that failed together should not come back together.

    Args:
        initial: the bound after the first failure, in seconds.
        maximum: the highest bound, in seconds.
        factor: growth of the bound with each further failure, at least 1.
        reset_after: seconds of running after which a child's failures are forgotten.
        jitter: False waits for exactly the bound.

    Raises:
        SpecError: a value is out of range.
    """

    initial: float = 0.1
    maximum: float = 30.0
    factor: float = 2.0
    reset_after: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        for field in ("initial", "maximum", "reset_after"):
            value: Any = getattr(self, field)
            seconds = checked_seconds(value)
            if seconds is None or seconds < 0:
                raise _bad(field, "seconds from 0 (up to 3600; longer as a timedelta)", value)
            object.__setattr__(self, field, seconds)
        if self.maximum < self.initial:
            raise _bad("maximum", f"at least initial ({self.initial:g} s)", self.maximum)
        factor = checked_seconds(self.factor)
        if factor is None or factor < 1:
            raise _bad("factor", "a number from 1", self.factor)

    def bound(self, failures: int) -> float:
        """The longest delay after so many failures in a row, in seconds."""
        try:
            return min(self.maximum, self.initial * self.factor ** max(0, failures - 1))
        except OverflowError:
            return self.maximum

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait before the restart that follows ``failures`` (1, 2, ..) failures in a row."""
        bound = self.bound(failures)
        return rng.uniform(0.0, bound) if self.jitter else bound


def _bad(field: str, expected: str, got: object) -> SpecError:
    return SpecError(f"backoff, {field}: expected {expected}, got {got!r}", reason=("invalid_backoff", field))
