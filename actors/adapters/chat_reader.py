"""Reads a chat answer while it is written: the text of each output field as it grows.

What is given piece by piece is, joined, exactly the text that the whole answer's section has. So text is kept back
while it may still turn out to be a marker, blank space before one, or an escape; an answer without markers, or in a
fence, is given at its end.
"""

from __future__ import annotations

import re
from typing import Final

from ...runtime.errors import ParseError
from ..signatures.signature import Signature
from .backlog import Backlog
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
        self._backlog = Backlog()
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
        return self._go_on(self._backlog.add(text, len(self._rest) + len(self._held)))

    def close(self) -> list[tuple[str, str]]:
        """The answer is at its end."""
        pairs = self._go_on(self._backlog.rest())
        if not self._seen:
            try:
                found = read_sections(self._signature, "".join(self._whole))
            except ParseError:
                return []  # the whole answer is refused with reasons
            return [(name, unescape(body)) for name, (body, _) in found.items() if body]
        if self._rest and not MARKER.match(self._rest):
            pairs += self._text(self._rest)
        self._rest = ""
        return pairs + self._flush()

    def _go_on(self, text: str) -> list[tuple[str, str]]:
        if self._fenced or not text:
            return []
        self._rest += text
        if self._fenced is None:
            beginning = self._rest[: len(self._rest) - len(self._rest.lstrip()) + 3].lstrip()
            if len(beginning) == 3 or not "```".startswith(beginning):
                self._fenced = beginning == "```"
        return self._read() if self._fenced is False else []

    def _read(self) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        rest, at, start = self._rest, 0, 0
        while at < len(rest):
            if self._line_start:
                marker = _WHOLE.match(rest, at)
                if marker is not None:
                    pairs += self._text(rest[start:at])
                    pairs += self._open(marker[1])
                    at = start = marker.end()
                    self._line_start = False
                    continue
                if _MAY_BE_MARKER.fullmatch(rest, at) or MARKER.match(rest, at):
                    break
            newline = rest.find("\n", at)
            self._line_start = newline >= 0
            at = newline + 1 if newline >= 0 else len(rest)
        pairs += self._text(rest[start:at])
        self._rest = rest[at:]
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
        if self._field is None or not text:
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
