"""Who is asked first, and after which failures the next one is."""

from __future__ import annotations

import random
from typing import Any, get_args

import pytest

from dspex.actors.configuration.provider_settings import FallbackOn, RouteSettings
from dspex.actors.lm.failures import FAILURES, lm_error
from dspex.actors.providers.route_choice import (
    GROUPS,
    PENALTY,
    STALE,
    Latencies,
    circle,
    closed_for,
    falls_back,
    key_of,
    no_room,
    order,
)
from dspex.runtime.errors import (
    ActorDied,
    ApplicationDown,
    CallCancelled,
    CallTimeout,
    ConfigError,
    Error,
    NameUnavailable,
    NoProcess,
    Overloaded,
)


def route(*targets: Any, **fields: Any) -> RouteSettings:
    """Settings of a route; a target is a provider's name or a table."""
    tables = [{"provider": target} if isinstance(target, str) else target for target in targets or ("a", "b", "c")]
    return RouteSettings.model_validate({"targets": tables} | fields)


def names(settings: RouteSettings, now: float = 0.0, **fields: Any) -> list[str]:
    """The order, as names."""
    given: dict[str, Any] = {"stream": False, "rng": random.Random(1), "latencies": Latencies(), "closed": {}}
    return [target.provider for target in order(settings, now=now, **(given | fields))]


# -- failures --------------------------------------------------------------------------------------


def test_every_failure_has_a_group_or_ends_a_request() -> None:
    """A new row of the table must be thought about here too."""
    assert set(FAILURES) - set(GROUPS) == {"deadline", "interrupted", "too_large"}
    assert set(GROUPS.values()) == set(get_args(FallbackOn))


@pytest.mark.parametrize("row", sorted(FAILURES))
def test_only_the_listed_failures_fall_back(row: str) -> None:
    """Each row falls back if its group is listed, and only then."""
    error = lm_error(row, "no")
    others = [group for group in get_args(FallbackOn) if group != GROUPS.get(row)]
    assert falls_back(error, route(fallback_on=get_args(FallbackOn))) is (row in GROUPS)
    assert not falls_back(error, route(fallback_on=others))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoProcess("x"), True),
        (NameUnavailable("x"), True),
        (ActorDied("x"), True),
        (Overloaded("x"), True),
        (ConfigError("x"), True),
        (CallTimeout("x"), False),
        (CallCancelled("x"), False),
        (ApplicationDown("x"), False),
        (Error("x"), False),
    ],
)
def test_a_provider_that_is_not_there_is_unavailable(error: Error, expected: bool) -> None:
    """Dead, restarting, overloaded or misconfigured; but not when the caller's time is up, or everything ends."""
    assert falls_back(error, route()) is expected
    assert not falls_back(error, route(fallback_on=["quota"]))


def test_only_a_providers_own_budget_falls_back() -> None:
    """A module's budget is as empty everywhere else."""
    assert falls_back(lm_error("budget", "no", account="provider/a"), route())
    assert not falls_back(lm_error("budget", "no", account="module/qa"), route())


def test_who_said_that_it_is_closed_is_left_alone() -> None:
    """An open breaker or a closed gate says for how long; any other failure says nothing."""
    assert closed_for(lm_error("circuit_open", "no", retry_after=12.5)) == 12.5
    assert closed_for(lm_error("circuit_open", "no")) == 1.0
    assert closed_for(lm_error("circuit_open", "no", retry_after=float("inf"))) == 1.0
    assert closed_for(lm_error("quota", "no", gate="quota", retry_after=60)) == 60.0
    assert closed_for(lm_error("rate", "no", retry_after=12.5)) is None
    assert closed_for(NoProcess("no")) is None


def test_no_room_is_our_own_limit_only() -> None:
    """The provider's own refusal says that waiting for our window does not help."""
    assert no_room(lm_error("limit", "no"))
    assert not no_room(lm_error("rate", "no"))
    assert not no_room(NoProcess("no"))


# -- circles ---------------------------------------------------------------------------------------


def test_circles_are_found() -> None:
    """From a route to itself, over however many others; a route that leads into somebody else's circle has none."""
    routes = {"r": route("p", "s"), "s": route("q", "t"), "t": route("r"), "into": route("r"), "self": route("self")}
    assert circle("r", routes) == ("r", "s", "t", "r")
    assert circle("self", routes) == ("self", "self")
    assert circle("into", routes) is None
    assert circle("r", {"r": route("s", "t"), "s": route("u"), "t": route("u"), "u": route("p")}) is None


# -- order -----------------------------------------------------------------------------------------


def test_by_order() -> None:
    """As written; who is closed comes last, until its time is over."""
    assert names(route()) == ["a", "b", "c"]
    assert names(route(), closed={"a": 10.0}, now=9.9) == ["b", "c", "a"]
    assert names(route(), closed={"a": 10.0}, now=10.0) == ["a", "b", "c"]


def test_by_weight() -> None:
    """Each comes first in its share of the requests, and all are in every order."""
    settings = route({"provider": "a", "weight": 7}, {"provider": "b", "weight": 3}, strategy="weight")
    rng = random.Random(17)
    first = [names(settings, rng=rng)[0] for _ in range(2000)]
    assert 0.65 < first.count("a") / 2000 < 0.75
    assert sorted(names(settings, rng=rng)) == ["a", "b"]


def test_by_latency() -> None:
    """The fastest first; newer times count more."""
    settings, times = route(strategy="latency"), Latencies()
    for target, seconds in zip(settings.targets, (3.0, 1.0, 2.0), strict=True):
        times.begin(key_of(target, stream=False))
        times.end(key_of(target, stream=False), seconds, 0.0)
    assert names(settings, latencies=times) == ["b", "c", "a"]
    for _ in range(5):
        times.begin(("b", None, False))
        times.end(("b", None, False), 9.0, 1.0)
    assert names(settings, latencies=times, now=1.0) == ["c", "a", "b"]


def test_a_failure_is_a_long_time() -> None:
    """Who fails at once is not the fastest."""
    settings, times = route("a", "b", strategy="latency"), Latencies()
    times.begin(("a", None, False))
    times.end(("a", None, False), 0.01, 0.0, failed=True)
    times.begin(("b", None, False))
    times.end(("b", None, False), PENALTY - 1, 0.0)
    assert names(settings, latencies=times) == ["b", "a"]


def test_the_unknown_are_tried_by_one_request_at_a_time() -> None:
    """New ones and those not asked lately go first; while one is being tried others do not pile onto it."""
    settings, times = route("a", "b", strategy="latency"), Latencies()
    a, b = ("a", None, False), ("b", None, False)
    assert names(settings, latencies=times) == ["a", "b"]
    times.begin(a)
    assert names(settings, latencies=times) == ["b", "a"]
    times.begin(b)
    assert names(settings, latencies=times) == ["a", "b"]
    times.end(b, 5.0, 0.0)
    assert names(settings, latencies=times) == ["b", "a"]
    times.end(a, None, 0.0)  # its caller gave up: still unknown
    assert names(settings, latencies=times) == ["a", "b"]
    times.begin(a)
    times.end(a, 1.0, 30.0)
    assert names(settings, latencies=times, now=30.0) == ["a", "b"]
    assert names(settings, latencies=times, now=STALE) == ["b", "a"]


def test_streams_have_times_of_their_own() -> None:
    """A stream is there with its first chunk: that says nothing about whole answers."""
    settings, times = route("a", "b", strategy="latency"), Latencies()
    for name, seconds in (("a", 5.0), ("b", 1.0)):
        times.begin((name, None, False))
        times.end((name, None, False), seconds, 0.0)
    assert names(settings, latencies=times) == ["b", "a"]
    assert names(settings, latencies=times, stream=True) == ["a", "b"]
