"""DemandDispatcher: events go to the consumer with the highest demand (OTP DSP-01 to DSP-05). Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from ..log import get_logger
from .dispatcher import Events, Link


class _Claim:
    """What one consumer may still get."""

    __slots__ = ("demand", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.demand = 0


class DemandDispatcher:
    """Each event goes to one consumer: the one that may get most, ties in the order they came there.

    Args:
        max_demand: an ask above it is warned of: such a consumer would take the others' events. The first
            ask unless given.
        shuffle_demands_on_first_dispatch: shuffle the consumers once, before the first events go out.
        rng: shuffles.
    """

    def __init__(
        self,
        *,
        max_demand: int | None = None,
        shuffle_demands_on_first_dispatch: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self._max_demand = max_demand
        self._shuffle = shuffle_demands_on_first_dispatch
        self._rng = rng  # one of its own costs more than all else here
        self._claims: list[_Claim] = []  # highest demand first
        self._by_link: dict[Link, _Claim] = {}
        self._pending = 0  # asked upstream for consumers that are gone
        self._log = get_logger("dspex.stages")

    def on_info(self, deliver: Callable[[Any], None]) -> None:
        """See :class:`.dispatcher.Dispatcher`."""
        self._deliver = deliver

    def subscribe(self, link: Link, options: Mapping[str, Any]) -> int:
        """See :class:`.dispatcher.Dispatcher`. It takes no options."""
        claim = self._by_link[link] = _Claim(link)
        self._claims.append(claim)
        return 0

    def ask(self, link: Link, count: int) -> int:
        """See :class:`.dispatcher.Dispatcher`. What is pending was asked for already (OTP DSP-03)."""
        if self._max_demand is None:
            self._max_demand = count
        elif count > self._max_demand:
            self._log.warning(
                "a consumer asks for more than the others, and will take their events",
                ask=count,
                max_demand=self._max_demand,
                consumer=repr(link.consumer),
            )
        claim, claims = self._by_link[link], self._claims
        claim.demand += count
        if len(claims) > 1:
            claims.remove(claim)
            self._insert(claim)
        pending = self._pending
        if not pending:
            return count
        known = min(pending, count)
        self._pending = pending - known
        return count - known

    def cancel(self, link: Link) -> int:
        """See :class:`.dispatcher.Dispatcher`."""
        claim = self._by_link.pop(link, None)
        if claim is not None:
            self._claims.remove(claim)
            self._pending += claim.demand
        return 0

    def dispatch(self, events: Events) -> Events:
        """See :class:`.dispatcher.Dispatcher`."""
        claims = self._claims
        if self._shuffle:
            self._shuffle = False
            (self._rng or random.Random()).shuffle(claims)
            claims.sort(key=_most_first)  # the shuffle decides among equals
        while events and claims:
            first = claims[0]
            demand, count = first.demand, len(events)
            if count <= demand:
                first.demand = demand - count
                first.link.send(events)
                events = ()
            elif demand == 0:
                break
            else:
                first.demand = 0
                first.link.send(events[:demand])
                events = events[demand:]
            if len(claims) > 1:
                self._insert(claims.pop(0))
        if events and self._pending:
            self._pending = max(0, self._pending - len(events))
        return events

    def info(self, message: Any) -> None:
        """See :class:`.dispatcher.Dispatcher`. It holds no events."""
        self._deliver(message)

    def _insert(self, claim: _Claim) -> None:
        """Behind those with as much or more."""
        claims, demand = self._claims, claim.demand
        low, high = 0, len(claims)
        while low < high:
            middle = (low + high) // 2
            if claims[middle].demand >= demand:
                low = middle + 1
            else:
                high = middle
        claims.insert(low, claim)


def _most_first(claim: _Claim) -> int:
    return -claim.demand


__all__ = ("DemandDispatcher",)
