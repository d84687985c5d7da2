"""Limits that several processes share, in Redis: the ``limits`` library's storage, asked off the loop.

Beside the limits of this process, which hold in any case, the windows of requests and tokens are counted in Redis with
the library's sliding-window counter: two counters a window, whatever the load, on Redis' own clock. It is nearly exact
(it takes the window before as evenly filled). Windows are whole seconds there, rounded up. What is given back, and
what was estimated too low, is put right as well as two counters allow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

from limits.errors import ConfigurationError
from limits.storage import RedisStorage

from ...runtime.errors import ConfigError
from ...runtime.secret import SecretValue
from ..configuration.provider_settings import STORE_SCHEMES, RateLimit
from .limit_buckets import Shortage
from .limit_report import LimitName, Scope

_PATIENCE: Final = 1.0
"""Seconds that Redis may take to answer before this process goes on without it."""

# The library knows no corrections. Never below nothing; never a counter that does not expire.
_CORRECT: Final = """
local count = tonumber(redis.call('get', KEYS[1]))
local amount = tonumber(ARGV[1])
if count then
    if count + amount < 0 then amount = 0 - count end
    redis.call('incrby', KEYS[1], amount)
elseif amount > 0 then
    redis.call('set', KEYS[1], amount, 'PX', ARGV[2])
end
"""


class StorageDown(Exception):
    """The shared store did not answer, or cannot be used; the text names no address. The actor catches it."""


@dataclass(frozen=True, slots=True)
class _Counter:
    """One window in Redis, and what a request takes from it."""

    scope: Scope
    name: LimitName
    key: str
    limit: int
    expiry: int
    cost: int


@dataclass(frozen=True, slots=True)
class SharedHold:
    """What a request took in Redis."""

    taken: tuple[_Counter, ...]


class SharedLimits:
    """The limits of one provider in Redis. Everything here blocks.

    Args:
        provider: the provider's id; processes that give the same one share its limits.
        address: ``redis://``, ``rediss://`` or ``redis+unix://``. It may hold a password and shows nowhere.

    Raises:
        StorageDown: the address is no such one, or the ``redis`` package is missing.
    """

    def __init__(self, provider: str, address: str) -> None:
        if urlsplit(address).scheme not in STORE_SCHEMES:
            raise StorageDown(f"expected an address that begins with {', '.join(STORE_SCHEMES)}, at limit_storage")
        self._prefix = f"dspex/{provider}"
        try:
            self._storage = RedisStorage(
                address, wrap_exceptions=False, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
            )
        except ConfigurationError as error:
            raise StorageDown("expected the package redis (dspex[redis]), got none, at limit_storage") from error
        except ValueError:
            raise StorageDown("expected an address that Redis' client understands, at limit_storage") from None
        self._errors: Any = self._storage.base_exceptions
        self._redis: Any = self._storage.get_connection()
        self._correct: Any = self._redis.register_script(_CORRECT.encode())

    def take(
        self, user: str | None, tokens: int, limits: RateLimit | None, user_limits: RateLimit | None
    ) -> SharedHold | Shortage:
        """Take what a request needs from all windows, or from none.

        Raises:
            StorageDown: Redis does not answer.
        """
        taken: list[_Counter] = []
        try:
            for counter in self._counters(user, tokens, limits, user_limits):
                if not self._storage.acquire_sliding_window_entry(
                    counter.key, counter.limit, counter.expiry, counter.cost
                ):
                    for each in taken:
                        self._add(each, -each.cost)
                    return Shortage(counter.name, counter.scope, self._wait(counter))
                taken.append(counter)
        except self._errors as error:
            raise StorageDown(f"expected an answer from the limits' storage, got {type(error).__name__}") from None
        return SharedHold(tuple(taken))

    def settle(self, hold: SharedHold, used: int | None, unsent: bool) -> None:
        """A request is over: put the estimate right, or give everything back.

        Raises:
            StorageDown: Redis does not answer.
        """
        try:
            for counter in hold.taken:
                if unsent:
                    self._add(counter, -counter.cost)
                elif counter.name == "tokens" and used is not None and used != counter.cost:
                    self._add(counter, used - counter.cost)
        except self._errors as error:
            raise StorageDown(f"expected an answer from the limits' storage, got {type(error).__name__}") from None

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _counters(
        self, user: str | None, tokens: int, limits: RateLimit | None, user_limits: RateLimit | None
    ) -> Iterator[_Counter]:
        # Who the users are is nobody's business who can read that Redis.
        digest = "none" if user is None else hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
        groups: tuple[tuple[Scope, str, RateLimit | None], ...] = (
            ("user", f"user/{digest}", user_limits),
            ("all", "all", limits),
        )
        for scope, word, group in groups:
            if group is None:
                continue
            expiry = max(1, ceil(group.window))
            if group.limit is not None:
                yield _Counter(scope, "requests", f"{self._prefix}/{word}/requests", group.limit, expiry, 1)
            if group.tokens is not None and tokens:
                yield _Counter(scope, "tokens", f"{self._prefix}/{word}/tokens", group.tokens, expiry, tokens)

    def _add(self, counter: _Counter, amount: int) -> None:
        # The library's name for the counter of the window that runs.
        current = self._storage.prefixed_key(f"{{{counter.key}}}")
        self._correct(keys=[current], args=[amount, counter.expiry * 2000])

    def _wait(self, counter: _Counter) -> float:
        """Seconds until a window has room, if nobody else comes: its counters fade evenly."""
        before, before_left, current, current_left = self._storage.get_sliding_window(counter.key, counter.expiry)
        room, window = counter.limit - counter.cost, float(counter.expiry)
        if current <= room:
            # The counter of the window before is rounded down: less than one above is enough.
            wait = before_left - (room - current + 1) * window / before if before else 0.0
        else:
            wait = max(0.0, current_left - window) + window - (room + 1) * window / current
        return max(0.001, wait)


def open_shared_limits(provider: str, secret: SecretValue) -> SharedLimits:
    """The shared limits whose address is this secret, read now. Blocks.

    Raises:
        StorageDown: it cannot be used.
    """
    try:
        address: str = secret.resolve()
    except ConfigError as unset:
        raise StorageDown(f"{unset}, at limit_storage") from None
    return SharedLimits(provider, address)
