"""Random admissions, ends and waits against a breaker model of a few lines."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.actors.protection.breaker import Breaker
from dspex.actors.protection.breaker_verdicts import VERDICTS
from dspex.actors.protection.generations import Generations

ENDS = st.sampled_from([None, "server", "timeout", "rate", "invalid", "cancelled"])


class BreakerMachine(RuleBasedStateMachine):
    """The breaker and its model go through the same."""

    @initialize(
        threshold=st.integers(1, 4), recovery=st.integers(0, 5), probes=st.integers(1, 3), successes=st.integers(1, 3)
    )
    def begin(self, threshold: int, recovery: int, probes: int, successes: int) -> None:
        """One of each, with the same settings."""
        self.now = 0.0
        self.threshold, self.recovery, self.probes, self.successes = threshold, recovery, probes, successes
        self.generations = Generations()
        self.breaker = Breaker(lambda: self.now, self.generations)
        self.breaker.configure(threshold=threshold, recovery=float(recovery), probes=probes, successes=successes)
        self.state, self.failures, self.good, self.opened = "closed", 0, 0, 0.0
        self.era = 0
        self.under_way: list[tuple[tuple[int, bool], int, bool]] = []

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def arrive(self) -> None:
        """Somebody asks; the model says whether he passes, and as what."""
        if self.state == "open" and self.now >= self.opened + self.recovery:
            self.change("half-open")
        probing = sum(era == self.era and probe for _, era, probe in self.under_way)
        refused = self.state == "open" or (self.state == "half-open" and probing >= self.probes)
        assert self.breaker.refuses() == refused
        if not refused:
            probe = self.breaker.enter()
            assert probe == (self.state == "half-open")
            self.under_way.append(((self.generations.current, probe), self.era, probe))

    @precondition(lambda self: self.under_way)
    @rule(end=ENDS, which=st.integers(0, 1000))
    def leave(self, end: str | None, which: int) -> None:
        """Any of those under way ends, however old."""
        (generation, probe), era, _ = self.under_way.pop(which % len(self.under_way))
        before = self.state
        if era == self.era:
            self.count(VERDICTS[end])
        assert self.breaker.report(VERDICTS[end], generation, probe=probe) == (self.state != before)

    @rule()
    def reset(self) -> None:
        """By hand."""
        assert self.breaker.reset() == (self.state != "closed")
        if self.state != "closed":
            self.change("closed")
        self.failures = 0

    def count(self, verdict: Any) -> None:
        if verdict == "neutral":
            return
        if verdict == "failed":
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.change("open")
            return
        self.failures = 0
        if self.state == "half-open":
            self.good += 1
            if self.good >= self.successes:
                self.change("closed")

    def change(self, state: str) -> None:
        self.state, self.good = state, 0
        self.era += 1
        if state == "open":
            self.opened = self.now
        elif state == "closed":
            self.failures = 0

    @invariant()
    def they_agree(self) -> None:
        """State, failures in a row and probes under way are the same."""
        report = self.breaker.describe()
        assert report.state == self.state
        if self.state == "closed":
            assert report.failures == self.failures
        assert report.probing == sum(era == self.era and probe for _, era, probe in self.under_way)
        assert report.probing <= self.probes


BreakerMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase
