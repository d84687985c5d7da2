"""Telemetry: what an event costs who executes it."""

from __future__ import annotations

import time
from typing import Any, Final

from dspex.actors.telemetry.collector import Collector
from dspex.actors.telemetry.events import Translator
from dspex.actors.telemetry.metrics import LM_BUCKETS, Metric, Metrics, update
from dspex.runtime.telemetry import EventName, Telemetry

from .harness import Benchmark

TIMES: Final = 200_000
EVENT: Final[EventName] = ("dspex", "lm", "stop")
MEASUREMENTS: Final[dict[str, Any]] = {"duration": 0.5, "attempts": 1, "input_tokens": 100, "output_tokens": 20}
METADATA: Final[dict[str, Any]] = {"provider": "local", "model": "some-model"}
LOOKUP: Final = "one dict lookup"


def _nothing(*_: object) -> None:
    """A handler that does nothing."""


def _lookup() -> float:
    events: dict[EventName, object] = {("dspex", "lm", "start"): None}
    began = time.perf_counter()
    for _ in range(TIMES):
        events.get(EVENT)
    return (time.perf_counter() - began) / TIMES * 1e9


def _execute(telemetry: Telemetry, times: int = TIMES) -> float:
    execute = telemetry.execute
    began = time.perf_counter()
    for _ in range(times):
        execute(EVENT, MEASUREMENTS, METADATA)
    return (time.perf_counter() - began) / times * 1e9


def _no_handler() -> float:
    telemetry = Telemetry()
    telemetry.attach("other", ("dspex", "lm", "start"), _nothing)
    return _execute(telemetry)


def _one_handler() -> float:
    telemetry = Telemetry()
    telemetry.attach("nothing", EVENT, _nothing)
    return _execute(telemetry)


def _collector() -> float:
    """Nanoseconds of an LM event that the built-in handler translates into five values and buffers."""
    times = TIMES // 10
    telemetry = Telemetry()
    collector = Collector(telemetry, Translator(), times * 10, lambda: None)
    figure = _execute(telemetry, times)
    if collector.dropped or collector.buffered != times * 5:
        raise RuntimeError(f"expected {times * 5} values, got {collector.buffered} and {collector.dropped} dropped")
    return figure


def _record() -> float:
    metrics = Metrics([Metric("seconds", "histogram", buckets=LM_BUCKETS)])
    one = update("histogram", "seconds", 0.5, {"provider": "local", "model": "some-model"})
    record = metrics.record
    began = time.perf_counter()
    for _ in range(TIMES):
        record(one, 0.0)
    return (time.perf_counter() - began) / TIMES * 1e9


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(LOOKUP, _lookup, "ns", better="lower"),
    # "About one dict lookup": the lookup and the call of a Python function around it.
    Benchmark("execute, no handler", _no_handler, "ns", better="lower", baseline=LOOKUP, floor=0.25),
    Benchmark("execute, one handler that does nothing", _one_handler, "ns", better="lower", floor=600),
    Benchmark("execute, the metrics collector", _collector, "ns", better="lower", floor=15_000),
    Benchmark("record one value into a histogram", _record, "ns", better="lower", floor=3_000),
)
