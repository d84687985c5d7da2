"""Streamed answers, to be read by code outside of actors: pieces as they come, then the whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

from thespian.actors import ActorAddress

from ...actors.lm.chunks import LMChunk, LMStreamEnd
from ...actors.lm.values import LMResponse
from ...actors.modules.field_chunks import FieldChunk, PredictionEnd
from ...actors.modules.prediction import Prediction
from ...actors.providers.messages import Leave
from ...runtime.errors import ActorDied, CallError, Error, NoProcess, UsageError
from ...runtime.reasons import describe
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


class _Answer(Generic[Chunk, Result]):
    """What both views share: the beginning and the end of the stream, and what it left."""

    def __init__(self, life: Life, opening: Callable[[], Opening]) -> None:
        self._life = life
        self._opening = opening
        self._begun = self._read = self._closed = False
        self._producer: ActorAddress | None = None
        self._target = ""
        self._stream: Stream | None = None
        self._result: Result | None = None
        self._error: Error | None = None

    @property
    def result(self) -> Result:
        """The whole answer, once the last piece was read.

        Raises:
            UsageError: it was not; read the stream to its end first.
            Error: what the stream failed with.
        """
        if self._result is not None:
            return self._result
        if self._error is not None:
            raise self._error
        raise UsageError("expected a stream that was read to its end, got one that was not, at result")

    def _begin(self) -> Opening:
        if self._begun or self._closed:
            raise UsageError("expected a fresh stream, got one that was begun or closed before")
        self._begun = True
        return self._opening()

    def _opened(self, opening: Opening, producer: ActorAddress) -> None:
        self._producer, self._target = producer, opening.target
        # The last event is the end; a producer that is gone before it has failed, whatever the reason.
        self._stream = stream(producer, self._life.engine, max_demand=opening.max_demand, cancel="permanent")

    def _reading(self) -> Stream:
        assert self._stream is not None
        self._read = True
        return self._stream

    def _failed(self, error: Error) -> Error:
        """What to raise for it. A producer that is gone was there once: it ended, by the name that was asked."""
        if isinstance(error, NoProcess):
            why = describe(error.facts["reason"])
            error = ActorDied(
                f"the stream of {self._target} ended ({why}) before it was read",
                target=self._target,
                reason=error.facts["reason"],
            )
        self._error = error
        return error

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

    def close(self) -> None:
        """Read no more: the request to the provider ends, if it has not. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._stream is not None:
            self._stream.close()
        if self._producer is not None and not self._read:
            with contextlib.suppress(CallError):  # the application has stopped, and the producer with it
                self._life.engine.cast(self._producer, Leave())


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
        opening = self._begin()
        opened = await self._life.call(opening.target, opening.message, **opening.how)
        self._opened(opening, opened.address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._stream is None:
            await self.__aenter__()
        try:
            event = await self._reading().__anext__()
        except Error as error:
            if self._closed:  # by somebody else, meanwhile
                raise StopAsyncIteration from None
            raise self._failed(error) from error.__cause__
        piece = self._piece(event)
        if piece is None:
            raise StopAsyncIteration
        return piece


class AnswerStream(_Answer[Chunk, Result]):
    """A streamed answer to be read by plain code; see :class:`AsyncAnswerStream`."""

    def __enter__(self) -> Self:
        opening = self._begin()
        opened = self._life.call_blocking(opening.target, opening.message, **opening.how)
        self._opened(opening, opened.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        if self._stream is None:
            self.__enter__()
        try:
            event = next(self._reading())
        except Error as error:
            if self._closed:  # by somebody else, meanwhile
                raise StopIteration from None
            raise self._failed(error) from error.__cause__
        piece = self._piece(event)
        if piece is None:
            raise StopIteration
        return piece
