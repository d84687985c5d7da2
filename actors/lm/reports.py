"""What the event store and telemetry are told of model requests, by whichever actor makes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

from ...runtime.context import Context
from ...runtime.errors import Error
from ...runtime.gen_server import GenServer
from ...runtime.telemetry import EventName
from ..configuration.provider_settings import ProviderSettings
from ..configuration.settings import MonitoringSettings
from ..events.kinds import Event, LmAttempt, LmError, LmFirstChunk, LmRequest, LmResponse, LmRetry, stamp
from ..events.outbox import EventOutbox
from ..events.stamps import stamp_unchecked
from ..json_values import json_text
from .error_context import AIContext
from .values import (
    UNKNOWN_USAGE,
    Attempt,
    LMRequest,
    LMResponse,
    Message,
    Usage,
    estimate_tokens,
    message_dict,
)

E = TypeVar("E", bound=Event)

START: Final = ("dspex", "lm", "start")
"""Telemetry: a request is about to be made. Measurements: ``system_time``, ``prompt_tokens``."""
RETRY: Final = ("dspex", "lm", "retry")
"""Telemetry: an attempt failed and another follows. Measurements: ``attempt``, ``delay``."""
CHUNK: Final = ("dspex", "lm", "chunk")
"""Telemetry: the first chunk of a stream came. Measurements: ``time_to_first_token``."""
STOP: Final = ("dspex", "lm", "stop")
"""Telemetry: a request was answered. Measurements: ``duration``, ``attempts``, tokens and cost as far as they are
known, and ``waited``: how long its first attempt waited for room (absent if there was none)."""
EXCEPTION: Final = ("dspex", "lm", "exception")
"""Telemetry: a request failed for good. Measurements as those of :data:`STOP`."""

_MONITORING: Final = MonitoringSettings()
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_OPTIONS: Final = ("temperature", "top_p", "max_tokens", "stop", "seed", "response_format")
_PLACE: Final = ("trace_id", "span_id", "parent_id", "user")
_CONTEXT: Final = ("prompt_hash", "prompt_tokens", "prompt_type", "response_hash", "finish_reason")


class LmReports:
    """Tells of requests in an actor's name. Durations are in seconds.

    Args:
        actor: who makes the requests.
        provider: the provider's id.
        monitoring: what is measured and noted; by default everything but single attempts.
        settings: the provider's, for what telemetry says of it.
        capture_content: whether telemetry is given prompts and answers.
        outbox: the way to the event store; one of its own if not given.
    """

    def __init__(
        self,
        actor: GenServer,
        provider: str,
        monitoring: MonitoringSettings = _MONITORING,
        *,
        settings: ProviderSettings | None = None,
        capture_content: bool = False,
        outbox: EventOutbox | None = None,
    ) -> None:
        self._actor = actor
        self._provider = provider
        self._monitoring = monitoring
        self._settings = settings
        self._capture_content = capture_content
        self._outbox = EventOutbox(actor.system) if outbox is None else outbox
        self._context: Context | None = None

    def began(
        self,
        request: LMRequest,
        model: str | None,
        *,
        capture_prompts: bool,
        stream: bool = False,
        tokens: int | None = None,
    ) -> str:
        """A request is about to be sent; the id of its ``lm_request`` event.

        All that is told of it stands in the trace of the code that calls this, however it ends: a stream may be ended
        by a message of somebody else.

        Args:
            request: what is asked.
            model: which model is asked.
            capture_prompts: whether its messages are kept.
            stream: it is to come in chunks.
            tokens: their estimated tokens, if they are known already.
        """
        self._context = self._actor.context
        messages = request.messages
        tokens = estimate_tokens(messages) if tokens is None else tokens
        kept = tuple(_captured(turn) for turn in messages) if capture_prompts else None
        event = self._note(
            LmRequest, model, prompt_hash=request.prompt, prompt_tokens=tokens, stream=stream, messages=kept
        )
        self._outbox.emit(event)
        if self._actor.system.telemetry.listens(START):
            measured = {"system_time": self._actor.clock.time(), "prompt_tokens": tokens}
            self._execute(START, model, measured, self._asked(request, stream=stream))
        return event.id

    def retrying(self, event_id: str, model: str | None, error: Error, attempt: int, delay: float) -> None:
        """Attempt number ``attempt`` failed, and another follows after ``delay`` seconds."""
        said = {"code": error.code, "status": error.facts.get("status")}
        event = self._stamp(LmRetry, model, request_event_id=event_id, attempt=attempt, delay=delay, **said)
        self._outbox.emit(event)
        self._execute(RETRY, model, {"attempt": attempt, "delay": delay}, said)

    def first_chunk(self, event_id: str, model: str | None, seconds: float) -> None:
        """The first chunk of a stream came, ``seconds`` after the request began."""
        self._outbox.emit(self._note(LmFirstChunk, model, request_event_id=event_id, seconds=seconds))
        self._execute(CHUNK, model, self._timed(time_to_first_token=seconds), {})

    def succeeded(
        self,
        event_id: str,
        model: str | None,
        response: LMResponse,
        duration: float,
        *,
        accounts: tuple[str, ...] = (),
        stream: bool = False,
    ) -> None:
        """It was answered, after ``duration`` seconds. What nobody counted is not measured.

        Args:
            event_id: of its ``lm_request``.
            model: which model was asked.
            response: the answer, its cost included.
            duration: from the beginning, retries included.
            accounts: the budgets that paid for it.
            stream: it came in chunks; taken as said if the answer tells when its first chunk came.
        """
        attempts, paid = len(response.attempts), self._paid(response.usage, response.cost)
        event = self._note(
            LmResponse,
            response.model,
            request_event_id=event_id,
            usage_source=response.usage.source,
            duration=duration,
            time_to_first_token=response.time_to_first_chunk,
            finish_reason=response.finish_reason,
            cache_hit=response.cache_hit,
            attempts=attempts,
            stream=stream or response.time_to_first_chunk is not None,
            accounts=accounts,
            request_id=response.request_id,
            **paid,
        )
        self._outbox.emit(*self._attempted(event_id, model, response.attempts), event)
        measured = self._measured(duration, response.attempts) | {"attempts": attempts} | paid
        self._execute(STOP, model, measured, self._answered(response))

    def failed(
        self,
        event_id: str,
        model: str | None,
        code: str,
        error: Error | None,
        attempts: int | tuple[Attempt, ...],
        duration: float,
        *,
        usage: Usage = UNKNOWN_USAGE,
        cost: Decimal | None = None,
        accounts: tuple[str, ...] = (),
        stream: bool = False,
        partial: bool = False,
    ) -> None:
        """It failed for good after ``duration`` seconds, or was cancelled (no error).

        Args:
            event_id: of its ``lm_request``.
            model: which model was asked.
            code: of the error, or ``cancelled``.
            error: what it failed with; told are its facts ``status``, ``retry_after``, ``request_id``, ``ai_context``.
            attempts: its tries, or how many they were.
            duration: from the beginning, retries included.
            usage: what was used all the same.
            cost: of that, in US dollars.
            accounts: the budgets that paid for that; none if nothing was sent.
            stream: it was to come in chunks.
            partial: some of the answer had been delivered.
        """
        facts = {} if error is None else error.facts
        tries = _tries(attempts, facts)
        count, paid = attempts if isinstance(attempts, int) else len(attempts), self._paid(usage, cost)
        event = self._stamp(
            LmError,
            model,
            request_event_id=event_id,
            code=code,
            message="the caller gave up" if error is None else str(error),
            status=facts.get("status"),
            retry_after=facts.get("retry_after"),
            request_id=facts.get("request_id"),
            attempts=count,
            duration=duration,
            usage_source=usage.source,
            accounts=accounts,
            stream=stream,
            partial=partial,
            **paid,
            **_context(facts),
        )
        self._outbox.emit(*self._attempted(event_id, model, tries), event)
        said = {"code": code, "status": facts.get("status"), "kind": "exit" if error is None else "error"}
        said["usage_source"] = usage.source
        self._execute(EXCEPTION, model, self._measured(duration, tries) | {"attempts": count} | paid, said)

    def _attempted(self, event_id: str, model: str | None, attempts: tuple[Attempt, ...]) -> tuple[LmAttempt, ...]:
        if not self._monitoring.detailed_event_logging:
            return ()
        return tuple(
            self._stamp(
                LmAttempt,
                model,
                request_event_id=event_id,
                number=each.number,
                seconds=each.seconds,
                waited=each.waited,
                status=each.status,
                code=each.error_code,
                request_id=each.request_id,
            )
            for each in attempts
        )

    def _measured(self, duration: float, attempts: tuple[Attempt, ...]) -> dict[str, Any]:
        # Before the first attempt there is no pause: its wait is the wait for room.
        return self._timed(duration=duration, waited=attempts[0].waited) if attempts else self._timed(duration=duration)

    def _asked(self, request: LMRequest, *, stream: bool) -> dict[str, Any]:
        """What telemetry says of a request; what it asks only if that is wanted."""
        options = {name: value for name in _OPTIONS if (value := getattr(request, name)) is not None}
        facts: dict[str, Any] = {"address": self._actor.myAddress, "stream": stream, "options": options}
        if self._settings is not None:
            facts |= {"kind": self._settings.kind, "base_url": self._settings.base_url}
        return facts | {"messages": request.messages, "tools": request.tools} if self._capture_content else facts

    def _answered(self, response: LMResponse) -> dict[str, Any]:
        facts = {
            "finish_reason": response.finish_reason,
            "response_model": response.model,
            "response_id": response.response_id,
            "usage_source": response.usage.source,
            "cache_hit": response.cache_hit,
        }
        return facts | {"response": response} if self._capture_content else facts

    def _paid(self, usage: Usage, cost: Decimal | None) -> dict[str, Any]:
        """Tokens and cost, as far as they are known."""
        paid: dict[str, Any] = {name: count for name in _COUNTS if (count := getattr(usage, name)) is not None}
        if cost is not None and self._monitoring.cost_tracking_enabled:
            paid["cost"] = cost
        return paid

    def _timed(self, **seconds: float) -> dict[str, Any]:
        return dict(seconds) if self._monitoring.performance_logging else {}

    def _stamp(self, cls: type[E], model: str | None, **fields: Any) -> E:
        context = self._context or self._actor.context
        place = {name: getattr(context, name) for name in _PLACE}
        return stamp(self._actor, cls, provider=self._provider, model=model, **place, **fields)

    def _note(self, cls: type[E], model: str | None, **fields: Any) -> E:
        """As :meth:`_stamp`, of what each request makes: those values need no check."""
        context = self._context or self._actor.context
        return stamp_unchecked(self._actor, cls, context, provider=self._provider, model=model, **fields)

    def _execute(
        self, event: EventName, model: str | None, measured: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> None:
        metadata = {"provider": self._provider, "model": model, "context": self._context, **facts}
        self._actor.system.telemetry.execute(event, measured, metadata)


def _tries(attempts: int | tuple[Attempt, ...], facts: Mapping[str, Any]) -> tuple[Attempt, ...]:
    if not isinstance(attempts, int):
        return attempts
    found: tuple[Attempt, ...] = facts.get("attempts", ())
    return found


def _context(facts: Mapping[str, Any]) -> dict[str, Any]:
    context = facts.get("ai_context")
    return {name: getattr(context, name) for name in _CONTEXT} if isinstance(context, AIContext) else {}


def _captured(message: Message) -> dict[str, Any]:
    # Text that no file takes (halves of surrogate pairs) may be sent, but not kept.
    found: dict[str, Any] = json.loads(json_text(json.dumps(message_dict(message), ensure_ascii=False)))
    return found
