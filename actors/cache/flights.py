"""Who asks the model for an answer that several want, and who waits for it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

W = TypeVar("W")


@dataclass(slots=True)
class Flight(Generic[W]):
    """One key in work.

    Attributes:
        leader: who asks the model, by id; None while nobody does yet.
        waiting: who waits, by id, in the order they came.
    """

    leader: tuple[str, W] | None = None
    waiting: dict[str, W] = field(default_factory=dict[str, W])


class Flights(Generic[W]):
    """The keys in work. At most one leads on each; while there are waiters that live, somebody does or is to.

    Args:
        lives: whether somebody who waits still does.
    """

    def __init__(self, lives: Callable[[W], bool]) -> None:
        self._lives = lives
        self._by_key: dict[str, Flight[W]] = {}

    def get(self, key: str) -> Flight[W] | None:
        """The flight of a key."""
        return self._by_key.get(key)

    def lead(self, key: str, id: str, who: W) -> None:
        """Begin a flight with this leader, or have it lead the one that is there."""
        self._by_key.setdefault(key, Flight()).leader = (id, who)

    def wait(self, key: str, id: str, who: W) -> None:
        """Join the flight of a key, or begin one that has no leader yet."""
        self._by_key.setdefault(key, Flight()).waiting[id] = who

    def promote(self, key: str) -> W | None:
        """Have the first waiter that lives lead; without one the flight is over. The new leader."""
        flight = self._by_key.get(key)
        if flight is None:
            return None
        while flight.waiting:
            id = next(iter(flight.waiting))
            who = flight.waiting.pop(id)
            if self._lives(who):
                flight.leader = (id, who)
                return who
        del self._by_key[key]
        return None

    def leave(self, key: str, id: str) -> W | None:
        """Take a waiter out; who it was. A flight that nobody is left in is over."""
        flight = self._by_key.get(key)
        if flight is None:
            return None
        who = flight.waiting.pop(id, None)
        if flight.leader is None and not flight.waiting:
            del self._by_key[key]
        return who

    def land(self, key: str) -> Flight[W]:
        """End the flight of a key, if there is one: its leader, and who waits for the answer still."""
        flight = self._by_key.pop(key, Flight())
        flight.waiting = {id: who for id, who in flight.waiting.items() if self._lives(who)}
        return flight

    @property
    def leading(self) -> int:
        """Keys that somebody leads on."""
        return sum(flight.leader is not None for flight in self._by_key.values())

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(sum(map(self._lives, flight.waiting.values())) for flight in self._by_key.values())
