"""Handlers that wait for each other in a circle, and handlers that take too long: told once, with who and what."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.errors import CallTimeout
from dspex.runtime.gen_server import GenServer, NoReply, Stop, call, cast, info
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.messages import TerminateChild, WhichChildren
from dspex.supervisors.supervisor import Supervisor
from dspex.supervisors.task import TaskProcess
from dspex.supervisors.task_supervisor import TaskSupervisor

DEADLOCK = ("dspex", "engine", "deadlock")
STUCK = ("dspex", "engine", "stuck_handler")


@dataclass(frozen=True)
class Visit:
    """Call the first of these with the rest, after a while."""

    path: tuple[str, ...]
    timeout: float | None = 20.0


class Visitor(GenServer):
    """Calls others in its handler, or in a task that serves the call."""

    @call
    async def visit(self, message: Visit) -> str:
        return await self.go(message)

    async def go(self, message: Visit) -> str:
        await asyncio.sleep(0.1)
        if not message.path:
            return "there"
        first, *rest = message.path
        try:
            answer: str = await self.call(first, Visit(tuple(rest)), timeout=message.timeout)
        except CallTimeout:
            return "late"
        return answer


class Server(Visitor):
    """Leaves its calls to tasks."""

    @call
    def visit(self, message: Visit) -> NoReply:  # type: ignore[override]
        return self.serve(self.go(message))


class Sleeper(GenServer):
    """Its handlers take their time."""

    @call
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @cast
    async def doze(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @info
    async def nap(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Patient(Sleeper):
    """One whose handlers may take as long as they like."""

    handler_limit = None


def watched(**options: Any) -> VirtualSystem:
    """A virtual system with a watchdog."""
    return VirtualSystem(watch=1.0, **options)


def begin(system: VirtualSystem, target: Any, message: Any) -> asyncio.Task[Any]:
    """A call that nobody waits for yet."""
    return system.loop.create_task(system.engine.call_async(target, message, None))


def listen(system: VirtualSystem, event: tuple[str, ...]) -> list[dict[str, Any]]:
    """What is told under this name from now on."""
    seen: list[dict[str, Any]] = []
    system.engine.telemetry.attach("test", event, lambda _, numbers, facts, __: seen.append({**numbers, **facts}))
    return seen


def test_handlers_that_call_each_other_are_told_of() -> None:
    """Two calls that began apart and wait for each other: chain, messages and the time left are told, once."""
    with watched() as system:
        seen = listen(system, DEADLOCK)
        for name in ("a/a", "a/b"):
            system.spawn(Visitor, name=name)
        calls = [begin(system, "a/a", Visit(("a/b",))), begin(system, "a/b", Visit(("a/a",)))]
        system.advance(10.0)
        (report,) = seen
        assert (report["chain"], report["messages"]) == (("a/a", "a/b"), ("Visit", "Visit"))
        assert 18.0 < report["seconds_left"] < 20.0
        assert system.engine.counters.deadlocks == 1
        system.advance(15.0)
        assert [system.run(each) for each in calls] == ["late", "late"]


def test_the_same_actors_may_run_into_it_again() -> None:
    """Another deadlock of the same actors is told again."""
    with watched() as system:
        seen = listen(system, DEADLOCK)
        for name in ("a/a", "a/b"):
            system.spawn(Visitor, name=name)
        for _ in range(2):
            calls = [begin(system, "a/a", Visit(("a/b",), 5.0)), begin(system, "a/b", Visit(("a/a",), 5.0))]
            for each in calls:
                system.run(each)
        assert len(seen) == 2


def test_a_circle_through_a_task_that_serves_a_call_is_found() -> None:
    """A call that was left to a task waits for what that task calls."""
    with watched() as system:
        seen = listen(system, DEADLOCK)
        for name, cls in (("a/a", Visitor), ("a/b", Visitor), ("a/server", Server)):
            system.spawn(cls, name=name)
        begin(system, "a/a", Visit(("a/server", "a/b")))
        begin(system, "a/b", Visit(("a/a",)))
        system.advance(3.0)
        assert [each["chain"] for each in seen] == [("a/a", "a/b")]


def test_a_task_beside_a_handler_holds_up_nobody() -> None:
    """A handler that started a task and does not wait for it comes to an end, whatever the task waits for."""

    class Aside(Visitor):
        async def go(self, message: Visit) -> str:
            self.start_task(super().go(message))
            await asyncio.sleep(3.0)
            return "there"

    with watched() as system:
        seen = listen(system, DEADLOCK)
        for name, cls in (("a/a", Visitor), ("a/aside", Aside), ("a/c", Visitor)):
            system.spawn(cls, name=name)
        calls = [begin(system, "a/a", Visit(("a/aside", "a/c"))), begin(system, "a/c", Visit(("a/a",)))]
        system.advance(2.0)
        assert [each.done() for each in calls] == [False, False]
        assert [system.run(each) for each in calls] == ["there", "there"]
        assert seen == []


def test_who_waits_for_a_busy_actor_is_no_circle() -> None:
    """Long chains of waiting calls, and tasks that wait for each other's actors, are nobody's deadlock."""
    with watched() as system:
        seen = listen(system, DEADLOCK)
        system.spawn(Sleeper, name="a/slow")
        for name in ("a/a", "a/b"):
            system.spawn(Server, name=name)
        begin(system, "a/slow", 5.0)
        begin(system, "a/a", Visit(("a/b", "a/a", "a/slow")))
        begin(system, "a/b", Visit(("a/a", "a/b", "a/slow")))
        system.advance(4.0)
        assert seen == []


def test_a_task_that_calls_its_waiting_owner_is_told_of() -> None:
    """An actor that awaits a supervised task in its handler, while that calls it back, waits in a circle."""

    async def ask() -> Any:
        return await TaskProcess.current().call("a/owner", "again", timeout=5.0)

    class Owner(GenServer):
        @call
        async def ask(self, message: str) -> Any:
            return await (await TaskSupervisor.of(self, "t/all").async_nolink(ask)).yield_(10.0)

    with watched() as system:
        seen = listen(system, DEADLOCK)
        system.spawn(TaskSupervisor, name="t/all")
        system.spawn(Owner, name="a/owner")
        begin(system, "a/owner", "go")
        system.advance(3.0)
        (report,) = seen
        assert (report["chain"][0], report["messages"]) == ("a/owner", (None, "str"))


def test_a_child_that_calls_its_supervisor_is_told_of() -> None:
    """A supervisor waits for a child's start and for its end; a child that calls it meanwhile waits in a circle."""

    class Child(GenServer):
        trap_exit = True

        async def init(self, early: bool) -> None:
            if early:
                await self.ask()

        async def terminate(self, reason: Any) -> None:
            await self.ask()

        async def ask(self) -> None:
            with contextlib.suppress(CallTimeout):
                await self.call("s/top", WhichChildren(), timeout=3.0)

    with watched() as system:
        seen = listen(system, DEADLOCK)
        system.spawn(Supervisor, [ChildSpec("c", Child, (True,), name="a/c")], name="s/top")
        assert [(each["chain"], each["messages"]) for each in seen] == [(("s/top", "a/c"), (None, "WhichChildren"))]
        begin(system, "s/top", TerminateChild("c"))
        system.advance(2.0)
        assert len(seen) == 2


def test_a_handler_that_takes_too_long_is_told_of_once() -> None:
    """With the actor's name, the class of the message and the seconds; whatever kind of message it is."""
    with watched(stuck_handler=10.0) as system:
        seen = listen(system, STUCK)
        for name in ("a/call", "a/cast", "a/info"):
            system.spawn(Sleeper, name=name)
        begin(system, "a/call", 60.0)
        system.cast("a/cast", 60.0)
        system.tell("a/info", 60.0)
        system.advance(9.0)
        assert seen == []
        system.advance(3.0)
        assert [(each["actor"], each["message_type"]) for each in seen] == [
            ("a/call", "float"),
            ("a/cast", "float"),
            ("a/info", "float"),
        ]
        assert all(10.0 <= each["seconds"] <= 11.0 for each in seen)
        system.advance(40.0)
        assert (len(seen), system.engine.counters.stuck_handlers) == (3, 3)


def test_many_short_handlers_are_no_long_one() -> None:
    """Each handler has its own time."""
    with watched(stuck_handler=2.0) as system:
        seen = listen(system, STUCK)
        sleeper = system.spawn(Sleeper)
        for _ in range(20):
            system.cast(sleeper, 1.5)
        system.advance(35.0)
        assert seen == []


def test_a_class_says_how_long_its_handlers_may_take() -> None:
    """``handler_limit`` wins over the engine's: None is never, and supervised tasks have it."""
    with watched(stuck_handler=2.0) as system:
        seen = listen(system, STUCK)
        system.cast(system.spawn(Patient), 60.0)
        system.spawn(TaskSupervisor, name="t/all")
        system.run(TaskSupervisor.of(system.engine, "t/all").start_child(asyncio.sleep, 60.0))
        system.advance(30.0)
        assert seen == []


def test_a_start_and_an_end_can_be_stuck() -> None:
    """``init`` and ``terminate`` are told of by these words."""

    class Slow(GenServer):
        async def init(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(20.0)

        @cast
        def end(self, message: str) -> Stop:
            return Stop(message)

    with watched(stuck_handler=2.0) as system:
        seen = listen(system, STUCK)
        system.spawn(Slow, 10.0, name="a/slow")
        system.cast("a/slow", "done")
        system.advance(10.0)
        assert [each["message_type"] for each in seen] == ["init", "terminate"]


def test_nobody_looks_unless_asked_to() -> None:
    """Without ``watch`` there is no timer and no report; a look may be had by hand."""
    with VirtualSystem(stuck_handler=2.0) as system:
        seen = listen(system, STUCK)
        assert len(system.engine.timers) == 0
        system.cast(system.spawn(Sleeper), 60.0)
        system.engine.watchdog.look()
        system.advance(30.0)
        assert seen == []
        system.engine.watchdog.look()
        assert len(seen) == 1
