"""The limits of one group of requests: how many in a window, how many tokens in a window, how many at once.

Several limits stand for a request together: it takes from all of them, or from none. The windows are the ``limits``
library's moving window, so no window of that length, wherever it begins, ever holds more than the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from limits import RateLimitItemPerSecond
from limits.strategies import MovingWindowRateLimiter

from ..configuration.provider_settings import RateLimit
from .limit_report import BucketReport, LimitName, Scope
from .limit_storage import UNITS, Entry, WindowStorage


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a request finds no room.

    Attributes:
        limit: which limit.
        scope: whose: of all requests, or of this user's.
        wait: seconds until there is room if nobody else comes; None if that is not known.
        never: waiting does not help: the limit is 0, or below what the request alone needs.
    """

    limit: LimitName
    scope: Scope
    wait: float | None = None
    never: bool = False


class Window(RateLimitItemPerSecond):
    """A limit on a window, as the library wants it; its key does not depend on the limit, so counts survive changes."""

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """The key of the window's counts."""
        return str(identifiers[0])


@dataclass(slots=True)
class Hold:
    """What one admission took; ``tokens`` is the estimate."""

    request: Entry | None = None
    tokens: Entry | None = None


class Buckets:
    """The limits of all requests, or of one user's.

    Args:
        scope: whose.
        user: the user, for reports.
        key: a name in the storage that nobody else has.
        storage: where the windows are.
        limits: the limits.

    Attributes:
        in_flight: how many admissions are not settled.
        touched: when somebody last was admitted or settled.
    """

    def __init__(
        self, scope: Scope, user: str | None, key: str, storage: WindowStorage, limits: RateLimit, now: float
    ) -> None:
        self._scope: Final[Scope] = scope
        self._user = user
        self._requests, self._tokens = f"{key}/requests", f"{key}/tokens"
        self._storage = storage
        self._strategy = MovingWindowRateLimiter(storage)
        self._forgotten = False
        self.in_flight = 0
        self.touched = now
        self.configure(limits)

    def configure(self, limits: RateLimit) -> None:
        """Other limits from now on; what is taken stays taken."""
        self.limits = limits
        self._length = max(1, round(limits.window * UNITS))
        self._windows: list[tuple[LimitName, str, Window]] = []
        if limits.limit is not None:
            self._windows.append(("requests", self._requests, Window(limits.limit, self._length)))
        if limits.tokens is not None:
            self._windows.append(("tokens", self._tokens, Window(limits.tokens, self._length)))

    def shortage(self, tokens: int) -> Shortage | None:
        """Why a request for ``tokens`` finds no room, or None if there is room for all of it."""
        longest: Shortage | None = None
        for name, key, window in self._windows:
            own = 1 if name == "requests" else tokens
            if window.amount == 0 or own > window.amount:
                return Shortage(name, self._scope, never=True)
            if own == 0 or self._strategy.test(window, key, cost=own):
                continue
            wait = self._storage.wait_for(key, window.amount, self._length, own)
            if longest is None or wait > (longest.wait or 0.0):
                longest = Shortage(name, self._scope, wait)
        at_once = self.limits.concurrency
        if at_once is not None and self.in_flight >= at_once:
            # Nobody knows when the next one ends.
            return Shortage("concurrency", self._scope)
        return longest

    def wait(self, tokens: int, ahead: int, tokens_ahead: int) -> float | None:
        """Seconds until a request for ``tokens`` would find room if nobody else came; None if that is not known.

        Args:
            tokens: what it will need, estimated.
            ahead: requests that wait in front of it.
            tokens_ahead: the tokens that those need.
        """
        longest = 0.0
        for name, key, window in self._windows:
            own, before = (1, ahead) if name == "requests" else (tokens, tokens_ahead)
            if window.amount == 0 or own > window.amount:
                return None
            if own > 0:
                longest = max(longest, self._storage.wait_for(key, window.amount, self._length, own + before))
        at_once = self.limits.concurrency
        return None if at_once is not None and self.in_flight + ahead >= at_once else longest

    def take(self, tokens: int, now: float) -> Hold:
        """Take what a request needs; there is room (:meth:`shortage` was asked just before)."""
        self.in_flight += 1
        self.touched = now
        hold = Hold()
        for name, key, window in self._windows:
            if name == "requests" and self._strategy.hit(window, key):
                hold.request = self._storage.newest
            elif name == "tokens" and tokens and self._strategy.hit(window, key, cost=tokens):
                hold.tokens = self._storage.newest
        return hold

    def settle(self, hold: Hold, estimate: int, used: int | None, *, unsent: bool, now: float) -> None:
        """An admission is over: put the estimate right.

        What was estimated too high goes back to the moment of the admission; what was too low is charged now.

        Args:
            hold: what it took.
            estimate: the tokens it asked for.
            used: the tokens it used; None if nobody knows: the estimate stands.
            unsent: nothing was sent: everything goes back.
            now: the time.
        """
        self.in_flight -= 1
        self.touched = now
        if unsent:
            used = 0
            if hold.request is not None:
                self._storage.refund(self._requests, hold.request, 1)
        if used is None or self.limits.tokens is None:
            return
        if used > estimate and not self._forgotten:
            self._storage.charge(self._tokens, used - estimate)
        elif hold.tokens is not None:
            self._storage.refund(self._tokens, hold.tokens, estimate - used)

    def idle(self, now: float) -> bool:
        """Whether nothing of it matters any more."""
        return self.in_flight == 0 and now - self.touched > self.limits.window

    def forget(self) -> None:
        """Drop its windows; what is still in flight settles with nothing."""
        self._forgotten = True
        self._storage.clear(self._requests)
        self._storage.clear(self._tokens)

    def reports(self) -> Iterator[BucketReport]:
        """How each limit is."""
        for name, key, window in self._windows:
            used = self._storage.used(key, self._length)
            reset = self._storage.reset_in(key, self._length)
            yield self._report(name, window.amount, used, reset)
        if self.limits.concurrency is not None:
            yield self._report("concurrency", self.limits.concurrency, self.in_flight, None)

    def _report(self, name: LimitName, of: int, used: int, reset_in: float | None) -> BucketReport:
        return BucketReport(self._scope, self._user, name, of, used, max(0, of - used), reset_in)
