"""JSON as models write it, read while it comes: a push parser.

It takes, beyond JSON: commas before a closing bracket, comments (``//``, ``/* */``), texts in single quotes and line
breaks in them, names without quotes, ``True``, ``False`` and ``None``. It guesses nothing: what is cut off, a number
too large to hold, NaN, an unknown escape or half of a surrogate pair is refused with its place.

The parser's steps are generators that pause where text is missing, so that one parser reads an answer whole or in
pieces, and cannot read the two differently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

T = TypeVar("T")
Step: TypeAlias = Generator[None, None, T]

MAX_DEPTH: Final = 100
MAX_DIGITS: Final = 1000

_BLANKS: Final = re.compile(r"\s*")
_PLAIN: Final[dict[str, re.Pattern[str]]] = {quote: re.compile(rf"[^{quote}\\]*") for quote in "\"'"}
_WORD: Final = re.compile(r"[^\s,:\[\]{}\"'/]*")
_NAME: Final = re.compile(r"\w+")
_WHOLE: Final = re.compile(r"-?[0-9]+")
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS: Final[dict[str, bool | None]] = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
}
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "/": "/", "\\": "\\"}


class WrongJsonError(Exception):
    """The text is not JSON, not even nearly: ``expected`` should stand there, ``got`` does, at character ``place``."""

    def __init__(self, expected: str, got: str, place: int) -> None:
        super().__init__(f"expected {expected}, got {got}, at character {place}")
        self.expected, self.got, self.place = expected, got, place


class JsonText:
    """A text on its way, and the steps that read it from the front.

    Attributes:
        at: how far it is read, in characters from the start of the text.
        ended: whether all of it is there.
    """

    def __init__(self) -> None:
        self.at = 0
        self.ended = False
        self._text = ""
        self._base = 0  # the place of the first character that is kept
        self._kept: int | None = None

    def add(self, text: str) -> None:
        """Further text. What was read is forgotten, up to the place that :meth:`keep` named."""
        start = len(self._text) - self.kept
        self._text = self._text[start:] + text
        self._base += start

    @property
    def kept(self) -> int:
        """How many characters are not forgotten."""
        start = self.at if self._kept is None else min(self._kept, self.at)
        return len(self._text) - (start - self._base)

    def keep(self, place: int | None) -> None:
        """Forget nothing from here on; None: nothing is needed any more."""
        self._kept = place

    def raw(self, start: int) -> str:
        """What was read since ``start``, a place that was kept."""
        return self._text[start - self._base : self.at - self._base]

    def wrong(self, expected: str, got: str | None = None, place: int | None = None) -> NoReturn:
        """Refuse what stands here, or ``got`` at ``place``."""
        if got is None:
            rest = self._text[self.at - self._base :][:20]
            got = repr(rest) if rest else "the end of the answer"
        raise WrongJsonError(expected, got, self.at if place is None else place)

    # -- steps -----------------------------------------------------------------------------------

    def peek(self) -> Step[str]:
        """The next character; empty at the end of the text."""
        while self.at - self._base >= len(self._text):
            if self.ended:
                return ""
            yield
        return self._text[self.at - self._base]

    def seek(self, char: str) -> Step[bool]:
        """Go to the next ``char``; False if there is none."""
        while True:
            found = self._text.find(char, self.at - self._base)
            if found >= 0:
                self.at = self._base + found
                return True
            self.at = self._base + len(self._text)
            if self.ended:
                return False
            yield

    def _while(self, pattern: re.Pattern[str]) -> Step[str]:
        """Pass what the pattern, which may match nothing, matches; whole, however it comes."""
        parts: list[str] = []
        while True:
            part = self._pass(pattern)
            parts.append(part)
            if self.ended or self.at - self._base < len(self._text):
                return "".join(parts)
            yield

    def _pass(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self.at - self._base)
        assert match is not None
        self.at += len(match[0])
        return match[0]

    def blanks(self) -> Step[None]:
        """Pass blank space and comments."""
        while True:
            yield from self._while(_BLANKS)
            if (yield from self.peek()) != "/":
                return
            yield from self._comment()

    def _comment(self) -> Step[None]:
        start = self.at
        self.at += 1
        kind = yield from self.peek()
        if kind not in ("/", "*"):
            self.wrong("a comment, // or /*", repr(f"/{kind}"), start)
        self.at += 1
        while (yield from self.seek("\n" if kind == "/" else "*")):
            self.at += 1
            if kind == "/" or (yield from self.peek()) == "/":
                self.at += kind == "*"
                return
        if kind == "*":
            self.wrong("the end of a comment, */")

    def value(self, depth: int) -> Step[Any]:
        """A value, with the blank space before it."""
        yield from self.blanks()
        char = yield from self.peek()
        if char in ("{", "["):
            if depth >= MAX_DEPTH:
                self.wrong(f"JSON nested at most {MAX_DEPTH} deep")
            return (yield from (self._object(depth + 1) if char == "{" else self._array(depth + 1)))
        if char and char in _PLAIN:
            return (yield from self.quoted())
        return (yield from self._word())

    def _word(self) -> Step[Any]:
        start = self.at
        word = yield from self._while(_WORD)
        if word in _WORDS:
            return _WORDS[word]
        if not _NUMBER.fullmatch(word):
            self.wrong("a JSON value", repr(word[:20]) if word else None, start)
        if len(word) > MAX_DIGITS:
            self.wrong(f"a number of at most {MAX_DIGITS} digits", f"one of {len(word)}", start)
        if _WHOLE.fullmatch(word):
            return int(word)
        number = float(word)
        if not math.isfinite(number):
            self.wrong("a number that a float can hold", word[:20], start)
        return number

    def _array(self, depth: int) -> Step[list[Any]]:
        found: list[Any] = []
        self.at += 1
        while True:
            yield from self.blanks()
            if (yield from self.peek()) == "]":
                self.at += 1
                return found
            found.append((yield from self.value(depth)))
            yield from self.comma("]")

    def _object(self, depth: int) -> Step[dict[str, Any]]:
        found: dict[str, Any] = {}
        self.at += 1
        while True:
            start = self.at
            name = yield from self.name()
            if name is None:
                return found
            value = yield from self.value(depth)
            if name in found and not same(found[name], value):
                self.wrong(f"the key {name[:40]!r} once", "another value for it", start)
            found[name] = value
            yield from self.comma("}")

    def name(self) -> Step[str | None]:
        """The name of an object's next member and its colon; None at the object's end."""
        yield from self.blanks()
        char = yield from self.peek()
        if char == "}":
            self.at += 1
            return None
        if char and char in _PLAIN:
            name = yield from self.quoted()
        else:
            start = self.at
            name = yield from self._while(_WORD)
            if not _NAME.fullmatch(name):
                self.at = start
                self.wrong("a name in quotes, or '}'", repr(name[:20]) if name else None)
        yield from self.blanks()
        if (yield from self.peek()) != ":":
            self.wrong("':' after a name")
        self.at += 1
        return name

    def comma(self, end: str) -> Step[None]:
        """Pass the comma between two members, if this was not the last."""
        yield from self.blanks()
        char = yield from self.peek()
        if char == ",":
            self.at += 1
        elif char != end:
            self.wrong(f"',' or '{end}'")

    def quoted(self, heard: Callable[[str], None] | None = None) -> Step[str]:
        """A text in quotes.

        Args:
            heard: is told of each piece as soon as it is certain.
        """
        quote = yield from self.peek()
        self.at += 1
        parts: list[str] = []
        while True:
            part = self._pass(_PLAIN[quote])
            if not part:
                char = yield from self.peek()
                if char == quote:
                    self.at += 1
                    return "".join(parts)
                if not char:
                    self.wrong("the end of a text, its closing quote")
                if char != "\\":
                    continue
                part = yield from self._escape()
            parts.append(part)
            if heard is not None:
                heard(part)

    def _escape(self) -> Step[str]:
        start = self.at
        self.at += 1
        char = yield from self.peek()
        self.at += 1
        if char == "u":
            code = yield from self._code(start)
            if 0xD800 <= code < 0xDC00:
                return (yield from self._pair(code, start))
            if 0xDC00 <= code < 0xE000:
                self.wrong("the first half of a surrogate pair before the second", f"\\u{code:04x}", start)
            return chr(code)
        if char not in _ESCAPES:
            self.at = start
            self.wrong("an escape of JSON", repr(f"\\{char}") if char else None)
        return _ESCAPES[char]

    def _code(self, start: int) -> Step[int]:
        digits = ""
        while len(digits) < 4:
            char = yield from self.peek()
            digits += char
            if not char or not re.match(r"[0-9a-fA-F]", char):
                self.wrong("four hexadecimal digits after \\u", repr(digits), start)
            self.at += 1
        return int(digits, 16)

    def _pair(self, high: int, start: int) -> Step[str]:
        for wanted in "\\u":
            if (yield from self.peek()) != wanted:
                self.wrong("the other half of a surrogate pair", None, start)
            self.at += 1
        low = yield from self._code(start)
        if not 0xDC00 <= low < 0xE000:
            self.wrong("the other half of a surrogate pair", f"\\u{low:04x}", start)
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def same(one: object, other: object) -> bool:
    """Whether two JSON values are one; ``1`` is not ``true``."""
    return repr(one) == repr(other)
