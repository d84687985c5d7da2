"""An HTTP server that answers at once and costs little, in a process of its own: what is measured is the client.

``python -m benchmarks.transport_server`` prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Generator

_COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: r\r\nContent-Length: %d\r\n\r\n"
    % len(_COMPLETION)
    + _COMPLETION
)


class _Instant(asyncio.Protocol):
    """Answers each request with the same completion; reads no more of it than where it ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (head := self._rest.find(b"\r\n\r\n")) >= 0:
            _, _, length = self._rest[:head].lower().partition(b"content-length:")
            end = head + 4 + (int(length.split(b"\r\n", 1)[0]) if length else 0)
            if len(self._rest) < end:
                return
            self._rest = self._rest[end:]
            self._transport.write(_ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Instant, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def instant_server() -> Generator[str, None, None]:
    """The address of a running server."""
    command = [sys.executable, "-m", "benchmarks.transport_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"


if __name__ == "__main__":
    asyncio.run(_serve())
