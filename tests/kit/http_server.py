"""A small HTTP server over real sockets that can misbehave in any way: each test writes its script.

def hang(exchange: Exchange) -> None:
exchange.wait_closed(5)

with HttpServer(hang) as server:
... server.url, server.requests ...
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Script = Callable[["Exchange"], None]
CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Key and certificate of ``localhost`` and 127.0.0.1, in one file."""


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Exchange:
    """One request on one connection, and the means to answer it well or badly."""

    def __init__(self, sock: socket.socket, request: Request, server: HttpServer) -> None:
        self.sock = sock
        self.request = request
        self.server = server
        self.closed = False

    def send(self, data: bytes) -> None:
        """Send raw bytes; a client that is gone is no error."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def reply(
        self,
        status: int = 200,
        body: bytes | dict[str, Any] | list[Any] = b"",
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send a whole answer; ``length`` lies about its size."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}"]
        lines.append(f"Content-Length: {len(data) if length is None else length}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def head(self, status: int = 200, *, content_type: str = "text/event-stream", **headers: str) -> None:
        """Send the head of an answer in chunks; header names with ``_`` for ``-``."""
        names = {"Content-Type": content_type, "Transfer-Encoding": "chunked"}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in names.items())]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        """Send a piece of the body; an empty one ends it."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def close(self) -> None:
        """Close the connection politely."""
        self.closed = True

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed = True

    def hang(self) -> None:
        """Say no more, and note when the client closes."""
        self.closed = True
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass
        if not self.server.stopping.is_set():
            self.server.closed_at = time.monotonic()
            self.server.client_closed.set()


class HttpServer:
    """Serves ``script`` on 127.0.0.1, each connection on a thread of its own, until its ``with`` block ends.

    Args:
        script: what happens with a request.
        tls: speak TLS, with :data:`CERTIFICATE`.

    Attributes:
        requests: all that came, in order.
        connections: how many there were.
        arrived: set once a request came.
        client_closed: set once a client closed its connection while a script hung.
        closed_at: monotonic time of that.
    """

    def __init__(self, script: Script, *, tls: bool = False) -> None:
        self.script = script
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(CERTIFICATE)
        self.requests: list[Request] = []
        self.arrived = threading.Event()
        self.client_closed = threading.Event()
        self.closed_at = 0.0
        self.connections = 0
        self.stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)
        self._listener.close()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True)
            except OSError:
                return  # the client does not trust us
        with sock, sock.makefile("rb") as stream:
            while not self.stopping.is_set():
                try:
                    request = _read(stream)
                except (OSError, ValueError):
                    return
                if request is None:
                    return
                self.requests.append(request)
                self.arrived.set()
                exchange = Exchange(sock, request, self)
                self.script(exchange)
                if exchange.closed:
                    return


def _read(stream: Any) -> Request | None:
    first = stream.readline().split()
    if len(first) < 2:
        return None
    headers: dict[str, str] = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Request(first[0].decode(), first[1].decode(), headers, body)


def completion(text: str = "Hello", **more: Any) -> dict[str, Any]:
    """A chat completion as OpenAI sends it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "test-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    } | more
