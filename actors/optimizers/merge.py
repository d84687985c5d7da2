"""Joining two candidates that got better at different steps of a program.

Source: "system aware merge" of Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement
Learning", 2025 (arXiv:2507.19457), algorithm 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ..modules.program_state import PredictorState, ProgramState
from .search import Scored


@dataclass(frozen=True, slots=True)
class Member:
    """A candidate of the pool, and its parents' places in it, which are before its own; the first has none."""

    scored: Scored
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Newborn:
    """A candidate that is not scored yet, and its parents' places in the pool."""

    state: ProgramState
    parents: tuple[int, ...]


def merges(pool: Sequence[Member], front: Sequence[int]) -> list[Newborn]:
    """What is new among the joined pairs of the candidates at ``front``.

    From a pair's latest common ancestor on, a predictor that only one of them changed is as that one has it; one that
    both did, as the better one has it. If one descends from the other, that gives nothing new.
    """
    known = {member.scored.state.key for member in pool}
    found: list[Newborn] = []
    for pair in combinations(sorted(front), 2):
        ancestor = max(_line(pool, pair[0]) & _line(pool, pair[1]))
        state = _join(*(pool[place].scored for place in (*pair, ancestor)))
        if state.key not in known:
            known.add(state.key)
            found.append(Newborn(state, pair))
    return found


def _line(pool: Sequence[Member], place: int) -> set[int]:
    """A candidate's place and those of all its ancestors."""
    line, waiting = {place}, [place]
    while waiting:
        new = [parent for parent in pool[waiting.pop()].parents if parent not in line]
        line.update(new)
        waiting += new
    return line


def _join(first: Scored, second: Scored, ancestor: Scored) -> ProgramState:
    better, other = (second, first) if second.score > first.score else (first, second)
    state = better.state
    for name, changed in other.state.predictors.items():
        if better.state.predictors.get(name, PredictorState()) == ancestor.state.predictors.get(name, PredictorState()):
            state = state.with_predictor(name, changed)
    return state
