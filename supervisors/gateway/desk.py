"""What every request needs, and the list of those in work."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Generator
from contextlib import contextmanager

from ...actors.configuration.settings import AiSettings, GatewaySettings
from ...runtime.engine import Engine
from .problems import busy


class Desk:
    """Shared by the actor and its requests; on the engine's thread only.

    Args:
        engine: where the providers are.
        settings: the gateway's.
        ai: providers and routes.

    Attributes:
        ai: providers and routes as they are now.
        requests: requests that were let in.
        refused: those that were not.
        draining: whether new ones are refused.
        closing: whether those in work are ended.
        started: wall clock, seconds since the epoch.
    """

    def __init__(self, engine: Engine, settings: GatewaySettings, ai: AiSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.ai = ai
        self.started = int(engine.clock.time())
        self.requests = self.refused = 0
        self.draining = self.closing = False
        self._at_work: dict[asyncio.Task[object], None] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_work(self) -> int:
        """Requests in work now."""
        return len(self._at_work)

    def knows(self, token: str) -> bool:
        """Whether this is the configured token; in the same time whatever it is.

        Raises:
            ConfigError: the configured one is missing where it should be.
        """
        expected = self.settings.token
        if expected is None:
            return True
        mine, theirs = (text.encode("utf-8", "surrogatepass") for text in (expected.resolve(), token))
        return hmac.compare_digest(mine, theirs)

    @contextmanager
    def place(self) -> Generator[None, None, None]:
        """A place among the requests in work, for the current task.

        Raises:
            Refused: there is none.
        """
        if self.draining or self.closing or self.in_work >= self.settings.max_requests:
            self.refused += 1
            what = "is stopping" if self.draining or self.closing else f"has {self.in_work} requests in work"
            raise busy(f"the gateway {what} and takes no more; try again in a moment")
        task = asyncio.current_task()
        assert task is not None
        self.requests += 1
        self._at_work[task] = None
        self._idle.clear()
        try:
            yield
        finally:
            self._at_work.pop(task, None)
            if not self._at_work:
                self._idle.set()

    async def until_idle(self) -> None:
        """Wait until nothing is in work."""
        await self._idle.wait()

    def close(self) -> tuple[asyncio.Task[object], ...]:
        """End what is in work; the tasks that end."""
        self.draining = self.closing = True
        tasks = tuple(self._at_work)
        for task in tasks:
            task.cancel()
        return tasks
