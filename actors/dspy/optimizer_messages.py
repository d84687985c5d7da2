"""What a DSPy optimizer's worker is asked and told, and what it tells; all of it pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..modules.program_state import ProgramState
from ..runs.messages import Outcome


@dataclass(frozen=True, slots=True)
class Optimize:
    """Call to a worker: run the optimizer; answers :class:`Optimized` or :class:`NotOptimized`."""


@dataclass(frozen=True, slots=True)
class Optimized:
    """What came of it.

    Attributes:
        state: what the predictors of the best program tell their models.
        saved: the best program as its ``dump_state()`` has it, as JSON.
        score: from 0 to 1, as the optimizer says; None if it does not.
    """

    state: ProgramState
    saved: Mapping[str, Any] = field(repr=False)
    score: float | None


@dataclass(frozen=True, slots=True)
class NotOptimized:
    """It failed.

    Attributes:
        code: the error's word.
        why: in words.
    """

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Cast to a run: its optimizer has evaluated a program.

    Attributes:
        score: from 0 to 1.
        examples: how many were looked at.
        best: the program, if it is the best so far.
    """

    score: float
    examples: int
    best: Optimized | None


@dataclass(frozen=True, slots=True)
class CannotGoOn:
    """Cast to a run: a model call failed in a way that all others would too, so what follows means nothing.

    Attributes:
        outcome: how the run ends.
        why: in words.
    """

    outcome: Outcome
    why: str
