"""For tests of the engine: one in virtual time, one in a thread, and actors that tell what they see."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from conformance.virtual_loop import LoopClock, VirtualLoop
from thespian.actors import Actor

from dspex.runtime.address import LocalAddress
from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer, Started, info

T = TypeVar("T")


class Lab:
    """An engine on the running loop, and what a test needs around it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def start(self, cls: type[Actor], *args: Any, name: str | None = None, **options: Any) -> LocalAddress:
        """Start an actor that must start; its address. Options as of ``Engine.spawn``, ``kwargs`` among them."""
        kwargs = options.pop("kwargs", {})
        outcome = await self.engine.spawn(cls, args, kwargs, name=name, **options)
        assert isinstance(outcome, Started), outcome
        return outcome.address

    async def call(self, target: Any, message: Any, timeout: float | None = 5.0, **options: Any) -> Any:
        """Call from outside."""
        return await self.engine.call_async(target, message, timeout, **options)

    async def error(self, target: Any, message: Any, timeout: float | None = 5.0, **options: Any) -> Any:
        """Call from outside; the error that must come."""
        try:
            answer = await self.engine.call_async(target, message, timeout, **options)
        except Exception as error:
            return error
        raise AssertionError(f"expected an error, got the answer {answer!r}")

    async def down(self, target: Any, timeout: float | None = 5.0) -> Any:
        """Wait for an actor's end; its reason."""
        over, reason = await self.engine.wait_down(target, timeout)
        assert over, f"{target} still lives"
        return reason

    async def order_down(self, address: LocalAddress, reason: Any = "shutdown") -> Any:
        """Have its parent (the engine, here) order it to stop; its reason."""
        assert address.cell is not None
        address.cell.signal(reason, None, from_parent=True)
        return await self.down(address)

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        for _ in range(30):
            await asyncio.sleep(0)


def in_lab(test: Callable[[Lab], Awaitable[T]], *, virtual: bool = True, **options: Any) -> T:
    """Run a test's coroutine with an engine on its loop, in virtual time unless threads are needed."""
    loop: asyncio.AbstractEventLoop = VirtualLoop() if virtual else asyncio.new_event_loop()

    async def run() -> T:
        engine = Engine(loop="current", clock=LoopClock(loop), **options)
        try:
            return await test(Lab(engine))
        finally:
            await engine.astop()

    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


@contextlib.contextmanager
def running_engine(**options: Any) -> Iterator[Engine]:
    """An engine in a thread of its own, stopped at the end."""
    engine = Engine(**options)
    try:
        yield engine
    finally:
        engine.stop()


class Recorder(list[Any]):
    """A list that tells when it is long enough; filled on any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = threading.Condition()

    def append(self, entry: Any) -> None:
        """Take an entry."""
        with self._grown:
            super().append(entry)
            self._grown.notify_all()

    async def reached(self, length: int) -> None:
        """Wait until it has so many entries; for tests in real time."""
        assert await asyncio.to_thread(self._wait, length), self

    def _wait(self, length: int) -> bool:
        with self._grown:
            return self._grown.wait_for(lambda: len(self) >= length, 10)


class Probe(GenServer):
    """Puts every plain message it gets into a list of the test's."""

    def init(self, seen: list[Any] | None = None) -> None:
        self.seen = [] if seen is None else seen

    @info
    def take(self, message: object) -> None:
        self.seen.append(message)
