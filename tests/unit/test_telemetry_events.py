"""Which telemetry events become which metrics, with which labels."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.telemetry.events import Translator
from dspex.actors.telemetry.metrics import LM_BUCKETS, Metric, Metrics, MetricsSnapshot, Update
from dspex.actors.telemetry.rules import RULES, Rule
from dspex.runtime.errors import LMTimeout, MetricError
from dspex.runtime.telemetry import HANDLER_FAILURE

MODEL = {"provider": "local", "model": "m"}
LM_STOP = ("dspex", "lm", "stop")
LM_EXCEPTION = ("dspex", "lm", "exception")


def counted(*events: tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]) -> MetricsSnapshot:
    """The metrics of some events."""
    translator = Translator()
    metrics = Metrics(translator.metrics)
    for event, measurements, metadata in events:
        for update in translator.translate(event, measurements, metadata):
            metrics.record(update, 0.0)
    return metrics.snapshot(now=0.0, time=0.0)


def test_tokens_and_cost_add_up_by_provider_and_model() -> None:
    """Tokens and cost are counters: requests add, and providers and models stay apart."""
    usage = {"duration": 0.5, "attempts": 1, "input_tokens": 10, "output_tokens": 3, "cost": Decimal("0.25")}
    seen = counted(
        (LM_STOP, usage, MODEL),
        (LM_STOP, usage | {"cached_tokens": 4}, MODEL),
        (LM_STOP, usage, MODEL | {"model": "other"}),
    )
    assert seen.total("dspex_lm_tokens_total", kind="input", provider="local", model="m") == 20
    assert seen.total("dspex_lm_tokens_total", kind="output", model="other") == 3
    assert seen.total("dspex_lm_cost_usd_total", model="m") == 0.5
    assert seen.total("dspex_lm_cached_input_tokens_total") == 4
    assert seen.total("dspex_lm_requests_total", status="success") == 3
    assert seen.total("dspex_lm_attempts_total") == 3


def test_unknown_usage_is_not_zero() -> None:
    """A provider that reports no usage makes no token or cost series; its request counts."""
    seen = counted((LM_STOP, {"duration": 0.5, "input_tokens": None, "cost": None}, MODEL))
    assert seen.select("dspex_lm_tokens_total") == ()
    assert seen.select("dspex_lm_cost_usd_total") == ()
    assert seen.total("dspex_lm_requests_total") == 1


def test_request_times_go_into_buckets_for_models() -> None:
    """Buckets reach from 0.1 to 120 seconds; failures are timed too."""
    seen = counted(
        (LM_STOP, {"duration": 0.05}, MODEL),
        (LM_EXCEPTION, {"duration": 119.0}, MODEL | {"code": "lm_timeout"}),
    )
    value = seen.histogram("dspex_lm_request_seconds", provider="local")
    assert value is not None
    assert value.bounds == LM_BUCKETS
    assert (value.bounds[0], value.bounds[-1]) == (0.1, 120.0)
    assert (value.counts[0], value.counts[-2], value.count) == (1, 1, 2)


@pytest.mark.parametrize(
    ("metadata", "status", "code"),
    [
        ({"code": "lm_timeout"}, "error", "lm_timeout"),
        ({"kind": "error", "reason": LMTimeout("late")}, "error", "lm_timeout"),
        ({"kind": "error", "reason": ZeroDivisionError("x")}, "error", "ZeroDivisionError"),
        ({"kind": "error"}, "error", "unknown"),
        ({"kind": "cancelled", "reason": None}, "cancelled", None),
        ({"kind": "exit", "code": "cancelled"}, "cancelled", None),
    ],
)
@pytest.mark.parametrize(
    ("kind", "requests", "errors"),
    [
        ("lm", "dspex_lm_requests_total", "dspex_lm_errors_total"),
        ("module", "dspex_module_executions_total", "dspex_module_errors_total"),
    ],
)
def test_errors_are_counted_as_errors(
    metadata: dict[str, Any], status: str, code: str | None, kind: str, requests: str, errors: str
) -> None:
    """A failure is an error with its stable code; who gave up is neither success nor error."""
    seen = counted((("dspex", kind, "exception"), {"duration": 1.0}, metadata))
    assert [dict(one.labels)["status"] for one in seen.select(requests)] == [status]
    assert [dict(one.labels)["code"] for one in seen.select(errors)] == ([code] if code else [])


def test_tokens_that_cost_differently_are_counted_apart() -> None:
    """What was written into a provider's cache, and what a model thought, of successes and failures alike."""
    usage = {"duration": 0.5, "cache_write_tokens": 7, "reasoning_tokens": 9}
    seen = counted((LM_STOP, usage, MODEL), (LM_EXCEPTION, usage, MODEL))
    assert seen.total("dspex_lm_cache_write_tokens_total", provider="local", model="m") == 14
    assert seen.total("dspex_lm_reasoning_tokens_total", provider="local", model="m") == 18


def test_only_hits_of_our_cache_are_counted_as_hits() -> None:
    """An event that does not say so is none."""
    seen = counted(*((LM_STOP, {}, MODEL | more) for more in ({"cache_hit": True}, {"cache_hit": False}, {})))
    assert seen.total("dspex_lm_cache_hits_total", provider="local", model="m") == 1


def test_retries_first_chunks_and_waits() -> None:
    """Retries count by their error's code; the other two are timed."""
    retry, chunk = (("dspex", "lm", word) for word in ("retry", "chunk"))
    seen = counted(
        (retry, {"attempt": 1, "delay": 0.5}, MODEL | {"code": "lm_rate_limited"}),
        (retry, {"attempt": 2, "delay": 0.5}, MODEL | {"code": "lm_server_error"}),
        (chunk, {"time_to_first_token": 0.3}, MODEL),
        (LM_STOP, {"waited": 0.0}, MODEL),
        (LM_EXCEPTION, {"waited": 7.0}, MODEL),
        (LM_STOP, {}, MODEL),
    )
    assert seen.total("dspex_lm_retries_total", model="m") == 2
    assert seen.total("dspex_lm_retries_total", code="lm_rate_limited") == 1
    first = seen.histogram("dspex_lm_time_to_first_token_seconds", provider="local", model="m")
    waits = seen.histogram("dspex_lm_queue_wait_seconds", provider="local", model="m")
    assert first is not None
    assert waits is not None
    assert (first.count, waits.count, waits.sum) == (1, 2, 7.0)


def test_refusals_for_want_of_budget_are_counted_by_account() -> None:
    """Providers and modules by name; runs, of which there is no end, together."""
    refused = ("dspex", "budget", "refused")
    accounts = ("provider/p", "run/1", "run/2", None)
    seen = counted(*((refused, {"count": 1}, {"account": account, "part": "money"}) for account in accounts))
    assert seen.total("dspex_budget_refusals_total", account="provider/p", part="money") == 1
    assert seen.total("dspex_budget_refusals_total", account="run") == 2


def test_what_stands_before_a_provider() -> None:
    """The breaker's and the gates' states as numbers, pauses with their length, refusals by what refused."""

    def told(word: str, measured: dict[str, Any] | None = None, **facts: Any) -> tuple[Any, dict[str, Any], Any]:
        return ("dspex", "protection", word), measured or {}, {"provider": "p", **facts}

    seen = counted(
        told("breaker", state="open"),
        told("gate", gate="quota", state="closed"),
        told("gate", gate="auth", state="closed"),
        told("gate", gate="auth", state="open"),
        told("storage", state="down"),
        told("pause", {"seconds": 2.5}, state="paused", reason="rate_limit"),
        told("pause", state="over", reason="reset"),
        told("refused", reason="breaker"),
        told("refused", reason="breaker"),
        told("waited", {"seconds": 7.0}),
    )
    assert seen.total("dspex_protection_breaker_state", provider="p") == 2
    assert seen.total("dspex_protection_gate_closed", gate="quota") == 1
    assert seen.total("dspex_protection_gate_closed", gate="auth") == 0
    assert seen.total("dspex_protection_storage_down", provider="p") == 1
    assert seen.total("dspex_protection_pauses_total", provider="p", reason="rate_limit") == 1
    assert seen.total("dspex_protection_pauses_total") == 1
    assert seen.total("dspex_protection_pause_seconds_total", provider="p") == 2.5
    assert seen.total("dspex_protection_refusals_total", reason="breaker") == 2
    waits = seen.histogram("dspex_protection_wait_seconds", provider="p")
    assert waits is not None
    assert waits.sum == 7.0


@pytest.mark.parametrize(("state", "number"), [("closed", 0), ("half-open", 1), ("open", 2)])
def test_the_breakers_states_are_numbers(state: str, number: float) -> None:
    """The last one stays; a word that is no state says nothing."""
    event = ("dspex", "protection", "breaker")
    seen = counted(*((event, {}, {"provider": "p", "state": word}) for word in ("open", state, "ajar")))
    assert seen.total("dspex_protection_breaker_state") == number


def test_streams_fallbacks_the_cache_and_stages() -> None:
    """Streams open now; who stood in for whom; what the cache had, by where; what full buffers dropped."""
    one = {"count": 1}
    seen = counted(
        *((("dspex", "lm", "streams"), {"open": number}, {"provider": "p"}) for number in (1, 2, 1)),
        (("dspex", "lm", "fallback"), one, {"route": "r", "provider": "a", "to_provider": "b", "code": "lm_timeout"}),
        (("dspex", "cache", "hit"), one, {"tier": "disk"}),
        (("dspex", "cache", "miss"), one, {}),
        (("dspex", "cache", "store"), one, {}),
        (("dspex", "cache", "evict"), {"count": 5}, {"tier": "memory"}),
        (("dspex", "cache", "error"), one, {"code": "too_large", "cause": "size"}),
        *((("dspex", "stage", "discarded"), {"count": 2}, {"actor": f"Ticks<dspex1.{n}>"}) for n in range(3)),
    )
    assert seen.total("dspex_lm_streams_open", provider="p") == 1
    assert seen.total("dspex_lm_fallbacks_total", route="r", provider="a", to_provider="b", code="lm_timeout") == 1
    assert seen.total("dspex_cache_hits_total", tier="disk") == 1
    assert seen.total("dspex_cache_misses_total") == 1
    assert seen.total("dspex_cache_stored_total") == 1
    assert seen.total("dspex_cache_evictions_total", tier="memory") == 5
    assert seen.total("dspex_cache_errors_total", code="too_large") == 1
    assert seen.total("dspex_stage_discarded_total", actor="Ticks") == 6


def test_modules_are_counted_and_timed_by_their_name_only() -> None:
    """A module's signature or inputs never become a label."""
    metadata = {"module": "module/qa", "signature": "question -> answer", "inputs": {"question": "?"}}
    seen = counted((("dspex", "module", "stop"), {"duration": 2.0}, metadata))
    assert seen.total("dspex_module_executions_total", module="module/qa", status="success") == 1
    labels = {name for family in seen.families for one in family.series for name, _ in one.labels}
    assert labels == {"module", "status"}


@pytest.mark.parametrize(
    ("kind", "restart", "restarts"),
    [
        ("child_terminated", "permanent", 1),
        ("child_terminated", "transient", 1),
        ("child_terminated", "temporary", 0),
        ("start_error", "permanent", 0),
        ("shutdown", "permanent", 0),
    ],
)
def test_supervisor_reports_and_restarts(kind: str, restart: str, restarts: int) -> None:
    """Reports count by kind; a restart is the reported end of a child that is to run."""
    metadata = {"kind": kind, "supervisor": "pool/modules", "child": SimpleNamespace(restart=restart)}
    seen = counted((("dspex", "supervisor", "report"), {"count": 1}, metadata))
    assert seen.total("dspex_supervisor_reports_total", kind=kind, supervisor="pool/modules") == 1
    assert seen.total("dspex_supervisor_restarts_total", supervisor="pool/modules") == restarts


def test_a_nameless_supervisor_counts_by_its_class() -> None:
    """An address is new at every restart and would make series without end."""
    metadata = {"kind": "progress", "supervisor": "Supervisor<dspex1.42>"}
    seen = counted((("dspex", "supervisor", "start"), {"count": 1}, metadata))
    assert seen.total("dspex_supervisor_starts_total", supervisor="Supervisor") == 1


def test_appended_events_are_counted_not_calls() -> None:
    """A batch of 500 is 500 events, kept or lost."""
    appended, lost = ("dspex", "event_store", "appended"), ("dspex", "event_store", "lost")
    seen = counted((appended, {"count": 500}, {}), (appended, {"count": 1}, {}), (lost, {"count": 20}, {}))
    assert seen.total("dspex_event_store_appended_total") == 501
    assert seen.total("dspex_event_store_lost_total") == 20


def test_names_slow_handlers_and_failed_handlers_are_counted() -> None:
    """The remaining rows of the table."""
    seen = counted(
        (("dspex", "registry", "registered"), {"count": 1}, {"name": "module/qa", "kind": "module"}),
        (("dspex", "registry", "unregistered"), {"count": 1}, {"name": "x", "kind": None}),
        (("dspex", "engine", "slow_handler"), {"seconds": 0.2}, {"actor": "module/qa"}),
        (HANDLER_FAILURE, {}, {"handler_id": "x"}),
    )
    assert seen.total("dspex_registry_registered_total", kind="module") == 1
    assert seen.total("dspex_registry_unregistered_total", kind="unknown") == 1
    assert seen.histogram("dspex_engine_slow_handler_seconds", actor="module/qa") is not None
    assert seen.total("dspex_telemetry_handler_failures_total") == 1


def test_actors_without_a_name_are_shown_by_their_class() -> None:
    """Their addresses are new at every start: as labels they would grow without bound."""
    slow = ("dspex", "engine", "slow_handler")
    seen = counted(*((slow, {"seconds": 0.2}, {"actor": f"Worker<dspex1.{number}>"}) for number in range(3)))
    assert [dict(one.labels) for one in seen.select("dspex_engine_slow_handler_seconds")] == [{"actor": "Worker"}]


def test_every_metric_is_described_and_named_as_prometheus_wants() -> None:
    """Counters end in _total, timings in _seconds, gauges in neither; each has a help text and says one thing only."""
    metrics = Translator().metrics
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert metric.help.endswith(".")
        assert metric.keep
        assert metric.name.startswith("dspex_")
        endings = {"counter": "_total", "histogram": "_seconds", "gauge": ""}
        assert metric.name.endswith(endings[metric.kind])
        assert metric.kind != "gauge" or not metric.name.endswith(("_total", "_seconds"))


def test_equal_labels_are_made_once_and_different_ones_never_mixed() -> None:
    """What is remembered is found by the very values; 1 and True are two labels, and a list is no key."""
    translator, slow = Translator(), ("dspex", "protection", "refused")

    def labels(provider: Any, reason: Any = "limit") -> Any:
        (update,) = translator.translate(slow, {}, {"provider": provider, "reason": reason})
        return update.labels

    assert labels("p") is labels("p")
    found = [labels(value) for value in ("p", "q", None, 1, True, [1])]
    texts = [dict(one)["provider"] for one in found]
    assert texts == ["p", "q", "unknown", "1", "true", "list"]
    for number in range(1000):  # more than are remembered
        assert dict(labels(f"p{number}")) == {"provider": f"p{number}", "reason": "limit"}


def test_what_is_no_number_is_counted_as_malformed() -> None:
    """A wrong measurement loses itself, not the event's other values, and is noticed."""
    translator = Translator()
    updates = translator.translate(LM_STOP, {"duration": "fast", "input_tokens": -1, "output_tokens": 5}, MODEL)
    assert [update.name for update in updates] == ["dspex_lm_requests_total", "dspex_lm_tokens_total"]
    assert translator.malformed == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 300, "x" * 256),
        ("", "unknown"),
        (None, "unknown"),
        (True, "true"),
        (7, "7"),
        (1.5, "float"),
        ([], "list"),
    ],
)
def test_a_label_is_always_a_short_text(value: Any, text: str) -> None:
    """Long texts are cut, and what is no text, whole number or truth value shows as its class."""
    seen = counted((("dspex", "engine", "slow_handler"), {"seconds": 0.2}, {"actor": value}))
    assert [dict(one.labels) for one in seen.select("dspex_engine_slow_handler_seconds")] == [{"actor": text}]


def test_an_unknown_event_says_nothing() -> None:
    """Only exact names are in the table."""
    assert Translator().translate(("dspex", "lm"), {"duration": 1}, {}) == []


def test_rules_may_be_ones_own() -> None:
    """A rule's labels are sorted for it; a malformed label is refused when the rule is made."""
    metric = Metric("app_total", "counter")
    rule = Rule(("app", "stop"), metric, "rows", (("b", "y"), ("a", "x")))
    updates = Translator((rule,)).translate(("app", "stop"), {"rows": 7}, {"x": 1, "y": True})
    assert updates == [Update("counter", "app_total", (("a", "1"), ("b", "true")), 7)]
    with pytest.raises(MetricError, match="label name"):
        Rule(("app", "stop"), metric, None, (("a-b", "x"),))


anything: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=400),
    st.binary(max_size=4),
    st.builds(object),
    st.lists(st.integers(), max_size=2),
    st.builds(ValueError),
)
WORDS = ("provider", "model", "code", "kind", "reason", "supervisor", "child", "module", "actor", "account", "state")
MEASURED = (
    "duration",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost",
    "count",
    "seconds",
    "waited",
)


@given(
    st.sampled_from([rule.event for rule in RULES]),
    st.dictionaries(st.sampled_from(MEASURED), anything),
    st.dictionaries(st.sampled_from(WORDS), anything),
)
def test_no_event_can_harm_who_executes_it(
    event: tuple[str, ...], measurements: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """Whatever an event carries, translating it does not raise, and metrics take every value that comes out."""
    translator = Translator()
    metrics = Metrics(translator.metrics)
    for update in translator.translate(event, measurements, metadata):
        metrics.record(update, 0.0)
        assert all(len(text) <= 256 for _, text in update.labels)
    metrics.snapshot(now=0.0, time=0.0).to_dict()
