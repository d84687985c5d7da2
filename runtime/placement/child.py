"""The child interpreter: one engine on the main thread, one placed actor, and whatever that one starts."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

from ..address import process_of
from ..cell import Cell
from ..clock import Clock
from ..engine import Engine
from ..errors import UsageError
from ..names import Change, NameEntry
from ..outcomes import Started, StartFailed
from ..reasons import SHUTDOWN, Reason
from ..telemetry import EventName, Telemetry
from . import wire
from .main_module import MainModule
from .portal import Portal
from .remote_cell import RemoteCell

LAST_WORDS: Final = 1.0
"""Seconds that what is left of the actors, and then the connection, get at the end."""


class Child:
    """The life of one child interpreter.

    Args:
        settings: what the parent's engine wants this one to be like.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._engine = Engine(
            loop="current",
            name=f"{settings['engine']}-child",
            mailbox_limit=settings["mailbox_limit"],
            slow_handler=settings["slow_handler"],
        )
        self._lost = asyncio.Event()
        self._over = asyncio.Event()
        self._parent = ""
        self._portal = Portal(self._engine, self._connection_lost, self._told)
        self._engine.telemetry = Uplink(self._engine, self._portal)

    async def run(self, connection: socket.socket) -> None:
        """Live until the placed actor has ended; without the parent nothing here lives on."""
        await self._engine.loop.create_connection(lambda: self._portal, sock=connection)
        await self._over.wait()
        await self._engine.astop(SHUTDOWN, LAST_WORDS)
        self._portal.hang_up()
        await asyncio.wait_for(self._lost.wait(), LAST_WORDS)

    def _connection_lost(self) -> None:
        self._lost.set()
        self._over.set()

    # -- the placed actor --------------------------------------------------------------------------

    def _told(self, kind: int, body: Any) -> None:
        if kind == wire.START and not isinstance(body, Exception):
            self._engine.create_task(self._start(*body))
        elif isinstance(body, Exception):  # unreadable: as a rule its module cannot be imported here
            from ..reasons import Crash

            self._portal.send(wire.STARTED, 0, StartFailed(Crash(body)))
            self._over.set()

    async def _start(
        self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any], place: Any
    ) -> None:
        engine, portal = self._engine, self._portal

        def born(cell: Cell) -> None:
            portal.twin, portal.twin_origin = cell, place
            portal.send(wire.BORN, 0, process_of(cell.address))

        outcome = await engine.spawn(cls, args, kwargs, born=born, **options)
        portal.send(wire.STARTED, 0, outcome)
