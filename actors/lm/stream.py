"""One streamed answer: a producer (GenStage) of :class:`~.lm.chunks.LMChunk` and one last ``LMStreamEnd``.

It reads the socket only while its consumers ask for more, so a slow reader slows the provider down, through TCP. Until
the first chunk it makes attempts as a whole answer does; after that a failure ends the stream. Three clocks: to the
first chunk, between two chunks, and for all of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from thespian.actors import ActorAddress

from ...runtime.errors import Error, LMError, StreamInterrupted
from ...runtime.gen_server import NoReply, Stop, call, info
from ...runtime.messages import TaskDone, TaskFailed
from ...runtime.reasons import NORMAL
from ...runtime.stages import Producer, StageOptions
from ..http.leased_transport import LeasedTransport
from ..http.transport import HttpResponse, HttpStream, Transport
from ..providers import credentials
from ..providers.credentials import Credentials
from ..providers.messages import OpenStream
from .chunks import LMChunk, LMStreamEnd
from .failures import failure_of, lm_error
from .readers import EndsWithReaders
from .session import Session
from .setup import Setup
from .stream_decoder import StreamDecoder
from .values import UNKNOWN_USAGE, LMResponse, Usage

_ERROR_BODY: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the stream; answered once its first chunk is there, fails with an ``LMError``."""


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """To the provider: how a stream ended. ``code`` is None for a whole answer."""

    stream: ActorAddress
    code: str | None
    error: LMError | None
    usage: Usage


class Connection:
    """What a stream holds open; the engine closes it after any end of the actor."""

    def __init__(self, lease: LeasedTransport) -> None:
        self._lease = lease
        self._held = False
        self.body: HttpStream | None = None

    async def transport(self) -> Transport:
        """The way to the network, held from now on."""
        self._held = True
        return await self._lease.__aenter__()

    async def close_body(self) -> None:
        """End the HTTP request."""
        body, self.body = self.body, None
        if body is not None:
            await body.aclose()

    async def aclose(self) -> None:
        """End the request and give the way back. May be called again."""
        await self.close_body()
        if self._held:
            self._held = False
            await self._lease.__aexit__(None, None, None)


class LMStream(EndsWithReaders, Producer):
    """One stream; a temporary child of ``streams/<provider>``.

    Args:
        setup: what the request is made with.
        ask: what is asked.
        provider: the provider actor, which is told of the end.
    """

    # Nothing of an answer may be dropped. What one read brings beyond the demand is all that ever waits here.
    options = StageOptions(buffer_size=None)

    def init(self, setup: Setup, ask: OpenStream, provider: ActorAddress) -> None:
        """Nothing is sent before :class:`Connect`."""
        self._setup, self._ask, self._provider = setup, ask, provider
        self._connection = self.own(Connection(setup.lease))
        self._debt = 0
        self._wanted = asyncio.Event()
        self._over = self._all_read = False
        self._session: Session | None = None
        self._decoder: StreamDecoder | None = None
        self._first: float | None = None
        # Whoever started it may be gone before it could say what to do.
        self._patience = self._await_readers()

    # -- opening ---------------------------------------------------------------------------------

    @call
    def connect(self, msg: Connect) -> NoReply:
        """Serve it in a task: whoever gives up on it ends the request."""
        return self.serve(self._connect(self.caller.deadline))

    async def _connect(self, deadline: float | None) -> None:
        self.set_context(self.context.child(self.ids))
        self._session = session = Session(self, self._setup, self._ask, deadline, stream=True)
        try:
            transport = await self._connection.transport()
            chunks = await session.run(lambda: self._open(transport))
        except Error as error:
            self._close(error if isinstance(error, LMError) else lm_error("connection", str(error)))
            raise
        except asyncio.CancelledError:
            self._close(None)
            raise
        session.go_on()
        # Its seconds count from here; what is told of them waits until the chunk is on its way.
        self._first = session.elapsed()
        self.emit(chunks)
        self.detach(self._pump())
        self._patience.cancel()
        self._patience = self._await_readers()

    async def _open(self, transport: Transport) -> list[LMChunk]:
        """One attempt, up to the first chunks."""
        session, settings = self._session, self._setup.settings
        assert session is not None
        secrets = credentials.resolve(settings)
        wire = self._setup.format.encode(self._ask.request, settings, secrets, stream=True)
        try:
            with session.clock(settings.first_chunk_timeout) as limit:
                until = self.system.now() + limit
                body = self._connection.body = await transport.open(wire, timeout=limit)
                session.heard(body.head)
                async with asyncio.timeout_at(until):
                    return await self._begin(session, body, secrets)
        except BaseException:  # fault boundary: nothing is handled here, only the connection is closed
            await self._connection.close_body()
            raise

    async def _begin(self, session: Session, body: HttpStream, secrets: Credentials) -> list[LMChunk]:
        if not 200 <= body.head.status < 300:
            session.check(await _error_answer(body), secrets)
        decoder = StreamDecoder(self._setup.format, body.head, model=session.model or "", secrets=secrets.secrets)
        self._decoder, self._all_read = decoder, False
        chunks: list[LMChunk] = []
        while not chunks and not self._all_read:
            chunks = await self._read(body, decoder)
        if not chunks:
            decoder.response()  # an empty answer, if it is whole
        return chunks

    # -- going on --------------------------------------------------------------------------------

    def handle_demand(self, demand: int) -> None:
        """Read on."""
        self._debt += demand
        self._wanted.set()

    async def _pump(self) -> None:
        """Read to the end, as fast as the consumers ask."""
        session, seconds = self._session, self._setup.settings.stream_timeout
        assert session is not None
        assert self._decoder is not None
        assert self._first is not None
        try:
            session.tell_first_chunk(self._first)
            async with asyncio.timeout_at(session.deadline):
                await self._read_on(self._decoder)
            end = LMStreamEnd(session.succeeded(self._decoder.response(), first_chunk=self._first))
        except LMError as error:
            end = LMStreamEnd(error=self._interrupted(error))
        except TimeoutError:
            late = lm_error("deadline", f"expected the end of the stream within {seconds:g} s", timeout=seconds)
            end = LMStreamEnd(error=self._interrupted(late))
        self._finish(end)
        await self._connection.aclose()

    async def _read_on(self, decoder: StreamDecoder) -> None:
        body, patience = self._connection.body, self._setup.settings.chunk_timeout
        assert body is not None
        while not self._all_read:
            while self._debt <= 0:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                async with asyncio.timeout(patience):
                    chunks = await self._read(body, decoder)
                    while not chunks and not self._all_read:
                        chunks = await self._read(body, decoder)
            except TimeoutError as error:
                if isinstance(error, LMError):
                    raise
                raise lm_error(
                    "timeout", f"expected a chunk within {patience:g} s, got none", timeout=patience
                ) from None
            # What was not asked for waits in the buffer, and is served from there before more is asked for.
            self._debt = max(self._debt - len(chunks), 0)
            self.emit(chunks)

    async def _read(self, body: HttpStream, decoder: StreamDecoder) -> list[LMChunk]:
        data = await body.read()
        chunks = decoder.feed(data) if data else decoder.close()
        self._all_read = decoder.ended or not data
        return chunks

    # -- ends ------------------------------------------------------------------------------------

    def _opening(self) -> bool:
        return self._session is not None and self._first is None

    @info
    def pumped(self, msg: TaskDone | TaskFailed) -> Stop | None:
        """Nothing more is read. What failed is a defect, and ends the actor."""
        return Stop(msg.reason) if isinstance(msg, TaskFailed) else None

    def _give_up(self) -> Stop:
        self._close(None)
        return Stop(NORMAL)

    def _interrupted(self, error: LMError) -> LMError:
        """Chunks were delivered: say what came."""
        assert self._decoder is not None
        partial, row = self._decoder.partial, failure_of(error)
        # What does not speak against the provider still does not.
        failure = "interrupted" if row is None or row.counts_for_breaker else row.name
        facts = {**error.facts, "failure": failure, "retryable": False, "cause": error.code}
        facts["correlation_id"] = self.context.trace_id  # as the answer to a call has it
        return StreamInterrupted(
            f"the stream broke off: {error.message}", **facts, text=partial.text, usage=partial.usage
        )

    def _finish(self, end: LMStreamEnd) -> None:
        """The last event, and after it the end of the actor."""
        self.emit((end,))
        self._end_delivered()
        self._close(end.error, end.response)

    def _close(self, error: LMError | None, response: LMResponse | None = None) -> None:
        """Tell of the end, once."""
        if self._over:
            return
        self._over = True
        usage = self._decoder.partial.usage if self._decoder is not None else UNKNOWN_USAGE
        if response is not None:
            self.cast(self._provider, StreamClosed(self.myAddress, None, None, response.usage))
            return
        if self._session is not None:
            self._session.failed(error, usage)
        self.cast(
            self._provider, StreamClosed(self.myAddress, "cancelled" if error is None else error.code, error, usage)
        )


async def _error_answer(body: HttpStream) -> HttpResponse:
    """The whole answer of a status that is no success, as far as anybody will read it."""
    read = bytearray()
    while len(read) < _ERROR_BODY and (data := await body.read()):
        read += data
    return HttpResponse(body.head.status, body.head.headers, bytes(read))
