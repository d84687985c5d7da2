"""Locks by key: one holder each, waiters in turn (OTP REG-10). Pure, as the table is.

Lock keys are a world of their own: locking ``"a"`` has nothing to do with who is registered as ``"a"``.
An owner may hold and await several locks at once, so each attempt has a number of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from .registry_terms import strict_key

Owner = TypeVar("Owner", bound=Hashable)
Ticket = TypeVar("Ticket")


class Attempt(NamedTuple, Generic[Owner, Ticket]):
    """One try to lock: whose, which of theirs, and how to tell them that it succeeded."""

    owner: Owner
    number: int
    ticket: Ticket


class LockTable(Generic[Owner, Ticket]):
    """Who holds which lock, and who waits for it.

    Args:
        waiting: whether somebody still waits for an attempt; dead waiters are skipped.
    """

    def __init__(self, waiting: Callable[[Attempt[Owner, Ticket]], bool]) -> None:
        self._waiting = waiting
        self._lines: dict[Any, deque[Attempt[Owner, Ticket]]] = {}

    def acquire(self, key: Any, attempt: Attempt[Owner, Ticket]) -> bool:
        """Take the lock, or stand in line for it; whether it was free.

        Raises:
            RegistryError: the key cannot be one.
        """
        line = self._lines.setdefault(strict_key(key), deque())
        line.append(attempt)
        return len(line) == 1

    def release(self, key: Any, owner: Owner, number: int) -> Attempt[Owner, Ticket] | None:
        """Give the lock back, or leave the line; who has it next, if that changed."""
        strict = strict_key(key)
        line = self._lines.get(strict, deque())
        if not line:
            return None
        if line[0][:2] == (owner, number):
            return self._pass_on(strict)
        for attempt in [each for each in line if each[:2] == (owner, number)]:
            line.remove(attempt)
        return None

    def drop_owner(self, owner: Owner) -> list[Attempt[Owner, Ticket]]:
        """The owner ended: its locks go to the next in line; who they are."""
        held = [strict for strict, line in self._lines.items() if line[0].owner == owner]
        return [successor for strict in held if (successor := self._pass_on(strict)) is not None]

    def holder(self, key: Any) -> Owner | None:
        """Who holds the lock, or None."""
        line = self._lines.get(strict_key(key))
        return line[0].owner if line else None

    def holds(self, owner: Owner) -> bool:
        """Whether the owner holds any lock."""
        return any(line[0].owner == owner for line in self._lines.values())

    def _pass_on(self, strict: Any) -> Attempt[Owner, Ticket] | None:
        line = self._lines[strict]
        line.popleft()
        while line and not self._waiting(line[0]):
            line.popleft()
        if line:
            return line[0]
        del self._lines[strict]
        return None
