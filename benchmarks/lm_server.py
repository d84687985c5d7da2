"""A language model's server that costs little, in a process of its own: what is measured is the client.

It speaks OpenAI's chat completions, so far as benchmarks need it: a whole answer at once, in marked sections as
DSPy and dspex's chat adapter write them; or, asked for a stream, as many chunks as the model's name says, as fast as
the socket takes them: ``chunks-1000-5`` is 1,000 chunks of 5 characters. With ``slowly-`` for ``chunks-`` the first
comes at once and the rest a little later, with ``held-`` after ``GET /release``. ``GET /sent`` tells how many bytes of
streams the sockets have taken so far. The model ``simulated`` is that of ``dspex.actors.testing.simulated_lm``, and
``GET /usage`` tells how much of it was used.

``python -m benchmarks.lm_server`` prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import Any, ClassVar, Final

from dspex.actors.testing.simulated_lm import completion

USAGE: Final = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
_TEXT: Final = "[[ ## answer ## ]]\nHello\n\n[[ ## completed ## ]]"
_BLOCK: Final = 64 * 1024
_LATER: Final = 0.005
_LENGTH: Final = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_MODEL: Final = re.compile(rb'"(chunks|slowly|held)-(\d+)-(\d+)"')
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nx-request-id: r\r\n\r\n"
)


def answer(body: object) -> bytes:
    """A whole HTTP answer."""
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: r\r\nContent-Length: %d\r\n\r\n"
    return head % len(data) + data


def event(delta: dict[str, Any], **more: Any) -> bytes:
    """One server-sent event, as OpenAI's server writes it."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(chunk | more, separators=(",", ":")).encode()


def events(count: int, size: int) -> Iterator[bytes]:
    """The body of a stream of ``count`` chunks, in blocks."""
    one = event({"content": "x" * size})
    many = max(_BLOCK // len(one), 1)
    for start in range(0, count, many):
        yield one * min(many, count - start)
    last: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield event({}, choices=[last]) + event({}, choices=[], usage=USAGE) + b"data: [DONE]\n\n"


@lru_cache(maxsize=8)
def short_stream(count: int, size: int) -> bytes:
    """A whole stream that is worth keeping."""
    return _STREAM_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in events(count, size)) + _END


_END: Final = b"0\r\n\r\n"
_WHOLE: Final = answer(
    {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
)


class _Server(asyncio.Protocol):
    """One connection. It reads no more of a request than what it needs."""

    sent = 0  # of all connections: what sockets have taken
    held: ClassVar[list[tuple[asyncio.Transport, bytes]]] = []
    used: ClassVar[Counter[str]] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # The buffer is to be empty before more is written: then the socket has taken everything before.
        transport.set_write_buffer_limits(high=0)
        self._rest = b""
        self._room = asyncio.Event()
        self._room.set()
        self._streaming: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (head := self._rest.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._rest, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._rest) < end:
                return
            request, self._rest = self._rest[:end], self._rest[end:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET /sent"):
            self._transport.write(answer({"sent": _Server.sent}))
        elif request.startswith(b"GET /release"):
            for transport, rest in _Server.held:
                transport.write(rest)
            self._transport.write(answer({"released": len(_Server.held)}))
            _Server.held.clear()
        elif request.startswith(b"GET /usage"):
            self._transport.write(answer(_Server.used))
        elif b'"simulated"' in request:
            self._transport.write(answer(_simulated(request)))
        elif (asked := _MODEL.search(request)) is None:
            self._transport.write(_WHOLE)
        else:
            count, size = int(asked[2]), int(asked[3])
            if asked[1] != b"chunks":
                first = event({"content": "x" * size})
                self._transport.write(_STREAM_HEAD + b"%x\r\n%b\r\n" % (len(first), first))
                rest = short_stream(count - 1, size).removeprefix(_STREAM_HEAD)
                if asked[1] == b"held":
                    _Server.held.append((self._transport, rest))
                else:
                    asyncio.get_running_loop().call_later(_LATER, self._transport.write, rest)
            elif count * (size + 150) <= 4 * _BLOCK:
                self._transport.write(short_stream(count, size))
            else:
                self._streaming = asyncio.create_task(self._stream(events(count, size)))

    async def _stream(self, blocks: Iterator[bytes]) -> None:
        self._transport.write(_STREAM_HEAD)
        for block in blocks:
            await self._room.wait()
            self._transport.write(b"%x\r\n%b\r\n" % (len(block), block))
            _Server.sent += len(block)
        self._transport.write(_END)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()


def _simulated(request: bytes) -> dict[str, Any]:
    """What the simulated model answers; its use is counted."""
    found = completion(json.loads(request.partition(b"\r\n\r\n")[2]))
    _Server.used["calls"] += 1
    _Server.used["tokens"] += found["usage"]["total_tokens"]
    return found


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Server, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def lm_server() -> Generator[str, None, None]:
    """The base URL of a running server."""
    command = [sys.executable, "-m", "benchmarks.lm_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"


def bytes_sent(url: str) -> int:
    """How many bytes of streams the sockets of the server at ``url`` have taken so far."""
    return _told(url, "/sent")["sent"]


def release(url: str) -> int:
    """Have the server at ``url`` send the rest of all streams that it holds; how many they are."""
    return _told(url, "/release")["released"]


def used(url: str) -> Counter[str]:
    """Calls and tokens of the simulated model at ``url`` so far."""
    return Counter(_told(url, "/usage"))


def _told(url: str, path: str) -> dict[str, int]:
    with urllib.request.urlopen(url.removesuffix("/v1") + path, timeout=10) as found:
        told: dict[str, int] = json.load(found)
        return told


if __name__ == "__main__":
    asyncio.run(_serve())
