"""One prediction on its way through a module."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ...runtime.context import Context
from ...runtime.errors import Error
from ...runtime.telemetry import Span
from .messages import Predict, PredictOptions
from .plan import ModulePlan
from .prediction import PredictionInfo


@dataclass(slots=True)
class Execution:
    """What a prediction, its event and its telemetry need, from the call to its end.

    Attributes:
        msg: what was asked.
        plan: what the module worked with when it was.
        options: the call's options over the module's.
        began: on the monotonic clock.
        span: its telemetry.
        context: its place in the trace.
        slots: whose slot it holds, once it has its turn.
        deadline: when it is to be over, on the engine's clock; set once the inputs are checked.
        repairs: answers that did not fit and were asked for again.
        at_end: is told how it ended, a code or None; set for what goes on until then.
    """

    msg: Predict
    plan: ModulePlan
    options: PredictOptions
    began: float
    span: Span
    context: Context
    slots: asyncio.Semaphore | None = None
    deadline: float = 0.0
    repairs: int = 0
    at_end: Callable[[str | None], None] | None = None

    @property
    def info(self) -> PredictionInfo:
        """What is known of its answer before there is one."""
        context = self.context
        return PredictionInfo(correlation_id=context.trace_id, span_id=context.span_id, provider=self.plan.provider)


def code_of(error: BaseException) -> str:
    """The word for how work ended."""
    if isinstance(error, Error):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "crashed"
