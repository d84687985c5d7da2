"""Generations: by which the outcome of an old admission is known for what it is. Pure."""

from __future__ import annotations

import itertools


class Generations:
    """A number that grows with each change of state of whatever shares it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.current = 0

    def begin(self) -> int:
        """A change of state: admissions from now on are of a new generation."""
        self.current = next(self._numbers)
        return self.current
