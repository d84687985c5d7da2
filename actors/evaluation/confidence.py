"""How sure a mean score is: a bootstrap confidence interval, drawn from a seed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

from ...runtime.errors import ConfigError

RESAMPLES: Final = 1000
DRAWS: Final = 3_000_000
"""Of many scores fewer samples are drawn, so that the interval takes about a second at most; 200 at least."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of the mean score.

    Attributes:
        low, high: its bounds, 0 to 1.
        confidence: how often such an interval holds the true score.
    """

    low: float
    high: float
    confidence: float


@lru_cache(maxsize=16)
def bootstrap(scores: tuple[float, ...], confidence: float = 0.95, seed: int = 0) -> Interval:
    """A bootstrap confidence interval of the mean of scores; percentiles of the means of samples.

    Raises:
        ConfigError: ``confidence`` is out of range.
    """
    if not 0 < confidence < 1:
        expected = "a share above 0 and below 1"
        raise ConfigError(
            f"expected {expected}, got {confidence!r}, at confidence",
            path="confidence",
            expected=expected,
            got=confidence,
        )
    if not scores:
        return Interval(0.0, 1.0, confidence)
    rng, count = Random(seed), len(scores)
    samples = min(RESAMPLES, max(200, DRAWS // count))
    means = sorted(sum(rng.choices(scores, k=count)) / count for _ in range(samples))
    tail = (1 - confidence) / 2
    return Interval(means[int(tail * samples)], means[min(int((1 - tail) * samples), samples - 1)], confidence)
