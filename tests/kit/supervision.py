"""For tests of supervisors: an engine in virtual time, and workers that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from conformance.virtual_loop import LoopClock, VirtualLoop
from thespian.actors import Actor

from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import Exit, GenServer, Ignore, Started, StartFailed, call, cast
from dspex.supervisors.reports import REPORT_EVENT, ChildFields

T = TypeVar("T")


class House:
    """An engine in virtual time, with what a test needs around it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reports: list[tuple[str, ChildFields, Any]] = []
        self.log: list[tuple[Any, ...]] = []
        engine.telemetry.attach("house", REPORT_EVENT, self._on_report)

    def _on_report(self, event: Any, measurements: Any, metadata: Mapping[str, Any], config: Any) -> None:
        self.reports.append((metadata["kind"], metadata["child"], metadata["reason"]))

    @property
    def kinds(self) -> list[tuple[str, Any, Any]]:
        """The reports so far, each as (kind, child id, reason)."""
        return [(kind, child.id, reason) for kind, child, reason in self.reports]

    async def start(self, cls: type[Actor], *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Start a top-level actor; its address."""
        outcome = await self.engine.spawn(cls, args, kwargs, name=name)
        assert isinstance(outcome, Started), outcome
        return outcome.address

    async def start_fails(self, cls: type[Actor], *args: Any, **kwargs: Any) -> Any:
        """Start an actor that must not start; the reason."""
        outcome = await self.engine.spawn(cls, args, kwargs)
        assert isinstance(outcome, StartFailed), outcome
        return outcome.reason

    async def call(self, target: Any, message: Any, timeout: float | None = None) -> Any:
        """Call from outside."""
        return await self.engine.outside.call_async(target, message, timeout=timeout)

    async def tell_to_end(self, target: Any, reason: Any = "crash") -> None:
        """Have a worker end by itself, and wait for it."""
        address = self.address(target)
        self.engine.cast(address, End(reason))
        await self.engine.wait_down(address, None)

    async def stop(self, address: Any, reason: Any = "shutdown") -> Any:
        """Have the actor's parent (the engine, here) order it to stop; its exit reason."""
        address.cell.signal(reason, None, from_parent=True)
        return (await self.engine.wait_down(address, None))[1]

    def address(self, target: Any) -> Any:
        """The address of a name."""
        return self.engine.names.get(target).address if isinstance(target, str) else target  # type: ignore[union-attr]

    def state(self, name: str) -> str:
        """A name's state."""
        entry = self.engine.names.get(name)
        return "unknown" if entry is None else entry.state

    def now(self) -> float:
        """Virtual seconds."""
        return self.engine.now()


def in_house(test: Callable[[House], Awaitable[T]]) -> T:
    """Run a test's coroutine with an engine in virtual time."""
    loop = VirtualLoop()

    async def run() -> T:
        engine = Engine(loop="current", clock=LoopClock(loop))
        try:
            return await test(House(engine))
        finally:
            await engine.astop()

    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


@dataclass(frozen=True)
class End:
    """To a worker: end by yourself."""

    reason: Any


@dataclass(frozen=True)
class Ask:
    """To a worker: who are you?"""


class Script:
    """What starts do, by attempt: ``None`` starts, anything else is a failure's reason, Ignore ignores."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.attempts = 0

    def next(self) -> Any:
        """The outcome of one more attempt; when the list is used up its last one holds on."""
        self.attempts += 1
        if not self.outcomes:
            return None
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]


class Worker(GenServer):
    """Ends when told, answers who it is; may fail to start by a script, may stop slowly."""

    trap_exit = True

    def init(self, *tags: Any, script: Script | None = None, slow: float = 0.0, log: list[Any] | None = None) -> Any:
        self.tags, self.slow, self.log = tags, slow, log
        outcome = script.next() if script is not None else None
        if outcome is not None:
            if isinstance(outcome, Ignore):
                return outcome
            raise Exit(outcome)
        self.tell("start")
        return None

    def tell(self, word: str) -> None:
        """Write into the log, if there is one."""
        if self.log is not None:
            self.log.append((word, *self.tags))

    @cast
    def end(self, message: End) -> None:
        self.slow = 0.0
        raise Exit(message.reason)

    @call
    def ask(self, message: Ask) -> Any:
        return self.tags

    async def terminate(self, reason: Any) -> None:
        if self.slow:
            await asyncio.sleep(self.slow)
        self.tell("stop")


class Stubborn(Worker):
    """Never stops by itself."""

    async def terminate(self, reason: Any) -> None:
        await asyncio.Event().wait()
