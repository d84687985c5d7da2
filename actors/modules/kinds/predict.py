"""predict: a signature, asked of a model once a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...signatures.signature import Signature
from ..kind import LastCall
from ..program_state import ONLY

if TYPE_CHECKING:
    from ..model_calls import ModelCalls


@dataclass(frozen=True, slots=True)
class PredictKind:
    """One predictor, asked once."""

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "predict"

    def signature(self, given: Signature) -> Signature:
        """The declared one."""
        return given

    def predictors(self, given: Signature) -> Mapping[str, Signature]:
        """The only one."""
        return {ONLY: given}

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> LastCall:
        """Ask it."""
        return LastCall(ONLY, inputs)
