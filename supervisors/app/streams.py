"""Streamed answers, to be read by code outside of actors: pieces as they come, then the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

from ...actors.field_chunks import FieldChunk, PredictionEnd
from ...actors.lm import LMResponse
from ...actors.lm_chunks import LMChunk, LMStreamEnd
from ...actors.prediction import Prediction
from ...runtime.errors import Error, UsageError
from ...runtime.stages import Stream, stream
from .life import Life

MAX_DEMAND: Final = 64
"""Pieces that are asked for and not read yet, unless told otherwise."""

Chunk = TypeVar("Chunk", LMChunk, FieldChunk)
Result = TypeVar("Result", LMResponse, Prediction)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a stream is begun.

    Attributes:
        target: name of the actor that opens it.
        message: what it is asked; its answer has the ``address`` of a producer.
        how: arguments of the call.
        max_demand: pieces that are asked for and not read yet.
    """

    target: str
    message: Any
    how: dict[str, Any]
    max_demand: int = MAX_DEMAND

    def read(self, address: Any, life: Life) -> Stream:
        """The pieces of the stream that was opened."""
        return stream(address, life.engine, max_demand=self.max_demand, cancel="transient")


class _Answer(Generic[Chunk, Result]):
    """What both views share: the end of the stream, and what it left."""

    def __init__(self, life: Life, opening: Callable[[], Opening]) -> None:
        self._life = life
        self._opening = opening
        self._stream: Stream | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None

    @property
    def result(self) -> Result:
        """The whole answer, once the last piece was read.

        Raises:
            UsageError: it was not; read the stream to its end first.
            Error: what the stream failed with.
        """
        if self._result is not None:
            return self._result
        if isinstance(self._error, Error):
            raise self._error
        raise UsageError("expected a stream that was read to its end, got one that was not, at result")

    def _piece(self, event: Chunk | LMStreamEnd | PredictionEnd) -> Chunk | None:
        """A piece, or None at the end."""
        if not isinstance(event, LMStreamEnd | PredictionEnd):
            return event
        self.close()
        if event.error is not None:
            self._error = event.error
            raise event.error
        whole = event.response if isinstance(event, LMStreamEnd) else event.prediction
        self._result = cast("Result", whole)
        return None

    def _begun(self) -> Opening:
        if self._stream is not None:
            raise UsageError("expected a fresh stream, got one that was begun before")
        return self._opening()

    def close(self) -> None:
        """Read no more: the request to the provider ends, if it has not. Twice is once."""
        if self._stream is not None:
            self._stream.close()


class AsyncAnswerStream(_Answer[Chunk, Result]):
    """A streamed answer to be read in coroutines.

    ::

        async with qa.stream(question="...") as stream:
            async for chunk in stream:
                print(chunk.text, end="")
            print(stream.result.info.usage)

    The provider is read only as fast as this is; leaving early ends the request.
    """

    async def __aenter__(self) -> Self:
        opening = self._begun()
        opened = await self._life.call(opening.target, opening.message, **opening.how)
        self._stream = opening.read(opened.address, self._life)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._result is not None:
            raise StopAsyncIteration
        if self._stream is None:
            await self.__aenter__()
        assert self._stream is not None
        piece = self._piece(await self._stream.__anext__())
        if piece is None:
            raise StopAsyncIteration
        return piece


class AnswerStream(_Answer[Chunk, Result]):
    """A streamed answer to be read by plain code; see :class:`AsyncAnswerStream`."""

    def __enter__(self) -> Self:
        opening = self._begun()
        opened = self._life.call_blocking(opening.target, opening.message, **opening.how)
        self._stream = opening.read(opened.address, self._life)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        if self._result is not None:
            raise StopIteration
        if self._stream is None:
            self.__enter__()
        assert self._stream is not None
        piece = self._piece(next(self._stream))
        if piece is None:
            raise StopIteration
        return piece
