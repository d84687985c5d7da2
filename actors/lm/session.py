"""One request to a provider: budget, attempts under protection, pauses between them, and what is told of it all.

The order (``DESIGN`` section 7): once a request, the budget is reserved. For each attempt the protection is asked,
then the request is sent; whatever its end, the protection hears of it. After a failure that another attempt may mend
there is a pause; never after something was delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Final, TypeVar

from ...runtime.errors import CallTimeout, Error, LMError, StreamInterrupted
from ...runtime.gen_server import GenServer
from ..budgets.actor import NAME as BUDGETS
from ..budgets.messages import CancelReservation, Reserve, SettleBudget
from ..budgets.prices import cost_of, estimate_cost
from ..events.outbox import EventOutbox
from ..http.transport import HttpResponse
from ..protection.messages import Admission, Admit, Settle
from ..providers.credentials import Credentials
from ..providers.messages import Ask
from .error_context import AIContext, new_ai_context, with_context
from .failures import FAILURES, error_from_response, failure_of, lm_error
from .reports import LmReports
from .retries import pause
from .setup import Setup
from .values import UNKNOWN_USAGE, Attempt, LMResponse, Usage, estimate_tokens

T = TypeVar("T")

# What is left for the answer to reach a caller whose own deadline is near: it then hears what happened.
_MARGIN: Final = 0.02


class Session:
    """One request on its way.

    Args:
        actor: who makes it: the provider, or a stream of it.
        setup: with what.
        ask: what is asked.
        deadline: the caller's, on the loop's clock, or None.
        stream: whether the answer comes in pieces.
        outbox: the actor's way to the event store; one of its own if not given.

    Attributes:
        id: of its first event, and thereby its own.
        attempts: its tries so far.
        deadline: when its time is up, on the loop's clock: the caller's deadline or the provider's own limit.
    """

    def __init__(
        self,
        actor: GenServer,
        setup: Setup,
        ask: Ask,
        deadline: float | None,
        *,
        stream: bool,
        outbox: EventOutbox | None = None,
    ) -> None:
        settings = setup.settings
        self.setup, self.ask, self.stream = setup, ask, stream
        self.model = ask.request.model or settings.default_model
        self.attempts: tuple[Attempt, ...] = ()
        self.began = actor.clock.monotonic()
        self.deadline = actor.system.now() + (settings.stream_timeout if stream else settings.timeout)
        self._whose = "timeout"
        if deadline is not None and deadline - _MARGIN < self.deadline:
            self.deadline, self._whose = deadline - _MARGIN, "deadline"
        self._actor = actor
        # The trace of the code that began it, however it ends: a message of somebody else may end a stream.
        self._context = actor.context
        house = setup.house
        self._reports = LmReports(
            actor,
            setup.provider,
            house.monitoring,
            settings=settings,
            capture_content=house.capture_content,
            outbox=outbox,
        )
        self._status: int | None = None
        self._request_id: str | None = None
        self._sending = self._billable = False
        self._admission: str | None = None
        self._reservation: str | None = None
        request, tokens = ask.request, estimate_tokens(ask.request.messages)
        self._tokens = tokens + (request.max_tokens or 0)
        self.id = self._reports.began(
            request,
            self.model,
            capture_prompts=house.capture_prompts,
            stream=stream,
            tokens=tokens,
        )

    # -- attempts --------------------------------------------------------------------------------

    async def run(self, once: Callable[[], Awaitable[T]]) -> T:
        """Reserve the budget and try until one attempt succeeds; its admission is held until the session ends.

        Args:
            once: one attempt.

        Raises:
            LMError: the last attempt's failure, or why none could be made.
        """
        await self._reserve()
        pauses, failure = 0.0, None
        while True:
            waited = pauses + await self._admit(failure)
            try:
                return await self._recorded(once, waited)
            except LMError as error:
                failure = error
                self._settle(error)
                delay = pause(error, len(self.attempts), self.setup.settings, self._actor.random)
                if delay is None or not self._in_time(delay):
                    raise
            self._reports.retrying(self.id, self.model, failure, len(self.attempts), delay)
            await asyncio.sleep(delay)
            pauses = delay

    def limit(self) -> tuple[float, str]:
        """Seconds that the next step may take, and the row of a failure to keep to them."""
        left = max(self.deadline - self._actor.system.now(), 0.0)
        own = self.setup.settings.attempt_timeout
        return (left, self._whose) if own is None or left <= own else (own, "timeout")

    def clock(self, longest: float | None = None) -> StepClock:
        """The seconds that the next step may take; a step that is late says whose time was up.

        That decides whether it speaks against the provider.

        Args:
            longest: a limit of the step's own, in seconds.
        """
        limit, whose = self.limit()
        if longest is not None and longest < limit:
            limit, whose = longest, "timeout"
        self._sending = True
        return StepClock(limit, whose)

    def heard(self, head: HttpResponse) -> None:
        """The attempt was answered; for its record."""
        self._status, self._request_id = head.status, head.request_id

    def check(self, answer: HttpResponse, secrets: Credentials) -> None:
        """Refuse an answer whose status is no success.

        Raises:
            LMError: what the status and the body mean.
        """
        if not 200 <= answer.status < 300:
            place, now = self.setup.settings.base_url, self._actor.clock.time()
            raise error_from_response(answer, place=place, now=now, secrets=secrets.secrets)

    async def _recorded(self, once: Callable[[], Awaitable[T]], waited: float) -> T:
        """One attempt, recorded whatever its end."""
        began = self._actor.clock.monotonic()
        self._status = self._request_id = None
        code: str | None = "cancelled"
        self._sending, sent = False, True
        try:
            result = await once()
            code = None
        except LMError as error:
            code, row = error.code, failure_of(error)
            self._status = error.facts.get("status", self._status)
            # What the provider refused it does not bill.
            sent = (row is None or row.sent) and (self._status or 0) < 400
            raise
        finally:
            self._billable |= self._sending and sent
            seconds, number = self._actor.clock.monotonic() - began, len(self.attempts) + 1
            provider = self.setup.provider
            self.attempts += (Attempt(number, self._status, seconds, self._request_id, code, waited, provider),)
        return result

    def _in_time(self, delay: float) -> bool:
        now, longest = self._actor.system.now(), self.setup.settings.retry_max_elapsed
        elapsed = self._actor.clock.monotonic() - self.began + delay
        return now + delay < self.deadline and (longest is None or elapsed <= longest)

    # -- protection and budget -------------------------------------------------------------------

    async def _admit(self, failure: LMError | None) -> float:
        """Ask the protection for an attempt; the seconds it took. After a failure its refusal is not the news."""
        if not self.setup.house.protected:
            return 0.0
        self._admission = self._actor.ids.span_id()
        left, _ = self.limit()
        user, owner = self._context.user, self._actor.myAddress
        ask = Admit(self._admission, self._tokens, user, self.ask.on_limit, owner=owner)
        try:
            admission: Admission = await self._actor.call(f"protection/{self.setup.provider}", ask, timeout=left)
        except CallTimeout:
            self._settle_as("cancelled", None)
            raise failure or lm_error("limit", f"no room within {left:g} s, the caller's time", local=True) from None
        except LMError:
            self._admission = None
            if failure is not None:
                raise failure from None
            raise
        return admission.waited

    async def _reserve(self) -> None:
        if not self.setup.house.protected:
            return
        # Its event's id: what the log tells of the request later is then known to be this reservation.
        self._reservation, (left, _) = self.id, self.limit()
        ask = Reserve(self.id, self.accounts, self._tokens, self._estimate(), owner=self._actor.myAddress)
        try:
            await self._actor.call(BUDGETS, ask, timeout=left)
        except LMError:
            self._reservation = None
            raise

    def _settle(self, error: LMError) -> None:
        row = failure_of(error)
        self._settle_as(row.name if row else "invalid", None, error.facts.get("retry_after"))

    def _settle_as(self, failure: str | None, tokens: int | None, retry_after: float | None = None) -> None:
        if self._admission is not None:
            name = f"protection/{self.setup.provider}"
            self._actor.cast(name, Settle(self._admission, failure, tokens, retry_after))
            self._admission = None

    def _settle_budget(self, usage: Usage, cost: Decimal | None) -> None:
        if self._reservation is not None:
            self._actor.cast(BUDGETS, SettleBudget(self._reservation, usage.total_tokens, cost))
            self._reservation = None

    def _cancel_budget(self) -> None:
        if self._reservation is not None:
            self._actor.cast(BUDGETS, CancelReservation(self._reservation))
            self._reservation = None

    # -- ends ------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """The stream is open: from here on its own limit holds, not the deadline of the call that opened it."""
        opened = self._actor.system.now() - (self._actor.clock.monotonic() - self.began)
        self.deadline, self._whose = opened + self.setup.settings.stream_timeout, "timeout"

    def tell_first_chunk(self, seconds: float) -> None:
        """The first piece came, so many seconds after the beginning."""
        self._reports.first_chunk(self.id, self.model, seconds)

    def succeeded(self, response: LMResponse, *, first_chunk: float | None = None) -> LMResponse:
        """The answer is whole: settle everything and complete it."""
        cost = self._cost(response.usage, response.model)
        response = replace(
            response,
            provider=self.setup.provider,
            attempts=self.attempts,
            cost=cost,
            time_to_first_chunk=first_chunk,
            correlation_id=self._context.trace_id,
        )
        self._settle_as(None, response.usage.total_tokens)
        self._settle_budget(response.usage, cost)
        self._reports.succeeded(
            self.id, self.model, response, self.elapsed(), accounts=self.accounts, stream=self.stream
        )
        return response

    def found(self, response: LMResponse) -> LMResponse:
        """The answer came from the cache: nothing was sent."""
        response = replace(response, correlation_id=self._context.trace_id)
        self._reports.succeeded(self.id, self.model, response, self.elapsed(), accounts=self.accounts)
        return response

    def failed(self, error: Error | None, usage: Usage = UNKNOWN_USAGE) -> None:
        """It failed for good, or its caller gave up (no error)."""
        code = "cancelled" if error is None else error.code
        if error is not None:
            error.facts.update(provider=self.setup.provider, model=self.model, attempts=self.attempts)
        if isinstance(error, LMError):
            with_context(error, self._circumstances(usage))
            self._settle(error)
        self._settle_as("cancelled", usage.total_tokens)
        unbilled = self._unbilled()
        cost = None if unbilled else self._cost(usage, self.model or "")
        if unbilled:
            self._cancel_budget()
        self._settle_budget(usage, cost)
        self._reports.failed(
            self.id,
            self.model,
            code,
            error,
            self.attempts,
            self.elapsed(),
            usage=usage,
            cost=cost,
            accounts=() if unbilled else self.accounts,
            stream=self.stream,
            partial=isinstance(error, StreamInterrupted),
        )

    @property
    def accounts(self) -> tuple[str, ...]:
        """The budgets that pay for it."""
        return (f"provider/{self.setup.provider}", *self.ask.accounts)

    def _circumstances(self, usage: Usage) -> AIContext:
        context = new_ai_context(
            self.ask.request,
            provider=self.setup.provider,
            model=self.model,
            attempts=len(self.attempts),
            correlation_id=self._context.trace_id,
        )
        return replace(context, response_tokens=usage.output_tokens, total_tokens=usage.total_tokens)

    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._actor.clock.monotonic() - self.began

    def _unbilled(self) -> bool:
        """Whether no attempt can have cost anything: not sent, or refused by the provider."""
        return not self._billable

    def _cost(self, usage: Usage, model: str) -> Decimal | None:
        settings = self.setup.settings
        if not self.setup.house.monitoring.cost_tracking_enabled:
            return None
        return cost_of(
            usage,
            model=model,
            provider_kind=settings.kind,
            prices=settings.prices,
            base_url=settings.base_url,
            asked=self.model,
        )

    def _estimate(self) -> Decimal | None:
        """What it will cost at most; worked out only if a budget may be in money."""
        settings = self.setup.settings
        if not self.ask.accounts and (settings.budget is None or settings.budget.money is None):
            return None
        return estimate_cost(
            self._tokens - (self.ask.request.max_tokens or 0),
            self.ask.request.max_tokens or settings.default_max_tokens,
            model=self.model or "",
            provider_kind=settings.kind,
            prices=settings.prices,
            base_url=settings.base_url,
        )


class StepClock:
    """``with`` the seconds that a step may take; made by :meth:`Session.clock`."""

    __slots__ = ("_limit", "_whose")

    def __init__(self, limit: float, whose: str) -> None:
        self._limit, self._whose = limit, whose

    def __enter__(self) -> float:
        return self._limit

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, TimeoutError):
            return
        limit, whose = self._limit, self._whose
        if not isinstance(error, LMError):
            raise lm_error(whose, f"expected an answer within {limit:g} s, got none", timeout=limit) from None
        if error.facts.get("timeout") == limit:
            error.facts.update(failure=whose, retryable=FAILURES[whose].retryable)
