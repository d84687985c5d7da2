"""What becomes of messages around a full mailbox, a crash and a restart; what runtime/SEMANTICS.md states of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.child_spec import child_spec
from dspex.runtime.errors import ActorDied, CallTimeout, NoProcess
from dspex.runtime.gen_server import GenServer, call, cast, info
from dspex.runtime.messages import Down, ExitSignal, Reply, Resume, Suspend
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.supervisor import Supervisor
from kit.engine import Lab, in_lab
from kit.supervision import House, in_house


@dataclass(frozen=True)
class Run:
    """To a pupil: run this with yourself, and answer what it returns."""

    work: Callable[[Pupil], Any]


@dataclass(frozen=True)
class Tell:
    """To a pupil, as a cast: write this down, or crash on it."""

    what: Any


class Pupil(GenServer):
    """Does as it is told, and writes down what it hears."""

    trap_exit = True

    def init(self, book: list[Any] | None = None, start: Any = None) -> None:
        self.book = [] if book is None else book
        self.state = start

    @call
    async def run(self, message: Run) -> Any:
        result = message.work(self)
        return await result if asyncio.iscoroutine(result) else result

    @cast
    def tell(self, message: Tell) -> None:
        self.book.append(message.what)
        if message.what == "crash":
            raise ValueError("told to")

    @info
    def hear(self, message: object) -> None:
        self.book.append(message)

    def terminate(self, reason: Any) -> None:
        self.book.append(("terminate", reason))


def pupil(*args: Any, **options: Any) -> Any:
    """A child spec of a pupil called ``p/a``."""
    return child_spec("a", Pupil, *args, name="p/a", **options)


def test_what_the_engine_has_to_tell_is_never_refused() -> None:
    """A full mailbox takes replies, exit signals, Down and timers; a plain message of others is refused and counted."""

    class Small(Pupil):
        mailbox_limit = 1

    async def test(lab: Lab) -> None:
        book: list[Any] = []
        small, peer = await lab.start(Small, book), await lab.start(Pupil)

        def prepare(actor: Pupil) -> None:
            actor.monitor(peer)
            actor.link(peer)
            actor.start_timer(1.0, "timer")
            actor.request(peer, Run(lambda self: later(2.0, "answer")), tag="asked")

        await lab.call(small, Run(prepare))
        await lab.call(small, Suspend())
        lab.engine.cast(small, Tell("fills it"))
        lab.engine.send(small, "refused", None)
        assert lab.engine.counters.overloaded == 1
        await asyncio.sleep(3.0)
        lab.engine.kill(peer, "kill")
        await lab.call(small, Resume())
        await lab.settle()
        assert book[:3] == ["fills it", "timer", Reply("asked", "answer")]
        assert {type(each) for each in book[3:]} == {Down, ExitSignal}

    in_lab(test)


async def later(seconds: float, value: Any) -> Any:
    """A value that takes a while."""
    await asyncio.sleep(seconds)
    return value


def test_a_restart_begins_anew_and_nothing_is_delivered_twice() -> None:
    """The message that crashed an actor and those behind it are gone; the next incarnation has a fresh state."""

    async def test(house: House) -> None:
        book: list[Any] = []
        await house.start(Supervisor, [pupil(book, "as specified")])
        before = house.address("p/a")
        await house.call("p/a", Run(lambda self: setattr(self, "state", "changed")))
        await house.call("p/a", Suspend())
        asked = asyncio.ensure_future(house.call("p/a", Run(lambda self: "in front")))
        await asyncio.sleep(0)
        for what in ("first", "crash", "behind"):
            house.engine.cast("p/a", Tell(what))
        waiting = asyncio.ensure_future(house.call("p/a", Run(lambda self: "never")))
        await asyncio.sleep(0)
        house.engine.cast("p/a", Tell("last"))
        await house.call(before, Resume())
        assert await asked == "in front"
        with pytest.raises(ActorDied):
            await waiting
        assert await house.call("p/a", Run(lambda self: self.state)) == "as specified"
        assert house.address("p/a") != before
        assert [each for each in book if not isinstance(each, tuple)] == ["first", "crash"]
        assert [letter.message_type for letter in house.engine.dead_letters.recent] == ["Tell", "Tell"]
        with pytest.raises(NoProcess):
            await house.call(before, Run(lambda self: self.state))

    in_house(test)


def test_casts_to_a_restarting_name_do_not_wait() -> None:
    """A call to a name that is backing off waits for it; a cast is a dead letter at once."""

    async def test(house: House) -> None:
        book: list[Any] = []
        await house.start(Supervisor, [pupil(book, backoff=Backoff(initial=2.0, jitter=False))])
        house.engine.cast("p/a", Tell("crash"))
        await asyncio.sleep(0.5)
        assert house.state("p/a") == "backing_off"
        house.engine.cast("p/a", Tell("lost"))
        assert house.engine.dead_letters.count == 1
        assert await house.call("p/a", Run(lambda self: "waited")) == "waited"
        assert "lost" not in book

    in_house(test)


def test_what_an_actor_owned_is_closed_before_it_is_started_again() -> None:
    """close() runs at the end of an actor, before its supervisor hears of it."""

    async def test(house: House) -> None:
        order: list[str] = []

        class Owner(Pupil):
            def init(self, book: list[Any] | None = None, start: Any = None) -> None:
                super().init(book, start)
                order.append("init")
                self.own(Closing())

        class Closing:
            def close(self) -> None:
                order.append("close")

        await house.start(Supervisor, [child_spec("a", Owner, name="p/a")])
        house.engine.kill("p/a")
        await house.call("p/a", Run(lambda self: None))
        assert order == ["init", "close", "init"]

    in_house(test)


def test_an_order_to_stop_waits_behind_the_mailbox() -> None:
    """GS-09: a trapping actor handles what came before its parent's order, and not what came after it."""

    async def test(lab: Lab) -> None:
        book: list[Any] = []
        actor = await lab.start(Pupil, book)
        await lab.call(actor, Suspend())
        lab.engine.cast(actor, Tell("before"))
        busy = asyncio.ensure_future(lab.call(actor, Resume()))
        await busy
        lab.engine.cast(actor, Tell("also before"))
        assert actor.cell is not None
        actor.cell.signal("shutdown", None, from_parent=True)
        lab.engine.cast(actor, Tell("after"))
        await lab.down(actor)
        assert book == ["before", "also before", ("terminate", "shutdown")]

    in_lab(test)


def test_a_call_given_up_while_it_waits_is_still_handled() -> None:
    """A caller's time-out takes nothing out of the mailbox: the handler runs, its reply is late."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Pupil)
        busy = asyncio.ensure_future(lab.call(actor, Run(lambda self: later(3.0, None))))
        await lab.settle()
        error = await lab.error(actor, Run(lambda self: self.book.append("handled")), timeout=1.0)
        assert isinstance(error, CallTimeout)
        await busy
        assert await lab.call(actor, Run(lambda self: self.book)) == ["handled"]
        assert lab.engine.counters.late_replies == 1

    in_lab(test)


def test_a_timer_cancelled_too_late_still_arrives() -> None:
    """A timer that fired is a message: cancel() answers False, and the message stays in the mailbox."""

    async def test(lab: Lab) -> None:
        book: list[Any] = []
        actor = await lab.start(Pupil, book)
        timer = await lab.call(actor, Run(lambda self: self.start_timer(1.0, "ring")))
        await lab.call(actor, Suspend())
        await asyncio.sleep(2.0)
        assert timer.cancel() is False
        await lab.call(actor, Resume())
        await lab.settle()
        assert book == ["ring"]

    in_lab(test)
