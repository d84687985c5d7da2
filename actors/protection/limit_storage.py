"""Where the windows of the limits are kept: a storage for the ``limits`` library, on a clock of ours.

The library's own memory storage starts threads, reads the wall clock and cannot give anything back. This one is told
the time, keeps one entry for each admission whatever its cost, and takes corrections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from limits.storage import MovingWindowSupport, Storage

UNITS: Final = 1_000_000
"""An expiry is a whole number in the library; here it counts microseconds, so that windows may be short."""

# A timer may fire one tick of the loop's clock early.
_TICK: Final = 1e-9


@dataclass(slots=True, eq=False)
class Entry:
    """What one admission took from a window.

    Attributes:
        at: when, in seconds on the storage's clock.
        cost: how much.
        live: whether the window still holds it.
    """

    at: float
    cost: int
    live: bool = True


@dataclass(slots=True)
class _Window:
    entries: deque[Entry] = field(default_factory=deque[Entry])
    used: int = 0


class WindowStorage(Storage, MovingWindowSupport):
    """Moving windows in this process's memory. Not for several threads.

    Args:
        now: the time in seconds, on a clock that never goes back.

    Attributes:
        newest: what the last ``acquire_entry`` that succeeded has taken.
    """

    STORAGE_SCHEME = None

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self._windows: dict[str, _Window] = {}
        self.newest: Entry | None = None

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """Nothing here fails."""
        return ()

    # -- what the library's moving window needs --------------------------------------------------

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take ``amount`` if it fits in the window that ends now."""
        window = self._live(key, expiry)
        if window.used + amount > limit:
            return False
        self.newest = self._add(window, amount)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest entry was made (now, if there is none), and how much is taken."""
        window = self._live(key, expiry)
        return (window.entries[0].at if window.entries else self._now()), window.used

    # -- what it does not know -------------------------------------------------------------------

    def used(self, key: str, expiry: int) -> int:
        """How much is taken in the window that ends now."""
        return self._live(key, expiry).used

    def charge(self, key: str, amount: int) -> None:
        """Take ``amount`` now, whether there is room or not."""
        self._add(self._windows.setdefault(key, _Window()), amount)

    def refund(self, key: str, entry: Entry, amount: int) -> None:
        """Give back ``amount`` of what an entry took; nothing if its time is over."""
        if entry.live:
            amount = min(amount, entry.cost)
            entry.cost -= amount
            self._windows[key].used -= amount

    def wait_for(self, key: str, limit: int, expiry: int, amount: int) -> float:
        """Seconds until ``amount`` fits, if nobody else takes or gives back anything.

        More than the limit needs several windows, each emptied as fast as it may be: that is how long it takes until
        the last of a queue is through.
        """
        window = self._live(key, expiry)
        rounds, rest = divmod(amount - 1, limit)
        excess = window.used + rest + 1 - limit
        whole = rounds * expiry / UNITS
        if excess <= 0:
            return whole
        for entry in window.entries:
            excess -= entry.cost
            if excess <= 0:
                return whole + max(0.0, entry.at + expiry / UNITS - self._now())
        return whole + expiry / UNITS

    def reset_in(self, key: str, expiry: int) -> float:
        """Seconds until the window is empty."""
        window = self._live(key, expiry)
        return max(0.0, window.entries[-1].at + expiry / UNITS - self._now()) if window.entries else 0.0

    def _add(self, window: _Window, amount: int) -> Entry:
        entry = Entry(self._now(), amount)
        window.entries.append(entry)
        window.used += amount
        return entry

    def _live(self, key: str, expiry: int) -> _Window:
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window()
            return window
        entries, horizon = window.entries, self._now() - expiry / UNITS + _TICK
        while entries and entries[0].at <= horizon:
            oldest = entries.popleft()
            oldest.live = False
            window.used -= oldest.cost
        return window

    # -- the rest of the port --------------------------------------------------------------------

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Take ``amount`` and answer how much is taken then."""
        window = self._live(key, expiry)
        self._add(window, amount)
        return window.used

    def get(self, key: str) -> int:
        """How much was taken when somebody last looked."""
        window = self._windows.get(key)
        return 0 if window is None else window.used

    def get_expiry(self, key: str) -> float:
        """When the newest entry was made; now, if there is none."""
        window = self._windows.get(key)
        return window.entries[-1].at if window is not None and window.entries else self._now()

    def check(self) -> bool:
        """It is always there."""
        return True

    def reset(self) -> int:
        """Forget everything; how many windows there were."""
        count = len(self._windows)
        for key in list(self._windows):
            self.clear(key)
        return count

    def clear(self, key: str) -> None:
        """Forget one window."""
        window = self._windows.pop(key, None)
        for entry in () if window is None else window.entries:
            entry.live = False

    def __repr__(self) -> str:
        return f"<{len(self._windows)} windows>"
