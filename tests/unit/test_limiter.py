"""The limits of a provider, without actors: windows, tokens, users, and who is next."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from dspex.actors.configuration.provider_settings import RateLimit
from dspex.actors.protection.limit_buckets import Shortage
from dspex.actors.protection.limit_queue import LimitQueue, Waiting
from dspex.actors.protection.limit_storage import UNITS, WindowStorage
from dspex.actors.protection.limiter import Grant, Limiter


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def limiter(clock: Clock, limits: RateLimit | None = None, user_limits: RateLimit | None = None) -> Limiter:
    """A limiter with these limits."""
    made = Limiter(clock)
    made.configure(limits, user_limits)
    return made


def take(limiter: Limiter, user: str | None = None, tokens: int = 0) -> Grant:
    """Let one in; there is room."""
    assert limiter.shortage(user, tokens) is None
    return limiter.take(user, tokens)


def used(limiter: Limiter) -> dict[str, int]:
    """What is used of the limits of all."""
    return {report.limit: report.used for report in limiter.reports() if report.scope == "all"}


def test_a_window_lets_through_its_limit_and_no_more(clock: Clock) -> None:
    """Three of three pass; the fourth waits until the first is a window old, to the moment."""
    limits = limiter(clock, RateLimit(limit=3, window=0.5))
    for _ in range(3):
        take(limits)
        clock.now += 0.1
    short = limits.shortage(None, 0)
    assert short is not None
    assert short.limit == "requests"
    assert short.wait == pytest.approx(0.2)
    clock.now += short.wait or 0.0
    take(limits)
    assert limits.shortage(None, 0) is not None


def test_there_is_no_double_burst_at_a_window_s_edge(clock: Clock) -> None:
    """A full window's worth just before some edge leaves nothing just after it."""
    limits = limiter(clock, RateLimit(limit=10, window=1.0))
    clock.now = 1000.99
    for _ in range(10):
        take(limits)
    clock.now = 1001.01
    assert limits.shortage(None, 0) is not None


def test_all_limits_are_taken_or_none(clock: Clock) -> None:
    """A request that finds no room in one bucket leaves the others as they were."""
    limits = limiter(clock, RateLimit(limit=10, tokens=100, concurrency=5, window=60.0), RateLimit(limit=1))
    take(limits, "ann", 40)
    before = used(limits)
    for user, tokens in (("ann", 10), ("bob", 70)):
        assert limits.shortage(user, tokens) is not None
    assert used(limits) == before == {"requests": 1, "tokens": 40, "concurrency": 1}


def test_tokens_are_put_right_afterwards(clock: Clock) -> None:
    """An estimate that was too high is given back, one too low is charged, and no news changes nothing."""
    limits = limiter(clock, RateLimit(limit=None, tokens=100))
    high, low, unknown = take(limits, tokens=40), take(limits, tokens=20), take(limits, tokens=10)
    limits.settle(None, high, 15)
    limits.settle(None, low, 60)
    limits.settle(None, unknown, None)
    assert used(limits) == {"tokens": 15 + 60 + 10}


def test_what_was_never_sent_is_given_back(clock: Clock) -> None:
    """Request and tokens of an attempt that did not reach the provider leave no trace."""
    limits = limiter(clock, RateLimit(limit=1, tokens=100))
    limits.settle(None, take(limits, tokens=100), None, unsent=True)
    assert used(limits) == {"requests": 0, "tokens": 0}
    take(limits, tokens=100)


def test_a_refund_after_the_window_changes_nothing(clock: Clock) -> None:
    """What has left the window cannot be given back to those that came later."""
    limits = limiter(clock, RateLimit(limit=None, tokens=100, window=1.0))
    old = take(limits, tokens=100)
    clock.now += 1.5
    take(limits, tokens=100)
    limits.settle(None, old, 0)
    assert used(limits) == {"tokens": 100}


def test_more_tokens_than_estimated_may_exceed_the_limit(clock: Clock) -> None:
    """What was used was used: the next one waits until enough of it has left the window."""
    limits = limiter(clock, RateLimit(limit=None, tokens=100, window=10.0))
    limits.settle(None, take(limits, tokens=50), 250)
    report = next(limits.reports())
    assert (report.used, report.remaining) == (250, 0)
    short = limits.shortage(None, 1)
    assert short is not None
    assert short.wait == pytest.approx(10.0)


@pytest.mark.parametrize("limits", [RateLimit(limit=0), RateLimit(limit=None, tokens=0), RateLimit(tokens=9)])
def test_what_can_never_fit_is_said_at_once(clock: Clock, limits: RateLimit) -> None:
    """A limit of 0, and a cost above the limit, are no matter of waiting."""
    short = limiter(clock, limits).shortage(None, 10)
    assert short is not None
    assert short.never


def test_users_have_limits_of_their_own(clock: Clock) -> None:
    """One user's full bucket leaves room for others; requests without a user are one user."""
    limits = limiter(clock, None, RateLimit(limit=1))
    for user in ("ann", "bob", None):
        take(limits, user)
        short = limits.shortage(user, 0)
        assert short is not None
        assert short.scope == "user"


def test_quiet_users_are_forgotten(clock: Clock) -> None:
    """Memory is bounded by the users of one window, whoever else ever came."""
    limits = limiter(clock, None, RateLimit(limit=5, window=10.0))
    for number in range(1000):
        limits.settle(f"user {number}", take(limits, f"user {number}"), None)
        clock.now += 1.0
    assert limits.users <= 14


def test_a_user_in_flight_is_not_forgotten(clock: Clock) -> None:
    """What is under way counts for concurrency, however long it takes."""
    limits = limiter(clock, None, RateLimit(limit=5, concurrency=1, window=1.0))
    take(limits, "slow")
    for number in range(50):
        clock.now += 1.0
        limits.settle(f"user {number}", take(limits, f"user {number}"), None)
    short = limits.shortage("slow", 0)
    assert short is not None
    assert short.limit == "concurrency"


def test_counts_survive_a_change_of_limits(clock: Clock) -> None:
    """A new limit or window counts what has been let through before."""
    limits = limiter(clock, RateLimit(limit=5, window=10.0))
    for _ in range(4):
        take(limits)
    limits.configure(RateLimit(limit=4, window=20.0), None)
    short = limits.shortage(None, 0)
    assert short is not None
    assert short.wait == pytest.approx(20.0)
    limits.configure(RateLimit(limit=6, window=20.0), None)
    take(limits)
    assert used(limits) == {"requests": 5}


def test_limits_that_are_taken_away_settle_quietly(clock: Clock) -> None:
    """An admission under limits that are gone, or came back, gives nothing to the new ones."""
    limits = limiter(clock, RateLimit(limit=2, concurrency=2))
    old = take(limits)
    limits.configure(None, None)
    limits.configure(RateLimit(limit=2, concurrency=2), None)
    limits.settle(None, old, None, unsent=True)
    assert used(limits) == {"requests": 0, "concurrency": 0}


def test_the_wait_counts_those_in_front(clock: Clock) -> None:
    """With n in front, the wait is until the n+1st finds room: several windows, if need be."""
    limits = limiter(clock, RateLimit(limit=2, window=10.0))
    take(limits)
    clock.now += 4.0
    take(limits)
    waits = [limits.wait(None, 0, (ahead, 0), (0, 0)) for ahead in range(5)]
    assert waits == [pytest.approx(wait) for wait in (6.0, 10.0, 16.0, 20.0, 26.0)]


def test_the_storage_is_one_of_the_library(clock: Clock) -> None:
    """Every method of the library's port does its job."""
    storage = WindowStorage(clock)
    assert storage.check()
    assert storage.get("k") == 0
    assert storage.get_expiry("k") == clock.now
    assert storage.incr("k", UNITS, 3) == 3
    assert storage.incr("k", UNITS) == 4
    assert storage.get("k") == 4
    assert storage.get_moving_window("k", 9, UNITS) == (1000.0, 4)
    storage.clear("k")
    assert storage.get("k") == 0
    assert [storage.acquire_entry("b", 2, UNITS) for _ in range(3)] == [True, True, False]
    assert not storage.acquire_entry("c", 2, UNITS, 3)
    storage.clear("b")
    storage.clear("c")
    storage.incr("a", UNITS)
    assert storage.reset() == 1


@dataclass(frozen=True)
class Person:
    """Somebody who waits."""

    number: int
    user: str | None = None
    tokens: int = 1


def served(queue: LimitQueue, now: float, room: dict[str | None, float | None], places: int) -> list[int]:
    """Serve ``places`` people; users in ``room`` have none of their own until then."""
    got: list[int] = []

    def admit(person: Waiting) -> Shortage | None:
        until = room.get(person.user, 0.0)
        if until is None or until > now:
            return Shortage("requests", "user", None if until is None else until - now)
        if len(got) >= places:
            return Shortage("requests", "all", 7.0)
        got.append(person.number)
        return None

    queue.serve(now, admit)
    return got


def test_first_come_first_served_across_users() -> None:
    """With room for three, the first three pass, whoever they are."""
    queue = LimitQueue()
    for number, user in enumerate(["ann", "bob", "ann", "cid", "bob"]):
        queue.add(Person(number, user))
    assert served(queue, 0.0, {}, 3) == [0, 1, 2]
    assert served(queue, 1.0, {}, 9) == [3, 4]
    assert len(queue) == queue.tokens == 0


def test_a_user_without_room_blocks_nobody_else() -> None:
    """Others pass by; when the user has room again, the order is that of arrival."""
    queue = LimitQueue()
    for number, user in enumerate(["ann", "ann", "bob", "cid"]):
        queue.add(Person(number, user))
    assert served(queue, 0.0, {"ann": 5.0}, 1) == [2]
    assert queue.stands_before("dan")
    assert served(queue, 5.0, {}, 9) == [0, 1, 3]


def test_serving_says_when_to_come_again() -> None:
    """The soonest of the general shortage and those of users; None if only a settlement makes room."""
    queue = LimitQueue()
    queue.add(Person(1, "ann"))
    assert queue.serve(10.0, lambda _: Shortage("requests", "user", 3.0)) == 13.0
    queue.add(Person(2, "bob"))
    assert queue.serve(10.0, lambda _: Shortage("requests", "all", 5.0)) == 13.0
    queue.remove(Person(1, "ann"))
    assert queue.serve(10.0, lambda _: Shortage("requests", "all", 5.0)) == 15.0
    assert queue.serve(10.0, lambda _: Shortage("concurrency", "user")) is None
    queue.unblock("bob")
    assert served(queue, 10.0, {}, 9) == [2]


def test_those_who_leave_are_not_served() -> None:
    """First, middle or last: the others move up."""
    queue = LimitQueue()
    people = [Person(number, "ann") for number in range(5)]
    for person in people:
        queue.add(person)
    for gone in (0, 2, 4):
        queue.remove(people[gone])
        queue.remove(people[gone])
    assert [each.number for each in queue.requests()] == [1, 3]
    assert served(queue, 0.0, {}, 9) == [1, 3]


def test_a_queue_that_is_joined_and_left_does_not_grow() -> None:
    """Behind somebody who waits for ever, those who give up leave nothing behind."""
    queue = LimitQueue()
    queue.add(Person(0, "first"))
    for number in range(1, 5000):
        queue.add(Person(number, f"user {number}"))
        queue.remove(Person(number, f"user {number}"))
    assert len(queue) == 1
    assert len(vars(queue)["_ready"]) < 100


def test_ten_thousand_waiters_are_cheap() -> None:
    """Each with a limit of its own, or all behind one: nothing is looked at again and again."""
    looks = 0

    def look(short: Shortage | None) -> Shortage | None:
        nonlocal looks
        looks += 1
        return short

    queue, count = LimitQueue(), 10_000
    began = time.process_time()
    for number in range(count):
        queue.add(Person(number, f"user {number}"))
        queue.serve(0.0, lambda _: look(Shortage("requests", "user", 60.0)))
    for step in range(count):
        queue.serve(1.0 + step / count, lambda _: look(None))
    assert looks == count
    queue.serve(60.0, lambda _: look(None))
    assert (looks, len(queue)) == (2 * count, 0)
    assert time.process_time() - began < 5.0
