"""The engine inside other programs: it leaves nothing behind, and refuses what would hang."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from dspex.runtime.engine import Engine
from dspex.runtime.errors import ActorDied, ApplicationDown, ForkedProcess, UsageError, WrongThread
from dspex.runtime.gen_server import GenServer, NoReply, call, cast
from kit.engine import Probe, running_engine
from kit.promptness import prompt, tried_again

ROOT = Path(__file__).resolve().parents[2]
FDS = Path("/proc/self/fd")


class Echo(GenServer):
    """Answers, later if asked for."""

    trap_exit = True

    def init(self, log: list[Any] | None = None) -> None:
        self.log = [] if log is None else log

    @call
    def echo(self, message: str) -> Any:
        return self.serve(self._later(message)) if message == "later" else message

    async def _later(self, message: str) -> str:
        await asyncio.sleep(0)
        return message

    @call
    def never(self, message: threading.Event) -> NoReply:
        message.set()
        return NoReply()

    def terminate(self, reason: Any) -> None:
        self.log.append(reason)


class Hangs(Echo):
    async def terminate(self, reason: Any) -> None:  # type: ignore[override]
        await asyncio.Event().wait()


def left_behind() -> tuple[int, int]:
    """Threads and open files now."""
    gc.collect()
    return threading.active_count(), len(list(FDS.iterdir())) if FDS.exists() else 0


def test_starting_and_stopping_leaves_nothing() -> None:
    """50 times started, used and stopped in a thread of its own: no thread, no open file is left."""

    def once() -> None:
        with running_engine() as engine:
            echo = engine.outside.spawn(Echo).address
            assert engine.call_blocking(echo, "hi") == "hi"
            assert engine.call_blocking(echo, "later") == "later"
            engine.call_blocking(engine.outside.spawn(BlockingEcho).address, "x")

    once()
    before = left_behind()
    for _ in range(50):
        once()
    deadline = time.monotonic() + 5
    while left_behind()[0] > before[0] and time.monotonic() < deadline:
        threading.Event().wait(0.01)  # an idle daemon thread was told to end, and does so by itself
    assert left_behind() == before


class BlockingEcho(Echo):
    blocking = True


def test_on_the_callers_loop_it_leaves_nothing() -> None:
    """50 times on the running loop: no task, no thread, no open file is left."""

    async def run() -> None:
        for _ in range(50):
            engine = Engine(loop="current")
            outcome: Any = await engine.spawn(Echo)
            assert await engine.call_async(outcome.address, "later") == "later"
            await engine.astop()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    before = left_behind()
    asyncio.run(run())
    assert left_behind() == before


def test_an_engine_nobody_uses_is_collected() -> None:
    """After its stop nothing in the process keeps an engine; on a closed loop not even an unstopped one."""

    def stopped() -> weakref.ref[Engine]:
        with running_engine() as engine:
            engine.outside.spawn(Echo)
        return weakref.ref(engine)

    async def forgotten() -> weakref.ref[Engine]:
        engine = Engine(loop="current")
        await engine.spawn(Echo)
        return weakref.ref(engine)

    references = [stopped(), asyncio.run(forgotten())]
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_engines_side_by_side() -> None:
    """Several engines in one process do not see each other's names; addresses of one are noproc in none."""
    with running_engine() as one, running_engine() as two:
        for tag, engine in (("one", one), ("two", two)):
            seen: list[Any] = []
            engine.outside.spawn(Probe, (seen,), name="a/b")
            engine.post(engine.send, engine.names.get("a/b").address, tag, None)  # type: ignore[union-attr]
            engine.on_engine(lambda: None)
            engine.on_engine(lambda: None)
            assert seen == [tag]
        assert one.id != two.id


def test_two_engines_on_one_loop() -> None:
    """Two engines on the caller's loop serve both; the trace of the running actor is the right one's."""

    async def run() -> None:
        engines = [Engine(loop="current") for _ in range(2)]
        for engine in engines:
            outcome: Any = await engine.spawn(Echo)
            assert await engine.call_async(outcome.address, "later") == "later"
        for engine in engines:
            await engine.astop()

    asyncio.run(run())


def test_as_in_a_notebook() -> None:
    """On a loop that runs all the time, cell after cell: start, use, block from a thread, stop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def cell(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(5)

    async def start() -> Engine:
        return Engine(loop="current")

    try:
        engine = cell(start())
        echo = cell(engine.spawn(Echo)).address
        assert cell(engine.call_async(echo, "one")) == "one"
        assert engine.call_blocking(echo, "two") == "two"

        async def blocking_cell() -> None:
            engine.call_blocking(echo, "three")

        with pytest.raises(WrongThread, match="await the same call"):
            cell(blocking_cell())
        cell(engine.astop())
        with pytest.raises(ApplicationDown):
            engine.call_blocking(echo, "four")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


def test_the_current_loop_must_run() -> None:
    """loop='current' without a running loop, and any other choice, are refused at once."""
    with pytest.raises(UsageError, match="needs a running event loop"):
        Engine(loop="current")
    with pytest.raises(UsageError, match="'any'"):
        Engine(loop="any")  # type: ignore[arg-type]


def test_a_loop_that_ends_under_the_engine() -> None:
    """asyncio.run ends without a stop: whoever waits in another thread is told, and so is who comes later."""
    failures: list[Any] = []
    engines: list[Engine] = []
    waiting = threading.Event()

    def ask(engine: Engine, address: Any) -> None:
        try:
            engine.call_blocking(address, waiting, None)
        except (ActorDied, ApplicationDown) as error:
            failures.append(error)

    async def run() -> threading.Thread:
        engine = Engine(loop="current")
        engines.append(engine)
        outcome: Any = await engine.spawn(Echo)
        thread = threading.Thread(target=ask, args=(engine, outcome.address))
        thread.start()
        await asyncio.to_thread(waiting.wait, 5)
        return thread

    thread = asyncio.run(run())
    thread.join(5)
    assert not thread.is_alive()
    assert len(failures) == 1
    with pytest.raises(ApplicationDown, match="event loop"):
        engines[0].call_blocking("a/b", 1)
    engines[0].stop()


def test_blocking_on_the_engines_thread_is_refused() -> None:
    """Blocking calls and stop from the engine's own thread: WrongThread at once, with what to do instead."""
    with running_engine() as engine:
        for blocking in (lambda: engine.call_blocking("a/b", 1), engine.stop):
            with pytest.raises(WrongThread, match="own thread"):
                engine.on_engine(blocking)


def test_stopping_twice_and_from_two_threads() -> None:
    """Twice is once, also at the same time; afterwards every use is ApplicationDown with the reason."""
    engine = Engine()
    engine.outside.spawn(Echo)
    threads = [threading.Thread(target=engine.stop, args=("enough",)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    engine.stop()
    asyncio.run(engine.astop())
    assert engine.ended.result(0) == "enough"
    with pytest.raises(ApplicationDown) as caught:
        engine.cast("a/b", 1)
    assert caught.value.reason == "enough"


@tried_again
def test_stopping_runs_terminate_and_kills_who_hangs() -> None:
    """Stop asks the youngest first, waits so long in all, and kills what does not end."""
    log: list[Any] = []
    engine = Engine()
    hanging = engine.outside.spawn(Hangs).address
    engine.outside.spawn(Echo, (log,))
    began = time.monotonic()
    engine.stop("enough", timeout=0.1)
    prompt(time.monotonic() - began, 1.0)
    assert hanging.cell is not None
    assert hanging.cell.reason == "killed"
    assert log == ["enough"]
    assert engine.cells == {}


def test_a_handler_that_never_returns() -> None:
    """A plain handler that holds the engine's thread: stop gives up in time and says who; nobody else hangs."""
    script = """
        import logging, threading, time
        from dspex.runtime.engine import Engine
        from dspex.runtime.errors import ApplicationDown, CallTimeout
        from dspex.runtime import host
        from dspex.runtime.gen_server import GenServer, cast, call
        host.LAST_WORDS = 0.05
        logging.basicConfig()
        class Stuck(GenServer):
            @cast
            def hold(self, message: int) -> None:
                entered.set()
                threading.Event().wait()
        entered = threading.Event()
        engine = Engine()
        address = engine.outside.spawn(Stuck, name="a/stuck").address
        engine.cast(address, 1)
        entered.wait()
        try:
            engine.call_blocking(address, 1, 0.1)
        except CallTimeout as error:
            print("timeout:", error)
        engine.stop(timeout=0.05)
        try:
            engine.cast(address, 1)
        except ApplicationDown:
            print("down")
    """
    output = run_script(script)
    assert "the engine is busy" in output
    assert "running=a/stuck" in output
    assert "down" in output


def run_script(text: str, *, code: int = 0, limit: float = 50.0) -> str:
    """Run a program in a process of its own; its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def test_leaving_without_a_stop_is_clean_and_quick() -> None:
    """A program that ends without stopping its engine: terminate runs, no traceback, soon, exit code 0."""
    output = run_script("""
        import threading
        from dspex.runtime.engine import Engine
        from dspex.runtime.gen_server import GenServer, call, cast
        class Echo(GenServer):
            trap_exit = True
            @call
            def echo(self, message: str) -> str:
                return message
            def terminate(self, reason):
                print("terminated", reason, flush=True)
        class Stuck(GenServer):
            blocking = True
            def init(self):
                self.never = threading.Event()
            @cast
            def hold(self, message: int) -> None:
                entered.set()
                self.never.wait()
        entered = threading.Event()
        engine = Engine()
        print(engine.call_blocking(engine.outside.spawn(Echo).address, "hello"))
        engine.cast(engine.outside.spawn(Stuck).address, 1)
        entered.wait()
    """)
    assert output.splitlines() == ["hello", "terminated shutdown"]


def test_actor_classes_of_the_main_program() -> None:
    """Actor and message classes of __main__ work, annotations as text included."""
    output = run_script("""
        from __future__ import annotations
        from dataclasses import dataclass
        from dspex.runtime.engine import Engine
        from dspex.runtime.gen_server import GenServer, call
        @dataclass
        class Ask:
            n: int
        class Main(GenServer):
            @call
            def ask(self, message: Ask) -> int:
                return message.n + 1
        if __name__ == "__main__":
            engine = Engine()
            print(engine.call_blocking(engine.outside.spawn(Main).address, Ask(1)))
            engine.stop()
    """)
    assert output.splitlines() == ["2"]


def test_ctrl_c_while_waiting() -> None:
    """KeyboardInterrupt ends the wait of the main thread at once; the call is given up, the engine goes on."""
    output = run_script("""
        import asyncio, os, signal, threading
        from dspex.runtime.engine import Engine
        from dspex.runtime.gen_server import GenServer, call
        class Slow(GenServer):
            @call
            def ask(self, message: int) -> object:
                return self.serve(self.work())
            async def work(self):
                os.kill(os.getpid(), signal.SIGINT)
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    given_up.set()
                    raise
            @call
            def echo(self, message: str) -> str:
                return message
        given_up = threading.Event()
        engine = Engine()
        slow = engine.outside.spawn(Slow).address
        try:
            engine.call_blocking(slow, 1, None)
        except KeyboardInterrupt:
            print("interrupted", given_up.wait(5), engine.call_blocking(slow, "alive"))
        engine.stop()
    """)
    assert output.splitlines() == ["interrupted True alive"]


def test_ctrl_c_on_the_callers_loop() -> None:
    """On the caller's own loop KeyboardInterrupt goes to the host program, whatever runs."""
    output = run_script("""
        import asyncio, signal
        from dspex.runtime.engine import Engine
        from dspex.runtime.gen_server import GenServer, cast
        class Presses(GenServer):
            @cast
            def press(self, message: int) -> None:
                raise KeyboardInterrupt
        async def main():
            engine = Engine(loop="current")
            outcome = await engine.spawn(Presses)
            engine.cast(outcome.address, 1)
            await asyncio.sleep(100)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert output.splitlines()[-1] == "interrupted"


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "SystemExit"])
def test_neither_ends_an_engine_in_a_thread(name: str) -> None:
    """KeyboardInterrupt and SystemExit raised by a handler on the engine's own thread end that actor only."""

    class Raises(GenServer):
        @cast
        def do(self, message: type) -> None:
            raise message()

    with running_engine() as engine:
        raises, echo = engine.outside.spawn(Raises).address, engine.outside.spawn(Echo).address
        engine.cast(raises, {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}[name])
        assert engine.outside.run_coroutine(engine.wait_down(raises, 5.0))[0]
        assert engine.call_blocking(echo, "alive") == "alive"


def child_of_a_fork(engine: Engine, address: Any, results: Any) -> None:
    """In a forked child: everything is refused."""
    errors = []
    for use in (
        lambda: engine.call_blocking(address, "x"),
        lambda: engine.cast(address, "x"),
        lambda: engine.on_engine(print),
        lambda: engine.post(print),
        lambda: engine.stop(),
        lambda: asyncio.run(engine.call_async(address, "x")),
    ):
        try:
            use()
        except ForkedProcess as error:
            errors.append(error.owner)
    results.put(errors)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_refused() -> None:
    """Any use of the parent's engine in a forked child is refused at once, and says whose it is."""
    context = multiprocessing.get_context("fork")
    with running_engine() as engine:
        echo = engine.outside.spawn(Echo).address
        results: Any = context.SimpleQueue()
        child = context.Process(target=child_of_a_fork, args=(engine, echo, results))
        child.start()
        child.join(10)
        assert child.exitcode == 0
        assert results.get() == [os.getpid()] * 6
        assert engine.call_blocking(echo, "parent") == "parent"


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="POSIX signals")
def test_calls_survive_other_signals() -> None:
    """A signal that a handler of the program takes does not disturb a waiting call."""
    caught: list[int] = []
    old = signal.signal(signal.SIGALRM, lambda number, frame: caught.append(number))
    try:
        with running_engine() as engine:
            echo = engine.outside.spawn(Echo).address
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for number in range(300):
                assert engine.call_blocking(echo, str(number)) == str(number)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert caught


def test_calls_from_another_loop() -> None:
    """Coroutines of any other loop call, give up and stop an engine that runs in a thread of its own."""

    async def run(engine: Engine) -> None:
        outcome = await asyncio.to_thread(engine.outside.spawn, Echo)
        answers = await asyncio.gather(*(engine.call_async(outcome.address, str(n)) for n in range(100)))
        assert answers == [str(n) for n in range(100)]
        arrived = threading.Event()
        waiting = asyncio.ensure_future(engine.call_async(outcome.address, arrived, None))
        await asyncio.to_thread(arrived.wait, 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        engine.on_engine(lambda: None)
        assert not engine.outside._calls
        assert await engine.call_async(outcome.address, "still") == "still"
        await engine.astop()

    asyncio.run(run(Engine()))


def test_waiting_until_nobody_calls() -> None:
    """wait_idle: True when the last call from outside has ended, False when the time is up first."""

    async def run() -> None:
        engine = Engine(loop="current")
        outcome: Any = await engine.spawn(Echo)
        assert await engine.outside.wait_idle(5)
        waiting = asyncio.ensure_future(engine.call_async(outcome.address, threading.Event(), None))
        await asyncio.sleep(0)
        assert not await engine.outside.wait_idle(0.01)
        idle = asyncio.ensure_future(engine.outside.wait_idle(5))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await idle
        await engine.astop()

    asyncio.run(run())


def test_a_hundred_thousand_actors() -> None:
    """100,000 idle actors take at most 3 KB each, and an engine with them stops within seconds."""
    with running_engine() as engine:

        async def start() -> None:
            for _ in range(100_000):
                await engine.spawn(Echo)

        before = resident()
        engine.outside.run_coroutine(start())
        assert len(engine.cells) == 100_000
        assert (resident() - before) / 100_000 < 3000
        began = time.process_time()
        engine.stop()
        assert time.process_time() - began < 6  # measured: below 1 s


def resident() -> int:
    """Bytes of memory this process uses."""
    if not FDS.exists():
        pytest.skip("needs /proc")
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
