"""What a registry can be asked: operators, clauses, name patterns, match clauses."""

from __future__ import annotations

import fnmatch
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.errors import RegistryError
from dspex.runtime.registry_match import match_clause, match_clauses, select
from dspex.runtime.registry_query import Clause, clauses, name_matcher, value_at
from dspex.runtime.registry_terms import ABSENT, ANY, ENTRY, OPERATORS, Var, equal_loosely, equal_strictly, evaluate


class Odd:
    """A value whose comparisons all raise."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __lt__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


METADATA: dict[str, Any] = {
    "provider": "local",
    "ready": True,
    "usage": {"tokens": 120, "cost": 0.5},
    "tags": ["fast", "cheap"],
    "a.b": 1,
    "odd": Odd(),
    "none": None,
}


def holds(path: Any, op: str, value: Any) -> bool:
    """Whether one clause holds for the metadata above."""
    (clause,) = clauses([(path, op, value)])
    return clause.matches(METADATA)


@pytest.mark.parametrize(
    ("path", "op", "value", "expected"),
    [
        ("provider", "eq", "local", True),
        ("provider", "eq", "remote", False),
        ("provider", "ne", "remote", True),
        ("usage.tokens", "gt", 119, True),
        ("usage.tokens", "gt", 120, False),
        ("usage.tokens", "ge", 120.0, True),
        ("usage.tokens", "lt", 121, True),
        ("usage.tokens", "le", 119, False),
        ("usage.tokens", "eq", 120.0, True),
        ("provider", "lt", "m", True),
        ("provider", "in", ("local", "other"), True),
        ("provider", "not_in", {"local"}, False),
        ("provider", "prefix", "lo", True),
        ("provider", "prefix", "x", False),
        ("tags", "eq", ("fast", "cheap"), True),
        ("usage", "eq", {"tokens": 120, "cost": 0.5}, True),
        (("a.b",), "eq", 1, True),
        ("a.b", "eq", 1, False),
        ("none", "eq", None, True),
    ],
)
def test_a_clause_tests_the_value_at_its_path(path: Any, op: str, value: Any, expected: bool) -> None:
    """Each operator holds where it should and nowhere else; a path may be dotted or a tuple."""
    assert holds(path, op, value) is expected


@pytest.mark.parametrize("op", ["eq", "gt", "ge", "lt", "le", "prefix"])
@pytest.mark.parametrize("path", ["missing", "usage.missing", "provider.deeper", "tags.0"])
def test_a_value_that_is_not_there_satisfies_nothing(path: str, op: str) -> None:
    """Only the negations hold for an absent value."""
    assert not holds(path, op, "x")
    assert holds(path, "ne", "x")
    assert holds(path, "not_in", ["x", None])
    assert not holds(path, "in", ["x", None])


def test_a_bool_is_no_number() -> None:
    """True neither equals 1 nor is more than 0."""
    assert not holds("ready", "eq", 1)
    assert not holds("ready", "gt", 0)
    assert not holds("usage.tokens", "in", [True])
    assert holds("ready", "in", [True])


def test_texts_and_numbers_have_no_order_between_them() -> None:
    """Comparing across types is false both ways, not an error."""
    assert not holds("provider", "gt", 1)
    assert not holds("provider", "le", 1)


@pytest.mark.parametrize("op", OPERATORS)
def test_an_odd_value_never_raises(op: str) -> None:
    """A stored value whose own comparisons raise just does not match."""
    operand: Any = ["x"] if op in ("in", "not_in") else "x"
    assert holds("odd", op, operand) is (op in ("ne", "not_in"))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_negations_are_exact_opposites_and_orders_are_consistent(left: Any, right: Any) -> None:
    """For any two values: ne is not eq, not_in is not in, and ge is gt or equal where there is an order."""
    assert evaluate("ne", left, right) is not evaluate("eq", left, right)
    assert evaluate("not_in", left, [right]) is not evaluate("in", left, [right])
    assert evaluate("in", left, [right]) is evaluate("eq", left, right)
    assert not (evaluate("gt", left, right) and evaluate("le", left, right))
    if evaluate("gt", left, right):
        assert evaluate("lt", right, left)
        assert evaluate("ge", left, right)


@given(json_values)
def test_strict_equality_implies_loose_equality(value: Any) -> None:
    """What is strictly equal is loosely equal, and both are symmetric."""
    copy = pickle.loads(pickle.dumps(value))
    if equal_strictly(value, copy):
        assert equal_loosely(value, copy)
    assert equal_strictly(value, copy) is equal_strictly(copy, value)


def test_strict_equality_tells_types_apart_at_every_depth() -> None:
    """1, 1.0 and True differ, inside containers too; tuples are no lists."""
    assert not equal_strictly((1, [2]), (1.0, [2]))
    assert not equal_strictly({"a": 1}, {"a": True})
    assert not equal_strictly([1], (1,))
    assert equal_strictly((1, [2, {"x": None}]), (1, [2, {"x": None}]))
    assert not equal_strictly(math.nan, math.nan)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ([("provider", "equals", "x")], "expected an operator"),
        ([("provider", "prefx", "x")], "did you mean 'prefix'"),
        ([("provider", 3, "x")], "expected an operator"),
        ([("provider", "in", "local")], "expected a list, tuple or set"),
        ([("provider", "prefix", 3)], "expected a text"),
        ([("provider", "gt", True)], "expected a number or a text"),
        ([("provider", "gt", None)], "expected a number or a text"),
        ([("", "eq", 1)], "expected a path"),
        ([("a..b", "eq", 1)], "expected a path"),
        ([((), "eq", 1)], "expected a path"),
        ([(("a", 1), "eq", 1)], "expected a path"),
        ([(5, "eq", 1)], "expected a path"),
        ([("provider", "eq")], "expected (path, op, value)"),
        (["provider"], "expected (path, op, value)"),
        ("provider", "expected a list of"),
        ({"provider": "x"}, "expected a list of"),
        (7, "expected a list of"),
    ],
)
def test_a_malformed_clause_is_refused_when_it_is_made(where: Any, says: str) -> None:
    """The error says what was expected, what came and where."""
    with pytest.raises(RegistryError) as caught:
        clauses(where)
    assert says in str(caught.value)


def test_clauses_are_values() -> None:
    """A checked clause compares, pickles and is taken again as it is."""
    (clause,) = clauses([("usage.tokens", "gt", 1)])
    assert clause == Clause(("usage", "tokens"), "gt", 1)
    assert clauses([clause]) == clauses(pickle.loads(pickle.dumps((clause,))))
    assert value_at(METADATA, ("nothing",)) is ABSENT


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("module/*", "module/qa", True),
        ("module/*", "modules/qa", False),
        ("module/qa", "module/qa", True),
        ("module/qa", "module/qa2", False),
        ("*", "anything", True),
        ("*/qa", "module/qa", True),
        ("m*/*a", "module/qa", True),
        ("ab*ba", "aba", False),
        ("[x]*", "x/y", False),
        (("module", ANY), "module/qa", True),
        (("module", ANY), "module", False),
        ((ANY, "qa"), "module/qa", True),
        ((ANY, "q*"), "module/qa", True),
        (("provider", "qa"), "module/qa", False),
    ],
)
def test_a_name_pattern_matches_names(pattern: Any, name: str, expected: bool) -> None:
    """``*`` stands for any run of characters and is the only special one; a pair names kind and id."""
    assert name_matcher(pattern)(name) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_name_patterns_agree_with_shell_patterns(pattern: str, name: str) -> None:
    """On stars and letters ours is the shell's pattern."""
    assert name_matcher(pattern)(name) is fnmatch.fnmatchcase(name, pattern)


def test_many_stars_do_not_explode() -> None:
    """A hostile pattern costs linear, not exponential time."""
    assert not name_matcher("*a" * 50 + "b")("a" * 10_000)


@pytest.mark.parametrize("pattern", [3, None, ("a",), ("a", 3), ("a", "b", "c"), ["a", "b"]])
def test_a_malformed_name_pattern_is_refused(pattern: Any) -> None:
    """Neither text nor pair: refused when made."""
    with pytest.raises(RegistryError, match="expected a"):
        name_matcher(pattern)


def result_of(pattern: Any, entry: Any, guards: Any = (), result: Any = ENTRY) -> Any:
    """What one clause answers for one entry; None if it does not match."""
    found = list(select([match_clause(pattern, guards, result)], [entry]))
    return found[0] if found else None


def test_reg_09_patterns_match_terms() -> None:
    """REG-09: literals are strict, wildcards match anything, a variable twice means equal."""
    assert result_of((1, ANY), (1, "x")) == (1, "x")
    assert result_of((1, ANY), (1.0, "x")) is None
    assert result_of((Var("a"), Var("a")), (2, 2)) == (2, 2)
    assert result_of((Var("a"), Var("a")), (2, 2.0)) is None
    assert result_of((ANY,), (1, 2)) is None
    assert result_of([ANY], (1,)) is None
    assert result_of({"x": Var("v")}, {"x": 1, "y": 2}) == {"x": 1, "y": 2}
    assert result_of({"z": ANY}, {"x": 1}) is None
    assert result_of((ANY, ANY), "ab") is None


def test_reg_09_guards_and_results() -> None:
    """REG-09: guards use variables and connectives, the result is reshaped."""
    pattern = (Var("key"), ANY, {"load": Var("load")})
    entry = ("a", "pid", {"load": 3})
    assert result_of(pattern, entry, [("gt", Var("load"), 2)], (Var("load"), Var("key"))) == (3, "a")
    assert result_of(pattern, entry, [("gt", Var("load"), 2), ("eq", Var("key"), "b")]) is None
    either = ("or", ("lt", Var("load"), 0), ("in", Var("key"), ["a", "b"]))
    assert result_of(pattern, entry, [either], {"k": [Var("key")]}) == {"k": ["a"]}
    assert result_of(pattern, entry, [("not", either)]) is None
    assert result_of(pattern, entry, [("and", either, ("prefix", Var("key"), "a"))], "yes") == "yes"


def test_reg_09_the_first_matching_clause_answers() -> None:
    """REG-09: several clauses; each entry is answered for once."""
    several = match_clauses([(("a", ANY, ANY), (), "first"), ((ANY, ANY, ANY), (), "second")], 3)
    assert list(select(several, [("a", 1, 1), ("b", 1, 1)])) == ["first", "second"]


def test_an_odd_value_in_a_guard_does_not_raise() -> None:
    """A guard over a value that cannot be compared is false."""
    assert result_of((Var("v"),), (Odd(),), [("gt", Var("v"), 1)]) is None
    assert result_of((Var("v"),), ([],), [("in", 1, Var("v"))]) is None
    assert result_of((Odd(),), (1,)) is None


@pytest.mark.parametrize(
    ("clause", "says"),
    [
        ((ANY, [("gt", Var("x"), 1)]), "expected a variable of the pattern"),
        (((Var("load"), ANY, ANY), [("gt", Var("laod"), 1)]), "did you mean 'load'"),
        ((ANY, (), Var("x")), "expected a variable of the pattern"),
        ((ANY, [("bigger", 1, 2)]), "expected an operator"),
        ((ANY, [("gt", 1)]), "expected a guard"),
        ((ANY, [("not", ("eq", 1, 1), ("eq", 1, 1))]), "expected ('not', guard)"),
        ((ANY, ["gt"]), "expected a guard"),
        ((ANY, "gt"), "expected a list of guards"),
        ((ANY, [("in", 1, "abc")]), "expected a list, tuple or set"),
        (((ANY, ANY),), "expected a pattern of 3 parts"),
        (("key",), "expected a pattern of 3 parts"),
        ((), "expected (pattern, guards, result)"),
        ((ANY, (), 1, 2), "expected (pattern, guards, result)"),
        (5, "expected (pattern, guards, result)"),
    ],
)
def test_reg_09_a_malformed_clause_raises(clause: Any, says: str) -> None:
    """REG-09: malformed clauses raise when they are made, whatever the registry holds."""
    with pytest.raises(RegistryError) as caught:
        match_clauses([clause], 3)
    assert says in str(caught.value)


@pytest.mark.parametrize("given", [[], "abc", {"a": 1}, None])
def test_a_select_without_clauses_is_refused(given: Any) -> None:
    """No clause at all is a mistake, not an empty answer."""
    with pytest.raises(RegistryError):
        match_clauses(given, 3)


def test_wildcards_keep_their_identity_through_pickle() -> None:
    """A pattern that crossed a process boundary still matches anything."""
    pattern = pickle.loads(pickle.dumps((ANY, Var("x"))))
    assert pattern[0] is ANY
    assert result_of(pattern, (1, 2), (), Var("x")) == 2
