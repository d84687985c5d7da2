"""Probes: what a test expects to reach it, and what a failing expectation says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from thespian.actors import ActorAddress

from dspex.actors.events.store import Append
from dspex.runtime.errors import ActorDied, NoProcess, UsageError
from dspex.runtime.gen_server import Fail, GenServer, call, cast, info
from dspex.runtime.testing import Probe, VirtualSystem
from dspex.supervisors.supervisor import Supervisor


@dataclass(frozen=True)
class Ping:
    n: int = 0


@dataclass(frozen=True)
class Pong:
    n: int = 0


@dataclass(frozen=True)
class Question:
    text: str


@dataclass(frozen=True)
class Relayed:
    """Ask the other one this."""

    question: Question


class Echo(GenServer):
    """Answers pings to their sender after a second, and passes questions on."""

    def init(self, other: ActorAddress | str | None = None) -> None:
        self.other = other

    @info
    def ping(self, message: Ping) -> None:
        assert self.sender is not None
        self.start_timer(1.0, Pong(message.n))
        self.asker = self.sender

    @info
    def due(self, message: Pong) -> None:
        self.send(self.asker, message)

    @cast
    def report(self, message: Ping) -> None:
        assert self.other is not None
        for n in range(message.n):
            self.cast(self.other, Pong(n))

    @call
    async def relay(self, message: Relayed) -> str | Fail:
        assert self.other is not None
        try:
            answer = await self.call(self.other, message.question)
        except ZeroDivisionError as error:
            return Fail(error)
        return f"it says {answer}"


def at(probe: Probe) -> ActorAddress:
    """Its address."""
    return probe.address


def test_a_probe_gets_answers_in_virtual_time() -> None:
    """It is the sender of what it tells, and waits as long as the answer takes."""
    with VirtualSystem() as system:
        probe = system.probe()
        echo = system.spawn(Echo, name="demo/echo")
        probe.tell(echo, Ping(1))
        probe.expect_nothing(0.5)
        assert probe.expect(Pong(1)) == Pong(1)
        assert system.now == 1001.0
        probe.tell("demo/echo", Ping(2))
        assert probe.expect_type(Pong).n == 2


def test_what_is_on_its_way_counts_as_here() -> None:
    """An expectation that may not wait still sees what can arrive at this very moment."""
    with VirtualSystem() as system:
        probe = system.probe()

        async def on_its_way() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            system.engine.cast(probe.address, Ping(1))

        task = system.loop.create_task(on_its_way())
        assert probe.expect(Ping(1), within=0.0) == Ping(1)
        assert task.done()


def test_what_came_is_not_what_was_expected() -> None:
    """Each failing expectation tells what was expected, what came, and when."""
    with VirtualSystem() as system:
        probe = system.probe("demo/probe")
        system.tell("demo/probe", Ping(1))
        with pytest.raises(AssertionError, match=r"'demo/probe' at 1000 s: expected Pong\(n=1\), got Ping\(n=1\)"):
            probe.expect(Pong(1))
        system.tell("demo/probe", Ping(1))
        with pytest.raises(AssertionError, match=r"expected a Pong, got Ping"):
            probe.expect_type(Pong)
        with pytest.raises(AssertionError, match=r"at 1002 s: expected Pong\(n=1\) within 2 s, got nothing"):
            probe.expect(Pong(1), within=2.0)
        system.tell("demo/probe", Ping(3))
        with pytest.raises(AssertionError, match=r"expected nothing for 0 s, got \[Ping\(n=3\)\]"):
            probe.expect_nothing()


def test_nothing_for_a_while_counts_what_comes_in_it() -> None:
    """What comes within the time is not nothing; what comes after it is."""
    with VirtualSystem() as system:
        probe, echo = system.probe(), system.spawn(Echo)
        probe.tell(echo, Ping())
        with pytest.raises(AssertionError, match="expected nothing"):
            probe.expect_nothing(1.0)
        probe.expect_type(Pong)
        probe.tell(echo, Ping())
        probe.expect_nothing(0.9)


def test_without_auto_jump_only_what_is_here_is_expected() -> None:
    """An expectation does not move time that moves only by hand."""
    with VirtualSystem(auto_jump=False) as system:
        probe, echo = system.probe(), system.spawn(Echo)
        probe.tell(echo, Ping(4))
        with pytest.raises(AssertionError, match="got nothing"):
            probe.expect(Pong(4))
        assert system.now == 1000.0
        system.advance(1.0)
        probe.expect(Pong(4))


def test_fishing_passes_others_over() -> None:
    """The first that matches is the catch; those before it are gone, those after it are still to be expected."""
    with VirtualSystem() as system:
        probe = system.probe()
        echo = system.spawn(Echo, at(probe))
        system.cast(echo, Ping(4))
        assert probe.fish(lambda message: message.n == 2) == Pong(2)
        probe.expect(Pong(3))
        system.cast(echo, Ping(2))
        with pytest.raises(AssertionError, match=r"within 1 s matches: \[Pong\(n=0\), Pong\(n=1\)\]"):
            probe.fish(lambda message: message.n == 2, within=1.0)
        assert system.now == 1001.0


def test_a_probe_answers_calls() -> None:
    """A call is expected like any message and answered with a value or an error; only once."""
    with VirtualSystem() as system:
        probe = system.probe("demo/other")
        system.spawn(Echo, "demo/other", name="demo/echo")

        async def ask() -> str:
            return str(await system.engine.call_async("demo/echo", Relayed(Question("why?"))))

        answer = system.loop.create_task(ask())
        assert probe.expect_type(Question).text == "why?"
        probe.reply(42)
        assert system.run(answer) == "it says 42"
        with pytest.raises(UsageError, match="open call"):
            probe.reply(43)
        answer = system.loop.create_task(ask())
        probe.expect(Question("why?"))
        probe.fail(ZeroDivisionError("by none"))
        with pytest.raises(ZeroDivisionError, match="by none"):
            system.run(answer)


def test_an_exit_is_expected_with_its_reason() -> None:
    """Of an address; it may lie in the past or the virtual future; who lives on fails the expectation."""
    with VirtualSystem() as system:
        probe = system.probe()
        one, two, three = system.spawn(Echo), system.spawn(Echo), system.spawn(Echo)
        system.kill(one, "bored")
        assert probe.expect_exit(one) == "bored"
        system.loop.call_later(2.0, system.engine.kill, two)
        assert probe.expect_exit(two) == "killed"
        assert system.now == 1002.0
        with pytest.raises(AssertionError, match="still lives"):
            probe.expect_exit(three, within=1.0)


def test_a_watched_name_is_the_actor_that_had_it() -> None:
    """The next actor of the name is another one."""
    with VirtualSystem() as system:
        probe = system.probe()
        system.spawn(Supervisor, [{"id": "echo", "start": Echo, "name": "demo/echo"}])
        probe.watch("demo/echo")
        system.kill("demo/echo")
        assert system.state("demo/echo") == "running"
        assert probe.expect_exit("demo/echo") == "killed"
        with pytest.raises(NoProcess):
            probe.watch("demo/nobody")


def test_a_probe_stands_in_for_an_actor_by_name() -> None:
    """What is cast to a name reaches the probe that has it; the probe is no part of the tree."""
    with VirtualSystem() as system:
        events = system.probe("core/events")
        system.cast("core/events", Append(()))
        assert events.expect_type(Append).events == ()
        assert system.tree() == ""


def test_a_dead_probe_says_so() -> None:
    """An expectation of a probe that was killed tells why nothing comes; callers of it are told as usual."""
    with VirtualSystem() as system:
        probe = system.probe("demo/probe")
        question = system.loop.create_task(system.engine.call_async("demo/probe", Question("?")))
        probe.expect_type(Question)
        system.kill(probe.address)
        with pytest.raises(AssertionError, match="the probe ended: killed"):
            probe.expect(Pong())
        with pytest.raises(ActorDied):
            system.run(question)
