"""What a registry holds: entries by key and by owner, and registry-wide values (OTP section 4).

Pure: no engine, no actor. An owner is any hashable; whether it lives is asked of a function. The
:class:`~dspex.runtime.registry.Registry` actor puts messages, links and monitors around it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from .errors import AlreadyRegistered, RegistryError, did_you_mean
from .registry_match import Clauses, Guards, match_clause, match_clauses, select
from .registry_terms import strict_key

Owner = TypeVar("Owner", bound=Hashable)
KeyRule = Literal["unique", "duplicate"]
KEY_RULES: Final[tuple[KeyRule, ...]] = ("unique", "duplicate")


class Entry(NamedTuple, Generic[Owner]):
    """One registration."""

    key: Any
    owner: Owner
    value: Any


class _Slot(Generic[Owner]):
    """One registration where it is stored; its value may be replaced, its place is its identity."""

    __slots__ = ("key", "owner", "strict", "value")

    def __init__(self, strict: Any, key: Any, owner: Owner, value: Any) -> None:
        self.strict = strict
        self.key = key
        self.owner = owner
        self.value = value

    def entry(self) -> Entry[Owner]:
        return Entry(self.key, self.owner, self.value)


class RegistryTable(Generic[Owner]):
    """Entries of one registry.

    Args:
        keys: ``"unique"`` (one entry a key) or ``"duplicate"`` (any number).
        alive: whether an owner lives; a dead one never blocks a registration (OTP REG-05).

    Raises:
        RegistryError: ``keys`` is neither.
    """

    def __init__(self, keys: KeyRule = "unique", alive: Callable[[Owner], bool] = lambda owner: True) -> None:
        if keys not in KEY_RULES:
            hint = did_you_mean(str(keys), KEY_RULES)
            raise RegistryError(f"expected keys 'unique' or 'duplicate', got {keys!r}{hint}", keys=keys)
        self.keys_rule: KeyRule = keys
        self._alive = alive
        # Dicts of slots, not lists: removal is O(1) and the order is that of registration.
        self._by_key: dict[Any, dict[_Slot[Owner], None]] = {}
        self._by_owner: dict[Owner, dict[_Slot[Owner], None]] = {}
        self._count = 0
        self._meta: dict[Any, Any] = {}

    # -- registering -----------------------------------------------------------------------------

    def register(self, key: Any, owner: Owner, value: Any = None) -> Entry[Owner]:
        """Add an entry (OTP REG-01, REG-02).

        Raises:
            AlreadyRegistered: the key is unique and somebody alive holds it, the owner included.
            RegistryError: the key cannot be one.
        """
        strict = strict_key(key)
        if self.keys_rule == "unique":
            for slot in tuple(self._by_key.get(strict, ())):
                if self._alive(slot.owner):
                    raise AlreadyRegistered(
                        f"expected a free key, got {key!r}, which {slot.owner!r} holds", key=key, holder=slot.owner
                    )
                self._remove(slot)
        slot = _Slot(strict, key, owner, value)
        self._by_key.setdefault(strict, {})[slot] = None
        self._by_owner.setdefault(owner, {})[slot] = None
        self._count += 1
        return slot.entry()

    def unregister(self, key: Any, owner: Owner) -> tuple[Entry[Owner], ...]:
        """Remove the owner's own entries of a key (OTP REG-07); the removed ones, possibly none."""
        return self._remove_all(self._own(key, owner))

    def unregister_match(self, key: Any, owner: Owner, pattern: Any, guards: Guards = ()) -> tuple[Entry[Owner], ...]:
        """As :meth:`unregister`, but only entries whose value matches.

        Raises:
            RegistryError: a guard is malformed.
        """
        clause = match_clause(pattern, guards)
        return self._remove_all([slot for slot in self._own(key, owner) if clause.apply(slot.value)[0]])

    def update_value(self, key: Any, owner: Owner, update: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Replace the value of the owner's unique entry (OTP REG-04): ``(new, old)``.

        Raises:
            RegistryError: keys are duplicate, or the owner does not hold the key.
        """
        if self.keys_rule != "unique":
            raise RegistryError(f"expected unique keys for update_value, got duplicate ones, at {key!r}", key=key)
        own = self._own(key, owner)
        if not own:
            raise RegistryError(f"expected the owner of {key!r}, got {owner!r}", key=key)
        old = own[0].value
        own[0].value = update(old)
        return own[0].value, old

    def drop_owner(self, owner: Owner) -> tuple[Entry[Owner], ...]:
        """Remove everything of an owner, which ended (OTP REG-05)."""
        return self._remove_all(tuple(self._by_owner.get(owner, ())))

    # -- asking ----------------------------------------------------------------------------------

    def lookup(self, key: Any) -> list[tuple[Owner, Any]]:
        """``(owner, value)`` of each entry of the key whose owner lives, oldest first (OTP REG-06)."""
        return [(slot.owner, slot.value) for slot in self._live(key)]

    def whereis(self, key: Any) -> Owner | None:
        """The living holder of a unique key, or None (OTP REG-08).

        Raises:
            RegistryError: keys are duplicate.
        """
        if self.keys_rule != "unique":
            raise RegistryError(f"expected unique keys for a via name, got duplicate ones, at {key!r}", key=key)
        for slot in self._live(key):
            return slot.owner
        return None

    def keys(self, owner: Owner) -> list[Any]:
        """The keys of an owner, as often as it registered them (OTP REG-06)."""
        return [slot.key for slot in self._by_owner.get(owner, ())]

    def values(self, key: Any, owner: Owner) -> list[Any]:
        """The owner's values under a key (OTP REG-06)."""
        return [slot.value for slot in self._own(key, owner)]

    def count(self) -> int:
        """How many entries there are."""
        return self._count

    def owners(self) -> tuple[Owner, ...]:
        """Who has entries, in order of their first registration."""
        return tuple(self._by_owner)

    def holds(self, owner: Owner) -> bool:
        """Whether the owner has any entry."""
        return owner in self._by_owner

    def match(self, key: Any, pattern: Any, guards: Guards = ()) -> list[tuple[Owner, Any]]:
        """As :meth:`lookup`, but only values that match; the key is taken literally (OTP REG-09).

        Raises:
            RegistryError: a guard is malformed.
        """
        clause = match_clause(pattern, guards)
        return [(slot.owner, slot.value) for slot in self._live(key) if clause.apply(slot.value)[0]]

    def count_match(self, key: Any, pattern: Any, guards: Guards = ()) -> int:
        """How many entries :meth:`match` finds."""
        return len(self.match(key, pattern, guards))

    def select(self, clauses: Clauses) -> list[Any]:
        """The results of clauses over all ``(key, owner, value)`` (OTP REG-09).

        Raises:
            RegistryError: a clause is malformed.
        """
        return list(select(match_clauses(clauses, 3), self.entries()))

    def count_select(self, clauses: Clauses) -> int:
        """How many entries :meth:`select` finds.

        Raises:
            RegistryError: a clause is malformed.
        """
        return len(self.select(clauses))

    def entries(self) -> Iterator[Entry[Owner]]:
        """All entries of living owners, key by key."""
        for slots in tuple(self._by_key.values()):
            for slot in tuple(slots):
                if self._alive(slot.owner):
                    yield slot.entry()

    # -- registry-wide values (OTP REG-11) ---------------------------------------------------------

    def put_meta(self, key: Any, value: Any) -> None:
        """Keep a value of the registry itself."""
        self._meta[strict_key(key)] = value

    def meta(self, key: Any) -> Any:
        """Such a value.

        Raises:
            RegistryError: there is none.
        """
        strict = strict_key(key)
        if strict not in self._meta:
            raise RegistryError(f"expected a registry-wide value under {key!r}, got none", key=key)
        return self._meta[strict]

    def delete_meta(self, key: Any) -> None:
        """Forget such a value; it need not be there."""
        self._meta.pop(strict_key(key), None)

    # -- slots -----------------------------------------------------------------------------------

    def _live(self, key: Any) -> Iterator[_Slot[Owner]]:
        return (slot for slot in tuple(self._by_key.get(strict_key(key), ())) if self._alive(slot.owner))

    def _own(self, key: Any, owner: Owner) -> list[_Slot[Owner]]:
        strict = strict_key(key)
        slots = self._by_key.get(strict, {})
        mine = self._by_owner.get(owner, {})
        # Walk the shorter side: a topic has many owners, an owner may have many keys.
        if len(mine) < len(slots):
            return [slot for slot in mine if slot.strict == strict]
        return [slot for slot in slots if slot.owner == owner]

    def _remove_all(self, slots: Iterable[_Slot[Owner]]) -> tuple[Entry[Owner], ...]:
        removed = tuple(slots)
        for slot in removed:
            self._remove(slot)
        return tuple(slot.entry() for slot in removed)

    def _remove(self, slot: _Slot[Owner]) -> None:
        _discard(self._by_key, slot.strict, slot)
        _discard(self._by_owner, slot.owner, slot)
        self._count -= 1


def _discard(index: dict[Any, dict[_Slot[Any], None]], key: Any, slot: _Slot[Any]) -> None:
    slots = index[key]
    del slots[slot]
    if not slots:
        del index[key]
