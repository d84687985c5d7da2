"""Who of a route's targets is asked first, and after which failures the next one is. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ...runtime.errors import (
    ActorDied,
    ConfigError,
    Error,
    LMError,
    NameUnavailable,
    NoProcess,
    Overloaded,
)
from ..configuration.provider_settings import FallbackOn, RouteSettings, RouteTarget
from ..lm.failures import failure_of

Key: TypeAlias = tuple[str, str | None, bool]
"""What has a time of its own: a provider, the model asked there, and whether streams are."""

_ROWS: Final[Mapping[FallbackOn, tuple[str, ...]]] = {
    "unavailable": (
        "connection",
        "reset",
        "pool",
        "timeout",
        "gateway_timeout",
        "server",
        "overloaded",
        "conflict",
        "protocol",
        "redirect",
        "circuit_open",
    ),
    "rate_limit": ("rate", "limit"),
    "quota": ("quota",),
    "auth": ("auth",),
    "budget": ("budget",),
    "context_length": ("context_length",),
    "invalid": ("invalid",),
}
GROUPS: Final[Mapping[str, FallbackOn]] = {row: group for group, rows in _ROWS.items() for row in rows}
"""The word of ``fallback_on`` for each row of the failure table. The others (the caller's time is up, a stream broke
off, an answer is too large) end a request wherever they happen."""

# What a call to a provider ends with that is not there, or not now, or not as it is configured.
_ABSENT: Final = (NoProcess, NameUnavailable, ActorDied, Overloaded, ConfigError)

PENALTY: Final = 10.0
"""Seconds that a failure counts for, on top of its own."""
STALE: Final = 60.0
"""Seconds after which a time says nothing any more: one request tries again."""
_NEWEST: Final = 0.3


def falls_back(error: Error, settings: RouteSettings) -> bool:
    """Whether the next target is to be asked after this failure."""
    if isinstance(error, _ABSENT):
        return "unavailable" in settings.fallback_on
    row = failure_of(error) if isinstance(error, LMError) else None
    if row is None or GROUPS.get(row.name) not in settings.fallback_on:
        return False
    # The budget of a module or a run is as empty at every other provider.
    return row.name != "budget" or str(error.facts.get("account", "provider/")).startswith("provider/")


def no_room(error: Error) -> bool:
    """Whether only our own limits refused it: it may succeed there after a wait."""
    row = failure_of(error) if isinstance(error, LMError) else None
    return row is not None and row.name == "limit"


def closed_for(error: Error) -> float | None:
    """Seconds for which a target need not be asked again, as it said that it refuses everything; None if it did not."""
    row = failure_of(error) if isinstance(error, LMError) else None
    if row is None or (row.name != "circuit_open" and error.facts.get("gate") is None):
        return None
    seconds: object = error.facts.get("retry_after")
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return 1.0  # it did not say when
    return max(float(seconds), 0.0)


def circle(route: str, routes: Mapping[str, RouteSettings]) -> tuple[str, ...] | None:
    """The shortest way from a route back to itself, as names of routes, or None."""
    ways: list[tuple[str, ...]] = [(route,)]
    seen: set[str] = set()
    for way in ways:  # grows as it is walked: nearest first
        settings = routes.get(way[-1])
        for target in settings.targets if settings is not None else ():
            if target.provider == route:
                return (*way, route)
            if target.provider not in seen:
                seen.add(target.provider)
                ways.append((*way, target.provider))
    return None


def check_circle(route: str, routes: Mapping[str, RouteSettings]) -> None:
    """Refuse a route that leads back to itself.

    Raises:
        ConfigError: it does (facts: path, expected, got).
    """
    way = circle(route, routes)
    if way is not None:
        path, shown = f"ai.routes.{route}.targets", " -> ".join(way)
        raise ConfigError(
            f"expected targets that do not lead back to the route, got {shown}, at {path}",
            path=path,
            expected="targets that do not lead back to the route",
            got=shown,
        )


@dataclass(slots=True)
class _Time:
    """An average of seconds, and when it was last added to."""

    seconds: float
    at: float


class Latencies:
    """How long each target takes, newer requests counting more; a failure counts as a long one.

    Who was not asked yet, or not lately, is tried by one request at a time.
    """

    def __init__(self) -> None:
        self._times: dict[Key, _Time] = {}
        self._tried: dict[Key, int] = {}

    def begin(self, key: Key) -> None:
        """A request is on its way."""
        self._tried[key] = self._tried.get(key, 0) + 1

    def end(self, key: Key, seconds: float | None, now: float, *, failed: bool = False) -> None:
        """It is over after so many seconds; None if they say nothing."""
        self._tried[key] -= 1
        if not self._tried[key]:
            del self._tried[key]
        if seconds is None:
            return
        seconds += PENALTY if failed else 0.0
        old = self._times.get(key)
        if old is not None and now - old.at < STALE:
            seconds = old.seconds + _NEWEST * (seconds - old.seconds)
        self._times[key] = _Time(seconds, now)

    def rank(self, key: Key, now: float) -> tuple[int, float]:
        """The smaller, the sooner it is asked: who is to be tried, then by time, then who is being tried already."""
        known = self._times.get(key)
        if known is not None and now - known.at < STALE:
            return (1, known.seconds)
        return (2 if key in self._tried else 0, 0.0)


def key_of(target: RouteTarget, *, stream: bool) -> Key:
    """Under which a target's time is kept."""
    return (target.provider, target.model, stream)


def order(
    settings: RouteSettings,
    *,
    stream: bool,
    rng: random.Random,
    latencies: Latencies,
    closed: Mapping[str, float],
    now: float,
) -> list[RouteTarget]:
    """The targets in the order in which they are asked.

    Args:
        settings: the route's.
        stream: whether a stream is asked for.
        rng: for the strategy ``weight``.
        latencies: for the strategy ``latency``.
        closed: providers that refuse everything until a moment; they come last.
        now: on the monotonic clock.
    """
    targets = list(settings.targets)
    if settings.strategy == "weight":
        targets = _drawn(targets, rng)
    elif settings.strategy == "latency":
        targets.sort(key=lambda target: latencies.rank(key_of(target, stream=stream), now))
    return sorted(targets, key=lambda target: closed.get(target.provider, -math.inf) > now)


def _drawn(targets: Sequence[RouteTarget], rng: random.Random) -> list[RouteTarget]:
    """One after the other by lot, each with its share among those that are left."""
    left, drawn = list(targets), list[RouteTarget]()
    while left:
        (found,) = rng.choices(left, [target.weight for target in left])
        left.remove(found)
        drawn.append(found)
    return drawn
