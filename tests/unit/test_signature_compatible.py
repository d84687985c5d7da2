"""Whether one signature can follow another."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.actors.signatures.compatible import assignable
from dspex.actors.signatures.parse import parse_type
from dspex.actors.signatures.signature import Signature
from dspex.actors.signatures.types import FieldType
from dspex.runtime.errors import SignatureError

SEARCH = Signature("question -> passages: list[str], score: int")


def test_outputs_feed_inputs() -> None:
    """By name, by mapping, or given from elsewhere; the wiring is told."""
    assert SEARCH.feeds(Signature("passages: list[str] -> a")) == {"passages": "passages"}
    second = Signature("context: list[str] | None, weight: float, style -> a")
    wiring = SEARCH.feeds(second, {"context": "passages", "weight": "score"}, given=["style"])
    assert wiring == {"context": "passages", "weight": "score"}
    assert SEARCH.feeds(Signature("score: str -> a"), given=["score"]) == {}


@pytest.mark.parametrize(
    ("second", "options", "field", "words"),
    [
        ("passage: list[str] -> a", {}, "passage", "got only passages, score, .*did you mean 'passages'"),
        ("score: str -> a", {}, "score", "expected str, got int of the output 'score'.*at input 'score'"),
        ("x: float -> a", {"mapping": {"x": "scor"}}, "scor", "did you mean 'score'"),
        ("x: float -> a", {"mapping": {"y": "score"}}, "y", "an input of the second signature"),
        ("x: float -> a", {"given": ["z"]}, "z", "an input of the second signature"),
        ("x: int -> a", {"mapping": {"x": "passages"}}, "x", r"expected int, got list\[str\] of the output 'passages'"),
    ],
)
def test_refused_chains(second: str, options: dict[str, Any], field: str, words: str) -> None:
    """The error says which field, and both sides' types."""
    with pytest.raises(SignatureError, match=words) as caught:
        SEARCH.feeds(Signature(second), **options)
    assert caught.value.field == field


class Base:
    """A class."""


class Derived(Base):
    """A class below it."""


@pytest.mark.parametrize(
    ("source", "target", "fits"),
    [
        ("int", "float", True),
        ("float", "int", False),
        ("bool", "int", False),
        ("int", "str", False),
        ("Any", "str", False),
        ("str", "Any", True),
        ("int | None", "int", False),
        ("int", "str | int", True),
        ("Literal['a', 1]", "str | int", True),
        ("Literal['a', 1]", "str", False),
        ("Literal['a']", "Literal['a', 'b']", True),
        ("str", "Literal['a']", False),
        ("list[int]", "list[float]", True),
        ("list", "list[str]", False),
        ("list[str]", "list", True),
        ("dict[int, str]", "dict", False),
        ("tuple[int, int]", "tuple[int, ...]", True),
        ("tuple[int, ...]", "tuple[int, int]", False),
        ("tuple[int, str]", "tuple[int]", False),
        ("tuple[int]", "list[int]", False),
    ],
)
def test_assignable(source: str, target: str, fits: bool) -> None:
    """As inputs are checked: strictly, and element by element."""
    assert assignable(parse_type(source), parse_type(target)) is fits


def test_classes_go_where_their_base_goes() -> None:
    """A class below another is one of its values."""
    base, derived = FieldType("Class", cls=Base), FieldType("Class", cls=Derived)
    assert assignable(derived, base)
    assert not assignable(base, derived)
