"""The port between a module actor and what it does with one call. Implementations live in ``kinds/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ..signatures.signature import Signature
from .prediction import Prediction

if TYPE_CHECKING:
    from .model_calls import ModelCalls


@dataclass(frozen=True, slots=True)
class LastCall:
    """The last step of a prediction: what this predictor answers is the answer, whole or as a stream.

    Args:
        predictor: its name.
        inputs: a value for each of its inputs, checked.
    """

    predictor: str
    inputs: Mapping[str, Any] = field(hash=False)


Answer: TypeAlias = Prediction | LastCall


class ModuleKind(Protocol):
    """One way to answer; its options are its fields, checked when it is made. Holds nothing of a single call."""

    @property
    def name(self) -> str:
        """The word that chooses it: ``predict``, ``chain_of_thought``..."""
        ...

    def signature(self, given: Signature) -> Signature:
        """What the module takes and gives, whose declared signature is ``given``."""
        ...

    def predictors(self, given: Signature) -> Mapping[str, Signature]:
        """Its predictors by name, with their signatures."""
        ...

    async def answer(self, calls: ModelCalls, inputs: Mapping[str, Any]) -> Answer:
        """Answer one call, whose inputs are checked.

        Raises:
            Error: there is no answer; the caller is told.
        """
        ...
