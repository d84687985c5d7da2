"""Messages: casts and calls through the full contract, beside Thespian's in-process base, Pykka and a bare queue."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pykka
from thespian.actors import Actor, ActorSystem

from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer, NoReply, call, cast, info
from dspex.runtime.messages import Reply

from .harness import Benchmark

ROUNDS = 20_000


class Ping:
    """Asks for a Pong."""

    __slots__ = ("to",)

    def __init__(self, to: Any) -> None:
        self.to = to


class Pong:
    """The answer to a Ping."""


class Add:
    """A call."""

    __slots__ = ()


class CastRounds:
    """Play ping-pong with this peer."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer


class AwaitRounds(CastRounds):
    """Await calls of this peer, one after the other."""


class RequestRounds(CastRounds):
    """Request from this peer, one after the other, in plain handlers."""


PONG, ADD = Pong(), Add()


class Server(GenServer):
    """Answers."""

    def init(self) -> None:
        self.n = 0

    @call
    def add(self, msg: Add) -> int:
        self.n += 1
        return self.n

    @cast
    def ping(self, msg: Ping) -> None:
        self.cast(msg.to, PONG)


class Driver(GenServer):
    """Drives the rounds."""

    @call
    def cast_rounds(self, msg: CastRounds) -> NoReply:
        self.left, self.peer, self.who, self.ping = ROUNDS, msg.peer, self.caller, Ping(self.myAddress)
        self.cast(self.peer, self.ping)
        return NoReply()

    @cast
    def pong(self, msg: Pong) -> None:
        self.left -= 1
        if self.left:
            self.cast(self.peer, self.ping)
        else:
            self.reply(self.who, None)

    @call
    async def await_rounds(self, msg: AwaitRounds) -> None:
        for _ in range(ROUNDS):
            await self.call(msg.peer, ADD)

    @call
    def request_rounds(self, msg: RequestRounds) -> NoReply:
        self.left, self.peer, self.who = ROUNDS, msg.peer, self.caller
        self.request(self.peer, ADD)
        return NoReply()

    @info
    def replied(self, msg: Reply) -> None:
        self.left -= 1
        if self.left:
            self.request(self.peer, ADD)
        else:
            self.reply(self.who, None)


class Echo(Actor):
    """Thespian: sends back what it gets."""

    def receiveMessage(self, msg: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(msg, int):
            self.send(sender, msg)


class Rounds(Actor):
    """Thespian: plays ping-pong with an Echo."""

    def receiveMessage(self, msg: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(msg, str):
            self.who, self.left = sender, ROUNDS
            self.send(self.createActor(Echo), 0)
        elif isinstance(msg, int):
            self.left -= 1
            self.send(sender, 0) if self.left else self.send(self.who, "done")


class PykkaEcho(pykka.ThreadingActor):
    """Pykka: answers what it is asked."""

    def on_receive(self, message: Any) -> Any:
        return message


def _with_engine(measure: Callable[[Engine, Any, Any], float]) -> Callable[[], float]:
    def run() -> float:
        engine = Engine()
        try:
            server, driver = (engine.outside.spawn(cls).address for cls in (Server, Driver))
            return measure(engine, server, driver)
        finally:
            engine.stop()

    return run


def _rounds(message: type[CastRounds]) -> Callable[[], float]:
    def measure(engine: Engine, server: Any, driver: Any) -> float:
        began = time.perf_counter()
        engine.outside.call_blocking(driver, message(server), timeout=None)
        return ROUNDS / (time.perf_counter() - began)

    return _with_engine(measure)


def _blocking(engine: Engine, server: Any, driver: Any) -> float:
    count = ROUNDS // 4
    began = time.perf_counter()
    for _ in range(count):
        engine.outside.call_blocking(server, ADD, timeout=5.0)
    return count / (time.perf_counter() - began)


def _saturated_p99(engine: Engine, server: Any, driver: Any) -> float:
    """Milliseconds at the 99th percentile of a blocking call while ping-pong keeps the engine busy."""
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            engine.outside.call_blocking(driver, CastRounds(server), timeout=None)

    busy = threading.Thread(target=keep_busy, daemon=True)
    busy.start()
    taken: list[float] = []
    for _ in range(300):
        began = time.perf_counter()
        engine.outside.call_blocking(server, ADD, timeout=5.0)
        taken.append(time.perf_counter() - began)
    over.set()
    busy.join()
    return statistics.quantiles(taken, n=100)[98] * 1000


def _thespian() -> float:
    system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
    driver = system.createActor(Rounds)
    began = time.perf_counter()
    system.ask(driver, "go")
    taken = time.perf_counter() - began
    system.shutdown()
    return ROUNDS / taken


def _pykka() -> float:
    actor = PykkaEcho.start()
    count = ROUNDS // 4
    began = time.perf_counter()
    for _ in range(count):
        actor.ask(1)
    taken = time.perf_counter() - began
    actor.stop()
    return count / taken


def _queue_pair() -> float:
    async def main() -> float:
        there: asyncio.Queue[int] = asyncio.Queue()
        back: asyncio.Queue[int] = asyncio.Queue()

        async def echo() -> None:
            for _ in range(ROUNDS):
                back.put_nowait(await there.get())

        task = asyncio.create_task(echo())
        began = time.perf_counter()
        for _ in range(ROUNDS):
            there.put_nowait(1)
            await back.get()
        taken = time.perf_counter() - began
        await task
        return ROUNDS / taken

    return asyncio.run(main())


@dataclass(frozen=True)
class _Names:
    thespian: str = "thespian in-process round trips"
    pykka: str = "pykka ask"


NAMES = _Names()
BENCHMARKS = (
    Benchmark(NAMES.thespian, _thespian, "1/s"),
    Benchmark(NAMES.pykka, _pykka, "1/s"),
    Benchmark("bare asyncio.Queue pair", _queue_pair, "1/s"),
    Benchmark("cast round trips", _rounds(CastRounds), "1/s", baseline=NAMES.thespian, floor=4.0),
    Benchmark("calls between plain handlers", _rounds(RequestRounds), "1/s", baseline=NAMES.thespian, floor=2.5),
    Benchmark("awaited calls", _rounds(AwaitRounds), "1/s", baseline=NAMES.pykka, floor=5.0),
    Benchmark("blocking call from a thread", _with_engine(_blocking), "1/s", baseline=NAMES.pykka, floor=0.8),
    Benchmark("blocking call, engine saturated, p99", _with_engine(_saturated_p99), "ms", better="lower", floor=10.0),
)
