"""The line from DSPy to a provider actor: what is asked, on whose behalf, and how long it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, TypeVar

from thespian.actors import ActorAddress

from ...runtime.context import Context
from ...runtime.engine import Engine
from ..lm.values import LMRequest, LMResponse
from ..providers.messages import Ask, Complete, OnLimit, OpenStream
from .lifeline import Lifeline

A = TypeVar("A", bound=Ask)
TIMEOUT: Final = 120.0
"""Seconds that one model call may take unless told otherwise, retries and waiting for room included."""
MAX_DEMAND: Final = 64


@dataclass(frozen=True, slots=True)
class Journaled:
    """Where calls go that are to be found again after a crash.

    Args:
        target: the actor that keeps them.
        message: what that is asked for a call.
    """

    target: str | ActorAddress
    message: Callable[[Complete], Any]


@dataclass(frozen=True, slots=True)
class Line:
    """How DSPy's calls are sent.

    Args:
        engine: the application's, ``app.engine``.
        provider: id of the provider, or of a route across several.
        model: which model to ask; None takes the provider's default.
        timeout: seconds that one call may take, retries included; None for ever. Of a stream, until its first piece.
        accounts: budgets that pay beside the provider's own.
        user: on whose behalf.
        on_limit: ``wait`` for room or ``fail`` at once; as the provider is configured if None.
        cache: whether answers from our cache will do. Off by default: DSPy asks the very same thing again where it
            wants another answer (``n``, ``rollout_id``), and does not tell its engine.
        rollout: requests that are alike but for this have answers of their own in the cache.
        context: the place in a trace where the calls belong; None begins one for each.
        deadline: on the engine's clock; calls are cut to what is left until then.
        journaled: where they go instead of the provider itself.
        heard: told of each answer, on the thread that asked.
        lifeline: ends the calls when the program's own call is given up; None leaves them to their time.
    """

    engine: Engine
    provider: str
    _: KW_ONLY
    model: str | None = None
    timeout: float | None = TIMEOUT
    accounts: tuple[str, ...] = ()
    user: str | None = None
    on_limit: OnLimit | None = None
    cache: bool = False
    rollout: str | None = None
    context: Context | None = None
    deadline: float | None = None
    journaled: Journaled | None = None
    heard: Callable[[LMResponse], None] = lambda _: None
    lifeline: Lifeline | None = None

    @property
    def target(self) -> str | ActorAddress:
        """Who is asked for whole answers."""
        return f"provider/{self.provider}" if self.journaled is None else self.journaled.target

    @property
    def how(self) -> dict[str, Any]:
        """Arguments of a call over this line, now."""
        engine, timeout = self.engine, self.timeout
        if self.deadline is not None:
            left = max(self.deadline - engine.now(), 0.0)
            timeout = left if timeout is None else min(timeout, left)
        place = self.context
        context = Context.root(engine.ids, user=self.user) if place is None else place
        return {"timeout": timeout, "context": context}

    def ask(self, request: LMRequest) -> LMResponse:
        """The whole answer, waited for in a thread. Raises as the provider actor, or CallError."""
        outside, asked = self.engine.outside, self._complete(request)
        if self.lifeline is None:
            found: LMResponse = outside.call_blocking(self.target, asked, **self.how)
        else:
            found = self.lifeline.run(outside.call_async(self.target, asked, **self.how))
        return found

    async def ask_async(self, request: LMRequest) -> LMResponse:
        """The same, awaited on any event loop."""
        call = self.engine.outside.call_async(self.target, self._complete(request), **self.how)
        found: LMResponse = await (call if self.lifeline is None else self.lifeline.run_async(call))
        return found

    def _complete(self, request: LMRequest) -> Any:
        ask = self._ask(Complete, request)
        return ask if self.journaled is None else self.journaled.message(ask)

    def open_stream(self, request: LMRequest) -> OpenStream:
        """What is asked for a stream."""
        return self._ask(OpenStream, request)

    def _ask(self, kind: type[A], request: LMRequest) -> A:
        return kind(request, accounts=self.accounts, on_limit=self.on_limit, cache=self.cache, rollout=self.rollout)
