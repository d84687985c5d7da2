"""refine: the model is shown its answer and what the metric says of it, and answers again; the best is the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....runtime.errors import CallError, LMError, ParseError
from ...evaluation.scoring import MetricResult
from ...lm.values import Message
from ..prediction import Prediction
from ..program_state import ONLY
from ..reward import Reward

if TYPE_CHECKING:
    from ..model_calls import ModelCalls


@dataclass(frozen=True, slots=True)
class Refine(Reward):
    """Asks up to ``n`` times, from the second on with the last answer, its score and the metric's feedback."""

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "refine"

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> Prediction:
        """The best answer; the first of equals. A later round that fails ends the search with what there is.

        Raises:
            LMError, CallError, ParseError: the first answer failed.
        """
        best = last = await calls.predict(ONLY, inputs)
        highest = said = await self.score(calls.actor, inputs, last)
        for _ in range(1, self.n):
            if highest.score >= self.threshold:
                break
            try:
                last = await calls.predict(ONLY, inputs, after=_advice(last, said))
            except (LMError, CallError, ParseError):
                break  # what was paid for is better than nothing
            said = await self.score(calls.actor, inputs, last)
            if said.score > highest.score:
                best, highest = last, said
        return best


def _advice(prediction: Prediction, said: MetricResult) -> tuple[Message, ...]:
    feedback = f"\nFeedback: {said.feedback}" if said.feedback else ""
    asked = (
        f"Your answer scored {said.score:.2f} of 1.{feedback}\n"
        "Write a better answer: the whole of it, in the form that was asked for."
    )
    return (Message("assistant", prediction.info.text), Message("user", asked))
