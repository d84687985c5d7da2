"""A server on loopback that speaks OpenAI's chat completions and does what an example tells it: answer, refuse, stream.

with ScriptedServer(lambda request: "an answer") as server:
    app.configure_provider("local", kind="openai", base_url=server.url, default_model="some-model")
"""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeAlias

BUFFER = 16 * 1024
"""Bytes that the kernel may keep of an answer that the client does not read yet."""


@dataclass(frozen=True)
class Refusal:
    """An error answer: its status, its words and what it says in ``Retry-After``."""

    status: int
    message: str = "not now"
    retry_after: float | None = None


class ToolCalls:
    """An answer that calls tools.

    Args:
        *calls: names and arguments.
    """

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self.calls = calls


Answer: TypeAlias = str | Refusal | ToolCalls | Iterable[str]
"""A text, an error, tools to call, or the pieces of a stream."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no fault of the script."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ScriptedServer:
    """Asks ``script`` about each request (its JSON) and sends what that answers.

    Attributes:
        url: the base address for ``configure_provider``.
        requests: how many came.
        sent: pieces of streams that the kernel has taken.
        left: set once a client left before its answer was whole.
    """

    def __init__(self, script: Callable[[dict[str, Any]], Answer]) -> None:
        self.script = script
        self.requests = 0
        self.sent = 0
        self.left = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        # Small buffers show backpressure at once; those of a real network are larger.
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                owner.requests += 1
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    self._answer(request["model"], owner.script(request))
                except OSError:  # the client has closed the connection
                    self.close_connection = True
                    owner.left.set()

            def _answer(self, model: str, answer: Answer) -> None:
                if isinstance(answer, Refusal):
                    self._whole(answer.status, {"error": {"message": answer.message}}, answer.retry_after)
                elif isinstance(answer, str | ToolCalls):
                    self._whole(200, completion(model, answer) if isinstance(answer, str) else tools(model, answer))
                else:
                    self._stream(model, answer)

            def _whole(self, status: int, body: dict[str, Any], retry_after: float | None = None) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if retry_after is not None:
                    self.send_header("Retry-After", str(retry_after))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, model: str, pieces: Iterable[str]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                made = 0
                for piece in pieces:
                    self._event(json.dumps(chunk(model, {"content": piece})))
                    owner.sent, made = owner.sent + 1, made + 1
                self._event(json.dumps(chunk(model, {}, finish_reason="stop")))
                usage = {"prompt_tokens": 12, "completion_tokens": made, "total_tokens": 12 + made}
                self._event(json.dumps({"model": model, "choices": [], "usage": usage}))
                self._event("[DONE]")
                self.wfile.write(b"0\r\n\r\n")

            def _event(self, data: str) -> None:
                event = f"data: {data}\n\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


def completion(model: str, text: str) -> dict[str, Any]:
    """A whole answer; a word counts as a token."""
    message = {"role": "assistant", "content": text}
    given, made = 12, len(text.split())
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made},
    }


def tools(model: str, answer: ToolCalls) -> dict[str, Any]:
    """An answer that calls tools."""
    whole = completion(model, "")
    calls = [
        {"id": f"call-{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for number, (name, arguments) in enumerate(answer.calls)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return {**whole, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def chunk(model: str, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    """A piece of a streamed answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model, "choices": [choice]}
