"""The tokens of a signature's text, and how a wrong one is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from ...runtime.errors import SignatureError

MAX_TEXT: Final = 20_000

_TOKEN: Final = re.compile(
    r"""
    (?P<arrow>->) | (?P<dots>\.\.\.) | (?P<number>-?\d+\b(?!\.\d)) | (?P<name>[^\W\d]\w*)
    | (?P<float>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\b)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*') | (?P<mark>[,:|\[\]()=]) | (?P<wrong>\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"""\\.|["]""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the text, what kind it is and where it stands."""

    kind: str
    text: str
    position: int

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else repr(self.text[:60])


class Tokens:
    """A text, token by token; what does not fit is refused with its place.

    Args:
        text: at most ``MAX_TEXT`` characters.

    Raises:
        SignatureError: it is no text, or longer.
    """

    def __init__(self, text: str) -> None:
        self.text = _text(text)
        if len(text) > MAX_TEXT:
            expected = f"at most {MAX_TEXT} characters"
            got = str(len(text))
            raise SignatureError(
                f"expected {expected}, got {got}, as signature", position=MAX_TEXT, expected=expected, got=got
            )
        self.tokens = [Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(text)]
        self.tokens.append(Token("end", "", len(text)))
        self.index = 0

    @property
    def here(self) -> Token:
        """The next token."""
        return self.tokens[self.index]

    def take(self) -> Token:
        """The next token, passed."""
        token = self.here
        self.index += token.kind != "end"
        return token

    def accept(self, text: str) -> bool:
        """Pass a token if it is this one."""
        # A quoted "," is a text, never a comma.
        found = self.here.text == text and self.here.kind not in {"text", "end"}
        self.index += found
        return found

    def expect(self, text: str, expected: str) -> None:
        """Pass this token, or refuse what stands there."""
        if not self.accept(text):
            self.fail(expected, self.here)

    def expect_end(self, expected: str) -> None:
        """Refuse whatever still stands there."""
        if self.here.kind != "end":
            self.fail(expected, self.here)

    def fail(self, expected: str, at: Token, hint: str = "") -> NoReturn:
        """Refuse a token.

        Raises:
            SignatureError: always, with the place and a caret below it.
        """
        raise SignatureError(
            f"expected {expected}, got {at}, at position {at.position} of the signature{hint}\n"
            f"{_caret(self.text, at.position)}",
            text=self.text,
            position=at.position,
            expected=expected,
            got=at.text,
        )

    def unquote(self, token: Token) -> str:
        """The text that a quoted one stands for."""

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
    got = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    expected = "a text or a class below dspex.Signature"
    raise SignatureError(f"expected {expected}, got {got}, as signature", position=0, expected=expected, got=got)


def _caret(text: str, position: int) -> str:
    """The line around ``position``, cut to what fits, and a caret below it."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)].replace("\t", " ")
    column = position - start
    cut = max(0, column - 60)
    return f"    {line[cut : cut + 100]}\n    {' ' * (column - cut)}^"
