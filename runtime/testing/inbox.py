"""What came in and was not looked at yet, with a wait in virtual time for what is still to come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from .virtual_loop import VirtualLoop

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue on a virtual loop.

    Args:
        loop: whose time passes while one waits.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._items: deque[T] = deque()
        self._news: asyncio.Future[None] | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item."""
        self._items.append(item)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def next(self, within: float) -> T | None:
        """The oldest item; None if none comes within so many virtual seconds."""
        return self._items.popleft() if await self._filled(0, self._loop.time() + within) else None

    async def find(self, matches: Callable[[T], bool], within: float) -> T | None:
        """The oldest item that matches, taken out from among the others; None if none comes in time."""
        deadline, seen = self._loop.time() + within, 0
        while await self._filled(seen, deadline):
            for place in range(seen, len(self._items)):
                item = self._items[place]
                if matches(item):
                    del self._items[place]
                    return item
            seen = len(self._items)
        return None

    async def _filled(self, seen: int, deadline: float) -> bool:
        """Wait until there are more than ``seen`` items; whether they came in time."""
        if len(self._items) <= seen:
            await self._loop.idle()
        while len(self._items) <= seen:
            if not self._loop.auto_jump or self._loop.time() >= deadline:
                return False
            self._news = self._loop.create_future()
            await asyncio.wait([self._news], timeout=deadline - self._loop.time())
        return True
