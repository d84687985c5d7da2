"""The circuit breaker, without actors."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from dspex.actors.lm.failures import FAILURES
from dspex.actors.protection.breaker import Breaker
from dspex.actors.protection.breaker_verdicts import VERDICTS
from dspex.actors.protection.generations import Generations


@dataclass
class Bench:
    """A breaker, its clock, and short ways to pass and to report."""

    threshold: int = 3
    recovery: float = 30.0
    probes: int = 1
    successes: int = 1
    now: float = 100.0
    generations: Generations = field(default_factory=Generations)

    def __post_init__(self) -> None:
        self.breaker = Breaker(lambda: self.now, self.generations)
        self.configure()

    def configure(self) -> None:
        self.breaker.configure(
            threshold=self.threshold, recovery=self.recovery, probes=self.probes, successes=self.successes
        )

    def state(self) -> str:
        return self.breaker.state

    def enter(self) -> tuple[int, bool]:
        assert not self.breaker.refuses()
        probe = self.breaker.enter()
        return self.generations.current, probe

    def report(self, entered: tuple[int, bool], failure: str | None) -> bool:
        return self.breaker.report(VERDICTS[failure], entered[0], probe=entered[1])

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.report(self.enter(), "server")


def test_it_opens_at_the_threshold_and_not_before() -> None:
    """N-1 failures in a row leave it closed, the Nth opens it."""
    bench = Bench()
    bench.fail(2)
    assert bench.state() == "closed"
    assert bench.report(bench.enter(), "timeout")
    assert bench.state() == "open"
    assert bench.breaker.refuses()
    assert bench.breaker.next_probe == 30.0


def test_a_success_between_failures_begins_the_count_anew() -> None:
    """Only failures in a row count."""
    bench = Bench()
    bench.fail(2)
    bench.report(bench.enter(), None)
    bench.fail(2)
    assert bench.state() == "closed"


def test_a_probe_decides_after_the_recovery_time() -> None:
    """One probe at a time: its success closes, its failure opens for another recovery time."""
    bench = Bench()
    bench.fail(3)
    bench.now += 29.9
    assert bench.breaker.refuses()
    bench.now += 0.1
    probe = bench.enter()
    assert probe[1]
    assert bench.breaker.refuses()
    assert bench.report(probe, "server")
    assert bench.breaker.next_probe == 30.0
    bench.now += 30.0
    assert bench.report(bench.enter(), None)
    assert bench.state() == "closed"
    assert bench.enter() == (bench.generations.current, False)


def test_several_probes_and_several_successes() -> None:
    """At most ``probes`` at once; it closes after ``successes`` of them in a row."""
    bench = Bench(probes=2, successes=3)
    bench.fail(3)
    bench.now += 30.0
    first, second = bench.enter(), bench.enter()
    assert bench.breaker.refuses()
    assert not bench.report(first, None)
    assert not bench.report(second, None)
    assert bench.state() == "half-open"
    assert bench.report(bench.enter(), None)
    assert bench.state() == "closed"


def test_a_cancelled_probe_makes_room_for_the_next() -> None:
    """An outcome that says nothing frees the slot and decides nothing."""
    bench = Bench()
    bench.fail(3)
    bench.now += 30.0
    assert not bench.report(bench.enter(), "cancelled")
    assert bench.state() == "half-open"
    assert bench.report(bench.enter(), None)


def test_a_late_success_does_not_close_an_open_breaker() -> None:
    """What was admitted before it opened says nothing of the present."""
    bench = Bench()
    old = bench.enter()
    bench.fail(3)
    assert not bench.report(old, None)
    assert bench.state() == "open"


def test_a_late_outcome_does_not_decide_for_a_probe() -> None:
    """Neither a success nor a failure of the time before the breaker opened moves a half-open one."""
    bench = Bench()
    lucky, unlucky = bench.enter(), bench.enter()
    bench.fail(3)
    bench.now += 30.0
    probe = bench.enter()
    assert not bench.report(lucky, None)
    assert not bench.report(unlucky, "server")
    assert bench.state() == "half-open"
    assert bench.breaker.refuses()
    assert bench.report(probe, None)


def test_a_late_failure_does_not_count() -> None:
    """After a recovery the count begins at zero, whatever still arrives from before."""
    bench = Bench(threshold=1)
    old = bench.enter()
    bench.fail(1)
    bench.now += 30.0
    bench.report(bench.enter(), None)
    assert not bench.report(old, "server")
    assert bench.state() == "closed"


def test_threshold_zero_turns_it_off() -> None:
    """No number of failures opens it, and turning it off closes one that is open."""
    bench = Bench(threshold=0)
    bench.fail(50)
    assert bench.state() == "closed"
    bench.threshold = 1
    bench.configure()
    bench.fail(1)
    assert bench.state() == "open"
    bench.threshold = 0
    bench.configure()
    assert bench.state() == "closed"
    assert not bench.breaker.refuses()


def test_new_settings_keep_the_state() -> None:
    """A shorter recovery time holds for a breaker that is open already; failures stay counted."""
    bench = Bench()
    bench.fail(2)
    bench.threshold = 5
    bench.configure()
    assert bench.breaker.describe().failures == 2
    bench.fail(3)
    bench.recovery = 5.0
    bench.configure()
    assert bench.breaker.next_probe == 5.0


def test_no_recovery_time_probes_at_once() -> None:
    """With 0 seconds an open breaker lets one probe pass at a time, at once."""
    bench = Bench(recovery=0.0)
    bench.fail(3)
    assert bench.enter()[1]
    assert bench.breaker.refuses()


def test_reset_closes_it() -> None:
    """By hand, whatever it had counted."""
    bench = Bench()
    bench.fail(2)
    assert not bench.breaker.reset()
    bench.fail(2)
    assert bench.state() == "closed"
    bench.fail(1)
    assert bench.breaker.reset()
    assert bench.breaker.describe().failures == 0


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_speaks_as_the_table_says(name: str) -> None:
    """Rows that count open it; an answer about the request itself begins the count anew; all else is neutral."""
    bench = Bench(threshold=2)
    bench.fail(1)
    bench.report(bench.enter(), name)
    failures = bench.breaker.describe().failures
    if FAILURES[name].counts_for_breaker:
        assert bench.state() == "open"
    elif name in {"invalid", "context_length", "conflict", "too_large"}:
        assert failures == 0
    else:
        assert failures == 1
