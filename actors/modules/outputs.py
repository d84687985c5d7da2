"""From a model's answer to a prediction: its fields, and how it came."""

from __future__ import annotations

from typing import Any, Protocol

from ...runtime.errors import ParseError
from ..adapter import Adapter
from ..lm.values import LMResponse
from ..signatures.signature import Signature
from ..signatures.values import KEPT, Checking, shorten
from .prediction import PredictionInfo


class AnswerPlan(Protocol):
    """What an answer is read by; plans of modules and of predictors are such."""

    @property
    def signature(self) -> Signature:
        """What was asked."""
        ...

    @property
    def adapter(self) -> Adapter:
        """Who reads the answer."""
        ...

    @property
    def checking(self) -> Checking:
        """How values are held to their types."""
        ...

    @property
    def retry_failed_predictions(self) -> bool:
        """Whether an answer that does not fit is repaired."""
        ...


def read_outputs(plan: AnswerPlan, response: LMResponse) -> dict[str, Any]:
    """The output fields of an answer.

    Raises:
        ParseError: it does not fit the signature, or the model refused.
    """
    if response.refusal is not None and not response.text.strip():
        expected, got = ", ".join(plan.signature.output_names), shorten(repr(response.refusal))
        raise ParseError(
            f"expected the fields {expected}, got the model's refusal {got}",
            expected=expected,
            got=got,
            text=shorten(response.refusal, KEPT),
            finish_reason=response.finish_reason,
        )
    try:
        return plan.adapter.parse(plan.signature, response.text, checking=plan.checking)
    except ParseError as error:
        hint = "; the answer was cut off, max_tokens is too small" if response.finish_reason == "length" else ""
        facts = {**error.facts, "finish_reason": response.finish_reason}
        raise ParseError(f"{error.message}{hint}", **facts) from None


def how(info: PredictionInfo, response: LMResponse, duration: float, repairs: int = 0) -> PredictionInfo:
    """``info`` with what an answer adds: who answered, how much of it, and for how much."""
    return PredictionInfo(
        usage=response.usage,
        cost=response.cost,
        correlation_id=info.correlation_id,
        span_id=info.span_id,
        attempts=response.attempts,
        provider=response.provider or info.provider,
        model=response.model,
        finish_reason=response.finish_reason,
        cache_hit=response.cache_hit,
        time_to_first_chunk=response.time_to_first_chunk,
        duration=duration,
        text=response.text,
        repairs=repairs,
        calls=info.calls,
    )
