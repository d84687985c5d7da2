"""Replays the recorded vectors of a real GenStage (``stage.jsonl``) against our stages.

Usage::

    python -m tests.conformance.stage_replay FILE.jsonl [FILE.jsonl ...] [--trace]

As :mod:`.replay`, which takes these files too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import Started, info
from dspex.runtime.stages import (
    Account,
    BroadcastDispatcher,
    Consumer,
    DemandDispatcher,
    Dispatcher,
    EstimateBufferedCount,
    PartitionDispatcher,
    Producer,
    SetDemandMode,
    Subscribe,
    SubscribeOptions,
    Subscription,
    SyncInfo,
)

from .virtual_loop import LoopClock, VirtualLoop

Json = Any
KINDS = ("accounting", "stage")
ENTRIES = ("demand", "got", "buffered", "notes", "discarded")


class Emit:
    """To the producer: emit the next ``count`` events."""

    def __init__(self, count: int) -> None:
        self.count = count


class Order:
    """To a consumer: ask for ``count``, or cancel if there is none."""

    def __init__(self, subscription: Subscription, count: int | None = None) -> None:
        self.subscription = subscription
        self.count = count


class Log:
    """What one step led to."""

    def __init__(self) -> None:
        self.demand: list[int] = []
        self.got: dict[str, list[list[int]]] = {}
        self.notes: list[int] = []
        self.discarded: list[int] = []


class RecordedProducer(Producer):
    """Emits 1, 2, 3, .. when told, nothing when asked."""

    def init(self, log: Log, options: Mapping[str, Any]) -> None:
        self.log = log
        self.configure(**options)
        self.last = 0

    def handle_demand(self, demand: int) -> Iterable[int]:
        self.log.demand.append(demand)
        return ()

    def format_discarded(self, count: int) -> bool:
        self.log.discarded.append(count)
        return False

    @info
    def emit_next(self, message: Emit) -> None:
        first, self.last = self.last + 1, self.last + message.count
        self.emit(range(first, self.last + 1))

    @info
    def note(self, message: int) -> None:
        self.log.notes.append(message)


class RecordedConsumer(Consumer):
    """Asks by hand."""

    def init(self, log: Log, name: str) -> None:
        self.log, self.called = log, name

    def handle_subscribe(self, role: str, options: Mapping[str, Any], subscription: Any) -> str:
        return "manual"

    def handle_events(self, events: tuple[int, ...], subscription: Subscription) -> None:
        self.log.got.setdefault(self.called, []).append(list(events))

    @info
    def obey(self, order: Order) -> None:
        if order.count is None:
            self.cancel_subscription(order.subscription)
        else:
            self.ask(order.subscription, order.count)


def run_vector(vector: Mapping[str, Any]) -> dict[str, Json]:
    """A vector with what our stages did, in the form of the recorded one."""
    if vector["kind"] == "accounting":
        return _run_accounting(vector)
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_run_stage(vector))
    finally:
        loop.close()


def _run_accounting(vector: Mapping[str, Any]) -> dict[str, Json]:
    account = Account(vector["max_demand"], vector["min_demand"])
    messages: list[Json] = []
    for message in vector["messages"]:
        cut = account.cut(range(message["n"]))
        messages.append(
            {
                "n": message["n"],
                "chunks": [len(chunk) for chunk, _ in cut],
                "asks": [ask for _, ask in cut],
                "outstanding": account.outstanding,
            }
        )
    return {**vector, "messages": messages}


async def _run_stage(vector: Mapping[str, Any]) -> dict[str, Json]:
    engine = Engine(loop="current", clock=LoopClock(asyncio.get_running_loop()))
    try:
        return {**vector, "steps": await _Run(engine, vector).steps()}
    finally:
        await engine.astop()


class _Run:
    """One run of one vector."""

    def __init__(self, engine: Engine, vector: Mapping[str, Any]) -> None:
        self.engine = engine
        self.vector = vector
        self.log = Log()
        self.consumers: dict[str, Any] = {}
        self.subscriptions: dict[str, Subscription] = {}

    async def steps(self) -> list[Json]:
        """All steps with what they led to."""
        vector = self.vector
        options = {name: vector[name] for name in ("buffer_size", "buffer_keep", "demand")}
        self.producer = await self._spawn(RecordedProducer, self.log, {**options, "dispatcher": self._dispatcher})
        done: list[Json] = []
        for step in vector["steps"]:
            fresh = Log()
            self.log.__dict__.update(fresh.__dict__)
            await self._do(*step["op"])
            for _ in range(10):
                await asyncio.sleep(0)
            buffered = await self.engine.call_async(self.producer, EstimateBufferedCount())
            seen = {**self.log.__dict__, "buffered": buffered}
            always = ("demand", "buffered")
            done.append({"op": step["op"], **{key: seen[key] for key in ENTRIES if seen[key] or key in always}})
        return done

    def _dispatcher(self) -> Dispatcher:
        kind, partitions = self.vector["dispatcher"], self.vector["partitions"]
        if kind == "partition":
            return PartitionDispatcher(partitions)
        return DemandDispatcher(max_demand=1000) if kind == "demand" else BroadcastDispatcher()

    async def _spawn(self, cls: Any, *args: Any) -> Any:
        outcome = await self.engine.spawn(cls, args)
        assert isinstance(outcome, Started), outcome
        return outcome.address

    async def _do(self, op: str, *args: Any) -> None:
        if op == "emit":
            self.engine.send(self.producer, Emit(args[0]), None)
        elif op == "mode":
            self.engine.cast(self.producer, SetDemandMode(args[0]))
        elif op == "info":
            await self.engine.call_async(self.producer, SyncInfo(args[0]))
        elif op == "subscribe":
            await self._subscribe(*args)
        else:
            name, *count = args
            order = Order(self.subscriptions[name], *count)
            self.engine.send(self.consumers[name], order, None)

    async def _subscribe(self, name: str, partition: int | None = None) -> None:
        if name not in self.consumers:
            self.consumers[name] = await self._spawn(RecordedConsumer, self.log, name)
        options = SubscribeOptions(cancel="temporary", dispatcher_options={"partition": partition})
        subscribe = Subscribe(self.producer, options)
        self.subscriptions[name] = await self.engine.call_async(self.consumers[name], subscribe)


def vector_difference(expected: Mapping[str, Any], got: Mapping[str, Any]) -> str | None:
    """Where two vectors differ first, as text; None if they are equal. The steps are those of the expected one."""
    part = "messages" if expected["kind"] == "accounting" else "steps"
    for number, (want, have) in enumerate(zip(expected[part], got[part], strict=True)):
        for key in sorted({*want, *have}):
            if want.get(key) != have.get(key):
                where = f"{part[:-1]} {number} ({json.dumps(want.get('op', want.get('n')))}), {key}"
                return f"{where}: expected {json.dumps(want.get(key))}, got {json.dumps(have.get(key))}"
    return None


if __name__ == "__main__":
    from .replay import main

    sys.exit(main(sys.argv[1:]))
