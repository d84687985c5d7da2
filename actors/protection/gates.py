"""What else stands before a provider: a pause it asked for, gates that a wrong key or an empty account close, and a
slow-down while it is overloaded. Pure: they are told the time.

All of them number their changes as the breaker does, so that what an old request says late changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from .breaker_verdicts import Verdict
from .generations import Generations

GateName: TypeAlias = Literal["quota", "auth"]
GateState: TypeAlias = Literal["open", "closed", "trying"]

_LONGEST_DOUBLING: Final = 62
_TICK: Final = 1e-9


@dataclass(frozen=True, slots=True)
class GateReport:
    """How a gate is.

    Attributes:
        gate: ``quota`` (no money left) or ``auth`` (the key or the settings are wrong).
        state: ``open`` (all may pass), ``closed`` (none), ``trying`` (one request is finding out).
        next_try: seconds until one request may try; None unless it is closed.
    """

    gate: GateName
    state: GateState
    next_try: float | None


class Gate:
    """Closed for a while by a failure that waiting alone does not mend; then one request at a time finds out.

    Args:
        name: which gate.
        now: the time in seconds, on a clock that never goes back.
        generations: what admissions are numbered by.
    """

    def __init__(self, name: GateName, now: Callable[[], float], generations: Generations) -> None:
        self.name: Final[GateName] = name
        self._now = now
        self._generations = generations
        self._until: float | None = None
        self._trying = False
        self._since = 0

    @property
    def state(self) -> GateState:
        """Its state."""
        if self._until is None:
            return "open"
        return "trying" if self._trying else "closed"

    @property
    def next_try(self) -> float | None:
        """Seconds until one request may try; None unless it is closed."""
        return None if self._until is None or self._trying else max(0.0, self._until - self._now())

    def refuses(self) -> bool:
        """Whether nobody may pass now."""
        return self._until is not None and (self._trying or self._until > self._now() + _TICK)

    def enter(self) -> bool:
        """Somebody passes (:meth:`refuses` has just said no): whether to find out."""
        if self._until is None:
            return False
        self._trying = True
        return True

    def close(self, seconds: float, generation: int) -> bool:
        """Its failure happened to an admission of ``generation``: whether that closes it (again)."""
        if generation < self._since:
            return False
        self._until = self._now() + seconds
        self._begin()
        return True

    def report(self, verdict: Verdict, generation: int, *, trial: bool) -> bool:
        """An admission ended otherwise: whether that opens the gate. Only one that was to find out can."""
        if not trial or generation < self._since:
            return False
        self._trying = False
        return verdict == "alive" and self.open()

    def open(self) -> bool:
        """Let all pass; whether it was not open."""
        if self._until is None:
            return False
        self._until = None
        self._begin()
        return True

    def describe(self) -> GateReport:
        """How it is."""
        return GateReport(self.name, self.state, self.next_try)

    def _begin(self) -> None:
        self._trying = False
        self._since = self._generations.begin()

    def __repr__(self) -> str:
        return f"<{self.state}>"


class Pause:
    """Nobody is admitted before it is over: what a provider asks for with a 429.

    Without a Retry-After the pause doubles with each 429 in a row, half of it random. Those of one burst count once:
    only a request that was admitted after a pause can make the next one longer.

    Args:
        now: the time in seconds, on a clock that never goes back.
        generations: what admissions are numbered by.
        rng: where the jitter comes from.
    """

    def __init__(self, now: Callable[[], float], generations: Generations, rng: random.Random) -> None:
        self._now = now
        self._generations = generations
        self._rng = rng
        self._until = 0.0
        self._in_a_row = 0
        self._since = 0

    @property
    def left(self) -> float:
        """Seconds until it is over; 0 if there is none."""
        left = self._until - self._now()
        return left if left > _TICK else 0.0

    @property
    def calm(self) -> bool:
        """Whether there is no pause, and the next one would begin small."""
        return self._in_a_row == 0 and self.left == 0.0

    def begin(self, retry_after: float | None, generation: int, *, base: float, longest: float) -> bool:
        """A 429 came: whether that made a pause, or made it longer.

        Args:
            retry_after: seconds that the provider asked for; nothing and 0 are no time.
            generation: of the admission that got it.
            base: upper bound of the first pause of our own, in seconds; it doubles.
            longest: upper bound of any pause of our own, in seconds.
        """
        fresh = generation >= self._since
        if not retry_after:
            if not fresh:
                return False
            bound = min(base * 2.0 ** min(self._in_a_row, _LONGEST_DOUBLING), longest)
            retry_after = bound * self._rng.uniform(0.5, 1.0)
        if fresh:
            self._in_a_row += 1
            self._since = self._generations.begin()
        until = self._now() + retry_after
        if until <= self._until:
            return False
        self._until = until
        return True

    def succeeded(self, generation: int) -> None:
        """A request admitted after the pause was let through: the next pause begins small."""
        if self._in_a_row and generation >= self._since:
            self._in_a_row = 0

    def end(self) -> bool:
        """Over, now; whether there was one."""
        left, self._until, self._in_a_row = self.left, 0.0, 0
        return left > 0.0

    def __repr__(self) -> str:
        return f"<{self.left:g} s left>"


class Slowdown:
    """Fewer requests at once while the provider says that it is overloaded.

    Additive increase, multiplicative decrease, as TCP has it: an overload halves what may be in flight (of what was in
    flight then, at least 1), once for each burst. Each success adds a part of one, so that a full round of them adds
    one. When it reaches what was in flight at the first overload it is over.

    Args:
        generations: what admissions are numbered by.
    """

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._limit: float | None = None
        self._ceiling = 0
        self._since = 0

    @property
    def limit(self) -> int | None:
        """Requests that may be in flight at once; None: it is not slowed down."""
        return None if self._limit is None else int(self._limit)

    def overloaded(self, in_flight: int, generation: int) -> bool:
        """An admission of ``generation`` met an overload: whether that lowered the limit.

        Args:
            in_flight: admissions under way, that one included.
            generation: the admission's.
        """
        if generation < self._since:
            return False
        before = self._limit
        if before is None:
            self._ceiling = in_flight
        self._limit = max(1.0, (in_flight if before is None else min(in_flight, before)) / 2.0)
        self._since = self._generations.begin()
        return before is None or int(self._limit) < int(before)

    def succeeded(self) -> bool:
        """A request was answered: whether the slow-down is over with that."""
        if self._limit is None:
            return False
        self._limit += 1.0 / self._limit
        if self._limit < self._ceiling:
            return False
        return self.end()

    def end(self) -> bool:
        """Over, now; whether there was one."""
        was, self._limit = self._limit, None
        return was is not None

    def __repr__(self) -> str:
        return f"<{self.limit} at once>"
