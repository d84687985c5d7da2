"""What a call leaves behind when it is over: nothing that only the garbage collector would free."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.errors import CallTimeout
from dspex.runtime.gen_server import GenServer, NoReply, call
from dspex.runtime.testing import VirtualSystem


class Thing:
    """What a message carries."""


@dataclass(frozen=True)
class Ask:
    """Answers the thing, or never answers."""

    thing: Thing
    hang: bool = False


@dataclass(frozen=True)
class Passed:
    """The same, asked of somebody else by a name."""

    ask: Ask


class Server(GenServer):
    """Serves each call in a task of its own."""

    @call
    def ask(self, msg: Ask) -> NoReply:
        return self.serve(self._answer(msg))

    @call
    def passed(self, msg: Passed) -> NoReply:
        return self.serve(self._pass(msg))

    async def _answer(self, msg: Ask) -> Thing:
        await asyncio.sleep(0.001)
        if msg.hang:
            await asyncio.Event().wait()
        return msg.thing

    async def _pass(self, msg: Passed) -> Any:
        return await self.call("demo/last", msg.ask, timeout=20.0)


@pytest.fixture
def system() -> Iterator[VirtualSystem]:
    """Two servers, and no collection while the test looks."""
    with VirtualSystem(seed=1) as system:
        system.spawn(Server, name="demo/first")
        system.spawn(Server, name="demo/last")
        system.call("demo/first", Passed(Ask(Thing())))
        gc.collect()
        gc.disable()
        try:
            yield system
        finally:
            gc.enable()


def test_an_answered_call_is_freed_at_once(system: VirtualSystem) -> None:
    """Message, answer and tasks of nested calls go when the last of them is read, without a collection."""
    thing = Thing()
    left = weakref.ref(thing)
    assert system.call("demo/first", Passed(Ask(thing))) is thing
    system.settle()
    del thing
    assert left() is None


def test_a_late_call_still_ends_its_task(system: VirtualSystem) -> None:
    """The deadline cancels what serves the call, though the call lets go of its tasks when it is over."""
    thing = Thing()
    with pytest.raises(CallTimeout):
        system.call("demo/last", Ask(thing, hang=True), timeout=1.0)
    system.settle()
    assert not system.engine.owned_tasks()
