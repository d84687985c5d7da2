"""What real connections do that no test of pure code shows: early answers, stale connections, slow uploads, TLS."""

from __future__ import annotations

import asyncio
import socket
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

import pytest

from dspex.actors.http.http_transport import HttpTransport
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.runtime.errors import (
    ConfigError,
    LMConnectionError,
    LMError,
    LMInvalidRequest,
    LMProtocolError,
    LMTimeout,
)
from kit.http_server import CERTIFICATE, Exchange, HttpServer, Script

KEY = "sk-very-secret-key-0123456789"
SOON = 0.05
T = TypeVar("T")


def request_to(url: str, body: bytes = b"{}", method: str = "POST") -> HttpRequest:
    """A request with a key."""
    return HttpRequest(f"{url}/v1/x", {"authorization": f"Bearer {KEY}"}, body, method)


def with_transport(url: str, use: Callable[[HttpTransport], Awaitable[T]], **options: float) -> T:
    """Run a coroutine with a transport, and close it."""

    async def main() -> T:
        transport = HttpTransport(url, **options)  # type: ignore[arg-type]  # numbers of two kinds
        try:
            return await use(transport)
        finally:
            await transport.aclose()

    return asyncio.run(main())


def send(script: Script, *, body: bytes = b"{}", method: str = "POST", tls: bool = False) -> HttpResponse:
    """Send one request to a server with this script."""
    with HttpServer(script, tls=tls) as server:
        return with_transport(
            server.url, lambda transport: transport.send(request_to(server.url, body, method), timeout=5)
        )


def failing_send(script: Script, expected: type[LMError]) -> LMError:
    """Send one request that fails."""
    with pytest.raises(expected) as caught:
        send(script)
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.facts)
    return caught.value


# -- answers --------------------------------------------------------------------------------------


def raw(answer: bytes, *, close: bool = False) -> Script:
    """A script that sends just this."""

    def script(ex: Exchange) -> None:
        ex.send(answer)
        if close:
            ex.close()

    return script


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b""),
        (b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nTrailer: y\r\n\r\n", 200, b"x"),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ],
    ids=["100 first", "103 first", "204", "304 with a length", "empty", "trailers", "no reason"],
)
def test_unusual_answers_are_read(answer: bytes, status: int, body: bytes) -> None:
    """What RFC 9110 and 9112 allow; the server keeps the connection, so a wrong end would be a hang."""
    found = send(raw(answer))
    assert (found.status, found.body) == (status, body)


def test_an_answer_to_head_has_no_body() -> None:
    """A HEAD's answer names the length of a body that does not come."""
    found = send(raw(b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n"), method="HEAD")
    assert (found.status, found.body) == (200, b"")


@pytest.mark.parametrize("close", [True, False], ids=["closed", "half-closed"])
def test_without_a_length_the_servers_end_is_the_bodys(close: bool) -> None:
    """HTTP/1.0: read to the end, whether the server closes or only ends its own direction."""

    def old(ex: Exchange) -> None:
        ex.send(b"HTTP/1.0 200 X\r\n\r\nold")
        if not close:
            ex.sock.shutdown(socket.SHUT_WR)
            ex.hang()
        ex.close()

    assert send(old).body == b"old"


def test_headers_up_to_a_bound_are_read() -> None:
    """A header of 60 KB is read, as gateways send them; one of 200 KB is LMProtocolError."""
    assert send(lambda ex: ex.reply(200, b"x", headers={"X-Long": "a" * 60_000})).headers["x-long"] == "a" * 60_000
    failing_send(lambda ex: ex.reply(200, b"x", headers={"X-Long": "a" * 200_000}), LMProtocolError)


def test_repeated_headers_are_one() -> None:
    """A header that comes twice is joined by a comma; a name is lower case; odd bytes do no harm."""
    answer = b"HTTP/1.1 200 X\r\nX-A: 1\r\nx-a: 2\r\nX-B: \xfc\r\nContent-Length: 0\r\n\r\n"
    headers = send(raw(answer)).headers
    assert (headers["x-a"], headers["x-b"]) == ("1, 2", "\xfc")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 abc X\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 X\r\nno colon\r\n\r\n",
    ],
)
def test_a_malformed_head_is_typed(answer: bytes) -> None:
    """LMProtocolError."""
    failing_send(raw(answer, close=True), LMProtocolError)


@pytest.mark.parametrize("bad", [b"HTTP/1.1 hidden-word-77", b"hidden-word-77", b"HTTP/1.1 200 X\r\nhidden-word-77"])
def test_neither_an_echoed_key_nor_the_address_is_shown(bad: bytes) -> None:
    """A library's message may quote the server's line and the URL: a key in a header, or in a query, is in neither."""

    async def use(transport: HttpTransport) -> None:
        request = HttpRequest(f"{server.url}/v1/x?key=query-word-99", {"authorization": "Bearer hidden-word-77"}, b"{}")
        await transport.send(request, timeout=5)

    with HttpServer(raw(bad + b"\r\n\r\n", close=True)) as server, pytest.raises(LMProtocolError) as caught:
        with_transport(server.url, use)
    shown = str(caught.value) + repr(caught.value.facts)
    assert "hidden-word" not in shown
    assert "query-word" not in shown


@pytest.mark.parametrize("end", [Exchange.close, Exchange.reset], ids=["close", "reset"])
def test_an_end_within_the_head_is_no_connection(end: Callable[[Exchange], None]) -> None:
    """Half a head and then nothing: no answer had begun, so LMConnectionError, which may be tried again."""

    def script(ex: Exchange) -> None:
        ex.send(b"HTTP/1.1 200 X\r\nContent-")
        end(ex)

    error = failing_send(script, LMConnectionError)
    assert (error.failure, error.retryable) == ("reset", True)


# -- connections ----------------------------------------------------------------------------------


def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    """A server that closes after its answer costs nothing: the next request has a new connection."""
    ended = threading.Semaphore(0)

    def once(ex: Exchange) -> None:
        ex.reply(200, b"x")
        ex.sock.shutdown(socket.SHUT_RDWR)
        ended.release()
        ex.close()

    with HttpServer(once) as server:

        async def main(transport: HttpTransport) -> None:
            for _ in range(5):
                assert (await transport.send(request_to(server.url), timeout=5)).status == 200
                assert await asyncio.to_thread(ended.acquire, timeout=5)
                for _ in range(5):  # the loop sees it
                    await asyncio.sleep(0)

        with_transport(server.url, main)
        assert server.connections == 5


def test_a_connection_that_ends_with_the_next_request_may_be_tried_again() -> None:
    """The server closed at the moment the request went out: LMConnectionError, retryable; the next one works."""

    def second_closes(ex: Exchange) -> None:
        if len(ex.server.requests) == 2:
            ex.close()
        else:
            ex.reply(200, b"x")

    with HttpServer(second_closes) as server:

        async def main(transport: HttpTransport) -> None:
            assert (await transport.send(request_to(server.url), timeout=5)).status == 200
            with pytest.raises(LMConnectionError) as caught:
                await transport.send(request_to(server.url), timeout=5)
            assert (caught.value.failure, caught.value.retryable) == ("reset", True)
            assert (await transport.send(request_to(server.url), timeout=5)).status == 200

        with_transport(server.url, main)
        # It was not sent twice behind the caller's back.
        assert (server.connections, len(server.requests)) == (2, 3)


def test_a_server_that_says_close_is_believed() -> None:
    """`Connection: close` on an open connection: the next request has a new one."""
    with HttpServer(lambda ex: ex.reply(200, b"x", headers={"Connection": "close"})) as server:

        async def main(transport: HttpTransport) -> None:
            for _ in range(3):
                await transport.send(request_to(server.url), timeout=5)

        with_transport(server.url, main)
        assert server.connections == 3


def test_concurrent_requests_leave_connections_for_the_next_ones() -> None:
    """A burst opens as many connections as it has requests; the next burst uses them."""
    with HttpServer(lambda ex: ex.reply(200, b"x")) as server:

        async def main(transport: HttpTransport) -> None:
            for _ in range(5):
                await asyncio.gather(*(transport.send(request_to(server.url), timeout=5) for _ in range(20)))

        with_transport(server.url, main)
        assert server.connections <= 20


def test_the_pauses_of_waiting_requests_leave_no_place_taken() -> None:
    """Requests that are cancelled while they wait for a connection, or hold one, leave all places free."""
    came = threading.Semaphore(0)

    def hang(ex: Exchange) -> None:
        came.release()
        ex.hang()

    with HttpServer(hang) as server:

        async def main(transport: HttpTransport) -> None:
            for _ in range(5):
                tasks = [asyncio.ensure_future(transport.send(request_to(server.url), timeout=30)) for _ in range(8)]
                for _ in range(3):
                    assert await asyncio.to_thread(came.acquire, timeout=5)
                for task in tasks:
                    task.cancel()
                assert all(
                    isinstance(one, asyncio.CancelledError)
                    for one in await asyncio.gather(*tasks, return_exceptions=True)
                )
            server.script = lambda ex: ex.reply(200, b"x")
            answers = await asyncio.gather(*(transport.send(request_to(server.url), timeout=5) for _ in range(3)))
            assert [one.status for one in answers] == [200, 200, 200]

        with_transport(server.url, main, max_connections=3)


# -- uploads --------------------------------------------------------------------------------------


def test_a_large_body_arrives_whole() -> None:
    """A prompt of 5 MB is sent with its length, not in chunks."""
    body = bytes(range(256)) * 20_000
    with HttpServer(lambda ex: ex.reply(200, b"x")) as server:
        with_transport(server.url, lambda transport: transport.send(request_to(server.url, body), timeout=5))
        assert server.requests[0].body == body
        assert server.requests[0].headers["content-length"] == str(len(body))
        assert "transfer-encoding" not in server.requests[0].headers


class DeafServer:
    """Accepts one connection and reads nothing until it is told to.

    Attributes:
        arrived: set once a part of a request lies there unread.
        taken: bytes of it that it got in the end.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._read = threading.Event()
        self._ended = threading.Event()
        self.arrived = threading.Event()
        self.taken = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            sock.recv(1, socket.MSG_PEEK)
            self.arrived.set()
            assert self._read.wait(10)
            try:
                while part := sock.recv(1 << 20):
                    self.taken += len(part)
            except ConnectionResetError:
                pass
            self._ended.set()

    async def sees_the_end(self) -> None:
        """Read what the kernel holds; then the connection must be at its end, before all of the body."""
        self._read.set()
        assert await asyncio.to_thread(self._ended.wait, 10)
        assert self.taken < len(ENDLESS)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._read.set()
        self._thread.join(10)
        self._listener.close()


# Far more than the kernels of both sides buffer.
ENDLESS = bytes(64 * 1024 * 1024)


def test_a_server_that_takes_no_bytes_is_given_up() -> None:
    """After write_timeout seconds without progress: LMTimeout that says so, and the connection closes unsent."""
    with DeafServer() as server:

        async def main(transport: HttpTransport) -> None:
            with pytest.raises(LMTimeout) as caught:
                await transport.send(request_to(server.url, ENDLESS), timeout=30)
            assert caught.value.timeout == 0.2
            assert "taken within 0.2 s" in str(caught.value)
            await server.sees_the_end()

        with_transport(server.url, main, write_timeout=0.2)


def test_a_slow_answer_to_a_large_request_is_no_slow_upload() -> None:
    """Once the request is sent, write_timeout has nothing to say."""
    late = threading.Event()

    def slow(ex: Exchange) -> None:
        assert late.wait(5)
        ex.reply(200, b"late")

    with HttpServer(slow) as server:

        async def main(transport: HttpTransport) -> None:
            asyncio.get_running_loop().call_later(1.2, late.set)
            answer = await transport.send(request_to(server.url, bytes(500_000)), timeout=5)
            assert answer.body == b"late"

        with_transport(server.url, main, write_timeout=1.0)


def test_closing_the_transport_waits_for_no_upload() -> None:
    """It closes while a server takes no bytes of a request: at once, and the request fails."""
    with DeafServer() as server:

        async def main(transport: HttpTransport) -> None:
            sending = asyncio.ensure_future(transport.send(request_to(server.url, ENDLESS), timeout=30))
            assert await asyncio.to_thread(server.arrived.wait, 5)
            async with asyncio.timeout(5):
                await transport.aclose()
                with pytest.raises(LMError):
                    await sending
            await server.sees_the_end()

        with_transport(server.url, main)


def test_giving_up_an_upload_closes_the_connection() -> None:
    """What is not sent yet is not sent any more: the server gets a part of it, and the end."""
    with DeafServer() as server:

        async def main(transport: HttpTransport) -> None:
            with pytest.raises(LMTimeout):
                await transport.send(request_to(server.url, ENDLESS), timeout=0.5)
            await server.sees_the_end()

        with_transport(server.url, main)


def test_an_answer_before_the_whole_request_was_sent_is_an_answer() -> None:
    """A server that refuses a large request by its head alone is heard."""

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1024)
            sock.sendall(b"HTTP/1.1 413 X\r\nContent-Length: 5\r\n\r\nlarge")
            sock.settimeout(5)
            try:
                while sock.recv(65536):
                    pass
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answer = with_transport(url, lambda transport: transport.send(request_to(url, ENDLESS), timeout=5))
        thread.join(5)
    assert (answer.status, answer.body) == (413, b"large")


# -- where requests go ----------------------------------------------------------------------------


def test_a_certificate_that_nobody_trusts_is_refused() -> None:
    """TLS is verified: LMConnectionError, and the server gets no request."""
    with HttpServer(lambda ex: ex.reply(200, b"x"), tls=True) as server:
        with pytest.raises(LMConnectionError, match="certificate"):
            with_transport(server.url, lambda transport: transport.send(request_to(server.url), timeout=5))
        assert server.requests == []


def test_certificates_of_the_environment_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE names further certificates, as in other tools."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert send(lambda ex: ex.reply(200, b"x"), tls=True).body == b"x"


def test_credentials_in_an_address_are_refused() -> None:
    """They would stand beside the key: LMInvalidRequest that does not show them."""

    async def use(transport: HttpTransport) -> None:
        await transport.send(HttpRequest(f"http://user:{KEY}@127.0.0.1:1/"), timeout=1)

    with pytest.raises(LMInvalidRequest) as caught:
        with_transport("http://127.0.0.1:1", use)
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.facts)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1/", "http://", "http://[::1", "/v1/x"])
def test_what_is_no_address_is_typed(url: str) -> None:
    """LMInvalidRequest."""

    async def use(transport: HttpTransport) -> None:
        await transport.send(HttpRequest(url), timeout=1)

    with pytest.raises(LMInvalidRequest):
        with_transport("http://127.0.0.1:1", use)


def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host in NO_PROXY is asked directly."""
    with HttpServer(lambda ex: ex.reply(200, b"proxied")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", ".invalid")
        with pytest.raises(LMConnectionError):
            with_transport("http://models.invalid", lambda it: it.send(request_to("http://models.invalid"), timeout=5))
        assert proxy.requests == []


def test_a_proxy_that_refuses_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that wants a password for a TLS tunnel: LMConnectionError; its own password is not shown."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with HttpServer(lambda ex: ex.reply(407, b"")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://user:hidden-word@"))
        with pytest.raises(LMConnectionError) as caught:
            with_transport(
                "https://models.example", lambda it: it.send(request_to("https://models.example"), timeout=5)
            )
        assert (proxy.requests[0].method, proxy.requests[0].path) == ("CONNECT", "models.example:443")
        assert "authorization" not in proxy.requests[0].headers  # the key is for the server alone
        assert "proxy-authorization" in proxy.requests[0].headers
    assert "hidden-word" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.facts)


def test_a_proxy_of_another_kind_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOCKS: ConfigError that names the variable, not a failure with each request."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hidden-word@127.0.0.1:9")
    with pytest.raises(ConfigError, match="socks5") as caught:
        HttpTransport("https://models.example")
    assert "hidden-word" not in repr(caught.value.facts) + str(caught.value)
