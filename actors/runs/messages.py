"""What runs and their journals are asked and told, and what they answer. Times are seconds, money is US dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from ..modules.program_state import ProgramState

EntryKind: TypeAlias = Literal["call", "failure", "row", "trial", "step"]
Outcome: TypeAlias = Literal["completed", "stopped_early", "budget_exhausted", "cancelled", "failed"]
RunState: TypeAlias = Literal[
    "running", "paused", "completed", "stopped_early", "budget_exhausted", "cancelled", "failed", "orphaned"
]
Wish: TypeAlias = Literal["cancel", "pause", "resume"]

KIND: Final = "optimization"
"""The kind of run that :class:`~.runs.actor.OptimizationRun` is."""
OVER: Final[frozenset[str]] = frozenset({"completed", "stopped_early", "budget_exhausted", "cancelled", "failed"})
"""States in which a run is over."""
FINAL: Final[frozenset[str]] = frozenset({"completed", "stopped_early", "cancelled"})
"""States in which starting it again gives its result; in the others it goes on where it was, on a larger budget say."""


# -- a run's journal, ``run-journal/<id>`` -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paid:
    """What a run's recorded model calls came to.

    Attributes:
        calls: answers that were paid for.
        tokens: of those answers, as far as they were counted.
        money: US dollars, as far as the price is known.
        unpriced: answers whose price nobody knows.
    """

    calls: int = 0
    tokens: int = 0
    money: Decimal = Decimal(0)
    unpriced: int = 0

    def __add__(self, other: Paid) -> Paid:
        return Paid(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.money + other.money,
            self.unpriced + other.unpriced,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON; money is text, so that it stays exact."""
        return {"calls": self.calls, "tokens": self.tokens, "money": str(self.money), "unpriced": self.unpriced}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Paid:
        """Read what :meth:`to_dict` wrote."""
        return cls(data["calls"], data["tokens"], Decimal(data["money"]), data["unpriced"])


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a run's journal holds.

    Attributes:
        kind: ``call``: a model's answer; ``failure``: that there was none; ``row``: what became of one example;
            ``trial``, ``step``: progress.
        key: unique among its kind.
        value: JSON text.
    """

    kind: EntryKind
    key: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Recall:
    """Call to a journal: answers the value under this key, or None."""

    kind: EntryKind
    key: str


@dataclass(frozen=True, slots=True)
class Record:
    """Call to a journal: keep these entries, all or none; answers None once they survive a ``kill -9``.

    An entry takes the place of an older one with its key. Fails with RunConflict if another process has taken the run
    over, StoreError if it cannot be written.

    Attributes:
        entries: what to keep.
        paid: what they cost, added to the run's sum.
        progress: replaces the run's progress, if given.
        state: the run's new state, if given; with an end the run has no owner any more.
    """

    entries: tuple[Entry, ...] = ()
    paid: Paid = field(default=Paid())
    progress: Mapping[str, Any] | None = None
    state: RunState | None = None


@dataclass(frozen=True, slots=True)
class RecallAll:
    """Call to a journal: answers every :class:`Entry` of a kind, in the order in which they were first kept."""

    kind: EntryKind


@dataclass(frozen=True, slots=True)
class RecallKeys:
    """Call to a journal: answers the keys of everything of a kind, as a frozenset."""

    kind: EntryKind


@dataclass(frozen=True, slots=True)
class JournalInfo:
    """Call to a journal: answers a :class:`JournalStatus`."""


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """How a journal is.

    Attributes:
        paid: what the run's recorded calls came to, over all processes that worked on it.
        recalled: what was found in the journal instead of being done again, by this incarnation: examples and answers.
        recorded: entries kept by this incarnation.
        state: the run's, as it was last written.
        progress: the run's, as it was last written.
    """

    paid: Paid
    recalled: int
    recorded: int
    state: RunState
    progress: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wished:
    """Tells a run what somebody asked of it through the file of runs."""

    wish: Wish


# -- a run, ``run/<id>`` -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Call: answers a :class:`RunStatus`."""


@dataclass(frozen=True, slots=True)
class PauseRun:
    """Call: begin no further example; those in work end. Answers the :class:`RunStatus`."""


@dataclass(frozen=True, slots=True)
class ResumeRun:
    """Call: go on after a pause. Answers the :class:`RunStatus`."""


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Call: end the run now, requests in flight too; the best so far stays its result. Answers the status."""


@dataclass(frozen=True, slots=True)
class GetResult:
    """Call: answers the :class:`RunResult` once the run is over. Fails with RunError if it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How a run is.

    Attributes:
        run: its id.
        module: the module it optimizes.
        method: how.
        state: running, paused, or how it ended.
        step: steps done.
        steps: how many there will be, if that is known.
        trials: pieces of work done (a candidate on some examples each).
        rows: examples run on, those found in the journal among them.
        errors: examples that failed, and so score 0.
        best_score: the best state's on the validation examples, 0 to 1, or None.
        base_score: the first that was told, usually of the program as it was; or None.
        best: the best state so far; before any is better, the program's own.
        paid: what its model calls came to.
        recalled: examples and model answers found in the journal, since that was last started.
        elapsed: seconds of work, over all starts.
        reason: why it ended as it did, if there is more to say.
    """

    run: str
    module: str
    method: str
    state: RunState
    step: int
    steps: int | None
    trials: int
    rows: int
    errors: int
    best_score: float | None
    base_score: float | None
    best: ProgramState
    paid: Paid
    recalled: int
    elapsed: float
    reason: str | None

    @classmethod
    def of(cls, progress: Mapping[str, Any], journal: JournalStatus, *, base: ProgramState, **known: Any) -> RunStatus:
        """The status that a run's progress tells, as it is written down.

        Args:
            progress: what the journal keeps of it; what it does not say has not begun.
            journal: what was paid for.
            base: the best state if none is told.
            **known: ``run``, ``module``, ``method``, ``state``; and ``elapsed`` if it is another than was written.
        """
        best = progress.get("best")
        told: dict[str, Any] = {name: progress.get(name, 0) for name in ("step", "trials", "rows", "errors")}
        told |= {name: progress.get(name) for name in ("steps", "best_score", "base_score", "reason")}
        told["best"] = base if best is None else ProgramState.from_dict(best)
        told["elapsed"] = progress.get("elapsed", 0.0)
        return cls(**(told | known), paid=journal.paid, recalled=journal.recalled)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a run.

    Attributes:
        run: its id.
        outcome: how it ended; whatever it is, ``state`` may be used.
        state: the best state found, with its provenance.
        score: the state's on the validation examples, 0 to 1, or None if nothing was scored.
        base_score: that of the program as it was, or None.
        status: the run's status at its end.
    """

    run: str
    outcome: Outcome
    state: ProgramState
    score: float | None
    base_score: float | None
    status: RunStatus
