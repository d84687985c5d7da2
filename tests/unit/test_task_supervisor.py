"""Task.Supervisor: OTP section 5, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from thespian.actors import ActorAddress

from dspex.runtime.context import Context
from dspex.runtime.engine import Engine
from dspex.runtime.errors import ActorDied, CallTimeout, NoProcess, SpecError, SupervisorError, UsageError
from dspex.runtime.gen_server import Exit, GenServer, Started, call, info
from dspex.runtime.messages import Down, ExitSignal, Resume, Suspend, TaskDone
from dspex.runtime.reasons import Crash
from dspex.runtime.scope import current_context
from dspex.supervisors.messages import CountChildren, GetChildSpec, WhichChildren
from dspex.supervisors.task import TaskExit, TaskOk, TaskProcess
from dspex.supervisors.task_supervisor import Tasks, TaskSupervisor
from kit.engine import running_engine
from kit.supervision import House, in_house

SUP = "t/tasks"


@dataclass(frozen=True)
class Do:
    """To an owner: run this with your tasks, and answer what it returns."""

    work: Callable[[Owner], Any]


class Owner(GenServer):
    """An actor that starts tasks as the test says, and keeps the plain messages it gets."""

    def init(self) -> None:
        self.seen: list[Any] = []
        self.tasks = TaskSupervisor.of(self, SUP)

    @call
    async def do(self, message: Do) -> Any:
        return await message.work(self)

    @info
    def take(self, message: object) -> None:
        self.seen.append(message)


class TrappingOwner(Owner):
    trap_exit = True


async def later(seconds: float, value: Any = None) -> Any:
    """A result that takes a while."""
    await asyncio.sleep(seconds)
    return value


async def boom() -> None:
    """Fails."""
    raise ValueError("boom")


async def leave(reason: Any) -> None:
    """Exits."""
    raise Exit(reason)


def with_tasks(test: Callable[[House, Tasks], Any], **options: Any) -> None:
    """Run a test with a task supervisor and the tasks of code outside all actors."""

    async def run(house: House) -> None:
        await house.start(TaskSupervisor, name=SUP, **options)
        await test(house, TaskSupervisor.of(house.engine, SUP))

    in_house(run)


async def running(house: House) -> int:
    """How many tasks run."""
    counts = await house.call(SUP, CountChildren())
    return int(counts.active)


async def ended(house: House, address: ActorAddress | None) -> Any:
    """The reason of an actor's end; it must come within ten seconds."""
    over, reason = await house.engine.wait_down(address, 10.0)
    assert over, "it still runs"
    return reason


def test_tasks_are_temporary_children_with_five_seconds() -> None:
    """TSK-01: temporary, shutdown 5 s; forgotten when they end."""

    async def test(house: House, tasks: Tasks) -> None:
        task = await tasks.async_nolink(later, 1.0, "x")
        spec = await house.call(SUP, GetChildSpec(task.address))
        assert (spec.restart, spec.shutdown, spec.type) == ("temporary", 5.0, "worker")
        assert await task == "x"
        assert await house.call(SUP, WhichChildren()) == ()

    with_tasks(test)


def test_start_child_may_choose_restart_and_shutdown() -> None:
    """TSK-01: a transient task that fails runs again from its beginning; its shutdown is as said."""
    runs: list[int] = []

    async def twice() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise ValueError("first")
        await asyncio.Event().wait()

    async def test(house: House, tasks: Tasks) -> None:
        first = await tasks.start_child(twice, restart="transient", shutdown="brutal_kill")
        assert await ended(house, first) == Crash(ValueError("first"))
        (row,) = await house.call(SUP, WhichChildren())
        assert row.address != first
        await asyncio.sleep(0)
        assert runs == [0, 1]
        assert (await house.call(SUP, GetChildSpec(row.address))).shutdown == "brutal_kill"

    with_tasks(test)


def test_a_linked_task_that_fails_ends_its_caller() -> None:
    """TSK-02: async; the caller ends with the task's reason."""

    async def work(self: Owner) -> None:
        await self.tasks.async_(leave, "bad")
        await asyncio.sleep(1.0)

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        with pytest.raises(ActorDied) as caught:
            await house.call(owner, Do(work))
        assert caught.value.reason == "bad"
        assert await ended(house, owner) == "bad"

    with_tasks(test)


def test_a_trapping_caller_is_told_of_a_linked_tasks_end() -> None:
    """TSK-02: for one that traps exits a linked task's end is a message, the normal end too."""

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(TrappingOwner)
        bad = await house.call(owner, Do(lambda self: self.tasks.async_(leave, "bad")))
        good = await house.call(owner, Do(lambda self: self.tasks.async_(later, 0.0)))
        await ended(house, good.address)
        seen = await house.call(owner, Do(lambda self: later(0.0, self.seen)))
        assert seen == [ExitSignal(bad.address, "bad"), ExitSignal(good.address, "normal")]

    with_tasks(test)


@pytest.mark.parametrize("reason", ["bad", "shutdown"])
def test_a_callers_end_ends_its_linked_tasks_only(reason: str) -> None:
    """TSK-02: either's end ends the other; a nolink task survives its caller."""

    async def both(self: Owner) -> Any:
        return await self.tasks.async_(later, 60.0), await self.tasks.async_nolink(later, 60.0)

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        linked, free = await house.call(owner, Do(both))
        with pytest.raises(ActorDied):
            await house.call(owner, Do(lambda self: leave(reason)))
        assert await ended(house, linked.address) == reason
        assert house.engine.alive(free.address)
        assert await running(house) == 1

    with_tasks(test)


def test_a_callers_normal_end_leaves_its_tasks_alone() -> None:
    """TSK-02: only an abnormal end goes through the link."""

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        linked = await house.call(owner, Do(lambda self: self.tasks.async_(later, 60.0)))
        with pytest.raises(ActorDied):
            await house.call(owner, Do(lambda self: leave("normal")))
        assert house.engine.alive(linked.address)

    with_tasks(test)


def test_await_gives_the_result_or_raises_the_reason() -> None:
    """TSK-03: the result; a task that died: its reason, with the exception as the cause."""

    async def work(self: Owner) -> Any:
        good = await self.tasks.async_(later, 2.0, 42)
        assert await good == 42
        bad = await self.tasks.async_nolink(boom)
        with pytest.raises(ActorDied) as caught:
            await bad
        return caught.value

    async def test(house: House, tasks: Tasks) -> None:
        error = await house.call(await house.start(Owner), Do(work))
        assert error.reason == Crash(ValueError("boom"))
        assert isinstance(error.__cause__, ValueError)

    with_tasks(test)


def test_await_waits_five_seconds_and_the_task_runs_on() -> None:
    """TSK-03: a time-out by default after 5 s; a nolink task goes on, its late reply arrives nowhere."""

    async def work(self: Owner) -> Any:
        task = await self.tasks.async_nolink(later, 6.0, "late")
        began = self.clock.monotonic()
        with pytest.raises(CallTimeout):
            await task
        return task, self.clock.monotonic() - began

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        task, waited = await house.call(owner, Do(work))
        assert waited == pytest.approx(5.0)
        assert await ended(house, task.address) == "normal"
        assert await house.call(owner, Do(lambda self: later(0.0, self.seen))) == []

    with_tasks(test)


def test_a_time_out_of_an_await_ends_the_caller_and_its_linked_task() -> None:
    """TSK-03: not caught, the time-out ends the caller; the link then ends the task."""

    async def work(self: Owner) -> Any:
        return await (await self.tasks.async_(later, 60.0)).result(1.0)

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        with pytest.raises(ActorDied) as caught:
            await house.call(owner, Do(work))
        assert isinstance(caught.value.reason.error, CallTimeout)
        assert await running(house) == 0

    with_tasks(test)


def test_only_the_owner_may_use_a_task() -> None:
    """TSK-03: await, yield and shutdown by anyone else are refused, with who owns it."""

    async def test(house: House, tasks: Tasks) -> None:
        owner, other = await house.start(Owner), await house.start(Owner)
        task = await house.call(owner, Do(lambda self: self.tasks.async_nolink(later, 1.0)))
        mine = await tasks.async_nolink(later, 1.0)

        async def foreign(self: Owner) -> None:
            for use in (task.result, task.yield_, task.shutdown, mine.result):
                with pytest.raises(UsageError, match="by its owner"):
                    await use()

        await house.call(other, Do(foreign))
        with pytest.raises(UsageError, match="code outside all actors"):
            await task

    with_tasks(test)


def test_yield_looks_without_taking() -> None:
    """TSK-04: yield: nothing yet, again, then ok value; for a failed one exit reason."""

    async def test(house: House, tasks: Tasks) -> None:
        task = await tasks.async_nolink(later, 2.0, "x")
        assert await task.yield_(0.0) is None
        assert await task.yield_(1.0) is None
        assert await task.yield_(None) == TaskOk("x")
        bad = await tasks.async_nolink(leave, "bad")
        assert await bad.yield_() == TaskExit("bad")

    with_tasks(test)


def test_shutdown_stops_a_task() -> None:
    """TSK-04: shutdown: nothing if it ended as asked, its result if it had one, else the reason."""

    async def test(house: House, tasks: Tasks) -> None:
        asked = await tasks.async_nolink(later, 60.0)
        assert await asked.shutdown() is None
        assert await ended(house, asked.address) == "shutdown"
        killed = await tasks.async_nolink(later, 60.0, trap_exit=True)
        assert await killed.shutdown("brutal_kill") is None
        assert await ended(house, killed.address) == "killed"
        done = await tasks.async_nolink(later, 0.0, "x")
        await ended(house, done.address)
        assert await done.shutdown() == TaskOk("x")
        bad = await tasks.async_nolink(leave, "bad")
        await ended(house, bad.address)
        assert await bad.shutdown("brutal_kill") == TaskExit("bad")

    with_tasks(test)


def test_shutdown_kills_what_does_not_stop_in_time() -> None:
    """TSK-04: a task that traps exits has its time, then it is killed: exit killed."""

    async def test(house: House, tasks: Tasks) -> None:
        began = house.now()
        stubborn = await tasks.async_nolink(later, 60.0, trap_exit=True)
        assert await stubborn.shutdown(3.0) == TaskExit("killed")
        assert house.now() - began == pytest.approx(3.0)

    with_tasks(test)


def test_shutdown_of_a_linked_task_spares_its_owner() -> None:
    """TSK-04: the link is undone first, so that nothing comes back through it."""

    async def work(self: Owner) -> Any:
        linked = await self.tasks.async_(later, 60.0)
        return await linked.shutdown("brutal_kill")

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        assert await house.call(owner, Do(work)) is None
        assert await house.call(owner, Do(lambda self: later(1.0, "alive"))) == "alive"

    with_tasks(test)


def test_a_trapping_task_finishes_when_its_supervisor_stops() -> None:
    """TSK-01: trap_exit: what it does is finished within its shutdown time."""

    async def test(house: House, tasks: Tasks) -> None:
        task = await tasks.async_nolink(later, 2.0, "kept", trap_exit=True)
        await house.stop(house.address(SUP))
        assert await task.yield_(0.0) == TaskOk("kept")

    with_tasks(test)


def test_in_a_gen_server_the_result_comes_as_messages() -> None:
    """TSK-05: with notify (ref, value), then Down normal; a failure is a Down with the reason."""

    async def work(self: Owner) -> Any:
        good = await self.tasks.async_nolink(later, 1.0, "x", notify=True)
        bad = await self.tasks.async_nolink(boom, notify=True)
        return good, bad

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        good, bad = await house.call(owner, Do(work))
        await ended(house, good.address)
        seen = await house.call(owner, Do(lambda self: later(0.0, self.seen)))
        assert seen == [
            Down(bad.ref, bad.address, Crash(ValueError("boom"))),
            TaskDone(good.ref, "x"),
            Down(good.ref, good.address, "normal"),
        ]
        with pytest.raises(UsageError, match="mailbox"):
            await tasks.async_nolink(later, 1.0, notify=True)

    with_tasks(test)


def test_a_notifying_task_that_is_shut_down_says_nothing_more() -> None:
    """TSK-05, TSK-04: after shutdown no Down comes."""

    async def work(self: Owner) -> Any:
        task = await self.tasks.async_nolink(later, 60.0, notify=True)
        await task.shutdown()

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner)
        await house.call(owner, Do(work))
        assert await house.call(owner, Do(lambda self: later(1.0, self.seen))) == []

    with_tasks(test)


def test_max_children_refuses_every_kind() -> None:
    """TSK-06: async, async_nolink and start_child are refused with max_children; a place comes free again."""

    async def test(house: House, tasks: Tasks) -> None:
        first = await tasks.async_nolink(later, 1.0)
        for start in (tasks.async_, tasks.async_nolink, tasks.start_child):
            with pytest.raises(SupervisorError) as caught:
                await start(later, 1.0)
            assert caught.value.reason == "max_children"
        await first
        assert await tasks.start_child(later, 1.0) is not None

    with_tasks(test, max_children=1)


def test_async_stream_keeps_order_and_bounds_concurrency() -> None:
    """TSK-07: results in input order, never more than max_concurrency at once, places refilled as they end."""
    now = most = 0

    async def work(seconds: float) -> float:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(seconds)
        now -= 1
        return seconds

    async def test(house: House, tasks: Tasks) -> None:
        began = house.now()
        results = [each async for each in tasks.async_stream(work, [3.0, 1.0, 1.0, 2.0], max_concurrency=2)]
        assert results == [TaskOk(3.0), TaskOk(1.0), TaskOk(1.0), TaskOk(2.0)]
        assert most == 2
        assert house.now() - began == pytest.approx(4.0)

    with_tasks(test)


def test_async_stream_unordered_gives_what_is_there() -> None:
    """TSK-07: ordered=False: as they finish."""

    async def echo(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def test(house: House, tasks: Tasks) -> None:
        stream = tasks.async_stream(echo, [3.0, 1.0, 2.0], ordered=False)
        assert [each async for each in stream] == [TaskOk(1.0), TaskOk(2.0), TaskOk(3.0)]

    with_tasks(test)


def test_async_stream_tells_of_each_failure() -> None:
    """TSK-07: exit reason of the one that failed, the others go on; a trapping owner gets no message."""

    async def pick(n: int) -> int:
        if n == 1:
            raise Exit("bad")
        return n

    async def work(self: Owner) -> Any:
        return [each async for each in self.tasks.async_stream_nolink(pick, range(3))]

    async def linked(self: Owner) -> Any:
        return [each async for each in self.tasks.async_stream(pick, range(3))]

    async def test(house: House, tasks: Tasks) -> None:
        expected = [TaskOk(0), TaskExit("bad"), TaskOk(2)]
        assert await house.call(await house.start(Owner), Do(work)) == expected
        trapping = await house.start(TrappingOwner)
        assert await house.call(trapping, Do(linked)) == expected
        assert await house.call(trapping, Do(lambda self: later(0.0, self.seen))) == []
        plain = await house.start(Owner)
        with pytest.raises(ActorDied):
            await house.call(plain, Do(linked))
        assert await ended(house, plain) == "bad"

    with_tasks(test)


def test_async_stream_timeout_ends_the_reader_by_default() -> None:
    """TSK-07: on_timeout exit: the reader's error, and nothing is left running."""

    async def test(house: House, tasks: Tasks) -> None:
        stream = tasks.async_stream(later, [1.0, 60.0, 60.0], timeout=5.0)
        assert await anext(stream) == TaskOk(None)
        with pytest.raises(CallTimeout):
            await anext(stream)
        assert house.now() == 1005.0
        assert await running(house) == 0

    with_tasks(test)


def test_async_stream_timeout_may_kill_the_task_only() -> None:
    """TSK-07: on_timeout kill_task: (exit, timeout) of that one, each task's time runs from its own start."""

    async def test(house: House, tasks: Tasks) -> None:
        stream = tasks.async_stream(later, [60.0, 4.0, 4.0], timeout=5.0, on_timeout="kill_task", max_concurrency=1)
        assert [each async for each in stream] == [TaskExit("timeout"), TaskOk(None), TaskOk(None)]
        assert await running(house) == 0

    with_tasks(test)


def test_a_halted_stream_leaves_nothing_running() -> None:
    """TSK-07: the reader leaves, with or without closing the stream."""

    async def test(house: House, tasks: Tasks) -> None:
        async with aclosing(tasks.async_stream(later, [0.0, 60.0, 60.0])) as stream:
            async for _ in stream:
                break
        assert await running(house) == 0
        async for _ in tasks.async_stream(later, [0.0, 60.0, 60.0]):
            break
        gc.collect()
        await asyncio.sleep(0.1)
        assert await running(house) == 0

    with_tasks(test)


def test_a_stream_that_raises_leaves_nothing_running() -> None:
    """TSK-07: an error of the items, or of the reader, ends the tasks too."""

    def items() -> Any:
        yield 60.0
        yield 0.0
        raise LookupError("no more")

    async def test(house: House, tasks: Tasks) -> None:
        with pytest.raises(LookupError):
            await anext(tasks.async_stream(later, items()))
        assert await running(house) == 0

    with_tasks(test)


def test_a_stream_ends_with_its_reader() -> None:
    """TSK-07: an actor that ends while it reads leaves nothing running, linked or not."""

    async def work(self: Owner) -> Any:
        read = self.tasks.async_stream_nolink if self.name == "o/free" else self.tasks.async_stream
        return [each async for each in read(later, [60.0, 60.0], timeout=None)]

    async def test(house: House, tasks: Tasks) -> None:
        for name in ("o/free", "o/linked"):
            owner = await house.start(Owner, name=name)
            reading = asyncio.ensure_future(house.call(owner, Do(work)))
            await asyncio.sleep(1.0)
            assert await running(house) == 2
            house.engine.kill(owner)
            with pytest.raises(ActorDied):
                await reading
            await asyncio.sleep(0.1)
            assert await running(house) == 0

    with_tasks(test)


@pytest.mark.parametrize(
    "options", [{"max_concurrency": 0}, {"timeout": 0.0}, {"timeout": -1.0}, {"on_timeout": "kill_tasks"}]
)
def test_stream_options_are_checked_at_once(options: dict[str, Any]) -> None:
    """TSK-07: a bad option is refused before anything is read."""

    async def test(house: House, tasks: Tasks) -> None:
        with pytest.raises(UsageError, match="async_stream"):
            tasks.async_stream(later, [1.0], **options)

    with_tasks(test)


def test_a_failure_is_logged_and_a_normal_end_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """TSK-08: logged with the task's name and its callers, unless the reason is normal-type."""

    async def work(self: Owner) -> None:
        for function, args in ((boom, ()), (leave, ("bad",)), (leave, (("shutdown", "x"),)), (later, (0.0,))):
            task = await self.tasks.async_nolink(function, *args)
            await task.yield_()

    async def test(house: House, tasks: Tasks) -> None:
        with caplog.at_level(logging.INFO, "dspex.tasks"):
            await house.call(await house.start(Owner, name="o/x"), Do(work))

    with_tasks(test)
    lines = [each.getMessage() for each in caplog.records if each.name == "dspex.tasks"]
    assert len(lines) == 2
    assert "ValueError: boom" in lines[0]
    assert "o/x" in lines[0]
    assert "reason=bad" in lines[1]


def test_callers_and_trace_are_inherited() -> None:
    """TSK-08: a task knows whom it is run for, through tasks of tasks, and goes on in the caller's trace."""

    async def inner() -> Any:
        return TaskProcess.current().callers, current_context()

    async def outer() -> Any:
        return await (await TaskSupervisor.of(TaskProcess.current(), SUP).async_(inner))

    async def work(self: Owner) -> Any:
        return await (await self.tasks.async_(outer))

    async def test(house: House, tasks: Tasks) -> None:
        owner = await house.start(Owner, name="o/x")
        trace = Context("t" * 32, "s" * 16)
        callers, context = await house.engine.call_async(owner, Do(work), context=trace)
        assert callers[0].startswith("TaskProcess")
        assert callers[1:] == ("o/x",)
        assert context.trace_id == trace.trace_id

    with_tasks(test)


def test_a_task_may_call_others() -> None:
    """TaskProcess.current() is the process in which the function runs, and code outside tasks has none."""

    async def ask() -> Any:
        return await TaskProcess.current().call("o/x", Do(lambda self: later(0.0, self.name)))

    async def test(house: House, tasks: Tasks) -> None:
        await house.start(Owner, name="o/x")
        assert await (await tasks.async_(ask)) == "o/x"
        with pytest.raises(UsageError, match="inside the function"):
            TaskProcess.current()

    with_tasks(test)


def test_a_task_that_calls_back_its_waiting_owner_waits_in_vain() -> None:
    """An actor that awaits a task in its handler handles nothing meanwhile: the task's call times out, as in OTP."""

    async def ask() -> Any:
        return await TaskProcess.current().call("o/x", Do(lambda self: later(0.0)), timeout=2.0)

    async def work(self: Owner) -> Any:
        return await (await self.tasks.async_nolink(ask)).yield_()

    async def test(house: House, tasks: Tasks) -> None:
        outcome = await house.call(await house.start(Owner, name="o/x"), Do(work))
        assert isinstance(outcome.reason.error, CallTimeout)
        assert outcome.reason.error.state == "busy"

    with_tasks(test)


def test_an_outside_callers_linked_task_ends_when_it_stops_waiting() -> None:
    """TSK-02: code outside all actors has no process to link with; giving up the await is its end."""

    async def test(house: House, tasks: Tasks) -> None:
        linked, free = await tasks.async_(later, 60.0), await tasks.async_nolink(later, 60.0)
        for task in (linked, free):
            with pytest.raises(CallTimeout):
                await task.result(1.0)
        assert await ended(house, linked.address) == "killed"
        assert house.engine.alive(free.address)
        another = await tasks.async_(later, 60.0)
        waiting = asyncio.ensure_future(another.result())
        await asyncio.sleep(0)
        waiting.cancel()
        assert await ended(house, another.address) == "killed"

    with_tasks(test)


def test_a_caller_that_leaves_while_its_task_starts_leaves_no_task() -> None:
    """A start that nobody learns of is undone."""

    async def test(house: House, tasks: Tasks) -> None:
        starting = asyncio.ensure_future(tasks.async_nolink(later, 60.0))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await asyncio.sleep(0.1)
        assert await running(house) == 0

    with_tasks(test)


def test_a_caller_that_leaves_before_its_task_starts_starts_none() -> None:
    """The supervisor is busy; by the time it gets to the request nobody wants the task any more."""
    ran: list[str] = []

    async def test(house: House, tasks: Tasks) -> None:
        await house.call(SUP, Suspend())
        starting = asyncio.ensure_future(tasks.async_nolink(ran.append, "ran"))
        await asyncio.sleep(1.0)
        starting.cancel()
        await asyncio.sleep(1.0)
        await house.call(SUP, Resume())
        await asyncio.sleep(1.0)
        assert (await running(house), ran) == (0, [])

    with_tasks(test)


def test_bad_use_is_refused_at_once() -> None:
    """A coroutine instead of a function, a misspelt option, a supervisor that is not there: a typed error."""

    async def test(house: House, tasks: Tasks) -> None:
        work = later(1.0)
        with pytest.raises(UsageError, match="got coroutine"):
            await tasks.async_(work)  # type: ignore[call-overload]
        work.close()
        with pytest.raises(SpecError, match="did you mean 'blocking'"):
            await tasks.async_(later, 1.0, blockin=True)  # type: ignore[call-overload]
        with pytest.raises(SpecError, match="did you mean 'ordered'"):
            tasks.async_stream(later, [1.0], order=False)  # type: ignore[call-overload]
        with pytest.raises(NoProcess):
            await TaskSupervisor.of(house.engine, "t/nobody").async_(later, 1.0)

    with_tasks(test)


def start_tasks(engine: Engine) -> Tasks:
    """A task supervisor under a real engine."""
    assert isinstance(engine.outside.spawn(TaskSupervisor, name=SUP), Started)
    return TaskSupervisor.of(engine, SUP)


def test_a_blocking_function_runs_on_a_thread_and_blocks_nobody() -> None:
    """blocking=True: the function runs on a daemon thread; the engine answers others meanwhile."""
    go = threading.Event()

    def work(n: int) -> tuple[int, str]:
        assert go.wait(10)
        return n + 1, threading.current_thread().name

    with running_engine() as engine:
        tasks, run = start_tasks(engine), engine.outside.run_coroutine
        task = run(tasks.async_(work, 1, blocking=True))
        assert engine.call_blocking(SUP, CountChildren()).active == 1
        go.set()
        value, thread = run(task.result())
        assert value == 2
        assert thread not in {engine.id, threading.current_thread().name}


def test_the_thread_of_a_killed_blocking_task_is_counted() -> None:
    """A thread cannot be stopped: it is left to itself, and counted as abandoned."""
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go.wait(10)

    with running_engine() as engine:
        tasks, run = start_tasks(engine), engine.outside.run_coroutine
        task = run(tasks.async_nolink(work, blocking=True))
        assert began.wait(10)
        assert run(task.shutdown("brutal_kill")) is None
        run(engine.call_async(SUP, CountChildren()))  # behind the task's last step
        assert engine.counters.abandoned_threads == 1
        go.set()


def test_tasks_may_be_awaited_on_any_event_loop() -> None:
    """From outside, starts, awaits, shutdown and streams work on a loop that is not the engine's."""

    async def double(n: int) -> int:
        return 2 * n

    async def elsewhere(tasks: Tasks) -> None:
        assert await (await tasks.async_(double, 2)) == 4
        assert [each async for each in tasks.async_stream(double, [1, 2, 3])] == [TaskOk(2), TaskOk(4), TaskOk(6)]
        idle = await tasks.async_nolink(asyncio.Event().wait)
        assert await idle.yield_(0.0) is None
        assert await idle.shutdown() is None

    with running_engine() as engine:
        asyncio.run(elsewhere(start_tasks(engine)))
