"""Dispatchers: which consumer gets which event. Pure: a dispatcher knows its consumers only as links.

Implementations: :mod:`.demand_dispatcher`, :mod:`.broadcast_dispatcher`, :mod:`.partition_dispatcher`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

Events = tuple[Any, ...]


class Link(Protocol):
    """One subscription, as a dispatcher sees it.

    Attributes:
        consumer: who subscribed; two subscriptions of one consumer have the same.
    """

    @property
    def consumer(self) -> Hashable:
        """See the class."""
        ...

    def send(self, events: Events) -> None:
        """Send events to the consumer."""
        ...

    def ask_again(self, count: int) -> None:
        """Ask for so many on the consumer's behalf, later (OTP DSP-14)."""
        ...


class SubscriptionRefused(Exception):
    """The dispatcher does not take this subscription; it is cancelled with the reason (OTP DSP-13).

    Args:
        reason: for the consumer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Dispatcher(Protocol):
    """Shares events among consumers. ``subscribe``, ``ask`` and ``cancel`` return what to ask upstream."""

    def on_info(self, deliver: Callable[[Any], None]) -> None:
        """Remember where infos go once no event stands before them."""
        ...

    def subscribe(self, link: Link, options: Mapping[str, Any]) -> int:
        """Take a consumer; the options are those of its subscription.

        Raises:
            SubscriptionRefused: it must not subscribe.
            SpecError: an option is missing or wrong; that ends the producer (OTP DSP-24).
        """
        ...

    def ask(self, link: Link, count: int) -> int:
        """A consumer asks for more."""
        ...

    def cancel(self, link: Link) -> int:
        """A consumer is gone."""
        ...

    def dispatch(self, events: Events) -> Events:
        """Send events to who asked for them; those that nobody asked for come back."""
        ...

    def info(self, message: Any) -> None:
        """Deliver an info behind all events this dispatcher holds."""
        ...


__all__ = ("Dispatcher", "Events", "Link", "SubscriptionRefused")
