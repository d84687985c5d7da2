"""When Python collected garbage, so that no handler is blamed for it: a collection stops all threads."""

from __future__ import annotations

import gc
import time
from collections import deque
from typing import Final

# The collections that are remembered: those of a single handler are few.
_KEPT: Final = 16
# The younger generations are quick, and come thousands of times a minute.
_SLOW_GENERATION: Final = 2


class Garbage:
    """The latest full collections; ``open`` begins to look, ``close`` ends it."""

    def __init__(self) -> None:
        self._began = 0.0
        self._pauses: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def open(self) -> None:
        """Begin to look."""
        gc.callbacks.append(self.collects)

    def close(self) -> None:
        """End it. May be called again."""
        if self.collects in gc.callbacks:
            gc.callbacks.remove(self.collects)

    def seconds(self, since: float, until: float) -> float:
        """Seconds of collections between two moments of ``time.perf_counter``."""
        return sum(max(min(end, until) - max(begin, since), 0.0) for begin, end in tuple(self._pauses))

    def collects(self, phase: str, details: dict[str, int]) -> None:
        """What the collector calls (``gc.callbacks``)."""
        if details["generation"] < _SLOW_GENERATION:
            return
        now = time.perf_counter()
        if phase == "start":
            self._began = now
        else:
            self._pauses.append((self._began, now))
