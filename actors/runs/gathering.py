"""Entries for a run's journal, gathered until they are worth a message and a transaction."""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Awaitable, Callable

from ...runtime.errors import Error
from .messages import Entry


class Gathering:
    """Entries on their way: who hands one in does not wait, and a portion of them is written together.

    Args:
        group: whose end waits for what is being written.
        record: writes entries; back when they would survive a ``kill -9``.
        problems: is given what ``record`` raises.
        portion: so many are worth writing.
    """

    def __init__(
        self, group: TaskGroup, record: Callable[..., Awaitable[None]], problems: list[Error], portion: int
    ) -> None:
        self._group = group
        self._record = record
        self._problems = problems
        self._portion = portion
        self._waiting: list[Entry] = []
        self._writing = False

    def keep(self, entry: Entry) -> None:
        """Have an entry written, with others."""
        self._waiting.append(entry)
        if not self._writing and len(self._waiting) >= self._portion:
            self._writing = True
            self._group.create_task(self._write())

    def rest(self) -> list[Entry]:
        """What nobody has written when the group is over; it is the caller's then."""
        entries, self._waiting = self._waiting, []
        return entries

    async def _write(self) -> None:
        try:
            while len(self._waiting) >= self._portion:
                entries, self._waiting = self._waiting, []
                await self._record(*entries)
        except Error as error:
            self._problems.append(error)
        finally:
            self._writing = False
