"""Work that spends from one budget, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...runtime.errors import LMBudgetExceeded

T = TypeVar("T")


class Spending:
    """What finds no room in the budget waits until other work has ended, and is done anew.

    Room is reserved by estimate, which is often much more than a request uses in the end: a budget is spent only when
    there is no room though nobody else holds any.
    """

    def __init__(self) -> None:
        self._busy = 0
        self._ended = asyncio.Event()

    async def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it.

        Raises:
            LMBudgetExceeded: there is no room, and there will be none.
            Error: of ``work``.
        """
        while True:
            waits = False
            self._busy += 1
            try:
                return await work()
            except LMBudgetExceeded:
                waits = self._busy > 1
                if not waits:
                    raise
            finally:
                self._busy -= 1
                if not waits:  # who only waits gives no room back
                    self._ended.set()
                    self._ended = asyncio.Event()
            await self._ended.wait()
