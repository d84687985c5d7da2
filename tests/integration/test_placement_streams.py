"""Streams, supervisors and scripts with actors in child interpreters."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.dispatcher import InlineDispatcher
from dspex.runtime.errors import ActorDied, SpecError
from dspex.runtime.outcomes import StartFailed
from dspex.runtime.secret import Secret
from dspex.runtime.stages import FromEnumerable, Stream, stream
from dspex.supervisors.messages import WhichChildren
from dspex.supervisors.supervisor import Supervisor
from kit.engine import Lab, in_lab
from kit.placed import Do, DoAsync, Numbers, Reading, Worker
from kit.processes import wait_ended

ROOT = Path(__file__).resolve().parents[2]


def at(test: Callable[[Lab], Awaitable[None]]) -> None:
    """Run a test in real time."""
    in_lab(test, virtual=False)


def test_a_stream_out_of_a_child_keeps_to_the_demand() -> None:
    """Events come in order, and no more are made than the reader asked for."""

    async def test(lab: Lab) -> None:
        await lab.start(Numbers, placement="process", name="n/there")
        found: list[int] = []
        async with stream("n/there", lab.engine, max_demand=10, min_demand=5) as events:
            async for event in events:
                found.append(event)
                assert await lab.call("n/there", Do("emitted")) <= len(found) + 10
                if len(found) == 100:
                    break
        assert found == list(range(100))

    at(test)


async def exhaust(events: Stream) -> None:
    """Read to the end."""
    async for _ in events:
        pass


def test_a_stream_ends_as_its_producer_does() -> None:
    """The last events come before the end; a killed process is told at the reader."""

    async def test(lab: Lab) -> None:
        there = await lab.start(FromEnumerable, range(50), placement="process", kwargs={"demand": "accumulate"})
        async with stream(there, lab.engine, max_demand=7, cancel="transient") as events:
            assert [event async for event in events] == list(range(50))
        endless = await lab.start(Numbers, placement="process")
        events = stream(endless, lab.engine, max_demand=4)
        assert [await anext(events) for _ in range(20)] == list(range(20))
        lab.engine.kill(endless)
        with pytest.raises(ActorDied) as caught:
            await exhaust(events)
        assert caught.value.reason == "killed"

    at(test)


def test_a_stream_into_a_child() -> None:
    """An actor in a child reads a producer of the parent, by name and by address, and one of another child."""

    async def test(lab: Lab) -> None:
        reader = await lab.start(Reading, placement="process")
        here = await lab.start(Numbers, name="n/here")
        other = await lab.start(Numbers, placement="process")
        for producer in ("n/here", here, other):
            first = await lab.call(reader, DoAsync("read", (producer, 30)))
            assert first == list(range(first[0], first[0] + 30))

    at(test)


def test_a_supervisor_in_a_child() -> None:
    """It supervises there, also a child interpreter of its own; its end ends them all."""

    async def test(lab: Lab) -> None:
        inner = [
            ChildSpec("near", Worker, name="w/near"),
            ChildSpec("far", Worker, name="w/far", placement="process"),
        ]
        outer = await lab.start(Supervisor, [ChildSpec("s", Supervisor, (inner,), placement="process", name="s/there")])
        reader = await lab.start(Worker)
        children = await lab.call("s/there", WhichChildren())
        addresses = {child.id: child.address for child in children}
        pids = {name: await lab.call(address, Do("pid")) for name, address in addresses.items()}
        assert len({os.getpid(), *pids.values()}) == 3
        assert await lab.call(reader, DoAsync("ask", (addresses["far"], Do("echo", (1,))))) == 1
        assert await lab.call(addresses["far"], DoAsync("ask", ("w/near", Do("pid")))) == pids["near"]
        assert await lab.order_down(outer) == "shutdown"
        await asyncio.to_thread(wait_ended, *pids.values())

    at(test)


def test_virtual_time_has_no_processes() -> None:
    """A child interpreter lives in real time: an engine in virtual time refuses to start one."""

    async def test(lab: Lab) -> None:
        failed = await lab.engine.spawn(Worker, (), placement="process")
        assert isinstance(failed, StartFailed)
        assert "virtual time" in str(failed.reason.error)

    in_lab(test, executor=InlineDispatcher())


def test_secrets_do_not_cross() -> None:
    """A secret among the arguments is refused before there is a process, and not shown."""

    async def test(lab: Lab) -> None:
        failed = await lab.engine.spawn(Worker, ("", Secret("hunter2")), placement="process")
        assert isinstance(failed, StartFailed)
        words = str(failed.reason.error)
        assert "Secret at Start.args[1]" in words
        assert "hunter2" not in words

    at(test)


def test_a_placement_is_no_argument() -> None:
    """A child spec has a field for it; among the arguments it is refused."""
    with pytest.raises(SpecError, match="a child spec has a field for it"):
        ChildSpec("w", Worker, kwargs={"placement": "process"})
    with pytest.raises(SpecError):
        ChildSpec("w", Worker, placement="moon")  # type: ignore[arg-type]


SCRIPT = """
import sys
from dataclasses import dataclass
from dspex.runtime.engine import Engine
from dspex.runtime.gen_server import GenServer, call

@dataclass
class Add:
    n: int

class Counter(GenServer):
    def init(self):
        self.n = 0
    @call
    def add(self, message: Add) -> Add:
        self.n += message.n
        return Add(self.n)

if __name__ == "__main__":
    engine = Engine()
    there = engine.outside.spawn(Counter, placement="process").address
    engine.call_blocking(there, Add(1))
    answer = engine.call_blocking(there, Add(2))
    print(type(answer) is Add, answer.n)
    engine.stop()
"""


@pytest.mark.parametrize("how", ["path", "module", "text"])
def test_classes_of_a_script(tmp_path: Path, how: str) -> None:
    """An actor of the main module can be placed; of a program without a file it cannot, and is told so."""
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = {"path": ["script.py"], "module": ["-m", "script"], "text": ["-c", SCRIPT]}[how]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if how == "text":
        assert "Counter did not start" in done.stderr
        assert "can't get attribute" in done.stderr.lower()
    else:
        assert done.stdout == "True 3\n", done.stderr


def test_a_script_that_starts_at_its_top_is_not_started_again(tmp_path: Path) -> None:
    """What it asks of models would be asked, and paid, twice: the child refuses, and the parent is told what to do."""
    (tmp_path / "script.py").write_text(SCRIPT.replace('if __name__ == "__main__":', 'if print("top") is None:'))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "top\ntop\n")
    wanted = "expected the start of the program below `if __name__ == '__main__':`, got one that is run again"
    assert wanted in done.stderr
    assert "which looks for 'Counter' in the program's main module" in done.stderr


def test_what_it_prints_is_seen(capfd: Any) -> None:
    """What an actor prints there goes where the parent's output goes."""

    async def test(lab: Lab) -> None:
        there = await lab.start(Worker, placement="process")
        await lab.call(there, Do("print", ("visible",)))

    at(test)
    assert capfd.readouterr().out == "visible\n"
