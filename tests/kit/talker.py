"""For tests of streamed predictions: a provider that talks in pieces, and what is told of executions' ends."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import dspex
from kit.http_server import Exchange, completion
from kit.providers import events

Then = Literal["end", "hang", "cut", "wait"]
_ENDS = (("dspex", "module", "stop"), ("dspex", "module", "exception"))
DONE = "\n\n[[ ## completed ## ]]"


def section(field: str) -> str:
    """The marker before a field's text."""
    return f"[[ ## {field} ## ]]\n"


ANSWER = (section("answer"), "Oslo", " is", " the", " capital", DONE)
"""The pieces of an answer with one field."""
TEXT = "Oslo is the capital"


class Talker:
    """A provider that talks in pieces, or says the whole at once if no stream is asked for.

    Args:
        pieces: of its text.
        then: what comes after them: the ``end``, nothing (``hang``, until the client closes), a connection that is
            closed too early (``cut``), or, once ``go`` is set, the end (``wait``).
        usage: tokens in and out that it tells of.

    Attributes:
        go: see ``wait``.
        said: set once the last piece was sent.
    """

    def __init__(self, pieces: Iterable[str] = ANSWER, then: Then = "end", usage: tuple[int, int] = (11, 3)) -> None:
        self.pieces = tuple(pieces)
        self.then = then
        self.usage = usage
        self.go = threading.Event()
        self.said = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        """Talk."""
        if not exchange.request.json().get("stream"):
            exchange.reply(200, completion("".join(self.pieces)))
            return
        told = events(*self.pieces, usage=self.usage)
        exchange.head()
        for event in told[: len(self.pieces)]:
            exchange.chunk(event)
        self.said.set()
        match self.then:
            case "hang":
                exchange.hang()
                return
            case "cut":
                exchange.close()
                return
            case "wait":
                self.go.wait(10)
            case "end":
                pass
        for event in told[len(self.pieces) :]:
            exchange.chunk(event)
        exchange.chunk(b"")


class Endings:
    """What telemetry told of the ends of executions, in order: None for a success, else the code."""

    def __init__(self) -> None:
        self.codes: list[str | None] = []
        self._grown = threading.Condition()

    def note(self, event: Any, measured: Any, metadata: Mapping[str, Any], config: Any) -> None:
        """A telemetry handler."""
        with self._grown:
            self.codes.append(metadata.get("code"))
            self._grown.notify_all()

    def after(self, count: int) -> list[str | None]:
        """What was told, once so many have ended."""
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.codes) >= count, 10), self.codes
            return list(self.codes)


@contextmanager
def endings(app: dspex.App) -> Iterator[Endings]:
    """Listen to an application's executions."""
    noted = Endings()
    app.engine.telemetry.attach_many("endings", _ENDS, noted.note)
    try:
        yield noted
    finally:
        app.engine.telemetry.detach("endings")
