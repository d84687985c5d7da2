"""What a journal forgets by itself, and when it is time to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...runtime.clock import Clock
from ...runtime.errors import StoreError

KEPT_TYPES: Final = ("config_updated",)
"""Types that an actor starts again from; retention leaves them alone unless told otherwise.

Runs have a journal with a retention of its own: their events go as others do.
"""

_LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What a journal forgets by itself, oldest first.

    Attributes:
        max_events: keep this many of the newest events; None keeps all. The log may be 1 % longer for a while.
        max_age: seconds of wall time after which an event goes, within a tenth of that or a minute; None keeps all.
        keep: types that never go this way (an explicit ``prune`` still takes them).

    Raises:
        StoreError: a bound is not above zero.
    """

    max_events: int | None = None
    max_age: float | None = None
    keep: tuple[str, ...] = KEPT_TYPES

    def __post_init__(self) -> None:
        count: object = self.max_events
        whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
        if not (count is None or whole):
            raise StoreError(f"expected max_events of at least 1, got {count!r}", key="max_events")
        age: object = self.max_age
        positive = isinstance(age, int | float) and not isinstance(age, bool) and age > 0
        if not (age is None or positive):
            raise StoreError(f"expected max_age in seconds above 0, got {age!r}", key="max_age")


class RetentionSchedule:
    """When a journal should apply its retention: seldom enough to cost nothing, often enough to hold the bounds.

    Args:
        rule: the retention.
        clock: its monotonic time says when to look for old events again.
    """

    def __init__(self, rule: Retention, clock: Clock) -> None:
        self._rule = rule
        self._clock = clock
        self._step = max(1, (rule.max_events or 0) // 100)
        # What an earlier process left may be due already.
        self._added = self._step
        self._look_for_old = clock.monotonic()

    def added(self, count: int) -> None:
        """So many events were stored."""
        self._added += count

    def too_many_due(self) -> bool:
        """Whether to look for events beyond ``max_events``."""
        return self._rule.max_events is not None and self._added >= self._step

    def too_old_due(self) -> bool:
        """Whether to look for events beyond ``max_age``."""
        return self._rule.max_age is not None and self._clock.monotonic() >= self._look_for_old

    def looked_for_too_many(self, *, finished: bool = True) -> None:
        """Some were forgotten; not ``finished`` if there may be more."""
        if finished:
            self._added = 0

    def looked_for_too_old(self, *, finished: bool = True) -> None:
        """Some were forgotten; not ``finished`` if there may be more."""
        if finished and self._rule.max_age is not None:
            self._look_for_old = self._clock.monotonic() + min(self._rule.max_age / 10, _LONGEST_PAUSE)

    def pause(self) -> float | None:
        """Seconds until something is due though nothing is added; None if nothing will be."""
        if self.too_many_due():
            return 0.0
        if self._rule.max_age is None:
            return None
        return max(0.0, self._look_for_old - self._clock.monotonic())
