"""Signature text to fields: a small recursive-descent parser; nothing is evaluated.

::

    signature := [fields] "->" fields
    fields    := field ("," field)*
    field     := NAME [":" type]
    type      := atom ("|" atom)*
    atom      := NAME ["[" arguments "]"]        the names are those of signature_types.py

Every error says what was expected, what came and where, with a caret below the place.
"""

from __future__ import annotations

import json
import keyword
import re
import unicodedata
from dataclasses import dataclass
from typing import Final, NoReturn

from ..runtime.errors import SignatureError, did_you_mean
from .signature_types import CONTAINERS, KEY_TYPES, NONE, SCALARS, STR, FieldType, literal_text, union

MAX_TEXT: Final = 20_000
MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 1000

# The spellings of typing's older aliases mean the same.
_ALIASES: Final = {"List": "list", "Dict": "dict", "Tuple": "tuple"}
_TYPE_NAMES: Final = (*SCALARS, *CONTAINERS, "Literal", "Optional", "Union")
_TOKEN: Final = re.compile(
    r"""
    (?P<arrow>->) | (?P<dots>\.\.\.) | (?P<number>-?\d+\b(?!\.\d)) | (?P<name>[^\W\d]\w*)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*') | (?P<mark>[,:|\[\]]) | (?P<wrong>\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"""\\.|["]""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ParsedField:
    """A field as it stands in the text."""

    name: str
    type: FieldType


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else repr(self.text[:60])


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
    if keyword.iskeyword(name):
        return "a name that is not a Python keyword"
    if name.startswith("_"):
        return "a name that does not start with '_'"
    if not re.fullmatch(r"\w+", name) or not name.isidentifier() or unicodedata.normalize("NFKC", name) != name:
        return "a field name of letters, digits and '_'"
    return None


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = _text(text)
        if len(text) > MAX_TEXT:
            expected = f"at most {MAX_TEXT} characters"
            got = str(len(text))
            raise SignatureError(
                f"expected {expected}, got {got}, as signature", position=MAX_TEXT, expected=expected, got=got
            )
        self.tokens = [_Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(text)]
        self.tokens.append(_Token("end", "", len(text)))
        self.index = 0
        self.names: set[str] = set()

    # -- tokens ----------------------------------------------------------------------------------

    @property
    def here(self) -> _Token:
        return self.tokens[self.index]

    def take(self) -> _Token:
        token = self.here
        self.index += token.kind != "end"
        return token

    def accept(self, text: str) -> bool:
        # A quoted "," is a text, never a comma.
        found = self.here.text == text and self.here.kind not in {"text", "end"}
        self.index += found
        return found

    def expect(self, text: str, expected: str) -> None:
        if not self.accept(text):
            self.fail(expected, self.here)

    def expect_end(self, expected: str) -> None:
        if self.here.kind != "end":
            self.fail(expected, self.here)

    def fail(self, expected: str, at: _Token, hint: str = "") -> NoReturn:
        raise SignatureError(
            f"expected {expected}, got {at}, at position {at.position} of the signature{hint}\n"
            f"{_caret(self.text, at.position)}",
            text=self.text,
            position=at.position,
            expected=expected,
            got=at.text,
        )

    # -- grammar ---------------------------------------------------------------------------------

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
        if self.accept(":"):
            return ParsedField(token.text, self.type(0))
        if self.here.kind not in {"arrow", "end"} and self.here.text != ",":
            self.fail(f"':' and a type, {after}", self.here)
        return ParsedField(token.text, STR)

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
        if name in {"Literal", "Optional", "Union"}:
            self.expect("[", f"'[' after {name}")
            return self.literal() if name == "Literal" else self.union(name, token, depth + 1)
        return self.fail("a type", token, did_you_mean(token.text, _TYPE_NAMES))

    def union(self, name: str, at: _Token, depth: int) -> FieldType:
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

    def unquote(self, token: _Token) -> str:
        # Both quotes mean what they mean in JSON, and \' is an apostrophe.
        def as_json(match: re.Match[str]) -> str:
            return {"\\'": "'", '"': '\\"'}.get(match[0], match[0])

        try:
            value: str = json.loads(f'"{_ESCAPE.sub(as_json, token.text[1:-1])}"', strict=False)
            value.encode()  # half of a surrogate pair is no text
        except ValueError:
            self.fail('a text with the escapes of JSON (\\" \\\\ \\n \\t \\u0041 ...)', token)
        return value


def _text(given: object) -> str:
    if isinstance(given, str):
        return given
    got = type(given).__name__
    raise SignatureError(f"expected a text, got {got}, as signature", position=0, expected="a text", got=got)


def _caret(text: str, position: int) -> str:
    """The line around ``position``, cut to what fits, and a caret below it."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)].replace("\t", " ")
    column = position - start
    cut = max(0, column - 60)
    return f"    {line[cut : cut + 100]}\n    {' ' * (column - cut)}^"
