"""The circuit breaker: after so many failures in a row a provider rests, then a few probes decide.

The machine is pybreaker's, used as a state machine: its lock is never held while a request runs. Around it stand our
clock, probes that are counted, and *generations*: each admission carries the number of the time it was made in, and
an outcome from an earlier state changes nothing (a late success of an old request would close an open breaker).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from pybreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker, CircuitMemoryStorage

from .breaker_verdicts import BreakerReport, BreakerState, Verdict
from .generations import Generations


class _Storage(CircuitMemoryStorage):
    """The library's memory, which says when the breaker opened by our clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(STATE_CLOSED)
        self._now = now
        self.opened = 0.0

    @property
    def opened_at(self) -> datetime | None:
        """As the library wants it, counted from the beginning of our clock."""
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=self.opened)

    @opened_at.setter
    def opened_at(self, datetime: datetime) -> None:
        # The library gives the wall clock's time, which may jump.
        self.opened = self._now()


class _CountedFailure(Exception):
    """What the library is told of a failure."""


def _fail() -> NoReturn:
    raise _CountedFailure


def _succeed() -> None:
    pass


class Breaker:
    """One provider's breaker. Pure: it is told the time.

    Args:
        now: the time in seconds, on a clock that never goes back.
        generations: what admissions are numbered by.
    """

    def __init__(self, now: Callable[[], float], generations: Generations) -> None:
        self._now = now
        self._generations = generations
        self._storage = _Storage(now)
        self._machine = CircuitBreaker(state_storage=self._storage, throw_new_error_on_trip=False)
        self._threshold = 0
        self._probes = 1
        self._probing = 0
        self._since = 0

    def configure(self, *, threshold: int, recovery: float, probes: int, successes: int) -> None:
        """Other settings from now on; the state and its counts stay.

        Args:
            threshold: failures in a row that open it; 0 turns it off.
            recovery: seconds it stays open before a probe.
            probes: how many probes at once.
            successes: successful probes in a row that close it.
        """
        self._threshold, self._probes = threshold, probes
        self._machine.fail_max = max(1, threshold)
        self._machine.reset_timeout = recovery
        self._machine.success_threshold = successes
        if threshold == 0:
            self.reset()

    @property
    def state(self) -> BreakerState:
        """The state, as it was left; an open one turns half-open when somebody asks for admission in time."""
        state: BreakerState = self._storage.state  # type: ignore[assignment]  # the library says str
        return state

    @property
    def calm(self) -> bool:
        """Whether it is closed and counts no failure: then it has nothing to say."""
        return self._storage.counter == 0 and self._storage.state == STATE_CLOSED

    @property
    def next_probe(self) -> float | None:
        """Seconds until an open breaker lets a probe pass; None unless it is open."""
        if self._storage.state != STATE_OPEN:
            return None
        return max(0.0, self._storage.opened + self._machine.reset_timeout - self._now())

    def refuses(self) -> bool:
        """Whether nobody may pass now. An open breaker whose time is over becomes half-open."""
        state = self._storage.state
        if state == STATE_CLOSED:
            return False
        if state == STATE_OPEN:
            if self._storage.opened + self._machine.reset_timeout > self._now() + 1e-9:
                return True
            self._machine.half_open()
            self._begin()
        return self._probing >= self._probes

    def enter(self) -> bool:
        """Somebody passes (:meth:`refuses` has just said no): whether as a probe."""
        if self._storage.state == STATE_CLOSED:
            return False
        self._probing += 1
        return True

    def report(self, verdict: Verdict, generation: int, *, probe: bool) -> bool:
        """How an admission ended.

        Args:
            verdict: what that says.
            generation: the admission's.
            probe: whether it was a probe.

        Returns:
            Whether the state changed.
        """
        if generation < self._since:
            return False
        if probe:
            self._probing -= 1
        before = self._storage.state
        if verdict == "neutral" or before == STATE_OPEN:
            return False
        if verdict == "failed":
            if self._threshold == 0:
                return False
            with contextlib.suppress(_CountedFailure):
                self._machine.call(_fail)
        elif before != STATE_CLOSED or self._storage.counter:
            self._machine.call(_succeed)
        if self._storage.state == before:
            return False
        self._begin()
        return True

    def reset(self) -> bool:
        """Close it and forget its failures; whether it was not closed."""
        was_closed = self._storage.state == STATE_CLOSED
        self._machine.close()
        if not was_closed:
            self._begin()
        return not was_closed

    def describe(self) -> BreakerReport:
        """How it is."""
        is_open = self._storage.state == STATE_OPEN
        return BreakerReport(
            state=self.state,
            failures=self._storage.counter,
            threshold=self._threshold,
            successes=self._storage.success_counter,
            probing=self._probing,
            open_for=self._now() - self._storage.opened if is_open else None,
            next_probe=self.next_probe,
        )

    def _begin(self) -> None:
        self._since = self._generations.begin()
        self._probing = 0

    def __repr__(self) -> str:
        return f"<{self._storage.state}, {self._storage.counter} of {self._threshold} failures>"
