"""The telemetry actor: counts what happens, and answers with snapshots.

A handler attached to the engine's telemetry turns known events (``events.py``) into values, in the
caller and without a message, and buffers them; the actor takes the buffer over a moment later, or at once when
somebody asks for a snapshot. So an event costs its caller some microseconds, and a snapshot holds every event
executed before it. The buffer is bounded; what exceeds it is dropped and counted.

Metrics live in this actor and start again at zero with it; what has to be kept is in the event store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final
from typing import cast as cast_type

from ...runtime.errors import ApplicationDown, ForkedProcess, MetricError
from ...runtime.gen_server import GenServer, call, cast, info
from ..configuration.settings import TelemetrySettings
from .collector import Collector
from .events import Translator
from .metric_values import LabelValue, Update, Value, update
from .metrics import Metrics
from .metrics_snapshot import Kind, MetricsSnapshot
from .rules import RULES, Rule
from .standard_metrics import COLLECTOR_TOTALS, ENGINE_ACTORS, ENGINE_TOTALS

BUFFER_LIMIT: Final = 20_000
FLUSH_INTERVAL: Final = 0.1


@dataclass(frozen=True, slots=True)
class Record:
    """Cast: take these values; from elsewhere, where somebody batched them.

    Raises:
        MetricError: they are no tuple of :class:`~.telemetry.metric_values.Update`.
    """

    updates: tuple[Update, ...]

    def __post_init__(self) -> None:
        given = cast_type("object", self.updates)
        odd = [one for one in self.updates if not _is_update(one)] if isinstance(given, tuple) else [given]
        if odd:
            raise MetricError(f"expected a tuple of updates, got {type(odd[0]).__name__}, at Record", name="updates")


def _is_update(value: object) -> bool:
    return isinstance(value, Update)


@dataclass(frozen=True, slots=True)
class _Emit:
    """Base of the casts that carry one value, checked where they are made.

    Args:
        name: of the metric, in Prometheus' style.
        value: a finite number.
        labels: names and values; texts, whole numbers or truth values.

    Raises:
        MetricError: name, value or labels are malformed.
    """

    kind: ClassVar[Kind]

    name: str
    value: float
    labels: Mapping[str, LabelValue] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        self.update()
        # A copy: what was checked cannot change on its way.
        object.__setattr__(self, "labels", dict(self.labels or {}))

    def update(self) -> Update:
        """The value as metrics take it."""
        return update(self.kind, self.name, self.value, self.labels)


@dataclass(frozen=True, slots=True)
class EmitCounter(_Emit):
    """Cast: add ``value`` (1 unless given, never negative) to a counter."""

    kind: ClassVar[Kind] = "counter"
    value: float = 1


@dataclass(frozen=True, slots=True)
class EmitGauge(_Emit):
    """Cast: set a gauge; the last value stays."""

    kind: ClassVar[Kind] = "gauge"


@dataclass(frozen=True, slots=True)
class EmitHistogram(_Emit):
    """Cast: count ``value`` into a histogram."""

    kind: ClassVar[Kind] = "histogram"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Call: all metrics now, a :class:`~.telemetry.metrics_snapshot.MetricsSnapshot`."""


@dataclass(frozen=True, slots=True)
class MetricsFor:
    """Call: the metrics whose names begin with ``prefix``, as a :class:`~.telemetry.metrics_snapshot.MetricsSnapshot`.

    Raises:
        MetricError: the prefix is no text.
    """

    prefix: str

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MetricError(f"expected the beginning of a metric name, got {self.prefix!r}", name=self.prefix)


@dataclass(frozen=True, slots=True)
class ResetMetrics:
    """Call: forget all values and begin at zero; answers None."""


@dataclass(frozen=True, slots=True)
class TelemetryStatus:
    """Call: how the actor does, a :class:`TelemetryReport`."""


@dataclass(frozen=True, slots=True)
class TelemetryReport:
    """How the telemetry actor does.

    Attributes:
        series: series held now.
        handlers: handlers attached to the engine's telemetry, this actor's included, one for each event.
        attached: whether this actor's own handler is attached.
        buffered: values that waited in the buffer when this was asked.
        dropped: values dropped because the buffer was full.
        malformed: measurements of known events that were no usable number.
        rejected: values refused, of the wrong kind or with too many names.
        last_rejection: why the last one was.
        retention: seconds after which a series without new values is dropped.
        max_series: series of one metric.
    """

    series: int
    handlers: int
    attached: bool
    buffered: int
    dropped: int
    malformed: int
    rejected: int
    last_rejection: str | None
    retention: float
    max_series: int


@dataclass(frozen=True, slots=True)
class _Flush:
    """The buffer has something."""


class TelemetryActor(GenServer):
    """Counts what happens. Standard name: ``observers/telemetry``.

    Args of ``init``:
        settings: retention and bound on series.
        rules: which events become which metrics.
        buffer_limit: values that may wait between two flushes.
        flush_interval: seconds between an event and its way into the metrics, unless somebody asks earlier.
    """

    def init(
        self,
        settings: TelemetrySettings | None = None,
        *,
        rules: Iterable[Rule] = RULES,
        buffer_limit: int = BUFFER_LIMIT,
        flush_interval: float = FLUSH_INTERVAL,
    ) -> None:
        """Attach to the engine's telemetry."""
        self.settings = settings or TelemetrySettings()
        self._flush_interval = flush_interval
        translator = Translator(rules)
        definitions = (*translator.metrics, ENGINE_ACTORS, *ENGINE_TOTALS.values(), *COLLECTOR_TOTALS.values())
        self._metrics = Metrics(definitions, max_series=self.settings.max_series, retention=self.settings.retention)
        self._rejected = 0
        self._last_rejection: str | None = None
        self._zero: dict[str, int] = {}
        self._collector = self.own(Collector(self.system.telemetry, translator, buffer_limit, self._wake))

    @cast
    def record(self, msg: Record) -> None:
        """Take a batch."""
        self._take(msg.updates)

    @cast
    def emit(self, msg: EmitCounter | EmitGauge | EmitHistogram) -> None:
        """Take one value."""
        self._take((msg.update(),))

    @call
    def snapshot(self, msg: Snapshot) -> MetricsSnapshot:
        """All metrics."""
        return self._snapshot("")

    @call
    def metrics_for(self, msg: MetricsFor) -> MetricsSnapshot:
        """Metrics by the beginning of their names."""
        return self._snapshot(msg.prefix)

    @call
    def reset(self, msg: ResetMetrics) -> None:
        """Begin at zero."""
        self._collector.drain()
        self._metrics.reset()
        self._zero = self._totals()

    @call
    def status(self, msg: TelemetryStatus) -> TelemetryReport:
        """How it does."""
        buffered = self._collector.buffered
        self._take(self._collector.drain())
        return TelemetryReport(
            series=self._metrics.series_count,
            handlers=len(self.system.telemetry.list_handlers()),
            attached=self._collector.attached,
            buffered=buffered,
            dropped=self._collector.dropped,
            malformed=self._collector.malformed,
            rejected=self._rejected,
            last_rejection=self._last_rejection,
            retention=self.settings.retention,
            max_series=self.settings.max_series,
        )

    @info
    def flush(self, msg: _Flush) -> None:
        """Take over what is buffered."""
        self._take(self._collector.drain())

    def _take(self, updates: Iterable[Value]) -> None:
        now = self.clock.monotonic()
        for one in updates:
            try:
                self._metrics.record(one, now)
            except MetricError as error:
                # Who sent it cannot be told any more: it shows in the status and in a metric.
                self._rejected += 1
                self._last_rejection = str(error)

    def _snapshot(self, prefix: str) -> MetricsSnapshot:
        self._take(self._collector.drain())
        now = self.clock.monotonic()
        for name, total in self._totals().items():
            self._metrics.set_total(name, total - self._zero.get(name, 0), now=now)
        self._metrics.set(ENGINE_ACTORS.name, len(self.system.cells), now=now)
        return self._metrics.snapshot(now=now, time=self.clock.time(), prefix=prefix)

    def _totals(self) -> dict[str, int]:
        """Totals that are kept elsewhere, by metric name."""
        counters = self.system.counters
        engine = {word: getattr(counters, word) for word in ENGINE_TOTALS if word != "dead_letters"}
        engine["dead_letters"] = self.system.dead_letters.count
        own = {
            "dropped": self._collector.dropped,
            "malformed": self._collector.malformed,
            "rejected": self._rejected,
        }
        totals = {ENGINE_TOTALS[word].name: total for word, total in engine.items()}
        return totals | {COLLECTOR_TOTALS[word].name: total for word, total in own.items()}

    def _wake(self) -> None:
        """Flush soon; in whichever thread an event was executed."""
        if self.system.outside.on_thread():
            self._start_flush()
            return
        try:
            self.system.post(self._start_flush)
        except (ApplicationDown, ForkedProcess):
            # Nobody is left to count: the engine has stopped, or this is a forked child with a copy of it.
            self._collector.close()

    def _start_flush(self) -> None:
        # Posted by another thread it may come after the end of this actor.
        if self.system.alive(self.myAddress):
            self.start_timer(self._flush_interval, _Flush())
