"""One run, as those see it who began it: awaitable and blocking."""

from __future__ import annotations

from typing import Any

from ....actors.runs.messages import CancelRun, GetResult, PauseRun, ResumeRun, RunInfo, RunResult, RunStatus
from ....runtime.errors import ActorDied
from ..life import Life
from ..views import CALL_TIMEOUT


class AsyncRun:
    """A run to be awaited: ``result = await run.result()``.

    Attributes:
        id: its id.
        name: its registered name, ``run/<id>``.
    """

    def __init__(self, life: Life, id: str) -> None:
        self._life = life
        self.id = id
        self.name = f"run/{id}"

    async def status(self) -> RunStatus:
        """How it is: progress, the best so far, what it cost."""
        return await self._ask(RunInfo())

    async def pause(self) -> RunStatus:
        """Begin no further example; those in work end."""
        return await self._ask(PauseRun())

    async def resume(self) -> RunStatus:
        """Go on after a pause."""
        return await self._ask(ResumeRun())

    async def cancel(self) -> RunStatus:
        """End it now; the best so far stays its result."""
        return await self._ask(CancelRun(), None)

    async def result(self, timeout: float | None = None) -> RunResult:
        """Wait for its end, over crashes of the run; whatever the outcome, ``state`` may be used.

        Args:
            timeout: seconds to wait, None for ever.

        Raises:
            RunError: it failed; started again under its id it goes on where it was.
            CallTimeout: it still runs.
            CallError: it is gone, or the application is.
        """
        clock = self._life.engine.clock
        end = None if timeout is None else clock.monotonic() + timeout
        while True:
            left = None if end is None else max(end - clock.monotonic(), 0.0)
            try:
                found: RunResult = await self._life.call(self.name, GetResult(), timeout=left)
            except ActorDied:
                continue  # its supervisor starts it again: asked anew, the call waits for that, or fails for good
            return found

    async def _ask(self, message: Any, timeout: float | None = CALL_TIMEOUT) -> RunStatus:
        return await self._life.call(self.name, message, timeout=timeout)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Run:
    """A run: ``result = run.result()``; see :class:`AsyncRun`.

    Attributes:
        aio: the awaitable view.
        id: its id.
        name: its registered name, ``run/<id>``.
    """

    def __init__(self, life: Life, id: str) -> None:
        self._life = life
        self.aio = AsyncRun(life, id)
        self.id = id
        self.name = self.aio.name

    def status(self) -> RunStatus:
        """How it is."""
        return self._life.run(self.aio.status())

    def pause(self) -> RunStatus:
        """Begin no further example."""
        return self._life.run(self.aio.pause())

    def resume(self) -> RunStatus:
        """Go on after a pause."""
        return self._life.run(self.aio.resume())

    def cancel(self) -> RunStatus:
        """End it now."""
        return self._life.run(self.aio.cancel())

    def result(self, timeout: float | None = None) -> RunResult:
        """Wait for its end; see :meth:`AsyncRun.result`."""
        return self._life.run(self.aio.result(timeout))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
