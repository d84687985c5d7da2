"""Actors for tests of placement: a child interpreter can import this module, not a test's own."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thespian.actors import Actor, ActorAddress

from dspex.runtime.context import Context
from dspex.runtime.gen_server import Continue, Exit, Fail, GenServer, Ignore, Info, NoReply, Stop, call, cast, info
from dspex.runtime.messages import Down, ExitSignal, Opens, Reply
from dspex.runtime.stages import Producer, stream


@dataclass(frozen=True, slots=True)
class Do:
    """Call of a :class:`Worker`: do this."""

    what: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class DoAsync(Do):
    """The same in a coroutine."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Cast: hold the loop for ever, with or without the interpreter's lock, or compute for so many seconds."""

    burn: float | None = None
    freeze: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Cast or plain message: to be kept."""

    value: Any


@dataclass(frozen=True, slots=True)
class Open(Opens):
    """Call: hand over an actor of use to the caller only; write to this pipe when the answer is given."""

    pipe: str

    def farewell(self) -> Note:
        """For a caller who has gone."""
        return Note("farewell")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an :class:`Open` gives."""

    address: ActorAddress


class Stubborn(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)
        self.two = two


class Worker(GenServer):
    """Does what it is told, and keeps notes."""

    def init(self, how: str = "", value: Any = None) -> Any:
        self.notes: list[Any] = []
        self.trapped: list[Any] = []
        if how == "ignore":
            return Ignore()
        if how == "stop":
            return Stop(value)
        if how == "raise":
            raise ValueError(value)
        if how == "info":
            return Info(value)
        if how == "continue":
            return Continue(value)
        if how == "block":
            threading.Event().wait()
        if how == "exit":
            os._exit(value)
        return None

    def handle_continue(self, value: Any) -> None:
        self.notes.append(value)

    @call
    def do(self, message: Do) -> Any:
        return getattr(self, f"do_{message.what}")(*message.args)

    @call
    async def do_async(self, message: DoAsync) -> Any:
        return await getattr(self, f"do_{message.what}")(*message.args)

    @call
    def open(self, message: Open) -> Opened:
        with Path(message.pipe).open("w") as pipe:
            pipe.write("answered")
        return Opened(self.myAddress)

    @cast
    def note(self, message: Note) -> None:
        self.notes.append(message.value)

    @cast
    def hang(self, message: Hang) -> None:
        if message.freeze:
            self.do_freeze()
        elif message.burn is None:
            self.do_hang()
        else:
            self.do_burn(message.burn)

    @info
    def tell(self, message: Note) -> None:
        self.notes.append(message.value)

    @info
    def down(self, message: Down) -> None:
        self.notes.append(message)

    @info
    def trap(self, message: ExitSignal) -> None:
        self.notes.append(message)

    @info
    def replied(self, message: Reply) -> None:
        self.notes.append(message)

    def do_echo(self, value: Any) -> Any:
        return value

    def do_print(self, text: str) -> None:
        print(text, flush=True)

    def do_pid(self) -> int:
        return os.getpid()

    def do_notes(self) -> list[Any]:
        return self.notes

    def do_me(self) -> ActorAddress:
        return self.myAddress

    def do_context(self) -> Context:
        return self.context

    def do_restart_context(self) -> Any:
        return self.restart_context

    def do_crash(self, text: str) -> None:
        raise ValueError(text)

    def do_stubborn(self) -> None:
        raise Stubborn("one", "two")

    def do_fail(self, error: Exception) -> Fail:
        return Fail(error)

    def do_stop(self, reason: Any) -> Stop:
        return Stop(reason, reply="stopping")

    def do_exit(self, reason: Any) -> None:
        raise Exit(reason)

    def do_die(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def do_quit(self, code: int) -> None:
        os._exit(code)

    def do_burn(self, seconds: float) -> int:
        until, count = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            count += 1
        return count

    def do_hang(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        threading.Event().wait()

    def do_freeze(self) -> None:
        """Hold the interpreter's lock: no other thread of this process runs any more."""
        ctypes.PyDLL(None).pause()

    def do_who(self) -> Any:
        """Who waits for this call in a handler."""
        holder = self.caller.holder
        return None if holder is None else holder.address

    def do_unpicklable(self) -> Any:
        return lambda: None

    def do_monitor(self, target: Any) -> int:
        return self.monitor(target)

    def do_demonitor(self, ref: int) -> None:
        self.demonitor(ref)

    def do_link(self, target: Any) -> None:
        self.link(target)

    def do_unlink(self, target: Any) -> None:
        self.unlink(target)

    def do_signal(self, target: Any, reason: Any) -> None:
        self.exit(target, reason)

    def do_cast(self, target: Any, message: Any) -> None:
        self.cast(target, message)

    def do_send(self, target: Any, message: Any) -> None:
        self.send(target, message)

    def do_flood(self, target: Any, count: int) -> None:
        for number in range(count):
            self.cast(target, Note(number))

    def do_execute(self, event: tuple[str, ...], measurements: Any) -> None:
        self.system.telemetry.execute(event, measurements, {"from": "child"})

    def do_span(self, prefix: tuple[str, ...]) -> None:
        with suppress(LookupError), self.system.telemetry.span(prefix, {"from": "child"}):
            raise LookupError("oh")

    def do_announce(self, metadata: Any) -> None:
        assert self.name is not None
        self.system.names.set_metadata(self.name, metadata)

    def do_left(self) -> float | None:
        deadline = self.caller.deadline
        return None if deadline is None else deadline - self.system.now()

    def do_left_open(self) -> NoReply:
        return NoReply()

    def do_request(self, target: Any, message: Any) -> None:
        self.request(target, message, tag="asked")

    async def do_ask(self, target: Any, message: Any, timeout: float | None = 5.0, fail_fast: bool = False) -> Any:
        return await self.call(target, message, timeout=timeout, fail_fast=fail_fast)

    async def do_ask_for_error(self, target: Any, message: Any) -> str:
        try:
            answer = await self.call(target, message)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        raise AssertionError(answer)

    async def do_spawn(self, *args: Any) -> Any:
        return (await self.spawn_link(Worker, *args)).address  # type: ignore[union-attr]

    def do_forward(self, to: Any) -> NoReply:
        return self.forward(to)

    def do_serve_until_given_up(self, told: Any) -> Any:
        return self.serve(self._wait_and_tell(told))

    async def _wait_and_tell(self, told: Any) -> None:
        try:
            await self.call(told, Do("left_open"), timeout=None)
        finally:
            self.cast(told, Note("given up"))


class Trapper(Worker):
    """Traps exits, and says so at its end."""

    trap_exit = True

    def init(self, how: str = "", value: Any = None) -> Any:
        self.witness = value if how == "witness" else None
        return super().init("" if how == "witness" else how, value)

    def terminate(self, reason: Any) -> None:
        if self.witness is not None:
            self.cast(self.witness, Note(("terminated", reason)))


class Narrow(Worker):
    """Holds three messages."""

    mailbox_limit = 3


class Plain(Actor):
    """A plain Thespian actor that sends back what it gets."""

    def receiveMessage(self, msg: Any, sender: ActorAddress) -> None:
        if isinstance(msg, Note):
            self.send(sender, Note((os.getpid(), msg.value)))


class Numbers(Producer):
    """Emits 0, 1, 2, ... as asked for, and tells how many it has emitted."""

    def init(self) -> None:
        self.configure()
        self.next = 0

    def handle_demand(self, demand: int) -> range:
        self.next += demand
        return range(self.next - demand, self.next)

    @call
    def emitted(self, message: Do) -> int:
        return self.next


class Reading(Worker):
    """Reads streams in its process."""

    async def do_read(self, producer: Any, count: int) -> list[Any]:
        found: list[Any] = []
        async with stream(producer, self, max_demand=4) as events:
            async for event in events:
                found.append(event)
                if len(found) == count:
                    break
        return found


__all__ = ("Do", "DoAsync", "Hang", "Narrow", "Note", "Numbers", "Plain", "Reading", "Stubborn", "Trapper", "Worker")
