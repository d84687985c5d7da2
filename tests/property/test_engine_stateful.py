"""Random sends, calls, links and ends against a small model of processes (OTP sections 2 and 3)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from conformance.virtual_loop import LoopClock, VirtualLoop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.runtime.engine import Engine
from dspex.runtime.errors import CallError, Error
from dspex.runtime.gen_server import Fail, GenServer, NoReply, Started, call, cast, info
from dspex.runtime.messages import Down, ExitSignal

ACTORS = 6
INDEX = st.integers(0, ACTORS - 1)


@dataclass(frozen=True)
class Numbered:
    """The n-th message of one sender to one receiver."""

    sender: int
    number: int


@dataclass(frozen=True)
class Do:
    """Run this on the actor."""

    what: Any


@dataclass(frozen=True)
class Ask:
    """Answer in this way: at once, after some time, never, by asking another one."""

    how: str
    other: Any = None


class Subject(GenServer):
    """Logs what it gets."""

    def init(self, log: list[Any], trap: bool) -> None:
        self.log = log
        self._myRef.trap_exit = trap

    @cast
    def do(self, message: Do) -> None:
        message.what(self)

    @cast
    def numbered(self, message: Numbered) -> None:
        self.log.append(message)

    @info
    def note(self, message: Numbered | Down | ExitSignal) -> None:
        self.log.append(message)

    @call
    async def ask(self, message: Ask) -> Any:
        if message.how == "at once":
            return "answer"
        if message.how == "later":
            await asyncio.sleep(1)
            return "answer"
        if message.how == "never":
            return NoReply()
        if message.how == "served":
            return self.serve(self._later())
        try:
            return await self.call(message.other, Ask("at once"), timeout=3)
        except CallError as error:
            return Fail(error)

    async def _later(self) -> str:
        await asyncio.sleep(1)
        return "answer"


@dataclass
class Process:
    """The model's view of one actor."""

    address: Any
    trap: bool
    log: list[Any]
    alive: bool = True
    links: set[int] = field(default_factory=set)
    watched_by: list[int] = field(default_factory=list)
    expected: list[Any] = field(default_factory=list)


class Processes(RuleBasedStateMachine):
    """The machine: an engine in virtual time beside a model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.engine: Engine
        self.actors: list[Process] = []
        self.sent: dict[tuple[int, int], int] = defaultdict(int)
        self.calls: list[asyncio.Future[Any]] = []

    @initialize(traps=st.lists(st.booleans(), min_size=ACTORS, max_size=ACTORS))
    def start(self, traps: list[bool]) -> None:
        """Some actors, trapping or not."""
        self.run(self._start(traps))

    async def _start(self, traps: list[bool]) -> None:
        self.engine = Engine(loop="current", clock=LoopClock(self.loop))
        for trap in traps:
            await self._spawn(trap)

    async def _spawn(self, trap: bool) -> None:
        log: list[Any] = []
        outcome = await self.engine.spawn(Subject, (log, trap))
        assert isinstance(outcome, Started)
        self.actors.append(Process(outcome.address, trap, log))

    def run(self, work: Any) -> Any:
        """Run a coroutine, and let everything happen that needs no time."""

        async def settled() -> Any:
            result = await work
            for _ in range(40):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(settled())

    def on_actor(self, index: int, what: Any) -> None:
        """Run a function on an actor, in a cast."""

        async def tell() -> None:
            self.engine.cast(self.actors[index].address, Do(what))

        self.run(tell())

    # -- messages ------------------------------------------------------------------------------------

    @rule(sender=INDEX, receiver=INDEX, count=st.integers(1, 40), plain=st.booleans())
    def send(self, sender: int, receiver: int, count: int, plain: bool) -> None:
        """One actor sends another some numbered messages, as casts or plain sends."""
        one, two = self.actors[sender], self.actors[receiver]
        if not self.idle(sender):
            return

        def talk(actor: Any) -> None:
            for number in range(first, first + count):
                message = Numbered(sender, number)
                actor.send(two.address, message) if plain else actor.cast(two.address, message)

        first = self.sent[sender, receiver]
        self.on_actor(sender, talk)
        if one.alive:
            self.sent[sender, receiver] += count
            if two.alive:
                two.expected += [Numbered(sender, number) for number in range(first, first + count)]

    @rule(asked=INDEX, how=st.sampled_from(["at once", "later", "never", "served", "relay"]), other=INDEX)
    def ask(self, asked: int, how: str, other: int) -> None:
        """Somebody outside calls; the answer may take its time."""

        async def place() -> None:
            message = Ask(how, self.actors[other].address)
            asking = self.engine.call_async(self.actors[asked].address, message, 5.0)
            self.calls.append(asyncio.ensure_future(asking))

        self.run(place())

    @rule(which=st.integers(0, 1000))
    @precondition(lambda self: bool(self.calls))
    def give_up(self, which: int) -> None:
        """A caller gives up."""

        async def cancel() -> None:
            self.calls[which % len(self.calls)].cancel()

        self.run(cancel())

    @rule(seconds=st.sampled_from([0.5, 1.5, 6.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.run(asyncio.sleep(seconds))

    # -- links, monitors, ends -----------------------------------------------------------------------

    def idle(self, *indexes: int) -> bool:
        """Whether these actors handle nothing now, so that what they are told happens at once."""
        cells = [self.actors[index].address.cell for index in indexes]
        return all(cell.mailbox is None or (not cell.mailbox and cell.run_task is None) for cell in cells)

    @rule(one=INDEX, two=INDEX)
    def link(self, one: int, two: int) -> None:
        """Two live, idle actors are linked."""
        first, second = self.actors[one], self.actors[two]
        if one != two and first.alive and second.alive and self.idle(one):
            self.on_actor(one, lambda actor: actor.link(second.address))
            first.links.add(two)
            second.links.add(one)

    @rule(one=INDEX, two=INDEX)
    def unlink(self, one: int, two: int) -> None:
        """A link is undone."""
        if self.actors[one].alive and self.idle(one):
            self.on_actor(one, lambda actor: actor.unlink(self.actors[two].address))
            self.actors[one].links.discard(two)
            self.actors[two].links.discard(one)

    @rule(watcher=INDEX, watched=INDEX)
    def monitor(self, watcher: int, watched: int) -> None:
        """One watches another, which may have ended already."""
        one, two = self.actors[watcher], self.actors[watched]
        if one.alive and one is not two and self.idle(watcher):
            self.on_actor(watcher, lambda actor: actor.monitor(two.address))
            if two.alive:
                two.watched_by.append(watcher)
            else:
                one.expected.append(("down", two.address, "noproc"))

    @rule(ended=INDEX, reason=st.sampled_from(["kill", "normal", "shutdown", "why"]))
    def end(self, ended: int, reason: str) -> None:
        """An actor is killed, or gets an exit signal from nobody in particular."""

        async def signal() -> None:
            self.engine.kill(self.actors[ended].address, reason)

        self.run(signal())
        if reason == "kill":
            self._ended(ended, "killed")
        elif not self.actors[ended].trap and reason != "normal":
            self._ended(ended, reason)

    def _ended(self, index: int, reason: str) -> None:
        process = self.actors[index]
        if not process.alive:
            return
        process.alive = False
        for watcher in process.watched_by:
            if self.actors[watcher].alive:
                self.actors[watcher].expected.append(("down", process.address, reason))
        links, process.links = process.links, set()
        for other in sorted(links):
            linked = self.actors[other]
            linked.links.discard(index)
            if linked.trap:
                linked.expected.append(("exit", process.address, reason))
            else:
                self._ended(other, reason)

    @rule(index=INDEX, trap=st.booleans())
    def replace(self, index: int, trap: bool) -> None:
        """In the place of a dead actor a new one starts."""
        if not self.actors[index].alive:
            for each in self.actors:
                each.watched_by = [watcher for watcher in each.watched_by if watcher != index]
            self.run(self._spawn(trap))
            self.actors[index] = self.actors.pop()
            for pair in [pair for pair in self.sent if index in pair]:
                del self.sent[pair]

    # -- what must hold ------------------------------------------------------------------------------

    @invariant()
    def the_same_live(self) -> None:
        """Those live that the model says, and the engine knows no others."""
        if self.actors:
            assert [process.address.cell.alive for process in self.actors] == [each.alive for each in self.actors]
            assert len(self.engine.cells) == sum(each.alive for each in self.actors)

    @invariant()
    def what_was_sent_arrived_in_order(self) -> None:
        """Per pair in order, nothing lost to the living, nothing twice, nothing to the dead."""
        for process in self.actors:
            if not process.alive or process.address.cell.run_task is not None:
                continue  # of one that waits in a handler the rest is in the mailbox
            assert by_sender(process.log) == by_sender(process.expected)
            assert signals(process.log) == signals(process.expected)

    def teardown(self) -> None:
        """Every call has ended by now or ends in time, with an answer or a typed error; nothing is left."""
        if self.actors:
            self.run(asyncio.sleep(6))
            for asking in self.calls:
                assert asking.done()
                if not asking.cancelled():
                    error = asking.exception()
                    assert error is None or isinstance(error, (CallError, Error)), error
            for process in self.actors:
                if not process.alive:
                    assert len(process.log) <= len(process.expected)
            self.what_was_sent_arrived_in_order()
            self.run(self.engine.astop())
            assert self.engine.cells == {}
            assert len(self.engine.timers) == 0
        self.loop.close()


def by_sender(log: list[Any]) -> dict[int, list[int]]:
    """The numbers received, by sender."""
    found: dict[int, list[int]] = defaultdict(list)
    for entry in log:
        if isinstance(entry, Numbered):
            found[entry.sender].append(entry.number)
    return dict(found)


def signals(log: list[Any]) -> list[str]:
    """The signals received, in any order: across pairs there is none (OTP LNK-06)."""
    found: list[Any] = []
    for entry in log:
        if isinstance(entry, Down):
            found.append(("down", entry.address, entry.reason))
        elif isinstance(entry, ExitSignal):
            found.append(("exit", entry.sender, entry.reason))
        elif isinstance(entry, tuple):
            found.append(entry)
    return sorted(map(str, found))


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestProcesses.__doc__ = """GS-03..GS-06, LNK-01..LNK-06 under random use: the engine does what the model says."""
