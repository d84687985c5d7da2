"""The spans that are open: begun, noted in and ended by the trace context of what they are about."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...runtime.context import Context
from .otel_attributes import CORRELATION, ERROR_TYPE, Attributes
from .otel_ids import ContextIds, id_number, use_ids

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider

MAX_OPEN: Final = 10_000
"""Spans that may be open; one more ends the oldest."""
ABANDONED: Final = "abandoned"
"""``error.type`` of a span whose end nobody told of."""
ACTOR_DIED: Final = "actor_died"
"""``error.type`` of a span whose actor has ended without a word."""
CANCELLED: Final = "cancelled"

_SCOPE: Final = "dspex"


@dataclass(slots=True)
class OpenSpan:
    """A span that has not ended.

    Attributes:
        span: OpenTelemetry's.
        began: when, in seconds since the epoch.
        address: the actor it belongs to, or None.
        attributes: of the metrics of what it is about.
    """

    span: Span
    began: float
    address: Any
    attributes: Attributes


class SpanBook:
    """Spans by their place in a trace. Any thread may use it.

    A span whose parent is open becomes its child, with the parent's sampling; any other begins a trace, so that no
    span has a parent that nobody exports.

    Args:
        provider: makes the tracer; None: the global one, whenever it is set.
        limit: spans that may be open.
    """

    def __init__(self, provider: TracerProvider | None = None, limit: int = MAX_OPEN) -> None:
        # The library is an extra: it is needed from here on, and not before.
        from opentelemetry import context, trace  # noqa: PLC0415

        self._trace = trace
        self._nowhere = context.Context
        self._given = provider
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._limit = limit
        self._open: dict[tuple[str, str], OpenSpan] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def begin(
        self, place: Context, name: str, kind: SpanKind, attributes: Attributes, *, began: float, address: Any = None
    ) -> OpenSpan:
        """Begin a span.

        Args:
            place: its ids, and its parent's.
            name: of the span.
            kind: OpenTelemetry's.
            attributes: what is known already.
            began: when, in seconds since the epoch.
            address: the actor it belongs to.
        """
        trace_id, span_id = id_number(place.trace_id, 32), id_number(place.span_id, 16)
        if f"{trace_id:032x}" != place.trace_id:
            attributes = {**attributes, CORRELATION: place.trace_id}
        parent = None if place.parent_id is None else self._open.get((place.trace_id, place.parent_id))
        around = self._nowhere()
        if parent is not None:
            around = self._trace.set_span_in_context(parent.span, around)
        with use_ids(trace_id, span_id):
            span = self._present_tracer().start_span(name, around, kind, attributes, start_time=_nanoseconds(began))
        opened = OpenSpan(span, began, address, {})
        with self._lock:
            self._open[place.trace_id, place.span_id] = opened
            oldest = next(iter(self._open.values())) if len(self._open) > self._limit else None
        if oldest is not None:
            self._end_if(lambda each: each is oldest, ABANDONED, began)
        return opened

    def find(self, place: Context) -> OpenSpan | None:
        """The span of this place, if it is open."""
        return self._open.get((place.trace_id, place.span_id))

    def end(self, place: Context, attributes: Attributes, *, at: float, error: str | None = None) -> None:
        """End a span; nothing happens if it is not open.

        Args:
            place: of the span.
            attributes: what has become known.
            at: when, in seconds since the epoch.
            error: the code of its error. Who was cancelled is marked by it, and is no failure.
        """
        with self._lock:
            opened = self._open.pop((place.trace_id, place.span_id), None)
        if opened is not None:
            self._end(opened, attributes, error, at)

    def sweep(self, alive: Callable[[Any], bool], at: float) -> int:
        """End the spans whose actors have ended without a word (killed ones do); how many there were."""
        return self._end_if(lambda each: each.address is not None and not alive(each.address), ACTOR_DIED, at)

    def end_all(self, at: float) -> int:
        """End every span: nobody will tell of their ends."""
        return self._end_if(lambda each: True, ABANDONED, at)

    def _end_if(self, test: Callable[[OpenSpan], bool], error: str, at: float) -> int:
        with self._lock:
            ended = {key: each for key, each in self._open.items() if test(each)}
            for key in ended:
                del self._open[key]
        for each in ended.values():
            self._end(each, {}, error, at)
        return len(ended)

    def _end(self, opened: OpenSpan, attributes: Attributes, error: str | None, at: float) -> None:
        span = opened.span
        span.set_attributes(attributes)
        if error is not None:
            span.set_attribute(ERROR_TYPE, error)
            if error != CANCELLED:
                # The code only: an error's words may hold what a provider said.
                span.set_status(self._trace.StatusCode.ERROR, error)
        span.end(_nanoseconds(max(at, opened.began)))

    def _present_tracer(self) -> Tracer:
        provider = self._given or self._trace.get_tracer_provider()
        if self._tracer is None or provider is not self._provider:
            self._provider, self._tracer = provider, provider.get_tracer(_SCOPE)
            tracer: Any = self._tracer
            before = getattr(tracer, "id_generator", None)
            # Tracers are shared: another application in this process may have been here before.
            if before is not None and not isinstance(before, ContextIds):
                tracer.id_generator = ContextIds(before)
        return self._tracer


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
