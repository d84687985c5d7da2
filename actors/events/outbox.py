"""The way of an actor's events to the event store.

The store is an actor and may crash. What happens until it is back, its own crash among it, must not be missing
in the log: it waits here, bounded, and goes out when the store runs again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ...runtime.engine import Engine
from ...runtime.names import WAITING, Change, NameEntry
from .kinds import Event
from .store import LOST, NAME, Append

LIMIT: Final = 1000
_AWAY: Final = ("starting", *WAITING)


class EventOutbox:
    """Casts events to ``core/events``; while that is being (re)started it keeps the newest of them.

    On the engine's thread.

    Nobody waits for these events and nothing fails. Those that exceed the bound, or wait for a store that does
    not come back, are told of by telemetry (``dspex.event_store.lost``); without any store they are dead letters.
    Events in the mailbox of a store that is killed go with it: who must know uses ``AppendAcked``.

    Args:
        engine: whose event store.
        limit: the most batches that wait.
    """

    def __init__(self, engine: Engine, limit: int = LIMIT) -> None:
        self._engine = engine
        self._waiting: deque[tuple[Event, ...]] = deque()
        self._limit = limit
        self._unsubscribe: Callable[[], None] | None = None

    def emit(self, *events: Event) -> None:
        """Send a batch of events, or keep it until there is somebody to take it."""
        entry = self._engine.names.get(NAME)
        if entry is None or entry.state not in _AWAY:
            self._engine.router.cast(NAME, Append(events))
            return
        if self._unsubscribe is None:
            # Also keeps this object alive: its events go out even if their actor has ended by then.
            self._unsubscribe = self._engine.names.subscribe(self._on_change)
        self._waiting.append(events)
        if len(self._waiting) > self._limit:
            self._lost(len(self._waiting.popleft()), "overloaded")

    def _on_change(self, entry: NameEntry, change: Change) -> None:
        if entry.name != NAME or (entry.state in _AWAY and change != "dropped"):
            return
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        batches, self._waiting = self._waiting, deque()
        if entry.state == "running" and change != "dropped":
            for batch in batches:  # one by one: the store refuses a batch whole for one bad event
                self._engine.router.cast(NAME, Append(batch))
        else:
            self._lost(sum(map(len, batches)), "noproc")

    def _lost(self, count: int, code: str) -> None:
        if count:
            self._engine.telemetry.execute(LOST, {"count": count}, {"code": code})
