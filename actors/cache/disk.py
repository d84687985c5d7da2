"""The disk as the cache actor sees it: work is queued, and done by one task beside the mailbox."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Final

from ...runtime.calls import Call
from ...runtime.gen_server import GenServer
from .store import DiskOutcome, DiskStore, DiskWork

MAX_WRITES: Final = 1000
"""Answers that may wait for the disk."""


class CacheDisk:
    """Hands work to a :class:`~.cache.store.DiskStore`; what comes meanwhile is the next piece of work.

    Args:
        actor: whose task does it; it owns the store.
        store: the disk.
        ttl: seconds for which an answer is kept.
        worked: told of each piece of work that was done.
    """

    def __init__(
        self, actor: GenServer, store: DiskStore, ttl: float, worked: Callable[[DiskWork, DiskOutcome], None]
    ) -> None:
        self.ttl = ttl
        self._actor = actor
        self._store = actor.own(store)
        self._worked = worked
        self._work = DiskWork()
        self._clearing: list[Call] = []
        self._busy = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def resting(self) -> bool:
        """Whether it failed a moment ago and is left alone."""
        return self._store.resting

    def read(self, key: str) -> None:
        """Look a key up; ``worked`` hears what was found."""
        self._work.reads[key] = None
        self._go_on()

    def write(self, key: str, value: str) -> bool:
        """Keep an answer; False if too many wait already."""
        if self.resting:
            return True  # told of when it failed
        if len(self._work.writes) >= MAX_WRITES:
            return False
        self._work.writes[key] = value
        self._go_on()
        return True

    def clear(self, caller: Call | None = None) -> None:
        """Forget everything, what waits included; the caller is answered once that is done."""
        self._work.clear = True
        self._work.writes.clear()
        if caller is not None:
            self._clearing.append(caller)
        self._go_on()

    async def flush(self) -> None:
        """Write what waits."""
        if self._work.writes:
            await self._actor.run_blocking(self._store.run, DiskWork(writes=self._work.writes), self.ttl)

    def close(self) -> None:
        """Let go of the file."""
        self._actor.disown(self._store)
        self._store.close()

    def _go_on(self) -> None:
        if not self._busy:
            self._busy = True
            self._actor.detach(self._work_off(), tag="disk")

    async def _work_off(self) -> None:
        try:
            while self._work:
                work, self._work = self._work, DiskWork()
                clearing, self._clearing = self._clearing, []
                outcome = await self._actor.run_blocking(self._store.run, work, self.ttl)
                self._worked(work, outcome)
                for caller in clearing:
                    if outcome.cleared is None:
                        self._actor.reply(caller, None)
                    else:  # one each: whoever gets it is told its own trace
                        self._actor.fail(caller, copy(outcome.cleared))
        finally:
            self._busy = False
