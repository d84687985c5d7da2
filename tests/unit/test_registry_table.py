"""The pure table of a registry, row by row of OTP's rules."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.runtime.errors import AlreadyRegistered, RegistryError
from dspex.runtime.registry_locks import Attempt, LockTable
from dspex.runtime.registry_table import RegistryTable
from dspex.runtime.registry_terms import ANY, Var


def test_reg_01_a_unique_key_is_held_once() -> None:
    """REG-01: a second register is refused with the holder, for the owner itself too."""
    table: RegistryTable[str] = RegistryTable("unique")
    table.register("k", "ann", 1)
    for owner in ("bob", "ann"):
        with pytest.raises(AlreadyRegistered) as caught:
            table.register("k", owner, 2)
        assert caught.value.holder == "ann"
        assert caught.value.key == "k"
    assert table.lookup("k") == [("ann", 1)]


def test_reg_02_duplicate_keys_have_any_number_of_entries() -> None:
    """REG-02: several owners, several entries of one, the same value twice."""
    table: RegistryTable[str] = RegistryTable("duplicate")
    for owner, value in (("ann", 1), ("bob", 2), ("ann", 1)):
        table.register("k", owner, value)
    assert table.lookup("k") == [("ann", 1), ("bob", 2), ("ann", 1)]
    assert table.count() == 3
    assert table.keys("ann") == ["k", "k"]


def test_reg_03_an_owner_may_hold_many_keys() -> None:
    """REG-03: keys of one owner are kept apart."""
    table: RegistryTable[str] = RegistryTable()
    table.register("a", "ann")
    table.register(("b", 1), "ann")
    assert table.keys("ann") == ["a", ("b", 1)]
    assert table.owners() == ("ann",)


def test_reg_04_only_the_owner_updates_its_value() -> None:
    """REG-04: (new, old) for the owner, an error for everybody else, refused on duplicate keys."""
    table: RegistryTable[str] = RegistryTable()
    table.register("k", "ann", 1)
    assert table.update_value("k", "ann", lambda old: old + 1) == (2, 1)
    assert table.lookup("k") == [("ann", 2)]
    for key, owner in (("k", "bob"), ("other", "ann")):
        with pytest.raises(RegistryError, match="expected the owner"):
            table.update_value(key, owner, lambda old: old)
    with pytest.raises(RegistryError, match="expected unique keys"):
        RegistryTable[str]("duplicate").update_value("k", "ann", lambda old: old)


def test_reg_05_a_dead_owner_never_blocks_and_is_never_resolved() -> None:
    """REG-05: before its clean-up has run, a dead owner's key can be taken and does not resolve."""
    dead: set[str] = set()
    table: RegistryTable[str] = RegistryTable("unique", lambda owner: owner not in dead)
    table.register("k", "ann")
    dead.add("ann")
    assert table.whereis("k") is None
    assert table.lookup("k") == []
    table.register("k", "bob")
    assert table.whereis("k") == "bob"
    assert table.drop_owner("ann") == ()
    assert table.count() == 1


def test_reg_05_everything_of_an_owner_vanishes() -> None:
    """REG-05: dropping an owner removes all its entries and nobody else's."""
    table: RegistryTable[str] = RegistryTable("duplicate")
    for key, owner in (("a", "ann"), ("a", "bob"), ("b", "ann")):
        table.register(key, owner)
    assert [entry.key for entry in table.drop_owner("ann")] == ["a", "b"]
    assert (table.count(), table.lookup("a"), table.lookup("b")) == (1, [("bob", None)], [])
    assert not table.holds("ann")


def test_reg_06_lookup_keys_values_count() -> None:
    """REG-06: each answers what is there, and empty when nothing is."""
    table: RegistryTable[str] = RegistryTable("duplicate")
    table.register("k", "ann", 1)
    table.register("k", "ann", 2)
    table.register("k", "bob", 3)
    assert table.values("k", "ann") == [1, 2]
    assert table.values("k", "nobody") == []
    assert table.keys("nobody") == []
    assert table.lookup("nothing") == []
    assert RegistryTable[str]().count() == 0


def test_reg_07_unregister_removes_only_own_entries() -> None:
    """REG-07: all own entries of the key, never another's; fine when there are none."""
    table: RegistryTable[str] = RegistryTable("duplicate")
    for owner in ("ann", "ann", "bob"):
        table.register("k", owner)
    assert len(table.unregister("k", "ann")) == 2
    assert table.unregister("k", "ann") == ()
    assert table.unregister("nothing", "ann") == ()
    assert table.lookup("k") == [("bob", None)]


def test_reg_07_unregister_match_removes_matching_values() -> None:
    """REG-07: only entries whose value matches pattern and guards go."""
    table: RegistryTable[str] = RegistryTable("duplicate")
    for value in (1, 2, 3):
        table.register("k", "ann", value)
    removed = table.unregister_match("k", "ann", Var("v"), [("gt", Var("v"), 1)])
    assert [entry.value for entry in removed] == [2, 3]
    assert table.values("k", "ann") == [1]


def test_reg_08_via_names_need_unique_keys() -> None:
    """REG-08: whereis resolves unique keys and refuses duplicate ones."""
    table: RegistryTable[str] = RegistryTable()
    table.register("k", "ann")
    assert (table.whereis("k"), table.whereis("x")) == ("ann", None)
    with pytest.raises(RegistryError, match="expected unique keys"):
        RegistryTable[str]("duplicate").whereis("k")


def test_reg_09_match_is_on_values_and_takes_the_key_literally() -> None:
    """REG-09: match and count_match filter values; a wildcard as key is just a key."""
    table: RegistryTable[str] = RegistryTable("duplicate")
    table.register("k", "ann", ("job", 1))
    table.register("k", "bob", ("job", 2))
    table.register("k", "eve", "other")
    assert table.match("k", ("job", Var("n")), [("gt", Var("n"), 1)]) == [("bob", ("job", 2))]
    assert table.count_match("k", ("job", ANY)) == 2
    assert table.match(ANY, ANY) == []
    assert table.count_match("k", ("job", 1.0)) == 0


def test_reg_09_select_is_over_key_owner_value() -> None:
    """REG-09: several clauses, reshaped results, counted as well; malformed ones raise on an empty table too."""
    table: RegistryTable[str] = RegistryTable("duplicate")
    table.register("a", "ann", 1)
    table.register("b", "bob", 2)
    spec = [
        ((Var("k"), ANY, 1), (), (Var("k"), "one")),
        ((Var("k"), Var("o"), Var("v")), [("eq", Var("v"), 2)], Var("o")),
    ]
    assert table.select(spec) == [("a", "one"), "bob"]
    assert table.count_select(spec) == 2
    assert table.select([(ANY,)]) == [("a", "ann", 1), ("b", "bob", 2)]
    with pytest.raises(RegistryError):
        RegistryTable[str]().select([(Var("k"), [("bigger", 1, 2)])])


def test_reg_09_keys_compare_strictly() -> None:
    """REG-09: 1, 1.0, True and "1" are four keys, inside tuples too."""
    table: RegistryTable[str] = RegistryTable()
    keys: list[Any] = [1, 1.0, True, "1", (1,), (1.0,), frozenset({1}), frozenset({True})]
    for key in keys:
        table.register(key, "ann", key)
    assert table.count() == len(keys)
    assert [type(table.values(key, "ann")[0]) for key in keys] == [type(key) for key in keys]


@pytest.mark.parametrize("key", [[], {}, float("nan"), (1, float("nan")), ([],)])
def test_what_cannot_be_a_key_is_refused(key: Any) -> None:
    """A key must be hashable and equal itself; anything else is a typed error, and nothing is stored."""
    table: RegistryTable[str] = RegistryTable()
    with pytest.raises(RegistryError, match="expected a"):
        table.register(key, "ann")
    assert table.count() == 0


def test_reg_11_registry_wide_values() -> None:
    """REG-11: put, read, overwrite, delete; a missing one is an error; entries are not touched."""
    table: RegistryTable[str] = RegistryTable()
    table.put_meta("config", 1)
    table.put_meta("config", None)
    assert table.meta("config") is None
    table.delete_meta("config")
    table.delete_meta("config")
    with pytest.raises(RegistryError, match="registry-wide value"):
        table.meta("config")
    assert table.count() == 0


def test_key_rules_are_checked() -> None:
    """A misspelt key rule is refused with a hint."""
    with pytest.raises(RegistryError, match="did you mean 'duplicate'"):
        RegistryTable[str]("duplicates")  # type: ignore[arg-type]


# --- locks (REG-10) ------------------------------------------------------------------------------


def lock_table(gone: set[int]) -> LockTable[str, int]:
    """Locks whose attempts are told apart by number; those in ``gone`` wait no more."""
    return LockTable(lambda attempt: attempt.number not in gone)


def test_reg_10_one_holder_a_key_and_waiters_in_turn() -> None:
    """REG-10: the lock passes to the next in line when it is released."""
    locks = lock_table(set())
    assert locks.acquire("k", Attempt("ann", 1, 1))
    assert not locks.acquire("k", Attempt("bob", 2, 2))
    assert not locks.acquire("k", Attempt("eve", 3, 3))
    assert locks.acquire("other", Attempt("bob", 4, 4))
    assert locks.release("k", "ann", 1) == Attempt("bob", 2, 2)
    assert locks.holder("k") == "bob"
    assert locks.release("k", "bob", 2) == Attempt("eve", 3, 3)
    assert locks.release("k", "eve", 3) is None
    assert locks.holder("k") is None


def test_reg_10_dead_waiters_are_skipped() -> None:
    """REG-10: who gave up or died while waiting does not get the lock."""
    gone = {2}
    locks = lock_table(gone)
    for number, owner in ((1, "ann"), (2, "bob"), (3, "eve")):
        locks.acquire("k", Attempt(owner, number, number))
    assert locks.release("k", "ann", 1) == Attempt("eve", 3, 3)


def test_reg_10_a_dead_holder_frees_its_locks() -> None:
    """REG-10: all locks of a dead owner go on to the next."""
    locks = lock_table(set())
    locks.acquire("a", Attempt("ann", 1, 1))
    locks.acquire("b", Attempt("ann", 2, 2))
    locks.acquire("a", Attempt("bob", 3, 3))
    assert locks.holds("ann")
    assert locks.drop_owner("ann") == [Attempt("bob", 3, 3)]
    assert (locks.holder("a"), locks.holder("b"), locks.holds("ann")) == ("bob", None, False)


def test_reg_10_only_the_holder_releases() -> None:
    """REG-10: a stranger's release does nothing; a waiter's takes it out of the line."""
    locks = lock_table(set())
    locks.acquire("k", Attempt("ann", 1, 1))
    locks.acquire("k", Attempt("bob", 2, 2))
    assert locks.release("k", "eve", 9) is None
    assert locks.release("k", "ann", 9) is None
    assert locks.release("nothing", "ann", 1) is None
    assert locks.release("k", "bob", 2) is None
    assert locks.holder("k") == "ann"
    assert locks.release("k", "ann", 1) is None
