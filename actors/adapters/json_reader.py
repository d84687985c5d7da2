"""Finds an answer in a model's text and reads it while it is written: the outputs, as members of one JSON object.

*Which object.* The first one that has a member named as an output is the answer; from that member on the choice
stands. Objects without one, and what only looked like an object, are passed over, with all prose and fences.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ..json_values import json_text
from ..signatures.signature import Signature
from .backlog import Backlog
from .json_text import JsonText, Step, WrongJsonError, same

MAX_STARTS: Final = 32
"""How often a brace may look like the beginning of the answer and be none."""


@dataclass(frozen=True, slots=True)
class Member:
    """A value of the answer.

    Attributes:
        value: the JSON value.
        text: a text's own characters; the JSON of anything else, as it stands in the answer.
        place: where it begins, in characters.
    """

    value: Any
    text: str
    place: int


class AnswerReader:
    """One answer on its way; a ``FieldReader``, and the reader of whole answers too.

    Args:
        names: of the outputs.

    Attributes:
        found: the outputs that were read to their end.
        others: names of members that are no outputs.
        wrong: why the answer cannot be read, once that is certain.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.found: dict[str, Member] = {}
        self.others: list[str] = []
        self.wrong: WrongJsonError | None = None
        self._names = names
        self._seen: set[str] = set()
        self._half = ""
        self._text = JsonText()
        self._backlog = Backlog()
        self._pairs: list[tuple[str, str]] = []
        self._work: Step[None] | None = self._answer()

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Read further text; the (field, text) pairs that it brings."""
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] < "\udc00" else ""
        # Halves of surrogate pairs may come apart; such as stay alone are no text.
        if self._work is not None:
            self._go_on(self._backlog.add(json_text(text.removesuffix(self._half)), self._text.kept))
        return self._given()

    def close(self) -> list[tuple[str, str]]:
        """The answer is at its end."""
        if self._work is not None:
            self._text.ended = True
            self._go_on(self._backlog.rest())
        return self._given()

    def _given(self) -> list[tuple[str, str]]:
        pairs, self._pairs = self._pairs, []
        return pairs

    def _go_on(self, text: str) -> None:
        assert self._work is not None
        if not text and not self._text.ended:
            return
        self._text.add(text)
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        except WrongJsonError as error:
            self.wrong, self._work = error, None

    def _answer(self) -> Step[None]:
        text, wrong = self._text, None
        for _ in range(MAX_STARTS):
            if not (yield from text.seek("{")):
                break
            start = text.at
            text.keep(start)
            try:
                yield from self._object()
            except WrongJsonError as error:
                if self._seen:
                    raise
                # No object, or not the answer: look for it behind this brace.
                wrong, text.at = wrong or error, start + 1
                continue
            if self._seen:
                return
        if wrong is not None and not self.others:
            raise wrong

    def _object(self) -> Step[None]:
        text, others = self._text, list[str]()
        text.at += 1
        while (name := (yield from text.name())) is not None:
            if name in self._names:
                self._seen.add(name)
                yield from self._output(name)
            else:
                others.append(name[:40])
                yield from text.value(1)
            yield from text.comma("}")
        self.others += others

    def _output(self, name: str) -> Step[None]:
        text = self._text
        yield from text.blanks()
        start, fresh = text.at, name not in self.found
        if (yield from text.peek()) in ("'", '"'):
            text.keep(None)
            value: Any = yield from text.quoted(partial(self._hear, name) if fresh else None)
            raw = value
        else:
            text.keep(start)
            value = yield from text.value(1)
            raw = text.raw(start)
            if fresh:
                self._pairs.append((name, raw))
        if not fresh and not same(self.found[name].value, value):
            text.wrong(f"the key {name!r} once", "another value for it", start)
        if fresh:
            self.found[name] = Member(value, raw, start)
        text.keep(None)

    def _hear(self, name: str, piece: str) -> None:
        self._pairs.append((name, piece))


class JsonFieldReader(AnswerReader):
    """One answer on its way.

    Args:
        signature: whose outputs are read.
    """

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature.output_names)


def read_answer(names: Collection[str], text: str) -> tuple[Mapping[str, Member], list[str]]:
    """The outputs in a whole answer, and the names of other members that were met.

    Raises:
        WrongJsonError: there is JSON, and it is broken.
    """
    reader = AnswerReader(names)
    reader.feed(text)
    reader.close()
    if reader.wrong is not None:
        raise reader.wrong
    return reader.found, reader.others
