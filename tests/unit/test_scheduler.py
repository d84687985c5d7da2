"""The run queue: fair to every actor, to the event loop, and to threads that wait."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer, call, cast
from kit.engine import Lab, Probe, in_lab, running_engine


@dataclass(frozen=True)
class Ball:
    pass


@dataclass(frozen=True)
class Start:
    other: Any


class Player(GenServer):
    """Plays a ball with another one for ever."""

    mailbox_limit = None

    def init(self) -> None:
        self.count = 0
        self.other: Any = None

    @call
    def start(self, message: Start) -> None:
        self.other = message.other
        for _ in range(100):
            self.cast(self.other, Ball())

    @cast
    def play(self, message: Ball) -> None:
        self.count += 1
        self.cast(self.other, message)


class Echo(GenServer):
    @call
    def echo(self, message: str) -> str:
        return message


async def play(lab: Lab) -> tuple[Any, Any]:
    """Two players that never stop."""
    one, two = await lab.start(Player), await lab.start(Player)
    await lab.call(two, Start(one))
    await lab.call(one, Start(two))
    return one, two


def test_a_flooding_pair_starves_no_actor() -> None:
    """While two actors never stop talking, a third one answers, and the two share alike."""

    async def test(lab: Lab) -> None:
        one, two = await play(lab)
        echo = await lab.start(Echo)
        for number in range(20):
            assert await lab.call(echo, str(number)) == str(number)
        counts = [each.cell.instance.count for each in (one, two)]
        assert min(counts) > 100
        assert max(counts) < 2 * min(counts)

    in_lab(test, virtual=False)


def test_a_flooding_pair_starves_no_socket() -> None:
    """While two actors never stop talking, the loop's own sockets and timers have their turn."""

    async def test(lab: Lab) -> None:
        await play(lab)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await asyncio.wait_for(reader.readline(), 10) == b"hello\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.001)

    in_lab(test, virtual=False)


class Work:
    """What handlers have computed so far: the clock by which the engine finds out who holds it.

    Attributes:
        done: seconds.
    """

    def __init__(self) -> None:
        self.done = 0.0

    def perf_counter(self) -> float:
        """The seconds done, and none that a busy machine adds."""
        return self.done


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """The engine's clock for who holds it shows nothing but this."""
    made = Work()
    monkeypatch.setattr(time, "perf_counter", made.perf_counter)
    return made


def test_many_slow_messages_do_not_hold_the_loop(work: Work) -> None:
    """Messages that take some milliseconds each are interrupted by the loop after some milliseconds."""

    class Slowish(GenServer):
        @cast
        def work(self, message: Ball) -> None:
            work.done += 0.003

    async def test(lab: Lab) -> None:
        slowish = await lab.start(Slowish)
        for _ in range(32):
            lab.engine.cast(slowish, Ball())
        await asyncio.sleep(0)  # the first batch: from now on the engine knows it
        gaps = []
        for _ in range(64):
            lab.engine.cast(slowish, Ball())
        while slowish.cell.mailbox:  # type: ignore[union-attr]
            before = work.done
            await asyncio.sleep(0)
            gaps.append(work.done - before)
        assert len(gaps) > 10
        assert max(gaps) < 0.05

    in_lab(test)


def test_a_thread_gets_its_answer_from_a_busy_engine() -> None:
    """A caller in another thread is answered while the engine has always more to do."""
    with running_engine() as engine:
        one, two = (engine.outside.spawn(Player).address for _ in range(2))
        engine.call_blocking(two, Start(one))
        engine.call_blocking(one, Start(two))
        echo = engine.outside.spawn(Echo).address
        for number in range(50):
            assert engine.call_blocking(echo, str(number), 10.0) == str(number)


def reports_of(engine: Engine) -> list[Any]:
    """The list into which the engine's reports of slow handlers go."""
    reports: list[Any] = []
    engine.telemetry.attach(
        "t",
        ("dspex", "engine", "slow_handler"),
        lambda event, numbers, metadata, config: reports.append((numbers, metadata)),
    )
    return reports


class Spins(GenServer):
    """Holds the loop in a plain handler, a coroutine after its first wait, or a task."""

    def init(self, work: Work) -> None:
        self.work = work

    @cast
    def plain(self, message: float) -> None:
        self.work.done += message

    @call
    async def waiting(self, message: float) -> None:
        await asyncio.sleep(0)
        self.work.done += message

    @call
    def served(self, message: str) -> Any:
        return self.serve(self._work(float(message)))

    async def _work(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.work.done += seconds


def test_who_holds_the_loop_is_reported_by_name(work: Work) -> None:
    """A plain handler, a coroutine and a task that hold the loop too long are each reported, with actor and seconds."""

    async def test(lab: Lab) -> None:
        reports = reports_of(lab.engine)
        await lab.start(Spins, work, name="a/b")
        lab.engine.cast("a/b", 0.02)
        await lab.settle()
        await lab.call("a/b", 0.02)
        await lab.call("a/b", "0.02")
        assert [metadata["actor"] for _, metadata in reports] == ["a/b"] * 3
        assert [numbers["seconds"] for numbers, _ in reports] == pytest.approx([0.02] * 3)
        assert lab.engine.counters.slow_handlers == 3
        await lab.call("a/b", 0.0)
        assert len(reports) == 3

    in_lab(test, slow_handler=0.01)


def test_a_collection_of_garbage_is_blamed_on_nobody(work: Work) -> None:
    """A handler during which Python's collector took its time is reported only for what it took itself."""

    async def test(lab: Lab) -> None:
        reports = reports_of(lab.engine)
        pause = lab.engine.log.garbage.collects

        class Slow(GenServer):
            @cast
            def collected(self, message: float) -> None:
                pause("start", {"generation": 2})
                work.done += 0.03
                pause("stop", {"generation": 2})
                work.done += message

        await lab.start(Slow, name="a/slow")
        lab.engine.cast("a/slow", 0.0)
        await lab.settle()
        assert reports == []
        lab.engine.cast("a/slow", 0.02)
        await lab.settle()
        ((numbers, metadata),) = reports
        assert metadata["actor"] == "a/slow"
        assert numbers["seconds"] == pytest.approx(0.02)

    in_lab(test, slow_handler=0.01)


def test_waiting_is_not_holding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coroutine that waits long holds nothing, and is not reported."""

    class Waits(GenServer):
        @call
        async def wait(self, message: float) -> None:
            await asyncio.sleep(message)

    async def test(lab: Lab) -> None:
        monkeypatch.setattr(time, "perf_counter", lab.engine.loop.time)
        reports = reports_of(lab.engine)
        await lab.call(await lab.start(Waits), 0.05)
        assert reports == []
        assert lab.engine.loop.time() >= 0.05

    in_lab(test, slow_handler=0.03)


def test_posts_of_many_threads_keep_each_threads_order() -> None:
    """What one thread posts arrives in its order, whatever the others do."""
    seen: list[Any] = []
    with running_engine() as engine:
        probe = engine.outside.spawn(Probe, (seen,)).address

        def post(tag: int) -> None:
            for number in range(500):
                engine.post(engine.send, probe, (tag, number), None)

        threads = [threading.Thread(target=post, args=(tag,)) for tag in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.on_engine(lambda: None)
        engine.on_engine(lambda: None)
    assert len(seen) == 2000
    for tag in range(4):
        assert [number for each, number in seen if each == tag] == list(range(500))


def test_a_posted_function_that_fails_costs_no_other() -> None:
    """A function posted by one thread that raises does not lose what others posted."""
    done = threading.Event()

    def fail() -> None:
        raise ValueError("a bug of the poster's")

    with running_engine() as engine:
        engine.on_engine(engine.post, fail)
        engine.post(done.set)
        assert done.wait(5)


def test_a_callers_scope_is_not_a_handlers() -> None:
    """Plain handlers run in nobody's context: not in that of the coroutine, nor of the thread, that woke them."""
    scopes: list[Any] = []

    class Looks(GenServer):
        @call
        def look(self, message: str) -> Any:
            from dspex.runtime.scope import SCOPE

            scope = SCOPE.get()
            scopes.append(scope is None or scope.cell is not self._myRef)
            return self.serve(self._work(message)) if message else self.name

        async def _work(self, message: str) -> Any:
            self.cast(self.myAddress, Ball())
            await self.run_blocking(self.cast, self.myAddress, Ball())
            return await self.call(self.myAddress, "", timeout=5)

        @cast
        def also(self, message: Ball) -> None:
            self.look("")

    async def test(lab: Lab) -> None:
        looks = await lab.start(Looks, name="a/b")
        assert await lab.call(looks, "go") == "a/b"
        await lab.settle()

    in_lab(test, virtual=False)
    assert scopes == [True] * 4


def test_context_variables_stay_with_their_code() -> None:
    """A plain handler that answers a coroutine on the spot sees none of that one's, nor changes any."""
    owner: ContextVar[str] = ContextVar("owner", default="nobody")
    seen: list[str] = []

    class Answers(GenServer):
        @call
        def answer(self, message: str) -> None:
            seen.append(owner.get())
            token = owner.set("the handler")
            if message == "keep":
                return
            owner.reset(token)

    class Asks(GenServer):
        @call
        async def ask(self, message: str) -> str:
            owner.set("the asker")
            entry = self.system.names.get(message)
            assert entry is not None
            assert entry.address is not None
            await self.call(message, "leave")
            await self.call(entry.address, "leave")
            await self.call(message, "keep")
            return owner.get()

    async def test(lab: Lab) -> None:
        await lab.start(Answers, name="a/answers")
        assert await lab.call(await lab.start(Asks), "a/answers") == "the asker"

    in_lab(test)
    assert seen == ["nobody"] * 3
