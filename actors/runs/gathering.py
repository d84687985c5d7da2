"""Entries for a run's journal, gathered while the ones before them are written: one message, and one transaction."""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Awaitable, Callable

from ...runtime.errors import Error
from .messages import Entry


class Gathering:
    """Entries on their way: who hands one in does not wait, and what comes meanwhile is written together.

    Args:
        group: whose end waits for the last of them.
        record: writes entries; back when they would survive a ``kill -9``.
        problems: is given what ``record`` raises.
    """

    def __init__(self, group: TaskGroup, record: Callable[..., Awaitable[None]], problems: list[Error]) -> None:
        self._group = group
        self._record = record
        self._problems = problems
        self._waiting: list[Entry] = []
        self._writing = False

    def keep(self, entry: Entry) -> None:
        """Have an entry written."""
        self._waiting.append(entry)
        if not self._writing:
            self._writing = True
            self._group.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                entries, self._waiting = self._waiting, []
                await self._record(*entries)
        except Error as error:
            self._problems.append(error)
        finally:
            self._writing = False
