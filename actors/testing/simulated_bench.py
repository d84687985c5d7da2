"""A bench without actors, over the simulated model: what optimizers are tested on, in any order of completion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ...runtime.errors import LMError, RunStopped
from ..examples import Example
from ..modules.prediction import Prediction
from ..modules.program_state import ONLY, PredictorState, ProgramState
from ..optimizers.bench import Outcome, PredictorCall
from ..signatures.signature import Signature
from .simulated_lm import SIGNATURE, classify, dataset, judge, write


@dataclass(frozen=True, slots=True)
class Told:
    """One step as it was told."""

    step: int
    candidates: int
    score: float | None
    state: ProgramState | None


class SimulatedBench:
    """A program with one predictor, over the simulated model.

    Args:
        train, validation: how many examples of each; they do not overlap.
        first: number of the first of them; other numbers are other data.
        seed: of the run's own randomness.
        base: the state that the program has.
        budget: calls of the model until it is spent; None: without end.
        patience: steps without a better program until it is stopped; 0: without end.
        order: decides in which order calls of the model end; the same calls give the same answers in any.
        answer: what the prompt model answers; an error is raised.

    Attributes:
        told: the steps, in order.
        asked: names of the pieces of work, in order.
        prompts: what the prompt model was asked.
        calls: how many calls the model got, those of the prompt model included.
        most: calls in work at once, at most.
    """

    def __init__(
        self,
        *,
        train: int = 40,
        validation: int = 40,
        first: int = 0,
        seed: int = 0,
        base: ProgramState | None = None,
        budget: int | None = None,
        patience: int = 0,
        order: Random | None = None,
        answer: Callable[[str], str | LMError] = write,
    ) -> None:
        self.predictors: Mapping[str, Signature] = {ONLY: SIGNATURE}
        self.base = base or ProgramState()
        self.train: Sequence[Example] = dataset(train, first)
        self.validation: Sequence[Example] = dataset(validation, first + train)
        self.rng = Random(seed)
        self._budget = budget
        self._patience = patience
        self._order = order
        self._answer = answer
        self._since = 0
        self._busy = 0
        self.told: list[Told] = []
        self.asked: list[str] = []
        self.prompts: list[str] = []
        self.calls = 0
        self.most = 0

    @property
    def best(self) -> ProgramState | None:
        """The best so far: what was told last."""
        return next((told.state for told in reversed(self.told) if told.state is not None), None)

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """See :class:`~..optimizers.bench.Bench`."""
        self.asked.append(trial)
        work = [self._outcome(index, state, example, trace) for index, example in enumerate(examples)]
        return list(await asyncio.gather(*work))

    async def ask(self, prompt: str, *, trial: str, ordinal: int = 0, temperature: float | None = None) -> str:
        """See :class:`~..optimizers.bench.Bench`."""
        self.asked.append(f"{trial}:{ordinal}")
        self.prompts.append(prompt)
        await self._call()
        answer = self._answer(prompt)
        if isinstance(answer, LMError):
            raise answer
        return answer

    async def tell(self, step: int, *, candidates: int, score: float | None, state: ProgramState | None) -> None:
        """See :class:`~..optimizers.bench.Bench`."""
        self.told.append(Told(step, candidates, score, state))
        self._since = 0 if state is not None else self._since + 1
        if self._patience and self._since >= self._patience:
            raise RunStopped(f"no better program in {self._since} steps", outcome="stopped_early")

    async def _outcome(self, index: int, state: ProgramState, example: Example, trace: bool) -> Outcome:
        await self._call()
        told = state.predictors.get(ONLY, PredictorState())
        inputs: dict[str, Any] = example.inputs()
        prediction = Prediction({"label": classify(inputs["text"], told.instructions, told.demos)})
        score, feedback = judge(example, prediction)
        calls = (PredictorCall(ONLY, inputs, prediction.to_dict()),) if trace else ()
        return Outcome(index, score, prediction, None, feedback, calls)

    async def _call(self) -> None:
        if self._budget is not None and self.calls >= self._budget:
            raise RunStopped(f"the budget of {self._budget} calls is spent", outcome="budget_exhausted")
        self.calls += 1
        self._busy += 1
        self.most = max(self.most, self._busy)
        try:
            for _ in range(self._order.randrange(4) if self._order else 1):
                await asyncio.sleep(0)
        finally:
            self._busy -= 1


def accuracy(state: ProgramState, examples: Sequence[Example]) -> float:
    """Which part of the examples the program answers right in this state."""
    told = state.predictors.get(ONLY, PredictorState())
    right = [each for each in examples if classify(each["text"], told.instructions, told.demos) == each["label"]]
    return len(right) / len(examples)
