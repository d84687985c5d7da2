"""Signatures: text to value and back, errors with their place, changes as new values."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest

from dspex.actors.signatures.answers import parse_value
from dspex.actors.signatures.constraints import Constraints
from dspex.actors.signatures.field import Field
from dspex.actors.signatures.parse import parse_type
from dspex.actors.signatures.signature import Signature
from dspex.actors.signatures.types import FieldType, annotation
from dspex.actors.signatures.values import check_demo, check_inputs, value_text
from dspex.runtime.errors import ParseError, SignatureError


def test_fields_and_types() -> None:
    """Inputs and outputs come in order, and a field without a type is text."""
    signature = Signature("question, context: list[str] -> answer: float, why")
    assert signature.input_names == ("question", "context")
    assert [str(field.type) for field in signature.inputs] == ["str", "list[str]"]
    assert [(field.name, str(field.type)) for field in signature.outputs] == [("answer", "float"), ("why", "str")]
    assert list(signature.fields) == ["question", "context", "answer", "why"]


@pytest.mark.parametrize(
    ("text", "canonical", "python"),
    [
        ("str", "str", str),
        ("int", "int", int),
        ("float", "float", float),
        ("bool", "bool", bool),
        ("Decimal", "Decimal", Decimal),
        ("date", "date", date),
        ("datetime", "datetime", datetime),
        ("Any", "Any", Any),
        ("list", "list", list[Any]),
        ("List[ int ]", "list[int]", list[int]),
        ("dict[str,list[int]]", "dict[str, list[int]]", dict[str, list[int]]),
        ("dict", "dict", dict[str, Any]),
        ("tuple[int, str]", "tuple[int, str]", tuple[int, str]),
        ("tuple[int, ...]", "tuple[int, ...]", tuple[int, ...]),
        ("tuple", "tuple", tuple[Any, ...]),
        ("Optional[int]", "int | None", int | None),
        ("Union[int, str | None, int]", "int | str | None", int | str | None),
        ("""Literal['a', "b,]", 1, -2, True, None]""", 'Literal["a", "b,]", 1, -2, True, None]', None),
        (r"""Literal['it\'s', 'a"b', "\u0041\n"]""", r'Literal["it' + "'" + r's", "a\"b", "A\n"]', None),
    ],
)
def test_types(text: str, canonical: str, python: Any) -> None:
    """Every type has one canonical text and stands for a Python type."""
    kind = parse_type(text)
    assert str(kind) == canonical
    assert parse_type(canonical) == kind
    if python is not None:
        assert annotation(kind) == python


def test_literals_of_equal_values_differ() -> None:
    """``Literal[1]`` and ``Literal[True]`` are two types, though 1 == True in Python."""
    assert parse_type("Literal[1]") != parse_type("Literal[True]")
    assert annotation(parse_type("Literal[True]")) == Literal[True]
    assert Signature("-> a: Literal[1]") != Signature("-> a: Literal[True]")


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("q: strng -> a", 3, "did you mean 'str'?"),
        ("q: list[flot] -> a", 8, "did you mean 'float'?"),
        ("q -> ", 5, "at least one output field"),
        ("question", 8, "expected ',' or '->', got the end of the text"),
        ("", 0, "a field name"),
        ("q -> a -> b", 7, "',' or the end of the text"),
        ("q, -> a", 3, "a field name"),
        ("q -> a,", 7, "a field name"),
        ("q, q -> a", 3, "each field name once"),
        ("q -> q", 5, "each field name once"),
        ("class -> a", 0, "not a Python keyword"),
        ("\ufb01x -> a", 0, "letters, digits and '_'"),
        ("_q -> a", 0, "does not start with '_'"),
        ("q: -> a", 3, "a type"),
        ("q: list[ -> a", 9, "a type"),
        ("q: list[int -> a", 12, "',' or ']'"),
        ("q: list[int, str] -> a", 8, "one type in list[...]"),
        ("q: dict[str] -> a", 8, "two types in dict[...]"),
        ("q: dict[list[int], str] -> a", 8, "a key type"),
        ("q: tuple[..., int] -> a", 9, "a type"),
        ("q: Optional[int, str] -> a", 3, "one type in Optional[...]"),
        ("q: Literal -> a", 11, "'[' after Literal"),
        ("q: Literal[x] -> a", 11, "a quoted text"),
        ("q: Literal[1.5] -> a", 11, "a quoted text"),
        (r"q: Literal['\d'] -> a", 11, "escapes of JSON"),
        (r"q: Literal['\ud800'] -> a", 11, "escapes of JSON"),
        ("q: 'a -> b", 3, "a type"),
        ("a b -> c", 2, "':' and a type"),
        ("q: __import__('os') -> a", 3, "a type"),
        ("q: list" + "[list" * 50 + " -> a", 168, "nested at most 32 deep"),
    ],
)
def test_refused_texts(text: str, position: int, words: str) -> None:
    """A malformed text is refused with its position, a caret below that place, what was expected, what came."""
    with pytest.raises(SignatureError) as caught:
        Signature(text)
    error = caught.value
    assert (error.position, error.text) == (position, text)
    assert words in str(error)
    assert f"position {position}" in str(error)
    line, caret = str(error).splitlines()[-2:]
    if position < 60:
        assert caret.index("^") - 4 == position
        assert line[4:].rstrip() == text[:100].rstrip()
    else:
        assert line[caret.index("^")] == text[position]


def test_caret_in_a_text_of_several_lines() -> None:
    """The caret stands below the line that is wrong."""
    with pytest.raises(SignatureError) as caught:
        Signature("question,\n  n: intt\n -> answer")
    assert str(caught.value).splitlines()[1:] == ["      n: intt", "         ^"]


@pytest.mark.parametrize("text", [None, 5, b"q -> a", "q" * 20_001 + " -> a"])
def test_what_is_no_text_is_refused(text: Any) -> None:
    """Something that is no text, and a text without bound, are refused at once."""
    with pytest.raises(SignatureError, match="as signature"):
        Signature(text)


def test_canonical_text_gives_the_same_signature() -> None:
    """``str(signature)`` parsed again is the same, inputs or none."""
    for text in ("q,c:List[ str ]->a:Optional[int]", "-> joke", "q->a:Literal['x -> y, [z]']"):
        signature = Signature(text)
        assert Signature(str(signature)) == signature
    assert str(Signature("q,c:List[ str ]->a:Optional[int]")) == "q, c: list[str] -> a: int | None"
    assert str(Signature("->joke")) == "-> joke"


def test_a_signature_is_a_value() -> None:
    """It compares, hashes, pickles and prints by what it holds, and cannot be changed."""
    one, same = Signature("q -> a: int", "Be brief."), Signature("q->a:int", "Be brief.")
    assert one == same
    assert hash(one) == hash(same)
    assert one != Signature("q -> a: int")
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == "Signature('q -> a: int', instructions='Be brief.')"
    with pytest.raises(FrozenInstanceError):
        one.instructions = "x"  # type: ignore[misc]


def test_instructions() -> None:
    """Instructions are text; blank ones are none; a signature given as text may bring its own."""
    assert Signature("q -> a", "  ").instructions is None
    assert Signature(Signature("q -> a", "Old.")).instructions == "Old."
    assert Signature(Signature("q -> a", "Old."), "New.").instructions == "New."
    with pytest.raises(SignatureError, match="instructions"):
        Signature("q -> a", 5)  # type: ignore[arg-type]


def test_changes_make_new_signatures() -> None:
    """Each change gives a new signature and leaves the old one as it was."""
    base = Signature("question -> answer", "Be brief.")
    assert str(base.prepend("reasoning", to="outputs")) == "question -> reasoning, answer"
    assert str(base.append("context", "list[str]", to="inputs")) == "question, context: list[str] -> answer"
    assert str(base.with_updated_field("answer", type="float")) == "question -> answer: float"
    assert base.with_updated_field("answer", desc="A name.").outputs[0].description == "A name."
    assert base.with_instructions("Be long.").instructions == "Be long."
    assert str(base.append("why", to="outputs").delete("answer")) == "question -> why"
    assert base.prepend("why", to="outputs").instructions == "Be brief."
    assert base == Signature("question -> answer", "Be brief.")


def test_new_fields_have_types_of_python_too() -> None:
    """As text or as a type, with a description and constraints, at any place; the result is a value as all are."""
    base = Signature("question -> answer", "Be brief.")
    made = (
        base.append("sure", float, to="outputs", constraints=Constraints(ge=0, le=1), desc="How sure?")
        .insert(1, "kind", Literal["a", "b"], to="outputs")
        .prepend("tags", list[str], to="inputs")
        .with_updated_field("answer", type=int | None)
    )
    text = 'tags: list[str], question -> answer: int | None, kind: Literal["a", "b"], sure: float (ge=0, le=1)'
    assert str(made) == text
    assert made.fields["sure"].description == "How sure?"
    assert Signature.from_json(made.to_json()) == pickle.loads(pickle.dumps(made)) == made
    assert str(base.insert(-1, "why", to="outputs")) == "question -> why, answer"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.append("question", to="outputs"), "each field name once"),
        (lambda s: s.append("class", to="outputs"), "keyword"),
        (lambda s: s.append("x", "strng", to="outputs"), "did you mean 'str'"),
        (lambda s: s.append("x", to="output"), "did you mean 'outputs'"),
        (lambda s: s.append("x", set[str], to="outputs"), r"got set\[str\]"),
        (lambda s: s.append("x", tuple[()], to="outputs"), "a type of elements"),
        (lambda s: s.append(5, to="outputs"), "a field name as text, got 5"),
        (lambda s: s.append("x", to="outputs", desc=5), "a text as description of 'x', got int"),
        (lambda s: s.append("x", to="outputs", constraints=Constraints(ge=0)), "ge of a type that it fits"),
        (lambda s: s.with_updated_field("answr", type="int"), "did you mean 'answer'"),
        (lambda s: s.delete("answr"), "did you mean 'answer'"),
        (lambda s: s.delete("answer"), "at least one output"),
    ],
)
def test_refused_changes(change: Callable[[Signature], Signature], words: str) -> None:
    """A change that would not leave a signature is refused."""
    with pytest.raises(SignatureError, match=words):
        change(Signature("question -> answer"))


def test_json_keeps_everything() -> None:
    """Descriptions and instructions survive JSON."""
    signature = Signature.of([Field("q", description="What is asked.")], [Field("a", parse_type("int | None"))], "Go.")
    assert Signature.from_json(signature.to_json()) == signature
    assert Signature.from_dict(signature.to_dict()) == signature


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", "a signature as a mapping"),
        ('{"output": []}', "did you mean 'outputs'"),
        ('{"outputs": {}}', "a list as 'outputs'"),
        ('{"outputs": [5]}', "a field as a mapping"),
        ('{"outputs": [{"name": "a", "typ": "int"}]}', "did you mean 'type'"),
        ('{"outputs": [{"name": 5}]}', "a text as 'name'"),
        ('{"outputs": [{"type": "int"}]}', "a field name"),
        ('{"outputs": [{"name": "a", "type": "intt"}]}', "did you mean 'int'"),
        ('{"outputs": []}', "at least one output"),
    ],
)
def test_refused_json(text: str, words: str) -> None:
    """JSON that describes no signature is refused in words."""
    with pytest.raises(SignatureError, match=words):
        Signature.from_json(text)


def test_inputs_are_checked() -> None:
    """Good inputs come back in the signature's order; whole numbers are numbers."""
    signature = Signature("q, n: float, tags: list[str], x: int | None -> a")
    given = {"x": None, "tags": ["t"], "n": 2, "q": "hi"}
    assert list(check_inputs(signature, given).items()) == [("q", "hi"), ("n", 2.0), ("tags", ["t"]), ("x", None)]


def test_an_input_that_may_be_none_may_be_left_out() -> None:
    """It is None then; a misspelt one is still refused."""
    signature = Signature("q, hint: str | None -> a")
    for checking in ("lenient", "none"):
        assert check_inputs(signature, {"q": "x"}, checking=checking) == {"q": "x", "hint": None}
    with pytest.raises(SignatureError, match="did you mean 'hint'"):
        check_inputs(signature, {"q": "x", "hnt": "y"})


@pytest.mark.parametrize(
    ("inputs", "field", "words"),
    [
        ({"question": "x"}, "n", "expected int, got nothing, at input 'n'"),
        ({"question": "x", "n": 1, "contxt": []}, "contxt", "did you mean 'context'"),
        ({"question": 5, "n": 1, "context": []}, "question", "expected str, got 5, at input 'question'"),
        ({"question": "x", "n": "1", "context": []}, "n", "expected int, got '1', at input 'n'"),
        ({"question": "x", "n": True, "context": []}, "n", "expected int, got True"),
        ({"question": "x", "n": 1, "context": ["a", 5]}, "context", r"got a list, at input 'context': .*\(at \[1\]\)"),
        ({"question": "x", "n": 1, "context": ("a",)}, "context", "expected list\\[str\\], got a tuple"),
        ({"question": object(), "n": 1, "context": []}, "question", "got a object"),
    ],
)
def test_refused_inputs(inputs: dict[str, Any], field: str, words: str) -> None:
    """A missing, unknown or ill-typed input is refused by name, with what was expected and what came."""
    with pytest.raises(SignatureError, match=words) as caught:
        check_inputs(Signature("question, n: int, context: list[str] -> answer"), inputs)
    assert caught.value.field == field
    assert caught.value.expected


@pytest.mark.parametrize(
    ("kind", "as_json", "value"),
    [
        ("date", "2026-01-02", date(2026, 1, 2)),
        ("datetime", "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("Decimal", "1.50", Decimal("1.50")),
        ("tuple[int, str]", [1, "a"], (1, "a")),
        ("list[date]", ["2026-01-02"], [date(2026, 1, 2)]),
        ("date | None", "2026-01-02", date(2026, 1, 2)),
        ("dict[str, date]", {"a": "2026-01-02"}, {"a": date(2026, 1, 2)}),
    ],
)
def test_what_json_has_no_type_for_may_come_in_its_form_there(kind: str, as_json: Any, value: Any) -> None:
    """So that examples from a file fit, as inputs and as demos; both forms come out as the value."""
    signature = Signature(f"q: {kind} -> a")
    for given in (as_json, value):
        assert check_inputs(signature, {"q": given}) == {"q": value}
        assert check_demo(signature, {"q": given, "a": "x"}) == {"q": value, "a": "x"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("date", "yesterday"), ("date", 5), ("tuple[int, str]", ["1", "a"]), ("list[str]", ("a",)), ("int", "5")],
)
def test_what_json_has_a_type_for_must_be_that(kind: str, value: Any) -> None:
    """A text is no number, a tuple no list, a word no date."""
    with pytest.raises(SignatureError, match="at input 'q'"):
        check_inputs(Signature(f"q: {kind} -> a"), {"q": value})


def test_inputs_that_are_no_mapping_are_refused() -> None:
    """A list of inputs is refused, and so is a demo that is no mapping."""
    for check in (check_inputs, check_demo):
        with pytest.raises(SignatureError, match="expected a mapping of fields, got list"):
            check(Signature("q -> a"), ["q"])  # type: ignore[arg-type]


def test_not_a_number_is_no_number() -> None:
    """NaN and infinity are refused both ways: JSON cannot carry them."""
    with pytest.raises(SignatureError):
        check_inputs(Signature("x: float -> a"), {"x": float("nan")})
    with pytest.raises(ParseError):
        parse_value(Field("x", parse_type("float")), "inf", "here")


def test_demos_may_lack_fields() -> None:
    """A worked example may lack fields, but neither a whole side nor the right types."""
    signature = Signature("q, c -> a: int, why")
    assert check_demo(signature, {"a": 1, "q": "x"}) == {"q": "x", "a": 1}
    for demo, words in (
        ({"q": "x"}, "at least one of a, why"),
        ({"q": "x", "a": "1"}, "expected int"),
        ({"z": 1}, "z"),
    ):
        with pytest.raises(SignatureError, match=words):
            check_demo(signature, demo)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("str", " a\nb ", " a\nb "),
        ("str | None", "hi", "hi"),
        ("str | None", None, "null"),
        ("int", 5, "5"),
        ("bool", True, "true"),
        ("list[str]", ["ä", "b"], '["ä", "b"]'),
        ("tuple[int, ...]", (1, 2), "[1, 2]"),
        ("dict[int, date]", {1: date(2026, 1, 2)}, '{"1": "2026-01-02"}'),
        ("Decimal", Decimal("1.50"), "1.50"),
        ("date", date(2026, 1, 2), "2026-01-02"),
        ('Literal["yes", "no"]', "yes", "yes"),
        ('Literal["null", " x"]', "null", '"null"'),
        ('Literal["1", 1]', "1", '"1"'),
        ("str | int", "5", '"5"'),
        ("Any", "5", '"5"'),
    ],
)
def test_values_as_text(kind: str, value: Any, text: str) -> None:
    """A value is written so that reading it gives the value back."""
    field = Field("x", parse_type(kind))
    assert value_text(field, value) == text
    back = parse_value(field, text, "here")
    assert back == (value.strip() if kind == "str" else value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", " 42 ", 42),
        ("int", "3.0", 3),
        ("float", "1e3", 1000.0),
        ("bool", "yes", True),
        ("bool", "True", True),
        ("bool", "false", False),
        ("int | None", "None", None),
        ("list[int]", "```json\n[1, 2]\n```", [1, 2]),
        ("list[int]", '["1", 2]', [1, 2]),
        ("int", "```\n5\n```", 5),
        ("str", "```python\nx = 1\n```", "```python\nx = 1\n```"),
        ("Any", "plain words", "plain words"),
        ("Any", '{"a": 1}', {"a": 1}),
        ('Literal["a", "b"]', '"a"', "a"),
        ("Literal[1, 2]", "2", 2),
        ("str | None", "true", "true"),
        ("Decimal", "8.420746587113409E-15", Decimal("8.420746587113409E-15")),
        ("Decimal", '"1.10"', Decimal("1.10")),
        ("datetime", "2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - as the model wrote it
    ],
)
def test_values_from_text(kind: str, text: str, value: Any) -> None:
    """What models write is read by pydantic's rules, structures as JSON, fenced or not; text stays as it is."""
    assert parse_value(Field("x", parse_type(kind)), text, "here") == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("int", "about 40", "expected int, got 'about 40', at here"),
        ("int", "3.5", "expected int"),
        ("int", "9" * 5000, "expected int"),
        ("int", "\ud800", "expected int"),
        ("bool", "perhaps", "expected bool"),
        ("list[int]", "1, 2", r"expected list\[int\], got '1, 2', at here"),
        ("list[int]", '[1, "x"]', r"\(at \[1\]\)"),
        ("list", "[" * 100_000, "expected list"),
        ('Literal["a", "b"]', "c", "expected Literal"),
        ("int", "x" * 500, r"got 'x+\.\.\.,"),
    ],
)
def test_refused_values(kind: str, text: str, words: str) -> None:
    """What does not fit is refused with the field, what was expected and, shortened, what came."""
    with pytest.raises(ParseError, match=words) as caught:
        parse_value(Field("x", parse_type(kind)), text, "here")
    assert (caught.value.field, caught.value.expected) == ("x", str(parse_type(kind)))
    assert len(caught.value.got) <= 100


@pytest.mark.parametrize("value", [object(), b"\xff", {"a": object()}])
def test_a_value_that_json_cannot_carry(value: Any) -> None:
    """A foreign object in an ``Any`` field is refused when the prompt is written."""
    with pytest.raises(SignatureError, match="JSON can carry"):
        value_text(Field("x", FieldType("Any")), value)


def test_a_value_that_holds_itself() -> None:
    """A list that holds itself is refused, not followed for ever."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SignatureError, match="JSON can carry"):
        value_text(Field("x", FieldType("Any")), loop)
