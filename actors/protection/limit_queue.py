"""Requests that wait for room: first come, first served, but a user who has no room of his own blocks nobody else.

Pure, and cheap for many: each arrival, departure and admission costs the logarithm of how many wait. Nobody is asked
again before there can be room.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from .limit_buckets import Shortage

_TICK: Final = 1e-9
_COMPACT_AT: Final = 64


class Waiting(Protocol):
    """What the queue needs to know of a request."""

    @property
    def user(self) -> str | None:
        """On whose behalf."""
        ...

    @property
    def tokens(self) -> int:
        """What it needs."""
        ...

    @property
    def number(self) -> int:
        """Its place: the lower came earlier."""
        ...


W = TypeVar("W", bound=Waiting)


class _UserQueue(OrderedDict[int, W]):
    """One user's requests, by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0
        self.until: float | None = None

    @property
    def first(self) -> W:
        """Who came first."""
        return self[next(iter(self))]


class LimitQueue:
    """A queue of :class:`Waiting`.

    Attributes:
        tokens: what all together need.
    """

    def __init__(self) -> None:
        self._users: dict[str | None, _UserQueue[Waiting]] = {}
        # Users whose first request may be next, by its number; and those without room of their own, by when there is.
        self._ready: list[tuple[int, str | None]] = []
        self._blocked: list[tuple[float, int, str | None]] = []
        self._count = 0
        self.tokens = 0

    def __len__(self) -> int:
        return self._count

    def stands_before(self, user: str | None) -> bool:
        """Whether somebody waits whom a new request of ``user`` must not overtake."""
        return user in self._users or self._head() is not None

    def of_user(self, user: str | None) -> tuple[int, int]:
        """How many requests of a user wait, and the tokens that they need."""
        queue = self._users.get(user)
        return (0, 0) if queue is None else (len(queue), queue.tokens)

    def add(self, request: Waiting) -> None:
        """Somebody comes; the numbers of those who come grow."""
        queue = self._users.get(request.user)
        if queue is None:
            queue = self._users[request.user] = _UserQueue()
            heapq.heappush(self._ready, (request.number, request.user))
        queue[request.number] = request
        queue.tokens += request.tokens
        self._count += 1
        self.tokens += request.tokens

    def remove(self, request: Waiting) -> None:
        """Somebody goes; nothing if he has gone."""
        queue = self._users.get(request.user)
        if queue is None or request.number not in queue:
            return
        was_first = next(iter(queue)) == request.number
        del queue[request.number]
        queue.tokens -= request.tokens
        self._count -= 1
        self.tokens -= request.tokens
        if not queue:
            del self._users[request.user]
        elif was_first:
            # The next one may need less.
            queue.until = None
            heapq.heappush(self._ready, (queue.first.number, request.user))
        if len(self._ready) + len(self._blocked) > _COMPACT_AT + 4 * len(self._users):
            self._compact()

    def unblock(self, user: str | None) -> None:
        """There may be room again for this user."""
        queue = self._users.get(user)
        if queue is not None and queue.until is not None:
            queue.until = None
            heapq.heappush(self._ready, (queue.first.number, user))

    def unblock_all(self) -> None:
        """There may be room again for everybody."""
        for user in self._users:
            self.unblock(user)

    def serve(self, now: float, admit: Callable[[Waiting], Shortage | None]) -> float | None:
        """Offer ``admit`` those whose turn it is, until there is no room for the next.

        Args:
            now: the time in seconds.
            admit: deals with a request and removes nothing; None: it is done with (it leaves the queue), else why
                it has to wait.

        Returns:
            The time at which to serve again; None if time alone makes no room.
        """
        while self._blocked and self._blocked[0][0] <= now + _TICK:
            until, _, user = heapq.heappop(self._blocked)
            queue = self._users.get(user)
            if queue is not None and queue.until == until:
                self.unblock(user)
        general = math.inf
        while (request := self._head()) is not None:
            short = admit(request)
            if short is None:
                self.remove(request)
                continue
            until = math.inf if short.wait is None else now + short.wait
            if short.scope == "all":
                general = until
                break
            queue = self._users[request.user]
            queue.until = until
            heapq.heappush(self._blocked, (until, request.number, request.user))
        soonest = min(general, self._soonest_of_a_user())
        return None if soonest == math.inf else soonest

    def requests(self) -> list[Waiting]:
        """All that wait, by their numbers."""
        return sorted((each for queue in self._users.values() for each in queue.values()), key=lambda one: one.number)

    def _head(self) -> Waiting | None:
        """Whose turn it is. What stands in the heap and is no longer true is dropped."""
        while self._ready:
            number, user = self._ready[0]
            queue = self._users.get(user)
            if queue is not None and queue.until is None and queue.first.number == number:
                return queue.first
            heapq.heappop(self._ready)
        return None

    def _soonest_of_a_user(self) -> float:
        while self._blocked:
            until, _, user = self._blocked[0]
            queue = self._users.get(user)
            if queue is not None and queue.until == until:
                return until
            heapq.heappop(self._blocked)
        return math.inf

    def _compact(self) -> None:
        self._ready = [(queue.first.number, user) for user, queue in self._users.items() if queue.until is None]
        self._blocked = [
            (queue.until, queue.first.number, user) for user, queue in self._users.items() if queue.until is not None
        ]
        heapq.heapify(self._ready)
        heapq.heapify(self._blocked)

    def __repr__(self) -> str:
        return f"<{self._count} wait, of {len(self._users)} users>"
