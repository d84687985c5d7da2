"""The class form of signatures, constraints in both forms, and classes as types."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Optional, cast

import pytest
from pydantic import BaseModel

from dspex.actors.signatures.class_form import InputField, OutputField, type_of
from dspex.actors.signatures.constraints import Constraints
from dspex.actors.signatures.field import Field
from dspex.actors.signatures.parse import parse_type
from dspex.actors.signatures.signature import Signature, SignatureMeta
from dspex.actors.signatures.types import FieldType
from dspex.actors.signatures.values import check_inputs
from dspex.runtime.errors import SignatureError

HERE = __name__


class Colour(Enum):
    """Texts by name."""

    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    """One line of an order."""

    name: str
    total: float = 1.0


class Order(BaseModel):
    """An order."""

    lines: list[Line]
    note: str | None = None


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: int


class QA(Signature):
    """Answer from
    the context.
    """

    question: str = InputField(desc="What is asked.", min_length=1)
    context: list[str] = InputField()
    answer: float = OutputField(desc="How sure.", ge=0, le=1)
    order: Order = OutputField()
    colour: Optional[Colour] = OutputField()  # noqa: UP045 - the older spelling means the same
    mood: str | None = OutputField(choices=["good", "bad"])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the classes of this module reachable by name, as those of an installed module are."""
    module = cast("Any", pytest.importorskip("types")).ModuleType("order_book")
    for cls in (Colour, Line, Order, Point):
        monkeypatch.setattr(cls, "__module__", "order_book")
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(__import__("sys").modules, "order_book", module)


def test_a_class_is_a_signature() -> None:
    """A class statement makes a value: fields in order, types, descriptions, constraints, docstring as instructions."""
    made = Signature(QA)
    same: Any = QA
    assert isinstance(same, Signature)
    assert made == same
    assert made.input_names == ("question", "context")
    assert made.instructions == "Answer from\nthe context."
    assert [field.label for field in made.outputs] == [
        "float, at least 0, at most 1",
        "Order",
        "Colour | None",
        'Literal["good", "bad"] | None',
    ]
    assert made.fields["question"] == Field(
        "question", description="What is asked.", constraints=Constraints(min_length=1)
    )


def test_the_class_form_equals_the_string_form() -> None:
    """Both forms give equal values; the whole text of one gives the other."""
    text = (
        'question (min_length=1, desc="What is asked."), context: list[str] -> answer: float (ge=0, le=1, '
        'desc="How sure."), order: Class["order_book:Order"], colour: Class["order_book:Colour"] | None, '
        'mood: Literal["good", "bad"] | None'
    )
    made = Signature(QA)
    assert made.text == text
    assert Signature(text, "Answer from\nthe context.") == made
    assert "desc" not in str(made)


def test_a_class_form_pickles_by_value() -> None:
    """Pickle and JSON keep it, also if its class stood in a function."""

    class Local(Signature):
        question: str = InputField()
        point: Point = OutputField()

    for signature in (Signature(Local), Signature(QA)):
        assert pickle.loads(pickle.dumps(signature)) == signature
        assert Signature.from_json(signature.to_json()) == signature
        assert hash(pickle.loads(pickle.dumps(signature))) == hash(signature)


def test_json_tells_the_schemas_of_classes() -> None:
    """Classes are written by name, with their JSON schema beside for other readers."""
    data = json.loads(Signature(QA).to_json())
    assert data["outputs"][1]["type"] == 'Class["order_book:Order"]'
    assert data["schemas"]["order_book:Order"]["properties"]["lines"]["type"] == "array"
    assert data["schemas"]["order_book:Colour"]["enum"] == ["red", "blue"]
    assert data["outputs"][0]["constraints"] == {"ge": 0, "le": 1}


def test_a_class_that_nobody_can_import_is_refused_in_json() -> None:
    """A model made in a function works here, and cannot be written."""

    class Inside(BaseModel):
        x: int

    class Local(Signature):
        answer: Inside = OutputField()

    signature = Signature(Local)
    assert signature.outputs[0].label == "Inside"
    with pytest.raises(SignatureError, match=r"others can import it, got .*Inside"):
        signature.to_json()


def test_a_class_below_a_signature_has_its_fields() -> None:
    """Fields are added behind, or replaced in their place; instructions are the parent's unless it has its own."""

    class More(QA):
        why: str = OutputField()
        answer: int = OutputField()  # pyright: ignore[reportIncompatibleVariableOverride]

    more = Signature(More)
    assert more.output_names == ("answer", "order", "colour", "mood", "why")
    assert str(more.fields["answer"].type) == "int"
    assert more.instructions == "Answer from\nthe context."


def test_a_mark_without_annotation_is_text() -> None:
    """A field that says nothing of its type is a text."""

    class Short(Signature):
        question = InputField()
        answer = OutputField()

    assert Signature(Short) == Signature("question -> answer")


def test_a_class_that_json_cannot_carry_is_refused() -> None:
    """A model that holds a function has no schema: that is told where the signature is made."""

    class Odd(BaseModel):
        call: Callable[[int], int]

    with pytest.raises(SignatureError, match=r"a class whose values JSON can carry, got Odd: Cannot generate"):
        bad_class(a=(Odd, OutputField()))


def bad_class(**body: Any) -> Any:
    """A class statement with this body."""
    notes = {key: value[0] for key, value in body.items() if isinstance(value, tuple)}
    marks = {key: value[1] if isinstance(value, tuple) else value for key, value in body.items()}
    return SignatureMeta("Bad", (Signature,), {**marks, "__annotations__": notes, "__module__": HERE})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"a": 5}, "expected InputField.* got int, at Bad.a"),
        ({"a": lambda self: None}, "got function, at Bad.a"),
        ({"a": (int, OutputField(min_length=1))}, "min_length of a type that it fits .*, not of int"),
        ({"a": (str, OutputField(pattern="("))}, "a regular expression"),
        ({"a": (str, OutputField(choices=[1]))}, "choices of the field's type"),
        ({"a": (list[str], OutputField(choices=["a"]))}, "choices of the field's type"),
        ({"a": (float, OutputField(ge=2, le=1))}, "an upper bound that is not below 2"),
        ({"a": (str, OutputField(min_length=2, max_length=1))}, "not below the min_length 2"),
        ({"a": (float, OutputField(ge=float("nan")))}, "a finite number"),
        ({"a": (set[int], OutputField())}, "expected a type out of .*, got set.*in Bad.a"),
        ({"a": (bytes, OutputField())}, "a pydantic model, a dataclass or an Enum, got bytes"),
        ({"a": (dict[Order, int], OutputField())}, "a dict with keys of"),
        ({"a": (Literal[b"x"], OutputField())}, "texts, whole numbers"),
        ({"a": ("Nowhere", OutputField())}, "annotations that can be resolved .*Nowhere"),
        ({"q": (str, InputField())}, "at least one output"),
        ({"class": (str, OutputField())}, "keyword"),
    ],
)
def test_refused_classes(body: dict[str, Any], words: str) -> None:
    """What is no field, and a field that cannot be, are refused where the class stands."""
    with pytest.raises(SignatureError, match=words):
        bad_class(**body)


def test_an_annotation_without_a_mark_is_refused() -> None:
    """``answer: str`` alone does not say which side it is on."""
    with pytest.raises(SignatureError, match=r"got nothing, at Bad.answer"):
        SignatureMeta("Bad", (Signature,), {"__annotations__": {"answer": str}, "__module__": HERE})


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (list[int], "list[int]"),
        (list, "list"),
        (tuple[int, ...], "tuple[int, ...]"),
        (dict[str, list[float]], "dict[str, list[float]]"),
        (Optional[int], "int | None"),  # noqa: UP045
        (Literal["a", 1, True], 'Literal["a", 1, True]'),
        (Any, "Any"),
        (None, "None"),
    ],
)
def test_annotations(annotation: Any, text: str) -> None:
    """An annotation is the type of the same text."""
    assert type_of(annotation) == parse_type(text)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("q -> a: float (gee=1)", 15, "did you mean 'ge'"),
        ("q -> a: float (ge=1, ge=2)", 21, "each once"),
        ("q -> a: float (ge 1)", 18, "'=' after ge"),
        ("q -> a: float (ge=x)", 18, "a number or a quoted text"),
        ("q -> a: float (ge='x')", 18, "a finite number"),
        ("q -> a: str (ge=1)", 16, "ge of a type that it fits"),
        ("q -> a (pattern='(')", 16, "a regular expression"),
        ("q -> a (desc=1)", 13, "a quoted text as desc"),
        ("q -> a: float (ge=1", 19, r"',' or '\)'"),
        ("q -> a: float (choices='x')", 15, r"write Literal\[...\]"),
        ("q -> a: float ()", 15, "one of the options"),
        ("q -> a: Class['nowhere:X']", 14, "a class that can be imported"),
        ("q -> a: Class['os:path']", 14, "a pydantic model, a dataclass or an Enum"),
        ("q -> a: Class[x]", 14, "a quoted module:Class"),
        ("q -> a: Class['a b:c']", 14, "module:Class"),
    ],
)
def test_refused_options(text: str, position: int, words: str) -> None:
    """A malformed option or class is refused with its position."""
    with pytest.raises(SignatureError, match=words) as caught:
        Signature(text)
    assert caught.value.position == position


def test_options_in_text_round_trip() -> None:
    """Constraints stand in the canonical text."""
    text = r'n: int (gt=-1, lt=1e+300), s (pattern="^a\\d$", max_length=3) -> a: list[str] | None (min_length=1)'
    signature = Signature(text)
    assert Signature(str(signature)) == signature
    assert signature.fields["s"].constraints == Constraints(pattern=r"^a\d$", max_length=3)
    assert Signature.from_json(signature.to_json()) == signature


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("x: int (ge=0, lt=3)", [0, 2], [-1, 3]),
        ("x: float | None (gt=0)", [None, 0.5], [0]),
        ("x (min_length=2, max_length=3)", ["ab"], ["a", "abcd"]),
        ("x: list[int] (max_length=1)", [[], [1]], [[1, 2]]),
        ('x (pattern="^a")', ["ab"], ["ba"]),
    ],
)
def test_constraints_hold(field: str, good: list[Any], bad: list[Any]) -> None:
    """Inputs are held to them, and the error says what was expected."""
    signature = Signature(f"{field} -> a")
    for value in good:
        assert check_inputs(signature, {"x": value}) == {"x": value}
    for value in bad:
        with pytest.raises(SignatureError) as caught:
            check_inputs(signature, {"x": value})
        assert signature.inputs[0].constraints.words in str(caught.value)


def test_inputs_of_classes_are_instances_or_their_json() -> None:
    """A model goes in as a model, or as the table that it is in a file; both come out as the model."""
    signature = Signature("o: Class['order_book:Order'], c: Class['order_book:Colour'] -> a")
    given = {"o": Order(lines=[]), "c": Colour.RED}
    assert check_inputs(signature, given) == given
    assert check_inputs(signature, {"o": {"lines": []}, "c": "red"}) == given
    for wrong in ({"c": "pink"}, {"o": {"lines": 5}}):
        with pytest.raises(SignatureError, match=f"at input '{next(iter(wrong))}'"):
            check_inputs(signature, {**given, **wrong})


def test_types_of_classes_are_values() -> None:
    """A class is equal to itself, prints, and knows its values if it is an Enum."""
    kind = parse_type('Class["order_book:Colour"]')
    assert kind == FieldType("Class", cls=Colour)
    assert kind.values == ("red", "blue")
    assert parse_type(str(kind)) == kind


def test_a_changed_field_keeps_or_changes_its_constraints() -> None:
    """An update keeps the constraints unless it brings others; a type that they do not fit is refused."""
    base = Signature("q -> a: int (ge=0)")
    assert base.with_updated_field("a", type="float").outputs[0].constraints == Constraints(ge=0)
    assert base.with_updated_field("a", constraints=Constraints()).outputs[0] == Field("a", parse_type("int"))
    with pytest.raises(SignatureError, match="ge of a type"):
        base.with_updated_field("a", type="str")
