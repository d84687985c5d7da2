"""The answers in memory: the most recently used ones, until they are too old. Pure."""

from __future__ import annotations

from collections import OrderedDict


class AnswerMemory:
    """Keeps at most ``capacity`` texts by key; the one that was not used for longest goes first.

    Args:
        capacity: how many; 0 keeps none.

    Attributes:
        evicted: how many went because there was no room.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # In the order of use, each with the moment from which it is too old.
        self._kept: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<{len(self._kept)} of {self._capacity} kept, {self.evicted} gone for want of room>"

    @property
    def capacity(self) -> int:
        """How many it keeps at most."""
        return self._capacity

    def get(self, key: str, now: float) -> str | None:
        """What is kept under ``key``, if it is not too old at ``now``; that is a use of it."""
        found = self._kept.get(key)
        if found is None:
            return None
        if now >= found[1]:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: str, value: str, until: float) -> None:
        """Keep ``value``, in the place of what was there, until the moment ``until``."""
        self._kept[key] = (value, until)
        self._kept.move_to_end(key)
        self._shrink()

    def resize(self, capacity: int) -> None:
        """Keep at most so many from now on."""
        self._capacity = capacity
        self._shrink()

    def shorten(self, until: float) -> None:
        """Keep nothing beyond the moment ``until``."""
        for key, (value, end) in self._kept.items():
            if end > until:
                self._kept[key] = (value, until)

    def clear(self) -> int:
        """Forget everything; how many there were."""
        count = len(self._kept)
        self._kept.clear()
        return count

    def _shrink(self) -> None:
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
            self.evicted += 1
