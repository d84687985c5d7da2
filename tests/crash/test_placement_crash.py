"""Child interpreters and real ends: kill -9 on either side, exits, stuck code, restarts, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.errors import ActorDied, CallTimeout, NoProcess
from dspex.runtime.messages import GetStatistics
from dspex.runtime.outcomes import StartFailed
from dspex.runtime.reasons import KILLED, describe
from dspex.supervisors.supervisor import Supervisor
from kit.engine import Lab, in_lab, running_engine
from kit.placed import Do, DoAsync, Hang, Note, Trapper, Worker
from kit.processes import children, exists, open_files, wait_ended, wait_reaped
from kit.promptness import prompt, tried_again

ROOT = Path(__file__).resolve().parents[2]
PROCESS_DIED = "process_died"


def at(test: Callable[[Lab], Awaitable[None]]) -> None:
    """Run a test in real time."""
    in_lab(test, virtual=False)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (Do("die", (signal.SIGKILL,)), (PROCESS_DIED, "SIGKILL")),
        (Do("die", (signal.SIGSEGV,)), (PROCESS_DIED, "SIGSEGV")),
        (Do("quit", (3,)), (PROCESS_DIED, 3)),
    ],
)
def test_the_death_of_the_process_is_an_exit_like_any_other(how: Do, reason: Any) -> None:
    """Callers, watchers and links are told the signal or the exit code; what waited is not lost silently."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process", name="w/there")
        linked = await lab.start(Worker)
        await lab.call(linked, Do("link", (there,)))
        inner = await lab.call(there, DoAsync("spawn"))
        watched = asyncio.ensure_future(lab.down(inner))
        await asyncio.sleep(0)
        pid = await lab.call(there, Do("pid"))
        asked = [asyncio.ensure_future(lab.error(there, what)) for what in (how, Do("me"))]
        await asyncio.sleep(0)
        lab.engine.cast(there, Note(1))
        for error in await asyncio.gather(*asked):
            assert isinstance(error, ActorDied)
            assert error.reason == reason
        assert await lab.down(linked) == reason
        assert await watched == reason
        assert lab.engine.dead_letters.count == 1
        assert isinstance(await lab.error("w/there", Do("me")), NoProcess)
        await wait_reaped(pid)

    at(test)


@pytest.mark.parametrize("how", ["hang", "freeze"])
def test_a_stuck_handler_is_killed(how: str) -> None:
    """A kill is real: a plain handler that never returns ends with its process, stuck in foreign code too."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        pid = await lab.call(there, Do("pid"))
        asked = asyncio.ensure_future(lab.error(there, Do(how)))
        with contextlib.suppress(CallTimeout):  # until it is stuck
            while True:
                await lab.call(there, GetStatistics(), 0.1)
        assert lab.engine.kill(there)
        assert describe((await asked).reason) == KILLED
        await wait_reaped(pid)
        assert lab.engine.counters.abandoned_threads == 0

    at(test)


def test_an_init_that_never_returns_is_killed_at_its_time() -> None:
    """A start time-out is real, and a cancelled start ends the process too."""

    async def test(lab: Lab) -> None:
        before = children()
        began = lab.engine.now()
        outcome = await lab.engine.spawn(Worker, ("block",), placement="process", start_timeout=0.5)
        assert outcome == StartFailed("timeout")
        assert lab.engine.now() - began >= 0.5
        starting = asyncio.ensure_future(lab.engine.spawn(Worker, ("block",), placement="process"))
        await lab.settle()
        starting.cancel()
        await asyncio.wait([starting])
        await wait_reaped(*(children() - before))

    at(test)


def test_a_process_that_dies_while_it_starts() -> None:
    """The start has failed, with the exit code."""

    async def test(lab: Lab) -> None:
        assert await lab.engine.spawn(Worker, ("exit", 4), placement="process") == StartFailed((PROCESS_DIED, 4))

    at(test)


@tried_again
def test_a_stubborn_child_is_killed_after_its_shutdown_time() -> None:
    """A supervisor asks, waits for the spec's seconds, and then kills the process."""

    async def test(lab: Lab) -> None:
        spec = ChildSpec("w", Trapper, name="w/there", placement="process", shutdown=0.3)
        supervisor = await lab.start(Supervisor, [spec])
        pid = await lab.call("w/there", Do("pid"))
        lab.engine.cast("w/there", Note(1))
        asked = asyncio.ensure_future(lab.error("w/there", Do("hang")))
        await asyncio.sleep(0)
        began = lab.engine.now()
        assert await lab.order_down(supervisor) == "shutdown"
        took = lab.engine.now() - began
        assert took >= 0.3
        await asked
        await wait_reaped(pid)
        prompt(took, 1.5)

    at(test)


def test_a_supervisor_restarts_it_until_it_is_too_much() -> None:
    """Callers by name wait for the next incarnation, which knows why; the intensity rule holds."""

    async def test(lab: Lab) -> None:
        spec = ChildSpec("w", Worker, name="w/there", placement="process")
        supervisor = await lab.start(Supervisor, [spec], kwargs={"max_restarts": 1, "max_seconds": 60.0})
        first, address = await lab.call("w/there", Do("pid")), await lab.call("w/there", Do("me"))
        os.kill(first, signal.SIGKILL)
        assert await lab.down(address) == (PROCESS_DIED, "SIGKILL")
        second = await lab.call("w/there", Do("pid"))
        context = await lab.call("w/there", Do("restart_context"))
        assert second != first
        assert context.reason == (PROCESS_DIED, "SIGKILL")
        entry = lab.engine.names.get("w/there")
        assert entry is not None
        assert (entry.incarnation, entry.restarts) == (2, 1)
        assert entry.metadata["pid"] == second
        os.kill(second, signal.SIGKILL)
        assert await lab.down(supervisor) == "shutdown"

    at(test)


@pytest.mark.timeout(60)  # fifty interpreters: some ten seconds of a core
def test_nothing_is_left_behind_after_fifty_ends() -> None:
    """No zombie, no file descriptor, no thread, whichever way they ended."""

    async def test(lab: Lab) -> None:
        await lab.error(await lab.start(Worker, placement="process"), Do("exit", ("warm",)))
        await wait_reaped(*children())
        before, files = children(), open_files()
        pids: list[int] = []
        for number in range(0, 50, 5):
            workers = await asyncio.gather(*(lab.start(Worker, placement="process") for _ in range(5)))
            pids += [await lab.call(each, Do("pid")) for each in workers]
            for place, each in enumerate(workers):
                if place == number // 5 % 5:
                    os.kill(pids[number + place], signal.SIGKILL)
                elif place % 2:
                    lab.engine.kill(each)
                else:
                    await lab.error(each, Do("exit", ("over",)))
                await lab.down(each)
        await wait_reaped(*pids)
        await lab.settle()
        assert children() <= before
        assert open_files() == files

    at(test)


def test_the_engines_stop_ends_every_process() -> None:
    """Also one whose handler is stuck."""
    with running_engine() as engine:
        one = engine.outside.spawn(Worker, placement="process").address
        two = engine.outside.spawn(Worker, placement="process").address
        pids = [engine.call_blocking(each, Do("pid")) for each in (one, two)]
        engine.cast(two, Hang())
        engine.stop(timeout=1.0)
    asyncio.run(wait_reaped(*pids))


PARENT = """
import contextlib, sys
from dspex.runtime.engine import Engine
from dspex.runtime.errors import CallTimeout
from dspex.runtime.messages import GetStatistics
from kit.placed import Do, Hang, Worker
engine = Engine()
for busy in (None, Hang(), Hang(60.0), Hang(freeze=True)):
    there = engine.outside.spawn(Worker, placement="process").address
    print(engine.call_blocking(there, Do("pid")), flush=True)
    if busy is not None:
        engine.cast(there, busy)
        with contextlib.suppress(CallTimeout):  # until it is stuck
            while True:
                engine.call_blocking(there, GetStatistics(), 0.1)
print("ready", flush=True)
sys.stdin.read()
"""


@tried_again
def test_children_die_with_their_parent() -> None:
    """Within two seconds of a kill -9 of the parent: idle, waiting, computing, and stuck in foreign code."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent:
        pids = [int(parent.stdout.readline()) for _ in range(4)]
        assert parent.stdout.readline() == "ready\n"
        assert all(exists(pid) for pid in pids)
        parent.kill()
        killed = time.monotonic()
    try:
        wait_ended(*pids)
        prompt(time.monotonic() - killed, 2.0)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
