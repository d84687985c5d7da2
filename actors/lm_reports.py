"""What the event store and telemetry are told of model requests, by whichever actor makes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..runtime.errors import Error
from ..runtime.gen_server import GenServer
from .event_outbox import EventOutbox
from .events import Event, LmError, LmRequest, LmResponse, stamp
from .json_values import json_text
from .lm import LMRequest, LMResponse, Message, estimate_tokens, message_dict, prompt_hash


class LmReports:
    """Tells of requests in an actor's name.

    Args:
        actor: who makes the requests; the trace of the code that calls is used.
        provider: the provider's id.
    """

    def __init__(self, actor: GenServer, provider: str) -> None:
        self._actor = actor
        self._provider = provider
        self._outbox = EventOutbox(actor.system)

    def began(self, request: LMRequest, model: str | None, *, capture_prompts: bool) -> str:
        """A request is about to be sent; the id of its ``lm_request`` event."""
        messages, tokens = request.messages, estimate_tokens(request.messages)
        kept = tuple(_captured(turn) for turn in messages) if capture_prompts else None
        facts = {"prompt_hash": prompt_hash(messages), "prompt_tokens": tokens, "messages": kept}
        event = self._emit(stamp(self._actor, LmRequest, provider=self._provider, model=model, **facts))
        self._execute("start", model, {"system_time": self._actor.clock.time(), "prompt_tokens": tokens}, {})
        return event.id

    def succeeded(self, event_id: str, model: str | None, response: LMResponse, duration: float) -> None:
        """It was answered, after ``duration`` seconds. What nobody counted is not measured."""
        usage, attempts = response.usage, len(response.attempts)
        counts = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "cached_tokens": usage.cached_tokens,
        }
        event = stamp(
            self._actor,
            LmResponse,
            provider=self._provider,
            model=response.model,
            request_event_id=event_id,
            usage_source=usage.source,
            duration=duration,
            finish_reason=response.finish_reason,
            attempts=attempts,
            **counts,
        )
        self._emit(event)
        known = {name: count for name, count in counts.items() if count is not None}
        facts = {"finish_reason": response.finish_reason, "response_model": response.model}
        self._execute("stop", model, {"duration": duration, "attempts": attempts, **known}, facts)

    def failed(
        self, event_id: str, model: str | None, code: str, error: Error | None, attempts: int, duration: float
    ) -> None:
        """It failed for good after ``duration`` seconds, or was cancelled (no error)."""
        facts = {} if error is None else error.facts
        event = stamp(
            self._actor,
            LmError,
            provider=self._provider,
            model=model,
            request_event_id=event_id,
            code=code,
            message="the caller gave up" if error is None else str(error),
            status=facts.get("status"),
            retry_after=facts.get("retry_after"),
            attempts=attempts,
            duration=duration,
        )
        self._emit(event)
        said = {"code": code, "status": facts.get("status"), "kind": "exit" if error is None else "error"}
        self._execute("exception", model, {"duration": duration, "attempts": attempts}, said)

    def _emit(self, event: Event) -> Event:
        self._outbox.emit(event)
        return event

    def _execute(self, what: str, model: str | None, measured: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        metadata = {"provider": self._provider, "model": model, **facts}
        self._actor.system.telemetry.execute(("dspex", "lm", what), measured, metadata)


def _captured(message: Message) -> dict[str, Any]:
    # Text that no file takes (halves of surrogate pairs) may be sent, but not kept.
    found: dict[str, Any] = json.loads(json_text(json.dumps(message_dict(message), ensure_ascii=False)))
    return found
