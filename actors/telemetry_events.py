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
from decimal import Decimal
from typing import Any, Final, TypeAlias

from ..runtime.telemetry import HANDLER_FAILURE, EventName
from .metric_values import DEFAULT_BUCKETS, LM_BUCKETS, MAX_LABEL_LENGTH, Metric, Update, Value, label_key
from .metrics_snapshot import Kind, Labels

Metadata: TypeAlias = Mapping[str, Any]
Source: TypeAlias = str | Callable[[Metadata], object]
"""Where a label's value comes from: a metadata key, or a function of the metadata."""

UNKNOWN: Final = "unknown"
"""The value of a label that the event does not say."""

# Sets of labels that are remembered for each event; it begins anew with more.
_MAX_KNOWN: Final = 256


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
class _Constant:
    """A label that is the same for every event."""

    text: str

    def __call__(self, _: Metadata) -> str:
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


def _counter(name: str, help: str, unit: str = "") -> Metric:
    return Metric(name, "counter", help, unit, keep=True)


def _gauge(name: str, help: str) -> Metric:
    return Metric(name, "gauge", help, keep=True)


def _timing(name: str, help: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, "histogram", help, "seconds", buckets, keep=True)


LM_REQUESTS: Final = _counter("dspex_lm_requests_total", "Requests to models that ended, by how they ended.")
LM_ERRORS: Final = _counter("dspex_lm_errors_total", "Requests to models that failed, by the error's code.")
LM_ATTEMPTS: Final = _counter(
    "dspex_lm_attempts_total", "Attempts on the wire; more than requests if there were retries."
)
LM_TOKENS: Final = _counter(
    "dspex_lm_tokens_total", "Tokens that providers reported; cached input counts as input.", "tokens"
)
LM_CACHED: Final = _counter(
    "dspex_lm_cached_input_tokens_total", "Input tokens that providers took from their cache.", "tokens"
)
LM_CACHE_WRITES: Final = _counter(
    "dspex_lm_cache_write_tokens_total", "Input tokens that providers wrote into their cache.", "tokens"
)
LM_REASONING: Final = _counter(
    "dspex_lm_reasoning_tokens_total", "Output tokens that models spent on thoughts.", "tokens"
)
LM_COST: Final = _counter("dspex_lm_cost_usd_total", "What requests with a known price cost.", "usd")
LM_SECONDS: Final = _timing(
    "dspex_lm_request_seconds", "How long requests to models took, failed ones included.", LM_BUCKETS
)
LM_RETRIES: Final = _counter(
    "dspex_lm_retries_total", "Attempts that failed and were followed by another, by the error's code."
)
LM_FIRST_TOKEN: Final = _timing(
    "dspex_lm_time_to_first_token_seconds", "How long the first chunks of streams took.", LM_BUCKETS
)
LM_QUEUE_WAIT: Final = _timing(
    "dspex_lm_queue_wait_seconds", "How long requests to models waited for room before their first attempt.", LM_BUCKETS
)
LM_CACHE_HITS: Final = _counter("dspex_lm_cache_hits_total", "Requests that our own cache answered.")
LM_FALLBACKS: Final = _counter("dspex_lm_fallbacks_total", "Times that a route asked its next provider.")
LM_STREAMS: Final = _gauge("dspex_lm_streams_open", "Streams that a provider has open.")
BREAKER_STATE: Final = _gauge(
    "dspex_protection_breaker_state", "State of a provider's circuit breaker: 0 closed, 1 half-open, 2 open."
)
GATE_CLOSED: Final = _gauge("dspex_protection_gate_closed", "Whether a provider's gate (quota, auth) is closed.")
STORAGE_DOWN: Final = _gauge("dspex_protection_storage_down", "Whether the store of shared limits does not answer.")
PAUSES: Final = _counter("dspex_protection_pauses_total", "Pauses that a provider asked for, by the failure that did.")
PAUSE_SECONDS: Final = _counter("dspex_protection_pause_seconds_total", "How long those pauses were.", "seconds")
REFUSALS: Final = _counter("dspex_protection_refusals_total", "Attempts that were refused, by what refused them.")
PROTECTION_WAIT: Final = _timing(
    "dspex_protection_wait_seconds", "How long attempts waited that were let in after a wait.", LM_BUCKETS
)
CACHE_HITS: Final = _counter("dspex_cache_hits_total", "Answers that the cache had, by where it had them.")
CACHE_MISSES: Final = _counter("dspex_cache_misses_total", "Look-ups after which a model was asked.")
CACHE_STORED: Final = _counter("dspex_cache_stored_total", "Answers that the cache took.")
CACHE_EVICTIONS: Final = _counter("dspex_cache_evictions_total", "Answers that went for want of room.")
CACHE_ERRORS: Final = _counter(
    "dspex_cache_errors_total", "Times that the cache's disk failed or an answer was too large."
)
STAGE_DISCARDED: Final = _counter("dspex_stage_discarded_total", "Events that a stage's full buffer dropped.")
BUDGET_REFUSALS: Final = _counter(
    "dspex_budget_refusals_total",
    "Requests refused for want of budget, by account and by what there was too little of.",
)
MODULE_EXECUTIONS: Final = _counter(
    "dspex_module_executions_total", "Executions of modules that ended, by how they ended."
)
MODULE_ERRORS: Final = _counter("dspex_module_errors_total", "Executions of modules that failed, by the error's code.")
MODULE_REPAIRS: Final = _counter(
    "dspex_module_repairs_total", "Answers that did not fit their signature and were asked for again."
)
MODULE_SECONDS: Final = _timing("dspex_module_seconds", "How long executions of modules took.", LM_BUCKETS)
EVALUATIONS: Final = _counter("dspex_evaluations_total", "Evaluations that ended, by how they ended.")
EVALUATED: Final = _counter("dspex_evaluation_examples_total", "Examples that evaluations did, failed ones included.")
EVALUATION_FAILURES: Final = _counter("dspex_evaluation_failures_total", "Examples of evaluations that failed.")
EVALUATION_SCORE: Final = _gauge("dspex_evaluation_score", "Mean score of the latest evaluation, 0 to 1.")
EVALUATION_SECONDS: Final = _timing("dspex_evaluation_seconds", "How long evaluations took.", LM_BUCKETS)
OPTIMIZATIONS: Final = _counter("dspex_optimizations_total", "Optimization runs that ended, by how they ended.")
OPTIMIZATION_TRIALS: Final = _counter("dspex_optimization_trials_total", "Trials that optimization runs did.")
OPTIMIZATION_SCORE: Final = _gauge("dspex_optimization_score", "Best score of the latest optimization run, 0 to 1.")
OPTIMIZATION_COST: Final = _gauge("dspex_optimization_cost_usd", "What the latest optimization run cost so far.")
SUPERVISOR_REPORTS: Final = _counter("dspex_supervisor_reports_total", "Supervisor reports, by kind.")
SUPERVISOR_RESTARTS: Final = _counter(
    "dspex_supervisor_restarts_total", "Ends of children that called for a restart, the one that trips included."
)
SUPERVISOR_STARTS: Final = _counter("dspex_supervisor_starts_total", "Children started, restarted ones included.")
REGISTRY_REGISTERED: Final = _counter("dspex_registry_registered_total", "Names registered.")
REGISTRY_UNREGISTERED: Final = _counter("dspex_registry_unregistered_total", "Names unregistered.")
EVENTS_APPENDED: Final = _counter("dspex_event_store_appended_total", "Events appended to the event store.")
EVENTS_LOST: Final = _counter("dspex_event_store_lost_total", "Events that the event store could not keep.")
SLOW_HANDLER: Final = _timing(
    "dspex_engine_slow_handler_seconds", "How long handlers held the loop that held it too long.", DEFAULT_BUCKETS
)
HANDLER_FAILURES: Final = _counter(
    "dspex_telemetry_handler_failures_total", "Telemetry handlers detached because they raised."
)

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
        labels = (("kind", _Constant(kind)), *_BY_MODEL)
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
    *_lm("stop", _Constant("success")),
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
    *_module("stop", _Constant("success")),
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

ENGINE_ACTORS: Final = Metric("dspex_engine_actors", "gauge", "Actors alive.", keep=True)
ENGINE_TOTALS: Final[Mapping[str, Metric]] = {
    field: _counter(f"dspex_engine_{field}_total", help)
    for field, help in {
        "dead_letters": "Messages that reached nobody.",
        "unhandled": "Plain messages without a handler.",
        "overloaded": "Messages refused because a mailbox was full.",
        "late_replies": "Answers that came after the caller had given up.",
        "slow_handlers": "Times a handler held the loop longer than allowed.",
        "stuck_handlers": "Handlers that took longer than allowed, their waiting included.",
        "deadlocks": "Times that handlers waited for each other in a circle.",
        "spawned": "Actors started.",
        "ended": "Actors that ended.",
        "crashed": "Actors that an exception ended.",
        "poisoned": "Messages a plain Thespian actor failed on twice.",
        "abandoned_threads": "Blocking handlers still running when their actor ended.",
    }.items()
}
"""Totals that the engine keeps, by its word for them."""

COLLECTOR_TOTALS: Final[Mapping[str, Metric]] = {
    "dropped": _counter(
        "dspex_telemetry_dropped_total", "Values dropped because the telemetry actor could not keep up."
    ),
    "malformed": _counter(
        "dspex_telemetry_malformed_total", "Measurements of known events that were no usable number."
    ),
    "rejected": _counter("dspex_telemetry_rejected_total", "Values refused, of the wrong kind or with too many names."),
}
"""What the telemetry actor counts of its own losses."""


def label_text(value: object) -> str:
    """A label's value as text: short, and never a surprise whatever the metadata holds."""
    if isinstance(value, str):
        return value[:MAX_LABEL_LENGTH] or UNKNOWN
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) and abs(value) < 2**63 else type(value).__name__


def labels_of(rule: Rule, metadata: Metadata) -> Labels:
    """The labels that a rule makes of an event."""
    return tuple(
        [
            (name, label_text(metadata.get(source) if isinstance(source, str) else source(metadata)))
            for name, source in rule.labels
        ]
    )


def usable_number(kind: str, value: object) -> float | None:
    """A measurement as a number this kind of metric can take, or None."""
    if type(value) is float and 0.0 <= value < math.inf:
        return value
    if type(value) is int and 0 <= value < 2**63:
        return value
    if isinstance(value, Decimal):
        value = float(value) if value.is_finite() else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    fits = abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)
    return value if fits and (kind != "counter" or value >= 0) else None


_Step: TypeAlias = tuple[Callable[[Metadata], bool] | None, str | Callable[[Metadata], float] | None, Kind, str]


class _Table:
    """The rules of one event, and the labels that they made of values seen before: making them is what costs."""

    __slots__ = ("_known", "_sources", "rules", "steps")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.steps: tuple[_Step, ...] = tuple(
            (one.when, one.value, one.metric.kind, one.metric.name) for one in self.rules
        )
        sources = dict.fromkeys(source for rule in self.rules for _, source in rule.labels)
        self._sources = tuple(source for source in sources if not isinstance(source, _Constant))
        self._known: dict[tuple[object, ...], tuple[Labels, ...]] = {}

    def labels(self, metadata: Metadata) -> tuple[Labels, ...]:
        """The labels of each rule."""
        values = tuple([metadata.get(one) if isinstance(one, str) else one(metadata) for one in self._sources])
        try:
            known = self._known.get(values)
        except TypeError:  # a value that has no hash
            known = None
        if known is None:
            known = tuple(labels_of(rule, metadata) for rule in self.rules)
            # Only texts: True would be found where 1 was meant.
            if all(one is None or (type(one) is str and len(one) <= MAX_LABEL_LENGTH) for one in values):
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[values] = known
        return known


class Translator:
    """Turns telemetry events into values for metrics, by a table.

    Args:
        rules: the table.
    """

    def __init__(self, rules: Iterable[Rule] = RULES) -> None:
        by_event: dict[EventName, list[Rule]] = {}
        self.malformed = 0
        for rule in rules:
            by_event.setdefault(rule.event, []).append(rule)
        self._by_event = {event: _Table(each) for event, each in by_event.items()}

    @property
    def events(self) -> tuple[EventName, ...]:
        """The events it knows."""
        return tuple(self._by_event)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics they feed, each once."""
        return tuple(dict.fromkeys(rule.metric for table in self._by_event.values() for rule in table.rules))

    def translate(self, event: EventName, measurements: Mapping[str, Any], metadata: Metadata) -> list[Update]:
        """What one event says; unknown measurements are left out, unusable ones counted in ``malformed``."""
        return [Update(*one) for one in self.values(event, measurements, metadata)]

    def values(self, event: EventName, measurements: Mapping[str, Any], metadata: Metadata) -> list[Value]:
        """As :meth:`translate`, in plain tuples: those are made twice as fast, and are no work for the collector."""
        values: list[Value] = []
        table = self._by_event.get(event)
        if table is None:
            return values
        for (when, source, kind, name), labels in zip(table.steps, table.labels(metadata), strict=True):
            if when is not None and not when(metadata):
                continue
            if source is None:
                values.append((kind, name, labels, 1.0))
                continue
            measured = measurements.get(source) if isinstance(source, str) else source(metadata)
            if measured is None:
                continue
            usable = usable_number(kind, measured)
            if usable is None:
                self.malformed += 1
            else:
                values.append((kind, name, labels, usable))
        return values
