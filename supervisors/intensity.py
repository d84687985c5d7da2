"""Restart intensity: may one more restart happen now? (OTP SUP-40 to SUP-42)

Time is in whole nanoseconds, so that a distance of exactly the period is inside, whatever the phase
of the clock (OTP counts in whole seconds, which leaves a gap between period and period + 1).
"""

from __future__ import annotations

from collections import deque

NANOSECONDS = 1_000_000_000


class RestartWindow:
    """The restart history of one supervisor process: one for all children and all reasons.

    Args:
        max_restarts: restarts allowed in the window.
        max_seconds: its length, in seconds.
    """

    __slots__ = ("_limit", "_period", "_times")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._limit = max_restarts
        self._period = round(max_seconds * NANOSECONDS)
        self._times: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._times)

    @property
    def seconds(self) -> float:
        """Its length, in seconds."""
        return self._period / NANOSECONDS

    def add(self, now: int) -> bool:
        """Count a restart attempt, before it is made.

        Args:
            now: nanoseconds on a monotonic clock.

        Returns:
            Whether it may be made; False is a trip.
        """
        oldest_inside = now - self._period
        times = self._times
        while times and times[0] < oldest_inside:
            times.popleft()
        times.append(now)
        return len(times) <= self._limit


def nanoseconds(seconds: float) -> int:
    """Seconds of a clock as whole nanoseconds."""
    return round(seconds * NANOSECONDS)
