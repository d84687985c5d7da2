"""Pause, gates and slow-down, without actors."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from dspex.actors.protection.gates import Gate, Pause, Slowdown
from dspex.actors.protection.generations import Generations


@dataclass
class Bench:
    """One of each, and their clock."""

    now: float = 100.0
    generations: Generations = field(default_factory=Generations)

    def __post_init__(self) -> None:
        self.gate = Gate("auth", lambda: self.now, self.generations)
        self.pause = Pause(lambda: self.now, self.generations, random.Random(1))
        self.slowdown = Slowdown(self.generations)

    @property
    def generation(self) -> int:
        return self.generations.current

    def state(self) -> str:
        return self.gate.state

    def at_once(self) -> int | None:
        return self.slowdown.limit

    def hit(self, retry_after: float | None = None) -> bool:
        return self.pause.begin(retry_after, self.generation, base=0.5, longest=8.0)


def test_a_gate_closes_for_a_while_then_one_finds_out() -> None:
    """One request at a time may try; its success opens the gate for all."""
    bench = Bench()
    assert not bench.gate.enter()
    assert bench.gate.close(60.0, bench.generation)
    assert bench.gate.refuses()
    assert bench.gate.next_try == 60.0
    bench.now += 60.0
    assert not bench.gate.refuses()
    assert bench.gate.enter()
    assert bench.gate.refuses()
    assert bench.state() == "trying"
    assert bench.gate.report("alive", bench.generation, trial=True)
    assert bench.state() == "open"
    assert not bench.gate.refuses()


def test_the_same_failure_closes_it_again() -> None:
    """The one that tried found the same: the time begins anew."""
    bench = Bench()
    bench.gate.close(60.0, bench.generation)
    bench.now += 60.0
    bench.gate.enter()
    assert bench.gate.close(60.0, bench.generation)
    assert bench.gate.next_try == 60.0


@pytest.mark.parametrize("verdict", ["neutral", "failed"])
def test_an_outcome_that_says_nothing_lets_the_next_one_try(verdict: str) -> None:
    """A cancelled try, or a server error, tells nothing of the key."""
    bench = Bench()
    bench.gate.close(60.0, bench.generation)
    bench.now += 60.0
    bench.gate.enter()
    assert not bench.gate.report(verdict, bench.generation, trial=True)  # type: ignore[arg-type]
    assert not bench.gate.refuses()
    assert bench.gate.enter()


def test_what_was_under_way_moves_no_gate() -> None:
    """A late refusal does not close a gate that was opened since, a late success does not open a closed one."""
    bench = Bench()
    old = bench.generation
    bench.gate.close(60.0, old)
    assert not bench.gate.report("alive", old, trial=False)
    assert not bench.gate.close(90.0, old)
    assert bench.gate.next_try == 60.0
    assert bench.gate.open()
    assert not bench.gate.close(60.0, old)
    assert bench.state() == "open"
    assert not bench.gate.open()


def test_a_pause_lasts_as_long_as_it_was_asked_for() -> None:
    """To the moment; a longer one lengthens it, a shorter one does not shorten it."""
    bench = Bench()
    assert bench.hit(5.0)
    bench.now += 1.0
    assert bench.hit(10.0)
    assert not bench.hit(2.0)
    assert bench.pause.left == pytest.approx(10.0)
    bench.now += 10.0
    assert bench.pause.left == 0.0


@pytest.mark.parametrize("nothing", [None, 0.0])
def test_without_a_time_it_doubles(nothing: float | None) -> None:
    """Half fixed, half random, up to the longest; one success begins anew."""
    bench = Bench()
    for bound in (0.5, 1.0, 2.0, 4.0, 8.0, 8.0):
        assert bench.hit(nothing)
        assert bound / 2 <= bench.pause.left <= bound
        bench.now += bench.pause.left
    bench.pause.succeeded(bench.generation)
    assert bench.pause.calm
    bench.hit(nothing)
    assert bench.pause.left <= 0.5


def test_a_burst_of_429_counts_once() -> None:
    """A hundred that were under way together do not make a pause of minutes; what one was told still holds."""
    bench = Bench()
    burst = bench.generation
    for _ in range(100):
        bench.pause.begin(None, burst, base=0.5, longest=1000.0)
    assert bench.pause.left <= 0.5
    assert bench.pause.begin(20.0, burst, base=0.5, longest=1000.0)
    assert bench.pause.left == 20.0


def test_a_late_success_does_not_make_pauses_small_again() -> None:
    """Only one that was admitted after the pause shows that it is over."""
    bench = Bench()
    old = bench.generation
    bench.hit()
    bench.now += 1.0
    bench.pause.succeeded(old)
    assert bench.pause.left == 0.0
    bench.hit()
    assert 0.5 <= bench.pause.left <= 1.0
    assert [bench.pause.calm, bench.pause.end()] == [False, True]
    assert [bench.pause.calm, bench.pause.end()] == [True, False]


def test_an_overload_halves_what_may_be_in_flight() -> None:
    """Once for each burst, down to one at a time."""
    bench = Bench()
    burst = bench.generation
    assert bench.at_once() is None
    assert bench.slowdown.overloaded(20, burst)
    assert not bench.slowdown.overloaded(19, burst)
    assert bench.at_once() == 10
    limits: list[int | None] = []
    for _ in range(4):
        bench.slowdown.overloaded(10, bench.generation)
        limits.append(bench.at_once())
    assert limits == [5, 2, 1, 1]


def test_successes_bring_it_back() -> None:
    """About one more for each full round, until it is what it was."""
    bench = Bench()
    bench.slowdown.overloaded(8, bench.generation)
    over = 0
    while not bench.slowdown.succeeded():
        over += 1
    assert 4 + 5 + 6 + 7 <= over + 1 <= 4 + 5 + 6 + 7 + 4
    assert bench.at_once() is None
    assert not bench.slowdown.succeeded()
    bench.slowdown.overloaded(8, bench.generation)
    assert bench.slowdown.end()
    assert not bench.slowdown.end()
