"""What a metric may use in a run with a journal: the models that it asks are asked once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from ...runtime.gen_server import CALL_TIMEOUT, GenServer
from ..lm.values import LMResponse
from ..modules.messages import Predict
from ..providers.messages import Complete
from .recorded_call import recorded
from .scope import RunScope

T = TypeVar("T")


class RecordedHost:
    """A :class:`~.evaluation.scoring.Host` for one prediction of a run.

    Args:
        actor: who scores.
        scope: where in the run.
    """

    def __init__(self, actor: GenServer, scope: RunScope) -> None:
        self._actor = actor
        self._scope = scope
        self._ordinal = 0

    def call(self, target: str, message: Any, *, timeout: float | None = CALL_TIMEOUT) -> Awaitable[Any]:
        """Ask an actor; a model's answer, of a module that is asked too, is taken from the journal, or kept there."""
        if type(message) is Predict and message.run is None:
            message = replace(message, run=self._scope.within(f"ask {self._turn()}"))
        if not isinstance(message, Complete):
            return self._actor.call(target, message, timeout=timeout)

        async def send(ask: Complete) -> LMResponse:
            answer: LMResponse = await self._actor.call(target, ask, timeout=timeout)
            return answer

        return recorded(self._actor, self._scope, self._turn(), message, send)

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run what blocks on a daemon thread."""
        return await self._actor.run_blocking(function, *args)

    def _turn(self) -> int:
        ordinal, self._ordinal = self._ordinal, self._ordinal + 1
        return ordinal
