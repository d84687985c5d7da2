"""Types that are assignable: every value of the one is an input of the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dspex.actors.signatures.compatible import assignable, compatible
from dspex.actors.signatures.field import Field
from dspex.actors.signatures.signature import Signature
from dspex.actors.signatures.types import FieldType, annotation, literal_text, union
from dspex.actors.signatures.values import check_inputs
from dspex.runtime.errors import SignatureError

scalars = st.sampled_from(["str", "int", "float", "bool", "Any", "None"]).map(FieldType)
literals = st.lists(st.sampled_from(["a", 1, True, None]), min_size=1, max_size=3, unique_by=str).map(
    lambda values: FieldType("Literal", literals=tuple(map(literal_text, values)))
)


def structures(inner: st.SearchStrategy[FieldType]) -> st.SearchStrategy[FieldType]:
    """Types of types."""
    return st.one_of(
        inner.map(lambda kind: FieldType("list", (kind,))),
        inner.map(lambda kind: FieldType("dict", (FieldType("str"), kind))),
        st.lists(inner, min_size=1, max_size=2).map(lambda kinds: FieldType("tuple", tuple(kinds))),
        inner.map(lambda kind: FieldType("tuple", (kind,), variadic=True)),
        st.lists(inner, min_size=2, max_size=3).map(union),
    )


bare = st.sampled_from(["list", "dict", "tuple"]).map(FieldType)
types = st.recursive(scalars | literals | bare, structures, max_leaves=4)


def value_of(kind: FieldType) -> st.SearchStrategy[Any]:
    """Values of a type."""
    if kind.name == "Any":
        return st.none() | st.integers() | st.text() | st.lists(st.integers())
    if kind.name == "None":
        return st.none()
    if kind.name == "list":
        return st.lists(value_of(kind.args[0] if kind.args else FieldType("Any")), max_size=2)
    if kind.name == "dict":
        return st.dictionaries(st.text(), value_of(kind.args[1] if kind.args else FieldType("Any")), max_size=2)
    if kind.name == "tuple":
        if kind.variadic or not kind.args:
            return st.lists(value_of(kind.args[0] if kind.args else FieldType("Any")), max_size=2).map(tuple)
        return st.tuples(*map(value_of, kind.args))
    if kind.name == "|":
        return st.one_of(*map(value_of, kind.args))
    if kind.name == "float":
        return st.floats(allow_nan=False, allow_infinity=False)
    return st.from_type(annotation(kind))


def wider(kind: FieldType) -> st.SearchStrategy[FieldType]:
    """Types of which many take every value of ``kind``."""
    inner = st.tuples(*map(wider, kind.args)).map(lambda args: replace(kind, args=args))
    if kind.name == "|":
        inner = inner.map(lambda made: union(made.args))
    around = [kind, FieldType("Any"), union((kind, FieldType("str"))), FieldType("float"), FieldType("str")]
    bare = [FieldType(kind.name)] if kind.args and kind.name != "|" else []
    if kind.name == "tuple" and kind.args:
        bare.append(FieldType("tuple", (union(kind.args),), variadic=True))
    return st.sampled_from([*around, *bare]) | inner


@given(types.flatmap(lambda kind: st.tuples(st.just(kind), wider(kind) | types)), st.data())
def test_values_of_assignable_types_are_inputs(pair: tuple[FieldType, FieldType], data: st.DataObject) -> None:
    """What may be chained by its type is never refused for its type."""
    source, target = pair
    assume(assignable(source, target))
    value = data.draw(value_of(source))
    check_inputs(Signature.of([Field("x", target)], [Field("a")]), {"x": value})


@given(types)
def test_every_type_is_assignable_to_itself_and_more(kind: FieldType) -> None:
    """Also to Any and to a union with it."""
    assert assignable(kind, kind)
    assert assignable(kind, FieldType("Any"))
    assert assignable(kind, union((kind, FieldType("None"))))


@given(types, types)
def test_chains_say_what_assignable_says(source: FieldType, target: FieldType) -> None:
    """Two signatures are compatible if the types of their fields are assignable."""
    first, second = Signature.of([], [Field("x", source)]), Signature.of([Field("x", target)], [Field("a")])
    if assignable(source, target):
        assert compatible(first, second) == {"x": "x"}
        return
    with pytest.raises(SignatureError) as caught:
        compatible(first, second)
    error = caught.value
    assert (error.field, error.expected, error.got) == ("x", str(target), str(source))
