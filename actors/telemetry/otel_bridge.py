"""Turns telemetry events of requests and modules into OpenTelemetry's spans and metrics, where they happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ...runtime.clock import Clock
from ...runtime.context import Context
from ...runtime.telemetry import EventName, Telemetry
from .otel_attributes import (
    ATTEMPT,
    CHAT,
    DELAY,
    ERROR_TYPE,
    FIRST_CHUNK,
    RETRY,
    WORKFLOW,
    end_attributes,
    known,
    metric_attributes,
    request_attributes,
    workflow_attributes,
)
from .otel_metrics import LmInstruments
from .otel_spans import MAX_OPEN, SpanBook

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

_Facts: TypeAlias = Mapping[str, Any]
_On: TypeAlias = Callable[[Context, _Facts, _Facts], None]


class OtelBridge:
    """A telemetry handler. ``close`` detaches it and ends what is open.

    A request is one span, whatever attempts it took; each retry is an event in it. What our own cache answered is a
    span too, and counts in no metric: nobody was asked.

    Args:
        telemetry: to attach to.
        clock: for ends whose duration was not measured.
        tracer_provider: makes the tracer; None: the global one.
        meter_provider: makes the meter; None: the global one.
        limit: spans that may be open.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        clock: Clock,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        limit: int = MAX_OPEN,
    ) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra

        self._kinds = SpanKind
        self._telemetry = telemetry
        self._clock = clock
        self.spans = SpanBook(tracer_provider, limit)
        self._instruments = LmInstruments(meter_provider)
        self._on: Final[Mapping[EventName, _On]] = {
            ("dspex", "lm", "start"): self._request_began,
            ("dspex", "lm", "retry"): self._retried,
            ("dspex", "lm", "chunk"): self._first_chunk,
            ("dspex", "lm", "stop"): self._request_ended,
            ("dspex", "lm", "exception"): self._request_ended,
            ("dspex", "module", "start"): self._module_began,
            ("dspex", "module", "stop"): self._module_ended,
            ("dspex", "module", "exception"): self._module_ended,
        }
        self._id = ("dspex.opentelemetry", id(self))
        telemetry.attach_many(self._id, self._on, self._handle)

    @property
    def attached(self) -> bool:
        """Whether it still listens: a span processor that raises has it detached."""
        return any(one.id == self._id for one in self._telemetry.list_handlers())

    def close(self) -> None:
        """Listen no longer, and end what is open."""
        self._telemetry.detach(self._id)
        self.spans.end_all(self._clock.time())

    def _handle(self, event: EventName, measured: _Facts, metadata: _Facts, config: object) -> None:
        place = metadata.get("context")
        if isinstance(place, Context):
            self._on[event](place, measured, metadata)

    # -- requests --------------------------------------------------------------------------------

    def _request_began(self, place: Context, measured: _Facts, metadata: _Facts) -> None:
        attributes, model = request_attributes(metadata), metadata.get("model")
        name = CHAT if model is None else f"{CHAT} {model}"
        began, address = self._began(measured), metadata.get("address")
        opened = self.spans.begin(place, name, self._kinds.CLIENT, attributes, began=began, address=address)
        opened.attributes = metric_attributes(attributes)

    def _retried(self, place: Context, measured: _Facts, metadata: _Facts) -> None:
        opened = self.spans.find(place)
        if opened is not None:
            facts = {
                ERROR_TYPE: metadata.get("code"),
                ATTEMPT: measured.get("attempt"),
                DELAY: measured.get("delay"),
                "http.response.status_code": metadata.get("status"),
            }
            opened.span.add_event(RETRY, known(facts), round(self._clock.time() * 1e9))

    def _first_chunk(self, place: Context, measured: _Facts, metadata: _Facts) -> None:
        opened, seconds = self.spans.find(place), measured.get("time_to_first_token")
        if opened is not None and seconds is not None:
            opened.span.set_attribute(FIRST_CHUNK, seconds)
            self._instruments.first_chunk(seconds, opened.attributes)

    def _request_ended(self, place: Context, measured: _Facts, metadata: _Facts) -> None:
        opened = self.spans.find(place)
        if opened is None:
            return
        error = metadata.get("code")
        if not metadata.get("cache_hit"):
            self._instruments.ended(measured, metadata, opened.attributes, error)
        at = self._end_of(opened.began, measured)
        self.spans.end(place, end_attributes(measured, metadata), at=at, error=error)

    # -- modules ---------------------------------------------------------------------------------

    def _module_began(self, place: Context, measured: _Facts, metadata: _Facts) -> None:
        name, began = f"{WORKFLOW} {metadata.get('module')}", self._began(measured)
        attributes, address = workflow_attributes(metadata), metadata.get("address")
        self.spans.begin(place, name, self._kinds.INTERNAL, attributes, began=began, address=address)

    def _module_ended(self, place: Context, measured: _Facts, metadata: _Facts) -> None:
        opened = self.spans.find(place)
        if opened is not None:
            at = self._end_of(opened.began, measured)
            self.spans.end(place, {}, at=at, error=metadata.get("code"))

    def _began(self, measured: _Facts) -> float:
        seconds: float | None = measured.get("system_time")
        return self._clock.time() if seconds is None else seconds

    def _end_of(self, began: float, measured: _Facts) -> float:
        seconds = measured.get("duration")
        return self._clock.time() if seconds is None else began + seconds
