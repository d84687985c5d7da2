"""What a producer owes: demand that it will meet later, from a task."""

from __future__ import annotations

import asyncio


class Credit:
    """Demand that is not met yet. ``handle_demand`` adds to it, a task takes from it and waits while there is none.

    ::

        def handle_demand(self, demand: int) -> None:
            self.credit.add(demand)

        async def pump(self) -> None:  # started with start_task
            while True:
                await self.credit.take()
                self.emit((await self.source.read(),))

    For one task at a time, on the engine's thread.

    Attributes:
        left: how many events may be emitted now.
    """

    __slots__ = ("_waiting", "left")

    def __init__(self) -> None:
        self.left = 0
        self._waiting: asyncio.Future[None] | None = None

    def add(self, count: int) -> None:
        """``count`` more events may be emitted."""
        self.left += count
        waiting = self._waiting
        if waiting is not None and self.left > 0 and not waiting.done():
            waiting.set_result(None)

    async def take(self, most: int = 1) -> int:
        """Wait until at least one event may be emitted, and take up to ``most``; how many."""
        while self.left <= 0:
            waiting = self._waiting = asyncio.get_running_loop().create_future()
            try:
                await waiting
            finally:
                self._waiting = None
        taken = min(most, self.left)
        self.left -= taken
        return taken


__all__ = ("Credit",)
