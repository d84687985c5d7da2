"""The built-in telemetry handler: translates events where they happen and buffers what they say."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ...runtime.telemetry import EventName, Telemetry
from .events import Translator
from .metric_values import Value


class Collector:
    """A handler on every event that the translator knows, and a bounded buffer.

    Any thread may execute events. ``close`` detaches it.

    Args:
        telemetry: to attach to.
        translator: what to listen to, and what it means.
        limit: values the buffer holds.
        wake: called, in the executing thread, when there is something to collect.
    """

    def __init__(self, telemetry: Telemetry, translator: Translator, limit: int, wake: Callable[[], None]) -> None:
        self._telemetry = telemetry
        self._translator = translator
        self._limit = limit
        self._wake = wake
        self._buffer: deque[Value] = deque()
        self._awake = False
        self._lock = threading.Lock()
        self._id = ("dspex.metrics", id(self))
        self.dropped = 0
        telemetry.attach_many(self._id, translator.events, self._handle)

    @property
    def buffered(self) -> int:
        """Values waiting."""
        return len(self._buffer)

    @property
    def malformed(self) -> int:
        """Measurements that were no usable number."""
        return self._translator.malformed

    @property
    def attached(self) -> bool:
        """Whether the handler is attached."""
        return any(one.id == self._id for one in self._telemetry.list_handlers())

    def drain(self) -> tuple[Value, ...]:
        """Take what is buffered."""
        # First of all: what comes from now on wakes again, so nothing stays behind unnoticed.
        self._awake = False
        buffer = self._buffer
        return tuple(buffer.popleft() for _ in range(len(buffer)))

    def close(self) -> None:
        """Detach."""
        self._telemetry.detach(self._id)

    def _handle(
        self, event: EventName, measurements: Mapping[str, Any], metadata: Mapping[str, Any], config: Any
    ) -> None:
        values = self._translator.values(event, measurements, metadata)
        if len(self._buffer) + len(values) > self._limit:
            with self._lock:
                self.dropped += len(values)
        else:
            self._buffer.extend(values)
        if not self._awake and self._buffer:
            self._awake = True
            self._wake()
