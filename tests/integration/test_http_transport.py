"""The HTTP transport against real sockets that refuse, hang, lie and break."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import re
import socket
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

import dspex
from dspex.actors.http.http_transport import HttpTransport, is_loopback
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.runtime.errors import LMConnectionError, LMError, LMInvalidRequest, LMProtocolError, LMTimeout
from kit.http_server import Exchange, HttpServer
from kit.promptness import prompt, tried_again

KEY = "sk-very-secret-key-0123456789"
T = TypeVar("T")


def request_to(url: str, body: bytes = b"{}") -> HttpRequest:
    """A request with a key."""
    return HttpRequest(f"{url}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}, body)


def with_transport(url: str, use: Callable[[HttpTransport], Awaitable[T]], **options: Any) -> T:
    """Run a coroutine with a transport, and close it."""

    async def main() -> T:
        transport = HttpTransport(url, **options)
        try:
            return await use(transport)
        finally:
            await transport.aclose()

    return asyncio.run(main())


def send(url: str, *, timeout: float = 5.0, **options: Any) -> HttpResponse:
    """Send one request."""
    return with_transport(url, lambda transport: transport.send(request_to(url), timeout=timeout), **options)


def failing_send(url: str, expected: type[LMError], **options: Any) -> LMError:
    """Send one request that fails; the error must hold nothing private, and pickle."""
    with pytest.raises(expected) as caught:
        send(url, **options)
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.facts)
    assert KEY not in shown
    assert error.__cause__ is None
    assert error.__context__ is None  # no library's error, which holds the request, hangs on
    assert pickle.loads(pickle.dumps(error)).facts == error.facts
    return error


def test_an_answer_comes_back_whole() -> None:
    """Status, lower-case headers, body and request id of an answer arrive."""
    with HttpServer(lambda ex: ex.reply(200, {"a": 1}, headers={"X-Request-ID": "req-7"})) as server:
        answer = send(server.url)
    assert (answer.status, answer.content_type, answer.body, answer.request_id) == (
        200,
        "application/json",
        b'{"a": 1}',
        "req-7",
    )
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_connections_are_used_again() -> None:
    """Requests one after another share one connection."""

    async def twice(transport: HttpTransport) -> None:
        for _ in range(3):
            await transport.send(request_to(server.url), timeout=5)

    with HttpServer(lambda ex: ex.reply(200, {})) as server:
        with_transport(server.url, twice)
    assert (server.connections, len(server.requests)) == (1, 3)


def test_an_error_status_is_an_answer() -> None:
    """A 503 with a body is an answer, not an exception: the wire format knows what it means."""
    with HttpServer(lambda ex: ex.reply(503, b"busy")) as server:
        assert send(server.url).status == 503


def test_a_refused_connection_is_typed() -> None:
    """Nobody listens: LMConnectionError, which may be tried again."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    error = failing_send(f"http://127.0.0.1:{port}", LMConnectionError)
    assert str(error).endswith(f"from 127.0.0.1:{port}")
    assert error.failure == "connection"
    assert error.retryable is True


def test_an_unknown_host_is_typed() -> None:
    """A name that DNS does not know: LMConnectionError."""
    failing_send("http://no-such-host.invalid", LMConnectionError)


@pytest.mark.parametrize("end", [Exchange.close, Exchange.reset], ids=["close", "reset"])
def test_a_connection_that_closes_before_the_answer_is_typed(end: Callable[[Exchange], None]) -> None:
    """Closed or reset without a byte: LMConnectionError."""
    with HttpServer(end) as server:
        assert failing_send(server.url, LMConnectionError).failure == "reset"


def test_a_truncated_body_is_typed() -> None:
    """Fewer bytes than promised: LMProtocolError, never half an answer."""

    def truncate(ex: Exchange) -> None:
        ex.reply(200, b'{"half":', length=1000)
        ex.close()

    with HttpServer(truncate) as server:
        assert failing_send(server.url, LMProtocolError).failure == "protocol"


def test_a_reset_within_the_body_is_typed() -> None:
    """A reset in the middle of an answer: LMProtocolError."""

    def cut(ex: Exchange) -> None:
        ex.reply(200, b'{"half":', length=1000)
        ex.reset()

    with HttpServer(cut) as server:
        failing_send(server.url, LMProtocolError)


def test_bytes_that_are_not_http_are_typed() -> None:
    """Something else answers on that port: LMProtocolError."""

    def other(ex: Exchange) -> None:
        ex.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        ex.close()

    with HttpServer(other) as server:
        failing_send(server.url, LMProtocolError)


def test_a_huge_body_is_bounded() -> None:
    """An answer larger than the bound ends the request: LMProtocolError, connection closed, memory safe."""
    closed = threading.Event()

    def flood(ex: Exchange) -> None:
        ex.send(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n")
        ex.sock.settimeout(5)
        try:
            while not ex.server.stopping.is_set():
                ex.sock.sendall(b"x" * 65536)
        except OSError:
            closed.set()
        ex.close()

    with HttpServer(flood) as server:
        error = failing_send(server.url, LMProtocolError, max_body=1_000_000)
        assert error.failure == "too_large"
        assert error.retryable is False
        assert closed.wait(5)


def test_a_compressed_bomb_is_bounded() -> None:
    """The bound holds for the body after decompression."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    with HttpServer(lambda ex: ex.reply(200, bomb, headers={"Content-Encoding": "gzip"})) as server:
        assert failing_send(server.url, LMProtocolError, max_body=1_000_000).failure == "too_large"


def test_a_compressed_body_is_read() -> None:
    """A gzip answer arrives in clear."""
    body = gzip.compress(b'{"a": 1}')
    with HttpServer(lambda ex: ex.reply(200, body, headers={"Content-Encoding": "gzip"})) as server:
        assert send(server.url).body == b'{"a": 1}'


def test_a_redirect_is_not_followed() -> None:
    """A redirect is an answer; the key goes nowhere else."""
    with HttpServer(lambda ex: ex.reply(200, {})) as elsewhere:
        place = elsewhere.url
        with HttpServer(lambda ex: ex.reply(307, b"", headers={"Location": f"{place}/x"})) as server:
            assert send(server.url).status == 307
        assert elsewhere.requests == []


def test_cookies_are_not_kept() -> None:
    """What one request is given as a cookie is not sent with the next: requests are independent."""

    async def twice(transport: HttpTransport) -> None:
        for _ in range(2):
            await transport.send(request_to(server.url), timeout=5)

    with HttpServer(lambda ex: ex.reply(200, {}, headers={"Set-Cookie": "a=b; Path=/"})) as server:
        with_transport(server.url, twice)
    assert "cookie" not in server.requests[1].headers


def dribble(ex: Exchange) -> None:
    """Headers and a first byte, and no more: a per-read timeout would be satisfied."""
    ex.send(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{")
    ex.hang()


@pytest.mark.parametrize("script", [Exchange.hang, dribble], ids=["before the answer", "within the answer"])
@tried_again
def test_the_deadline_closes_the_socket(script: Callable[[Exchange], None]) -> None:
    """When the deadline passes the server sees the connection close at once, and the error is LMTimeout."""
    with HttpServer(script) as server:

        async def late(transport: HttpTransport) -> float:
            with pytest.raises(LMTimeout) as caught:
                await transport.send(request_to(server.url), timeout=0.5)
            raised = time.monotonic()
            assert caught.value.timeout == 0.5
            # The transport is still open: closing it would hide a connection left behind.
            assert await asyncio.to_thread(server.client_closed.wait, 5)
            return raised

        raised = with_transport(server.url, late)
        prompt(abs(server.closed_at - raised), 0.05)


@tried_again
def test_cancelling_closes_the_socket() -> None:
    """When the caller gives up the server sees the connection close at once."""
    with HttpServer(Exchange.hang) as server:

        async def give_up(transport: HttpTransport) -> float:
            task = asyncio.ensure_future(transport.send(request_to(server.url), timeout=30))
            assert await asyncio.to_thread(server.arrived.wait, 5)
            cancelled = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.client_closed.wait, 5)
            return cancelled

        cancelled = with_transport(server.url, give_up)
        prompt(abs(server.closed_at - cancelled), 0.05)


def test_waiting_for_a_free_connection_is_told_apart() -> None:
    """With all connections in use the deadline blames our pool, not the provider."""
    with HttpServer(Exchange.hang) as server:

        async def crowd(transport: HttpTransport) -> None:
            first = asyncio.ensure_future(transport.send(request_to(server.url), timeout=30))
            assert await asyncio.to_thread(server.arrived.wait, 5)
            with pytest.raises(LMConnectionError) as caught:
                await transport.send(request_to(server.url), timeout=0.1)
            assert caught.value.failure == "pool"
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            # The place it held is free again.
            with pytest.raises(LMTimeout):
                await transport.send(request_to(server.url), timeout=0.5)

        with_transport(server.url, crowd, max_connections=1)


@pytest.mark.parametrize("key", ["two\nlines-of-secret", "sécret-clé-0123", "tab\tsecret"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key: str) -> None:
    """Control or non-ASCII characters in a header: LMInvalidRequest that names the header only."""

    async def use(transport: HttpTransport) -> None:
        await transport.send(HttpRequest("http://127.0.0.1:1/", {"authorization": f"Bearer {key}"}), timeout=1)

    with pytest.raises(LMInvalidRequest) as caught:
        with_transport("http://127.0.0.1:1", use)
    assert "authorization" in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_header_name_that_cannot_be_sent_is_refused() -> None:
    """A name with other letters: LMInvalidRequest, where the library's error would be of no expected class."""

    async def use(transport: HttpTransport) -> None:
        await transport.send(HttpRequest("http://127.0.0.1:1/", {"schlüssel": "x"}), timeout=1)

    with pytest.raises(LMInvalidRequest, match="schl"):
        with_transport("http://127.0.0.1:1", use)


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY does not see what goes to a server on this machine."""
    with HttpServer(lambda ex: ex.reply(502, b"proxied")) as proxy, HttpServer(lambda ex: ex.reply(200, {})) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert send(server.url).status == 200
        assert proxy.requests == []


def test_a_proxy_of_the_environment_is_used_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is honoured for other hosts, as in other tools."""
    with HttpServer(lambda ex: ex.reply(200, b"proxied")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert send("http://models.example").body == b"proxied"


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.9", True), ("::1", True), ("a.localhost", True), ("10.0.0.1", False), ("x", False)],
)
def test_loopback(host: str, here: bool) -> None:
    """This machine is known by all its names."""
    assert is_loopback(host) is here


def test_a_transport_closes_twice() -> None:
    """Closing again is no error."""

    async def close(transport: HttpTransport) -> None:
        await transport.aclose()

    with_transport("http://127.0.0.1:1", close)


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
def test_the_libraries_are_known_in_one_place(library: str) -> None:
    """Only ``actors/http/`` imports the HTTP libraries, so that they can be exchanged there."""
    package = Path(dspex.__file__).parent
    folders = [package, *(package / name for name in ("runtime", "actors", "supervisors"))]
    files = {path.resolve() for folder in folders for path in folder.resolve().rglob("*.py")}
    wanted = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    users = {path for path in files if wanted.search(path.read_text("utf-8"))}
    assert {path.parent for path in users} == {(package / "actors" / "http").resolve()}
