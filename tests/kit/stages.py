"""Stages for tests: they tell what they see, and do what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.runtime.gen_server import Stop, call, info
from dspex.runtime.stages import Consumer, Producer, ProducerConsumer, Subscription


@dataclass
class Seen:
    """What a stage saw, in order."""

    demand: list[int] = field(default_factory=list[int])
    events: list[Any] = field(default_factory=list[Any])
    batches: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    cancels: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    subscriptions: list[Subscription] = field(default_factory=list[Subscription])
    infos: list[Any] = field(default_factory=list[Any])
    all: list[Any] = field(default_factory=list[Any])


@dataclass(frozen=True)
class Do:
    """Have a stage call ``function(stage)``, as a call; answers what that returns."""

    function: Callable[[Any], Any]


class Watching:
    """What the stages below share."""

    seen: Seen

    def handle_subscribe(self, role: str, options: Mapping[str, Any], subscription: Any) -> str:
        self.seen.subscriptions.append(subscription)
        return "automatic"

    def handle_cancel(self, kind: str, reason: Any, subscription: Any) -> Stop | None:
        self.seen.cancels.append((kind, reason))
        self.seen.all.append((kind, reason))
        return None


class Numbers(Watching, Producer):
    """Emits 0, 1, 2, ..: as many as asked for, or only what it is told to."""

    def init(self, seen: Seen | None = None, *, silent: bool = False, **options: Any) -> None:
        self.seen = seen or Seen()
        self.configure(**options)
        self.silent, self.next = silent, 0

    def handle_demand(self, demand: int) -> Iterable[int]:
        self.seen.demand.append(demand)
        return () if self.silent else self.take(demand)

    def take(self, count: int) -> range:
        """The next numbers."""
        self.next += count
        return range(self.next - count, self.next)

    @call
    def do(self, message: Do) -> Any:
        return message.function(self)

    @info
    def noted(self, message: str) -> Any:
        self.seen.infos.append(message)
        self.seen.all.append(message)


class Taker(Watching, Consumer):
    """Takes events; asks itself if ``manual``."""

    def init(self, seen: Seen | None = None, source: Any = None, *, manual: bool = False, **options: Any) -> None:
        self.seen = seen or Seen()
        self.manual = manual
        if source is not None:
            self.subscribe_to(source, **options)

    def handle_subscribe(self, role: str, options: Mapping[str, Any], subscription: Any) -> str:
        super().handle_subscribe(role, options, subscription)
        return "manual" if self.manual else "automatic"

    def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> Any:
        self.seen.events += events
        self.seen.batches.append(events)
        self.seen.all += events
        return None

    @call
    def do(self, message: Do) -> Any:
        return message.function(self)

    @info
    def noted(self, message: str) -> None:
        self.seen.infos.append(message)
        self.seen.all.append(message)


class Between(Watching, ProducerConsumer):
    """Emits what a function makes of each event."""

    def init(
        self,
        seen: Seen | None = None,
        source: Any = None,
        make: Callable[[Any], Iterable[Any]] | None = None,
        **how: Any,
    ) -> None:
        self.seen = seen or Seen()
        self.make = make or (lambda event: (event,))
        if source is not None:
            self.subscribe_to(source, **how)

    def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> list[Any]:
        self.seen.events += events
        self.seen.batches.append(events)
        self.seen.all += events
        return [made for event in events for made in self.make(event)]

    @call
    def do(self, message: Do) -> Any:
        return message.function(self)

    @info
    def noted(self, message: str) -> None:
        self.seen.infos.append(message)
        self.seen.all.append(message)


class Links:
    """Links for pure tests of dispatchers: what each was sent."""

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self.sent: list[tuple[Any, ...]] = []
        self.again: list[int] = []

    def send(self, events: tuple[Any, ...]) -> None:
        """Take events."""
        self.sent.append(events)

    def ask_again(self, count: int) -> None:
        """Note an ask on the consumer's behalf."""
        self.again.append(count)

    @property
    def events(self) -> list[Any]:
        """All that was sent."""
        return [event for batch in self.sent for event in batch]


__all__ = ("Between", "Do", "Links", "Numbers", "Seen", "Taker", "Watching")
