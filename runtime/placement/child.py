"""The child interpreter: one engine on the main thread, one placed actor, and whatever that one starts."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..address import LocalAddress, Origin, origin_of
from ..cell import Cell
from ..engine import Engine
from ..errors import Error, UsageError
from ..names import Change, NameEntry
from ..outcomes import Started, StartFailed, StartResult
from ..reasons import SHUTDOWN, Crash, Reason
from . import wire
from .main_module import MainModule
from .portal import Portal
from .remote_cell import RemoteCell
from .uplink import Uplink

LAST_WORDS: Final = 1.0
"""Seconds that what is left of the actors gets at the end."""


class Child:
    """The life of one child interpreter.

    Args:
        settings: what the parent's engine wants this one to be like.
        leaving: called when the placed actor has ended.
    """

    def __init__(self, settings: Mapping[str, Any], leaving: Callable[[], None]) -> None:
        self._engine = Engine(
            loop="current",
            name=f"{settings['engine']}-child",
            mailbox_limit=settings["mailbox_limit"],
            slow_handler=settings["slow_handler"],
        )
        self._leaving = leaving
        self._lost = asyncio.Event()
        self._over = asyncio.Event()
        self._names: dict[str, RemoteCell] = {}
        self._portal = Portal(self._engine, self._connection_lost, self._told)
        self._engine.telemetry = Uplink(self._engine, self._portal)
        self._engine.router.elsewhere = self._named

    async def run(self, connection: socket.socket) -> None:
        """Live until the placed actor has ended; without the parent nothing here lives on."""
        await self._engine.loop.create_unix_connection(lambda: self._portal, sock=connection)
        await self._over.wait()
        await self._engine.astop(SHUTDOWN, LAST_WORDS)
        self._portal.hang_up()
        await self._lost.wait()  # however long the parent takes to read the last of it

    def _connection_lost(self) -> None:
        self._lost.set()
        self._over.set()

    def _named(self, name: str, fail_fast: bool) -> Cell:
        """Whoever has a name in the parent, now and later."""
        cell = self._names.get(name)
        if fail_fast or cell is None or not cell.alive:
            cell = RemoteCell(self._portal, LocalAddress(f"{name}@parent", 0), name, fail_fast)
            if not fail_fast:
                self._names[name] = cell
        return cell

    # -- the placed actor --------------------------------------------------------------------------

    def _told(self, kind: int, body: Any) -> None:
        if isinstance(body, Error):  # its module cannot be imported here, as a rule
            self._portal.send(wire.STARTED, 0, StartFailed(Crash(body)))
            self._leave()
        elif kind == wire.START:
            self._engine.create_task(self._start(*body))

    async def _start(
        self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any], place: Origin
    ) -> None:
        engine, portal = self._engine, self._portal

        def born(cell: Cell) -> None:
            portal.twin, portal.twin_origin = cell, place
            portal.send(wire.BORN, 0, origin_of(cell.address))

        outcome: StartResult
        try:
            outcome = await engine.spawn(cls, args, kwargs, born=born, supervised=True, **options)
        except Exception as error:  # fault boundary: whoever waits for the start must be told how it went
            outcome = StartFailed(Crash(error))
        if isinstance(outcome, StartFailed):
            outcome = StartFailed(wire.portable_reason(outcome.reason))
        try:
            portal.send(wire.STARTED, 0, outcome)
        except UsageError as error:  # what init answered does not pickle
            outcome = StartFailed(Crash(error))
            portal.send(wire.STARTED, 0, outcome)
        if not isinstance(outcome, Started):
            self._leave()
            return
        self._announce(options["name"])
        cell = portal.twin
        if cell is not None and cell.alive:
            cell.watch(engine.next_number(), self._ended)
        elif cell is not None:
            self._ended(cell.address, cell.reason)

    def _announce(self, name: str | None) -> None:
        """What the actor says of itself, now and later, is known in the parent too."""

        def tell(entry: NameEntry, change: Change) -> None:
            if change == "metadata" and entry.name == name:
                self._portal.send(wire.METADATA, 0, dict(entry.metadata))

        entry = None if name is None else self._engine.names.get(name)
        if entry is not None and entry.metadata:
            tell(entry, "metadata")
        self._engine.names.subscribe(tell)

    def _ended(self, address: LocalAddress | None, reason: Reason) -> None:
        self._portal.send(wire.ENDED, 0, wire.portable_reason(reason))
        self._leave()

    def _leave(self) -> None:
        self._leaving()
        self._over.set()


def main(connection: socket.socket, settings: Mapping[str, Any], leaving: Callable[[], None]) -> None:
    """Run the child until its actor has ended. Called by ``boot.py``."""
    sys.modules["__main__"] = MainModule(settings["main"])
    asyncio.run(_run(connection, settings, leaving))


async def _run(connection: socket.socket, settings: Mapping[str, Any], leaving: Callable[[], None]) -> None:
    connection.setblocking(False)
    await Child(settings, leaving).run(connection)
