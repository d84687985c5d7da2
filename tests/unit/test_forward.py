"""Forwarding: a call is handed on to another actor, which answers it as if it had been asked itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.context import Context
from dspex.runtime.errors import ActorDied, CallCycle, CallTimeout, NoProcess
from dspex.runtime.gen_server import GenServer, NoReply, call, cast
from dspex.supervisors.supervisor import Supervisor
from kit.engine import Lab, in_lab


@dataclass(frozen=True)
class Do:
    what: Any


@dataclass(frozen=True)
class Later(Do):
    """Asked of an async handler."""


@dataclass(frozen=True)
class Soon(Do):
    """Asked of a handler that thinks in a task first."""


@dataclass(frozen=True)
class Release:
    """Hand on what was kept."""

    to: Any


class Front(GenServer):
    """Hands on what it is asked."""

    def init(self, to: Any) -> None:
        self.to = to
        self.kept: list[Any] = []

    @call
    def do(self, message: Do) -> NoReply:
        if self.to is None:
            self.kept.append(self.caller)
            return NoReply()
        return self.forward(self.to)

    @call
    async def do_later(self, message: Later) -> NoReply:
        await asyncio.sleep(1.0)
        return self.forward(self.to)

    @call
    def do_soon(self, message: Soon) -> NoReply:
        return self.serve(self.think())

    async def think(self) -> NoReply:
        await asyncio.sleep(1.0)
        return self.forward(self.to)

    @cast
    def release(self, message: Release) -> None:
        for each in self.kept:
            self.forward(message.to, each)


class Back(GenServer):
    """Does it."""

    def init(self) -> None:
        self.cancelled = 0

    @call
    def do(self, message: Do) -> Any:
        return message.what(self) if callable(message.what) else message.what

    @call
    async def do_later(self, message: Later | Soon) -> Any:
        return message.what

    async def wait(self, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "waited"


def waiting(seconds: float) -> Do:
    """Served in a task for so long."""
    return Do(lambda actor: actor.serve(actor.wait(seconds)))


async def pair(lab: Lab) -> tuple[Any, Any]:
    """One that forwards to the other."""
    back = await lab.start(Back, name="w/back")
    return await lab.start(Front, "w/back", name="w/front"), back


@pytest.mark.parametrize("message", [Do(1), Later(1), Soon(1), waiting(1.0)])
def test_the_answer_comes_from_the_other(message: Do) -> None:
    """From plain, async and serving handlers and from tasks alike; nothing of it is left at who handed it on."""

    async def test(lab: Lab) -> None:
        front, back = await pair(lab)
        assert await lab.call(front, message) in (1, "waited")
        assert not front.cell.open_calls
        assert not back.cell.open_calls

    in_lab(test)


def test_the_call_keeps_its_trace_and_its_deadline() -> None:
    """The other one sees the caller's context; past the deadline the caller is told whom it waited for."""

    async def test(lab: Lab) -> None:
        front, back = await pair(lab)
        context = Context.root(lab.engine.ids, user="u")
        assert await lab.call(front, Do(lambda actor: actor.context), context=context) == context
        began = lab.engine.now()
        error = await lab.error(front, waiting(60.0), timeout=2.0)
        assert isinstance(error, CallTimeout)
        assert "w/back" in str(error)
        assert lab.engine.now() - began == pytest.approx(2.0)
        await lab.settle()
        assert back.cell.instance.cancelled == 1

    in_lab(test)


def test_the_end_of_who_forwards_loses_no_answer() -> None:
    """The call is the other one's; that one's end is the caller's to hear."""

    async def test(lab: Lab) -> None:
        front, back = await pair(lab)
        asked = [asyncio.ensure_future(lab.call(front, waiting(1.0))) for _ in range(2)]
        await lab.settle()
        lab.engine.kill(front)
        assert await asyncio.gather(*asked) == ["waited", "waited"]
        front = await lab.start(Front, "w/back")
        lost = asyncio.ensure_future(lab.error(front, waiting(1.0)))
        await lab.settle()
        lab.engine.kill(back)
        error = await lost
        assert isinstance(error, ActorDied)
        assert "w/back" in str(error)

    in_lab(test)


def test_who_gives_up_ends_the_work() -> None:
    """A caller that is cancelled cancels the task of the one that has the call now."""

    async def test(lab: Lab) -> None:
        front, back = await pair(lab)
        asked = asyncio.ensure_future(lab.call(front, waiting(60.0)))
        await lab.settle()
        asked.cancel()
        await lab.settle()
        assert back.cell.instance.cancelled == 1

    in_lab(test)


def test_a_call_that_was_kept_is_handed_on_later() -> None:
    """Left open first, forwarded from another message; one whose caller gave up meanwhile is not."""

    async def test(lab: Lab) -> None:
        seen: list[int] = []
        back = await lab.start(Back)
        front = await lab.start(Front, None)
        gone = asyncio.ensure_future(lab.call(front, Do(lambda actor: seen.append(1))))
        kept = asyncio.ensure_future(lab.call(front, Do(lambda actor: seen.append(2))))
        await lab.settle()
        gone.cancel()
        await lab.settle()
        lab.engine.cast(front, Release(back))
        await kept
        assert seen == [2]
        assert front.cell is not None
        assert not front.cell.open_calls

    in_lab(test)


def test_a_name_that_restarts_is_waited_for_and_nobody_is_told_at_once() -> None:
    """As if it had been asked by the caller."""

    async def test(lab: Lab) -> None:
        await lab.start(Supervisor, [ChildSpec("back", Back, name="w/back")])
        front = await lab.start(Front, "w/back")
        lab.engine.kill("w/back")
        assert await lab.call(front, Do(5)) == 5
        nobody = await lab.start(Front, "w/nobody")
        assert isinstance(await lab.error(nobody, Do(5)), NoProcess)

    in_lab(test)


def test_an_actor_that_awaits_is_answered() -> None:
    """By name and by address, where the one that forwards is idle and answers on the spot."""

    class Asker(Back):
        @call
        async def ask(self, message: Release) -> Any:
            return await self.call(message.to, Do(lambda actor: actor.name))

    async def test(lab: Lab) -> None:
        front, _ = await pair(lab)
        asker = await lab.start(Asker)
        for target in (front, "w/front"):
            assert await lab.call(asker, Release(target)) == "w/back"

    in_lab(test)


def test_a_cycle_is_refused() -> None:
    """An actor that waits for the very call is not asked."""

    class Asker(Back):
        @call
        async def ask(self, message: Release) -> Any:
            try:
                return await self.call(message.to, Do(1))
            except CallCycle as error:
                return error

    async def test(lab: Lab) -> None:
        asker = await lab.start(Asker)
        front = await lab.start(Front, asker)
        assert isinstance(await lab.call(asker, Release(front)), CallCycle)

    in_lab(test)
