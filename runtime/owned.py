"""The handle of a task that an actor owns."""

from __future__ import annotations

import asyncio
from typing import Any


class OwnedTask:
    """A running task. Its end arrives at its owner as a message with ``tag``."""

    __slots__ = ("_task", "tag")

    def __init__(self, tag: Any, task: asyncio.Task[Any]) -> None:
        self.tag = tag
        self._task = task

    def cancel(self) -> None:
        """Cancel it; ``TaskFailed(tag, "killed")`` follows."""
        self._task.cancel()

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self._task.done()
