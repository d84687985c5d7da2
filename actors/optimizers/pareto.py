"""Which candidates are worth building on: those that are best at something."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_weights(rows: Sequence[Sequence[float]]) -> list[int]:
    """For each candidate, on how many examples it is among the best; 0 if another is at least as good everywhere.

    Args:
        rows: for each candidate its score on each example. Of equal rows only the first counts.

    Source: Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", 2025
    (arXiv:2507.19457), algorithm 2.
    """
    best = [max(column) for column in zip(*rows, strict=True)]
    return [
        0 if _is_dominated(number, rows) else sum(score == top for score, top in zip(row, best, strict=True))
        for number, row in enumerate(rows)
    ]


def _is_dominated(number: int, rows: Sequence[Sequence[float]]) -> bool:
    mine = list(rows[number])
    for other, row in enumerate(rows):
        theirs = list(row)
        as_good = all(their >= my for their, my in zip(theirs, mine, strict=True))
        if other != number and as_good and (theirs != mine or other < number):
            return True
    return False
