"""What became of one example, as a run's journal keeps it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..examples import Example
from ..json_values import as_json
from ..modules.prediction import Prediction
from ..modules.program_state import ProgramState
from ..optimizers.bench import Outcome, PredictorCall

_SEPARATOR: Final = "\x1f"


def row_key(trial: str, index: int) -> str:
    """The journal's key of an example of a trial."""
    return f"{trial}{_SEPARATOR}{index}"


def encode_row(outcome: Outcome, example: Example, state: ProgramState, *, traced: bool) -> str:
    """An outcome as JSON text; what is no JSON in a prediction becomes text."""
    prediction = outcome.prediction
    return json.dumps(
        {
            "example": example.key,
            "state": state.key,
            "score": outcome.score,
            "error": outcome.error,
            "feedback": outcome.feedback,
            "fields": None if prediction is None else as_json(prediction.to_dict()),
            "calls": [as_json([call.predictor, call.inputs, call.outputs]) for call in outcome.calls]
            if traced
            else None,
        }
    )


def decode_row(text: str, index: int, example: Example, state: ProgramState, *, traced: bool) -> Outcome | None:
    """Read what :func:`encode_row` wrote; None if of another example or state, or a trace is asked and missing."""
    row: dict[str, Any] = json.loads(text)
    if (row["example"], row["state"]) != (example.key, state.key) or (traced and row["calls"] is None):
        return None
    calls: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = (row["calls"] if traced else None) or ()
    return Outcome(
        index=index,
        score=row["score"],
        prediction=None if row["fields"] is None else Prediction(row["fields"]),
        error=row["error"],
        feedback=row["feedback"],
        calls=tuple(PredictorCall(*call) for call in calls),
    )
