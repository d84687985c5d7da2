"""For tests of provider actors: an engine with what stands around a provider, and a network that does as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from conformance.virtual_loop import LoopClock, VirtualLoop

from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.events.kinds import Event
from dspex.actors.events.store import Append, AppendAcked
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.actors.lm.values import LMRequest, LMResponse, Message
from dspex.actors.providers.actor import Complete, ProviderActor, ProviderStatus, ProviderStatusReport
from dspex.actors.registry.messages import Announce
from dspex.runtime.context import Context
from dspex.runtime.engine import Engine
from dspex.runtime.errors import LMError, LMTimeout
from dspex.runtime.gen_server import GenServer, Started, call, cast
from kit.http_server import completion

T = TypeVar("T")
LOCAL = "http://127.0.0.1:9/v1"


class FakeTransport:
    """A network without sockets.

    Attributes:
        settings: what it was made from.
        requests: what was sent.
        cancelled: how many requests were cancelled while they waited.
        gate: requests wait until it is set.
        answer: makes the answer to a request; may raise.
        stream: makes the answer to a request for a stream; may raise.
        streams: what it made.
        closed: how often it was closed.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.requests: list[HttpRequest] = []
        self.timeouts: list[float] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.sent = asyncio.Event()
        self.answer: Callable[[HttpRequest], HttpResponse] = lambda request: ok()
        self.stream: Callable[[HttpRequest], FakeStream] = lambda request: FakeStream(*events("Hel", "lo"))
        self.streams: list[FakeStream] = []
        self.closed = 0

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        """Answer as told."""
        await self._asked(request, timeout)
        return self.answer(request)

    async def open(self, request: HttpRequest, *, timeout: float) -> FakeStream:
        """Begin an answer as told."""
        await self._asked(request, timeout)
        self.streams.append(self.stream(request))
        return self.streams[-1]

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1

    async def _asked(self, request: HttpRequest, timeout: float) -> None:
        assert self.closed == 0, "used after it was closed"
        self.requests.append(request)
        self.timeouts.append(timeout)
        self.sent.set()
        try:
            async with asyncio.timeout(timeout):
                await self.gate.wait()
        except TimeoutError:
            raise LMTimeout("too late", failure="timeout", retryable=True, timeout=timeout) from None
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class FakeStream:
    """An answer in pieces, without a socket.

    Args:
        *pieces: of the body; an error is raised in its turn.
        status: of the head.
        open_end: after the pieces nothing comes, until the test feeds more.

    Attributes:
        reads: how often it was asked for a piece.
        waiting: set while a read waits for what is not there.
        cancelled: how many reads were cancelled while they waited.
        closed: how often it was closed.
    """

    def __init__(self, *pieces: bytes | LMError, status: int = 200, open_end: bool = False) -> None:
        content_type = "text/event-stream" if status == 200 else "application/json"
        self.head = HttpResponse(status, {"content-type": content_type, "x-request-id": "req-1"})
        self.reads = self.cancelled = self.closed = 0
        self.waiting = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | LMError] = asyncio.Queue()
        self.feed(*pieces, *(() if open_end else (b"",)))

    def feed(self, *pieces: bytes | LMError) -> None:
        """Further pieces; an empty one ends the body."""
        for piece in pieces:
            self._pieces.put_nowait(piece)

    async def read(self) -> bytes:
        """The next piece."""
        assert self.closed == 0, "read after it was closed"
        self.reads += 1
        if self._pieces.empty():
            self.waiting.set()
        try:
            piece = await self._pieces.get()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting.clear()
        if isinstance(piece, LMError):
            raise piece
        if not piece:
            self.feed(b"")  # the end stays the end
        return piece

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1


def events(*texts: str, finish: str | None = "stop", usage: tuple[int, int] | None = (11, 3)) -> list[bytes]:
    """A stream as OpenAI sends it, each event a piece: one for each text, the reason to finish, usage, the end."""
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    if finish is not None:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage is not None:
        into, out = usage
        counts = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
        chunks.append({"choices": [], "usage": counts})
    told = [{"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "test-model", **chunk} for chunk in chunks]
    lines = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in told]
    return lines if finish is None else [*lines, b"data: [DONE]\n\n"]


def ok(**more: Any) -> HttpResponse:
    """A good answer."""
    return HttpResponse(
        200, {"content-type": "application/json", "x-request-id": "req-1"}, json.dumps(completion(**more)).encode()
    )


def bad(status: int, body: Any = None, **headers: str) -> HttpResponse:
    """An error answer."""
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, found, json.dumps(body or {"error": {"message": "no"}}).encode())


class Notebook(GenServer):
    """Stands in for the event store and the registry: writes down what it is told."""

    def init(self, events: list[Event], announcements: list[Mapping[str, Any]]) -> None:
        self.events = events
        self.announcements = announcements

    @cast
    def append(self, msg: Append) -> None:
        self.events.extend(msg.events)

    @call
    def append_acked(self, msg: AppendAcked) -> tuple[str, ...]:
        self.events.extend(msg.events)
        return tuple(event.id for event in msg.events)

    @cast
    def announced(self, msg: Announce) -> None:
        self.announcements.append(msg.metadata)


class World:
    """An engine, what stands around a provider, and what they were told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events: list[Event] = []
        self.announcements: list[Mapping[str, Any]] = []
        self.telemetry: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
        self.transports: list[FakeTransport] = []
        names = [("dspex", "lm", what) for what in ("start", "stop", "exception")]
        engine.telemetry.attach_many("world", names, self._on_telemetry)

    def _on_telemetry(
        self, event: tuple[str, ...], measured: Mapping[str, Any], facts: Mapping[str, Any], _: Any
    ) -> None:
        self.telemetry.append((event[-1], measured, facts))

    def transport(self, settings: ProviderSettings) -> FakeTransport:
        """A transport for the provider; kept for the test to look at."""
        self.transports.append(FakeTransport(settings))
        return self.transports[-1]

    @property
    def net(self) -> FakeTransport:
        """The newest transport."""
        return self.transports[-1]

    async def spawn(self, cls: type[GenServer], *args: Any, name: str, **kwargs: Any) -> Any:
        """Start a named actor and answer its outcome."""
        return await self.engine.spawn(cls, args, kwargs, name=name)

    async def notebooks(self) -> None:
        """Start those that write down events and announcements."""
        for name in ("core/events", "core/registry"):
            assert isinstance(await self.spawn(Notebook, self.events, self.announcements, name=name), Started)

    async def provider(self, *, fake: bool = True, capture_prompts: bool = False, **fields: Any) -> Any:
        """Start ``provider/p`` with settings of its own; its address."""
        await self.notebooks()
        extra = {"transport": self.transport} if fake else {}
        outcome = await self.spawn(
            ProviderActor, "p", settings=settings(**fields), capture_prompts=capture_prompts, name="provider/p", **extra
        )
        assert isinstance(outcome, Started), outcome
        return outcome.address

    async def complete(
        self, text: str = "Hi", *, timeout: float | None = 60.0, context: Context | None = None, **fields: Any
    ) -> LMResponse:
        """Ask ``provider/p``."""
        request = LMRequest((Message("user", text),), **fields)
        answer = await self.engine.outside.call_async("provider/p", Complete(request), timeout=timeout, context=context)
        assert isinstance(answer, LMResponse)
        return answer

    async def status(self) -> ProviderStatusReport:
        """How ``provider/p`` is."""
        report = await self.engine.outside.call_async("provider/p", ProviderStatus(), timeout=5.0)
        assert isinstance(report, ProviderStatusReport)
        return report

    async def settle(self) -> None:
        """Let everything that can happen now happen."""
        for _ in range(20):
            await asyncio.sleep(0)


def settings(**fields: Any) -> ProviderSettings:
    """Settings of a provider on this machine."""
    return ProviderSettings.model_validate(
        {"kind": "openai", "base_url": LOCAL, "default_model": "m", "retry_attempts": 1} | fields
    )


def in_world(use: Callable[[World], Awaitable[T]]) -> T:
    """Run ``use`` with an engine in virtual time: waiting takes none."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(with_world(use, clock=LoopClock(loop)))
    finally:
        loop.close()


async def with_world(use: Callable[[World], Awaitable[T]], **options: Any) -> T:
    """Run ``use`` with an engine on the running loop, and stop it."""
    engine = Engine(loop="current", **options)
    try:
        return await use(World(engine))
    finally:
        await engine.astop()
