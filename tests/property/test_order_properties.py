"""The order between two actors: what one sends to another comes in that order, whatever its kind and however placed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer, NoReply, call, cast, info
from dspex.runtime.messages import Reply
from dspex.runtime.scheduler import Scheduler
from dspex.runtime.testing import VirtualSystem

TARGETS = ("t/plain", "t/awaits", "t/front")
KINDS = ("cast", "send", "call", "call_async", "call_later", "request")
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(TARGETS)), max_size=12)


@dataclass(frozen=True)
class Item:
    """One message; who sent it, and the how many-th it is."""

    sender: int
    number: int


@dataclass(frozen=True)
class Slow(Item):
    """For a handler that is a coroutine."""


@dataclass(frozen=True)
class Go:
    """Send these, one after the other."""

    sender: int
    steps: tuple[tuple[str, str], ...]


class Keeps(GenServer):
    """Keeps what comes."""

    def init(self, waits: bool) -> None:
        self.waits = waits
        self.seen: list[Item] = []

    @cast
    def told(self, message: Item) -> None:
        self.seen.append(message)

    @info
    def sent(self, message: Item) -> None:
        self.seen.append(message)


class Target(Keeps):
    """Answers what it is asked."""

    @call
    def asked(self, message: Item) -> int:
        self.seen.append(message)
        return message.number

    @call
    async def asked_slowly(self, message: Slow) -> int:
        self.seen.append(message)
        if self.waits:
            await self.call("t/other", message)
        return message.number


class Front(Keeps):
    """Has another one answer what it is asked."""

    @call
    def asked(self, message: Item | Slow) -> NoReply:
        self.seen.append(message)
        return self.forward("t/other")


class Sender(GenServer):
    """Sends, and checks that each answer is that of its question."""

    @call
    async def go(self, message: Go) -> None:
        later: list[tuple[int, Any]] = []
        for number, (kind, target) in enumerate(message.steps):
            item = Item(message.sender, number)
            if kind == "cast":
                self.cast(target, item)
            elif kind == "send":
                self.send(self.system.names.get(target).address, item)  # type: ignore[union-attr, arg-type]
            elif kind == "request":
                self.request(target, item)
            elif kind == "call_later":
                later.append((number, self.call(target, item)))
            else:
                asked = item if kind == "call" else Slow(message.sender, number)
                assert await self.call(target, asked) == number
        for number, answer in later:
            assert await answer == number

    @info
    def replied(self, message: Reply) -> None:
        assert message.error is None


def in_real_order(engine: Engine) -> Scheduler:
    """The scheduler of an application."""
    return Scheduler(engine.loop, math.inf, engine.log.slow_handler)


@given(STEPS, STEPS, st.none() | st.integers(0, 2**16))
def test_what_one_sends_to_another_keeps_its_order(
    first: Iterable[tuple[str, str]], second: Iterable[tuple[str, str]], seed: int | None
) -> None:
    """Casts, messages, requests and calls, those that are answered on the spot among them."""
    options: dict[str, Any] = {"scheduler": in_real_order} if seed is None else {"seed": seed}
    with VirtualSystem(**options) as system:
        system.spawn(Target, False, name="t/other")
        made = [
            system.spawn(cls, waits, name=name)
            for cls, waits, name in zip((Target, Target, Front), (False, True, False), TARGETS, strict=True)
        ]
        senders = [system.spawn(Sender) for _ in range(2)]

        async def go() -> None:
            asked = [
                system.engine.call_async(sender, Go(number, tuple(steps)))
                for number, (sender, steps) in enumerate(zip(senders, (first, second), strict=True))
            ]
            for each in [system.loop.create_task(each) for each in asked]:
                await each

        system.run(go())
        system.settle()
        for name, address in zip(TARGETS, made, strict=True):
            assert address.cell is not None
            seen = address.cell.instance.seen
            for number, steps in enumerate((first, second)):
                wanted = [index for index, (_, target) in enumerate(steps) if target == name]
                assert [item.number for item in seen if item.sender == number] == wanted
