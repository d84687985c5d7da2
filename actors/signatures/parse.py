"""Signature text to fields: a small recursive-descent parser. Nothing is evaluated; only ``Class["module:Class"]``
imports the module that it names.

::

    signature := [fields] "->" fields
    fields    := field ("," field)*
    field     := NAME [":" type] ["(" option ("," option)* ")"]
    type      := atom ("|" atom)*
    atom      := NAME ["[" arguments "]"]        the names are those of types.py
    option    := NAME "=" value                  the names are those of constraints.py, and desc

Every error says what was expected, what came and where, with a caret below the place.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from dataclasses import dataclass
from typing import Final, cast

from ...runtime.errors import SignatureError, did_you_mean
from .classes import load_class
from .constraints import CONSTRAINTS, FREE, Constraints, constraint_problem
from .tokens import Token, Tokens
from .types import CONTAINERS, KEY_TYPES, NONE, SCALARS, STR, FieldType, literal_text, union

MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 1000

# The spellings of typing's older aliases mean the same.
_ALIASES: Final = {"List": "list", "Dict": "dict", "Tuple": "tuple"}
_TYPE_NAMES: Final = (*SCALARS, *CONTAINERS, "Literal", "Optional", "Union", "Class")
_OPTIONS: Final = (*CONSTRAINTS, "desc")


@dataclass(frozen=True, slots=True)
class ParsedField:
    """A field as it stands in the text."""

    name: str
    type: FieldType
    constraints: Constraints = FREE
    description: str = ""


def parse_signature(text: str) -> tuple[tuple[ParsedField, ...], tuple[ParsedField, ...]]:
    """Parse ``"question, context: list[str] -> answer: float"``.

    Returns:
        The input fields and the output fields, in order.

    Raises:
        SignatureError: the text is malformed (facts: text, position, expected, got).
    """
    return _Parser(text).signature()


def parse_type(text: str) -> FieldType:
    """Parse the text of one type, such as ``"list[str] | None"``.

    Raises:
        SignatureError: the text is malformed (facts: text, position, expected, got).
    """
    parser = _Parser(text)
    kind = parser.type(0)
    parser.expect_end("'|' or the end of the text")
    return kind


def name_problem(name: str) -> str | None:
    """What is wrong with a field's name, or None."""
    if not isinstance(cast("object", name), str):
        return "a field name as text"
    if keyword.iskeyword(name):
        return "a name that is not a Python keyword"
    if name.startswith("_"):
        return "a name that does not start with '_'"
    if not re.fullmatch(r"\w+", name) or not name.isidentifier() or unicodedata.normalize("NFKC", name) != name:
        return "a field name of letters, digits and '_'"
    return None


class _Parser(Tokens):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.names: set[str] = set()

    def signature(self) -> tuple[tuple[ParsedField, ...], tuple[ParsedField, ...]]:
        inputs = () if self.here.kind == "arrow" else self.fields("',' or '->'")
        self.expect("->", "',' or '->'" if inputs else "'->'")
        if self.here.kind == "end":
            self.fail("at least one output field after '->'", self.here)
        outputs = self.fields("',' or the end of the text")
        self.expect_end("',' or the end of the text")
        return inputs, outputs

    def fields(self, after: str) -> tuple[ParsedField, ...]:
        found = [self.field(after)]
        while self.accept(","):
            found.append(self.field(after))
        return tuple(found)

    def field(self, after: str) -> ParsedField:
        token = self.take()
        if token.kind != "name":
            self.fail("a field name", token)
        problem = name_problem(token.text)
        if problem:
            self.fail(problem, token)
        if token.text in self.names:
            self.fail("each field name once", token)
        self.names.add(token.text)
        typed = self.accept(":")
        kind = self.type(0) if typed else STR
        if self.accept("("):
            return self.options(token.text, kind)
        if not typed and self.here.kind not in {"arrow", "end"} and self.here.text != ",":
            self.fail(f"':' and a type, {after}", self.here)
        return ParsedField(token.text, kind)

    def options(self, name: str, kind: FieldType) -> ParsedField:
        values: dict[str, object] = {}
        places: dict[str, Token] = {}
        while not places or self.accept(","):
            token = self.take()
            if token.text not in _OPTIONS or token.text in places:
                hint = "; write Literal[...] for choices" if token.text == "choices" else ""
                hint = hint or did_you_mean(token.text, _OPTIONS)
                self.fail(f"one of the options {', '.join(_OPTIONS)}, each once", token, hint)
            self.expect("=", f"'=' after {token.text}")
            places[token.text] = self.here
            values[token.text] = self.option_value()
        self.expect(")", "',' or ')'")
        description = values.pop("desc", "")
        if not isinstance(description, str):
            self.fail("a quoted text as desc", places["desc"])
        wrong = constraint_problem(kind, values)
        if wrong:
            self.fail(wrong[1], places[wrong[0]])
        return ParsedField(name, kind, Constraints(**values), description)  # type: ignore[arg-type]

    def option_value(self) -> int | float | str:
        token = self.take()
        if token.kind == "text":
            return self.unquote(token)
        if token.kind in {"number", "float"} and len(token.text) <= MAX_DIGITS:
            return int(token.text) if token.kind == "number" else float(token.text)
        return self.fail("a number or a quoted text", token)

    def type(self, depth: int) -> FieldType:
        parts = [self.atom(depth)]
        while self.accept("|"):
            parts.append(self.atom(depth))
        return union(parts)

    def atom(self, depth: int) -> FieldType:
        token = self.take()
        if depth > MAX_DEPTH:
            self.fail(f"types nested at most {MAX_DEPTH} deep", token)
        name = _ALIASES.get(token.text, token.text)
        if token.kind != "name":
            self.fail("a type", token)
        if name in SCALARS:
            return FieldType(name)
        if name in CONTAINERS:
            return self.container(name, depth + 1)
        if name in {"Literal", "Optional", "Union", "Class"}:
            self.expect("[", f"'[' after {name}")
            if name == "Class":
                return self.cls()
            return self.literal() if name == "Literal" else self.union(name, token, depth + 1)
        return self.fail("a type", token, did_you_mean(token.text, _TYPE_NAMES))

    def union(self, name: str, at: Token, depth: int) -> FieldType:
        parts = [self.type(depth)]
        while self.accept(","):
            parts.append(self.type(depth))
        if name == "Optional":
            if len(parts) != 1:
                self.fail("one type in Optional[...]", at)
            parts.append(NONE)
        self.expect("]", "',' or ']'")
        return union(parts)

    def container(self, name: str, depth: int) -> FieldType:
        if not self.accept("["):
            return FieldType(name)
        first = self.here
        args, variadic = [self.type(depth)], False
        while self.accept(","):
            if name == "tuple" and len(args) == 1 and self.accept("..."):
                variadic = True
                break
            args.append(self.type(depth))
        if name == "list" and len(args) != 1:
            self.fail("one type in list[...]", first)
        if name == "dict" and len(args) != 2:
            self.fail("two types in dict[...]: of the keys and of the values", first)
        if name == "dict" and args[0].name not in KEY_TYPES:
            self.fail(f"a key type ({', '.join(KEY_TYPES)})", first)
        self.expect("]", "',' or ']'")
        return FieldType(name, tuple(args), variadic=variadic)

    def cls(self) -> FieldType:
        token = self.take()
        if token.kind != "text":
            self.fail("a quoted module:Class", token)
        try:
            kind = load_class(self.unquote(token))
        except SignatureError as error:
            self.fail(str(error.expected), token)
        self.expect("]", "']'")
        return kind

    def literal(self) -> FieldType:
        values = [self.literal_value()]
        while self.accept(","):
            values.append(self.literal_value())
        self.expect("]", "',' or ']'")
        return FieldType("Literal", literals=tuple(dict.fromkeys(values)))

    def literal_value(self) -> str:
        token = self.take()
        if token.kind == "number" and len(token.text) <= MAX_DIGITS:
            return literal_text(int(token.text))
        if token.kind == "text":
            return literal_text(self.unquote(token))
        if token.text in {"True", "False", "None"}:
            return token.text
        return self.fail("a quoted text, a whole number, True, False or None", token)
