"""Engines for ``dspy.LM``: its calls go to a provider actor, whose retries, limits, breaker, cost and events they get.

::

    lm = actor_lm(app, "local")
    dspy.configure(lm=lm)

An engine makes one attempt of DSPy's; the attempts on the wire are the provider actor's. So ``num_retries=0`` and
``cache=False`` belong to it: :func:`actor_lm` sets both, :func:`check_lm` asks for both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, Self

from ...runtime.engine import Engine
from ...runtime.errors import CallError, ConfigError, Error
from ...runtime.stages import Stream, stream
from ..lm.chunks import LMStreamEnd
from ..lm.values import LMResponse
from ..providers.messages import Leave, StreamOpened
from .answers import EventWriter, response_of
from .failures import lm15_error
from .library import dspy, lm15
from .line import MAX_DEMAND, Line
from .requests import read_request

_OWNED: Final = {"cache": False, "num_retries": 0}


class HasEngine(Protocol):
    """An application: ``dspex.start()`` or ``dspex.astart()`` made it."""

    @property
    def engine(self) -> Engine:
        """Its engine."""
        ...


class _OnLine:
    """What both engines share."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # copies of a program share the line, as they share a connection

    def __repr__(self) -> str:
        return f"{type(self).__name__}(provider={self.line.provider!r}, model={self.line.model!r})"

    def _heard(self, answer: LMResponse) -> Any:
        self.line.heard(answer)
        return response_of(answer)

    def _subscribed(self, opened: StreamOpened) -> Stream:
        # The last event is the end; a producer that is gone before it has failed, whatever the reason.
        return stream(opened.address, self.line.engine, max_demand=MAX_DEMAND, cancel="permanent")

    def _events(self, event: Any, writer: EventWriter) -> Generator[Any, None, None]:
        if not isinstance(event, LMStreamEnd):
            yield from writer.chunk(event)
        elif event.response is None:
            assert event.error is not None
            raise event.error
        else:
            self.line.heard(event.response)
            yield from writer.end(event.response)

    def _left(self, opened: StreamOpened, events: Stream, *, read: bool) -> None:
        events.close()
        if not read:  # nobody has subscribed, so that nobody's leaving ends it
            with suppress(CallError):  # the application has stopped, and the stream with it
                self.line.engine.cast(opened.address, Leave())


class ActorEngine(_OnLine):
    """Answers DSPy's calls, made from any thread but the application's own, through a provider actor.

    Args:
        line: how they are sent.
    """

    def complete(self, request: Any) -> Any:
        """Send a ``dspy.lm15.Request``, and wait for its ``Response``.

        Raises:
            dspy.lm15.LM15Error: there is none; ``__cause__`` is our error with all its facts.
        """
        with told():
            return self._heard(self.line.ask(read_request(request, self.line.model)))

    def stream(self, request: Any) -> Generator[Any, None, None]:
        """Send a ``dspy.lm15.Request``, and give its answer in events; leaving early ends the request.

        Raises:
            dspy.lm15.LM15Error: as :meth:`complete`, also in the midst of it.
        """
        line = self.line
        if line.journaled is not None:  # kept are whole answers
            yield from lm15().response_to_events(self.complete(request))
            return
        with told():
            asked = line.open_stream(read_request(request, line.model))
            opened: StreamOpened = line.engine.outside.call_blocking(f"provider/{line.provider}", asked, **line.how)
            writer, events, read = EventWriter(), self._subscribed(opened), False
            try:
                yield writer.start()
                for event in events:
                    read = True
                    yield from self._events(event, writer)
                    if isinstance(event, LMStreamEnd):
                        return
            finally:
                self._left(opened, events, read=read)

    def close(self) -> None:
        """Nothing: the application owns the connections."""


class AsyncActorEngine(_OnLine):
    """As :class:`ActorEngine`, for DSPy's coroutines on any event loop. Cancelled, the request ends."""

    async def complete(self, request: Any) -> Any:
        """Send a ``dspy.lm15.Request``, and await its ``Response``. Raises as :meth:`ActorEngine.complete`."""
        with told():
            return self._heard(await self.line.ask_async(read_request(request, self.line.model)))

    async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        """Send a ``dspy.lm15.Request``, and give its answer in events. Raises as :meth:`ActorEngine.stream`."""
        line = self.line
        if line.journaled is not None:
            for event in lm15().response_to_events(await self.complete(request)):
                yield event
            return
        with told():
            asked = line.open_stream(read_request(request, line.model))
            opened = await line.engine.outside.call_async(f"provider/{line.provider}", asked, **line.how)
            writer, events, read = EventWriter(), self._subscribed(opened), False
            try:
                yield writer.start()
                async for event in events:
                    read = True
                    for piece in self._events(event, writer):
                        yield piece
                    if isinstance(event, LMStreamEnd):
                        return
            finally:
                self._left(opened, events, read=read)

    async def aclose(self) -> None:
        """Nothing: the application owns the connections."""


def actor_lm(app: HasEngine, provider: str, /, *, line: Line | None = None, **options: Any) -> Any:
    """A ``dspy.LM`` whose calls go to a provider actor; for DSPy's sync, async and streamed calls.

    Args:
        app: the application.
        provider: id of the provider, or of a route.
        line: how calls are sent, if not as ``Line(app.engine, provider)`` says.
        **options: of ``dspy.LM``: temperature, max_tokens, callbacks, ... ``model`` is sent to the provider, which
            otherwise takes its default; ``num_retries`` and ``cache`` are the provider actor's.

    Raises:
        ConfigError: DSPy is not installed, or an option is the provider actor's to decide.
    """
    for name, value in _OWNED.items():
        if name in options and options[name] != value:
            raise _owned(name, value, options[name])
    model: str | None = options.pop("model", None)
    way = line or Line(app.engine, provider, model=model)
    return lm_on(way, **options)


def lm_on(line: Line, engine: ActorEngine | None = None, /, **options: Any) -> Any:
    """A ``dspy.LM`` on a line; see :func:`actor_lm`."""
    name = f"{line.provider}/{line.model or 'default'}"
    engines = {"engine": engine or ActorEngine(line), "async_engine": AsyncActorEngine(line)}
    return dspy().LM(name, **engines, **{**_OWNED, **options})


def check_lm(lm: Any) -> None:
    """Check that an LM on our engine leaves retries and cache to the provider actor.

    Two who retry multiply each other; a cache before ours hides calls from budgets and events.

    Raises:
        ConfigError: it does not, or it has another engine.
    """
    if not isinstance(getattr(lm, "engine", None), ActorEngine):
        expected, got = "a dspy.LM on an ActorEngine", type(lm).__name__
        raise ConfigError(f"expected {expected}, got {got}, at lm", path="lm", expected=expected, got=got)
    for name, value in _OWNED.items():
        if getattr(lm, name) != value:
            raise _owned(name, value, getattr(lm, name))


def _owned(name: str, value: object, got: object) -> ConfigError:
    message = f"expected {name}={value!r}, as the provider actor owns it, got {got!r}, at lm.{name}"
    return ConfigError(message, path=f"lm.{name}", expected=value, got=got)


@contextmanager
def told() -> Generator[None, None, None]:
    """Tell our errors as DSPy's engines must."""
    try:
        yield
    except Error as error:
        raise lm15_error(error) from error
