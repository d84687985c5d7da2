"""best_of_n: several answers to the same question, one after the other; the best by a metric is the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....runtime.errors import CallError, LMError, ParseError
from ..prediction import Prediction
from ..program_state import ONLY
from ..reward import Reward

if TYPE_CHECKING:
    from ..model_calls import ModelCalls


@dataclass(frozen=True, slots=True)
class BestOfN(Reward):
    """Asks up to ``n`` times, each answer fresh (a rollout of its own in the cache), until one is good enough."""

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "best_of_n"

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> Prediction:
        """The best answer; the first of equals. One that fails is passed over, unless all do.

        Raises:
            LMError, CallError, ParseError: every answer failed; the last failure.
        """
        best: tuple[float, Prediction] | None = None
        failed: Exception | None = None
        for number in range(self.n):
            try:
                prediction = await calls.predict(ONLY, inputs, rollout=str(number))
            except (LMError, CallError, ParseError) as error:
                failed = error
                continue
            score = (await self.score(calls.actor, inputs, prediction)).score
            if best is None or score > best[0]:
                best = (score, prediction)
            if score >= self.threshold:
                break
        if best is None:
            assert failed is not None
            raise failed
        return best[1]
