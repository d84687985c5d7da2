"""The console of a running application: answers who looks at it from another process of the same user.

A thread of its own waits at a Unix socket and reads the engine's bookkeeping, so that a stuck actor or a blocked
loop can still be seen. It only reads; while nobody looks, it sleeps. One request a connection, both one line of JSON:
``{"op": "show", "name": "module/qa"}`` and ``{"ok": ...}`` or ``{"error": {"code": ..., "text": ...}}``.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
from pathlib import Path
from typing import Any, Final

from ....runtime.engine import Engine
from ....runtime.errors import Error, UsageError
from ....runtime.log import Logger
from .observer import Observer
from .sockets import is_owner, listen

log = Logger("dspex.console")
CLIENT_LIMIT: Final = 2.0
"""Seconds that a client gets to say what it wants, and to take the answer."""
MAX_REQUEST: Final = 65_536
_LAST_WORDS: Final = 1.0


class Console:
    """Lets the user's other processes look at an application.

    Args:
        engine: whose actors are shown.
        app: name of the application; the socket is named after it.
    """

    def __init__(self, engine: Engine, app: str) -> None:
        self._app = app
        self._observer = Observer(engine, app)
        self._thread: threading.Thread | None = None
        self._path: Path | None = None
        self._wake: socket.socket | None = None
        self._closing = threading.Lock()

    def open(self) -> None:
        """Begin to listen. An application that cannot be looked at is none the worse: a failure is a warning."""
        try:
            server, self._path = listen(self._app)
        except (OSError, AttributeError, UsageError) as error:  # AttributeError: a system without Unix sockets
            log.warning("no console: this application cannot be looked at from another process", error=str(error))
            return
        self._wake, woken = socket.socketpair()
        self._thread = threading.Thread(
            target=self._serve, args=(server, woken), name=f"dspex-console-{self._app}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket. From any thread; twice is once."""
        with self._closing:
            if self._thread is None or self._path is None or self._wake is None:
                return
            self._path.unlink(missing_ok=True)
            self._observer.pulse.release()
            self._wake.close()
            self._thread.join(_LAST_WORDS)
            self._thread = self._path = self._wake = None

    def _serve(self, server: socket.socket, woken: socket.socket) -> None:
        with server, woken, selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if woken in ready:
                    return
                with contextlib.suppress(OSError):  # it hung up, or is too slow: its own loss
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(CLIENT_LIMIT)
                        self._attend(connection)

    def _attend(self, connection: socket.socket) -> None:
        if not is_owner(connection):
            log.warning("a process of another user was turned away")
            return
        with connection.makefile("rb") as lines:
            line = lines.readline(MAX_REQUEST)
        if line.endswith(b"\n"):
            connection.sendall(json.dumps(self._answer(line), default=str).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": self._observer.answer(*_parse(line))}
        except Error as error:
            return {"error": {"code": error.code, "text": str(error)}}
        except Exception as error:  # fault boundary: looking at an application must not harm it
            log.warning("a look at the application failed", error=repr(error))
            return {"error": {"code": "error", "text": f"the look failed: {type(error).__name__}"}}


def _parse(line: bytes) -> tuple[str, str | None]:
    try:
        request: Any = json.loads(line)
    except ValueError:
        request = None
    match request:
        case {"op": str(op), "name": str(name)}:
            return op, name
        case {"op": str(op)}:
            return op, None
        case _:
            raise UsageError('expected one line of JSON such as {"op": "tree"}, got something else')
