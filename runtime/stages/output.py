"""The producing half of a stage: buffer, dispatcher and demand mode (OTP STG-30, STG-40). Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .buffer import Buffer
from .dispatcher import Dispatcher, Events, Link


class Output:
    """Where a producer's events go. ``subscribe``, ``ask`` and ``cancel`` return what the producer is asked for.

    Args:
        dispatcher: shares events among the consumers.
        buffer: for events that nobody has asked for.
        accumulate: begin in demand mode ``accumulate``.
        deliver_info: gets infos once no event stands before them.
        discarded: told how many events a full buffer dropped, once for each emission.

    Attributes:
        held: asks (numbers) and events (tuples) kept back in mode ``accumulate``; None in mode ``forward``.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        buffer: Buffer,
        *,
        accumulate: bool,
        deliver_info: Callable[[Any], None],
        discarded: Callable[[int], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._dispatch = dispatcher.dispatch
        self._buffer = buffer
        self._links = 0
        self._discarded = discarded
        self.held: deque[int | Events] | None = deque() if accumulate else None
        dispatcher.on_info(deliver_info)

    @property
    def buffered(self) -> int:
        """An estimate of the buffered events (OTP STG-43)."""
        return self._buffer.count

    def emit(self, events: Events) -> None:
        """Send events to who asked for them; the rest is buffered."""
        if self.held is not None:
            self.held.append(events)
            return
        rest = self._dispatch(events) if self._links else events
        if rest:
            self._store(rest)

    def _store(self, events: Events) -> None:
        discarded, released = self._buffer.store(events)
        if discarded:
            self._discarded(discarded)
        for message in released:
            self._dispatcher.info(message)

    def subscribe(self, link: Link, options: Mapping[str, Any]) -> int:
        """A new consumer. Raises what the dispatcher does."""
        demand = self._dispatcher.subscribe(link, options)
        self._links += 1
        return self.serve(demand)

    def ask(self, link: Link, count: int) -> int:
        """A consumer asks for more."""
        return self.serve(self._dispatcher.ask(link, count))

    def cancel(self, link: Link) -> int:
        """A consumer is gone."""
        self._links -= 1
        return self.serve(self._dispatcher.cancel(link))

    def serve(self, demand: int) -> int:
        """Serve demand from the buffer; what is left is the producer's, now or when it forwards again."""
        buffer = self._buffer
        while demand and buffer.count:
            events, infos = buffer.take(demand)
            demand -= len(events)
            if events:
                self.emit(events)
            for message in infos:
                self._dispatcher.info(message)
        if demand and self.held is not None:
            self.held.append(demand)
            return 0
        return demand

    def info(self, message: Any) -> None:
        """Deliver a message behind all events that are buffered now (OTP STG-50)."""
        if self._buffer.count:
            self._buffer.add_info(message)
        else:
            self._dispatcher.info(message)

    def accumulate(self) -> None:
        """Keep asks and events back from now on; twice is once."""
        if self.held is None:
            self.held = deque()

    def forward(self) -> deque[int | Events]:
        """Keep nothing back any more; what was kept, in order, is for the caller: ``emit`` and ``serve``."""
        held, self.held = self.held, None
        return deque() if held is None else held


__all__ = ("Output",)
