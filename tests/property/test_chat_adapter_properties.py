"""The chat adapter, whatever the values and the answers are."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.adapters.chat import ChatAdapter
from dspex.actors.signatures.signature import Signature
from dspex.runtime.errors import ParseError

CHAT = ChatAdapter()
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from(["[[ ## b ## ]]", "[[", "##", "]]", "\\", "\n", " ", "a", "b", "```", "[[ ## completed ## ]]", "x"])
).map("".join)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT.map(str.strip),
    "int": st.integers(-(10**30), 10**30),
    "float": FINITE,
    "bool": st.booleans(),
    "date": st.dates(date(1, 1, 1)),
    "Decimal": st.decimals(allow_nan=False, allow_infinity=False).map(lambda value: Decimal(str(value))),
    "int | None": st.none() | st.integers(-100, 100),
    "list[str]": st.lists(TEXT),
    "dict[str, list[int]]": st.dictionaries(TEXT, st.lists(st.integers(-100, 100))),
    "tuple[int, bool]": st.tuples(st.integers(-100, 100), st.booleans()),
    'Literal["x", "y z", "null"]': st.sampled_from(["x", "y z", "null"]),
    "str | int": TEXT | st.integers(-100, 100),
    "Any": st.recursive(
        st.none() | st.booleans() | st.integers(-100, 100) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    ),
}
kinds = st.sampled_from(sorted(VALUES))


@st.composite
def answers(draw: Any) -> tuple[Signature, dict[str, Any]]:
    """A signature of two typed outputs and a value for each."""
    first, second = draw(kinds), draw(kinds)
    values = {"a": draw(VALUES[first]), "b": draw(VALUES[second])}
    return Signature(f"q -> a: {first}, b: {second}"), values


@given(answers())
def test_what_is_shown_as_a_demo_reads_back(answer: tuple[Signature, dict[str, Any]]) -> None:
    """An answer as the adapter writes it is the answer it reads, whatever the values hold."""
    signature, values = answer
    reply = CHAT.format(signature, {"q": "x"}, [{"q": "y", **values}])[2].content
    parsed = CHAT.parse(signature, str(reply))
    assert parsed == values
    assert {name: type(value) for name, value in parsed.items()} == {name: type(v) for name, v in values.items()}


@given(TEXT, TEXT)
def test_no_input_opens_a_section(first: str, second: str) -> None:
    """However inputs are made up, the prompt has exactly the sections of the signature."""
    user = str(CHAT.format(Signature("a, b -> c"), {"a": first, "b": second})[1].content)
    assert re.findall(r"(?m)^\W*\[\[\s*##\s*(\w+)\s*##", user.partition("\n\nRespond with")[0]) == ["a", "b"]


WORDS = ["[[ ## a ## ]]", "[[ ## b ## ]]", "[[ ## completed ## ]]", "```", "```json", "null", "NaN", "true", "1e999"]
PIECES = st.lists(st.sampled_from([*WORDS, *'\n {}[]"1x\\\x00-', "\ud800", "\u2028"]), max_size=25).map("".join)


def outcome(signature: Signature, text: str) -> dict[str, Any] | ParseError:
    """What is read from an answer, or why not."""
    try:
        return CHAT.parse(signature, text)
    except ParseError as error:
        return error


@given(kinds, kinds, st.text() | PIECES)
def test_any_answer_parses_or_is_a_parse_error(first: str, second: str, text: str) -> None:
    """No answer makes the parser fail otherwise, whatever the types; a refusal says of which field and why."""
    for signature in (Signature(f"q -> a: {first}, b: {second}"), Signature(f"q -> a: {first}")):
        answer = outcome(signature, text)
        if isinstance(answer, ParseError):
            assert answer.field in signature.output_names
            assert answer.expected
            assert answer.got is not None
        else:
            assert tuple(answer) == signature.output_names
