"""An engine in virtual time, driven by the test's own thread: nothing waits, nothing sleeps, a seed replays it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from thespian.actors import Actor, ActorAddress

from ..address import LocalAddress
from ..clock import Clock
from ..dispatcher import InlineDispatcher
from ..engine import Engine
from ..errors import NoProcess, UsageError
from ..outcomes import Started
from ..reasons import KILL, Reason
from ..spawning import start_error
from .order import seeded
from .probe import WITHIN, Probe
from .record import Decision, EventName, Record, RecordedEvent
from .relay import Relay, RelayActor
from .start_faults import StartFaults
from .tree import check_tree, draw_tree
from .virtual_loop import Deadlock, LoopClock, VirtualLoop

T = TypeVar("T")
Target = str | ActorAddress


class Application(Protocol):
    """What ``dspex.astart`` gives: something with an engine that can be stopped."""

    @property
    def engine(self) -> Engine:
        """Its engine."""
        ...

    def stop(self) -> Coroutine[Any, Any, None]:
        """Stop it."""
        ...


A = TypeVar("A", bound=Application)


class VirtualSystem:
    """Actors in virtual time. Use it with ``with``; plain code of the test's thread drives it.

    Time moves when nothing is left to do and somebody waits (``call``, ``expect``, ``advance``): to the next
    timer, at once. Which actor runs when, random numbers and ids come from the seed. Code that would run on
    threads runs inline.

    Args:
        seed: of everything random; the same one gives the same run.
        auto_jump: False: time moves only by ``advance``, and waiting for a timer is a :class:`Deadlock`.
        **options: further options of :class:`~..engine.Engine`, e.g. ``mailbox_limit``.

    Attributes:
        seed: as given.
        loop: the event loop.
        clock: reads the loop's time.
        rng: the random source of the engine.
    """

    def __init__(self, seed: int = 0, *, auto_jump: bool = True, **options: Any) -> None:
        self.seed = seed
        self.loop = VirtualLoop(auto_jump=auto_jump)
        self.clock: Clock = LoopClock(self.loop)
        self.rng = random.Random(seed)
        self._options: dict[str, Any] = {
            "clock": self.clock,
            "rng": self.rng,
            "executor": InlineDispatcher(),
            "scheduler": seeded(random.Random(f"{seed} order")),
            # A real watch would tell of another handler in each run.
            "slow_handler": float("inf"),
            **options,
        }
        self._engine: Engine | None = None
        self._application: Application | None = None
        self._record: Record | None = None
        self._starts: StartFaults | None = None
        self._helpers: list[LocalAddress] = []

    # -- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"virtual system: seed {self.seed}, {self.now:g} s; VirtualSystem(seed={self.seed}) replays")
        self.close()

    def close(self) -> None:
        """Stop all actors and close the loop. Twice is once."""
        if self.loop.is_closed():
            return
        try:
            with self.loop.jumping():
                if self._starts is not None:
                    self._starts.remove()
                if self._application is not None:
                    self.run(self._application.stop())
                elif self._engine is not None:
                    self.run(self._engine.astop())
                self.run(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    @property
    def engine(self) -> Engine:
        """The engine below; made on first use."""
        if self._engine is None:

            async def make() -> Engine:
                return Engine(loop="current", name="virtual", **self._options)

            return self._adopt(self.run(make()))
        return self._engine

    def start(self, starter: Callable[..., Awaitable[A]], /, *args: Any, **options: Any) -> A:
        """Start a whole application in virtual time: ``app = system.start(dspex.astart, config={...})``.

        Its methods are coroutines: ``system.run(app.health())``. It is stopped with the system.

        Args:
            starter: ``dspex.astart``.
            *args: for it.
            **options: for it; clock, random source, executor and the seeded order are added.

        Raises:
            UsageError: this system runs actors already.
        """
        if self._engine is not None:
            raise UsageError("expected start() before any other use of the virtual system, which has an engine already")

        async def begin() -> A:
            return await starter(*args, **{**self._options, **options})

        app = self.run(begin())
        self._application = app
        self._adopt(app.engine)
        return app

    def _adopt(self, engine: Engine) -> Engine:
        self._engine = engine
        self.settle()
        self._record = Record(engine, self.loop)
        self._starts = StartFaults(engine)
        return engine

    # -- time ------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.loop.time()

    def run(self, work: Awaitable[T]) -> T:
        """Run a coroutine (or wait for a future) on the virtual loop.

        Raises:
            Deadlock: it waits for what will never come.
            UsageError: called from within the loop; await there.
        """
        if self.loop.is_running():
            if isinstance(work, Coroutine):
                work.close()
            raise UsageError("the virtual loop runs already: await in a coroutine, e.g. system.engine.call_async(...)")
        task = self.loop.create_task(_await(work))
        try:
            return self.loop.run_until_complete(task)
        except Deadlock:
            task.cancel()
            self.loop.run_until_complete(asyncio.wait([task]))
            raise

    def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        if not self.loop.is_running():
            self.run(_idle(self.loop))

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; timers on the way fire in their order, each at its time."""
        if not seconds >= 0:
            raise UsageError(f"expected seconds from 0 to advance, got {seconds!r}")
        with self.loop.jumping():
            if seconds:
                self.run(asyncio.sleep(seconds))
        self.settle()

    # -- actors ----------------------------------------------------------------------------------

    def spawn(
        self, cls: type[Actor], *args: Any, name: str | None = None, namespace: str | None = None, **kwargs: Any
    ) -> LocalAddress:
        """Start a top-level actor and return its address; the arguments are for its ``init``.

        Raises:
            StartError: it did not start.
        """
        outcome = self.run(self.engine.spawn(cls, args, kwargs, name=name, namespace=namespace))
        if not isinstance(outcome, Started):
            raise start_error(cls, outcome)
        return outcome.address

    def call(self, target: Target, message: Any, timeout: float | None = 5.0) -> Any:
        """Ask an actor. Virtual time passes only if the answer takes some. Raises as :meth:`.Engine.call_async`."""
        return self.run(self.engine.call_async(target, message, timeout))

    def cast(self, target: Target, message: Any) -> None:
        """Cast to an actor, and let happen what follows from it at this moment."""
        self.engine.cast(target, message)
        self.settle()

    def tell(self, target: Target, message: Any) -> None:
        """Send an actor a plain message, and let happen what follows from it at this moment."""
        self.engine.send(self.address(target), message, None)
        self.settle()

    def kill(self, target: Target, reason: Reason = KILL) -> LocalAddress:
        """Send an exit signal, and let happen what follows from it at this moment.

        Args:
            target: name or address of a live actor.
            reason: ``"kill"`` cannot be trapped.

        Returns:
            The address of who got it.

        Raises:
            NoProcess: there is nobody.
        """
        address = self.address(target)
        if not self.engine.kill(address, reason):
            raise NoProcess(f"no process {target!s}: it has ended already", target=str(target), reason=None)
        self.settle()
        return address

    def address(self, target: Target) -> LocalAddress:
        """The address of a name: of its present actor, or the last one.

        Raises:
            NoProcess: nobody ever had this name, or it is no address of an actor here.
        """
        if isinstance(target, LocalAddress) and target.cell is not None:
            return target
        entry = self.engine.names.get(target) if isinstance(target, str) else None
        if entry is None or entry.address is None:
            hint = self.engine.names.near(str(target))
            raise NoProcess(f"no process {target!s}: nobody has this name or address{hint}", target=str(target))
        return entry.address

    def state(self, name: str) -> str:
        """What the name table says: ``running``, ``restarting``, ... or ``unknown``."""
        entry = self.engine.names.get(name)
        return "unknown" if entry is None else entry.state

    # -- helpers of a test -----------------------------------------------------------------------

    def probe(self, name: str | None = None) -> Probe:
        """Start a probe, with a name if others are to find it."""
        probe = Probe(self, name)
        self._helpers.append(probe.address)
        return probe

    def relay(self, target: Target, name: str | None = None) -> Relay:
        """Start a relay to ``target``, which can slow down, lose and double what is sent through it."""
        relay = Relay()
        relay.address = self.spawn(RelayActor, target, relay, name=name)
        self._helpers.append(relay.address)
        return relay

    def fail_next_start(self, who: str | type[Actor], reason: Reason = "failed", times: int = 1) -> None:
        """Let the next starts of a name or class fail with ``reason``, as if ``init`` had said so."""
        assert self.engine is not None
        assert self._starts is not None
        self._starts.fail_next(who, reason, times)

    # -- what happened ---------------------------------------------------------------------------

    @property
    def decisions(self) -> list[Decision]:
        """What supervisors reported so far, in order."""
        return self._recording.decisions

    def record(self, *events: EventName) -> None:
        """Record these telemetry events too, from now on; dspex's own are recorded anyway."""
        for event in events:
            self._recording.add(event)

    def expect_event(self, event: EventName, within: float = WITHIN, **facts: Any) -> RecordedEvent:
        """The oldest recorded telemetry event of this name with these metadata; waits in virtual time.

        Raises:
            AssertionError: there is none in time.
            UsageError: events of this name are not recorded.
        """
        record = self._recording
        if not record.knows(event):
            raise UsageError(f"expected an event that is recorded, got {event!r}; call record({event!r}) beforehand")
        found = self.run(record.events.find(record.wanted(event, facts), within))
        if found is None:
            others = [each for each in record.events if each.event == event]
            raise AssertionError(f"at {self.now:g} s: no event {event!r} with {facts!r}; others of it: {others!r}")
        return found

    def tree(self) -> str:
        """All actors but probes and relays as text; see :func:`.tree.draw_tree`."""
        helpers = [address.cell for address in self._helpers if address.cell is not None]
        return draw_tree(self.engine, helpers)

    def assert_tree(self, expected: str) -> None:
        """The tree is this one: a line an actor (name or class, and state), children indented by four spaces.

        Raises:
            AssertionError: it is not; the message shows the difference.
        """
        check_tree(self.tree(), expected)

    @property
    def _recording(self) -> Record:
        assert self.engine is not None
        assert self._record is not None
        return self._record


async def _await(work: Awaitable[T]) -> T:
    return await work


async def _idle(loop: VirtualLoop) -> None:
    await loop.idle()
