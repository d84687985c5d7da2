"""Several workers behind one name: who is asked, what is summed, and what a worker's end costs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspex.actors.modules.actor import ModuleActor
from dspex.actors.modules.messages import GetState, ModuleStatus, Predict, UpdateModule
from dspex.actors.modules.pool import ModulePool
from dspex.actors.modules.prediction import Prediction
from dspex.actors.modules.program import Module
from dspex.actors.modules.program import Predict as Ask
from dspex.runtime.child_spec import ChildSpec, StartChild
from dspex.runtime.errors import ActorDied, ConfigError, LMServerError, NoProcess, Overloaded
from dspex.runtime.gen_server import GenServer, Started, call
from dspex.runtime.messages import Resume, Suspend
from dspex.runtime.names import State
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.supervisor import Supervisor
from kit.modules import Scene, gather, response
from kit.supervision import House, in_house


class Pool(Scene):
    """A module with several workers, and everything around it."""

    async def pool(self, workers: int, **settings: Any) -> None:
        """Start the workers, each with the supervisor of its streams, and the pool."""
        settings = {"signature": "question -> answer", "provider": "local", **settings}
        specs: list[Any] = []
        for number in range(1, workers + 1):
            name, how = f"module/qa/{number}", {"worker": number, **settings}
            specs += [
                ChildSpec(name, Worker, ("qa",), how, name=name),
                DynamicSupervisor.child_spec(f"streams/{number}", name=f"streams/{name}"),
            ]
        await self.house.start(Supervisor, specs, max_restarts=100, name="supervisor/workers")
        pool = ChildSpec("pool", ModulePool, ("qa", workers), name="module/qa")
        await self.house.start(Supervisor, [pool], max_restarts=100)

    def worker(self, number: int) -> Worker:
        """One of them."""
        return self.house.address(f"module/qa/{number}").cell.instance  # type: ignore[no-any-return]

    @property
    def served(self) -> list[int]:
        """How many predictions each worker has taken."""
        found: list[int] = []
        while self.house.engine.names.get(f"module/qa/{len(found) + 1}") is not None:
            found.append(self.worker(len(found) + 1).taken)
        return found

    def send(self, message: Any = None, target: str = "module/qa") -> asyncio.Future[Any]:
        """Ask, and go on."""
        return asyncio.ensure_future(self.house.call(target, message or Predict({"question": "Where?"})))

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(30):
            await asyncio.sleep(0)


class Worker(ModuleActor):
    """Counts what it is asked."""

    async def init(self, *args: Any, **kwargs: Any) -> None:
        self.taken = 0
        await super().init(*args, **kwargs)

    @call
    def predict(self, msg: Predict) -> Any:
        self.taken += 1
        return super().predict(msg)


def play(*script: Any, delay: float = 0.0, workers: int = 3, **settings: Any) -> Callable[..., None]:
    """Run a coroutine with a pool."""

    def run(scenario: Callable[[Pool], Awaitable[None]]) -> None:
        async def test(house: House) -> None:
            scene = Pool(house)
            await scene.stand(*script, delay=delay)
            await scene.pool(workers, **settings)
            await scenario(scene)

        in_house(test)

    return run


def test_predictions_are_spread_evenly() -> None:
    """As many at each, whether they come at once or one after the other."""

    async def scenario(scene: Pool) -> None:
        await gather(*(scene.ask() for _ in range(9)))
        assert scene.served == [3, 3, 3]
        for _ in range(3):
            await scene.ask()
        assert scene.served == [4, 4, 4]

    play(delay=1.0)(scenario)


def test_the_least_busy_one_is_asked() -> None:
    """Those that wait for a slow answer are passed over until it is there."""

    async def scenario(scene: Pool) -> None:
        slow = [scene.send(target=f"module/qa/{number}") for number in (1, 1, 3)]
        await scene.settle()
        quick = [scene.send() for _ in range(3)]
        await scene.settle()
        assert scene.served == [2, 2, 2]
        await gather(*slow, *quick)

    play(delay=1.0)(scenario)


def test_more_than_one_worker_takes_is_only_too_much_if_all_are_full() -> None:
    """max_concurrency and max_queue are each worker's own; beyond all of them a call is refused."""

    async def scenario(scene: Pool) -> None:
        asked = [scene.send() for _ in range(10)]
        outcomes = await gather(*asked)
        assert sum(isinstance(each, Prediction) for each in outcomes) == 9
        assert [type(each) for each in outcomes if not isinstance(each, Prediction)] == [Overloaded]
        assert scene.provider.most == 6

    play(delay=1.0, max_concurrency=2, max_queue=1)(scenario)


def test_streams_count_as_work() -> None:
    """A worker that streams is busier than one that does not, until the stream is over."""

    async def scenario(scene: Pool) -> None:
        spec = ChildSpec("stream", GenServer, restart="temporary")
        stream: Started = await scene.house.call("streams/module/qa/2", StartChild(spec))
        await gather(*(scene.ask() for _ in range(5)))
        assert scene.served == [2, 1, 2]
        await scene.house.stop(stream.address)
        await gather(*(scene.ask() for _ in range(3)))
        assert scene.served == [3, 2, 3]

    play(delay=1.0)(scenario)


def test_the_end_of_a_worker_is_that_of_its_calls_only() -> None:
    """The others answer; who is asked next is not asked to wait for the one that comes again."""

    async def scenario(scene: Pool) -> None:
        asked = [scene.send() for _ in range(3)]
        await scene.settle()
        scene.house.engine.kill("module/qa/2")
        outcomes = await gather(*asked)
        assert sum(isinstance(each, Prediction) for each in outcomes) == 2
        (lost,) = (each for each in outcomes if not isinstance(each, Prediction))
        assert isinstance(lost, ActorDied)
        assert "module/qa/2" in str(lost)
        assert (await scene.ask()).answer == "Paris"

    play(delay=1.0)(scenario)


def test_who_restarts_is_not_asked_unless_nobody_runs() -> None:
    """With one away the others serve; with all away a call waits for the next to come."""

    async def scenario(scene: Pool) -> None:
        names = scene.house.engine.names
        names.set_state("module/qa/1", "restarting")
        await gather(*(scene.ask() for _ in range(4)))
        assert scene.served == [0, 2, 2]
        for number in (2, 3):
            names.set_state(f"module/qa/{number}", "restarting")
        waiting = [scene.send(target=f"module/qa/{number}") for number in (1, 2, 1, 2)]
        await scene.settle()
        waiting += [scene.send() for _ in range(2)]
        await scene.settle()
        assert not any(each.done() for each in waiting)
        assert scene.served == [0, 2, 2]
        for number in (1, 2, 3):
            names.set_state(f"module/qa/{number}", "running")
        assert all(isinstance(each, Prediction) for each in await gather(*waiting))
        assert scene.served == [2, 4, 4]

    play()(scenario)


def test_without_workers_there_is_nobody() -> None:
    """If all are gone for good, callers are told who and why."""

    async def scenario(scene: Pool) -> None:
        await scene.house.stop(scene.house.address("supervisor/workers"))
        with pytest.raises(NoProcess, match="module/qa/"):
            await scene.ask()

    play()(scenario)


def test_the_end_of_the_pool_loses_no_answer() -> None:
    """What is in work goes on; a new pool knows how busy everybody is."""

    async def scenario(scene: Pool) -> None:
        asked = [scene.send() for _ in range(2)]
        await scene.settle()
        before = scene.served
        scene.house.engine.kill("module/qa")
        assert isinstance(await scene.ask(), Prediction)
        assert [after - was for after, was in zip(scene.served, before, strict=True)] == [1 - each for each in before]
        assert all(isinstance(each, Prediction) for each in await gather(*asked))

    play(delay=1.0)(scenario)


def test_the_status_is_a_sum() -> None:
    """Counts and limits of all; how many there are, and how many answered."""

    async def scenario(scene: Pool) -> None:
        await gather(*(scene.ask() for _ in range(3)))
        asked = [scene.send() for _ in range(4)]
        await asyncio.sleep(0.1)
        status = await scene.status()
        assert (status.workers, status.ready, status.max_concurrency, status.max_queue) == (3, 3, 3, 15)
        assert (status.executions, status.failures, status.running, status.waiting) == (3, 1, 3, 1)
        assert status.last_error == "lm_server_error"
        scene.house.engine.names.set_state("module/qa/1", "restarting")
        status = await scene.status()
        assert (status.workers, status.ready, status.max_concurrency) == (3, 2, 3)
        await gather(*asked)

    failed = LMServerError("no", provider="local")
    play(failed, delay=1.0, max_concurrency=1, max_queue=5, retry_failed_predictions=False)(scenario)


def test_an_update_is_that_of_all_workers() -> None:
    """Whoever is asked behind it answers in the new state; a refused one changes nobody."""

    async def scenario(scene: Pool) -> None:
        told = await scene.house.call("module/qa", UpdateModule(instructions="Be brief."))
        assert isinstance(told, ModuleStatus)
        assert (told.instructions, told.workers) == ("Be brief.", 3)
        for number in (1, 2, 3):
            state = await scene.house.call(f"module/qa/{number}", GetState())
            assert state.predictors["predict"].instructions == "Be brief."
        state = await scene.house.call("module/qa", GetState())
        assert state.predictors["predict"].instructions == "Be brief."
        with pytest.raises(ConfigError):
            await scene.house.call(
                "module/qa", UpdateModule(state=type(state)({"nobody": state.predictors["predict"]}))
            )
        assert await scene.house.call("module/qa", GetState()) == state

    play()(scenario)


def test_updates_at_the_same_time_leave_all_alike() -> None:
    """All workers end with the same one of them."""

    async def scenario(scene: Pool) -> None:
        await gather(*(scene.send(UpdateModule(instructions=f"Number {number}.")) for number in range(5)))
        states = [await scene.house.call(f"module/qa/{number}", GetState()) for number in (1, 2, 3)]
        assert states[0] == states[1] == states[2]
        assert states[0].predictors["predict"].instructions == "Number 4."

    play()(scenario)


def test_an_update_does_not_fail_for_a_worker_that_ends() -> None:
    """The others have it; the one that ended begins with what configuration says."""

    async def scenario(scene: Pool) -> None:
        await scene.house.call("module/qa/2", Suspend())
        updated = scene.send(UpdateModule(instructions="Be brief."))
        await scene.settle()
        assert not updated.done()
        scene.house.engine.kill("module/qa/2")
        told = await updated
        assert (told.instructions, told.ready) == ("Be brief.", 2)

    play()(scenario)


def test_an_update_waits_for_nobody_who_computes() -> None:
    """It is done when one worker has taken it; who is busy takes it before the next call that it is handed."""

    async def scenario(scene: Pool) -> None:
        await scene.house.call("module/qa/1", Suspend())
        began = scene.house.now()
        assert (await scene.house.call("module/qa", UpdateModule(instructions="Be brief."))).ready == 2
        assert scene.house.now() - began == pytest.approx(1.0)
        asked = scene.send(GetState(), "module/qa/1")
        await scene.house.call("module/qa/1", Resume())
        assert (await asked).predictors["predict"].instructions == "Be brief."

    play()(scenario)


def test_the_registry_is_told_of_the_whole() -> None:
    """What the workers have in common, their sums, and how many run."""

    async def scenario(scene: Pool) -> None:
        names = scene.house.engine.names
        for number in (1, 2, 3):
            row = {"type": "module", "provider": "local", "executions": number, "failures": 1, "last_error": None}
            names.set_metadata(f"module/qa/{number}", {**row, "timeout": 7.0, "status": "ready"})
        await scene.settle()
        said = scene.registry.announced[-1]
        assert (said["timeout"], said["executions"], said["failures"], said["status"]) == (7.0, 6, 3, "ready")
        assert (said["workers"], said["ready"], said["placement"]) == (3, 3, "local")
        names.set_metadata("module/qa/2", {"status": "misconfigured"})
        names.set_state("module/qa/3", "restarting")
        await scene.settle()
        said = scene.registry.announced[-1]
        assert (said["status"], said["ready"]) == ("misconfigured", 2)

    play()(scenario)


def test_events_name_the_worker() -> None:
    """All are of the one module; their source says who did it."""

    async def scenario(scene: Pool) -> None:
        await gather(*(scene.ask() for _ in range(3)))
        await asyncio.sleep(1.0)
        assert {event.module for event in scene.executions} == {"qa"}
        assert {event.source for event in scene.executions} == {"module/qa/1", "module/qa/2", "module/qa/3"}

    play(response(), response(), response(), delay=1.0)(scenario)


class Down(Module):
    """Asks the module that it is until it is at the bottom."""

    ask = Ask("left: int -> answer")

    async def forward(self, left: int) -> Prediction:
        return await self.call_module("qa", left=left - 1) if left else await self.ask(left=left)


def test_a_program_may_ask_itself() -> None:
    """Its own worker answers, though others have less to do: nobody waits for a turn that waits for him."""

    async def scenario(scene: Pool) -> None:
        for count in (3, 4, 5):
            outcomes = await gather(*(scene.send(Predict({"left": 3})) for _ in range(count)))
            assert [getattr(each, "answer", each) for each in outcomes] == ["Paris"] * count

    play(delay=1.0, workers=2, kind="program", program=Down, signature="left: int -> answer", max_concurrency=1)(
        scenario
    )


def test_a_full_mailbox_loses_no_news_of_the_workers() -> None:
    """What the registry is told goes on when the pool is asked too much at once."""

    async def scenario(scene: Pool) -> None:
        names = scene.house.engine.names
        scene.house.address("module/qa").cell.set_limit(0)
        changes: list[tuple[State, int]] = [("restarting", 2), ("running", 3)]
        for state, ready in changes:
            names.set_state("module/qa/3", state)
            await scene.settle()
            assert scene.registry.announced[-1]["ready"] == ready

    play()(scenario)
