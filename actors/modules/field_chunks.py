"""Pieces of a streamed prediction."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.errors import Error
from .prediction import Prediction


@dataclass(frozen=True, slots=True)
class FieldChunk:
    """Further text of one output field.

    Attributes:
        index: 0, 1, 2... over the whole prediction.
        field: the field's name.
        text: its next characters; joined they are the field as the model wrote it.
    """

    index: int
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class PredictionEnd:
    """The last item of every streamed prediction: the whole, or why there is none.

    Attributes:
        prediction: the checked and typed outputs, and how they came; None if it failed.
        error: why it failed: a ParseError, a StreamInterrupted or another LMError.
    """

    prediction: Prediction | None = None
    error: Error | None = None
