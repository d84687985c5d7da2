"""The engine under many seeds: the order of messages, and that every call ends once, whatever happens."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from dspex.runtime.errors import ActorDied, CallTimeout, NoProcess
from dspex.runtime.gen_server import GenServer, NoReply, Stop, call, cast, info
from dspex.runtime.messages import Down
from dspex.runtime.testing import VirtualSystem
from kit.seeds import under_many_seeds

Numbered = tuple[str, int]


class Sink(GenServer):
    """Keeps what comes, in order; answers how much came."""

    def init(self) -> None:
        self.came: list[Numbered] = []

    @cast
    def take(self, item: tuple) -> None:  # type: ignore[type-arg]
        self.came.append(item)

    @call
    def size(self, item: tuple) -> list[Numbered]:  # type: ignore[type-arg]
        self.came.append(item)
        return list(self.came)


class Sender(GenServer):
    """Casts numbers to a sink, and calls it now and then."""

    @call
    async def send_all(self, plan: list) -> int:  # type: ignore[type-arg]
        sink, label, lots = plan
        for number in range(10):
            if lots.random() < 0.2:
                came = await self.call(sink, (label, number))
                assert came[-1] == (label, number)
            else:
                self.cast(sink, (label, number))
        return 10


class Moody(GenServer):
    """Answers, waits, ends or never answers, as the call says."""

    @call
    async def do(self, what: str) -> Any:
        match what:
            case "answer":
                return "answered"
            case "slowly":
                await asyncio.sleep(0.5)
                return "answered"
            case "end":
                return Stop("done", reply="answered")
            case "crash":
                raise RuntimeError(what)
            case _:
                return NoReply()


class Watcher(GenServer):
    """Counts the ends it is told of."""

    def init(self, targets: list[Any]) -> None:
        self.refs = [self.monitor(target) for target in targets]
        self.told: list[Any] = []

    @info
    def down(self, message: Down) -> None:
        self.told.append(message.ref)

    @call
    def report(self, message: str) -> bool:
        return sorted(map(repr, self.told)) == sorted(map(repr, self.refs))


@under_many_seeds
def test_one_senders_messages_keep_their_order(seed: int) -> None:
    """Casts and calls of each sender arrive in the order it made them, and each once."""
    with VirtualSystem(seed) as system:
        sink = system.spawn(Sink)
        senders = {label: system.spawn(Sender) for label in "abcd"}
        tasks = [
            system.loop.create_task(
                system.engine.call_async(sender, [sink, label, random.Random(f"{seed} {label}")], None)
            )
            for label, sender in senders.items()
        ]
        for task in tasks:
            assert system.run(task) == 10
        came = system.call(sink, ("end", 0))
        for label in senders:
            assert [number for who, number in came if who == label] == list(range(10))


@under_many_seeds
def test_every_call_ends_once(seed: int) -> None:
    """Calls to who answers, dawdles, ends, crashes or is killed: each has one end, in time, of a known kind."""
    lots = random.Random(f"calls {seed}")
    with VirtualSystem(seed) as system:
        ends, deaths = list[tuple[int, str]](), dict[Any, float]()

        async def note_death(target: Any) -> None:
            await system.engine.wait_down(target, None)
            deaths[target] = system.now

        async def ask(number: int, target: Any, what: str, timeout: float) -> None:
            try:
                ends.append((number, await system.engine.call_async(target, what, timeout)))
            except (ActorDied, CallTimeout, NoProcess) as error:
                ends.append((number, error.code))
                late = isinstance(error, CallTimeout)
            else:
                late = False
            # Who calls somebody that ends hears of it at once, not when its time is over.
            assert not late or deaths.get(target, system.now) == system.now

        targets = [system.spawn(Moody) for _ in range(4)]
        watching = [system.loop.create_task(note_death(target)) for target in targets]
        watcher = system.spawn(Watcher, targets)
        calls = list[asyncio.Task[None]]()
        for number in range(20):
            what = lots.choices(("answer", "slowly", "never", "end", "crash"), (5, 3, 3, 1, 1))[0]
            asking = ask(number, lots.choice(targets), what, lots.choice((0.4, 1.0, 2.0)))
            calls.append(system.loop.create_task(asking))
            if lots.random() < 0.1:
                system.engine.kill(lots.choice(targets), "kill")
        began = system.now
        for each in calls:
            system.run(each)
        assert system.now - began <= 2.0
        assert sorted(number for number, _ in ends) == list(range(20))
        assert {end for _, end in ends} <= {"answered", "actor_died", "timeout", "noproc"}
        for target in targets:
            system.engine.kill(target, "kill")
        system.settle()
        assert all(each.done() for each in watching)
        assert system.call(watcher, "all told?")
