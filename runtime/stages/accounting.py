"""What a consumer has asked for and not received yet, and when it asks again (OTP STG-04). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Account:
    """The demand of one automatic subscription. The first ask, for ``maximum``, is already out.

    Args:
        maximum: events that may be outstanding at most (``max_demand``).
        minimum: at or below so many outstanding, more are asked for (``min_demand``).

    Attributes:
        outstanding: events asked for and not received yet.
        chunk: the most events that are handled before the next ask may go out.
    """

    __slots__ = ("chunk", "maximum", "minimum", "outstanding")

    def __init__(self, maximum: int, minimum: int) -> None:
        self.maximum = maximum
        self.minimum = minimum
        self.outstanding = maximum
        self.chunk = maximum - minimum

    def take(self, count: int) -> int:
        """Count the events of one chunk as received; how many to ask for when it has been handled, 0 for none.

        Args:
            count: at most what was outstanding when their message came.
        """
        left = self.outstanding - count
        if left > self.minimum:
            self.outstanding = left
            return 0
        self.outstanding = self.maximum
        return self.maximum - left

    def surplus(self, count: int) -> int:
        """How many of ``count`` events nobody asked for."""
        return max(0, count - self.outstanding)

    def cut(self, events: Sequence[Any]) -> list[tuple[Sequence[Any], int]]:
        """Cut a message into chunks, each with what to ask for once it was handled.

        A surplus, from a producer that breaks the rules, is handled, but stands for none of what is still to come.
        """
        size, due = self.chunk, self.outstanding
        cut: list[tuple[Sequence[Any], int]] = []
        for start in range(0, len(events), size):
            part = events[start : start + size]
            expected = min(len(part), due)
            due -= expected
            cut.append((part, self.take(expected)))
        return cut


__all__ = ("Account",)
