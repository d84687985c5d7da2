"""Circles in who waits for whom: pure, and the same in every run."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def circles(waits_for: Mapping[K, Collection[K]]) -> list[tuple[K, ...]]:
    """Find who waits in a circle.

    Args:
        waits_for: for each one that waits, all for whom it waits. Who is no key waits for nobody.

    Returns:
        Circles, each begun at its member that comes first in ``waits_for``: every member waits for the next, the
        last for the first. There is at least one for any that wait for each other; of circles that share members
        not all are named.
    """
    place = {node: number for number, node in enumerate(waits_for)}
    found: list[tuple[K, ...]] = []
    done: set[K] = set()
    for start in waits_for:
        if start not in done:
            found += _below(start, waits_for, done, place)
    return found


def _below(
    start: K, waits_for: Mapping[K, Collection[K]], done: set[K], place: Mapping[K, int]
) -> Iterator[tuple[K, ...]]:
    """Walk in depth from ``start``; whoever leads back onto the path closes a circle."""
    path: dict[K, Iterator[K]] = {start: iter(waits_for[start])}
    while path:
        node, others = next(reversed(path.items()))
        for other in others:
            if other in path:
                members = list(path)
                yield _from_first(members[members.index(other) :], place)
            elif other in waits_for and other not in done:
                path[other] = iter(waits_for[other])
                break
        else:
            del path[node]
            done.add(node)


def _from_first(members: list[K], place: Mapping[K, int]) -> tuple[K, ...]:
    first = min(range(len(members)), key=lambda number: place[members[number]])
    return (*members[first:], *members[:first])


__all__ = ("circles",)
