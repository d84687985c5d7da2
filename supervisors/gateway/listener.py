"""The socket of the gateway, and uvicorn at it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

import uvicorn

from ...runtime.errors import StartError
from .desk import Desk
from .routes import gateway_app

BACKLOG: Final = 2048
KEEP_ALIVE: Final = 75.0
"""Seconds that an idle connection is kept: longer than clients keep theirs, so that none is closed under a request."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals are the host program's


class Listener:
    """A server that is opened once, and serves until it is closed.

    Made on a thread: it loads much, and looks up the host's name.

    Args:
        desk: what requests need.

    Attributes:
        url: where it listens; empty before it is open.

    Raises:
        StartError: the host has no address.
    """

    def __init__(self, desk: Desk) -> None:
        # Nothing of the logging is configured, nor taken away.
        config = uvicorn.Config(
            gateway_app(desk),
            log_config=None,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(KEEP_ALIVE),
        )
        config.load()
        self._desk = desk
        self._server = _Server(config)
        self._socket: socket.socket | None = None
        self._where = f"{desk.settings.host}:{desk.settings.port}"
        try:
            found = socket.getaddrinfo(
                desk.settings.host, desk.settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise self._failure(error) from None
        # A name may have several addresses; clients try the old kind too.
        self._address = min(found, key=lambda each: each[0] != socket.AF_INET)
        self.url = ""

    def open(self) -> int:
        """Listen; who connects waits until it serves.

        Returns:
            The port.

        Raises:
            StartError: the address is taken, or not ours.
        """
        family, _, _, _, address = self._address
        try:
            self._socket = socket.create_server((address[0], address[1]), family=family, backlog=BACKLOG)
        except OSError as error:
            raise self._failure(error) from None
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return int(port)

    def _failure(self, error: OSError) -> StartError:
        why = error.strerror or str(error)
        return StartError(
            f"expected to listen at {self._where}, got: {why}, at gateway.host and gateway.port",
            reason=("listen_error", why),
        )

    async def serve(self) -> None:
        """Serve until it is cancelled."""
        assert self._socket is not None
        await self._server.serve(sockets=[self._socket])

    async def finish(self, seconds: float) -> None:
        """Take no more connections and end what is in work; clients that have no answer yet are told.

        Args:
            seconds: for that.
        """
        self._stop_listening()
        ending = self._desk.close()
        until = asyncio.get_running_loop().time() + seconds
        if ending:
            await asyncio.wait(ending, timeout=seconds)
        connections = self._server.server_state.connections
        for connection in list(connections):
            connection.shutdown()  # behind what is still to be sent
        while connections and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.005)
        self.close()

    def close(self) -> None:
        """Close everything now. Twice is once."""
        self._stop_listening()
        self._desk.close()
        for connection in list(self._server.server_state.connections):
            transport = cast("asyncio.WriteTransport | None", cast("Any", connection).transport)
            if transport is not None:
                transport.abort()

    def _stop_listening(self) -> None:
        for server in getattr(self._server, "servers", ()):
            server.close()
        if self._socket is not None:
            self._socket.close()
