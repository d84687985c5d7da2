"""Search mode: one test under many seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .system import VirtualSystem


def search(test: Callable[[VirtualSystem], object], seeds: Iterable[int] = range(100), **options: Any) -> None:
    """Run ``test(system)`` in a fresh system for each seed, until one fails.

    What the test raised is raised again; a note on it names the seed, and ``error.__notes__`` keeps it.

    Args:
        test: takes a :class:`VirtualSystem`.
        seeds: which; the first hundred unless told otherwise.
        **options: of :class:`VirtualSystem`.
    """
    for seed in seeds:
        with VirtualSystem(seed, **options) as system:
            test(system)
