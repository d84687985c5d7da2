"""chain_of_thought: the model writes its reasoning before its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...signatures.signature import Signature
from ..kind import LastCall
from ..program_state import ONLY
from ..reasoning import with_reasoning

if TYPE_CHECKING:
    from ..model_calls import ModelCalls


@dataclass(frozen=True, slots=True)
class ChainOfThoughtKind:
    """One predictor that has an output more: ``reasoning``."""

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "chain_of_thought"

    def signature(self, given: Signature) -> Signature:
        """The declared one, and the reasoning."""
        return with_reasoning(given)

    def predictors(self, given: Signature) -> Mapping[str, Signature]:
        """The only one."""
        return {ONLY: with_reasoning(given)}

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> LastCall:
        """Ask it."""
        return LastCall(ONLY, inputs)
