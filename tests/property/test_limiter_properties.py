"""Random traffic through limits and queue: never more than the limit, all or none, and fair."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.actors.configuration.provider_settings import RateLimit
from dspex.actors.protection.limit_buckets import Shortage
from dspex.actors.protection.limit_queue import LimitQueue, Waiting
from dspex.actors.protection.limiter import Grant, Limiter

USERS = st.sampled_from(["ann", "bob", None])
LIMITS = st.builds(
    RateLimit,
    limit=st.one_of(st.none(), st.integers(1, 6)),
    tokens=st.one_of(st.none(), st.integers(5, 40)),
    concurrency=st.one_of(st.none(), st.integers(1, 5)),
    window=st.sampled_from([0.25, 1.0, 5.0]),
)


@dataclass
class Admitted:
    """The model's note of an admission: what it counts now in each window."""

    at: float
    user: str | None
    estimate: int
    grant: Grant
    counted: int = 1
    tokens: int = 0
    running: bool = True
    extra: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])


class LimiterMachine(RuleBasedStateMachine):
    """The limiter against sums over all that was ever admitted."""

    @initialize(limits=st.one_of(st.none(), LIMITS), user_limits=st.one_of(st.none(), LIMITS))
    def begin(self, limits: RateLimit | None, user_limits: RateLimit | None) -> None:
        """Any limits."""
        self.now = 0.0
        self.limits, self.user_limits = limits, user_limits
        self.limiter = Limiter(lambda: self.now)
        self.limiter.configure(limits, user_limits)
        self.log: list[Admitted] = []

    def used(self, limits: RateLimit, user: str | None, every: bool) -> tuple[int, int, int]:
        """Requests and tokens of the window that ends now, and how many run."""
        mine = [one for one in self.log if every or one.user == user]
        horizon = self.now - limits.window
        inside = [one for one in mine if one.at > horizon]
        extra = sum(tokens for one in mine for at, tokens in one.extra if at > horizon)
        return (
            sum(one.counted for one in inside),
            sum(one.tokens for one in inside) + extra,
            sum(one.running for one in mine),
        )

    def fits(self, user: str | None, tokens: int) -> bool:
        for limits, every in ((self.limits, True), (self.user_limits, False)):
            if limits is None:
                continue
            requests, spent, running = self.used(limits, user, every)
            if limits.limit is not None and requests + 1 > limits.limit:
                return False
            if limits.tokens is not None and tokens and spent + tokens > limits.tokens:
                return False
            if limits.concurrency is not None and running + 1 > limits.concurrency:
                return False
        return True

    @rule(seconds=st.sampled_from([0.125, 0.25, 0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(user=USERS, tokens=st.integers(0, 20))
    def ask(self, user: str | None, tokens: int) -> None:
        """Somebody passes exactly if all limits have room for all of it."""
        short = self.limiter.shortage(user, tokens)
        assert (short is None) == self.fits(user, tokens)
        if short is None:
            grant = self.limiter.take(user, tokens)
            self.log.append(Admitted(self.now, user, tokens, grant, tokens=tokens))
        elif short.wait is not None:
            self.check_wait(user, tokens, short)

    def check_wait(self, user: str | None, tokens: int, short: Shortage) -> None:
        """The wait until there is room everywhere is true, and not longer than it must be."""
        wait = self.limiter.wait(user, tokens, (0, 0), (0, 0))
        if wait is None:
            return
        assert wait >= (short.wait or 0.0) > 0.0
        before = self.now
        self.now = before + wait - 0.0625
        assert not self.fits(user, tokens)
        self.now = before + wait
        assert self.fits(user, tokens)
        self.now = before

    def running(self) -> list[Admitted]:
        return [one for one in self.log if one.running]

    @precondition(lambda self: any(one.running for one in self.log))
    @rule(which=st.integers(0, 1000), used=st.one_of(st.none(), st.integers(0, 30)), unsent=st.booleans())
    def settle(self, which: int, used: int | None, unsent: bool) -> None:
        """One of those that run ends."""
        running = self.running()
        one = running[which % len(running)]
        one.running = False
        self.limiter.settle(one.user, one.grant, used, unsent=unsent)
        if unsent:
            one.counted, one.tokens = 0, 0
        elif used is not None and used > one.estimate:
            one.extra.append((self.now, used - one.estimate))
        elif used is not None:
            one.tokens = used

    @invariant()
    def the_reports_agree(self) -> None:
        """What the report says is used is what the model counts."""
        for row in self.limiter.reports():
            limits = self.limits if row.scope == "all" else self.user_limits
            assert limits is not None
            requests, tokens, running = self.used(limits, row.user, row.scope == "all")
            assert row.used == {"requests": requests, "tokens": tokens, "concurrency": running}[row.limit]

    @invariant()
    def no_window_ever_held_more(self) -> None:
        """Wherever a window begins, no more requests were admitted in it than the limit."""
        if self.limits is None or self.limits.limit is None:
            return
        for first in self.log:
            inside = [one for one in self.log if first.at <= one.at < first.at + self.limits.window]
            assert sum(one.counted for one in inside) <= self.limits.limit


LimiterMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLimiter = LimiterMachine.TestCase


@dataclass(frozen=True)
class Person:
    """Somebody who waits."""

    number: int
    user: str | None
    tokens: int


class QueueMachine(RuleBasedStateMachine):
    """The queue against a plain list."""

    @initialize()
    def begin(self) -> None:
        """Nobody waits."""
        self.now = 0.0
        self.queue = LimitQueue()
        self.people: list[Person] = []
        self.number = 0
        self.until: dict[str | None, float] = {}

    @rule(user=USERS, tokens=st.integers(0, 5))
    def come(self, user: str | None, tokens: int) -> None:
        """Somebody joins."""
        self.number += 1
        person = Person(self.number, user, tokens)
        self.queue.add(person)
        self.people.append(person)

    @precondition(lambda self: self.people)
    @rule(which=st.integers(0, 1000))
    def go(self, which: int) -> None:
        """Somebody leaves."""
        self.queue.remove(self.people.pop(which % len(self.people)))

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(user=USERS, seconds=st.sampled_from([1.0, 3.0]))
    def fill(self, user: str | None, seconds: float) -> None:
        """A user has no room of his own for a while."""
        self.until[user] = max(self.until.get(user, 0.0), self.now + seconds)

    @rule(user=USERS)
    def refund(self, user: str | None) -> None:
        """A user has room again before his time."""
        self.until.pop(user, None)
        self.queue.unblock(user)

    @rule(places=st.integers(0, 4))
    def serve(self, places: int) -> None:
        """So many get in: the first of those whose users have room."""
        got: list[Person] = []

        def admit(person: Waiting) -> Shortage | None:
            assert isinstance(person, Person)
            left = self.until.get(person.user, 0.0) - self.now
            if left > 0.0:
                return Shortage("requests", "user", left)
            if len(got) == places:
                return Shortage("requests", "all", 10.0)
            got.append(person)
            return None

        when = self.queue.serve(self.now, admit)
        willing = [one for one in self.people if self.until.get(one.user, 0.0) <= self.now]
        assert got == willing[:places]
        self.people = [one for one in self.people if one not in got]
        assert (when is None) == (not self.people)
        if when is not None:
            assert when > self.now

    @invariant()
    def sums_agree(self) -> None:
        """How many wait, of whom, and what they need."""
        assert len(self.queue) == len(self.people)
        assert self.queue.tokens == sum(one.tokens for one in self.people)
        assert [one.number for one in self.queue.requests()] == [one.number for one in self.people]
        for user in ("ann", "bob", None):
            mine = [one for one in self.people if one.user == user]
            assert self.queue.of_user(user) == (len(mine), sum(one.tokens for one in mine))


QueueMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQueue = QueueMachine.TestCase


@given(st.lists(st.floats(0.0, 3.0), max_size=60), st.integers(1, 5), st.floats(0.01, 2.0))
def test_waiting_as_told_always_finds_room(gaps: list[float], limit: int, window: float) -> None:
    """Whoever comes again after the wait he was told gets in: one wait is enough, for any window and any rhythm."""
    now = [0.0]
    limiter = Limiter(lambda: now[0])
    limiter.configure(RateLimit(limit=limit, window=window), None)
    for gap in gaps:
        now[0] += gap
        short = limiter.shortage(None, 0)
        if short is not None:
            assert short.wait is not None
            now[0] += short.wait
        assert limiter.shortage(None, 0) is None
        limiter.take(None, 0)
