"""ConsumerSupervisor: one child for each event."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.errors import SpecError
from dspex.runtime.gen_server import GenServer, Ignore, StartFailed, Stop, info
from dspex.runtime.stages import Subscribe, SubscribeOptions
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.consumer_supervisor import ConsumerSupervisor
from dspex.supervisors.messages import CountChildren, TerminateChild, WhichChildren
from kit.engine import Lab, in_lab
from kit.stages import Do, Numbers, Seen


class End:
    """Has a child end with a reason."""

    def __init__(self, reason: Any) -> None:
        self.reason = reason


class Job(GenServer):
    """A child: knows its event, ends when told."""

    def init(self, started: list[Any], event: int, answers: dict[int, Any] | None = None) -> Any:
        started.append(event)
        self.event = event
        return (answers or {}).get(event)

    @info
    def end(self, message: End) -> Stop:
        return Stop(message.reason)


class World:
    """A producer and a supervisor of jobs."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.made = Seen()
        self.started: list[int] = []

    async def start(self, restart: Any = "temporary", cls: type = Job, **how: Any) -> World:
        """Start both; ``how`` as in :class:`SubscribeOptions`."""
        self.producer = await self.lab.start(Numbers, self.made)
        flags = {name: how.pop(name) for name in ("max_restarts",) if name in how}
        backoff = how.pop("backoff", None)
        template = ChildSpec("job", cls, (self.started,), restart=restart, backoff=backoff)
        source = (self.producer, SubscribeOptions(**how))
        self.top = await self.lab.start(ConsumerSupervisor, template, [source], kwargs=flags)
        await self.lab.settle()
        return self

    async def children(self) -> list[Any]:
        """Addresses of the running children, oldest first."""
        listing = await self.lab.call(self.top, WhichChildren())
        return [child.address for child in reversed(listing) if child.address is not None]

    async def end(self, number: int, reason: Any = "normal") -> None:
        """End the child at a place of the listing."""
        self.lab.engine.send((await self.children())[number], End(reason), None)
        await self.lab.settle()


def test_one_child_for_each_event() -> None:
    """CSU-03: the event comes behind the template's own arguments; at most max_demand at one time."""

    async def test(lab: Lab) -> None:
        world = await World(lab).start(max_demand=3, min_demand=1)
        assert (world.started, world.made.demand) == ([0, 1, 2], [3])
        counts = await lab.call(world.top, CountChildren())
        assert (counts.specs, counts.active, counts.workers) == (1, 3, 3)

    in_lab(test)


def test_ended_children_are_saved_up() -> None:
    """CSU-04: max_demand first; then one ask when at least min_demand have ended, for all of them."""

    async def test(lab: Lab) -> None:
        world = await World(lab).start(max_demand=4, min_demand=2)
        await world.end(0)
        assert world.made.demand == [4]
        await world.end(0)
        assert (world.made.demand, world.started) == ([4, 2], [0, 1, 2, 3, 4, 5])
        await world.end(0, "broken")
        await lab.call(world.top, TerminateChild((await world.children())[0]))
        await lab.settle()
        assert (world.made.demand, len(await world.children())) == ([4, 2, 2], 4)

    in_lab(test)


def test_a_start_that_fails_or_is_ignored_takes_no_place() -> None:
    """CSU-03: its demand is given back."""

    class Picky(Job):
        def init(self, started: list[Any], event: int, answers: Any = None) -> Any:
            return super().init(started, event, {0: Ignore(), 2: Stop("no")})

    async def test(lab: Lab) -> None:
        world = await World(lab).start(cls=Picky, max_demand=3, min_demand=1)
        assert (world.made.demand, world.started) == ([3, 2], [0, 1, 2, 3, 4])
        assert len(await world.children()) == 3

    in_lab(test)


def test_a_transient_child_is_restarted_in_its_place() -> None:
    """CSU-02, CSU-04: as in a dynamic supervisor, with its event; a restarting child keeps its place."""

    async def test(lab: Lab) -> None:
        world = await World(lab).start("transient", max_demand=2, min_demand=0)
        await world.end(0, "broken")
        assert (world.started, world.made.demand) == ([0, 1, 0], [2])
        assert len(await world.children()) == 2
        await world.end(1)
        assert (world.started[3:], world.made.demand) == ([2], [2, 1])

    in_lab(test)


def test_a_child_that_waits_for_its_restart_keeps_its_place() -> None:
    """CSU-04: restarting children count, also while a back-off delays them."""

    class Once(Job):
        def init(self, started: list[Any], event: int, answers: Any = None) -> Any:
            again = event in started
            super().init(started, event)
            return Ignore() if again else None

    async def test(lab: Lab) -> None:
        world = await World(lab).start("transient", Once, max_demand=1, backoff=Backoff(initial=1.0, jitter=False))
        await world.end(0, "broken")
        assert (world.made.demand, await world.children()) == ([1], [])
        await lab.engine.wait_down(world.top, 2.0)
        assert (world.made.demand, world.started) == ([1, 1], [0, 0, 1])

    in_lab(test)


def test_too_many_restarts_end_it() -> None:
    """CSU-02: the intensity is that of a dynamic supervisor; it exits with shutdown, its children too."""

    async def test(lab: Lab) -> None:
        world = await World(lab).start("transient", max_demand=2, max_restarts=1)
        await world.end(0, "broken")
        await world.end(0, "broken")
        assert await lab.down(world.top) == "shutdown"
        await lab.settle()
        assert [cell.address for cell in lab.engine.cells.values()] == [world.producer]
        assert world.made.cancels == [("down", "shutdown")]

    in_lab(test)


@pytest.mark.parametrize("mode", ["temporary", "permanent"])
def test_the_producers_end(mode: Any) -> None:
    """CSU-05: with a temporary subscription children outlive their producer; else they end with the supervisor."""

    async def test(lab: Lab) -> None:
        world = await World(lab).start(max_demand=2, cancel=mode)
        lab.engine.kill(world.producer)
        await lab.settle()
        if mode == "temporary":
            assert len(await world.children()) == 2
            await world.end(0)
            assert world.top.cell is not None
            assert world.top.cell.instance._places == {}  # nobody is asked for its place
            again = await lab.start(Numbers)
            await lab.call(world.top, Subscribe(again, SubscribeOptions(max_demand=1)))
            await lab.settle()
            assert (world.started, len(await world.children())) == ([0, 1, 0], 2)
        else:
            assert await lab.down(world.top) == "killed"
            assert list(lab.engine.cells) == []

    in_lab(test)


def test_one_template_temporary_or_transient() -> None:
    """CSU-01: any other number, and a permanent one, fail the start; so does a bad flag."""

    async def test(lab: Lab) -> None:
        good = ChildSpec("job", Job, ([],), restart="temporary")
        permanent = ChildSpec("job", Job, ([],))
        for template, reason in (((), ("bad_start_spec", ())), ((good, good), ("bad_start_spec", (good, good)))):
            assert await lab.engine.spawn(ConsumerSupervisor, (template,)) == StartFailed(reason)
        outcome = await lab.engine.spawn(ConsumerSupervisor, (permanent,))
        assert outcome == StartFailed(("start_spec", ("invalid_restart_type", "permanent")))
        bad: Any = await lab.engine.spawn(ConsumerSupervisor, (good,), {"max_restarts": -1})
        assert bad.reason[0] == "supervisor_data"
        assert await lab.engine.spawn(ConsumerSupervisor, (good, ["none"])) == StartFailed("noproc")
        with pytest.raises(SpecError, match="permanent"):
            ConsumerSupervisor.child_spec(template=permanent)
        assert ConsumerSupervisor.child_spec("c", good, ["producer/p"], max_restarts=1).type == "supervisor"

    in_lab(test)


def test_a_call_subscribes_it() -> None:
    """A further producer may be given later; a second subscription of the same one is one more."""

    async def test(lab: Lab) -> None:
        world = await World(lab).start(max_demand=1)
        subscription = await lab.call(world.top, Subscribe(world.producer, SubscribeOptions(max_demand=1)))
        assert subscription.stage == world.producer
        assert await lab.call(world.producer, Do(lambda stage: len(stage.seen.subscriptions))) == 2
        assert len(await world.children()) == 2

    in_lab(test)
