"""BroadcastDispatcher: every event goes to every consumer (OTP DSP-10 to DSP-14). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SpecError
from .dispatcher import Events, Link, SubscriptionRefused

Selector = Callable[[Any], bool]


class _Share:
    """What one consumer asked for beyond what all did."""

    __slots__ = ("link", "selector", "surplus")

    def __init__(self, link: Link, selector: Selector | None) -> None:
        self.link = link
        self.selector = selector
        self.surplus = 0


class BroadcastDispatcher:
    """All consumers get all events, at the pace of the slowest.

    A subscription may have the option ``selector``: a function of an event; those it refuses are not sent.
    """

    def __init__(self) -> None:
        self._shares: dict[Link, _Share] = {}
        self._waiting = 0  # events that all may get now
        self._requested = 0  # asked upstream, not dispatched yet

    def on_info(self, deliver: Callable[[Any], None]) -> None:
        """See :class:`.dispatcher.Dispatcher`."""
        self._deliver = deliver

    def subscribe(self, link: Link, options: Mapping[str, Any]) -> int:
        """See :class:`.dispatcher.Dispatcher`. A newcomer holds the others up until it asks (OTP DSP-11)."""
        selector: Selector | None = options.get("selector")
        if not callable(selector) and selector is not None:
            raise SpecError(
                f"broadcast subscription, selector: expected a function of an event, got {selector!r}",
                reason=("bad_opts", "selector"),
            )
        if any(share.link.consumer == link.consumer for share in self._shares.values()):
            raise SubscriptionRefused("already_subscribed")
        for share in self._shares.values():
            share.surplus += self._waiting
        self._waiting = 0
        self._shares[link] = _Share(link, selector)
        return 0

    def ask(self, link: Link, count: int) -> int:
        """See :class:`.dispatcher.Dispatcher`."""
        self._shares[link].surplus += count
        return self._even_out()

    def cancel(self, link: Link) -> int:
        """See :class:`.dispatcher.Dispatcher`. It may have been the one the others waited for (OTP DSP-11)."""
        self._shares.pop(link, None)
        if not self._shares:
            self._waiting = 0
            return 0
        return self._even_out()

    def _even_out(self) -> int:
        """Move what all have asked for to ``waiting``; what of it was not asked upstream yet (OTP DSP-12)."""
        least = min(share.surplus for share in self._shares.values())
        if least:
            for share in self._shares.values():
                share.surplus -= least
            self._waiting += least
        more = max(0, self._waiting - self._requested)
        self._requested += more
        return more

    def dispatch(self, events: Events) -> Events:
        """See :class:`.dispatcher.Dispatcher`."""
        waiting = self._waiting
        if not waiting:
            return events
        now, later = (events, ()) if len(events) <= waiting else (events[:waiting], events[waiting:])
        self._waiting = waiting - len(now)
        self._requested = max(0, self._requested - len(now))
        for share in tuple(self._shares.values()):
            if share.selector is None:
                share.link.send(now)
                continue
            chosen = tuple([event for event in now if share.selector(event)])
            if len(chosen) < len(now):
                share.link.ask_again(len(now) - len(chosen))
            share.link.send(chosen)
        return later

    def info(self, message: Any) -> None:
        """See :class:`.dispatcher.Dispatcher`. It holds no events."""
        self._deliver(message)


__all__ = ("BroadcastDispatcher", "Selector")
