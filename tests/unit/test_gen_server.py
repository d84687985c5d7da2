"""The GenServer contract, rule by rule (OTP section 2)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.errors import ActorDied, CallTimeout, DefinitionError, Error, NoProcess, UnknownMessage, UsageError
from dspex.runtime.gen_server import (
    Continue,
    Exit,
    Fail,
    GenServer,
    Ignore,
    Ignored,
    Info,
    NoReply,
    Started,
    StartFailed,
    Stop,
    call,
    cast,
    info,
)
from dspex.runtime.messages import GetState, GetStatistics, Resume, Suspend, TaskDone, TaskFailed
from dspex.runtime.reasons import Crash
from kit.engine import Lab, Probe, in_lab


@dataclass(frozen=True)
class Ask:
    what: Any = None


@dataclass(frozen=True)
class Tell:
    what: Any = None


@dataclass(frozen=True)
class Note:
    what: Any = None


class Scripted(GenServer):
    """Does what a message's function says, with the actor as argument; keeps a log."""

    def init(self, log: list[Any] | None = None, start: Any = None) -> Any:
        self.log: list[Any] = [] if log is None else log
        self.open: list[Any] = []
        if callable(start):
            return start(self)
        return start

    @call
    def ask(self, message: Ask) -> Any:
        return message.what(self) if callable(message.what) else message.what

    @cast
    def tell(self, message: Tell) -> Any:
        self.log.append(("cast", message.what))
        return message.what(self) if callable(message.what) else None

    @info
    def note(self, message: Note) -> Any:
        self.log.append(("info", message.what))
        return message.what(self) if callable(message.what) else None

    @info
    def task_ended(self, message: TaskDone | TaskFailed) -> None:
        self.log.append(message)

    def handle_continue(self, value: Any) -> Any:
        self.log.append(("continue", value))
        return value(self) if callable(value) else None

    def terminate(self, reason: Any) -> Any:
        self.log.append(("terminate", reason))


class Trapping(Scripted):
    trap_exit = True


class AsyncScripted(GenServer):
    """The same with coroutines."""

    async def init(self, log: list[Any] | None = None, start: Any = None) -> Any:
        self.log: list[Any] = [] if log is None else log
        return await start(self) if callable(start) else start

    @call
    async def ask(self, message: Ask) -> Any:
        return await message.what(self) if callable(message.what) else message.what

    @cast
    async def tell(self, message: Tell) -> Any:
        self.log.append(("cast", message.what))
        if callable(message.what):
            await message.what(self)

    async def handle_continue(self, value: Any) -> None:
        await asyncio.sleep(1)
        self.log.append(("continue", value))

    async def terminate(self, reason: Any) -> None:
        await asyncio.sleep(1)
        self.log.append(("terminate", reason))


def boom(actor: Any) -> Any:
    """Raise."""
    raise ValueError("boom")


def leave(actor: Any) -> Any:
    """Exit with a reason."""
    raise Exit(("enough", 1))


# -- GS-01: starting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (None, Started),
        (Info("hello"), Started),
        (Continue(1), Started),
        (Ignore(), Ignored()),
        (Stop("no"), StartFailed("no")),
        (boom, StartFailed(Crash(ValueError("boom")))),
        (leave, StartFailed(("enough", 1))),
        ("junk", StartFailed(("bad_return_value", "junk"))),
        (NoReply(), StartFailed(("bad_return_value", NoReply()))),
    ],
)
def test_what_init_may_answer(start: Any, expected: Any) -> None:
    """GS-01: a start returns after init, with what init answered; anything else is a bad return value."""

    async def test(lab: Lab) -> None:
        outcome = await lab.engine.spawn(Scripted, (None, start))
        if expected is Started:
            assert isinstance(outcome, Started)
            assert outcome.info == (start.value if isinstance(start, Info) else None)
            assert lab.engine.alive(outcome.address)
        else:
            assert outcome == expected
            assert lab.engine.cells == {}

    in_lab(test)


def test_an_async_init_is_waited_for() -> None:
    """GS-01: a start returns only after an async init, and messages sent meanwhile are handled after it."""
    log: list[Any] = []

    async def start(actor: Any) -> None:
        await asyncio.sleep(5)
        log.append("initialised")

    async def test(lab: Lab) -> None:
        starting = asyncio.ensure_future(lab.start(AsyncScripted, log, start, name="a/b"))
        await lab.settle()
        assert lab.engine.names.get("a/b").state == "starting"  # type: ignore[union-attr]
        lab.engine.cast("a/b", Tell("early"))
        began = lab.engine.now()
        await starting
        assert lab.engine.now() - began == pytest.approx(5)
        await lab.settle()
        assert log == ["initialised", ("cast", "early")]

    in_lab(test)


def test_a_name_that_is_taken() -> None:
    """GS-01: a second start under a live actor's name answers already_started with its address."""

    async def test(lab: Lab) -> None:
        first = await lab.start(Scripted, name="a/b")
        assert await lab.engine.spawn(Scripted, name="a/b") == StartFailed(("already_started", first))

    in_lab(test)


def test_a_start_that_takes_too_long() -> None:
    """GS-01: an init over its start_timeout is killed; the start failed with timeout, its name is dead."""

    async def for_ever(actor: Any) -> None:
        await asyncio.Event().wait()

    async def test(lab: Lab) -> None:
        outcome = await lab.engine.spawn(AsyncScripted, (None, for_ever), name="a/b", start_timeout=2.0)
        assert outcome == StartFailed("timeout")
        assert lab.engine.names.get("a/b").state == "dead"  # type: ignore[union-attr]

    in_lab(test)


@pytest.mark.parametrize("seconds", ["3", -1.0, True, float("nan")])
def test_a_wrong_start_timeout_starts_nothing(seconds: Any) -> None:
    """It is refused before there is an actor that would be left behind."""

    async def test(lab: Lab) -> None:
        with pytest.raises(DefinitionError, match="start_timeout: expected seconds from 0, or None, got"):
            await lab.engine.spawn(AsyncScripted, (None, None), name="a/b", start_timeout=seconds)
        assert lab.engine.names.get("a/b") is None

    in_lab(test)


def test_killed_while_it_starts() -> None:
    """GS-01: an actor that is killed during init is a failed start with reason killed; its callers are told."""

    async def for_ever(actor: Any) -> None:
        await asyncio.Event().wait()

    async def test(lab: Lab) -> None:
        starting = asyncio.ensure_future(lab.engine.spawn(AsyncScripted, (None, for_ever), name="a/b"))
        await lab.settle()
        asking = asyncio.ensure_future(lab.error("a/b", Ask()))
        await lab.settle()
        lab.engine.kill("a/b")
        assert await starting == StartFailed("killed")
        error = await asking
        assert isinstance(error, ActorDied)
        assert error.reason == "killed"

    in_lab(test)


def test_giving_up_a_start_ends_the_actor() -> None:
    """GS-01: when whoever starts an actor is cancelled, no half-started actor stays behind."""

    async def for_ever(actor: Any) -> None:
        await asyncio.Event().wait()

    async def test(lab: Lab) -> None:
        starting = asyncio.ensure_future(lab.engine.spawn(AsyncScripted, (None, for_ever)))
        await lab.settle()
        assert len(lab.engine.cells) == 1
        starting.cancel()
        await lab.settle()
        assert lab.engine.cells == {}

    in_lab(test)


# -- GS-02: continue -------------------------------------------------------------------------------


def test_continue_comes_before_any_message() -> None:
    """GS-02: handle_continue runs before a message sent before init returned; continues chain."""
    log: list[Any] = []

    def start(actor: Any) -> Continue:
        actor.cast(actor.myAddress, Tell("sent in init"))
        return Continue(lambda actor: Continue("second"))

    async def test(lab: Lab) -> None:
        await lab.start(Scripted, log, start)
        await lab.settle()
        assert [entry[0] for entry in log] == ["continue", "continue", "cast"]
        assert log[1] == ("continue", "second")

    in_lab(test)


def test_an_async_continue_comes_before_any_message() -> None:
    """GS-02: the same with coroutines."""
    log: list[Any] = []

    async def start(actor: Any) -> Continue:
        actor.cast(actor.myAddress, Tell("sent in init"))
        return Continue("x")

    async def test(lab: Lab) -> None:
        await lab.start(AsyncScripted, log, start)
        await asyncio.sleep(2)
        assert log == [("continue", "x"), ("cast", "sent in init")]

    in_lab(test)


def test_the_reply_goes_out_before_the_continue() -> None:
    """GS-02: after a reply with continue, the reply goes out first."""

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Scripted, log)

        def answer_and_go_on(actor: Any) -> Continue:
            token = actor.caller
            return Continue(lambda actor: actor.log.append((token.settled, token.value)), reply="r")

        assert await lab.call(actor, Ask(answer_and_go_on)) == "r"
        assert log[1] == (True, "r")

    in_lab(test)


def test_a_thousand_continues_do_not_nest() -> None:
    """GS-02: a long chain of continues is a loop, not a recursion."""

    def step(left: int) -> Any:
        return lambda actor: Continue(step(left - 1)) if left else None

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        await lab.start(Scripted, log, Continue(step(5000)))
        assert len(log) == 5001

    in_lab(test)


# -- GS-03, GS-04: see test_calls.py; here what concerns the server -----------------------------------


def test_after_a_time_out_the_server_goes_on() -> None:
    """GS-03: the server goes on after its caller's time-out, and its late reply is counted and dropped."""
    log: list[Any] = []

    async def slow(actor: Any) -> str:
        await asyncio.sleep(3)
        log.append("done")
        return "late"

    async def test(lab: Lab) -> None:
        actor = await lab.start(AsyncScripted, log)
        error = await lab.error(actor, Ask(slow), timeout=1.0)
        assert isinstance(error, CallTimeout)
        assert isinstance(error, TimeoutError)
        assert (error.timeout, error.state) == (1.0, "busy")
        await asyncio.sleep(3)
        assert log == ["done"]
        assert lab.engine.counters.late_replies == 1
        assert await lab.call(actor, Ask("still here")) == "still here"

    in_lab(test)


# -- GS-05, GS-06: casts, order, late replies ----------------------------------------------------------


def test_a_cast_never_fails() -> None:
    """GS-05: a cast to nobody, to a dead actor and to an unknown name is dropped and counted."""

    async def test(lab: Lab) -> None:
        caster = await lab.start(Scripted)
        dead = await lab.start(Scripted)
        lab.engine.kill(dead)

        def all_three(actor: Any) -> str:
            for target in ("no/body", dead, 17):
                actor.cast(target, Tell())
            return "ok"

        assert await lab.call(caster, Ask(all_three)) == "ok"
        assert lab.engine.dead_letters.count == 3
        assert [letter.message_type for letter in lab.engine.dead_letters.recent] == ["Tell"] * 3

    in_lab(test)


def test_messages_are_handled_one_at_a_time_in_order() -> None:
    """GS-06: casts, calls and plain messages of one sender are handled in the order they were sent."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, log)
        calls = []
        for number in range(0, 300, 3):
            lab.engine.cast(actor, Tell(number))
            lab.engine.send(actor, Note(number + 1), None)
            calls.append(asyncio.ensure_future(lab.call(actor, Ask(lambda a, n=number + 2: a.log.append(("call", n))))))
            await asyncio.sleep(0)
        await asyncio.gather(*calls)
        assert [entry[1] for entry in log] == list(range(300))

    in_lab(test)


def test_an_async_handler_holds_up_the_next_message() -> None:
    """GS-06: one message at a time, coroutines included."""
    log: list[Any] = []

    def steps(tag: str) -> Any:
        async def run(actor: Any) -> None:
            log.append(f"{tag} begins")
            await asyncio.sleep(1)
            log.append(f"{tag} ends")

        return run

    async def test(lab: Lab) -> None:
        actor = await lab.start(AsyncScripted)
        await asyncio.gather(lab.call(actor, Ask(steps("a"))), lab.call(actor, Ask(steps("b"))))
        assert log == ["a begins", "a ends", "b begins", "b ends"]

    in_lab(test)


def test_a_reply_may_be_sent_later_by_anyone() -> None:
    """GS-06: NoReply leaves the call open; any actor may answer it, with a value or an error, once."""

    async def test(lab: Lab) -> None:
        keeper, other = await lab.start(Scripted), await lab.start(Scripted)
        tokens: list[Any] = []

        def keep(actor: Any) -> NoReply:
            tokens.append(actor.caller)
            return NoReply()

        asking = [asyncio.ensure_future(lab.call(keeper, Ask(keep))) for _ in range(2)]
        await lab.settle()
        assert (await lab.call(keeper, GetStatistics())).open_calls == 2
        lab.engine.cast(other, Tell(lambda actor: actor.reply(tokens[0], "value")))
        lab.engine.cast(other, Tell(lambda actor: actor.fail(tokens[1], Error("sorry"))))
        assert await asking[0] == "value"
        with pytest.raises(Error, match="sorry"):
            await asking[1]
        lab.engine.cast(other, Tell(lambda actor: actor.reply(tokens[0], "again")))
        await lab.settle()
        assert lab.engine.counters.late_replies == 1
        assert (await lab.call(keeper, GetStatistics())).open_calls == 0

    in_lab(test)


def test_the_caller_exists_only_in_call_handlers() -> None:
    """GS-06: asking for the caller elsewhere is refused at once."""

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Scripted, log)
        lab.engine.cast(actor, Tell(lambda actor: actor.caller))
        reason = await lab.down(actor)
        assert isinstance(reason.error, UsageError)
        assert "expected caller inside a @call handler" in str(reason.error)

    in_lab(test)


# -- GS-07, GS-08: ends --------------------------------------------------------------------------------


def test_stop_with_a_reply() -> None:
    """GS-07: terminate runs, then the reply, then the exit."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, log)
        assert await lab.call(actor, Ask(lambda actor: Stop("enough", reply="bye"))) == "bye"
        assert await lab.down(actor) == "enough"
        assert log == [("terminate", "enough")]

    in_lab(test)


def test_stop_without_a_reply() -> None:
    """GS-07: without a reply the caller is told the reason."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        error = await lab.error(actor, Ask(lambda actor: Stop("enough")))
        assert isinstance(error, ActorDied)
        assert error.reason == "enough"

    in_lab(test)


def test_stop_with_none_as_reply() -> None:
    """GS-07: None is a reply like any other."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        assert await lab.call(actor, Ask(lambda actor: Stop("enough", reply=None))) is None

    in_lab(test)


@pytest.mark.parametrize("send", ["call", "cast", "info"])
@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (boom, Crash(ValueError("boom"))),
        (leave, ("enough", 1)),
        (lambda actor: Stop(("s", 2)), ("s", 2)),
        (lambda actor: Ignore(), ("bad_return_value", Ignore())),
    ],
)
def test_how_a_handler_may_end_its_actor(send: str, does: Any, reason: Any) -> None:
    """GS-08: an exception, an exit, a stop, a bad return value: terminate runs with the reason, then the end."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, log)
        if send == "call":
            assert (await lab.error(actor, Ask(does))).reason == reason
        elif send == "cast":
            lab.engine.cast(actor, Tell(does))
        else:
            lab.engine.send(actor, Note(does), None)
        assert await lab.down(actor) == reason
        assert log[-1] == ("terminate", reason)

    in_lab(test)


def test_a_cast_handler_may_not_answer() -> None:
    """GS-08: any other return value than None of a cast is a bad return value."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        lab.engine.cast(actor, Tell(lambda actor: "an answer"))
        assert await lab.down(actor) == ("bad_return_value", "an answer")

    in_lab(test)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit(), KeyError("k")])
@pytest.mark.parametrize("kind", [Scripted, AsyncScripted])
def test_any_exception_ends_this_actor_only(kind: type[GenServer], error: BaseException) -> None:
    """GS-08: SystemExit and its like end the actor that raised them, and nobody else."""

    def plain(actor: Any) -> Any:
        raise error

    async def waiting(actor: Any) -> Any:
        await asyncio.sleep(0)
        raise error

    async def test(lab: Lab) -> None:
        actor, other = await lab.start(kind), await lab.start(Scripted)
        failure = await lab.error(actor, Ask(waiting if kind is AsyncScripted else plain))
        assert isinstance(failure, ActorDied)
        assert failure.reason.error is error
        assert await lab.call(other, Ask("fine")) == "fine"

    in_lab(test)


def test_a_system_exit_in_a_task_ends_its_actor_only() -> None:
    """GS-08: SystemExit in an owned task is a failed task, in a serving one the actor's crash; the engine lives."""

    async def leave_the_process() -> None:
        raise SystemExit(3)

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Scripted, log)
        await lab.call(actor, Ask(lambda actor: actor.start_task(leave_the_process(), tag="t") and None))
        await lab.settle()
        assert isinstance(log[0], TaskFailed)
        assert isinstance(log[0].reason.error, SystemExit)
        error = await lab.error(actor, Ask(lambda actor: actor.serve(leave_the_process())))
        assert isinstance(error.reason.error, SystemExit)

    in_lab(test)


def test_the_traceback_of_a_crash() -> None:
    """GS-08: a crash carries its traceback, for who asks."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        reason = (await lab.error(actor, Ask(boom))).reason
        assert "in boom" in reason.traceback

    in_lab(test)


def test_an_unsupervised_crash_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """GS-08: nobody reports the crash of an actor without a supervisor, so the engine logs it."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, name="a/b")
        lab.engine.cast(actor, Tell(boom))
        await lab.down(actor)

    with caplog.at_level(logging.ERROR, "dspex.engine"):
        in_lab(test)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "a/b" in caplog.text
    assert "ValueError: boom" in caplog.text


# -- GS-09, GS-10, GS-11: terminate, signals, stop --------------------------------------------------------


@pytest.mark.parametrize("reason", ["shutdown", "normal", "why"])
def test_the_parents_order_when_trapping(reason: str) -> None:
    """GS-09, GS-10: trapping, the parent's exit signal runs terminate and ends with that reason, normal too."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(Trapping, log)
        assert await lab.order_down(actor, reason) == reason
        assert log == [("terminate", reason)]

    in_lab(test)


def test_the_parents_order_when_not_trapping() -> None:
    """GS-09: not trapping, it dies at once, without terminate."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, log)
        assert await lab.order_down(actor, "shutdown") == "shutdown"
        assert log == []

    in_lab(test)


@pytest.mark.parametrize("kind", [Scripted, Trapping, AsyncScripted])
def test_a_kill_runs_nothing(kind: type[GenServer]) -> None:
    """GS-09: no terminate on a kill; the reason others see is killed."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(kind, log)
        assert lab.engine.kill(actor)
        assert await lab.down(actor) == "killed"
        assert log == []

    in_lab(test)


def test_stopping_from_outside() -> None:
    """GS-11: stop runs terminate behind the mailbox and ends with that reason; a dead one is noproc."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, log)
        lab.engine.cast(actor, Tell("first"))
        lab.engine.stop_actor(actor, "enough")
        assert await lab.down(actor) == "enough"
        assert log == [("cast", "first"), ("terminate", "enough")]
        assert isinstance(await lab.error(actor, Ask()), NoProcess)

    in_lab(test)


def test_a_terminate_that_raises() -> None:
    """GS-08: a terminate that raises gives the exit reason, and keeps nobody alive."""

    class Fails(Trapping):
        def terminate(self, reason: Any) -> None:
            raise KeyError(reason)

    async def test(lab: Lab) -> None:
        actor = await lab.start(Fails)
        assert await lab.order_down(actor) == Crash(KeyError("shutdown"))

    in_lab(test)


def test_a_terminate_that_hangs_can_be_killed() -> None:
    """GS-09: an async terminate that never ends leaves the engine running, and dies by a kill."""

    class Hangs(Trapping):
        async def terminate(self, reason: Any) -> None:
            await asyncio.Event().wait()

    async def test(lab: Lab) -> None:
        actor = await lab.start(Hangs)
        waiting = asyncio.ensure_future(lab.error(actor, Ask("unheard"), timeout=None))
        await lab.settle()
        stuck = await lab.start(Hangs)
        lab.engine.kill(stuck, "shutdown")
        assert (await lab.engine.wait_down(stuck, 3.0)) == (False, None)
        assert lab.engine.kill(stuck)
        assert await lab.down(stuck) == "killed"
        waiting.cancel()

    in_lab(test)


def test_resources_are_closed_after_any_end() -> None:
    """own: the engine closes what an actor owns after any end, a kill and a failed start included, last first."""
    closed: list[str] = []

    class Resource:
        def __init__(self, tag: str) -> None:
            self.tag = tag

        def close(self) -> None:
            closed.append(self.tag)
            if self.tag == "bad":
                raise OSError("cannot close")

    class AsyncResource(Resource):
        async def aclose(self) -> None:
            await asyncio.sleep(0)
            closed.append(f"async {self.tag}")

    def take(actor: Any) -> None:
        actor.own(Resource("a"))
        actor.own(Resource("bad"))
        actor.own(AsyncResource("c"))
        kept = actor.own(Resource("kept"))
        actor.disown(kept)

    def take_and_fail(actor: Any) -> Any:
        actor.own(Resource("of a failed start"))
        raise ValueError

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, None, take)
        lab.engine.kill(actor)
        await lab.settle()
        assert closed == ["bad", "a", "async c"]
        await lab.engine.spawn(Scripted, (None, take_and_fail))
        assert closed[-1] == "of a failed start"

    in_lab(test)


# -- GS-12: unknown messages --------------------------------------------------------------------------------


def test_unknown_messages() -> None:
    """GS-12: an unknown plain message is counted and dropped; an unknown call fails; an unknown cast crashes."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        lab.engine.send(actor, "what?", None)
        error = await lab.error(actor, "what?")
        assert isinstance(error, UnknownMessage)
        assert error.message_type == "str"
        assert "it has them for Ask" in str(error)
        assert lab.engine.counters.unhandled == 1
        assert await lab.call(actor, Ask("alive")) == "alive"
        lab.engine.cast(actor, 17)
        assert await lab.down(actor) == ("unknown_cast", "int")

    in_lab(test)


def test_a_subclass_of_a_message_finds_its_handler() -> None:
    """A message whose class has no handler of its own goes to the handler of its nearest base."""

    @dataclass(frozen=True)
    class SpecialAsk(Ask):
        pass

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        assert await lab.call(actor, SpecialAsk("found")) == "found"

    in_lab(test)


# -- definition errors ---------------------------------------------------------------------------------------


def define(handlers: dict[str, Any], **attributes: Any) -> type:
    """A GenServer class with these members."""
    return type("Made", (GenServer,), {**handlers, **attributes})


def unannotated() -> Any:
    """A handler without an annotation."""

    @call
    def handler(self: Any, message) -> None: ...  # type: ignore[no-untyped-def]

    return {"handler": handler}


def unresolved() -> Any:
    """A handler whose annotation names nothing."""

    @call
    def handler(self: Any, message: NoSuchClass) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    return {"handler": handler}


def without_message() -> Any:
    """A handler without a message."""

    @cast
    def handler(self: Any) -> None: ...

    return {"handler": handler}


def with_two() -> Any:
    """A handler that needs two arguments."""

    @info
    def handler(self: Any, message: Ask, more: int) -> None: ...

    return {"handler": handler}


def doubled() -> Any:
    """Two handlers of one message."""

    @call
    def one(self: Any, message: Ask) -> None: ...

    @call
    def two(self: Any, message: Ask | Tell) -> None: ...

    return {"one": one, "two": two}


def no_class() -> Any:
    """A handler whose annotation is no class."""

    @call
    def handler(self: Any, message: "3") -> None: ...  # type: ignore[valid-type]  # noqa: UP037

    return {"handler": handler}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (unannotated, "expected the message class as annotation of 'message', got none"),
        (unresolved, "'NoSuchClass' does not resolve"),
        (without_message, "takes exactly one message, got 0"),
        (with_two, "takes exactly one message, got 2"),
        (doubled, "both one and two are @call handlers of Ask"),
        (no_class, "expected a message class as annotation, got 3"),
    ],
)
def test_a_malformed_handler_is_an_error_at_import(members: Any, words: str) -> None:
    """A mistake in a handler is a DefinitionError when the class is defined, and says what is wrong."""
    with pytest.raises(DefinitionError, match=words.replace("|", r"\|")):
        define(members())


@pytest.mark.parametrize("limit", [0, -2, True, "many", 1.5])
def test_a_malformed_mailbox_limit(limit: Any) -> None:
    """A mailbox limit is a number from 1, -1 or None; anything else is refused at once."""
    with pytest.raises(DefinitionError, match="mailbox_limit: expected messages from 1"):
        define({}, mailbox_limit=limit)

    async def test(lab: Lab) -> None:
        with pytest.raises(DefinitionError):
            await lab.engine.spawn(Scripted, mailbox_limit=limit)

    in_lab(test)


def test_a_subclass_may_override_a_handler() -> None:
    """A method that overrides a handler by name is the handler, decorated again or not."""

    class Louder(Scripted):
        def ask(self, message: Ask) -> str:
            return f"{message.what}!"

    async def test(lab: Lab) -> None:
        assert await lab.call(await lab.start(Louder), Ask("hi")) == "hi!"

    in_lab(test)


# -- Fail, serve, tasks ------------------------------------------------------------------------------------------


def test_an_expected_failure() -> None:
    """Fail raises the error at the caller; the actor lives on."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        wanted = Error("not today")
        assert await lab.error(actor, Ask(lambda actor: Fail(wanted))) is wanted
        assert isinstance(await lab.error(actor, Ask(lambda actor: Fail(KeyError("k")))), KeyError)
        assert await lab.call(actor, Ask(1)) == 1

    in_lab(test)


async def answer(value: Any, after: float = 1.0) -> Any:
    """Return a value, or raise it, after a while."""
    await asyncio.sleep(after)
    if isinstance(value, BaseException):
        raise value
    return value


def test_served_calls_do_not_wait_for_each_other() -> None:
    """serve: many calls at once, each answered by its own task."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        began = lab.engine.now()
        asked = [lab.call(actor, Ask(lambda actor, n=n: actor.serve(answer(n)))) for n in range(50)]
        assert await asyncio.gather(*asked) == list(range(50))
        assert lab.engine.now() - began == pytest.approx(1)

    in_lab(test)


def test_what_a_serving_task_may_raise() -> None:
    """serve: a dspex error is the caller's; any other exception crashes the actor, an Exit ends it."""

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Scripted, log)
        error = await lab.error(actor, Ask(lambda actor: actor.serve(answer(Error("expected")))))
        assert str(error) == "expected"
        crash = await lab.error(actor, Ask(lambda actor: actor.serve(answer(ValueError("a bug")))))
        assert crash.reason == Crash(ValueError("a bug"))
        assert log == [("terminate", crash.reason)]
        other = await lab.start(Scripted)
        assert (await lab.error(other, Ask(lambda actor: actor.serve(answer(Exit("out")))))).reason == "out"

    in_lab(test)


def test_a_crash_of_a_task_while_a_handler_waits() -> None:
    """serve: when a task crashes the actor while a coroutine handler waits, that one is cancelled before terminate."""
    log: list[Any] = []

    class Both(AsyncScripted):
        @call
        def serve_it(self, message: Note) -> Any:
            return self.serve(message.what)

    async def hold(actor: Any) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            log.append("handler ended")

    async def test(lab: Lab) -> None:
        actor = await lab.start(Both, log)
        served = asyncio.ensure_future(lab.error(actor, Note(answer(ValueError("a bug"), after=2))))
        await lab.settle()
        held = asyncio.ensure_future(lab.error(actor, Ask(hold)))
        reason = Crash(ValueError("a bug"))
        assert ((await served).reason, (await held).reason) == (reason, reason)
        assert log == ["handler ended", ("terminate", reason)]

    in_lab(test)


def test_the_end_of_a_task_is_a_message() -> None:
    """start_task: the result, the failure or the cancellation arrives with the tag (OTP TSK-05)."""
    log: list[Any] = []

    def three(actor: Any) -> None:
        actor.start_task(answer(1), tag="done")
        actor.start_task(answer(ValueError("bad"), after=2), tag="failed")
        handle = actor.start_task(answer(1), tag="cancelled")
        assert not handle.done
        handle.cancel()

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted, log)
        lab.engine.cast(actor, Tell(three))
        await asyncio.sleep(3)
        assert log[1:] == [
            TaskFailed("cancelled", "killed"),
            TaskDone("done", 1),
            TaskFailed("failed", Crash(ValueError("bad"))),
        ]

    in_lab(test)


def test_tasks_end_with_their_actor() -> None:
    """start_task: an actor's tasks are cancelled with it, started or not."""
    log: list[Any] = []

    async def watched(tag: str) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            log.append(tag)

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        lab.engine.cast(actor, Tell(lambda actor: actor.start_task(watched("running")) and None))
        await lab.settle()

        def start_and_die(actor: Any) -> None:
            actor.start_task(watched("never started"))
            actor.exit(actor.myAddress, "kill")

        lab.engine.cast(actor, Tell(start_and_die))
        assert await lab.down(actor) == "killed"
        await lab.settle()
        assert log == ["running"]
        assert lab.engine.owned_tasks() == []

    in_lab(test)


def test_tasks_started_for_a_call_end_when_its_caller_gives_up() -> None:
    """A caller that gives up cancels what was started for its call, served or owned, unless it was detached."""
    ended: list[str] = []

    async def work(tag: str) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            ended.append(tag)
            raise

    def start(actor: Any) -> Any:
        actor.start_task(work("owned"))
        actor.detach(work("detached"))
        return actor.serve(work("served"))

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        asking = asyncio.ensure_future(lab.call(actor, Ask(start)))
        await lab.settle()
        asking.cancel()
        await lab.settle()
        assert sorted(ended) == ["owned", "served"]
        ended.clear()
        assert isinstance(await lab.error(actor, Ask(start), timeout=1.0), CallTimeout)
        await lab.settle()
        assert sorted(ended) == ["owned", "served"]
        assert (await lab.call(actor, GetStatistics())).tasks == 2

    in_lab(test)


def test_serving_a_caller_who_is_gone_starts_nothing() -> None:
    """serve: a call that was given up while it waited in the mailbox starts no task."""

    async def hold(actor: Any) -> None:
        await asyncio.sleep(5)

    class Both(AsyncScripted):
        @call
        def serve_it(self, message: Note) -> Any:
            self.log.append("served")
            return self.serve(message.what)

    async def test(lab: Lab) -> None:
        log: list[Any] = []
        actor = await lab.start(Both, log)
        lab.engine.cast(actor, Tell(hold))
        assert isinstance(await lab.error(actor, Note(answer(1, after=100)), timeout=1.0), CallTimeout)
        await asyncio.sleep(6)
        assert log[1:] == ["served"]
        assert (await lab.call(actor, GetStatistics())).tasks == 0

    in_lab(test)


def test_an_actor_that_dies_in_its_own_handler() -> None:
    """GS-09: an actor that kills itself is dead at once; what its handler still does is dropped and counted."""
    log: list[Any] = []

    def die_and_talk(actor: Any) -> Any:
        peer = actor.peer
        actor.exit(actor.myAddress, "kill")
        actor.cast(peer, Tell("from the dead"))
        actor.send(peer, Note("from the dead"))
        return Continue("nothing")

    async def test(lab: Lab) -> None:
        peer, actor = await lab.start(Scripted, log), await lab.start(Scripted)
        actor.cell.instance.peer = peer  # type: ignore[union-attr]
        error = await lab.error(actor, Ask(die_and_talk))
        assert error.reason == "killed"
        await lab.settle()
        assert log == []
        assert lab.engine.counters.late_output == 2

    in_lab(test)


def test_calls_are_not_for_plain_handlers() -> None:
    """A plain handler cannot wait: call() there is refused at once, and says what to do."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        reason = (await lab.error(actor, Ask(lambda actor: actor.call("a/b", 1)))).reason
        assert isinstance(reason.error, UsageError)
        assert "async def" in str(reason.error)

    in_lab(test)


# -- system messages -------------------------------------------------------------------------------------------------


def test_state_is_shown_without_secrets() -> None:
    """GetState: attributes as short texts; what is named like a secret shows as stars."""

    class Keeper(GenServer):
        def init(self) -> None:
            self.api_key = "sk-123"
            self.settings = {"url": "http://x"}
            self.auth_token = "t-456"
            self.long = "x" * 1000

    async def test(lab: Lab) -> None:
        state = await lab.call(await lab.start(Keeper), GetState())
        assert state["api_key"] == state["auth_token"] == "***"
        assert state["settings"] == "{'url': 'http://x'}"
        assert len(state["long"]) < 200
        assert "_myRef" not in state

    in_lab(test)


def test_system_messages_never_reach_a_handler() -> None:
    """System messages are answered by the engine, even if a handler takes every object."""

    class Greedy(GenServer):
        @call
        def all(self, message: object) -> str:
            return "mine"

    async def test(lab: Lab) -> None:
        greedy = await lab.start(Greedy, name="a/greedy")
        assert await lab.call(greedy, 1) == "mine"
        statistics = await lab.call(greedy, GetStatistics())
        assert (statistics.name, statistics.actor, statistics.mailbox) == ("a/greedy", "Greedy", 0)

    in_lab(test)


def test_suspend_and_resume() -> None:
    """Suspend: messages wait, system messages are answered, the parent is obeyed; Resume: all go on, in order."""
    log: list[Any] = []

    async def test(lab: Lab) -> None:
        actor = await lab.start(Trapping, log)
        await lab.call(actor, Suspend())
        for number in range(3):
            lab.engine.cast(actor, Tell(number))
        assert (await lab.call(actor, GetStatistics())).status == "suspended"
        assert (await lab.call(actor, GetStatistics())).mailbox == 3
        assert log == []
        await lab.call(actor, Resume())
        await lab.settle()
        assert [entry[1] for entry in log] == [0, 1, 2]
        await lab.call(actor, Suspend())
        lab.engine.cast(actor, Tell("unheard"))
        assert await lab.order_down(actor) == "shutdown"
        assert log[-1] == ("terminate", "shutdown")

    in_lab(test)


def test_system_messages_queued_behind_a_suspend() -> None:
    """Suspend, then others at once: each is answered."""

    async def test(lab: Lab) -> None:
        actor = await lab.start(Scripted)
        asked = [lab.call(actor, message) for message in (Suspend(), GetStatistics(), Resume(), Ask("x"))]
        answers = await asyncio.gather(*asked)
        assert answers[1].status == "suspended"
        assert answers[3] == "x"

    in_lab(test)


def test_a_full_mailbox_still_takes_system_messages() -> None:
    """Supervisors' orders, replies and system messages are never refused."""

    class Small(Scripted):
        mailbox_limit = 2

    async def test(lab: Lab) -> None:
        actor = await lab.start(Small)
        await lab.call(actor, Suspend())
        for number in range(5):
            lab.engine.cast(actor, Tell(number))
        assert lab.engine.counters.overloaded == 3
        assert (await lab.call(actor, GetStatistics())).mailbox == 2

    in_lab(test)


def test_mailbox_limits() -> None:
    """The limit is the class's, the engine's with -1, none with None; a start may say another."""

    class Bounded(Probe):
        mailbox_limit = 3

    class Unbounded(Probe):
        mailbox_limit = None

    async def room(lab: Lab, cls: type[GenServer], **options: Any) -> int:
        actor = await lab.start(cls, **options)
        await lab.call(actor, Suspend())
        for _ in range(50):
            lab.engine.cast(actor, Tell())
        return int((await lab.call(actor, GetStatistics())).mailbox)

    async def test(lab: Lab) -> None:
        assert await room(lab, Bounded) == 3
        assert await room(lab, Unbounded) == 50
        assert await room(lab, Probe) == 7
        assert await room(lab, Bounded, mailbox_limit=5) == 5
        assert await room(lab, Bounded, mailbox_limit=None) == 50

    in_lab(test, mailbox_limit=7)


def test_an_actor_may_say_what_is_shown_of_it() -> None:
    """GetState tells what ``format_status`` returns, short and masked; one that fails costs nothing but its words."""

    class Told(Probe):
        def format_status(self) -> dict[str, Any]:
            return {"in work": 3, "token": "very-secret", "text": "x" * 1000}

    class Broken(Probe):
        def format_status(self) -> dict[str, Any]:
            raise ValueError("very-secret")

    async def test(lab: Lab) -> None:
        state = await lab.call(await lab.start(Told), GetState())
        assert (state["in work"], state["token"], len(state["text"])) == ("3", "***", 120)
        broken = await lab.start(Broken)
        assert await lab.call(broken, GetState()) == {"format_status": "'failed: ValueError'"}
        assert lab.engine.alive(broken)

    in_lab(test)
