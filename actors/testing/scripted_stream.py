"""Scripted answers given in pieces, as OpenAI's chat completions do: server-sent events, the last one ``[DONE]``."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ...runtime.errors import LMError
from ..http.transport import HttpResponse
from ..json_values import json_object
from ..lm.failures import lm_error

Pieces: TypeAlias = int | Sequence[str] | Callable[[str], Iterable[str]] | None
"""How a text is cut: into so many characters each; into these pieces; by a function; None: into words."""

EVENT_STREAM: Final = {"content-type": "text/event-stream"}
_WORD: Final = re.compile(r"\s*\S+(?:\s+\Z)?|\s+\Z")


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer that breaks off in the middle: its caller gets an ``LMProtocolError``.

    Args:
        after: seconds until it does.
        text: in a stream, what the answer would have been.
        after_pieces: in a stream, how many pieces of it come first.
        silent: in a stream, it ends there as if nothing were missing, but without its terminal event.
    """

    after: float = 0.0
    text: str = ""
    after_pieces: int = 0
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer at all, until the caller's time is up.

    Args:
        text: in a stream, what the answer would have been.
        after_pieces: in a stream, how many pieces of it come first; with 0 not even a head comes.
    """

    text: str = ""
    after_pieces: int = 0


def cut_text(text: str, pieces: Pieces) -> tuple[str, ...]:
    """Cut a text by a rule; the pieces together are the text.

    Raises:
        ValueError: given pieces are not the text, or a size is not positive.
    """
    match pieces:
        case None:
            cut = tuple(_WORD.findall(text))
        case int():
            if pieces < 1:
                raise ValueError(f"expected pieces of at least 1 character, got {pieces}")
            cut = tuple(text[start : start + pieces] for start in range(0, len(text), pieces))
        case _:
            cut = tuple(pieces(text) if callable(pieces) else pieces)
    if "".join(cut) != text:
        raise ValueError(f"expected pieces of the text {text!r}, got {cut!r}")
    return cut


@dataclass(frozen=True, slots=True)
class ScriptedEvents:
    """Server-sent events of one completion.

    Args:
        id, model: of the completion.
        body: the request's.
        pieces: of the text.
        usage: tokens in and out; told if the request asks for it.
        pause: seconds between two pieces.
        end: how it ends; None: well.
    """

    id: str
    model: str
    body: Mapping[str, Any]
    pieces: tuple[str, ...]
    usage: tuple[int, int]
    pause: float
    end: Cut | Hang | None = None

    async def play(self) -> AsyncGenerator[bytes, None]:
        """Each event as the bytes on the wire, at its time."""
        shown = self.pieces if self.end is None else self.pieces[: self.end.after_pieces]
        for number, piece in enumerate(shown):
            if number:
                await asyncio.sleep(self.pause)
            yield self._event(choices=[_choice({"content": piece})])
        match self.end:
            case Hang():
                await asyncio.Event().wait()
            case Cut(after, silent=silent):
                await asyncio.sleep(after)
                if not silent:
                    raise lm_error("protocol", "the answer was cut off")
            case None:
                for event in self._ending():
                    yield event

    def _ending(self) -> Iterator[bytes]:
        yield self._event(choices=[_choice({}, "stop")])
        into, out = self.usage
        if json_object(self.body.get("stream_options")).get("include_usage") is True:
            counts = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
            yield self._event(choices=[], usage=counts)
        yield b"data: [DONE]\n\n"

    def _event(self, **fields: Any) -> bytes:
        chunk = {"id": self.id, "object": "chat.completion.chunk", "model": self.model, **fields}
        return f"data: {json.dumps(chunk)}\n\n".encode()


def _choice(delta: Mapping[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


class ScriptedStream:
    """A :class:`~.http.transport.HttpStream` without a network.

    Args:
        head: status and headers.
        pieces: of the body, in order; may raise what ``read`` raises.
        on_given_up: told once if it is closed, or a read of it cancelled, before its end.
    """

    def __init__(
        self, head: HttpResponse, pieces: AsyncGenerator[bytes, None], on_given_up: Callable[[], None]
    ) -> None:
        self._head = head
        self._pieces = pieces
        self._on_given_up = on_given_up
        self._ended = self._closed = False
        self._reading: asyncio.Future[bytes] | None = None

    @property
    def head(self) -> HttpResponse:
        """Status and headers; its body is empty."""
        return self._head

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        if self._ended:
            return b""
        if self._closed:
            raise _closed()
        self._reading = asyncio.ensure_future(anext(self._pieces, b""))
        try:
            piece = await self._reading
        except LMError:
            self._closed = True
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise _closed() from None  # another task closed it
            self._give_up()
            raise
        self._ended = not piece
        return piece

    async def aclose(self) -> None:
        """Give up what was not read; a read that waits fails."""
        self._give_up()
        if self._reading is not None:
            self._reading.cancel()

    def _give_up(self) -> None:
        if not self._ended and not self._closed:
            self._on_given_up()
        self._closed = True


def _closed() -> LMError:
    return lm_error("protocol", "expected an open stream, got a closed one")


async def one_piece(body: bytes) -> AsyncGenerator[bytes, None]:
    """A body that comes at once."""
    if body:
        yield body
