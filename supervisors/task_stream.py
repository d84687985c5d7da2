"""One task for each item, a few at once, the results as a stream (OTP TSK-07)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar

from ..runtime.child_spec import check_options
from ..runtime.errors import UsageError, did_you_mean
from ..runtime.reasons import KILL
from .task import Task, TaskExit, TaskResult

T = TypeVar("T")
OnTimeout = Literal["exit", "kill_task"]
ON_TIMEOUT: tuple[str, ...] = ("exit", "kill_task")


class StreamSettings(TypedDict, total=False):
    """What may be said of a stream; the defaults are those of :class:`StreamOptions`."""

    max_concurrency: int
    ordered: bool
    timeout: float | None
    on_timeout: OnTimeout
    blocking: bool


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream of tasks runs. Checked when made.

    Attributes:
        max_concurrency: tasks that run at once.
        ordered: results in the order of the items, or as they come.
        timeout: seconds for each task, None for ever.
        on_timeout: ``exit`` raises ``CallTimeout`` at the reader; ``kill_task`` makes ``TaskExit("timeout")`` of it.
        blocking: the function blocks: run it on daemon threads.

    Raises:
        UsageError: an option is out of range.
    """

    max_concurrency: int = 8
    ordered: bool = True
    timeout: float | None = 5.0
    on_timeout: OnTimeout = "exit"
    blocking: bool = False

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise UsageError(f"async_stream: expected max_concurrency from 1, got {self.max_concurrency!r}")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"async_stream: expected a timeout in seconds above 0, or None, got {self.timeout!r}")
        if self.on_timeout not in ON_TIMEOUT:
            hint = did_you_mean(str(self.on_timeout), ON_TIMEOUT)
            raise UsageError(f"async_stream: expected on_timeout 'exit' or 'kill_task', got {self.on_timeout!r}{hint}")


def stream_options(method: str, given: StreamSettings) -> StreamOptions:
    """Check what was said of a stream.

    Raises:
        SpecError: an option is unknown, with the nearest known one.
        UsageError: one is out of range.
    """
    check_options(method, given, tuple(StreamSettings.__annotations__))
    return StreamOptions(**given)


class Flock:
    """The tasks of one stream that run now.

    Attributes:
        finished: results by position, in the order in which they came.
    """

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, tuple[Task[Any], float | None]] = {}
        self._arrivals: asyncio.Queue[int] = asyncio.Queue()
        self.finished: dict[int, TaskResult[Any]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def add(self, position: int, task: Task[Any]) -> None:
        """One more runs."""
        timeout = self._options.timeout
        self._running[position] = (task, None if timeout is None else self._loop.time() + timeout)
        task.when_ended(lambda: self._arrivals.put_nowait(position))

    async def wait(self) -> None:
        """Wait until one has ended or its time is up.

        Raises:
            CallTimeout: its time is up, and that ends the stream.
        """
        # All have the same timeout: the one that began first is the first whose time is up.
        first, (task, deadline) = next(iter(self._running.items()))
        try:
            async with asyncio.timeout_at(deadline):
                arrived = await self._arrivals.get()
        except TimeoutError:
            if self._options.on_timeout == "exit":
                raise task.timed_out(self._options.timeout) from None
            del self._running[first]
            task.signal(KILL)
            self.finished[first] = TaskExit("timeout")
            return
        if arrived in self._running:
            task, _ = self._running.pop(arrived)
            task.unlink()  # a trapping owner needs no exit message of what the stream tells it
            outcome = task.outcome()
            assert outcome is not None, "a task that told of its end has ended"
            self.finished[arrived] = outcome

    def stop(self) -> None:
        """Leave nothing running."""
        for task, _ in self._running.values():
            task.signal(KILL)


async def stream(
    start: Callable[[Any], Awaitable[Task[T]]], items: Iterable[Any], options: StreamOptions
) -> AsyncGenerator[TaskResult[T], None]:
    """The results of ``start(item)`` for each item; what still runs is killed when the reader leaves.

    Args:
        start: starts the task of one item.
        items: read one by one, as places become free.
        options: see there.
    """
    flock = Flock(options)
    finished = flock.finished
    source = enumerate(items)
    more, delivered = True, 0
    try:
        while True:
            while more and len(flock) < options.max_concurrency:
                position, item = next(source, (-1, None))
                more = position >= 0
                if more:
                    flock.add(position, await start(item))
            ready = delivered if options.ordered else next(iter(finished), -1)
            if ready in finished:
                delivered += 1
                yield finished.pop(ready)
            elif len(flock):
                await flock.wait()
            else:
                return
    finally:
        flock.stop()
