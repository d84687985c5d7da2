"""Identifiers: W3C trace and span ids, and ids that sort by time (UUID version 7, RFC 9562).

The random source is an argument, so that a seeded run makes the same ids again.
"""

from __future__ import annotations

import random
import threading

from .clock import Clock, SystemClock


class IdSource:
    """Makes ids. Safe to use from several threads.

    Args:
        clock: its wall time goes into the sortable ids.
        rng: the random source; a seeded one makes ids repeatable.
    """

    def __init__(self, clock: Clock | None = None, rng: random.Random | None = None) -> None:
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._lock = threading.Lock()
        self._last = 0

    def trace_id(self) -> str:
        """A W3C trace id: 32 hex digits, not all zero."""
        with self._lock:
            return f"{self._rng.getrandbits(128) | 1:032x}"

    def span_id(self) -> str:
        """A W3C span id: 16 hex digits, not all zero."""
        with self._lock:
            return f"{self._rng.getrandbits(64) | 1:016x}"

    def sortable(self) -> str:
        """A UUID version 7 as 32 hex digits; later ids of one source compare greater."""
        with self._lock:
            # 48 bits of milliseconds and 12 more of sub-millisecond order (RFC 9562, 6.2, method 3),
            # raised by one where the clock stood still or went back.
            stamp = max(int(self._clock.time() * 1000 * 4096), self._last + 1)
            self._last = stamp
            tail = self._rng.getrandbits(62)
        # 48 bits of milliseconds, version 7, 12 bits of fraction, variant 2, 62 random bits.
        head = (stamp >> 12 & 0xFFFFFFFFFFFF) << 16 | 0x7000 | stamp & 0xFFF
        return f"{head << 64 | 0b10 << 62 | tail:032x}"
