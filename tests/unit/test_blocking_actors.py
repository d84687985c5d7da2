"""Actors whose handlers block: on daemon threads, with the same contract."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.dispatcher import DaemonDispatcher, InlineDispatcher
from dspex.runtime.errors import (
    ActorDied,
    ApplicationDown,
    CallCancelled,
    CallCycle,
    CallTimeout,
    UsageError,
    WrongThread,
)
from dspex.runtime.gen_server import Continue, Fail, GenServer, NoReply, StartFailed, Stop, call, cast, info
from dspex.runtime.messages import Down, ExitSignal, Reply, TaskDone
from dspex.runtime.reasons import Crash
from kit.engine import Lab, Probe, Recorder, in_lab, running_engine


@dataclass(frozen=True)
class Do:
    what: Any


class Blocking(GenServer):
    """Runs what it is told on a daemon thread."""

    blocking = True
    trap_exit = True

    def init(self, log: list[Any] | None = None, start: Any = None) -> Any:
        self.log = [] if log is None else log
        self.log.append(("init", threading.current_thread().daemon))
        return start(self) if callable(start) else start

    @call
    def do(self, message: Do) -> Any:
        return message.what(self) if callable(message.what) else message.what

    @cast
    def do_later(self, message: Do) -> Any:
        return message.what(self)

    @info
    def note(self, message: Down | ExitSignal | Reply | TaskDone | str) -> None:
        self.log.append(message)

    def handle_continue(self, value: Any) -> None:
        self.log.append(("continue", threading.current_thread() is not threading.main_thread()))

    def terminate(self, reason: Any) -> None:
        self.log.append(("terminate", reason, threading.current_thread() is not threading.main_thread()))


class Echo(GenServer):
    @call
    def echo(self, message: str) -> str:
        return message


def boom(actor: Any) -> None:
    """Raise."""
    raise ValueError("boom")


def test_everything_of_a_blocking_actor_runs_on_a_daemon_thread() -> None:
    """init, handlers, handle_continue and terminate run off the loop, one at a time, in order."""

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Blocking, log, Continue(1))
        assert await lab.call(actor, Do(lambda actor: threading.current_thread().daemon)) is True
        assert await lab.order_down(actor) == "shutdown"
        assert log == [("init", True), ("continue", True), ("terminate", "shutdown", True)]

    in_lab(test, virtual=False)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (boom, Crash(ValueError("boom"))),
        (Stop("no"), "no"),
        ("junk", ("bad_return_value", "junk")),
    ],
)
def test_a_blocking_init_that_fails(start: Any, reason: Any) -> None:
    """GS-01 holds for blocking actors."""

    async def test(lab: Lab) -> None:
        assert await lab.engine.spawn(Blocking, (None, start)) == StartFailed(reason)

    in_lab(test, virtual=False)


def test_ends_of_a_blocking_actor() -> None:
    """GS-07, GS-08 hold: an exception, a stop with a reply, an expected failure."""

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Blocking, log)
        assert isinstance(await lab.error(actor, Do(lambda actor: Fail(KeyError("k")))), KeyError)
        error = await lab.error(actor, Do(boom))
        assert error.reason == Crash(ValueError("boom"))
        assert log[-1][:2] == ("terminate", error.reason)
        other = await lab.start(Blocking)
        assert await lab.call(other, Do(lambda actor: Stop("enough", reply="bye"))) == "bye"
        assert await lab.down(other) == "enough"

    in_lab(test, virtual=False)


def test_an_actors_methods_work_on_its_thread() -> None:
    """cast, send, request, call_sync, timers, tasks, monitors, links: handed to the engine's thread, in order."""

    async def three() -> int:
        return 3

    def everything(actor: Any) -> Any:
        echo, probe, victim = actor.others
        actor.send(probe, "sent")
        actor.request(echo, "request", tag="r")
        actor.start_timer(0.001, "tick")
        actor.start_task(three(), tag="t")
        ref = actor.monitor(victim)
        actor.link(victim)
        actor.exit(victim, "why")
        return ref, actor.call_sync(echo, "sync", timeout=5), actor.context.trace_id

    async def test(lab: Lab) -> None:
        log = Recorder()
        seen: list[Any] = []
        actor = await lab.start(Blocking, log)
        echo, probe, victim = await lab.start(Echo), await lab.start(Probe, seen), await lab.start(Probe)
        actor.cell.instance.others = (echo, probe, victim)  # type: ignore[union-attr]
        ref, answer, _ = await lab.call(actor, Do(everything))
        assert answer == "sync"
        await log.reached(6)
        assert seen == ["sent"]
        expected = [
            Reply("r", "request"),
            "tick",
            TaskDone("t", 3),
            Down(ref, victim, "why"),
            ExitSignal(victim, "why"),
        ]
        assert sorted(map(str, log[1:])) == sorted(map(str, expected))

    in_lab(test, virtual=False)


def test_a_reply_from_a_thread() -> None:
    """A call that was left open is answered from a daemon thread."""

    async def test(lab: Lab) -> None:
        tokens = Recorder()

        def keep(actor: Any) -> NoReply:
            tokens.append(actor.caller)
            return NoReply()

        actor = await lab.start(Blocking)
        asking = asyncio.ensure_future(lab.call(actor, Do(keep)))
        await tokens.reached(1)
        lab.engine.cast(actor, Do(lambda actor: actor.reply(tokens[0], "later")))
        assert await asking == "later"

    in_lab(test, virtual=False)


def test_a_blocking_actor_calls_itself() -> None:
    """GS-04: call_sync to oneself is a cycle, refused at once; to others it inherits the deadline."""

    async def test(lab: Lab) -> None:
        actor, silent = await lab.start(Blocking), await lab.start(Blocking)
        error = await lab.error(actor, Do(lambda actor: actor.call_sync(actor.myAddress, Do(1))))
        assert isinstance(error.reason.error, CallCycle)
        other = await lab.start(Blocking)
        ended = Recorder()

        def ask(actor: Any) -> None:
            try:
                actor.call_sync(silent, Do(lambda actor: NoReply()), timeout=100)
            except CallTimeout as error:
                ended.append(str(error))

        assert isinstance(await lab.error(other, Do(ask), timeout=0.5), CallTimeout)
        await ended.reached(1)
        assert "what was left of its caller's deadline" in ended[0]

    in_lab(test, virtual=False)


def test_waiting_on_the_engines_thread_is_refused() -> None:
    """call_sync on the loop would wait for ever: WrongThread; call() on a daemon thread: UsageError."""

    class Plain(GenServer):
        @call
        def do(self, message: Do) -> Any:
            return message.what(self)

    async def test(lab: Lab) -> None:
        plain, blocking = await lab.start(Plain), await lab.start(Blocking)
        error = await lab.error(plain, Do(lambda actor: actor.call_sync("a/b", 1)))
        assert isinstance(error.reason.error, WrongThread)
        error = await lab.error(blocking, Do(lambda actor: actor.call("a/b", 1)))
        assert isinstance(error.reason.error, UsageError)
        assert "call_sync" in str(error.reason.error)

    in_lab(test, virtual=False)


def test_run_blocking() -> None:
    """run_blocking: on a daemon thread, with the actor's methods and trace; result and exception come back."""

    class Works(GenServer):
        @call
        async def do(self, message: Do) -> Any:
            return await self.run_blocking(message.what, self)

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        works, echo, probe = await lab.start(Works), await lab.start(Echo), await lab.start(Probe, seen)

        def work(actor: Any) -> Any:
            actor.send(probe, threading.current_thread().daemon)
            return actor.call_sync(echo, "hi"), actor.context.trace_id

        answer, trace = await lab.call(works, Do(work))
        assert answer == "hi"
        assert len(trace) == 32
        await lab.settle()
        assert seen == [True]
        assert works.cell.guards == 0  # type: ignore[union-attr]
        assert (await lab.error(works, Do(boom))).reason == Crash(ValueError("boom"))

    in_lab(test, virtual=False)


def test_a_killed_blocking_actor_is_abandoned() -> None:
    """Kill is instant for the others; the thread is abandoned and counted, and what it still does is dropped."""

    async def test(lab: Lab) -> None:
        started, go_on, over = threading.Event(), threading.Event(), threading.Event()
        closed = Recorder()
        failures: list[Any] = []
        seen: list[Any] = []
        await lab.start(Blocking, name="a/b")
        probe = await lab.start(Probe, seen)

        class Resource:
            def close(self) -> None:
                closed.append("closed")

        def stuck(actor: Any) -> None:
            started.set()
            go_on.wait(10)
            actor.cast(probe, "late")
            actor.send(probe, "late")
            actor.own(Resource())
            for refused in (actor.monitor, actor.call_sync):
                try:
                    refused(probe, *(["x"] if refused == actor.call_sync else []))
                except Exception as error:
                    failures.append(type(error))
            over.set()

        asking = asyncio.ensure_future(lab.error("a/b", Do(stuck)))
        await asyncio.to_thread(started.wait, 5)
        lab.engine.kill("a/b")
        error = await asking
        assert isinstance(error, ActorDied)
        await lab.start(Blocking, name="a/b")  # the name is free at once
        assert lab.engine.counters.abandoned_threads == 1
        go_on.set()
        await asyncio.to_thread(over.wait, 5)
        await closed.reached(1)
        assert seen == []
        assert lab.engine.counters.late_output == 2
        assert failures[0] is CallCancelled

    in_lab(test, virtual=False)


def test_a_stuck_handler_holds_up_no_stop() -> None:
    """An engine with a blocking handler that never returns stops all the same."""
    release, started = threading.Event(), threading.Event()

    def stuck(actor: Any) -> None:
        started.set()
        release.wait(10)

    try:
        with running_engine() as engine:
            actor = engine.outside.spawn(Blocking).address
            engine.cast(actor, Do(stuck))
            assert started.wait(5)
            engine.stop(timeout=0.05)
            assert engine.ended.result(5) == "shutdown"
            with pytest.raises(ApplicationDown):
                engine.call_blocking(actor, Do(1))
    finally:
        release.set()


def test_the_dispatcher_reuses_its_threads() -> None:
    """Threads are started when needed, up to the limit, used again, and end when idle or shut down."""
    dispatcher = DaemonDispatcher(max_threads=2, idle_seconds=0.01, name="t")
    barrier = threading.Barrier(3)
    futures = [dispatcher.submit(barrier.wait, 5) for _ in range(2)]
    third = dispatcher.submit(threading.current_thread)
    assert dispatcher.threads == 2
    barrier.wait(5)
    for future in futures:
        future.result(5)
    worker = third.result(5)
    assert worker.daemon
    worker.join(5)
    assert not worker.is_alive()
    assert dispatcher.submit(lambda: "new").result(5) == "new"
    assert isinstance(dispatcher.submit(boom, None).exception(5), ValueError)
    dispatcher.shutdown(wait=True)
    assert dispatcher.threads == 0
    with pytest.raises(ApplicationDown):
        dispatcher.submit(print)


def test_the_inline_dispatcher_runs_at_once() -> None:
    """For runs in virtual time: no thread, the future is done when submit returns."""
    dispatcher = InlineDispatcher()
    assert dispatcher.submit(threading.current_thread).result(0) is threading.current_thread()
    assert isinstance(dispatcher.submit(boom, None).exception(0), ValueError)


def test_blocking_actors_in_virtual_time() -> None:
    """With the inline executor blocking actors run without a thread, their contract the same."""

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Blocking, log)
        assert await lab.call(actor, Do("x")) == "x"
        assert (await lab.error(actor, Do(boom))).reason == Crash(ValueError("boom"))
        assert [entry[0] for entry in log] == ["init", "terminate"]

    in_lab(test, executor=InlineDispatcher())
