"""What happened, as values: one frozen, versioned pydantic model for each type of event.

Every event says what (``type``, ``version``), when (``time``), who (``source``, ``user``) and where in a trace
it happened. Ids sort by time. An actor makes one with :func:`stamp`, which takes all of that from the actor::

    self.cast("core/events", Append((stamp(self, LmRequest, provider="local", model="m", prompt_hash=h),)))
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from .event import Count, CustomEvent, Data, Event, Money, Seconds, UnknownEvent, event_class, event_types
from .stamps import EventSource, stamp


class LmRequest(Event, frozen=True):
    """A model is about to be asked. ``messages`` only if the user asked to keep prompts."""

    type: Literal["lm_request"] = "lm_request"
    provider: str
    model: str | None
    prompt_hash: str
    prompt_tokens: Count | None = None
    stream: bool = False
    messages: tuple[Data, ...] | None = None


class LmFirstChunk(Event, frozen=True):
    """The first chunk of a stream came, so many seconds after its request began."""

    type: Literal["lm_first_chunk"] = "lm_first_chunk"
    provider: str
    model: str | None
    request_event_id: str
    seconds: Seconds


class LmAttempt(Event, frozen=True):
    """One try on the wire, reported at the end of its request; only with ``monitoring.detailed_event_logging``.

    ``waited`` is the pause and the wait for room before it, ``request_id`` the provider's id for it.
    """

    type: Literal["lm_attempt"] = "lm_attempt"
    provider: str
    model: str | None
    request_event_id: str
    number: Count
    seconds: Seconds
    waited: Seconds = 0.0
    status: int | None = None
    code: str | None = None
    request_id: str | None = None


class LmResponse(Event, frozen=True):
    """A model answered. Unknown counts and costs are None, never zero.

    Since version 2: ``accounts`` (the budgets it was charged to, unless it is a cache hit), ``cache_write_tokens``,
    ``reasoning_tokens`` and the provider's ``request_id``.
    """

    type: Literal["lm_response"] = "lm_response"
    version: int = Field(default=2, ge=1)
    provider: str
    model: str | None
    request_event_id: str
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    cached_tokens: Count | None = None
    usage_source: Literal["provider", "estimated", "unknown"] = "unknown"
    cost: Money | None = None
    duration: Seconds
    time_to_first_token: Seconds | None = None
    finish_reason: str | None = None
    cache_hit: bool = False
    attempts: Count = 1
    stream: bool = False
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    accounts: tuple[str, ...] = ()
    request_id: str | None = None


class LmError(Event, frozen=True):
    """A model request failed for good, or was cancelled. ``code`` is that of the error class.

    Since version 2: what was paid all the same (``accounts`` and usage; empty and unknown if nothing was), whether
    part of the answer had been delivered, and the fields of :class:`~dspex.actors.lm.error_context.AIContext`.
    """

    type: Literal["lm_error"] = "lm_error"
    version: int = Field(default=2, ge=1)
    provider: str
    model: str | None
    request_event_id: str | None = None
    code: str
    message: str = ""
    status: int | None = None
    retry_after: Seconds | None = None
    attempts: Count = 1
    duration: Seconds | None = None
    stream: bool = False
    partial: bool = False
    accounts: tuple[str, ...] = ()
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    usage_source: Literal["provider", "estimated", "unknown"] = "unknown"
    cost: Money | None = None
    request_id: str | None = None
    prompt_hash: str | None = None
    prompt_tokens: Count | None = None
    prompt_type: str | None = None
    response_hash: str | None = None
    finish_reason: str | None = None


class LmRetry(Event, frozen=True):
    """An attempt failed and another one follows after ``delay`` seconds."""

    type: Literal["lm_retry"] = "lm_retry"
    provider: str
    model: str | None
    request_event_id: str | None = None
    code: str
    status: int | None = None
    attempt: Count
    delay: Seconds


class LmFallback(Event, frozen=True):
    """A route asks its next provider, because one failed with ``code``."""

    type: Literal["lm_fallback"] = "lm_fallback"
    route: str
    from_provider: str
    to_provider: str
    code: str


class ModuleExecution(Event, frozen=True):
    """A module ran. Fields by name only, never their values."""

    type: Literal["module_execution"] = "module_execution"
    module: str | None = None
    module_type: str
    signature: str
    input_fields: tuple[str, ...] = ()
    output_fields: tuple[str, ...] = ()
    duration: Seconds
    success: bool
    error_code: str | None = None
    repairs: Count = 0


class OptimizationStarted(Event, frozen=True):
    """A run began. ``config`` is what it needs to begin again."""

    type: Literal["optimization_started"] = "optimization_started"
    run_id: str
    module: str
    method: str
    config: Data = Field(default={})
    budget: Data = Field(default={})


class OptimizationIteration(Event, frozen=True):
    """One step of a run."""

    type: Literal["optimization_iteration"] = "optimization_iteration"
    run_id: str
    method: str
    iteration: Count
    candidate_count: Count | None = None
    score: float | None = None
    best_score: float | None = None
    improvement: float | None = None


class OptimizationCheckpoint(Event, frozen=True):
    """From here the run can go on after a crash."""

    type: Literal["optimization_checkpoint"] = "optimization_checkpoint"
    run_id: str
    iteration: Count
    state: Data


class OptimizationEnded(Event, frozen=True):
    """A run is over, and how."""

    type: Literal["optimization_ended"] = "optimization_ended"
    run_id: str
    outcome: Literal["completed", "stopped_early", "budget_exhausted", "cancelled", "failed"]
    iterations: Count = 0
    best_score: float | None = None
    reason: str | None = None


class Registered(Event, frozen=True):
    """A name came to life; ``restarts`` is above zero if it came back."""

    type: Literal["registered"] = "registered"
    name: str
    kind: str | None = None
    restarts: Count = 0
    metadata: Data = Field(default={})


class Unregistered(Event, frozen=True):
    """A name went away, and why."""

    type: Literal["unregistered"] = "unregistered"
    name: str
    kind: str | None = None
    reason: str
    restarts: Count = 0


class SupervisorReport(Event, frozen=True):
    """What a supervisor reports (OTP LOG-01 to LOG-05)."""

    type: Literal["supervisor_report"] = "supervisor_report"
    kind: str
    supervisor: str
    child: str | None = None
    reason: str | None = None


class EngineReport(Event, frozen=True):
    """What the engine's watchdog found.

    Attributes:
        kind: ``deadlock`` (actors that wait for each other) or ``stuck_handler``.
        actors: whose handlers; of a deadlock each waits for the next, the last for the first.
        messages: by which message each of them waits, or which one it handles; None: for a start or an end.
        seconds: how long a handler has taken; of a deadlock, how long until the first of its calls times out.
    """

    type: Literal["engine_report"] = "engine_report"
    kind: Literal["deadlock", "stuck_handler"]
    actors: tuple[str, ...]
    messages: tuple[str | None, ...]
    seconds: Seconds | None = None


class ProtectionChanged(Event, frozen=True):
    """What stands before a provider changed its state.

    Attributes:
        provider: the provider's id.
        gate: ``breaker``, ``quota``, ``auth``, ``pause``, ``slowdown`` or ``storage`` (of limits that are shared).
        state: what it is now.
        reason: the failure that did it, ``success``, ``time``, ``settings`` or ``reset``.
        seconds: how long it lasts, if that is known.
    """

    type: Literal["protection_changed"] = "protection_changed"
    provider: str
    gate: str
    state: str
    reason: str
    seconds: Seconds | None = None


class ConfigUpdated(Event, frozen=True):
    """A setting changed. Whoever makes it puts a mask or a reference in the place of secrets.

    Since version 2: ``action`` (what was asked) and ``vault`` (whose configuration), to begin again from.
    """

    type: Literal["config_updated"] = "config_updated"
    version: int = Field(default=2, ge=1)
    path: tuple[str, ...]
    value: JsonValue = None
    previous: JsonValue = None
    action: str = "updated"
    vault: str | None = None


class FunctionEntry(Event, frozen=True):
    """A traced function was called; made by ``event_builders.function_entry``."""

    type: Literal["function_entry"] = "function_entry"
    function: str
    arguments: Data = Field(default={})
    caller: str | None = None


class FunctionExit(Event, frozen=True):
    """A traced function returned or raised; made by ``event_builders.function_exit``."""

    type: Literal["function_exit"] = "function_exit"
    function: str
    entry_event_id: str | None = None
    duration: Seconds
    success: bool
    result: JsonValue = None
    error: str | None = None


class StateChange(Event, frozen=True):
    """Something changed: each field that differs, with its old and new value; made by ``event_builders``."""

    type: Literal["state_change"] = "state_change"
    subject: str
    changes: Data = Field(default={})


__all__ = (
    "ConfigUpdated",
    "Count",
    "CustomEvent",
    "Data",
    "EngineReport",
    "Event",
    "EventSource",
    "FunctionEntry",
    "FunctionExit",
    "LmAttempt",
    "LmError",
    "LmFallback",
    "LmFirstChunk",
    "LmRequest",
    "LmResponse",
    "LmRetry",
    "ModuleExecution",
    "Money",
    "OptimizationCheckpoint",
    "OptimizationEnded",
    "OptimizationIteration",
    "OptimizationStarted",
    "ProtectionChanged",
    "Registered",
    "Seconds",
    "StateChange",
    "SupervisorReport",
    "UnknownEvent",
    "Unregistered",
    "event_class",
    "event_types",
    "stamp",
)
