"""Answers read piece by piece, against real sockets that stall, break and lie."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import gzip
import os
import socket
import struct
import termios
import threading
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from dspex.actors.http.http_transport import HttpTransport
from dspex.actors.http.transport import HttpRequest, HttpStream
from dspex.runtime.errors import LMConnectionError, LMProtocolError, LMTimeout
from kit.http_server import CERTIFICATE, Exchange, HttpServer, Script
from kit.promptness import prompt, tried_again

KEY = "sk-very-secret-key-0123456789"
SOON = 0.05
MEGABYTE = 1024 * 1024
T = TypeVar("T")


def request_to(url: str, body: bytes = b"{}") -> HttpRequest:
    """A request with a key."""
    return HttpRequest(f"{url}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}, body)


def with_transport(url: str, use: Callable[[HttpTransport], Awaitable[T]], **options: int) -> T:
    """Run a coroutine with a transport, and close it."""

    async def main() -> T:
        transport = HttpTransport(url, **options)
        try:
            return await use(transport)
        finally:
            await transport.aclose()

    return asyncio.run(main())


def with_stream(script: Script, use: Callable[[HttpStream, HttpServer], Awaitable[T]], **options: int) -> T:
    """Run a coroutine with the answer of a server with this script."""
    with HttpServer(script) as server:

        async def main(transport: HttpTransport) -> T:
            stream = await transport.open(request_to(server.url), timeout=5)
            try:
                return await use(stream, server)
            finally:
                await stream.aclose()

        return with_transport(server.url, main, **options)


async def rest_of(stream: HttpStream) -> bytes:
    """The body up to its end."""
    pieces: list[bytes] = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)


async def happened(event: threading.Event) -> None:
    """Wait until a thread of the server says so."""
    assert await asyncio.to_thread(event.wait, 10)


def test_the_head_comes_first_and_the_pieces_as_they_are_sent() -> None:
    """Status and headers are there before the body; each piece is there before the next one is sent."""
    seen = threading.Semaphore(0)

    def slow(ex: Exchange) -> None:
        ex.head(X_Request_ID="req-9")
        for letter in b"abc":
            assert seen.acquire(timeout=5)
            ex.chunk(bytes([letter]))
        ex.chunk(b"")

    async def use(stream: HttpStream, _: HttpServer) -> None:
        assert (stream.head.status, stream.head.request_id, stream.head.body) == (200, "req-9", b"")
        assert stream.head.content_type == "text/event-stream"
        for letter in (b"a", b"b", b"c"):
            seen.release()
            assert await stream.read() == letter
        assert await stream.read() == b""
        assert await stream.read() == b""  # the end stays the end

    with_stream(slow, use)


def test_an_error_status_is_an_answer() -> None:
    """A 429 in answer to a stream has a body to be read, as any other."""

    async def use(stream: HttpStream, _: HttpServer) -> None:
        assert stream.head.status == 429
        assert await rest_of(stream) == b'{"error": "slow down"}'

    with_stream(lambda ex: ex.reply(429, {"error": "slow down"}), use)


# -- backpressure ---------------------------------------------------------------------------------


class Flood:
    """Sends a large answer as fast as it is taken.

    Attributes:
        taken: bytes that the client's machine took: sent, and acknowledged.
        stalled: set when it took nothing for 0.3 seconds.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken = 0
        self.stalled = threading.Event()

    def __call__(self, ex: Exchange) -> None:
        ex.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        ex.sock.settimeout(0.3)
        ex.send(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % self._size)
        left = memoryview(bytes(65536))
        sent = 0
        while sent < self._size:
            try:
                sent += ex.sock.send(left[: min(65536, self._size - sent)])
            except TimeoutError:
                unacknowledged = struct.unpack("i", fcntl.ioctl(ex.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
                self.taken = sent - unacknowledged
                self.stalled.set()
                ex.sock.settimeout(None)
            except OSError:
                ex.close()
                return


def resident() -> int:
    """Memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measured with Linux's means")
def test_who_does_not_read_stops_the_server() -> None:
    """After one piece of 100 MB the reader stops: the server gets rid of what the kernel buffers, and no more.

    Memory does not grow. When the reader goes on, all the rest comes.
    """
    size = 100 * MEGABYTE
    flood = Flood(size)

    async def use(stream: HttpStream, _: HttpServer) -> int:
        gc.collect()
        before = resident()
        first = await stream.read()
        await happened(flood.stalled)
        assert resident() - before < 5 * MEGABYTE
        # What the client's kernel holds is not ours: as a rule less than 1 MB, but autotuning lets it grow to some.
        assert flood.taken - len(first) < 20 * MEGABYTE
        total = len(first)
        while piece := await stream.read():
            assert len(piece) <= MEGABYTE
            total += len(piece)
        assert resident() - before < 5 * MEGABYTE
        return total

    assert with_stream(flood, use) == size


def test_a_thousand_streams_are_open_at_once() -> None:
    """All have their head and first piece at the same time, and all end well."""
    go_on: asyncio.Event

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nHe\r\n")
        await go_on.wait()
        writer.write(b"3\r\nllo\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def main() -> None:
        nonlocal go_on
        go_on = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = HttpTransport(url, max_connections=1000)
        streams = await asyncio.gather(*(transport.open(request_to(url), timeout=15) for _ in range(1000)))
        assert set(await asyncio.gather(*(stream.read() for stream in streams))) == {b"He"}
        go_on.set()
        assert set(await asyncio.gather(*(rest_of(stream) for stream in streams))) == {b"llo"}
        await transport.aclose()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


# -- connections ----------------------------------------------------------------------------------


def test_after_its_end_the_connection_is_used_again() -> None:
    """A stream that was read to its end gives its connection back; closing it later takes nothing away."""

    def script(ex: Exchange) -> None:
        ex.head()
        ex.chunk(b"hi")
        ex.chunk(b"")

    with HttpServer(script) as server:

        async def main(transport: HttpTransport) -> None:
            for _ in range(3):
                stream = await transport.open(request_to(server.url), timeout=5)
                assert await rest_of(stream) == b"hi"
                await stream.aclose()
                await stream.aclose()

        with_transport(server.url, main, max_connections=1)
        assert (server.connections, len(server.requests)) == (1, 3)


def test_a_connection_keeps_nothing_of_its_answers() -> None:
    """Streams one after another over one connection: what is over is gone from memory."""
    seen = threading.Semaphore(0)

    def script(ex: Exchange) -> None:
        ex.head()
        assert seen.acquire(timeout=5)
        ex.chunk(b"hi")
        ex.chunk(b"")

    with HttpServer(script) as server:

        async def main(transport: HttpTransport) -> None:
            for _ in range(20):
                stream = await transport.open(request_to(server.url), timeout=5)
                seen.release()
                assert await rest_of(stream) == b"hi"
            gc.collect()
            assert sum(type(one).__name__ == "ClientResponse" for one in gc.get_objects()) < 5

        with_transport(server.url, main)
        assert server.connections == 1


def piece_and_hang(ex: Exchange) -> None:
    """The beginning of an answer, and no more."""
    ex.head()
    ex.chunk(b"hi")
    ex.hang()


async def close_it(stream: HttpStream) -> None:
    """Close in the middle."""
    await stream.aclose()


async def cancel_its_read(stream: HttpStream) -> None:
    """Give up while waiting for a piece."""
    task = asyncio.ensure_future(stream.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def time_its_read_out(stream: HttpStream) -> None:
    """A limit of the caller's on the next piece."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stream.read()


@pytest.mark.parametrize("end", [close_it, cancel_its_read, time_its_read_out])
@tried_again
def test_who_gives_up_closes_the_connection(end: Callable[[HttpStream], Awaitable[None]]) -> None:
    """The server sees the end within 50 ms, the place is free again, and what was cut off is not taken for an end."""

    async def use(stream: HttpStream, server: HttpServer) -> None:
        assert await stream.read() == b"hi"
        await end(stream)
        closed = time.monotonic()
        await happened(server.client_closed)
        prompt(abs(server.closed_at - closed), SOON)
        with pytest.raises(LMProtocolError, match="closed"):
            await stream.read()

    with_stream(piece_and_hang, use)


def test_a_stream_holds_its_place_until_it_is_closed() -> None:
    """With all connections in use the next one waits, and is told why it got none."""
    with HttpServer(piece_and_hang) as server:

        async def main(transport: HttpTransport) -> None:
            first = await transport.open(request_to(server.url), timeout=5)
            for use in (transport.open, transport.send):
                with pytest.raises(LMConnectionError) as caught:
                    await use(request_to(server.url), timeout=0.05)
                assert caught.value.failure == "pool"
            await first.aclose()
            second = await transport.open(request_to(server.url), timeout=5)
            await second.aclose()

        with_transport(server.url, main, max_connections=1)


@tried_again
def test_the_time_limit_of_open_ends_with_the_head() -> None:
    """Without a head in time: LMTimeout, connection closed. With one, the body may take as long as it likes."""
    with HttpServer(Exchange.hang) as server:

        async def late(transport: HttpTransport) -> None:
            with pytest.raises(LMTimeout) as caught:
                await transport.open(request_to(server.url), timeout=0.5)
            assert caught.value.timeout == 0.5
            raised = time.monotonic()
            await happened(server.client_closed)
            prompt(abs(server.closed_at - raised), SOON)

        with_transport(server.url, late)

    late_piece = threading.Event()

    def slow(ex: Exchange) -> None:
        ex.head()
        assert late_piece.wait(5)
        ex.chunk(b"late")
        ex.chunk(b"")

    with HttpServer(slow) as server:

        async def patient(transport: HttpTransport) -> None:
            stream = await transport.open(request_to(server.url), timeout=1.0)
            asyncio.get_running_loop().call_later(1.1, late_piece.set)
            assert await rest_of(stream) == b"late"

        with_transport(server.url, patient)


@tried_again
def test_cancelling_open_closes_the_connection() -> None:
    """When the caller gives up before the head the server sees the end at once."""
    with HttpServer(Exchange.hang) as server:

        async def main(transport: HttpTransport) -> None:
            task = asyncio.ensure_future(transport.open(request_to(server.url), timeout=30))
            await happened(server.arrived)
            task.cancel()
            cancelled = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            await happened(server.client_closed)
            prompt(abs(server.closed_at - cancelled), SOON)

        with_transport(server.url, main)


def test_closing_while_another_reads_is_no_silent_end() -> None:
    """A read that waits when the stream is closed fails; it does not say that the body ended."""

    async def use(stream: HttpStream, _: HttpServer) -> None:
        assert await stream.read() == b"hi"
        task = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(LMProtocolError):
            await task

    with_stream(piece_and_hang, use)


def test_closing_the_transport_ends_its_streams() -> None:
    """A transport that closes takes its streams with it; afterwards it opens none."""
    with HttpServer(piece_and_hang) as server:

        async def main(transport: HttpTransport) -> None:
            stream = await transport.open(request_to(server.url), timeout=5)
            assert await stream.read() == b"hi"
            reading = asyncio.ensure_future(stream.read())
            await asyncio.sleep(0)
            await transport.aclose()
            await happened(server.client_closed)
            with pytest.raises(LMProtocolError):
                await reading
            with pytest.raises(LMProtocolError):
                await stream.read()
            with pytest.raises(LMConnectionError):
                await transport.open(request_to(server.url), timeout=5)

        with_transport(server.url, main)


def test_with_tls_who_gives_up_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never says goodbye is not waited for, in the middle of a body or before its head."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    ended = threading.Event()

    def deaf(ex: Exchange) -> None:
        if "middle" in ex.request.body.decode():
            ex.head()
            ex.chunk(b"hi")
        # Below TLS: its goodbye is not answered, only the end of the connection is seen.
        below = socket.socket(fileno=os.dup(ex.sock.fileno()))
        with below:
            below.settimeout(5)
            while below.recv(65536):
                pass
        ended.set()
        ex.close()

    with HttpServer(deaf, tls=True) as server:

        async def main(transport: HttpTransport) -> None:
            stream = await transport.open(request_to(server.url, b"middle"), timeout=5)
            assert await stream.read() == b"hi"
            await stream.aclose()
            await happened(ended)
            ended.clear()
            with pytest.raises(LMTimeout):
                await transport.open(request_to(server.url), timeout=1.0)
            await happened(ended)

        with_transport(server.url, main)


# -- bodies that are not what was promised --------------------------------------------------------


def chunks_cut(ex: Exchange) -> None:
    """Chunks without the last one."""
    ex.head()
    ex.chunk(b"half")
    ex.close()


def chunk_cut(ex: Exchange) -> None:
    """Half a chunk."""
    ex.head()
    ex.send(b"64\r\nhalf")
    ex.close()


def length_cut(ex: Exchange) -> None:
    """Fewer bytes than promised."""
    ex.reply(200, b"half", length=1000)
    ex.close()


def reset(ex: Exchange) -> None:
    """A reset in the middle."""
    ex.head()
    ex.chunk(b"half")
    ex.reset()


def not_gzip(ex: Exchange) -> None:
    """Compressed, it says."""
    ex.reply(200, b"half", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize("script", [chunks_cut, chunk_cut, length_cut, reset, not_gzip])
def test_a_body_that_is_not_whole_is_no_silent_end(script: Script) -> None:
    """LMProtocolError with the status, also when asked again; no key in it, no library's error behind it."""

    async def use(stream: HttpStream, _: HttpServer) -> None:
        with pytest.raises(LMProtocolError) as caught:
            await rest_of(stream)
        error = caught.value
        assert (error.failure, error.facts["status"]) == ("protocol", 200)
        assert error.__cause__ is None
        assert error.__context__ is None
        assert KEY not in "".join(traceback.format_exception(error)) + repr(error.facts)
        with pytest.raises(LMProtocolError):
            await stream.read()

    with_stream(script, use)


@pytest.mark.parametrize("script", [chunks_cut, chunk_cut, length_cut])
def test_what_came_before_the_end_is_given_to_who_reads_late(script: Script) -> None:
    """Bytes and the end may arrive together, before anybody reads: first the bytes, then the error."""
    ended = threading.Event()

    def ends_early(ex: Exchange) -> None:
        script(ex)
        ex.sock.shutdown(socket.SHUT_WR)
        ended.set()

    async def use(stream: HttpStream, _: HttpServer) -> None:
        await happened(ended)
        for _turn in range(10):  # of the loop, which reads the socket in each
            await asyncio.sleep(0)
        assert await stream.read() == b"half"
        with pytest.raises(LMProtocolError):
            await stream.read()

    with_stream(ends_early, use)


def test_malformed_chunks_are_typed() -> None:
    """A length that is no number: LMProtocolError, and the connection closes."""
    seen = threading.Event()

    def malformed(ex: Exchange) -> None:
        ex.head()
        ex.chunk(b"half")
        assert seen.wait(5)
        ex.send(b"no number\r\nxx\r\n")
        ex.hang()

    async def use(stream: HttpStream, server: HttpServer) -> None:
        assert await stream.read() == b"half"
        seen.set()
        with pytest.raises(LMProtocolError):
            await stream.read()
        await happened(server.client_closed)

    with_stream(malformed, use)


def test_a_compressed_stream_comes_in_clear_as_it_is_sent() -> None:
    """Each flushed piece of a gzip stream is there before the next one is sent."""
    seen = threading.Semaphore(0)

    def script(ex: Exchange) -> None:
        packer = zlib.compressobj(wbits=31)
        ex.head(Content_Encoding="gzip")
        for word in (b"one", b"two"):
            assert seen.acquire(timeout=5)
            ex.chunk(packer.compress(word) + packer.flush(zlib.Z_SYNC_FLUSH))
        ex.chunk(packer.flush())
        ex.chunk(b"")

    async def use(stream: HttpStream, server: HttpServer) -> None:
        assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"
        for word in (b"one", b"two"):
            seen.release()
            assert await stream.read() == word
        assert await stream.read() == b""

    with_stream(script, use)


def test_a_compressed_bomb_goes_off_slowly() -> None:
    """200 MB in 200 KB come in pieces of a few megabytes."""
    bomb = gzip.compress(bytes(200 * MEGABYTE), 1)

    async def use(stream: HttpStream, _: HttpServer) -> None:
        for _piece in range(5):
            assert len(await stream.read()) < 6 * MEGABYTE

    with_stream(lambda ex: ex.reply(200, bomb, headers={"Content-Encoding": "gzip"}), use)


def test_events_in_one_byte_pieces_are_whole() -> None:
    """An answer sent byte by byte, head included, is the same answer."""
    answer = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nd\r\n1\r\n:\r\n1\r\n1\r\n0\r\n\r\n"

    def drip(ex: Exchange) -> None:
        ex.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in answer:
            ex.send(bytes([byte]))

    async def use(stream: HttpStream, _: HttpServer) -> None:
        assert await rest_of(stream) == b"d:1"

    with_stream(drip, use)


def test_without_a_length_the_connections_end_is_the_bodys() -> None:
    """HTTP/1.0: the body ends with the connection, which is not used again."""

    def old(ex: Exchange) -> None:
        ex.send(b"HTTP/1.0 200 X\r\nContent-Type: text/plain\r\n\r\nold")
        ex.close()

    async def use(stream: HttpStream, _: HttpServer) -> None:
        assert await rest_of(stream) == b"old"

    with_stream(old, use)
