"""An actor in a child interpreter behaves as one beside its caller: the same scenarios at both places."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dspex.runtime.context import Context
from dspex.runtime.errors import (
    ActorDied,
    CallTimeout,
    Error,
    LMRateLimited,
    NameUnavailable,
    NoProcess,
    Overloaded,
    RemoteError,
    SpecError,
    UnknownMessage,
    UsageError,
)
from dspex.runtime.gen_server import GenServer, NoReply, call
from dspex.runtime.messages import Down, ExitSignal, GetState, GetStatistics, Resume, Suspend
from dspex.runtime.outcomes import Ignored, Started, StartFailed
from dspex.runtime.reasons import KILL, KILLED, NOPROC, Crash
from dspex.runtime.restart_context import RestartContext
from kit.engine import Lab, in_lab
from kit.placed import Do, DoAsync, Hang, Narrow, Note, Open, Plain, Trapper, Worker

PLACES = pytest.mark.parametrize("place", ["local", "process"])


def at(test: Callable[[Lab], Awaitable[None]]) -> None:
    """Run a test in real time."""
    in_lab(test, virtual=False)


async def notes(lab: Lab, target: Any, count: int) -> list[Any]:
    """The notes of a worker, once there are so many."""
    found: list[Any] = []
    while len(found) < count:
        found = await lab.call(target, Do("notes"))
    return found


class Keeper(GenServer):
    """Keeps its calls, and answers one when it is told to."""

    def init(self) -> None:
        self.kept: list[Any] = []

    @call
    def keep(self, message: Do) -> NoReply:
        self.kept.append(self.caller)
        return NoReply()

    def answer(self, value: Any) -> None:
        self.reply(self.kept.pop(0), value)


# -- what is the same at both places -------------------------------------------------------------------


@PLACES
def test_calls_casts_and_messages_keep_their_order(place: str) -> None:
    """Calls are answered, casts and plain messages arrive, all in the order of one sender."""

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement=place, name="w/one")
        assert await lab.call("w/one", Do("echo", (1,))) == 1
        for number in range(100):
            if number % 2:
                lab.engine.cast(worker, Note(number))
            else:
                lab.engine.send(worker, Note(number), None)
        assert await lab.call(worker, Do("notes")) == list(range(100))
        assert (await lab.call(worker, Do("pid")) == os.getpid()) is (place == "local")

    at(test)


@PLACES
def test_how_a_start_may_end(place: str) -> None:
    """Init may continue, pass something on, ignore, stop and raise."""

    async def test(lab: Lab) -> None:
        async def start(*args: Any) -> Any:
            return await lab.engine.spawn(Worker, args, placement=place, name="w/one")

        assert await start("ignore") == Ignored()
        assert await start("stop", ("no", "thanks")) == StartFailed(("no", "thanks"))
        assert await start("raise", "bad") == StartFailed(Crash(ValueError("bad")))
        entry = lab.engine.names.get("w/one")
        assert entry is not None
        assert entry.state == "dead"
        passed = await start("info", {"port": 1})
        assert isinstance(passed, Started)
        assert passed.info == {"port": 1}
        assert await start() == StartFailed(("already_started", passed.address))
        other = await lab.start(Worker, "continue", "first", placement=place)
        lab.engine.cast(other, Note("second"))
        assert await lab.call(other, Do("notes")) == ["first", "second"]

    at(test)


@PLACES
def test_how_an_actor_may_end(place: str) -> None:
    """Its own reasons reach who watches it; a caller is told too."""

    async def test(lab: Lab) -> None:
        async def end(*what: Any) -> tuple[Any, Any]:
            worker = await lab.start(Worker, placement=place)
            watched = asyncio.ensure_future(lab.down(worker))
            await asyncio.sleep(0)
            try:
                answer = await lab.call(worker, Do(*what))
            except ActorDied as error:
                answer = error.reason
            return answer, await watched

        assert await end("stop", ("done",)) == ("stopping", "done")
        assert await end("exit", (("shutdown", 7),)) == (("shutdown", 7), ("shutdown", 7))
        crash = Crash(ValueError("oh"))
        assert await end("crash", ("oh",)) == (crash, crash)

    at(test)


@PLACES
def test_errors_cross(place: str) -> None:
    """An expected failure is raised at the caller, with its facts; an unknown message is refused."""

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement=place)
        limited = await lab.error(worker, Do("fail", (LMRateLimited("slow", retry_after=3.0),)))
        assert isinstance(limited, LMRateLimited)
        assert limited.retry_after == 3.0
        assert isinstance(await lab.error(worker, Do("fail", (KeyError("k"),))), KeyError)
        assert isinstance(await lab.error(worker, "what?"), UnknownMessage)
        assert await lab.call(worker, Do("echo", ("lives",))) == "lives"

    at(test)


@PLACES
def test_system_messages_are_answered(place: str) -> None:
    """State, statistics, suspend and resume work as on any actor."""

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement=place)
        assert (await lab.call(worker, GetState()))["notes"] == "[]"
        await lab.call(worker, Suspend())
        lab.engine.cast(worker, Note(1))
        assert (await lab.call(worker, GetState()))["notes"] == "[]"
        await lab.call(worker, Resume())
        assert await lab.call(worker, Do("notes")) == [1]
        assert (await lab.call(worker, GetStatistics())).actor == "Worker"

    at(test)


@PLACES
def test_context_and_deadline_travel(place: str) -> None:
    """Trace and user come along, and so does what is left of the deadline, also back."""

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement=place)
        await lab.start(Worker, name="w/other")
        context = Context("t" * 32, "s" * 16, None, "ann")
        assert await lab.call(worker, Do("context"), context=context) == context
        assert await lab.call(worker, DoAsync("ask", ("w/other", Do("context"))), context=context) == context
        assert 10.0 < await lab.call(worker, Do("left"), 20.0) <= 20.0
        assert await lab.call(worker, Do("left"), None) is None
        nested = DoAsync("ask", ("w/other", Do("left"), 100.0))
        assert 10.0 < await lab.call(worker, nested, 20.0) <= 20.0

    at(test)


@PLACES
def test_a_late_answer_is_a_time_out(place: str) -> None:
    """At the deadline the caller is told what the target does; the target goes on."""

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement=place)
        error = await lab.error(worker, Do("left_open"), 0.05)
        assert isinstance(error, CallTimeout)
        assert error.timeout == 0.05
        assert await lab.call(worker, Do("echo", (1,))) == 1

    at(test)


@PLACES
def test_a_caller_that_gives_up_cancels_the_task_that_serves_it(place: str) -> None:
    """Tasks started for a call end with their caller, down to calls of their own."""

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement=place)
        witness = await lab.start(Worker, name="w/witness")
        for timeout in (0.05, None):
            asked = asyncio.ensure_future(lab.call(worker, Do("serve_until_given_up", ("w/witness",)), timeout))
            while not (witness.cell and witness.cell.open_calls):
                await lab.call(witness, Do("echo", (1,)))
            if timeout is None:
                asked.cancel()
            with pytest.raises((CallTimeout, asyncio.CancelledError)):
                await asked
            assert (await notes(lab, witness, 1))[-1] == "given up"
            while witness.cell.open_calls:
                await lab.call(witness, Do("echo", (1,)))
            await lab.call(witness, Do("notes"))
        assert await lab.call(worker, Do("echo", (1,))) == 1

    at(test)


@PLACES
def test_monitors_and_links_cross(place: str) -> None:
    """Both ways: a monitor's Down and a link's signal carry the reason."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Trapper, placement=place)
        here = await lab.start(Trapper, name="w/here")
        other = await lab.start(Worker)
        ref = await lab.call(there, Do("monitor", (other,)))
        named = await lab.call(there, Do("monitor", ("w/nobody",)))
        await lab.call(there, Do("link", (other,)))
        await lab.call(here, Do("link", (there,)))
        lab.engine.kill(other)
        told = await notes(lab, there, 3)
        assert Down(ref, other, KILLED) in told
        assert ExitSignal(other, KILLED) in told
        assert Down(named, None, NOPROC) in told
        mine = await lab.call(here, Do("monitor", (there,)))
        await lab.call(there, Do("stop", ("bye",)))
        assert await notes(lab, here, 2) == [ExitSignal(there, "bye"), Down(mine, there, "bye")] or (
            await notes(lab, here, 2) == [Down(mine, there, "bye"), ExitSignal(there, "bye")]
        )

    at(test)


@PLACES
def test_links_can_be_undone_and_signals_sent(place: str) -> None:
    """After unlink and demonitor nothing comes; an exit signal does."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Trapper, placement=place)
        other, second = await lab.start(Worker), await lab.start(Worker)
        await lab.call(there, Do("link", (other,)))
        await lab.call(there, Do("unlink", (other,)))
        await lab.call(there, Do("demonitor", (await lab.call(there, Do("monitor", (other,))),)))
        await lab.call(there, Do("link", (second,)))
        lab.engine.kill(other)
        await lab.call(there, Do("signal", (second, "enough")))
        assert await lab.down(second) == "enough"
        assert await notes(lab, there, 1) == [ExitSignal(second, "enough")]

    at(test)


@PLACES
def test_a_link_ends_with_one_signal(place: str) -> None:
    """An actor started by the placed one signals its own end, once, and is forgotten then."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Trapper, placement=place)
        here = await lab.start(Trapper)
        inner = await lab.call(there, DoAsync("spawn"))
        await lab.call(here, Do("link", (inner,)))
        await lab.error(inner, Do("exit", ("over",)))
        assert await notes(lab, here, 1) == [ExitSignal(inner, "over")]
        assert here.cell is not None
        assert not here.cell.links
        await lab.call(there, Do("stop", ("bye",)))
        await lab.down(there)
        assert await lab.call(here, Do("notes")) == [ExitSignal(inner, "over")]

    at(test)


@PLACES
def test_linked_actors_die_together(place: str) -> None:
    """Who does not trap exits dies of the other's end, whichever side it is on."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement=place)
        here = await lab.start(Worker)
        await lab.call(there, Do("link", (here,)))
        lab.engine.kill(here)
        assert await lab.down(there) == KILLED
        there, here = await lab.start(Worker, placement=place), await lab.start(Worker)
        await lab.call(there, Do("link", (here,)))
        await lab.error(there, Do("exit", ("why",)))
        assert await lab.down(here) == "why"

    at(test)


@PLACES
def test_an_order_to_stop_runs_terminate(place: str) -> None:
    """The parent's order waits behind the mailbox, and terminate can still send."""

    async def test(lab: Lab) -> None:
        witness = await lab.start(Worker, name="w/witness")
        there = await lab.start(Trapper, "witness", "w/witness", placement=place)
        assert await lab.order_down(there) == "shutdown"
        assert await notes(lab, witness, 1) == [("terminated", "shutdown")]
        there = await lab.start(Trapper, "witness", "w/witness", placement=place)
        lab.engine.stop_actor(there, "enough")
        assert await lab.down(there) == "enough"
        assert (await notes(lab, witness, 2))[1] == ("terminated", "enough")

    at(test)


@PLACES
def test_addresses_keep_their_meaning(place: str) -> None:
    """An actor's own address, sent and sent back, is its address; its children can be reached too."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement=place)
        here = await lab.start(Worker)
        assert await lab.call(there, Do("me")) == there
        assert await lab.call(there, Do("echo", ({"all": [there, here]},))) == {"all": [there, here]}
        child = await lab.call(there, DoAsync("spawn"))
        assert await lab.call(child, Do("me")) == child
        assert await lab.call(child, Do("pid")) == await lab.call(there, Do("pid"))
        lab.engine.cast(child, Note(1))
        assert await lab.call(child, Do("notes")) == [1]
        ref = await lab.call(here, Do("monitor", (child,)))
        await lab.error(there, Do("exit", ("gone",)))
        assert await notes(lab, here, 1) == [Down(ref, child, "gone")]
        assert isinstance(await lab.error(child, Do("me")), (NoProcess, ActorDied))

    at(test)


@PLACES
def test_a_cycle_is_refused_at_once(place: str) -> None:
    """A call back to the handler that waits for this very call, through the other process."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement=place)
        await lab.start(Worker, name="w/here")
        through = DoAsync("ask", (there, DoAsync("ask_for_error", ("w/here", Do("me")))))
        assert (await lab.call("w/here", through)).startswith("CallCycle")
        back = DoAsync("ask", ("w/here", DoAsync("ask_for_error", (there, Do("me")))))
        assert (await lab.call(there, back)).startswith("CallCycle")

    at(test)


@PLACES
def test_names_are_looked_up_where_they_are_known(place: str) -> None:
    """The actor finds others by name; nobody's name, and a restarting one, are told as ever."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement=place)
        await lab.start(Worker, name="w/other")
        assert await lab.call(there, DoAsync("ask", ("w/other", Do("echo", (1,))))) == 1
        assert await lab.call(there, DoAsync("ask", ("w/other", Do("who")))) == there
        await lab.call(there, Do("request", ("w/other", Do("echo", (2,)))))
        [reply] = await notes(lab, there, 1)
        assert (reply.tag, reply.value) == ("asked", 2)
        nobody = await lab.call(there, DoAsync("ask_for_error", ("w/othr", Do("me"))))
        assert nobody.startswith("NoProcess")
        assert "w/other" in nobody
        lab.engine.names.set_state("w/other", "restarting")
        fast = DoAsync("ask", ("w/other", Do("me"), 5.0, True))
        error = await lab.error(there, fast)
        assert isinstance(error, ActorDied)
        assert isinstance(error.reason.error, NameUnavailable)

    at(test)


@PLACES
def test_a_full_mailbox_refuses(place: str) -> None:
    """A busy actor with three messages waiting takes no fourth: a call is refused, a cast counted."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Narrow, placement=place)
        await lab.call(there, Suspend())
        waiting = [asyncio.ensure_future(lab.call(there, Do("echo", (number,)))) for number in range(3)]
        await asyncio.sleep(0)
        await lab.call(there, GetStatistics())
        error = await lab.error(there, Do("echo", (4,)))
        assert isinstance(error, Overloaded)
        assert error.limit == 3
        lab.engine.cast(there, Note(1))
        assert lab.engine.counters.overloaded == 2
        await lab.call(there, Resume())
        assert await asyncio.gather(*waiting) == [0, 1, 2]
        assert await lab.call(there, Do("notes")) == []

    at(test)


@PLACES
def test_a_plain_thespian_actor(place: str) -> None:
    """It can be put there as well, and answers who sent."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Plain, placement=place)
        here = await lab.start(Worker)
        await lab.call(here, Do("send", (there, Note("hi"))))
        [(pid, value)] = await notes(lab, here, 1)
        assert value == "hi"
        assert (pid == os.getpid()) is (place == "local")

    at(test)


# -- what only a process has to take care of -----------------------------------------------------------


def test_a_call_that_it_hands_on_comes_back_through_it() -> None:
    """The other one answers it, beside the caller or not; with its own process it ends."""

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement="process")
        keeper = await lab.start(Keeper, name="w/keeper")
        asked = [asyncio.ensure_future(lab.call(worker, Do("forward", ("w/keeper",)))) for _ in range(2)]
        while len(keeper.cell.instance.kept) < 2:  # type: ignore[union-attr]
            await lab.call(worker, Do("echo", (1,)))
        keeper.cell.instance.answer("kept")  # type: ignore[union-attr]
        assert await asked[0] == "kept"
        lab.engine.kill(worker)
        with pytest.raises(ActorDied):
            await asked[1]

    at(test)


def test_an_answer_that_crosses_as_its_caller_gives_up_is_left(tmp_path: Path) -> None:
    """What it opened is told so: neither side forgets it, whichever moment it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def wait() -> None:  # for the answer: nothing is read of it while this thread waits
        assert pipe.read_text() == "answered"

    async def test(lab: Lab) -> None:
        worker = await lab.start(Worker, placement="process")
        asked = asyncio.ensure_future(lab.call(worker, Open(str(pipe))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        wait()
        asked.cancel()
        await asyncio.wait([asked])
        assert await notes(lab, worker, 1) == ["farewell"]

    at(test)


def test_what_does_not_pickle_is_refused_where_it_is_sent() -> None:
    """Class and attribute are named, values are not; nothing is started for arguments that cannot cross."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        here = await lab.start(Worker)
        error = await lab.error(there, Do("echo", ({"hook": lambda: None},)))
        assert isinstance(error, UsageError)
        assert "function at Do.args[0]['hook']" in str(error)
        with pytest.raises(UsageError, match=r"lock at Note\.value"):
            lab.engine.cast(there, Note(threading.Lock()))
        reply = await lab.error(there, Do("unpicklable"))
        assert isinstance(reply, UsageError)
        assert "function" in str(reply)
        assert await lab.call(there, Do("echo", ("lives",))) == "lives"
        assert await lab.call(here, Do("echo", (1,))) == 1
        before = lab.engine.cells.keys()
        failed = await lab.engine.spawn(Worker, ("", lambda: None), placement="process")
        assert isinstance(failed, StartFailed)
        assert "Start.args[1]" in str(failed.reason.error)
        assert lab.engine.cells.keys() == before

    at(test)


def test_what_cannot_be_imported_there_is_told() -> None:
    """A class that the child cannot find fails the start, or the call, with the reason."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        gone = type("Gone", (), {"__module__": "kit.placed", "__qualname__": "Gone"})
        import kit.placed

        kit.placed.Gone = gone  # type: ignore[attr-defined]
        try:
            error = await lab.error(there, Do("echo", (gone(),)))
        finally:
            del kit.placed.Gone  # type: ignore[attr-defined]
        assert isinstance(error, RemoteError)
        assert "Gone" in str(error)
        assert await lab.call(there, Do("echo", (1,))) == 1

    at(test)


def test_a_restart_for_a_siblings_reason_that_does_not_pickle() -> None:
    """The placed actor is started again all the same, and reads the reason in words."""

    async def test(lab: Lab) -> None:
        context = RestartContext("shutdown", 1, 0.0, "sibling", ("odd", threading.Lock()))
        there = await lab.start(Worker, placement="process", restart_context=context)
        told = await lab.call(there, Do("restart_context"))
        assert (told.reason, told.attempt, told.failed) == ("shutdown", 1, "sibling")
        assert told.cause.startswith("('odd', <unlocked")

    at(test)


def test_an_exception_that_does_not_cross_is_described() -> None:
    """One that pickles but does not unpickle arrives in words, with its traceback."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        error = await lab.error(there, Do("stubborn"))
        assert isinstance(error, ActorDied)
        assert isinstance(error.reason.error, RemoteError)
        assert error.reason.error.type == "Stubborn"
        assert "do_stubborn" in error.reason.traceback

    at(test)


def test_ten_thousand_messages_arrive_in_order() -> None:
    """Casts and calls of one sender, in bursts that fit the mailbox, both ways."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        here = await lab.start(Worker, name="w/here", mailbox_limit=None)
        for first in range(0, 10_000, 2_500):
            for number in range(first, first + 2_500):
                lab.engine.cast(there, Note(number))
            await lab.call(there, Do("echo", (None,)))
        assert await lab.call(there, Do("notes")) == list(range(10_000))
        await lab.call(there, Do("flood", ("w/here", 9_000)))
        assert await notes(lab, here, 9_000) == list(range(9_000))

    at(test)


def test_a_large_message_crosses() -> None:
    """Ten megabytes there and back."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        big = os.urandom(10_000_000)
        assert await lab.call(there, Do("echo", (big,)), 10.0) == big

    at(test)


def test_a_child_that_computes_holds_up_nobody() -> None:
    """The parent's loop goes on while the child's handler burns; what waits there waits in its mailbox."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        here = await lab.start(Worker)
        burning = asyncio.ensure_future(lab.call(there, Do("burn", (2.0,))))
        await asyncio.sleep(0)
        for _ in range(50):
            assert await lab.call(here, Do("echo", (1,))) == 1
        assert there.cell is not None
        assert there.cell.status_name == "busy"
        assert not burning.done()
        assert await burning > 0

    at(test)


def test_what_waits_for_a_busy_child_is_bounded() -> None:
    """Its mailbox is full at its limit, wherever the messages are; what was taken in arrives, the rest is counted."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process", mailbox_limit=2_000)
        lab.engine.cast(there, Hang(0.2))
        for number in range(5_000):
            lab.engine.cast(there, Note((number, "x" * 1_000)))
        assert there.cell is not None
        assert len(there.cell.mailbox or ()) == 2_000
        assert lab.engine.counters.overloaded == lab.engine.dead_letters.count == 3_001
        assert isinstance(await lab.error(there, Do("echo", (1,))), Overloaded)
        await lab.call(there, GetStatistics())  # the engine there answers behind the handler
        found = await notes(lab, there, 1_999)
        assert [number for number, _ in found] == list(range(1_999))

    at(test)


def test_what_it_announces_is_known_in_the_parent() -> None:
    """Metadata of its name, its process id, and the telemetry it executes."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        lab.engine.telemetry.attach("test", ("app", "done"), lambda *given: seen.append(given[:3]))
        there = await lab.start(Worker, placement="process", name="w/there")
        pid = await lab.call(there, Do("pid"))
        await lab.call(there, Do("announce", ({"model": "m"},)))
        assert lab.engine.names.metadata("w/there") == {"placement": "process", "pid": pid, "model": "m"}
        await lab.call(there, Do("execute", (("app", "done"), {"count": 1})))
        assert seen == [(("app", "done"), {"count": 1}, {"from": "child"})]
        lab.engine.telemetry.attach("crash", ("dspex", "engine", "crashed"), lambda *given: seen.append(given[2]))
        await lab.error(there, Do("crash", ("oh",)))
        assert seen[1:] == [{"actor": "w/there", "reason": Crash(ValueError("oh"))}]
        assert lab.engine.counters.crashed == 1

    at(test)


def test_a_span_that_failed_is_known_in_the_parent() -> None:
    """Its exception crosses as it is, its stack trace as text."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        lab.engine.telemetry.attach("test", ("app", "work", "exception"), lambda *given: seen.append(given[2]))
        there = await lab.start(Worker, placement="process", name="w/there")
        await lab.call(there, Do("span", (("app", "work"),)))
        [told] = seen
        assert (told["from"], told["kind"], told["reason"].args) == ("child", "error", ("oh",))
        assert "do_span" in told["stacktrace"]

    at(test)


def test_a_namespace_goes_along() -> None:
    """The actor resolves names in the namespace it was started in."""

    async def test(lab: Lab) -> None:
        await lab.start(Worker, name="w/other", namespace="blue")
        there = await lab.start(Worker, name="w/there", namespace="blue", placement="process")
        assert await lab.call(there, DoAsync("ask", ("w/other", Do("echo", (1,))))) == 1
        assert await lab.call("blue:w/there", Do("me")) == there

    at(test)


def test_two_children_reach_each_other() -> None:
    """By address and by name, through their parent; their own children too."""

    async def test(lab: Lab) -> None:
        one = await lab.start(Worker, placement="process", name="w/one")
        two = await lab.start(Worker, placement="process", name="w/two")
        pid = await lab.call(two, Do("pid"))
        assert await lab.call(one, DoAsync("ask", (two, Do("pid")))) == pid
        assert await lab.call(one, DoAsync("ask", ("w/two", Do("pid")))) == pid
        inner = await lab.call(two, DoAsync("spawn"))
        assert await lab.call(one, DoAsync("ask", (inner, Do("me")))) == inner
        assert await lab.call(one, Do("echo", (inner,))) == inner
        ref = await lab.call(one, Do("monitor", (inner,)))
        lab.engine.kill(inner, "enough")
        assert await notes(lab, one, 1) == [Down(ref, inner, "enough")]

    at(test)


def test_no_such_placement() -> None:
    """A misspelt placement is refused, with the nearest known one."""

    async def test(lab: Lab) -> None:
        with pytest.raises(SpecError, match="did you mean 'process'"):
            await lab.start(Worker, placement="proces")

    at(test)


def test_nothing_that_ends_is_an_error_without_words() -> None:
    """A killed process answers its callers with the reason."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        asked = asyncio.ensure_future(lab.error(there, Do("hang")))
        await asyncio.sleep(0)
        lab.engine.kill(there, KILL)
        error = await asked
        assert isinstance(error, Error)
        assert isinstance(error, ActorDied)
        assert error.reason == KILLED

    at(test)
