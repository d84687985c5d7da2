"""Plain Thespian actors on our engine, through Thespian's own front door; beside Thespian's shipped suite."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from thespian.actors import (
    Actor,
    ActorExitRequest,
    ActorSystem,
    ActorTypeDispatcher,
    ChildActorExited,
    DeadEnvelope,
    PoisonMessage,
    ThespianWatch,
    WakeupMessage,
    WatchMessage,
)
from thespian.system.messages.status import Thespian_StatusReq

from dspex.runtime.errors import ApplicationDown, StartError, UnknownMessage, UsageError, WrongThread
from dspex.runtime.gen_server import GenServer, Stop, info
from dspex.runtime.system_base import LocalSystemBase
from kit.engine import Probe

ASK = timedelta(seconds=5)


@contextlib.contextmanager
def system(**options: Any) -> Iterator[Any]:
    """A Thespian actor system on our base."""
    base = LocalSystemBase(**options)
    asys = ActorSystem(systemBase=base, capabilities=base.capabilities, transientUnique=True)
    try:
        yield asys
    finally:
        asys.shutdown()


def engine_of(asys: Any) -> Any:
    """Its engine."""
    return asys._systemBase.engine


class Told(Actor):
    """Answers what it was told so far, on request; creates children; ends as told."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def receiveMessage(self, msg: Any, sender: Any) -> Any:
        if msg == "got":
            self.send(sender, list(self.got))
        elif isinstance(msg, tuple) and msg[0] == "create":
            self.send(sender, self.createActor(msg[1]))
        elif isinstance(msg, tuple) and msg[0] == "wake":
            self.wakeupAfter(timedelta(seconds=msg[1]), payload=msg[2])
        elif isinstance(msg, tuple) and msg[0] == "tell":
            self.send(msg[1], msg[2])
        elif msg == "dead letters":
            self.handleDeadLetters()
            self.send(sender, "ok")
        else:
            self.got.append(msg)


class Poisoned(Actor):
    """Fails on ``"poison"``, keeps count."""

    tries = 0

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if msg == "poison":
            self.tries += 1
            raise ValueError("poisoned")
        if msg == "tries":
            self.send(sender, self.tries)


def test_a_poison_message() -> None:
    """A message that fails twice comes back as PoisonMessage with the details; the actor lives on as it is."""
    with system() as asys:
        actor = asys.createActor(Poisoned)
        answer = asys.ask(actor, "poison", ASK)
        assert isinstance(answer, PoisonMessage)
        assert answer.poisonMessage == "poison"
        assert "ValueError: poisoned" in str(answer.details)
        assert asys.ask(actor, "tries", ASK) == 2
        assert engine_of(asys).counters.poisoned == 1


@pytest.mark.parametrize("recursive", [True, False])
def test_an_exit_request(recursive: bool) -> None:
    """An exit request ends an actor and, if it is recursive, its children first; else they live on."""
    with system() as asys:
        parent = asys.createActor(Told)
        child = asys.ask(parent, ("create", Told), ASK)
        grandchild = asys.ask(child, ("create", Told), ASK)
        request = ActorExitRequest(recursive=recursive)
        order: list[Any] = []
        engine = engine_of(asys)
        for each in (parent, child, grandchild):
            engine.on_engine(each.cell.watch, engine.next_number(), lambda address, reason: order.append(address))
        watcher = watch_end(asys, parent)
        asys.tell(parent, request)
        assert watcher.wait(5)
        assert order == ([grandchild, child, parent] if recursive else [parent])
        alive = [engine_of(asys).alive(each) for each in (parent, child, grandchild)]
        assert alive == [False, not recursive, not recursive]
        if not recursive:
            assert asys.ask(grandchild, "got", ASK) == []


def watch_end(asys: Any, address: Any) -> threading.Event:
    """Set when the actor has ended."""
    ended = threading.Event()
    engine = engine_of(asys)
    engine.on_engine(address.cell.watch, engine.next_number(), lambda address, reason: ended.set())
    return ended


def test_a_parent_hears_of_its_childs_end() -> None:
    """ChildActorExited, with the child's address, once."""
    with system() as asys:
        parent = asys.createActor(Told)
        child = asys.ask(parent, ("create", Told), ASK)
        ended = watch_end(asys, child)
        asys.tell(child, ActorExitRequest())
        assert ended.wait(5)
        got = asys.ask(parent, "got", ASK)
        assert [type(message) for message in got] == [ChildActorExited]
        assert got[0].childAddress == child


class Unborn(Actor):
    def __init__(self) -> None:
        raise ValueError("cannot be")


class Refuses(GenServer):
    async def init(self) -> Stop:
        return Stop("not today")


def test_a_child_that_cannot_be_created() -> None:
    """A constructor that fails is a ChildActorExited for a parent, and an exception outside."""
    with system() as asys:
        parent = asys.createActor(Told)
        address = asys.ask(parent, ("create", Unborn), ASK)
        assert [message.childAddress for message in asys.ask(parent, "got", ASK)] == [address]
        with pytest.raises(ValueError, match="cannot be"):
            asys.createActor(Unborn)


def test_a_gen_server_that_does_not_start() -> None:
    """Created from outside, an init that refuses is raised as StartError, an async one too."""
    with system() as asys:
        with pytest.raises(StartError, match="Refuses did not start: not today") as caught:
            asys.createActor(Refuses)
        assert caught.value.reason == "not today"
        parent = asys.createActor(Told)
        asys.ask(parent, ("create", Refuses), ASK)
        engine_of(asys).on_engine(lambda: None)
        assert [type(message) for message in asys.ask(parent, "got", ASK)] == [ChildActorExited]


def test_a_global_name() -> None:
    """One actor for a global name while it lives; a new one afterwards."""
    with system() as asys:
        one = asys.createActor(Told, globalName="only")
        assert asys.createActor(Told, globalName="only") is one
        ended = watch_end(asys, one)
        asys.tell(one, ActorExitRequest())
        assert ended.wait(5)
        assert asys.createActor(Told, globalName="only") != one


def test_wakeups() -> None:
    """A wake-up arrives with its period and payload, in the order of time."""
    with system() as asys:
        actor = asys.createActor(Told)
        asys.tell(actor, ("wake", 0.05, "late"))
        asys.tell(actor, ("wake", 0.01, "soon"))
        status = asys.ask(actor, Thespian_StatusReq(), ASK)
        assert len(status.pendingWakeups) == 2
        deadline = time.monotonic() + 5
        while len(asys.ask(actor, "got", ASK)) < 2:
            assert time.monotonic() < deadline
        got = asys.ask(actor, "got", ASK)
        assert [message.payload for message in got] == ["soon", "late"]
        assert all(isinstance(message, WakeupMessage) for message in got)
        assert got[0].delayPeriod == timedelta(seconds=0.01)


def test_dead_letters_go_to_the_last_who_asked() -> None:
    """The last registered handler gets dead letters with their address, and nobody after it ends."""
    with system() as asys:
        first, second, gone = (asys.createActor(Told) for _ in range(3))
        assert asys.ask(first, "dead letters", ASK) == "ok"
        assert asys.ask(second, "dead letters", ASK) == "ok"
        ended = watch_end(asys, gone)
        asys.tell(gone, ActorExitRequest())
        assert ended.wait(5)
        asys.tell(gone, "lost")
        (letter,) = asys.ask(second, "got", ASK)
        assert isinstance(letter, DeadEnvelope)
        assert (letter.deadMessage, letter.deadAddress) == ("lost", gone)
        assert asys.ask(first, "got", ASK) == []
        ended = watch_end(asys, second)
        asys.tell(second, ActorExitRequest())
        assert ended.wait(5)
        asys.tell(gone, "lost again")
        assert asys.ask(first, "got", ASK) == []


class Doubles(ActorTypeDispatcher):
    def receiveMsg_int(self, number: int, sender: Any) -> None:
        self.send(sender, number * 2)


def test_private_contexts_of_many_threads() -> None:
    """Each thread's context hears its own answers, and no other's."""
    answers: dict[int, list[Any]] = {}

    def ask(asys: Any, actor: Any, number: int) -> None:
        with asys.private() as mine:
            answers[number] = [mine.ask(actor, number * 1000 + each, ASK) for each in range(50)]

    with system() as asys:
        actor = asys.createActor(Doubles)
        threads = [threading.Thread(target=ask, args=(asys, actor, number)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: [2 * (number * 1000 + each) for each in range(50)] for number in range(20)}


def test_listening_ends_with_the_engine() -> None:
    """Who listens without a limit when the engine stops is told, and so is who asks afterwards."""
    failures: list[Any] = []
    with system() as asys:
        listening = threading.Event()

        def listen() -> None:
            with asys.private() as mine:
                listening.set()
                try:
                    mine.listen(None)
                except ApplicationDown as error:
                    failures.append(error)

        thread = threading.Thread(target=listen)
        thread.start()
        assert listening.wait(5)
        base = asys._systemBase
        base.shutdown()
        thread.join(5)
        assert not thread.is_alive()
        with pytest.raises(ApplicationDown):
            base.ask(asys.systemAddress, "anybody?", ASK)
    assert len(failures) == 1


def test_asking_from_an_actor_is_refused() -> None:
    """A blocking ask on the engine's own thread is refused at once."""

    class Asks(Actor):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            if isinstance(msg, ActorExitRequest):
                return
            try:
                msg.ask(self.myAddress, "me", ASK)
            except WrongThread as error:
                self.send(sender, error)

    with system() as asys:
        assert isinstance(asys.ask(asys.createActor(Asks), asys, ASK), WrongThread)


class Crashes(Actor):
    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if msg == "exit the process":
            raise SystemExit(3)


def test_a_system_exit_ends_its_actor_only() -> None:
    """SystemExit in a plain actor's handler ends that actor; the others and the engine live."""
    with system() as asys:
        crashes, other = asys.createActor(Crashes), asys.createActor(Told)
        ended = watch_end(asys, crashes)
        asys.tell(crashes, "exit the process")
        assert ended.wait(5)
        assert asys.ask(other, "got", ASK) == []


class Blocking(Actor):
    """Blocks in its handler, and says so."""

    blocking = True

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if isinstance(msg, ActorExitRequest):
            return
        if msg == "poison":
            raise ValueError("poisoned")
        barrier: threading.Barrier = msg
        barrier.wait(5)
        self.send(sender, "through")


def test_blocking_plain_actors_run_at_once() -> None:
    """Plain actors that say they block run on threads of their own, many at once, their semantics the same."""
    with system() as asys:
        actors = [asys.createActor(Blocking) for _ in range(5)]
        barrier = threading.Barrier(5)
        for actor in actors:
            asys.tell(actor, barrier)
        assert [asys.listen(ASK) for _ in actors] == ["through"] * 5
        assert isinstance(asys.ask(actors[0], "poison", ASK), PoisonMessage)
        ended = watch_end(asys, actors[0])
        asys.tell(actors[0], ActorExitRequest())
        assert ended.wait(5)


class Watches(Actor):
    """Watches a file number, and tells what it read."""

    def receiveMessage(self, msg: Any, sender: Any) -> Any:
        if isinstance(msg, int):
            self.asker = sender
            return ThespianWatch([msg])
        if isinstance(msg, WatchMessage):
            text = os.read(msg.ready[0], 100)
            self.send(self.asker, text)
            return ThespianWatch(msg.ready)
        return None


def test_watching_a_file_number() -> None:
    """Thespian's watch: a file number that can be read is a WatchMessage, as long as the handler asks for it."""
    reading, writing = os.pipe()
    try:
        with system() as asys:
            actor = asys.createActor(Watches)
            asys.tell(actor, reading)
            for text in (b"one", b"two"):
                os.write(writing, text)
                assert asys.listen(ASK) == text
            assert asys.capabilities["Thespian Watch Supported"]
    finally:
        os.close(reading)
        os.close(writing)


def test_calls_to_a_plain_actor() -> None:
    """A plain actor answers no calls: the caller is told to ask."""
    with system() as asys:
        actor = asys.createActor(Told)
        with pytest.raises(UnknownMessage, match="use ask"):
            engine_of(asys).call_blocking(actor, "x")


def test_casts_to_a_plain_actor() -> None:
    """A cast reaches a plain actor as a message from the system."""
    with system() as asys:
        actor = asys.createActor(Told)
        engine_of(asys).cast(actor, "cast")
        assert asys.ask(actor, "got", ASK) == ["cast"]


class Leaves(GenServer):
    """A GenServer that is told to go."""

    def init(self) -> None:
        self.child = self.createActor(Told)

    @info
    def address(self, message: str) -> None:
        assert self.sender is not None
        self.send(self.sender, self.child)

    def terminate(self, reason: Any) -> None:
        TERMINATED.append(reason)


TERMINATED: list[Any] = []


def test_an_exit_request_to_a_gen_server() -> None:
    """Thespian's exit request has a GenServer run terminate and end normally, its Thespian children with it."""
    TERMINATED.clear()
    with system() as asys:
        server = asys.createActor(Leaves)
        child = asys.ask(server, "child?", ASK)
        ended = watch_end(asys, child)
        asys.tell(server, ActorExitRequest())
        assert ended.wait(5)
        assert TERMINATED == ["normal"]
        assert asys.ask(asys.createActor(Leaves), Thespian_StatusReq(), ASK).actorClass == "Leaves"


def test_addresses_are_values() -> None:
    """Addresses hash, compare, copy and pickle; unpickled here they are the same object."""
    with system() as asys:
        one, two = asys.createActor(Probe), asys.createActor(Probe)
        assert len({one, two, one}) == 2
        assert one != two
        assert one != "text"
        assert copy.deepcopy([one])[0] is one
        assert pickle.loads(pickle.dumps(one)) is one
        ended = watch_end(asys, one)
        asys.tell(one, ActorExitRequest())
        assert ended.wait(5)
        again = pickle.loads(pickle.dumps(one))
        assert again == one
        assert hash(again) == hash(one)


def test_an_address_of_another_process() -> None:
    """An address from another process is equal to none of ours, whatever its number; nothing reaches it."""
    with system() as asys:
        mine = asys.createActor(Told)
        _, (engine_id, process, number) = mine.__reduce__()
        rebuild = mine.__reduce__()[0]
        foreign = rebuild(engine_id, process + "x", number)
        assert foreign != mine
        assert pickle.loads(pickle.dumps(foreign)) == foreign
        asys.tell(foreign, "hello")
        assert asys.ask(mine, "got", ASK) == []
        assert engine_of(asys).dead_letters.count == 1


def test_what_is_not_offered() -> None:
    """Source loading and conventions are refused with a word on what to do instead."""
    with system() as asys:
        with pytest.raises(UsageError, match="install the package"):
            asys.loadActorSource("x.zip")
        with pytest.raises(UsageError):
            asys.unloadActorSource("hash")
