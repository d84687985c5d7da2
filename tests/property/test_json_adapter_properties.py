"""The JSON adapter, whatever the values and the answers are, whole and in pieces; and no answer breaks a parser."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from decimal import Decimal
from enum import Enum
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from dspex.actors.adapters import ADAPTERS
from dspex.actors.adapters.json_adapter import JsonAdapter
from dspex.actors.adapters.json_reader import JsonFieldReader, read_answer
from dspex.actors.adapters.json_text import WrongJsonError
from dspex.actors.signatures.class_form import OutputField
from dspex.actors.signatures.signature import Signature
from dspex.runtime.errors import ParseError

JSON = JsonAdapter()
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "int": st.integers(-(10**30), 10**30),
    "float": FINITE,
    "bool": st.booleans(),
    "date": st.dates(date(1, 1, 1)),
    "Decimal": st.decimals(allow_nan=False, allow_infinity=False).map(lambda value: Decimal(str(value))),
    "str | None": st.none() | TEXT,
    "list[str]": st.lists(TEXT),
    "dict[str, list[int]]": st.dictionaries(TEXT, st.lists(st.integers(-100, 100))),
    "tuple[int, bool]": st.tuples(st.integers(-100, 100), st.booleans()),
    'Literal["x", 1, True]': st.sampled_from(["x", 1, True]),
    "str | int": TEXT | st.integers(-100, 100),
    "Any": st.recursive(
        st.none() | st.booleans() | st.integers(-100, 100) | FINITE | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    ),
}
kinds = st.sampled_from(sorted(VALUES))


@st.composite
def answers(draw: Any) -> tuple[Signature, dict[str, Any]]:
    """A signature of two typed outputs and a value for each."""
    first, second = draw(kinds), draw(kinds)
    return Signature(f"q -> a: {first}, b: {second}"), {"a": draw(VALUES[first]), "b": draw(VALUES[second])}


@given(answers())
def test_what_is_shown_as_a_demo_reads_back(answer: tuple[Signature, dict[str, Any]]) -> None:
    """An answer as the adapter writes it is the answer it reads, by lenient and by strict rules."""
    signature, values = answer
    reply = str(JSON.format(signature, {"q": "x"}, [{"q": "y", **values}])[2].content)
    for checking in ("lenient", "strict"):
        parsed = JSON.parse(signature, reply, checking=checking)
        assert parsed == values
        assert {name: type(value) for name, value in parsed.items()} == {name: type(v) for name, v in values.items()}


def streamed(pieces: list[str]) -> dict[str, str]:
    """What a reader gives of each field, joined."""
    reader, fields = JsonFieldReader(Signature("-> a, b")), defaultdict[str, str](str)
    for pairs in (*map(reader.feed, pieces), reader.close()):
        for field, text in pairs:
            assert text, "an empty piece tells nothing"
            fields[field] += text
    return dict(fields)


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces."""
    ends = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


PIECES = st.sampled_from(
    ['{"a":', '"b":', ' "x ', '"', "'", '\\"', "\\n", "\\ud83d\\ude00", "\\u00e9", "\ud83d", "\ude00", "1", "-2.5e3"]  # noqa: RUF005
    + [",", "}", "]", "[", "{", "a:", ": ", "null", "True", "// c\n", "/* c */", "```json\n", "```", "prose ", "/", "é"]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=16).map("".join),
    st.tuples(
        st.lists(PIECES, max_size=3).map("".join),
        st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES["Any"], max_size=3).map(json.dumps),
        st.lists(PIECES, max_size=3).map("".join),
    ).map("".join),
)


@given(TEXTS, st.lists(st.integers(0, 80), max_size=20))
def test_pieces_joined_are_the_whole(text: str, places: list[int]) -> None:
    """For every answer that can be read, any cut of it gives each field's own text, no more and no less."""
    try:
        whole = {name: member.text for name, member in read_answer(("a", "b"), text)[0].items() if member.text}
    except WrongJsonError:
        streamed(cut(text, places))  # refused as a whole; the reader refuses nothing
        return
    assert streamed(cut(text, places)) == whole


class Mood(Enum):
    """Values of two types."""

    GOOD = "good"
    TWO = 2


class Order(BaseModel):
    """Members of many types."""

    lines: list[dict[str, int]]
    due: date | None = None
    price: Decimal = Decimal(1)
    mood: Mood = Mood.GOOD


class Some(Signature):
    a: Order = OutputField()
    b: Mood | None = OutputField()
    c: list[Order] = OutputField()
    d: Decimal = OutputField()
    e: float = OutputField()
    f: tuple[int, str] = OutputField()
    g: Literal["x", 1] = OutputField()
    h: dict[int, date] = OutputField()
    i: str = OutputField()


SOME = Signature(Some)
BODY = SOME.output_names
SIGNATURES = (
    SOME,
    *(SOME.delete("a") if name == "i" else Signature.of((), (SOME.fields[name],)) for name in BODY),
    Signature("-> a (max_length=3)"),
    Signature('-> a (pattern="^a")'),
    Signature("-> a: int (ge=0)"),
)
ANYTHING = st.one_of(
    TEXTS,
    st.text(),
    st.sampled_from(
        [
            "9" * 5000,
            "-" + "9" * 400,
            '{"e": ' + "2" * 400 + "}",
            "1e400",
            "[" * 5000,
            "{" * 5000,
            '{"a":' * 500,
            "\ud800",
            '"\ud800"',
        ]
    ),
)
ANSWERS = st.one_of(
    ANYTHING,
    st.dictionaries(st.sampled_from(sorted(BODY)), ANYTHING).map(
        lambda found: "{" + ", ".join(f'"{name}": {value}' for name, value in found.items()) + "}"
    ),
    st.dictionaries(st.sampled_from(sorted(BODY)), VALUES["Any"]).map(json.dumps),
    st.dictionaries(st.sampled_from(sorted(BODY)), ANYTHING).map(
        lambda found: "\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in found.items())
    ),
)


@given(
    st.sampled_from(sorted(ADAPTERS)),
    st.sampled_from(SIGNATURES),
    ANSWERS,
    st.sampled_from(["none", "lenient", "strict"]),
)
def test_any_answer_parses_or_is_a_parse_error(adapter: str, signature: Signature, answer: str, checking: Any) -> None:
    """No answer makes a parser raise anything else, whatever the types and however they are checked."""
    try:
        parsed = ADAPTERS[adapter].parse(signature, answer, checking=checking)
    except ParseError:
        return
    assert tuple(parsed) == signature.output_names


def outcome(signature: Signature, answer: str, checking: Any) -> str:
    """What an answer is read as, or how it is refused."""
    try:
        return repr(ADAPTERS["json"].parse(signature, answer, checking=checking))
    except ParseError as error:
        return repr({name: error.facts.get(name) for name in ("field", "expected", "got")})


@given(st.sampled_from(SIGNATURES), ANSWERS, st.sampled_from(["none", "lenient", "strict"]))
def test_an_object_alone_is_read_as_one_among_prose(signature: Signature, answer: str, checking: Any) -> None:
    """The quick way and the long one give the same values and the same refusals."""
    assert outcome(signature, answer, checking) == outcome(signature, f"Here it is: {answer}", checking)


@pytest.mark.parametrize(
    "answer",
    [
        '{"a": 1, "a": 2}',
        '{"a": {"x": 1, "x": 2}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": "\ud800"}',
        '{"a": "\\ud83d\\ude00"}',
        f'{{"a": {"9" * 999}}}',
        f'{{"a": {"9" * 1001}}}',
        f'{{"a": {"[" * 99}{"]" * 99}}}',
        f'{{"a": {"[" * 100}{"]" * 100}}}',
        f'{{"a": [{", ".join(["[]"] * 300)}]}}',
        '\ufeff{"a": 1}',
        '{"a": "x\ny"}',
        '{"a": true} {"a": false}',
        '{"b": {"a": 1}}',
        "[1]",
    ],
)
def test_what_is_nearly_plain_is_read_the_long_way(answer: str) -> None:
    """Doubles, depth, digits, constants and halves of surrogate pairs are judged alike, alone and among prose."""
    for text in ("-> a: Any", "-> a"):
        signature = Signature(text)
        assert outcome(signature, answer, "none") == outcome(signature, f"Here it is: {answer}", "none")
