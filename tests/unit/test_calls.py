"""Calls: each ends exactly once, with a reply or a typed error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.calls import MAX_DEPTH
from dspex.runtime.context import Context
from dspex.runtime.errors import (
    ActorDied,
    ApplicationDown,
    CallCancelled,
    CallCycle,
    CallDepthExceeded,
    CallTimeout,
    Error,
    NameUnavailable,
    NoProcess,
    Overloaded,
    UnknownMessage,
)
from dspex.runtime.gen_server import GenServer, NoReply, call, cast, info
from dspex.runtime.messages import Reply, Suspend, TaskDone
from kit.engine import Lab, in_lab


@dataclass(frozen=True)
class Do:
    what: Any


@dataclass(frozen=True)
class Relay:
    """Call the first of these with the rest."""

    path: tuple[Any, ...]
    timeout: float | None = 5.0


class Plain(GenServer):
    """Plain handlers: answers at once, asks by request."""

    def init(self, seen: list[Any] | None = None) -> None:
        self.seen = [] if seen is None else seen

    @call
    def do(self, message: Do) -> Any:
        return message.what(self) if callable(message.what) else message.what

    @cast
    def do_later(self, message: Do) -> None:
        message.what(self)

    @info
    def reply_came(self, message: Reply | TaskDone) -> None:
        self.seen.append(message)


class Waiting(GenServer):
    """Async handlers, which call others."""

    @call
    async def do(self, message: Do) -> Any:
        return await message.what(self) if callable(message.what) else message.what

    @call
    async def relay(self, message: Relay) -> Any:
        if not message.path:
            return "end"
        return await self.call(message.path[0], Relay(message.path[1:], message.timeout), timeout=message.timeout)


class Serving(GenServer):
    """The same, each call in a task of its own."""

    @call
    def relay(self, message: Relay) -> NoReply:
        return self.serve(self._relay(message))

    async def _relay(self, message: Relay) -> Any:
        if not message.path:
            return "end"
        return await self.call(message.path[0], Relay(message.path[1:]))


async def hang(actor: Any) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def never(actor: Any) -> NoReply:
    """Leave the call open for ever."""
    return NoReply()


# -- replies and refusals ------------------------------------------------------------------------------


def test_a_reply() -> None:
    """From outside, from a coroutine, from a task, by request: each gets the reply."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        answers, asks = await lab.start(Plain), await lab.start(Waiting)
        requests = await lab.start(Plain, seen)
        assert await lab.call(answers, Do("outside")) == "outside"

        async def ask(actor: Any) -> Any:
            return await actor.call(answers, Do("coroutine"))

        assert await lab.call(asks, Do(ask)) == "coroutine"
        lab.engine.cast(requests, Do(lambda actor: actor.start_task(ask(actor), tag="t")))
        tag = await lab.call(requests, Do(lambda actor: actor.request(answers, Do("request"))))
        lab.engine.cast(requests, Do(lambda actor: actor.request(answers, Do("tagged"), tag="mine")))
        await lab.settle()
        assert sorted(seen, key=str) == sorted(
            [TaskDone("t", "coroutine"), Reply(tag, "request"), Reply("mine", "tagged")], key=str
        )

    in_lab(test)


async def every_way(lab: Lab, target: Any, message: Any, **options: Any) -> list[Any]:
    """The errors of a call that must fail, made from outside, from a coroutine and by request."""
    seen: list[Any] = []
    asks, requests = await lab.start(Waiting), await lab.start(Plain, seen)
    errors = [await lab.error(target, message, **options)]

    async def ask(actor: Any) -> Any:
        try:
            return await actor.call(target, message, **options)
        except Exception as error:
            return error

    errors.append(await lab.call(asks, Do(ask), timeout=None))
    lab.engine.cast(requests, Do(lambda actor: actor.request(target, message, **options)))
    await asyncio.sleep(10)
    assert len(seen) == 1
    return [*errors, seen[0].error]


def test_nobody_there() -> None:
    """GS-04: a dead or unknown target is noproc, and the error says which target and why."""

    async def test(lab: Lab) -> None:
        dead = await lab.start(Plain)
        lab.engine.kill(dead, "why")
        for error in await every_way(lab, dead, Do(1)):
            assert isinstance(error, NoProcess)
            assert error.reason == "why"
            assert "it is dead (why)" in str(error)
        for error in await every_way(lab, "no/body", Do(1)):
            assert isinstance(error, NoProcess)
            assert error.target == "no/body"

    in_lab(test)


def test_the_target_dies_before_it_replies() -> None:
    """GS-04: everybody who waits hears the reason: the call in the handler, kept open, and in the mailbox."""

    async def test(lab: Lab) -> None:
        target = await lab.start(Waiting, name="a/b")
        keeper = await lab.start(Plain)
        asked = [
            asyncio.ensure_future(lab.error(target, Do(hang))),
            asyncio.ensure_future(lab.error(target, Do("queued"))),
            asyncio.ensure_future(lab.error(keeper, Do(never))),
        ]
        await lab.settle()
        for each in (target, keeper):
            lab.engine.kill(each, "why")
        for error in await asyncio.gather(*asked):
            assert isinstance(error, ActorDied)
            assert error.reason == "why"

    in_lab(test)


def test_unknown_messages_are_refused() -> None:
    """GS-12: a message without a handler is refused at its caller, whoever that is."""

    async def test(lab: Lab) -> None:
        for error in await every_way(lab, await lab.start(Plain), Relay(())):
            assert isinstance(error, UnknownMessage)

    in_lab(test)


def test_a_full_mailbox_refuses_calls() -> None:
    """A call to a full mailbox gets Overloaded with the limit; replies and signals still come through."""

    class Small(Plain):
        mailbox_limit = 1

    async def test(lab: Lab) -> None:
        target = await lab.start(Small)
        await lab.call(target, Suspend())
        lab.engine.cast(target, Do(print))
        for error in await every_way(lab, target, Do(1)):
            assert isinstance(error, Overloaded)
            assert error.limit == 1
        assert lab.engine.counters.overloaded == 3

    in_lab(test)


# -- time -------------------------------------------------------------------------------------------------


def test_no_reply_in_time() -> None:
    """GS-03: at the deadline, exactly, the caller gets CallTimeout with target, seconds and the target's state."""

    async def test(lab: Lab) -> None:
        target = await lab.start(Plain, name="a/b")
        began = lab.engine.now()
        error = await lab.error("a/b", Do(never), timeout=2.0)
        assert lab.engine.now() - began == pytest.approx(2)
        assert isinstance(error, CallTimeout)
        assert (error.target, error.timeout, error.state) == ("a/b", 2.0, "idle")
        assert "no reply from a/b to Do within 2 s; the target is idle" in str(error)
        for each in await every_way(lab, target, Do(never), timeout=1.0):
            assert isinstance(each, CallTimeout)

    in_lab(test)


def test_the_default_time_out() -> None:
    """GS-03: a raw call waits 5 seconds unless told otherwise; None waits for ever."""

    async def test(lab: Lab) -> None:
        asks, silent = await lab.start(Waiting), await lab.start(Plain)

        async def ask(actor: Any) -> float:
            began = actor.system.now()
            with pytest.raises(CallTimeout):
                await actor.call(silent, Do(never))
            return float(actor.system.now() - began)

        assert await lab.call(asks, Do(ask), timeout=None) == pytest.approx(5)
        patient = asyncio.ensure_future(lab.call(silent, Do(never), timeout=None))
        await asyncio.sleep(100_000)
        assert not patient.done()
        patient.cancel()

    in_lab(test)


def test_a_nested_call_inherits_what_is_left_of_the_deadline() -> None:
    """A call made for another call ends with it: its deadline is never later, whatever its own time-out."""

    async def test(lab: Lab) -> None:
        outer, silent = await lab.start(Waiting), await lab.start(Waiting)
        ended: list[Any] = []

        async def ask(actor: Any) -> None:
            await asyncio.sleep(1)
            try:
                await actor.call(silent, Do(hang), timeout=100)
            except CallTimeout as error:
                ended.append((actor.system.now(), str(error)))

        began = lab.engine.now()
        assert isinstance(await lab.error(outer, Do(ask), timeout=3.0), CallTimeout)
        await lab.settle()
        assert ended[0][0] - began == pytest.approx(3)
        assert "what was left of its caller's deadline" in ended[0][1]

    in_lab(test)


def test_a_shorter_time_out_of_its_own_counts() -> None:
    """A nested call with a shorter time-out keeps it."""

    async def test(lab: Lab) -> None:
        outer, silent = await lab.start(Waiting), await lab.start(Waiting)

        async def ask(actor: Any) -> float:
            began = actor.system.now()
            with pytest.raises(CallTimeout, match="within 1 s"):
                await actor.call(silent, Do(hang), timeout=1.0)
            return float(actor.system.now() - began)

        assert await lab.call(outer, Do(ask), timeout=50.0) == pytest.approx(1)

    in_lab(test)


# -- names that are not running --------------------------------------------------------------------------------


def test_a_restarting_name() -> None:
    """A call to a restarting name waits for it, until its deadline; or fails at once, as asked."""

    async def test(lab: Lab) -> None:
        address = await lab.start(Plain, name="a/b")
        lab.engine.names.set_state("a/b", "restarting")
        for state in ("restarting", "backing_off"):
            lab.engine.names.set_state("a/b", state)
            error = await lab.error("a/b", Do(1), fail_fast=True)
            assert isinstance(error, NameUnavailable)
            assert (error.target, error.state) == ("a/b", state)
        late = await lab.error("a/b", Do(1), timeout=1.0)
        assert isinstance(late, CallTimeout)
        assert late.state == "backing_off"
        waiting = [asyncio.ensure_future(lab.call("a/b", Do(n))) for n in range(3)]
        await lab.settle()
        lab.engine.names.begin("a/b", address)
        lab.engine.names.set_state("a/b", "running")
        assert await asyncio.gather(*waiting) == [0, 1, 2]

    in_lab(test)


@pytest.mark.parametrize("end", ["dead", "dropped"])
def test_a_name_that_does_not_come_back(end: str) -> None:
    """A call that waits for a name is refused when the name is dead, or forgotten."""

    async def test(lab: Lab) -> None:
        await lab.start(Plain, name="a/b")
        lab.engine.names.set_state("a/b", "restarting")
        waiting = asyncio.ensure_future(lab.error("a/b", Do(1), timeout=None))
        await lab.settle()
        if end == "dead":
            lab.engine.names.set_state("a/b", "dead", "gave up")
        else:
            lab.engine.names.drop("a/b")
        assert isinstance(await waiting, NoProcess)

    in_lab(test)


def test_callers_of_a_restarting_name_are_bounded() -> None:
    """No more calls wait for a name than a mailbox holds; given-up ones make room."""

    async def test(lab: Lab) -> None:
        await lab.start(Plain, name="a/b")
        lab.engine.names.set_state("a/b", "restarting")
        waiting = [asyncio.ensure_future(lab.call("a/b", Do(1))) for _ in range(3)]
        await lab.settle()
        error = await lab.error("a/b", Do(1))
        assert isinstance(error, NameUnavailable)
        assert "3 calls wait for it already" in str(error)
        for each in waiting:
            each.cancel()
        await lab.settle()
        patient = asyncio.ensure_future(lab.error("a/b", Do(1), timeout=1.0))
        assert isinstance(await patient, CallTimeout)

    in_lab(test, mailbox_limit=3)


# -- cycles and depth ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_is_refused_at_once(length: int) -> None:
    """GS-04: calling oneself, directly or through others, is refused with the chain of names."""

    async def test(lab: Lab) -> None:
        names = [f"a/{number}" for number in range(length)]
        for name in names:
            await lab.start(Waiting, name=name)
        began = lab.engine.now()
        error = await lab.error(names[0], Relay((*names[1:], names[0])))
        assert lab.engine.now() == began
        reason = error.reason if isinstance(error, ActorDied) else None
        while reason is not None and isinstance(reason.error, ActorDied):
            reason = reason.error.reason
        assert isinstance(reason.error, CallCycle)  # type: ignore[union-attr]
        assert list(reason.error.chain) == names  # type: ignore[union-attr]
        assert " -> ".join([*names, names[0]]) in str(reason.error)  # type: ignore[union-attr]

    in_lab(test)


def test_a_call_back_to_who_serves_in_a_task_is_no_cycle() -> None:
    """An actor that serves its calls in tasks can be called back: nothing of it waits in a handler."""

    async def test(lab: Lab) -> None:
        for name in ("a/1", "a/2"):
            await lab.start(Serving, name=name)
        assert await lab.call("a/1", Relay(("a/2", "a/1", "a/1", "a/2"))) == "end"

    in_lab(test)


def test_two_callers_of_one_busy_actor_are_no_cycle() -> None:
    """Waiting for the same actor from two sides is no cycle."""

    async def test(lab: Lab) -> None:
        for name in ("a/1", "a/2", "a/3"):
            await lab.start(Waiting, name=name)
        assert await asyncio.gather(*(lab.call(name, Relay(("a/3",))) for name in ("a/1", "a/2"))) == ["end"] * 2

    in_lab(test)


def test_a_chain_broken_by_a_caller_who_gave_up_is_no_cycle() -> None:
    """Above a caller that has given up nobody waits any more."""

    async def test(lab: Lab) -> None:
        one, two = await lab.start(Waiting, name="a/1"), await lab.start(Waiting, name="a/2")

        async def ask_and_give_up(actor: Any) -> str:
            with pytest.raises(CallTimeout):
                await actor.call(two, Do(call_back), timeout=1.0)
            return "gave up"

        async def call_back(actor: Any) -> Any:
            await asyncio.sleep(2)
            return await actor.call(one, Do("back"))

        assert await lab.call(one, Do(ask_and_give_up)) == "gave up"
        await asyncio.sleep(3)
        assert lab.engine.alive(two)

    in_lab(test)


def test_calls_nested_too_deep() -> None:
    """64 calls nested in one another are allowed, one more is refused."""

    async def test(lab: Lab) -> None:
        for number in range(MAX_DEPTH + 2):
            await lab.start(Serving, name=f"a/{number}")
        assert await lab.call("a/0", Relay(tuple(f"a/{n}" for n in range(1, MAX_DEPTH + 1)))) == "end"
        error = await lab.error("a/0", Relay(tuple(f"a/{n}" for n in range(1, MAX_DEPTH + 2))))
        assert isinstance(error, CallDepthExceeded)
        assert error.depth == MAX_DEPTH + 1

    in_lab(test)


# -- callers that give up, or end ------------------------------------------------------------------------------------


def test_a_late_reply_is_counted() -> None:
    """A reply to a caller that gave up is counted and dropped, and told by telemetry."""

    async def test(lab: Lab) -> None:
        told: list[Any] = []
        lab.engine.telemetry.attach(
            "t", ("dspex", "engine", "late_reply"), lambda event, measurements, metadata, config: told.append(metadata)
        )
        tokens: list[Any] = []

        def keep(actor: Any) -> NoReply:
            tokens.append(actor.caller)
            return NoReply()

        target = await lab.start(Plain)
        await lab.error(target, Do(keep), timeout=1.0)
        lab.engine.cast(target, Do(lambda actor: actor.reply(tokens[0], "late")))
        await lab.settle()
        assert lab.engine.counters.late_replies == 1
        assert told == [{"target": str(target), "message_type": "Do"}]

    in_lab(test)


def test_the_callers_end_gives_its_calls_up() -> None:
    """When a caller ends, what was started for its calls and requests is cancelled, down the whole chain."""
    ended: list[str] = []

    class Working(GenServer):
        @call
        def do(self, message: Do) -> NoReply:
            return self.serve(self._work(message.what))

        async def _work(self, tag: str) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                ended.append(tag)
                raise

    async def test(lab: Lab) -> None:
        working, middle = await lab.start(Working), await lab.start(Serving, name="a/middle")
        asks, requests = await lab.start(Waiting), await lab.start(Plain)

        async def ask(actor: Any) -> None:
            await actor.call(working, Do("call"))

        asking = asyncio.ensure_future(lab.error(asks, Do(ask)))
        lab.engine.cast(requests, Do(lambda actor: actor.request(working, Do("request"))))
        await lab.settle()
        for each in (asks, requests):
            lab.engine.kill(each)
        await asking
        await lab.settle()
        assert sorted(ended) == ["call", "request"]
        assert lab.engine.alive(working)
        assert lab.engine.alive(middle)
        assert lab.engine.counters.late_replies == 0

    in_lab(test)


def test_a_cancelled_serving_task_is_a_typed_error() -> None:
    """A task that serves a call and is cancelled by somebody answers CallCancelled."""

    class Cancels(GenServer):
        @call
        def do(self, message: Do) -> NoReply:
            return self.serve(self._work())

        async def _work(self) -> None:
            raise asyncio.CancelledError

    async def test(lab: Lab) -> None:
        assert isinstance(await lab.error(await lab.start(Cancels), Do(1)), CallCancelled)

    in_lab(test)


def test_no_reply_comes_to_an_actor_that_has_ended() -> None:
    """A request whose maker has ended is nobody's: no dead letter, no late reply."""

    async def test(lab: Lab) -> None:
        tokens: list[Any] = []

        def keep(actor: Any) -> NoReply:
            tokens.append(actor.caller)
            return NoReply()

        target, requests = await lab.start(Plain), await lab.start(Plain)
        lab.engine.cast(requests, Do(lambda actor: actor.request(target, Do(keep))))
        await lab.settle()
        lab.engine.kill(requests)
        assert tokens[0].settled
        assert lab.engine.dead_letters.count == 0

    in_lab(test)


# -- the end of the engine ---------------------------------------------------------------------------------------------


def test_the_engines_end_answers_everybody() -> None:
    """Open calls, calls that wait for a name, and calls made afterwards: ApplicationDown with the reason."""

    async def test(lab: Lab) -> None:
        target, named = await lab.start(Plain), await lab.start(Plain, name="a/b")
        lab.engine.names.set_state("a/b", "restarting")
        asked = [
            asyncio.ensure_future(lab.error(target, Do(never), timeout=None)),
            asyncio.ensure_future(lab.error("a/b", Do(1), timeout=None)),
        ]
        await lab.settle()
        await lab.engine.astop("enough")
        asked.append(asyncio.ensure_future(lab.error(named, Do(1))))
        errors = await asyncio.gather(*asked)
        assert [type(error).__name__ for error in errors] == ["ActorDied", "ApplicationDown", "ApplicationDown"]
        assert [error.reason for error in errors] == ["enough"] * 3
        assert lab.engine.ended.result() == "enough"
        with pytest.raises(ApplicationDown):
            lab.engine.cast(target, Do(1))

    in_lab(test)


def test_a_shutdown_is_the_applications_end_for_its_callers() -> None:
    """A target that ends because the engine shuts down is ApplicationDown, not a death of its own."""

    async def test(lab: Lab) -> None:
        target = await lab.start(Plain)
        asking = asyncio.ensure_future(lab.error(target, Do(never), timeout=None))
        await lab.settle()
        await lab.engine.astop()
        assert isinstance(await asking, ApplicationDown)

    in_lab(test)


# -- traces -------------------------------------------------------------------------------------------


def test_the_context_travels() -> None:
    """A context given outside reaches nested calls, casts, sends and tasks; user and trace stay."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []

        class Notes(GenServer):
            @call
            def do(self, message: Do) -> None:
                seen.append((message.what, self.context))

            @cast
            def do_later(self, message: Do) -> None:
                seen.append((message.what, self.context))

            @info
            def note(self, message: str) -> None:
                seen.append((message, self.context))

        notes, asks = await lab.start(Notes), await lab.start(Waiting)

        async def in_task(actor: Any) -> None:
            await asyncio.sleep(1)
            actor.cast(notes, Do("cast of a task"))
            await actor.call(notes, Do("call of a task"))

        async def all_ways(actor: Any) -> None:
            await actor.call(notes, Do("call"))
            actor.cast(notes, Do("cast"))
            actor.send(notes, "send")
            actor.detach(in_task(actor))

        context = Context.root(lab.engine.ids, user="u1")
        await lab.call(asks, Do(all_ways), context=context)
        lab.engine.cast(notes, Do("cast from outside"), context=context)
        await lab.call(asks, Do(lambda actor: asyncio.sleep(0)))  # another message, another context
        await asyncio.sleep(2)
        assert [what for what, _ in seen] == [
            "call",
            "cast",
            "send",
            "cast from outside",
            "cast of a task",
            "call of a task",
        ]
        assert all(each is context for _, each in seen)

    in_lab(test)


def test_a_context_is_begun_on_demand() -> None:
    """Without a context one is begun where it is first asked for, and goes on from there; each message has its own."""

    async def test(lab: Lab) -> None:
        begun: list[Any] = []

        class Notes(GenServer):
            @cast
            def do_later(self, message: Do) -> None:
                begun.append(self.context)

        notes, asks = await lab.start(Notes), await lab.start(Waiting)

        async def begin(actor: Any) -> None:
            begun.append(actor.context)
            assert actor.context is actor.context
            actor.cast(notes, Do(1))

        await lab.call(asks, Do(begin))
        await lab.call(asks, Do(begin))
        await lab.settle()
        assert begun[0] is begun[1]
        assert begun[2] is begun[3]
        assert begun[0].trace_id != begun[2].trace_id

    in_lab(test)


def test_an_error_is_raised_as_it_is() -> None:
    """A dspex error that the target answered with is the one that is raised, its facts with it."""

    async def test(lab: Lab) -> None:
        wanted = Error("no", why=1)

        class Refuses(GenServer):
            @call
            def do(self, message: Do) -> NoReply:
                self.fail(self.caller, wanted)
                return NoReply()

        error = await lab.error(await lab.start(Refuses), Do(1))
        assert error is wanted
        assert error.why == 1

    in_lab(test)


def test_an_actor_calls_itself_from_its_task() -> None:
    """A task may call its own actor: the handler answers its own caller, whatever the task serves."""

    class Own(GenServer):
        @call
        def outer(self, message: Relay) -> NoReply:
            return self.serve(self._work())

        async def _work(self) -> Any:
            return await self.call(self.myAddress, Do("inner"))

        @call
        def inner(self, message: Do) -> NoReply:
            self.reply(self.caller, message.what)
            return NoReply()

    async def test(lab: Lab) -> None:
        own = await lab.start(Own)
        assert await lab.call(own, Relay(())) == "inner"
        assert lab.engine.alive(own)

    in_lab(test)
