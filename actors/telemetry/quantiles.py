"""Quantiles of a stream of numbers with a known relative error, in bounded memory.

The method is DDSketch (Masson, Rim, Lee: VLDB 2019). Numbers are counted in bins whose edges grow by a constant
factor, so a quantile is within :data:`RELATIVE_ERROR` of a number that was really seen, at every scale, and two
sketches merge exactly. Beyond :data:`MAX_BINS` bins of one sign, those nearest to zero are put together: with
4,096 that takes numbers 35 orders of magnitude apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeAlias

RELATIVE_ERROR: Final = 0.01
"""A quantile is off by at most this share of itself."""
MAX_BINS: Final = 4096

Bins: TypeAlias = tuple[tuple[int, int], ...]
"""(bin, count), by rising bin."""

_LOG_GAMMA: Final = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
_PER_LOG: Final = 1 / _LOG_GAMMA
# The number in the middle of a bin, in relative terms, is this far (in logarithms) below its upper edge.
_MIDDLE: Final = math.log1p(math.exp(_LOG_GAMMA)) - math.log(2)


@dataclass(frozen=True, slots=True)
class SketchValue:
    """A sketch at one moment.

    Attributes:
        negative: bins of the numbers below zero, by magnitude.
        zeros: how many were zero.
        positive: bins of the numbers above zero.
    """

    negative: Bins = ()
    zeros: int = 0
    positive: Bins = ()

    def quantile(self, q: float) -> float:
        """A number within the relative error of the one at place ``q * (count - 1)`` of the sorted numbers.

        Args:
            q: from 0 to 1.

        Raises:
            ValueError: ``q`` is out of range, or nothing was counted.
        """
        rising = [(-_middle(bin), count) for bin, count in reversed(self.negative)]
        rising += [(0.0, self.zeros), *((_middle(bin), count) for bin, count in self.positive)]
        running = list(accumulate(count for _, count in rising))
        if not 0 <= q <= 1 or not running[-1]:
            raise ValueError(f"expected a quantile from 0 to 1 of at least one number, got {q} of {running[-1]}")
        place = math.floor(q * (running[-1] - 1))
        return next(number for (number, _), below in zip(rising, running, strict=True) if below > place)


class QuantileSketch:
    """The growing form of a :class:`SketchValue`."""

    __slots__ = ("_negative", "_positive", "_zeros")

    def __init__(self) -> None:
        self._negative: dict[int, int] = {}
        self._positive: dict[int, int] = {}
        self._zeros = 0

    def add(self, number: float) -> None:
        """Count a finite number."""
        if number > 0:
            _count(self._positive, math.ceil(math.log(number) * _PER_LOG), 1)
        elif number < 0:
            _count(self._negative, math.ceil(math.log(-number) * _PER_LOG), 1)
        else:
            self._zeros += 1

    def absorb(self, other: SketchValue) -> None:
        """Count all that another sketch counted."""
        for bin, count in other.positive:
            _count(self._positive, bin, count)
        for bin, count in other.negative:
            _count(self._negative, bin, count)
        self._zeros += other.zeros

    def value(self) -> SketchValue:
        """The sketch as it is now."""
        return SketchValue(tuple(sorted(self._negative.items())), self._zeros, tuple(sorted(self._positive.items())))


def _count(bins: dict[int, int], bin: int, count: int) -> None:
    bins[bin] = bins.get(bin, 0) + count
    if len(bins) > MAX_BINS:
        least = min(bins)
        moved = bins.pop(least)
        bins[min(bins)] += moved


def _middle(bin: int) -> float:
    # The greatest float lies inside the last bin; its middle must not overflow.
    return math.exp(min(bin * _LOG_GAMMA - _MIDDLE, 709.78))
