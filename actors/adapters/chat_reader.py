"""Reads a chat answer while it is written: the text of each output field as it grows.

What is given piece by piece is, joined, exactly the text that the whole answer's section has. So text is kept back
while it may still turn out to be a marker, blank space before one, or an escape; an answer without markers, or in a
fence, is given at its end.
"""

from __future__ import annotations

import re
from typing import Final

from ...runtime.errors import ParseError
from ..signature import Signature
from .chat_marks import MARKER, read_sections, unescape

# The beginnings of a line that may still become a marker.
_MAY_BE_MARKER: Final = re.compile(
    r"[ \t]*\*{0,2}(?:\[(?:\[[ \t]*(?:#(?:#[ \t]*(?:\w+[ \t]*(?:#(?:#[ \t]*\]?)?)?)?)?)?)?)?"
)
# A marker whose bold end, if it has one, is there.
_WHOLE: Final = re.compile(MARKER.pattern + r"(?=[^*]|\*[^*])", re.MULTILINE)
# The end of a text that may still become an escape.
_MAY_BE_ESCAPE: Final = re.compile(r"\[(?:\[\s*(?:\\+#?)?)?\Z")


class ChatFieldReader:
    """One answer on its way.

    Args:
        signature: whose outputs are read.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._whole: list[str] = []
        self._rest = ""  # not looked at yet
        self._field: str | None = None  # whose text it is
        self._seen: set[str] = set()
        self._started = False  # the field has text already: blank space before it is dropped
        self._line_start = True
        self._held = ""  # blank space or half an escape, given only if text follows
        self._fenced: bool | None = None

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Read further text; (field, text) pairs that it brings."""
        self._whole.append(text)
        if self._fenced is None:
            beginning = "".join(self._whole).lstrip()
            if len(beginning) < 3:
                if beginning and not "```".startswith(beginning):
                    self._fenced = False
            else:
                self._fenced = beginning.startswith("```")
        self._rest += text
        if self._fenced is not False:
            return []
        return self._read()

    def close(self) -> list[tuple[str, str]]:
        """The answer is at its end."""
        if not self._seen:
            try:
                found = read_sections(self._signature, "".join(self._whole))
            except ParseError:
                return []  # the whole answer is refused with reasons
            return [(name, unescape(body)) for name, (body, _) in found.items() if body]
        pairs = self._read()
        if self._rest and not MARKER.match(self._rest):
            pairs += self._text(self._rest)
        self._rest = ""
        return pairs + self._flush()

    def _read(self) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        while self._rest:
            if self._line_start:
                marker = _WHOLE.match(self._rest)
                if marker is not None:
                    pairs += self._open(marker[1])
                    self._rest = self._rest[marker.end() :]
                    self._line_start = False
                    continue
                if _MAY_BE_MARKER.fullmatch(self._rest) or MARKER.match(self._rest):
                    break
            line, newline, _ = self._rest.partition("\n")
            part = line + newline
            self._rest = self._rest[len(part) :]
            self._line_start = bool(newline)
            pairs += self._text(part)
        return pairs

    def _open(self, name: str) -> list[tuple[str, str]]:
        """Another section begins; what was kept back of the one before turned out to be text."""
        pairs = self._flush()
        fresh = name in self._signature.output_names and name not in self._seen
        self._field = name if fresh else None
        if fresh:
            self._seen.add(name)
        self._started = False
        return pairs

    def _flush(self) -> list[tuple[str, str]]:
        held, self._held = self._held.rstrip(), ""
        return [(self._field, unescape(held))] if held and self._field else []

    def _text(self, text: str) -> list[tuple[str, str]]:
        if self._field is None:
            return []
        text = self._held + text
        if not self._started:
            text = text.lstrip()
        body = text.rstrip()
        half = _MAY_BE_ESCAPE.search(body)
        given = body[: half.start()].rstrip() if half else body
        self._held = text[len(given) :]
        if not given:
            return []
        self._started = True
        return [(self._field, unescape(given))]
