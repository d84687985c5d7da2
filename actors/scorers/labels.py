"""Which of a prediction's fields are compared with what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...runtime.errors import RunError
from ..examples import Example
from ..modules.prediction import Prediction


def compared(example: Example, prediction: Prediction, field: str | None) -> Iterator[tuple[str, Any, Any]]:
    """Pairs to compare: the field's name, what is expected, and what was predicted.

    Args:
        example: its labels are what is expected.
        prediction: what was predicted.
        field: the only field to compare, or None for every label that the prediction has.

    Raises:
        RunError: there is nothing to compare.
    """
    labels = example.labels()
    names = [name for name in labels if name in prediction] if field is None else [field]
    missing = [name for name in names if name not in labels or name not in prediction]
    if missing or not names:
        expected = "a label that the prediction has" if field is None else f"{field!r} in both"
        got = f"labels {', '.join(labels) or 'none'} and outputs {', '.join(prediction) or 'none'}"
        raise RunError(f"expected {expected}, got {got}", field=field, expected=expected, got=got)
    for name in names:
        yield name, labels[name], prediction[name]


def alternatives(expected: Any, got: Any) -> list[Any]:
    """What may be answered: each of a list, unless a list was to be answered."""
    if isinstance(expected, list | tuple) and not isinstance(got, list | tuple):
        return list(expected)  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    return [expected]


def as_text(value: Any) -> str:
    """A value as the text that is compared; a whole float is written as a whole number."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)
