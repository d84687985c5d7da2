"""The JSON adapter: what the model is told and asked for, what is read from its answer, whole and in pieces."""

from __future__ import annotations

import json
import time
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel, Field

from dspex.actors.adapters import adapter_named
from dspex.actors.adapters.chat import ChatAdapter
from dspex.actors.adapters.json_adapter import JsonAdapter
from dspex.actors.adapters.json_reader import JsonFieldReader
from dspex.actors.adapters.json_schema import output_schema
from dspex.actors.signatures.class_form import InputField, OutputField
from dspex.actors.signatures.signature import Signature, SignatureMeta
from dspex.runtime.errors import ParseError, SignatureError

JSON = JsonAdapter()
QA = Signature("question -> answer")


class Mood(Enum):
    """Texts by name."""

    GOOD = "good"
    BAD = "bad"


class Line(BaseModel):
    """One line."""

    name: str
    total: float = Field(1.0, ge=0)


class Order(BaseModel):
    """An order."""

    lines: list[Line]
    due: date | None = None


class Tree(BaseModel):
    """It holds itself."""

    below: list[Tree] = []


class Book(Signature):
    question: str = InputField()
    order: Order = OutputField(desc="What was ordered.")
    mood: Mood | None = OutputField()
    score: int = OutputField(ge=0, le=9)


BOOK = Signature(Book)


def test_it_is_found_by_name() -> None:
    """``json`` is an adapter."""
    assert adapter_named("json").name == "json"


def test_the_whole_prompt() -> None:
    """The system message names fields, schema and instructions; inputs are one JSON object; a demo is two turns."""
    signature = Signature('question, k: int -> score: float (le=1, desc="How sure.")', "Judge it.")
    demos = [{"question": "A\nB", "score": 0.5}]
    messages = JSON.format(signature, {"question": 'say "é"', "k": 3}, demos)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    schema = {"score": {"type": "number", "maximum": 1, "description": "How sure."}}
    assert messages[0].content == (
        "Your input is a JSON object with these fields:\n1. `question` (str)\n2. `k` (int)\n\n"
        "Your output is a JSON object with these fields:\n1. `score` (float, at most 1): How sure.\n\n"
        "It must fit this JSON schema:\n"
        f"{json.dumps({'type': 'object', 'properties': schema, 'required': ['score']})}\n\n"
        "Your task:\nJudge it.\n\n"
        "Respond with the JSON object only."
    )
    ask = "Respond with a JSON object with the fields `score`, in this order, and nothing else."
    assert messages[1].content == '{\n  "question": "A\\nB"\n}\n\n(Not given in this example: k.)'
    assert messages[2].content == '{\n  "score": 0.5\n}'
    assert messages[3].content == f'{{\n  "question": "say \\"é\\"",\n  "k": 3\n}}\n\n{ask}'


def test_only_the_question_asks() -> None:
    """The request stands in the last message; in a worked example only if it would be empty without it."""
    messages = JSON.format(QA, {"question": "b"}, [{"question": "a", "answer": "1"}])
    assert ["Respond with a" in str(each.content) for each in messages] == [False, False, False, True]
    assert all(each.content for each in JSON.format(Signature("-> joke"), {}, [{"joke": "ha"}]))


def test_a_value_that_json_cannot_carry() -> None:
    """It is refused before anybody is asked."""
    with pytest.raises(SignatureError, match="JSON can carry"):
        JSON.format(Signature("x: Any -> a"), {"x": object()})


def test_structured_output_is_the_strict_subset() -> None:
    """Objects are closed, all members are required, optional ones may be null; bounds stand in descriptions."""
    wanted = JSON.response_format(BOOK)
    assert wanted is not None
    line = {
        "type": "object",
        "description": "One line.",
        "properties": {"name": {"type": "string"}, "total": {"type": "number", "description": "minimum: 0"}},
        "required": ["name", "total"],
        "additionalProperties": False,
    }
    due = {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}
    assert wanted == {
        "type": "json_schema",
        "json_schema": {
            "name": "outputs",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {
                    "order": {
                        "type": "object",
                        "description": "What was ordered.",
                        "properties": {"lines": {"type": "array", "items": line}, "due": due},
                        "required": ["lines", "due"],
                        "additionalProperties": False,
                    },
                    "mood": {
                        "anyOf": [
                            {"type": "string", "enum": ["good", "bad"], "description": "Texts by name."},
                            {"type": "null"},
                        ]
                    },
                    "score": {"type": "integer", "description": "maximum: 9, minimum: 0"},
                },
                "required": ["order", "mood", "score"],
                "additionalProperties": False,
            },
        },
    }


@pytest.mark.parametrize("kind", ["dict[str, int]", "dict", "list", "Any", "tuple[int, str]", "list[Any]"])
def test_what_the_strict_subset_lacks_is_asked_for_as_any_object(kind: str) -> None:
    """Open objects, tuples and anything cannot be said strictly."""
    assert JSON.response_format(Signature(f"q -> a: {kind}")) == {"type": "json_object"}


def test_a_class_that_holds_itself_is_not_strict() -> None:
    """Recursion is outside the subset that all providers have."""

    class Forest(Signature):
        tree: Tree = OutputField()

    tree = Signature(Forest)
    assert JSON.response_format(tree) == {"type": "json_object"}
    assert "$defs" in output_schema(tree)


def test_two_classes_of_one_name_stay_apart() -> None:
    """Each field's schema has its own definitions."""
    other = type("Line", (BaseModel,), {"__annotations__": {"other": int}, "__module__": "elsewhere"})
    body = {"a": OutputField(), "b": OutputField(), "__annotations__": {"a": Line, "b": other}}
    schema = output_schema(SignatureMeta("T", (Signature,), body))
    assert len(schema["$defs"]) == 2
    assert schema["properties"]["a"] != schema["properties"]["b"]


@pytest.mark.parametrize(
    "answer",
    [
        '{"answer": "Paris"}',
        'Sure: {curly} {"x": 1}\n```json\n{"answer": "Paris"}\n```\nAnything else? {"answer": "Rome"}',
        "{'answer': 'Paris',}",
        '{answer: "Paris" /* the capital */ // yes\n}',
        '{"confidence": {"a": [1, {"b": null}]}, "answer": "Paris", "more": True}',
        '{"answer": "Paris", "answer": "Paris"}',
        '{"answer": "\\u0050aris"} {"answer": ',
        '{"broken: {"answer": "Paris"}',
    ],
)
def test_tolerated(answer: str) -> None:
    """Prose, fences, comments, loose quotes and commas, unknown members."""
    assert JSON.parse(QA, answer) == {"answer": "Paris"}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", '"a\nb"', "a\nb"),
        ("str", '"\\ud83d\\ude00"', "😀"),
        ("str", "42", "42"),
        ("str", '"  kept  "', "  kept  "),
        ("int", '"42"', 42),
        ("int", "42.0", 42),
        ("float", "-1.5e3", -1500.0),
        ("bool", '"yes"', True),
        ("Decimal", "0.1000000000000000055511151231257827", Decimal("0.1000000000000000055511151231257827")),
        ("date", '"2026-01-02"', date(2026, 1, 2)),
        ("tuple[int, str]", '[1, "x",]', (1, "x")),
        ("list[str]", '[1, "x"]', ["1", "x"]),
        ("int | None", "None", None),
        ("Any", '{"a": [1.5, true]}', {"a": [1.5, True]}),
        ('Literal["a", 1]', "1", 1),
    ],
)
def test_values(kind: str, text: str, value: Any) -> None:
    """Values become what the type says, numbers and texts may stand for each other."""
    parsed = JSON.parse(Signature(f"-> x: {kind}"), f'{{"x": {text}}}')["x"]
    assert (parsed, type(parsed)) == (value, type(value))


def test_classes() -> None:
    """Models, Enums and what they hold."""
    answer = '{"order": {"lines": [{"name": "a"}], "due": "2026-01-02"}, "score": "3"}'
    parsed = JSON.parse(BOOK, answer)
    assert parsed == {"order": Order(lines=[Line(name="a", total=1.0)], due=date(2026, 1, 2)), "mood": None, "score": 3}
    assert JSON.parse(BOOK, answer.replace('"score"', '"mood": "bad", "score"'))["mood"] is Mood.BAD


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("Paris", "expected a JSON object with 'order' .*, got an answer without a JSON object"),
        ('{"x": 1}', "got an object with x, at output field 'order'"),
        ('{"order": {"lines": [', "expected a JSON value, got the end of the answer, at line 1, column 22"),
        ('{"score": 1, "order": "x', "closing quote"),
        ('{"score": 1 "order": 2}', "expected ',' or '}', got '\"order\": 2}', at line 1, column 13"),
        ('{"score": 1 x} {"score": 2, "order": {"lines": []}}', "expected ',' or '}', got 'x}"),
        ('{"score": NaN}', "expected a JSON value, got 'NaN'"),
        ('{"score": 1e999}', "a number that a float can hold"),
        ('{"score": ' + "9" * 2000 + "}", "a number of at most 1000 digits"),
        ('{"score": ' + "[" * 2000 + "}", "nested at most 100 deep"),
        ('{"score": "\\ud800"}', "the other half of a surrogate pair"),
        ('{"score": "\\udc00"}', "the first half of a surrogate pair"),
        ('{"score": "\\d"}', "an escape of JSON"),
        ('{"score": "\\u00g0"}', "four hexadecimal digits"),
        ('{"score": 1, "score": 2}', "the key 'score' once"),
        ('{"score": 1, "score": true}', "the key 'score' once"),
        ('{\n "score": /* open', "the end of a comment"),
        ('{\n "score": 10, "order": {"lines": []}}', "score', line 2, column 11 .*less than or equal to 9"),
        (
            '{"score": 1, "order": {"lines": [{"name": "a", "total": -1}]}}',
            r"order', line 1, column 23 of the answer: .* \(at \['lines'\]\[0\]\['total'\]\)",
        ),
    ],
)
def test_refused_answers(answer: str, words: str) -> None:
    """What was expected, what came, where; with the answer."""
    with pytest.raises(ParseError, match=words) as caught:
        JSON.parse(BOOK, answer)
    assert answer.startswith(caught.value.text.removesuffix("..."))
    assert caught.value.expected
    assert caught.value.got


@pytest.mark.parametrize("answer", ['{"x": "42"}', '{"x": 42.5}', '{"x": true}', "{}", '{"y": 1}'])
def test_strict_checking_converts_nothing(answer: str) -> None:
    """A text is no number; an optional output must be there."""
    with pytest.raises(ParseError):
        JSON.parse(Signature("-> x: int | None"), answer, checking="strict")


def test_strict_checking_takes_what_json_has_no_type_for() -> None:
    """Dates, tuples and Enums are right as JSON writes them."""
    signature = Signature("-> d: date, t: tuple[int, int], n: int | None")
    parsed = JSON.parse(signature, '{"d": "2026-01-02", "t": [1, 2], "n": null}', checking="strict")
    assert parsed == {"d": date(2026, 1, 2), "t": (1, 2), "n": None}


def test_no_checking_gives_what_came() -> None:
    """Values are given as JSON; in sections as JSON if they are, else as text."""
    signature = Signature("-> x: int (ge=5), y: date")
    assert JSON.parse(signature, '{"x": "many", "y": [1]}', checking="none") == {"x": "many", "y": [1]}
    sections = "[[ ## x ## ]]\nmany\n[[ ## y ## ]]\n[1]"
    assert ChatAdapter().parse(signature, sections, checking="none") == {"x": "many", "y": [1]}


def test_strict_checking_of_sections() -> None:
    """Sections are text, so JSON of the type will do, and a word of another type will not."""
    signature = Signature('-> x: int, y: Literal["a"], z: date')
    sections = "[[ ## x ## ]]\n{}\n[[ ## y ## ]]\na\n[[ ## z ## ]]\n2026-01-02"
    parsed = ChatAdapter().parse(signature, sections.replace("{}", "5"), checking="strict")
    assert parsed == {"x": 5, "y": "a", "z": date(2026, 1, 2)}
    with pytest.raises(ParseError, match="expected int, got '\"5\"'"):
        ChatAdapter().parse(signature, sections.replace("{}", '"5"'), checking="strict")


def test_the_chat_adapter_shows_constraints_and_classes() -> None:
    """Bounds, choices and schemas stand in its prompt too."""
    system = str(ChatAdapter().format(BOOK, {"question": "?"})[0].content)
    assert "3. `score` (int, at least 0, at most 9)" in system
    assert "{score}        # one whole number, at least 0, at most 9" in system
    assert "{mood}        # exactly one of: good; bad, or null" in system
    assert "{order}        # JSON of the type Order that fits the schema {" in system


def test_the_chat_adapter_reads_classes() -> None:
    """A model is JSON in its section, a member of an Enum its word; mistakes have their path."""
    sections = "[[ ## order ## ]]\n{}\n[[ ## mood ## ]]\nbad\n[[ ## score ## ]]\n3"
    parsed = ChatAdapter().parse(BOOK, sections.replace("{}", '```json\n{"lines": []}\n```'))
    assert parsed == {"order": Order(lines=[]), "mood": Mood.BAD, "score": 3}
    with pytest.raises(ParseError, match=r"expected Order.*at \['lines'\]\[0\]\['name'\]"):
        ChatAdapter().parse(BOOK, sections.replace("{}", '{"lines": [{}]}'))


def test_texts_are_read_while_they_grow() -> None:
    """A text comes as it is written, an escape when it is whole, anything else at its end."""
    reader = JsonFieldReader(Signature("-> a, n: list[int]"))
    assert reader.feed('Here: {"x": 1, "a": "Pa') == [("a", "Pa")]
    assert reader.feed("ris\\") == [("a", "ris")]
    assert reader.feed("u00e") == []
    assert reader.feed('9!", "n": [1, ') == [("a", "é"), ("a", "!")]
    assert reader.feed("2 ]") == [("n", "[1, 2 ]")]
    assert reader.feed('} {"a": "no"}') == []
    assert reader.close() == []


def test_halves_of_characters_find_each_other() -> None:
    """A pair of surrogates that was cut between two pieces is one character again."""
    reader = JsonFieldReader(QA)
    assert reader.feed('{"answer": "\ud83d') == []
    assert reader.feed('\ude00"') == [("answer", "😀")]


def test_a_long_answer_full_of_beginnings_takes_no_time() -> None:
    """What looks like the answer is tried a few times only."""
    began = time.process_time()
    for text in ('{"x":' * 20_000, "{" * 100_000, "[" * 100_000 + "{'answer':", '{"answer": "' + "a" * 100_000):
        with pytest.raises(ParseError):
            JSON.parse(QA, text)
    assert time.process_time() - began < 5.0
