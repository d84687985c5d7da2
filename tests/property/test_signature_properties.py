"""Signatures, whatever they hold: text and JSON round trips, and a parser that only ever says SignatureError."""

from __future__ import annotations

import keyword
import pickle
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.signatures.constraints import checker
from dspex.actors.signatures.field import Field
from dspex.actors.signatures.parse import parse_type
from dspex.actors.signatures.signature import Signature
from dspex.actors.signatures.types import FieldType, literal_text, union
from dspex.runtime.errors import SignatureError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
names = st.from_regex(r"[a-z][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
scalars = st.sampled_from(["str", "int", "float", "bool", "Decimal", "date", "datetime", "Any"]).map(FieldType)
literals = st.lists(TEXT | st.integers() | st.booleans() | st.none(), min_size=1, max_size=4).map(
    lambda values: FieldType("Literal", literals=tuple(dict.fromkeys(map(literal_text, values))))
)
keys = st.sampled_from(["str", "int", "bool", "date"]).map(FieldType)


def structures(inner: st.SearchStrategy[FieldType]) -> st.SearchStrategy[FieldType]:
    """Types of types."""
    return st.one_of(
        inner.map(lambda kind: FieldType("list", (kind,))),
        st.tuples(keys, inner).map(lambda kinds: FieldType("dict", kinds)),
        st.lists(inner, min_size=1, max_size=3).map(lambda kinds: FieldType("tuple", tuple(kinds))),
        inner.map(lambda kind: FieldType("tuple", (kind,), variadic=True)),
        st.lists(inner | st.just(FieldType("None")), min_size=2, max_size=3).map(union),
    )


types = st.recursive(scalars | literals | st.sampled_from(["list", "dict", "tuple"]).map(FieldType), structures)


@st.composite
def signatures(draw: Any, described: bool = False) -> Signature:
    """A signature of a few fields."""
    given_names = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    cut = draw(st.integers(0, len(given_names) - 1))
    words = TEXT if described else st.just("")
    fields = [Field(name, draw(types), draw(words)) for name in given_names]
    return Signature.of(fields[:cut], fields[cut:], draw(st.none() | TEXT) if described else None)


@given(signatures())
def test_the_canonical_text_is_the_signature(signature: Signature) -> None:
    """Parsing ``str(signature)`` gives the signature again."""
    assert Signature(str(signature)) == signature


@given(signatures(described=True))
def test_json_and_pickle_keep_the_signature(signature: Signature) -> None:
    """JSON and pickle lose nothing, and equal signatures hash alike."""
    for copy in (Signature.from_json(signature.to_json()), pickle.loads(pickle.dumps(signature))):
        assert copy == signature
        assert hash(copy) == hash(signature)


@given(types)
def test_every_type_has_a_validator(kind: FieldType) -> None:
    """Whatever type can be written, pydantic can check; its canonical text is the type."""
    assert parse_type(str(kind)) == kind
    checker(kind)


@given(signatures(), names, types, st.sampled_from(["inputs", "outputs"]))
def test_a_field_added_and_deleted_leaves_no_trace(signature: Signature, name: str, kind: FieldType, to: Any) -> None:
    """Adding a field at either end and deleting it gives the old signature; taken names are refused."""
    for add in (signature.prepend, signature.append):
        if name in signature.fields:
            try:
                add(name, kind, to=to)
            except SignatureError:
                continue
            raise AssertionError(f"{name} was taken")
        added = add(name, kind, to=to)
        assert added.fields[name].type == kind
        assert added.delete(name) == signature


WORDS = ["->", "...", "list", "dict", "Literal", "Optional", "str", "q", "'x'"]
PIECES = st.lists(st.sampled_from([*WORDS, *',:|[]"\\1 \n']), max_size=30).map("".join)


def outcome(text: str) -> Signature | SignatureError:
    """The signature of a text, or why there is none."""
    try:
        return Signature(text)
    except SignatureError as error:
        return error


@given(st.text() | PIECES)
def test_any_text_is_a_signature_or_a_signature_error(text: str) -> None:
    """No text makes the parser fail otherwise, and an error's position lies in the text."""
    made = outcome(text)
    if isinstance(made, Signature):
        assert Signature(str(made)) == made
    else:
        assert 0 <= made.position <= len(text)
        assert made.expected
        assert "^" in str(made).splitlines()[-1]
