"""Reading producers from outside of stages: ``async for event in stream(...)`` (OTP STG-70, STG-71)."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, cast

from thespian.actors import ActorAddress

from ..address import LocalAddress
from ..engine import Engine
from ..errors import ActorDied, CallError, Error, NoProcess, StartError, UsageError
from ..gen_server import GenServer
from ..outcomes import Started, StartFailed, StartResult
from ..process import Target
from ..reasons import NOPROC, Crash, Reason, describe
from .options import MAX_DEMAND, CancelMode, SubscribeOptions
from .reader import Close, Next, Reader, StreamOver, expected_failure

NEXT: Final = Next()
Source = Target | tuple[Target, SubscribeOptions]
"""A producer, or a producer with how to subscribe to it."""


def stream(
    producers: Source | Sequence[Source],
    caller: GenServer | Engine,
    *,
    max_demand: int = MAX_DEMAND,
    min_demand: int | None = None,
    cancel: CancelMode = "permanent",
    timeout: float | None = None,
    namespace: str = "",
) -> Stream:
    """The events of some producers: ``async for`` in coroutines, on any event loop; ``for`` in threads.

    ::

        async with stream("numbers/a", self, cancel="transient") as events:
            async for event in events:
                ...

    It subscribes with the first event that is read, and sets the producers' demand mode to ``forward``.
    Leaving early, by ``aclose``, the end of ``async with``, or dropping the stream, cancels the subscriptions.

    Args:
        producers: one, or several.
        caller: the actor that reads, in a coroutine of its; or the engine, for code outside all actors.
        max_demand: see :class:`.options.SubscribeOptions`.
        min_demand: see there.
        cancel: what a producer's end means: ``permanent``: a failure; ``transient``: a failure if its
            reason is abnormal; ``temporary``: never one. The stream is over when all have ended.
        timeout: seconds to wait for each event, None for ever; never longer than what is left of the call
            that the caller serves.
        namespace: where an outside caller's names are looked up; an actor has its own.

    Raises (when read):
        NoProcess: a producer is not there (not if ``temporary``).
        ActorDied: a producer ended (``reason``), or the stream's own actor was killed.
        Error: the one that a producer failed with, by the exit reason ``("shutdown", error)``.
        CallTimeout: no event came in time.
        CallError: there are no more events as the caller, or the engine, has ended.
        UsageError: one of them is no producer.
        SpecError: an option is malformed; at once.
    """
    options = SubscribeOptions(max_demand, min_demand, cancel)
    several = producers if isinstance(producers, Sequence) and not _is_one(producers) else (producers,)
    sources = [_source(each, options) for each in cast("Sequence[Source]", several)]
    return Stream(sources, caller, timeout, namespace)


def _is_one(producers: object) -> bool:
    if isinstance(producers, (str, ActorAddress)):
        return True
    given = cast("Sequence[object]", producers)
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], SubscribeOptions)


def _source(each: Source, options: SubscribeOptions) -> tuple[Target, SubscribeOptions]:
    if isinstance(each, tuple):
        return each
    return each, options


class Stream:
    """The events of some producers, to be read once, by one reader at a time. See :func:`stream`.

    Whatever ends it (the producers' end, an error, a cancelled read) ends it for good: the next read finds
    the end.
    """

    def __init__(
        self,
        producers: Sequence[tuple[Target, SubscribeOptions]],
        caller: GenServer | Engine,
        timeout: float | None,
        namespace: str,
    ) -> None:
        self._producers = producers
        self._actor = caller if isinstance(caller, GenServer) else None
        self._engine = caller.system if isinstance(caller, GenServer) else caller
        self._namespace = caller.namespace if isinstance(caller, GenServer) else namespace
        self._timeout = timeout
        self._ready: deque[Any] = deque()
        self._reader: LocalAddress | None = None
        self._finalizer: weakref.finalize[..., Stream] | None = None
        self._over = False

    # -- in coroutines -------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if not self._ready:
            if self._over:
                raise StopAsyncIteration
            try:
                answer = await self._pull(self._reader or self._adopt(await self._start()))
            except BaseException:  # fault boundary: a read that fails, or is cancelled, may have lost events
                self._end()
                raise
            if not self._take(answer):
                raise StopAsyncIteration
        return self._ready.popleft()

    async def _start(self) -> StartResult:
        if self._engine.outside.on_thread():
            return self._spawn()
        loop = asyncio.get_running_loop()
        started: asyncio.Future[StartResult] = loop.create_future()

        def tell(outcome: StartResult) -> None:
            if started.done():  # nobody waits any more
                self._let_go(outcome)
            else:
                started.set_result(outcome)

        def start() -> None:
            outcome = self._spawn()
            try:
                loop.call_soon_threadsafe(tell, outcome)
            except RuntimeError:  # that loop is closed
                self._let_go(outcome)

        self._engine.post(start)
        return await started

    async def _pull(self, reader: LocalAddress) -> Any:
        if self._actor is not None:
            return await self._actor.call(reader, NEXT, timeout=self._timeout)
        return await self._engine.call_async(reader, NEXT, self._timeout)

    async def aclose(self) -> None:
        """Read no more: the producers' subscriptions are cancelled. Twice is once."""
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # -- in threads ----------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._ready:
            if self._over:
                raise StopIteration
            self._engine.outside.refuse_here("read of a stream", "use 'async for' there")
            try:
                reader = self._reader or self._adopt(self._engine.on_engine(self._spawn))
                answer = self._pull_blocking(reader)
            except BaseException:  # fault boundary: as in __anext__; Ctrl-C too
                self._end()
                raise
            if not self._take(answer):
                raise StopIteration
        return self._ready.popleft()

    def _pull_blocking(self, reader: LocalAddress) -> Any:
        if self._actor is not None:
            return self._actor.call_sync(reader, NEXT, timeout=self._timeout)
        return self._engine.call_blocking(reader, NEXT, self._timeout)

    def close(self) -> None:
        """As :meth:`aclose`; from any thread."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # -- both ----------------------------------------------------------------------------------------

    def _spawn(self) -> StartResult:
        """Start the reader; on the engine's thread. Its ``init`` is plain, so it runs when this returns."""
        owner = None if self._actor is None else self._actor.myAddress
        work = self._engine.spawn(Reader, (self._producers, owner), namespace=self._namespace)
        try:
            work.send(None)
        except StopIteration as end:
            outcome: StartResult = end.value
            return outcome
        work.close()
        raise UsageError("expected a stream's reader to start without waiting")

    def _adopt(self, outcome: StartResult) -> LocalAddress:
        if isinstance(outcome, Started):
            self._reader = outcome.address
            # Not through a lock of the engine's: garbage is collected anywhere, also while it is held.
            self._finalizer = weakref.finalize(self, _close, self._engine, outcome.address)
            self._finalizer.atexit = False
            return outcome.address
        reason = outcome.reason if isinstance(outcome, StartFailed) else "ignore"
        if self._engine.stopping:
            raise self._engine.router.down()
        if reason == NOPROC:
            names, ended = self._named(), self._ended()
            why = "is not there" if ended is None else f"has ended ({describe(ended)})"
            raise NoProcess(
                f"no process: expected producers that run, and one {why}, of {names}",
                target=names,
                reason=reason if ended is None else ended,
            )
        if isinstance(reason, Crash) and isinstance(reason.error, Error):
            raise reason.error
        raise StartError(f"a stream did not start: {describe(reason)}", reason=reason)

    def _named(self) -> str:
        """The producers, for people; an address says nothing to them, but whose child it was does."""
        return ", ".join(_name(target) for target, _ in self._producers)

    def _ended(self) -> Reason:
        """Why the first producer ended that has; None if all that were given by address run."""
        cells = (target.cell for target, _ in self._producers if isinstance(target, LocalAddress))
        return next((cell.reason for cell in cells if cell is not None and not cell.alive), None)

    def _let_go(self, outcome: StartResult) -> None:
        if isinstance(outcome, Started):
            _close(self._engine, outcome.address)

    def _take(self, answer: tuple[Any, ...] | StreamOver) -> bool:
        """Keep events; False at the end of the stream, which a failure raises."""
        if not isinstance(answer, StreamOver):
            self._ready.extend(answer)
            return True
        self._end()
        if answer.failed:
            reason = answer.reason
            error = expected_failure(reason)
            if error is not None:
                raise error
            names = self._named()
            raise ActorDied(
                f"a producer of the stream ended ({describe(reason)}), of {names}", target=names, reason=reason
            ) from (reason.error if isinstance(reason, Crash) else None)
        return False

    def _end(self) -> None:
        """Nothing more is read; the reader, if it still runs, ends."""
        self._over = True
        self._ready.clear()
        if self._finalizer is not None and self._finalizer.detach() is not None and self._reader is not None:
            with contextlib.suppress(CallError):  # the engine has stopped, and the reader with it
                if self._engine.alive(self._reader):
                    self._engine.cast(self._reader, Close())


def _name(target: Target) -> str:
    cell = target.cell if isinstance(target, LocalAddress) else None
    if cell is None or cell.name is not None or cell.parent is None or cell.parent.name is None:
        return str(target) if cell is None else cell.label
    return f"{cell.actor_class.__name__} of {cell.parent.name}"


def _close(engine: Engine, reader: LocalAddress) -> None:
    with contextlib.suppress(RuntimeError):  # the engine's loop is closed
        engine.loop.call_soon_threadsafe(_tell_close, engine, reader)


def _tell_close(engine: Engine, reader: LocalAddress) -> None:
    if engine.alive(reader):
        engine.router.cast(reader, Close())


__all__ = ("NEXT", "Source", "Stream", "stream")
