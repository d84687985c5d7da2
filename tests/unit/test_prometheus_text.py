"""Metrics as Prometheus reads them, checked with its own reference parser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from dspex.actors.telemetry.events import Translator
from dspex.actors.telemetry.metric_values import update
from dspex.actors.telemetry.metrics import LM_BUCKETS, Metric, Metrics
from dspex.actors.telemetry.prometheus_text import prometheus_text
from kit.metrics import increment, observe

LABELS = {"model": "m", "provider": "p"}


def parsed(text: str) -> dict[str, Any]:
    """Families by name, as the reference parser sees them."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels; each may stand there once."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def shown(metrics: Metrics) -> str:
    """All of it."""
    return prometheus_text(metrics.snapshot(now=0.0, time=0.0))


def test_counters_gauges_and_their_descriptions() -> None:
    """Each family has its help, its type and one line for each set of labels."""
    metrics = Metrics([Metric("a_total", "counter", "How many."), Metric("b", "gauge", "How much.")])
    increment(metrics, "a_total", 2, LABELS, now=0.0)
    metrics.set("b", -1.5, now=0.0)
    assert shown(metrics) == (
        "# HELP a_total How many.\n# TYPE a_total counter\n"
        'a_total{model="m",provider="p"} 2\n'
        "# HELP b How much.\n# TYPE b gauge\nb -1.5\n"
    )


def test_histograms_have_cumulative_buckets_sum_and_count() -> None:
    """The buckets for models are all there, each with what does not exceed it; the last one holds all."""
    metrics = Metrics([Metric("t_seconds", "histogram", "Time.", "seconds", LM_BUCKETS)])
    for value in (0.05, 0.1, 3.0, 500.0):
        observe(metrics, "t_seconds", value, LABELS, now=0.0)
    family = parsed(shown(metrics))["t_seconds"]
    assert family.type == "histogram"
    buckets = {one.labels["le"]: one.value for one in family.samples if one.name == "t_seconds_bucket"}
    assert [float(le) for le in buckets] == [*LM_BUCKETS, math.inf]
    assert (buckets["0.1"], buckets["2.5"], buckets["5.0"], buckets["120.0"], buckets["+Inf"]) == (2, 2, 3, 3, 4)
    rest = {one.name: (one.labels, one.value) for one in family.samples if one.name != "t_seconds_bucket"}
    assert rest == {"t_seconds_sum": (LABELS, 503.15), "t_seconds_count": (LABELS, 4)}


def test_a_counter_of_a_users_own_gets_its_ending() -> None:
    """Unless that name is another metric's already."""
    metrics = Metrics()
    increment(metrics, "mine", now=0.0)
    increment(metrics, "other", now=0.0)
    metrics.set("other_total", 7, now=0.0)
    lines = [line for line in shown(metrics).splitlines() if not line.startswith("#")]
    assert lines == ["mine_total 1", "other 1", "other_total 7"]


def test_a_label_of_the_formats_own_is_renamed() -> None:
    """A user's label ``le`` on a histogram would make a line no parser takes."""
    metrics = Metrics()
    observe(metrics, "h", 1.0, {"le": "mine"}, now=0.0)
    family = parsed(shown(metrics))["h"]
    assert {one.labels.get("exported_le") for one in family.samples} == {"mine"}


def test_nothing_is_an_empty_text() -> None:
    """And no line that a parser could trip over."""
    assert shown(Metrics()) == ""


def test_text_that_utf_8_cannot_hold_is_replaced() -> None:
    """Half a surrogate pair in a label does not cost the whole scrape."""
    metrics = Metrics()
    metrics.set("g", 1, {"x": "a\ud800b"}, now=0.0)
    text = shown(metrics)
    assert text.encode("utf-8")
    assert parsed(text)["g"].samples[0].labels == {"x": "a?b"}


@pytest.mark.parametrize("help", ["a \\ b", "two\nlines", 'a "word"', "\\n"])
def test_help_texts_are_escaped(help: str) -> None:
    """What comes out of the parser is what was written."""
    metrics = Metrics([Metric("g", "gauge", help)])
    metrics.set("g", 1, now=0.0)
    assert parsed(shown(metrics))["g"].documentation == help


label_names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,8}", fullmatch=True)
label_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    st.dictionaries(label_names, label_values, max_size=4),
    st.one_of(st.integers(0, 2**70), st.floats(0, allow_nan=False, allow_infinity=False)),
)
def test_every_label_and_value_comes_back(labels: Mapping[str, str], value: float) -> None:
    """Whatever text a label holds, the reference parser reads the same text and number."""
    metrics = Metrics()
    metrics.set("g", value, labels, now=0.0)
    observe(metrics, "h", float(value), {name: text for name, text in labels.items() if name != "le"}, now=0.0)
    found = samples(shown(metrics))
    assert found[("g", frozenset(labels.items()))] == value
    own = frozenset((name, text) for name, text in labels.items() if name != "le")
    assert found[("h_count", own)] == 1
    assert found[("h_bucket", own | {("le", "+Inf")})] == 1


def test_every_metric_of_ours_is_well_formed() -> None:
    """Each family of the table, once it has a value, keeps its name and type through the parser."""
    metrics = Metrics(Translator().metrics)
    for metric in Translator().metrics:
        metrics.record(update(metric.kind, metric.name, 1.0, LABELS), 0.0)
    families = parsed(shown(metrics))
    expected = {metric.name.removesuffix("_total"): metric.kind for metric in Translator().metrics}
    assert {name: family.type for name, family in families.items()} == expected
    assert all(family.documentation for family in families.values())
