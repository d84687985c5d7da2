"""Events that nobody has asked for yet, and messages that wait behind them (OTP STG-41, STG-50, STG-51). Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, Protocol

Keep = Literal["first", "last"]
Taken = tuple[tuple[Any, ...], list[Any]]
"""Events in order, and the infos that come after them."""


class Buffer(Protocol):
    """What both kinds of buffer do.

    Attributes:
        count: an estimate of the events in it.
    """

    @property
    def count(self) -> int:
        """See the class."""
        ...

    def store(self, events: Sequence[Any]) -> tuple[int, list[Any]]:
        """Add events; how many were discarded, and the infos that waited for discarded ones."""
        ...

    def add_info(self, info: Any) -> None:
        """Let a message wait for the events that are in here now, at least one."""
        ...

    def take(self, count: int) -> Taken:
        """Remove up to ``count`` events, fewer if an info comes first."""
        ...


class LimitedBuffer:
    """Holds up to ``size`` events; an info goes together with the event before it.

    Args:
        size: events it may hold.
        keep: which to keep when it is full: ``first`` drops the newest, ``last`` the oldest.
    """

    __slots__ = ("_events", "_infos", "_keep_first", "_size", "_taken")

    def __init__(self, size: int, keep: Keep) -> None:
        self._size = size
        self._keep_first = keep == "first"
        self._events: deque[Any] = deque()
        self._infos: dict[int, list[Any]] = {}  # by the number of the event before
        self._taken = 0

    @property
    def count(self) -> int:
        """How many events it holds."""
        return len(self._events)

    def store(self, events: Sequence[Any]) -> tuple[int, list[Any]]:
        """See :class:`Buffer`. Infos are never discarded."""
        held = self._events
        room = self._size - len(held)
        excess = len(events) - room
        if excess <= 0:
            held.extend(events)
            return 0, []
        if self._keep_first:
            held.extend(events[:room])
            return excess, []
        held.extend(events)
        released: list[Any] = []
        for _ in range(excess):
            released += self._pop()[1]
        return excess, released

    def add_info(self, info: Any) -> None:
        """See :class:`Buffer`."""
        self._infos.setdefault(self._taken + len(self._events) - 1, []).append(info)

    def take(self, count: int) -> Taken:
        """See :class:`Buffer`."""
        held = self._events
        if not self._infos:
            return tuple([held.popleft() for _ in range(min(count, len(held)))]), []
        taken: list[Any] = []
        infos: list[Any] = []
        while held and len(taken) < count and not infos:
            event, infos = self._pop()
            taken.append(event)
        return tuple(taken), infos

    def _pop(self) -> tuple[Any, list[Any]]:
        number = self._taken
        self._taken = number + 1
        return self._events.popleft(), self._infos.pop(number, []) if self._infos else []


class _Info:
    """An info in the queue of events."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message


class UnlimitedBuffer:
    """Holds any number of events; infos stand in the same queue and are counted with them (OTP STG-43)."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: deque[Any] = deque()

    @property
    def count(self) -> int:
        """How many events and infos it holds."""
        return len(self._queue)

    def store(self, events: Sequence[Any]) -> tuple[int, list[Any]]:
        """See :class:`Buffer`. Nothing is ever discarded."""
        self._queue.extend(events)
        return 0, []

    def add_info(self, info: Any) -> None:
        """See :class:`Buffer`."""
        self._queue.append(_Info(info))

    def take(self, count: int) -> Taken:
        """See :class:`Buffer`."""
        queue = self._queue
        taken: list[Any] = []
        while queue and len(taken) < count:
            entry = queue.popleft()
            if type(entry) is _Info:
                return tuple(taken), [entry.message]
            taken.append(entry)
        return tuple(taken), []


def new_buffer(size: int | None, keep: Keep) -> Buffer:
    """A buffer for ``size`` events, None for any number."""
    return UnlimitedBuffer() if size is None else LimitedBuffer(size, keep)


__all__ = ("Buffer", "Keep", "LimitedBuffer", "Taken", "UnlimitedBuffer", "new_buffer")
