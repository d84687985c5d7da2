"""The registry's pure parts against small models, on random histories."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex.actors.registry.index import RegistryIndex
from dspex.actors.registry.messages import Select
from dspex.actors.registry.search import find, meets
from dspex.runtime.errors import AlreadyRegistered
from dspex.runtime.names import NameTable
from dspex.runtime.registry_query import clauses
from dspex.runtime.registry_table import RegistryTable
from dspex.runtime.registry_terms import Var

KEYS: list[Any] = ["a", "b", 1, 1.0, True, ("a", 1), ("a", 1.0)]
OWNERS = ["ann", "bob", "eve"]
keys = st.sampled_from(KEYS)
owners = st.sampled_from(OWNERS)
values = st.integers(0, 2)


def same(one: Any, other: Any) -> bool:
    """Strict equality of the keys above."""
    return repr(one) == repr(other)


class RegistryMachine(RuleBasedStateMachine):
    """A registry is a list of (key, owner, value); everything it answers is a filter of that list."""

    def __init__(self) -> None:
        super().__init__()
        self.model: list[list[Any]] = []
        self.dead: set[str] = set()

    @initialize(unique=st.booleans())
    def begin(self, unique: bool) -> None:
        """Both kinds of registry."""
        self.unique = unique
        self.table: RegistryTable[str] = RegistryTable(
            "unique" if unique else "duplicate", lambda owner: owner not in self.dead
        )

    @rule(key=keys, owner=owners, value=values)
    def register(self, key: Any, owner: str, value: int) -> None:
        """REG-01, REG-02, REG-05."""
        if owner in self.dead:
            return
        holders = [row for row in self.model if same(row[0], key)]
        if self.unique and any(row[1] not in self.dead for row in holders):
            with pytest.raises(AlreadyRegistered) as caught:
                self.table.register(key, owner, value)
            assert caught.value.holder == holders[0][1]
            return
        self.table.register(key, owner, value)
        if self.unique:
            self.model = [row for row in self.model if not same(row[0], key)]
        self.model.append([key, owner, value])

    @rule(key=keys, owner=owners)
    def unregister(self, key: Any, owner: str) -> None:
        """REG-07."""
        gone = [row for row in self.model if same(row[0], key) and row[1] == owner]
        removed = self.table.unregister(key, owner)
        assert sorted(entry.value for entry in removed) == sorted(row[2] for row in gone)
        self.model = [row for row in self.model if row not in gone or not (same(row[0], key) and row[1] == owner)]

    @rule(key=keys, owner=owners, bound=values)
    def unregister_match(self, key: Any, owner: str, bound: int) -> None:
        """REG-07 with a guard."""
        self.table.unregister_match(key, owner, Var("v"), [("ge", Var("v"), bound)])
        self.model = [row for row in self.model if not (same(row[0], key) and row[1] == owner and row[2] >= bound)]

    @rule(key=keys, owner=owners)
    def update(self, key: Any, owner: str) -> None:
        """REG-04."""
        rows = [row for row in self.model if same(row[0], key) and row[1] == owner]
        if self.unique and rows:
            assert self.table.update_value(key, owner, lambda old: 2 - old) == (2 - rows[0][2], rows[0][2])
            rows[0][2] = 2 - rows[0][2]

    @rule(owner=owners)
    def die(self, owner: str) -> None:
        """REG-05: dead, not cleaned up yet."""
        self.dead.add(owner)

    @rule(owner=owners)
    def clean_up(self, owner: str) -> None:
        """REG-05: the clean-up; the name may live again afterwards."""
        self.table.drop_owner(owner)
        self.model = [row for row in self.model if row[1] != owner]
        self.dead.discard(owner)

    @invariant()
    def agrees(self) -> None:
        """Every answer is the model's."""
        live = [row for row in self.model if row[1] not in self.dead]
        assert self.table.count() == len(self.model)
        for key in KEYS:
            assert self.table.lookup(key) == [(row[1], row[2]) for row in live if same(row[0], key)]
            assert self.table.count_match(key, 1) == sum(1 for row in live if same(row[0], key) and row[2] == 1)
            if self.unique:
                assert self.table.whereis(key) == next((row[1] for row in live if same(row[0], key)), None)
        for owner in OWNERS:
            mine = [row for row in self.model if row[1] == owner]
            assert sorted(map(repr, self.table.keys(owner))) == sorted(repr(row[0]) for row in mine)
            assert self.table.holds(owner) is bool(mine)
        everything = [((Var("k"), Var("o"), Var("v")), (), (Var("k"), Var("o"), Var("v")))]
        assert sorted(map(repr, self.table.select(everything))) == sorted(repr(tuple(row)) for row in live)


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


NAMES = ["provider/a", "provider/b", "module/a", "t1:module/a", "lonely"]
STATES: list[Any] = ["starting", "running", "restarting", "dead"]
metadata = st.fixed_dictionaries(
    {}, optional={"provider": st.sampled_from(["x", "y", 1]), "status": st.sampled_from(["ok", "bad"]), "load": values}
)
steps = st.lists(
    st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(STATES), metadata, st.just("drop"))), max_size=30
)


@given(
    steps,
    st.sampled_from([None, "provider", "module", ""]),
    st.sampled_from([None, "", "t1"]),
    st.sampled_from([None, "any", "running", "dead"]),
    st.sampled_from([(), (("provider", "eq", "x"),), (("provider", "eq", 1),), (("status", "ne", "ok"),)]),
    st.sampled_from(["*", "*/a", ("module", "a")]),
)
@settings(deadline=None)
def test_the_index_never_changes_an_answer(
    history: list[tuple[str, Any]], kind: Any, namespace: Any, state: Any, where: Any, pattern: Any
) -> None:
    """Whatever happened to the names, a search through the index finds what a look at every name finds."""
    names = NameTable(lambda: 0.0)
    index = RegistryIndex()
    for name, step in history:
        if step == "drop":
            names.drop(name)
            index.remove(name)
            continue
        if names.get(name) is None:
            names.begin(name, None)  # type: ignore[arg-type]
        if isinstance(step, dict):
            names.set_metadata(name, step)
        else:
            names.set_state(name, step)
        index.put(names.get(name))  # type: ignore[arg-type]
    tests = clauses(where)
    expected = [
        entry.name
        for entry in names.entries()
        if (kind is None or entry.kind == kind)
        and (namespace is None or entry.namespace == namespace)
        and (entry.state != "dead" if state is None else state in ("any", entry.state))
        and all(meets(entry, test) for test in tests)
        and {"*": True, "*/a": entry.name.endswith("/a")}.get(str(pattern), entry.name.endswith("module/a"))
    ]
    found = find(Select(kind, namespace, where, pattern, state), names, index)
    assert [entry.name for entry in found] == expected
    assert len(index) == sum(1 for _ in names.entries())
    exact = [entry.name for entry in names.entries() if entry.metadata.get("provider") == "x"]
    assert index.candidates(clauses([("provider", "eq", "x")])) == exact
