"""Counters, gauges and histograms: arithmetic, bounds, retention, refusals."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest

from dspex.actors.telemetry.metrics import (
    LM_BUCKETS,
    OVERFLOW,
    HistogramValue,
    Metric,
    Metrics,
    MetricsSnapshot,
    update,
)
from dspex.runtime.errors import MetricError
from kit.metrics import increment, observe

WALL = 1_700_000_000.0


def snapshot(metrics: Metrics, now: float = 0.0, prefix: str = "") -> MetricsSnapshot:
    """A snapshot whose wall clock runs ``WALL`` ahead."""
    return metrics.snapshot(now=now, time=WALL + now, prefix=prefix)


def histogram(*numbers: float, buckets: tuple[float, ...] = (1.0, 10.0)) -> HistogramValue:
    """What a histogram says of these numbers."""
    metrics = Metrics([Metric("h", "histogram", buckets=buckets)])
    for number in numbers:
        observe(metrics, "h", number, now=0.0)
    value = snapshot(metrics).histogram("h")
    assert value is not None
    return value


def test_counters_add_gauges_replace() -> None:
    """A counter is the sum of what came, a gauge the last."""
    metrics = Metrics()
    for value in (1, 2, 0.5):
        increment(metrics, "c_total", value, now=0.0)
        metrics.set("g", value, now=0.0)
    increment(metrics, "c_total", now=0.0)
    seen = snapshot(metrics)
    assert (seen.total("c_total"), seen.total("g")) == (4.5, 0.5)


def test_series_are_keyed_by_all_labels_in_any_order() -> None:
    """Labels make series of their own, whatever the order in which they are written."""
    metrics = Metrics()
    increment(metrics, "c_total", labels={"provider": "a", "model": "m"}, now=0.0)
    increment(metrics, "c_total", labels={"model": "m", "provider": "a"}, now=0.0)
    increment(metrics, "c_total", 5, labels={"model": "m", "provider": "b"}, now=0.0)
    seen = snapshot(metrics)
    [family] = seen.families
    assert [(dict(one.labels), one.value) for one in family.series] == [
        ({"model": "m", "provider": "a"}, 2),
        ({"model": "m", "provider": "b"}, 5),
    ]
    assert seen.total("c_total") == 7
    assert seen.total("c_total", provider="b") == 5
    assert seen.total("c_total", provider="nobody") == 0


def test_label_values_are_texts() -> None:
    """Numbers and truth values are written as exporters write them."""
    one = update("counter", "c_total", 1, {"b": True, "n": 3, "a": "x"})
    assert one.labels == (("a", "x"), ("b", "true"), ("n", "3"))


def test_a_histogram_counts_into_inclusive_buckets() -> None:
    """A number on a bound belongs to the bucket below it, as Prometheus' ``le`` says; none is lost."""
    value = histogram(-5.0, 0.0, 1.0, 1.5, 10.0, 11.0)
    assert value.buckets == ((1.0, 3), (10.0, 5), (math.inf, 6))
    assert (value.count, value.sum, value.min, value.max) == (6, 18.5, -5.0, 11.0)
    assert value.mean == pytest.approx(18.5 / 6)


def test_quantiles_are_those_of_all_numbers() -> None:
    """p50, p90 and p99 are within 1 % of the exact ones; early numbers weigh as much as late ones."""
    value = histogram(*[number / 100 for number in range(1, 1001)])
    assert value.p50 == pytest.approx(5.0, rel=0.01)
    assert value.p90 == pytest.approx(9.0, rel=0.01)
    assert value.p99 == pytest.approx(9.9, rel=0.01)
    assert value.quantile(0.0) == pytest.approx(0.01, rel=0.01)
    assert value.quantile(1.0) == pytest.approx(10.0, rel=0.01)


def test_quantiles_stay_within_what_was_seen() -> None:
    """One number is all its quantiles, exactly."""
    value = histogram(3.7)
    assert (value.p50, value.p90, value.p99) == (3.7, 3.7, 3.7)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="quantile from 0 to 1"):
            value.quantile(wrong)


@pytest.mark.parametrize("name", ["", "a.b", "9a", "a b", "a-b", "é", None, 3, ("a",)])
def test_a_malformed_name_is_refused(name: Any) -> None:
    """A metric name is of letters, digits, underscore and colon."""
    with pytest.raises(MetricError, match="expected a metric name"):
        update("counter", name, 1)


def test_a_dotted_name_gets_a_hint() -> None:
    """Who writes another system's name is told ours."""
    with pytest.raises(MetricError, match="did you mean 'app_requests'"):
        update("counter", "app.requests", 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, 10**400, 1 + 2j])
@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_what_is_no_finite_number_is_refused(kind: Any, value: Any) -> None:
    """NaN, infinities, texts, truth values and numbers beyond the floats are no values."""
    with pytest.raises(MetricError, match="expected a finite number"):
        update(kind, "m", value)


def test_only_counters_refuse_negative_numbers() -> None:
    """A counter never falls; gauges and histograms take any number."""
    with pytest.raises(MetricError, match=">= 0"):
        update("counter", "c_total", -1)
    assert update("gauge", "g", -1).value == -1
    assert histogram(-2.0).min == -2.0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a-b": "x"}, "label name"),
        ({"__a": "x"}, "label name"),
        ({1: "x"}, "label name"),
        ({"a": None}, "expected text"),
        ({"a": 1.5}, "expected text"),
        ({"a": "x" * 257}, "256 characters"),
        ({f"l{number}": "x" for number in range(17)}, "at most 16"),
        (["a"], "as a mapping"),
    ],
)
def test_malformed_labels_are_refused(labels: Any, message: str) -> None:
    """Each way to get labels wrong is named, with the metric."""
    with pytest.raises(MetricError, match=message) as caught:
        update("counter", "c_total", 1, labels)
    assert caught.value.name == "c_total"


@pytest.mark.parametrize(
    "definition",
    [
        {"name": "h", "kind": "summary"},
        {"name": "h h", "kind": "histogram"},
        {"name": "h", "kind": "histogram", "buckets": ()},
        {"name": "h", "kind": "histogram", "buckets": (1.0, 1.0)},
        {"name": "h", "kind": "histogram", "buckets": (1.0, math.inf)},
    ],
)
def test_a_malformed_definition_is_refused(definition: Any) -> None:
    """Kinds are three, buckets rise and are finite."""
    with pytest.raises(MetricError):
        Metric(**definition)


def test_a_metric_has_one_kind() -> None:
    """The same name as another kind is refused, and changes nothing."""
    metrics = Metrics([Metric("m", "counter")])
    with pytest.raises(MetricError, match="expected a counter, got a gauge, at 'm'"):
        metrics.set("m", 1, now=0.0)
    metrics.define(Metric("m", "counter"))
    with pytest.raises(MetricError):
        metrics.define(Metric("m", "counter", "other words"))
    assert snapshot(metrics).families == ()


def test_what_exceeds_the_bound_folds_into_one_series_and_is_counted() -> None:
    """Known series go on, all further ones share the overflow series: no value is lost."""
    metrics = Metrics(max_series=2)
    for label in ("a", "b", "c", "d", "a", "c"):
        increment(metrics, "c_total", labels={"user": label}, now=0.0)
    increment(metrics, "c_total", labels={"other": "x"}, now=0.0)
    increment(metrics, "other_total", labels={"user": "z"}, now=0.0)
    family = snapshot(metrics).family("c_total")
    assert family is not None
    assert {one.labels: one.value for one in family.series} == {
        (("user", "a"),): 2,
        (("user", "b"),): 1,
        OVERFLOW: 4,
    }
    assert family.overflowed == 4
    assert metrics.series_count == 4


def test_series_that_grew_old_make_room() -> None:
    """The bound counts living series only."""
    metrics = Metrics(max_series=1, retention=10.0)
    increment(metrics, "c_total", labels={"user": "a"}, now=0.0)
    increment(metrics, "c_total", labels={"user": "b"}, now=11.0)
    family = snapshot(metrics, 11.0).family("c_total")
    assert family is not None
    assert [dict(one.labels) for one in family.series] == [{"user": "b"}]
    assert family.overflowed == 0


def test_names_are_bounded_too() -> None:
    """A name made from data is refused once there are too many; names whose series grew old make room."""
    metrics = Metrics([Metric("fixed_total", "counter")], max_metrics=3, retention=10.0)
    increment(metrics, "a_total", now=0.0)
    increment(metrics, "b_total", now=5.0)
    with pytest.raises(MetricError, match="at most 3 metric names"):
        increment(metrics, "d_total", now=5.0)
    metrics.prune(12.0)
    increment(metrics, "d_total", now=12.0)
    assert [family.name for family in snapshot(metrics, 12.0).families] == ["b_total", "d_total"]
    with pytest.raises(MetricError, match="at most 3 metric names"):
        increment(metrics, "e_total", now=12.0)


def test_retention_is_in_seconds_and_counts_from_the_last_value() -> None:
    """A series lives exactly as long as the retention after its last value; a kept metric for ever."""
    metrics = Metrics([Metric("kept_total", "counter", keep=True)], retention=300.0)
    for name in ("a_total", "b_total", "kept_total"):
        increment(metrics, name, now=0.0)
    increment(metrics, "b_total", now=1.0)
    assert [family.name for family in snapshot(metrics, 300.0).families] == ["a_total", "b_total", "kept_total"]
    assert [family.name for family in snapshot(metrics, 300.5).families] == ["b_total", "kept_total"]
    assert metrics.prune(301.5) == 1
    assert [family.name for family in snapshot(metrics, 1e9).families] == ["kept_total"]


def test_a_value_after_pruning_its_whole_metric_is_not_lost() -> None:
    """A metric all of whose series grew old begins again with the next value."""
    metrics = Metrics(retention=10.0)
    increment(metrics, "c_total", labels={"user": "a"}, now=0.0)
    increment(metrics, "c_total", labels={"user": "b"}, now=100.0)
    assert snapshot(metrics, 100.0).total("c_total") == 1


@pytest.mark.parametrize(
    "bound", [{"max_series": 0}, {"max_metrics": 0}, {"retention": -1.0}, {"retention": math.nan}], ids=str
)
def test_bounds_that_cannot_be_are_refused(bound: Any) -> None:
    """A bound below one series, or a negative age, is refused with its name."""
    with pytest.raises(MetricError, match=next(iter(bound))):
        Metrics(**bound)


def test_a_snapshot_is_flat_sorted_and_filtered_by_prefix() -> None:
    """One name being the prefix of another is no collision; a filter takes names that begin alike."""
    metrics = Metrics()
    for name in ("lm_requests_total", "lm", "lm_requests", "module_total"):
        increment(metrics, name, now=0.0)
    assert [family.name for family in snapshot(metrics).families] == [
        "lm",
        "lm_requests",
        "lm_requests_total",
        "module_total",
    ]
    assert [family.name for family in snapshot(metrics, prefix="lm_").families] == ["lm_requests", "lm_requests_total"]
    assert snapshot(metrics).prefixed("lm_") == snapshot(metrics, prefix="lm_")
    assert snapshot(metrics, prefix="nothing").families == ()


def test_a_snapshot_does_not_change_any_more() -> None:
    """What is recorded later does not reach a snapshot."""
    metrics = Metrics()
    observe(metrics, "h", 1.0, now=0.0)
    increment(metrics, "c_total", now=0.0)
    before = snapshot(metrics)
    observe(metrics, "h", 2.0, now=1.0)
    increment(metrics, "c_total", now=1.0)
    value = before.histogram("h")
    assert value is not None
    assert (value.count, before.total("c_total")) == (1, 1)
    assert [one.updated for family in before.families for one in family.series] == [WALL, WALL]


def test_a_snapshot_pickles_and_is_json() -> None:
    """Snapshots cross processes, and the command line prints them."""
    metrics = Metrics([Metric("h", "histogram", "how long", "seconds", LM_BUCKETS)])
    observe(metrics, "h", 0.3, {"provider": "a"}, now=0.0)
    metrics.set("g", -1, now=0.0)
    seen = snapshot(metrics)
    assert pickle.loads(pickle.dumps(seen)) == seen
    data = json.loads(json.dumps(seen.to_dict(), allow_nan=False))
    [gauge, timing] = data["metrics"]
    assert (gauge["name"], gauge["series"][0]["value"]) == ("g", -1)
    assert timing["series"][0]["value"]["buckets"][:3] == [[0.1, 0], [0.25, 0], [0.5, 1]]
    assert timing["series"][0]["value"]["buckets"][-1] == [None, 1]
    assert timing["series"][0]["value"]["p99"] == 0.3


def test_reading_as_the_wrong_kind_is_refused() -> None:
    """A histogram has no total, a counter no quantiles; what nobody recorded is 0 or None."""
    metrics = Metrics()
    observe(metrics, "h", 1.0, now=0.0)
    increment(metrics, "c_total", now=0.0)
    seen = snapshot(metrics)
    with pytest.raises(MetricError, match="got a histogram"):
        seen.total("h")
    with pytest.raises(MetricError, match="expected a histogram"):
        seen.histogram("c_total")
    assert (seen.total("none"), seen.histogram("none"), seen.family("none")) == (0, None, None)


def test_samples_are_rows_for_people() -> None:
    """Every series is one row of texts; a histogram shows count, mean and quantiles."""
    metrics = Metrics([Metric("h", "histogram", unit="seconds")])
    increment(metrics, "c_total", 3, {"p": "a", "b": "x"}, now=0.0)
    metrics.set("g", 0.25, now=0.0)
    observe(metrics, "h", 2.0, now=0.0)
    assert snapshot(metrics).samples() == (
        ("c_total", "b=x p=a", "3"),
        ("g", "", "0.25"),
        ("h", "", "count=1 mean=2 p50=2 p90=2 p99=2"),
    )


def test_histograms_of_several_series_read_as_one() -> None:
    """Quantiles over all providers are those of all numbers, not an average of averages."""
    metrics = Metrics()
    for number in range(1, 100):
        observe(metrics, "h", 1.0, {"provider": "fast"}, now=0.0)
        observe(metrics, "h", float(number), {"provider": "slow"}, now=0.0)
    both = snapshot(metrics).histogram("h")
    assert both is not None
    assert both.count == 198
    assert both.p50 == pytest.approx(1.0, rel=0.01)
    assert both.p99 == pytest.approx(98.0, rel=0.02)


def test_a_total_kept_elsewhere_is_taken_as_it_is() -> None:
    """Setting a total twice does not add."""
    metrics = Metrics()
    metrics.set_total("c_total", 5, now=0.0)
    metrics.set_total("c_total", 7, now=1.0)
    assert snapshot(metrics, 1.0).total("c_total") == 7


def test_reset_forgets_values_and_keeps_definitions() -> None:
    """After a reset counting starts at zero; buckets and help stay."""
    metrics = Metrics([Metric("h", "histogram", "how long", buckets=(7.0,))], max_series=1)
    for label in "ab":
        observe(metrics, "h", 1.0, {"x": label}, now=0.0)
    metrics.reset()
    assert snapshot(metrics).families == ()
    observe(metrics, "h", 1.0, now=0.0)
    [family] = snapshot(metrics).families
    assert (family.help, family.overflowed) == ("how long", 0)
    value = family.series[0].value
    assert isinstance(value, HistogramValue)
    assert value.bounds == (7.0,)


def test_merging_adds_counters_and_histograms_and_takes_the_newer_gauge() -> None:
    """What another process counted is added; of gauges the one set last stays."""
    here, there = Metrics(), Metrics()
    for metrics, value, now in ((here, 1.0, 10.0), (there, 5.0, 1000.0)):
        increment(metrics, "c_total", value, {"p": "a"}, now=now)
        observe(metrics, "h", value, now=now)
        metrics.set("g", value, now=now)
        metrics.set("mine" if metrics is here else "theirs", value, now=now)
    # The clocks of both count from different moments: here it is 12, there 1001 at the same time.
    here.merge(there.snapshot(now=1001.0, time=WALL), now=12.0)
    seen = here.snapshot(now=12.0, time=WALL)
    assert seen.total("c_total", p="a") == 6.0
    assert (seen.total("g"), seen.total("mine"), seen.total("theirs")) == (5.0, 1.0, 5.0)
    both = seen.histogram("h")
    assert both is not None
    assert (both.count, both.sum, both.min, both.max) == (2, 6.0, 1.0, 5.0)
    here.merge(there.snapshot(now=1008.0, time=WALL), now=12.0)
    assert here.snapshot(now=12.0, time=WALL).total("g") == 5.0


def test_an_older_gauge_does_not_win_a_merge() -> None:
    """A gauge set earlier elsewhere leaves the newer one alone."""
    here, there = Metrics(), Metrics()
    here.set("g", 1.0, now=10.0)
    there.set("g", 5.0, now=10.0)
    here.merge(there.snapshot(now=20.0, time=WALL), now=12.0)
    assert here.snapshot(now=12.0, time=WALL).total("g") == 1.0


def test_a_merge_that_does_not_fit_changes_nothing() -> None:
    """Another kind, other buckets or too many names: refused whole."""
    there = Metrics()
    increment(there, "a_total", now=0.0)
    observe(there, "z", 1.0, now=0.0)
    incoming = snapshot(there)
    for here in (
        Metrics([Metric("z", "gauge")]),
        Metrics([Metric("z", "histogram", buckets=(1.0,))]),
        Metrics(max_metrics=1),
    ):
        with pytest.raises(MetricError):
            here.merge(incoming, 0.0)
        assert snapshot(here).families == ()


def test_a_merge_respects_the_bound_on_series() -> None:
    """Series from elsewhere fold into the overflow series as well."""
    here, there = Metrics(max_series=2), Metrics()
    for label in "abcd":
        increment(there, "c_total", labels={"x": label}, now=0.0)
    here.merge(snapshot(there), 0.0)
    seen = snapshot(here)
    assert (len(seen.select("c_total")), seen.total("c_total")) == (3, 4)


def test_a_merge_adds_up_what_overflowed() -> None:
    """Overflow series become one, and what went into them stays counted, in a full metric as in an empty one."""
    there = Metrics(max_series=1)
    for label in "abcd":
        increment(there, "c_total", labels={"x": label}, now=0.0)
    full = Metrics(max_series=1)
    increment(full, "c_total", labels={"x": "a"}, now=0.0)
    for here, total in ((Metrics(), 4), (full, 5)):
        here.merge(snapshot(there), 0.0)
        seen = snapshot(here)
        family = seen.family("c_total")
        assert family is not None
        assert (family.overflowed, seen.total("c_total")) == (3, total)
        assert {one.labels: one.value for one in family.series}[OVERFLOW] == 3
