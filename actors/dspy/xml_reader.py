"""Reads an answer in the form of DSPy's ``XMLAdapter`` while it is written: ``<answer>Paris</answer>``."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

_OPENING: Final = re.compile(r"<(\w+)>")


class XmlFieldReader:
    """One answer on its way; a :class:`~..adapter.FieldReader`. What is given is, joined, the field without the blank
    space around it.

    Args:
        names: of the outputs.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._seen: set[str] = set()
        self._rest = ""
        self._field: str | None = None
        self._started = False  # the field has text already: blank space before it is dropped

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Read further text; (field, text) pairs that it brings."""
        self._rest += text
        pairs: list[tuple[str, str]] = []
        while True:
            if self._field is None:
                opening = _OPENING.search(self._rest)
                if opening is None:
                    return pairs
                self._rest = self._rest[opening.end() :]
                if opening[1] in self._names and opening[1] not in self._seen:
                    self._field, self._started = opening[1], False
                    self._seen.add(opening[1])
                continue
            body, closing, rest = self._rest.partition(f"</{self._field}>")
            pairs += self._given(body, whole=bool(closing))
            if not closing:
                return pairs
            self._rest, self._field = rest, None

    def close(self) -> list[tuple[str, str]]:
        """The answer is at its end: a field without its closing mark is none."""
        return []

    def _given(self, body: str, *, whole: bool) -> list[tuple[str, str]]:
        assert self._field is not None
        if not self._started:
            body = body.lstrip()
        ready = body.rstrip() if whole else body[: _certain(body, f"</{self._field}>")]
        self._rest = body[len(ready) :]
        if not ready:
            return []
        self._started = True
        return [(self._field, ready)]


def _certain(body: str, closing: str) -> int:
    """How much of a text can be no part of the closing mark, nor blank space before it."""
    half = next((size for size in range(len(closing) - 1, 0, -1) if body.endswith(closing[:size])), 0)
    return len(body[: len(body) - half].rstrip())
