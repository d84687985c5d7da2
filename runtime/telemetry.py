"""Telemetry events as Elixir's ``:telemetry`` has them (``OTP`` TEL-01 to TEL-04).

Code says what happened with :meth:`Telemetry.execute`; who wants to know attaches a handler to the exact
event name. Handlers run at once, in the thread that executes, so they must be quick and must not block::

    telemetry.attach("log-slow", ("dspex", "lm", "stop"), on_stop, 2.0)
    telemetry.execute(("dspex", "lm", "stop"), {"duration": 0.8}, {"provider": "local"})

    with telemetry.span(("app", "import"), {"file": name}) as span:  # also `async with`
        span.add({"rows": load(name)})

Measurements are numbers (durations in seconds), metadata is whatever describes them. Neither may be changed
once executed. There is no global: each engine has an instance of its own.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
from asyncio import CancelledError
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar, cast

from .clock import Clock, SystemClock
from .errors import AlreadyRegistered, MetricError, UsageError

T = TypeVar("T")
EventName: TypeAlias = tuple[str, ...]
"""For example ``("dspex", "lm", "stop")``."""
Handler: TypeAlias = Callable[[EventName, Mapping[str, Any], Mapping[str, Any], Any], object]
"""Called with event name, measurements, metadata and the config given when it was attached."""

HANDLER_FAILURE: Final[EventName] = ("telemetry", "handler", "failure")
"""Executed when a handler raised and was detached. Measurements: ``monotonic_time``, ``system_time``; metadata:
``event_name``, ``handler_id``, ``handler_config``, ``kind``, ``reason``, ``stacktrace``."""
SPAN_CONTEXT: Final = "telemetry_span_context"
"""Metadata key that the events of one span share."""

_EMPTY: Final[Mapping[str, Any]] = {}
log = logging.getLogger("dspex.telemetry")


@dataclass(frozen=True, slots=True, eq=False)
class AttachedHandler:
    """A handler as it stands on one event; two attachments are never equal."""

    id: Hashable
    event: EventName
    handler: Handler
    config: Any


class Telemetry:
    """Event names and who listens. Safe to use from several threads; ``execute`` takes no lock.

    Args:
        clock: times of spans and failures come from it.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        # Copy on write: a tuple is replaced and never changed, so readers need no lock.
        self._by_event: dict[EventName, tuple[AttachedHandler, ...]] = {}
        self._by_id: dict[Hashable, tuple[AttachedHandler, ...]] = {}
        self._spans = itertools.count(1)

    def attach(self, handler_id: Hashable, event: EventName, handler: Handler, config: Any = None) -> None:
        """Have ``handler(event, measurements, metadata, config)`` called for each ``event`` (OTP TEL-01).

        Raises:
            AlreadyRegistered: the id is taken (OTP ``already_exists``).
            MetricError: the event name is not a tuple of words, or the handler not a plain function.
        """
        self.attach_many(handler_id, (event,), handler, config)

    def attach_many(
        self, handler_id: Hashable, events: Iterable[EventName], handler: Handler, config: Any = None
    ) -> None:
        """Attach one handler, under one id, to several events (OTP TEL-01). Errors as :meth:`attach`."""
        names = tuple(dict.fromkeys(_event_name(event) for event in events))
        if not names:
            raise MetricError(f"expected at least one event for handler {handler_id!r}, got none", name=())
        candidate: object = handler
        if not callable(candidate) or _is_async(candidate):
            raise MetricError(f"expected a plain function as handler {handler_id!r}, got {handler!r}", name=handler_id)
        attached = tuple(AttachedHandler(handler_id, name, handler, config) for name in names)
        with self._lock:
            if taken := self._by_id.get(handler_id):
                event = taken[0].event
                raise AlreadyRegistered(
                    f"expected a new handler id, got {handler_id!r}, which is attached to {event}",
                    key=handler_id,
                    holder=event,
                )
            self._by_id[handler_id] = attached
            for one in attached:
                self._by_event[one.event] = (*self._by_event.get(one.event, ()), one)

    def detach(self, handler_id: Hashable) -> bool:
        """Remove a handler from all its events; False if nobody has this id (OTP TEL-01 ``not_found``)."""
        with self._lock:
            return self._remove(self._by_id.get(handler_id))

    def list_handlers(self, prefix: EventName = ()) -> tuple[AttachedHandler, ...]:
        """All handlers of events that begin with ``prefix``, in the order they were attached."""
        with self._lock:
            every = tuple(itertools.chain.from_iterable(self._by_id.values()))
        return tuple(one for one in every if one.event[: len(prefix)] == tuple(prefix))

    def listens(self, event: EventName) -> bool:
        """Whether anybody is told of this event; for code that would gather what to say in vain."""
        return event in self._by_event

    def execute(
        self, event: EventName, measurements: Mapping[str, Any] = _EMPTY, metadata: Mapping[str, Any] = _EMPTY
    ) -> None:
        """Tell the handlers of exactly this event, here and now; whatever they do, it returns (OTP TEL-02).

        A handler that raises is detached from all its events, logged, and told of by the event
        :data:`HANDLER_FAILURE`; the others still run (OTP TEL-03).
        """
        handlers = self._by_event.get(event)
        if handlers is None:
            return
        for one in handlers:
            try:
                one.handler(event, measurements, metadata, one.config)
            except KeyboardInterrupt:
                raise  # the user's, not the handler's
            except BaseException as error:
                # fault boundary: a handler must not harm who executes. Handlers are plain functions, so even a
                # CancelledError or SystemExit is of their own making.
                self._failed(one, error)

    def span(self, prefix: EventName, metadata: Mapping[str, Any] = _EMPTY) -> Span:
        """A context manager, plain and async, that executes ``start`` and then ``stop`` or ``exception`` (OTP TEL-04).

        Raises:
            MetricError: the prefix is not a tuple of words.
        """
        return Span(self, self._clock, _event_name(prefix), metadata, next(self._spans))

    def measure(self, prefix: EventName, metadata: Mapping[str, Any], function: Callable[[], T]) -> T:
        """Call a plain function inside a :meth:`span` and return its result; for ``async`` code use ``async with``.

        Raises:
            MetricError: the prefix is not a tuple of words, or the function is ``async``.
        """
        if _is_async(function):
            hint = "use 'async with telemetry.span(...)'"
            raise MetricError(f"expected a plain function to measure, got {function!r}; {hint}", name=prefix)
        with self.span(prefix, metadata):
            return function()

    def _remove(self, attached: tuple[AttachedHandler, ...] | None) -> bool:
        # By identity: who failed may have been detached, and its id given to somebody else, in the meantime.
        if not attached or self._by_id.get(attached[0].id) is not attached:
            return False
        del self._by_id[attached[0].id]
        for gone in attached:
            left = tuple(one for one in self._by_event[gone.event] if one is not gone)
            if left:
                self._by_event[gone.event] = left
            else:
                del self._by_event[gone.event]
        return True

    def _failed(self, one: AttachedHandler, error: BaseException) -> None:
        with self._lock:
            attached = self._by_id.get(one.id, ())
            # Identity, not equality: several threads may see the same handler fail, one reports it.
            first = any(each is one for each in attached) and self._remove(attached)
        if not first:
            return
        log.error("telemetry handler %r failed on %s and was detached", one.id, one.event, exc_info=error)
        metadata = {
            "event_name": one.event,
            "handler_id": one.id,
            "handler_config": one.config,
            **_failure(error),
        }
        times = {"monotonic_time": self._clock.monotonic(), "system_time": self._clock.time()}
        self.execute(HANDLER_FAILURE, times, metadata)


class Span:
    """One measured piece of work; use it once, with ``with`` or ``async with``. Made by :meth:`Telemetry.span`.

    ``prefix + ("start",)`` is executed with ``monotonic_time`` and ``system_time``, then ``("stop",)`` or
    ``("exception",)`` with ``duration`` and ``monotonic_time``, all in seconds. The exception, a cancellation
    included, goes on; its event has ``kind`` (``error``, ``cancelled`` or ``exit``), ``reason`` (the exception) and
    ``stacktrace``. All three carry the same ``telemetry_span_context``.
    """

    __slots__ = ("_clock", "_measurements", "_metadata", "_prefix", "_started", "_telemetry")

    def __init__(
        self, telemetry: Telemetry, clock: Clock, prefix: EventName, metadata: Mapping[str, Any], number: int
    ) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._prefix = prefix
        self._metadata: dict[str, Any] = {SPAN_CONTEXT: number, **metadata}
        self._measurements: dict[str, Any] = {}
        self._started: float | None = None

    def add(self, measurements: Mapping[str, Any] = _EMPTY, metadata: Mapping[str, Any] = _EMPTY) -> None:
        """Add what the work brought to light; it goes out with the ``stop`` or ``exception`` event."""
        self._measurements.update(measurements)
        self._metadata.update(metadata)

    def __enter__(self) -> Self:
        if self._started is not None:
            raise UsageError(f"expected a fresh span, got one that was entered before, at {self._prefix}")
        self._started = self._clock.monotonic()
        begun = (*self._prefix, "start")
        if self._telemetry.listens(begun):
            times = {"monotonic_time": self._started, "system_time": self._clock.time()}
            self._telemetry.execute(begun, times, dict(self._metadata))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        now = self._clock.monotonic()
        assert self._started is not None
        times = {**self._measurements, "duration": now - self._started, "monotonic_time": now}
        if error is None:
            self._telemetry.execute((*self._prefix, "stop"), times, self._metadata)
        else:
            self._telemetry.execute((*self._prefix, "exception"), times, {**self._metadata, **_failure(error)})

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)


def _failure(error: BaseException) -> dict[str, Any]:
    kind = "cancelled" if isinstance(error, CancelledError) else "error" if isinstance(error, Exception) else "exit"
    return {"kind": kind, "reason": error, "stacktrace": error.__traceback__}


def _event_name(event: object) -> EventName:
    words: tuple[object, ...] = cast("tuple[object, ...]", event) if isinstance(event, tuple) else ()
    if not words or not all(isinstance(word, str) and word for word in words):
        hint = f"; did you mean {tuple(event.split('.'))!r}?" if isinstance(event, str) and event else ""
        raise MetricError(f"expected an event name as a tuple of words, got {event!r}{hint}", name=event)
    return cast("EventName", words)


def _is_async(function: object) -> bool:
    # A callable object may have an async __call__.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
