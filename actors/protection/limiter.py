"""The limits of one provider: those of all requests, and those of each user. Pure: it is told the time.

A request takes from all limits that concern it, or from none. The state of a user who has been quiet for a window is
dropped, so memory is bounded by the users of one window.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..configuration.provider_settings import RateLimit
from .limit_buckets import Buckets, Hold, Shortage
from .limit_report import BucketReport, Scope
from .limit_storage import WindowStorage

# Users looked at when a new one comes: more than one, or those that are quiet would never get fewer.
_SWEEP: Final = 2
_SHOWN_USERS: Final = 20


@dataclass(slots=True)
class Grant:
    """What an admission holds of the limits.

    Attributes:
        tokens: as estimated.
        holds: what it took of which buckets.
    """

    tokens: int
    holds: tuple[tuple[Buckets, Hold], ...] = ()


class Limiter:
    """Buckets of all, and of each user.

    Args:
        now: the time in seconds, on a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._storage = WindowStorage(now)
        self._all: Buckets | None = None
        self._users: OrderedDict[str | None, Buckets] = OrderedDict()  # the one longest quiet first
        self._user_limits: RateLimit | None = None
        self._numbers = itertools.count()

    def configure(self, limits: RateLimit | None, user_limits: RateLimit | None) -> None:
        """Other limits from now on; what is taken stays taken."""
        if self._all is not None and limits is not None:
            self._all.configure(limits)
        else:
            if self._all is not None:
                self._all.forget()
            self._all = None if limits is None else self._new("all", None, limits)
        self._user_limits = user_limits
        for buckets in self._users.values():
            if user_limits is None:
                buckets.forget()
            else:
                buckets.configure(user_limits)
        if user_limits is None:
            self._users.clear()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self._all is not None or self._user_limits is not None

    @property
    def users(self) -> int:
        """How many users it remembers."""
        return len(self._users)

    def shortage(self, user: str | None, tokens: int) -> Shortage | None:
        """Why there is no room for a request, its user's own limits first; None if there is room.

        Args:
            user: on whose behalf it is made.
            tokens: its tokens, estimated.
        """
        own = None if self._user_limits is None else self._of_user(user).shortage(tokens)
        if self._all is None or (own is not None and own.never):
            return own
        of_all = self._all.shortage(tokens)
        return of_all if own is None or (of_all is not None and of_all.never) else own

    def wait(self, user: str | None, tokens: int, ahead: tuple[int, int], own_ahead: tuple[int, int]) -> float | None:
        """Seconds until there would be room for it if nobody else came; None if that is not known.

        Args:
            user: on whose behalf it is made.
            tokens: its tokens, estimated.
            ahead: requests that wait in front of it, and their tokens.
            own_ahead: those of them that are this user's.
        """
        of_all = 0.0 if self._all is None else self._all.wait(tokens, *ahead)
        own = 0.0 if self._user_limits is None else self._of_user(user).wait(tokens, *own_ahead)
        return None if of_all is None or own is None else max(of_all, own)

    def take(self, user: str | None, tokens: int) -> Grant:
        """Take what a request needs from all limits; :meth:`shortage` has just said that there is room."""
        if not self.limited:
            return Grant(tokens)
        now = self._now()
        concerned = [] if self._all is None else [self._all]
        if self._user_limits is not None:
            concerned.append(self._of_user(user))
            self._users.move_to_end(user)
        return Grant(tokens, tuple((buckets, buckets.take(tokens, now)) for buckets in concerned))

    def settle(self, user: str | None, grant: Grant, used: int | None, *, unsent: bool = False) -> None:
        """An admission of ``user`` is over; see :meth:`.protection.limit_buckets.Buckets.settle`."""
        if not grant.holds:
            return
        now = self._now()
        for buckets, hold in grant.holds:
            buckets.settle(hold, grant.tokens, used, unsent=unsent, now=now)
        if user in self._users:
            self._users.move_to_end(user)

    def reports(self) -> Iterator[BucketReport]:
        """How the limits are: those of all, and of the users seen last."""
        if self._all is not None:
            yield from self._all.reports()
        for buckets in itertools.islice(reversed(self._users.values()), _SHOWN_USERS):
            yield from buckets.reports()

    def _of_user(self, user: str | None) -> Buckets:
        buckets = self._users.get(user)
        if buckets is None:
            assert self._user_limits is not None
            self._drop_quiet(self._now())
            buckets = self._users[user] = self._new("user", user, self._user_limits)
        return buckets

    def _new(self, scope: Scope, user: str | None, limits: RateLimit) -> Buckets:
        # A key that nobody had before: what earlier buckets gave must not come back to these.
        return Buckets(scope, user, f"{scope}/{next(self._numbers)}", self._storage, limits, self._now())

    def _drop_quiet(self, now: float) -> None:
        for user, buckets in list(itertools.islice(self._users.items(), _SWEEP)):
            if buckets.idle(now):
                del self._users[user]
                buckets.forget()

    def __repr__(self) -> str:
        return f"<limits of all: {self._all is not None}, users: {len(self._users)}>"
