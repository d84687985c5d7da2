"""The metrics that dspex keeps by itself: names, kinds, units and what people are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .metric_values import DEFAULT_BUCKETS, LM_BUCKETS, Metric


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
