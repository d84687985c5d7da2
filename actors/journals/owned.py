"""A journal that its actor opened, and that is closed with the actor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, wait

from ..journal import Journal


class OwnedJournal:
    """A journal that opens, as a resource of an actor: closed also if it opens only after the actor's end.

    Args:
        executor: opening and closing may wait for the disk, so both happen on its threads.
        open_it: opens the journal.

    Attributes:
        opening: becomes the journal.
    """

    def __init__(self, executor: Executor, open_it: Callable[[], Journal]) -> None:
        self._executor = executor
        self.opening = executor.submit(open_it)

    async def aclose(self) -> None:
        """Close it."""
        await asyncio.wrap_future(self._executor.submit(self._close))

    def _close(self) -> None:
        wait([self.opening])
        if not self.opening.cancelled() and self.opening.exception() is None:
            self.opening.result().close()
