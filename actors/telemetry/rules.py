"""Which telemetry events become which metrics: the one table of them.

Durations are in seconds. A measurement that is absent or None is unknown and counts nowhere; it is never taken
for zero. Texts that vary without bound (signatures, prompts, messages of errors) are no labels.

The engine's own totals (dead letters, overloads ...) are read from its counters when a snapshot is taken, not
from events: what it counted before the telemetry actor ran, or while it restarted, is then not lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ...runtime.telemetry import HANDLER_FAILURE, EventName
from .metric_values import MAX_LABEL_LENGTH, Metric, label_key
from .standard_metrics import (
    BREAKER_STATE,
    BUDGET_REFUSALS,
    CACHE_ERRORS,
    CACHE_EVICTIONS,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_STORED,
    EVALUATED,
    EVALUATION_FAILURES,
    EVALUATION_SCORE,
    EVALUATION_SECONDS,
    EVALUATIONS,
    EVENTS_APPENDED,
    EVENTS_LOST,
    GATE_CLOSED,
    HANDLER_FAILURES,
    LM_ATTEMPTS,
    LM_CACHE_HITS,
    LM_CACHE_WRITES,
    LM_CACHED,
    LM_COST,
    LM_ERRORS,
    LM_FALLBACKS,
    LM_FIRST_TOKEN,
    LM_QUEUE_WAIT,
    LM_REASONING,
    LM_REQUESTS,
    LM_RETRIES,
    LM_SECONDS,
    LM_STREAMS,
    LM_TOKENS,
    MODULE_ERRORS,
    MODULE_EXECUTIONS,
    MODULE_REPAIRS,
    MODULE_SECONDS,
    OPTIMIZATION_COST,
    OPTIMIZATION_SCORE,
    OPTIMIZATION_TRIALS,
    OPTIMIZATIONS,
    PAUSE_SECONDS,
    PAUSES,
    PROTECTION_WAIT,
    REFUSALS,
    REGISTRY_REGISTERED,
    REGISTRY_UNREGISTERED,
    SLOW_HANDLER,
    STAGE_DISCARDED,
    STORAGE_DOWN,
    SUPERVISOR_REPORTS,
    SUPERVISOR_RESTARTS,
    SUPERVISOR_STARTS,
)

Metadata: TypeAlias = Mapping[str, Any]
Source: TypeAlias = str | Callable[[Metadata], object]
"""Where a label's value comes from: a metadata key, or a function of the metadata."""

UNKNOWN: Final = "unknown"
"""The value of a label that the event does not say."""


def label_text(value: object) -> str:
    """A label's value as text: short, and never a surprise whatever the metadata holds."""
    if isinstance(value, str):
        return value[:MAX_LABEL_LENGTH] or UNKNOWN
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) and abs(value) < 2**63 else type(value).__name__


@dataclass(frozen=True, slots=True)
class Rule:
    """One metric fed by one event.

    Args:
        event: its exact name.
        metric: what it feeds.
        value: the measurement to take, or a function that finds a number in the metadata; None counts one for each
            event.
        labels: label names and where their values come from.
        when: whether an event counts at all; None takes every one.

    Raises:
        MetricError: a label name is malformed.
    """

    event: EventName
    metric: Metric
    value: str | Callable[[Metadata], float] | None = None
    labels: tuple[tuple[str, Source], ...] = ()
    when: Callable[[Metadata], bool] | None = None

    def __post_init__(self) -> None:
        label_key(self.metric.name, dict.fromkeys((name for name, _ in self.labels), ""))
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label[0])))


@dataclass(frozen=True, slots=True)
class Constant:
    """A label that is the same for every event."""

    text: str

    def __call__(self, _: Metadata) -> str:
        """The text."""
        return self.text


def _code(metadata: Metadata) -> object:
    """The error's stable word; of an exception that has none, its class."""
    if "code" in metadata:
        return metadata["code"]
    reason = metadata.get("reason")
    return getattr(reason, "code", None) or (UNKNOWN if reason is None else type(reason).__name__)


def _status(metadata: Metadata) -> object:
    gave_up = metadata.get("kind") == "cancelled" or _code(metadata) == "cancelled"
    return "cancelled" if gave_up else "error"


def _actor(key: str) -> Source:
    # One without a name is shown with its address, which is new at every restart: its class is enough.
    return lambda metadata: label_text(metadata.get(key)).partition("<")[0]


def _is_restart(metadata: Metadata) -> bool:
    """Whether a report says that a child ended that is to run (OTP LOG-01, SUP 1.3)."""
    return metadata.get("kind") == "child_terminated" and getattr(metadata.get("child"), "restart", None) != "temporary"


def _is_failure(metadata: Metadata) -> bool:
    return _status(metadata) == "error"


def _is_cache_hit(metadata: Metadata) -> bool:
    return metadata.get("cache_hit") is True


def _account(metadata: Metadata) -> object:
    """The account that had no room; runs are many, so theirs count together."""
    account = metadata.get("account")
    return "run" if isinstance(account, str) and account.startswith("run/") else account


def _breaker_state(metadata: Metadata) -> float:
    state = metadata.get("state")
    return _BREAKER_STATES.get(state, math.nan) if isinstance(state, str) else math.nan


def _is_closed(metadata: Metadata) -> float:
    return float(metadata.get("state") == "closed")


def _is_down(metadata: Metadata) -> float:
    return float(metadata.get("state") == "down")


def _is_pause(metadata: Metadata) -> bool:
    return metadata.get("state") == "paused"


_BREAKER_STATES: Final[Mapping[str, float]] = {"closed": 0.0, "half-open": 1.0, "open": 2.0}
_BY_PROVIDER: Final = (("provider", "provider"),)
_BY_MODEL: Final = (("model", "model"), *_BY_PROVIDER)
_BY_MODULE: Final = (("module", "module"),)
_SUPERVISOR: Final = _actor("supervisor")


def _lm(word: str, status: Source) -> Iterable[Rule]:
    event = ("dspex", "lm", word)
    yield Rule(event, LM_REQUESTS, None, (*_BY_MODEL, ("status", status)))
    yield Rule(event, LM_SECONDS, "duration", _BY_MODEL)
    yield Rule(event, LM_ATTEMPTS, "attempts", _BY_MODEL)
    yield Rule(event, LM_QUEUE_WAIT, "waited", _BY_MODEL)
    yield Rule(event, LM_CACHED, "cached_tokens", _BY_MODEL)
    yield Rule(event, LM_CACHE_WRITES, "cache_write_tokens", _BY_MODEL)
    yield Rule(event, LM_REASONING, "reasoning_tokens", _BY_MODEL)
    yield Rule(event, LM_COST, "cost", _BY_MODEL)
    # An interrupted answer has been paid for too, so failures carry usage where it is known.
    for kind in ("input", "output"):
        labels = (("kind", Constant(kind)), *_BY_MODEL)
        yield Rule(event, LM_TOKENS, f"{kind}_tokens", labels)


def _module(word: str, status: Source) -> Iterable[Rule]:
    event = ("dspex", "module", word)
    yield Rule(event, MODULE_EXECUTIONS, None, (*_BY_MODULE, ("status", status)))
    yield Rule(event, MODULE_SECONDS, "duration", _BY_MODULE)
    yield Rule(event, MODULE_REPAIRS, "repairs", _BY_MODULE)


def _evaluation() -> Iterable[Rule]:
    progress, stop = ("dspex", "evaluation", "progress"), ("dspex", "evaluation", "stop")
    yield Rule(stop, EVALUATIONS, None, (*_BY_MODULE, ("outcome", "outcome")))
    yield Rule(progress, EVALUATED, "count", _BY_MODULE)
    yield Rule(progress, EVALUATION_FAILURES, "failed", _BY_MODULE)
    yield Rule(stop, EVALUATION_SCORE, "score", _BY_MODULE)
    yield Rule(stop, EVALUATION_SECONDS, "duration", _BY_MODULE)


def _optimization() -> Iterable[Rule]:
    trial, stop = ("dspex", "optimization", "trial"), ("dspex", "optimization", "stop")
    labels = (*_BY_MODULE, ("method", "method"))
    yield Rule(stop, OPTIMIZATIONS, None, (*labels, ("outcome", "outcome")))
    yield Rule(trial, OPTIMIZATION_TRIALS, None, labels)
    for event in (("dspex", "optimization", "iteration"), stop):
        yield Rule(event, OPTIMIZATION_SCORE, "best_score", labels)
        yield Rule(event, OPTIMIZATION_COST, "cost", labels)


def _protection() -> Iterable[Rule]:
    gate = (("gate", "gate"), *_BY_PROVIDER)
    reason = (*_BY_PROVIDER, ("reason", "reason"))
    yield Rule(("dspex", "protection", "breaker"), BREAKER_STATE, _breaker_state, _BY_PROVIDER)
    yield Rule(("dspex", "protection", "gate"), GATE_CLOSED, _is_closed, gate)
    yield Rule(("dspex", "protection", "storage"), STORAGE_DOWN, _is_down, _BY_PROVIDER)
    yield Rule(("dspex", "protection", "pause"), PAUSES, None, reason, _is_pause)
    yield Rule(("dspex", "protection", "pause"), PAUSE_SECONDS, "seconds", _BY_PROVIDER, _is_pause)
    yield Rule(("dspex", "protection", "refused"), REFUSALS, None, reason)
    yield Rule(("dspex", "protection", "waited"), PROTECTION_WAIT, "seconds", _BY_PROVIDER)


def _cache() -> Iterable[Rule]:
    tier = (("tier", "tier"),)
    yield Rule(("dspex", "cache", "hit"), CACHE_HITS, "count", tier)
    yield Rule(("dspex", "cache", "miss"), CACHE_MISSES, "count")
    yield Rule(("dspex", "cache", "store"), CACHE_STORED, "count")
    yield Rule(("dspex", "cache", "evict"), CACHE_EVICTIONS, "count", tier)
    yield Rule(("dspex", "cache", "error"), CACHE_ERRORS, "count", (("code", "code"),))


RULES: Final[tuple[Rule, ...]] = (
    *_lm("stop", Constant("success")),
    *_lm("exception", _status),
    Rule(("dspex", "lm", "exception"), LM_ERRORS, None, (("code", _code), *_BY_MODEL), _is_failure),
    Rule(("dspex", "lm", "stop"), LM_CACHE_HITS, None, _BY_MODEL, _is_cache_hit),
    Rule(("dspex", "lm", "retry"), LM_RETRIES, None, (("code", _code), *_BY_MODEL)),
    Rule(("dspex", "lm", "chunk"), LM_FIRST_TOKEN, "time_to_first_token", _BY_MODEL),
    Rule(
        ("dspex", "lm", "fallback"),
        LM_FALLBACKS,
        "count",
        (("code", _code), *_BY_PROVIDER, ("route", "route"), ("to_provider", "to_provider")),
    ),
    Rule(("dspex", "lm", "streams"), LM_STREAMS, "open", _BY_PROVIDER),
    *_protection(),
    *_cache(),
    Rule(("dspex", "stage", "discarded"), STAGE_DISCARDED, "count", (("actor", _actor("actor")),)),
    Rule(("dspex", "budget", "refused"), BUDGET_REFUSALS, "count", (("account", _account), ("part", "part"))),
    *_module("stop", Constant("success")),
    *_module("exception", _status),
    Rule(("dspex", "module", "exception"), MODULE_ERRORS, None, (("code", _code), *_BY_MODULE), _is_failure),
    *_evaluation(),
    *_optimization(),
    Rule(("dspex", "supervisor", "report"), SUPERVISOR_REPORTS, None, (("kind", "kind"), ("supervisor", _SUPERVISOR))),
    Rule(("dspex", "supervisor", "report"), SUPERVISOR_RESTARTS, None, (("supervisor", _SUPERVISOR),), _is_restart),
    Rule(("dspex", "supervisor", "start"), SUPERVISOR_STARTS, None, (("supervisor", _SUPERVISOR),)),
    Rule(("dspex", "registry", "registered"), REGISTRY_REGISTERED, None, (("kind", "kind"),)),
    Rule(("dspex", "registry", "unregistered"), REGISTRY_UNREGISTERED, None, (("kind", "kind"),)),
    Rule(("dspex", "event_store", "appended"), EVENTS_APPENDED, "count"),
    Rule(("dspex", "event_store", "lost"), EVENTS_LOST, "count"),
    Rule(("dspex", "engine", "slow_handler"), SLOW_HANDLER, "seconds", (("actor", _actor("actor")),)),
    Rule(HANDLER_FAILURE, HANDLER_FAILURES),
)
"""Every event that dspex turns into metrics."""
