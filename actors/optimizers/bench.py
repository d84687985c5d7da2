"""The port between an optimizer and the run that carries it: run a program on an example, ask a model, tell of steps.

Everything that costs goes through it, so the run can record it, repeat it from its journal, spread it over workers,
count it against the budget, pause and cancel. An optimizer holds no state that is not made again by the same answers
in the same order: then a run that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from ..examples import Example
from ..modules.prediction import Prediction
from ..modules.program_state import ProgramState
from ..signatures.signature import Signature


@dataclass(frozen=True, slots=True)
class PredictorCall:
    """One call of a named predictor while a program ran: what a bootstrapped demo is made of."""

    predictor: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A program's work on one example.

    Attributes:
        index: of the example in what was asked for.
        score: the metric's, 0 to 1; a failure scores 0.
        prediction: what it answered, or None if it failed.
        error: code of the failure, or None.
        feedback: what the metric says in words, for reflective optimizers; may be empty.
        calls: its predictors' calls, in order; only if a trace was asked for.
    """

    index: int
    score: float
    prediction: Prediction | None = None
    error: str | None = None
    feedback: str = ""
    calls: tuple[PredictorCall, ...] = ()


class Bench(Protocol):
    """What an optimizer works with.

    Attributes:
        predictors: the program's predictors by name, with the signatures that they have without any state.
        base: the state that the program has now.
        train: examples to learn from.
        validation: examples to choose by; held out from ``train``.
        rng: the run's own randomness, seeded.
    """

    predictors: Mapping[str, Signature]
    base: ProgramState
    train: Sequence[Example]
    validation: Sequence[Example]
    rng: Random

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """Run the program in this state on each example, in parallel; outcomes in the order of the examples.

        Args:
            state: what the predictors tell their models.
            examples: what to run on.
            trial: names this piece of work; the same name means the same work, answered from the journal.
            trace: whether the predictors' calls are wanted.

        Raises:
            RunStopped: the run was cancelled, or its budget is spent.
        """
        ...

    async def ask(self, prompt: str, *, trial: str, ordinal: int = 0, temperature: float | None = None) -> str:
        """Ask the run's prompt model one thing.

        Raises:
            RunStopped: the run was cancelled, or its budget is spent.
            LMError: the model failed for good.
        """
        ...

    async def tell(self, step: int, *, candidates: int, score: float | None, state: ProgramState | None) -> None:
        """A step is done: progress, event, checkpoint; ``state`` and its score on ``validation`` if it is the best yet.

        Raises:
            RunStopped: the run was cancelled, is out of budget, or has not got better for too long (patience).
        """
        ...


class Optimizer(Protocol):
    """One way to search; its options are its fields, checked when it is made."""

    @property
    def method(self) -> str:
        """The word that chooses it: ``labeled_few_shot``, ``bootstrap``..."""
        ...

    def steps(self, bench: Bench) -> int | None:
        """How many steps it will tell of, if that is known."""
        ...

    async def optimize(self, bench: Bench) -> ProgramState:
        """Search, and answer the best state found on ``bench.validation`` (never worse there than ``bench.base``).

        Raises:
            RunStopped: the bench wants no more; the best so far is what was told.
            ConfigError: the options do not fit the data (before anything was spent).
        """
        ...
