"""Seconds of work, over all starts of a run; while it is paused they do not count."""

from __future__ import annotations

from collections.abc import Callable


class Stopwatch:
    """Seconds of work; it stands until it is told to go.

    Args:
        monotonic: seconds that never run backwards.
        before: seconds before this start.
    """

    def __init__(self, monotonic: Callable[[], float], before: float = 0.0) -> None:
        self._monotonic = monotonic
        self._before = before
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """What it shows."""
        return self._before + (0.0 if self._since is None else self._monotonic() - self._since)

    def go(self) -> None:
        """Count from now on."""
        if self._since is None:
            self._since = self._monotonic()

    def halt(self) -> None:
        """Count no further."""
        self._before, self._since = self.seconds, None
