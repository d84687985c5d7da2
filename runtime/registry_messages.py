"""The messages of :class:`~dspex.runtime.registry.Registry`.

Actors use :class:`~dspex.runtime.registry.RegistryClient`, which fills in the owner. All are calls and
answer what the equally named method of :class:`~dspex.runtime.registry_table.RegistryTable` answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thespian.actors import ActorAddress


@dataclass(frozen=True, slots=True)
class Register:
    """Register ``owner``, the caller itself (OTP REG-01 to REG-03)."""

    key: Any
    value: Any
    owner: ActorAddress


@dataclass(frozen=True, slots=True)
class Unregister:
    """Remove the caller's own entries of a key (OTP REG-07)."""

    key: Any
    owner: ActorAddress


@dataclass(frozen=True, slots=True)
class UnregisterMatch:
    """The same for entries whose value matches (OTP REG-07)."""

    key: Any
    owner: ActorAddress
    pattern: Any
    guards: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class UpdateValue:
    """Replace the value of the caller's unique entry (OTP REG-04). Answers ``(new, old)``."""

    key: Any
    value: Any
    owner: ActorAddress


@dataclass(frozen=True, slots=True)
class Lookup:
    """``[(owner, value), ...]`` of a key (OTP REG-06)."""

    key: Any


@dataclass(frozen=True, slots=True)
class WhereIs:
    """The live holder of a unique key, or None (OTP REG-08)."""

    key: Any


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an owner (OTP REG-06)."""

    owner: ActorAddress


@dataclass(frozen=True, slots=True)
class Values:
    """An owner's values under a key (OTP REG-06)."""

    key: Any
    owner: ActorAddress


@dataclass(frozen=True, slots=True)
class CountEntries:
    """How many entries there are (OTP REG-06)."""


@dataclass(frozen=True, slots=True)
class Match:
    """Entries of a key whose value matches (OTP REG-09)."""

    key: Any
    pattern: Any
    guards: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class CountMatch:
    """How many those are (OTP REG-09)."""

    key: Any
    pattern: Any
    guards: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class SelectEntries:
    """Results of ``(pattern, guards, result)`` clauses over ``(key, owner, value)`` (OTP REG-09)."""

    clauses: Sequence[Any]


@dataclass(frozen=True, slots=True)
class CountSelect:
    """How many entries such clauses find (OTP REG-09)."""

    clauses: Sequence[Any]


@dataclass(frozen=True, slots=True)
class PutMeta:
    """Keep a value of the registry itself (OTP REG-11)."""

    key: Any
    value: Any


@dataclass(frozen=True, slots=True)
class GetMeta:
    """Such a value, or an error (OTP REG-11)."""

    key: Any


@dataclass(frozen=True, slots=True)
class DeleteMeta:
    """Forget such a value (OTP REG-11)."""

    key: Any


@dataclass(frozen=True, slots=True)
class WaitForKey:
    """Answered with :class:`Lookup`'s answer as soon as the key is registered; nobody polls.

    Fails with :class:`~dspex.runtime.errors.CallTimeout` after ``timeout`` seconds (None: for ever); give
    the call itself a longer one.
    """

    key: Any
    timeout: float | None = 5.0


@dataclass(frozen=True, slots=True)
class Lock:
    """Answered with None when the caller has the lock (OTP REG-10); ``number`` tells its attempts apart."""

    key: Any
    owner: ActorAddress
    number: int


@dataclass(frozen=True, slots=True)
class Unlock:
    """A cast: give that lock back, or leave the line."""

    key: Any
    owner: ActorAddress
    number: int


@dataclass(frozen=True, slots=True)
class KeyRegistered:
    """Tells a listener of a registration (OTP REG-13); arrives as info."""

    registry: str | ActorAddress
    key: Any
    owner: ActorAddress
    value: Any


@dataclass(frozen=True, slots=True)
class KeyUnregistered:
    """Tells a listener that an owner unregistered, one message an entry; not of its death (OTP REG-13)."""

    registry: str | ActorAddress
    key: Any
    owner: ActorAddress
