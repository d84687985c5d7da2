"""The keeper: what was declared is alive, or will be tried again."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec, StartChild, child_spec
from dspex.runtime.errors import NoProcess, SpecError, StartError, SupervisorError
from dspex.runtime.gen_server import GenServer, Ignore, Ignored, Started, call, info
from dspex.runtime.messages import ExitSignal
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.keeper import LOOK_AGAIN, Declare, DeclaredSet, Keeper, Undeclare
from dspex.supervisors.messages import ChildInfo, CountChildren, TerminateChild, WhichChild
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import Ask, House, Script, Worker, in_house

BACKOFF = Backoff(initial=1.0, maximum=8.0, reset_after=60.0, jitter=False)


def module(name: str, **options: Any) -> ChildSpec:
    """A supervisor that gives up at the first crash of its worker ``w/<name>``; its own name is ``sup/<name>``."""
    inner = child_spec("w", Worker, name, name=f"w/{name}", **options)
    return Supervisor.child_spec(name, [inner], max_restarts=0, restart="transient", name=f"sup/{name}")


class VaguePool(GenServer):
    """A pool that for ``vague`` looks says of a dead child that it is being restarted, and only then restarts it."""

    trap_exit = True

    def init(self, vague: int) -> None:
        self.vague = vague
        self.looks: list[float] = []

    @call
    async def start_child(self, message: StartChild) -> Started:
        spec: Any = message.spec
        outcome = await self.spawn_link(spec.start, *spec.args, name=spec.name, supervised=False)
        assert isinstance(outcome, Started)
        return outcome

    @call
    async def which_child(self, message: WhichChild) -> ChildInfo:
        self.looks.append(self.clock.monotonic())
        if len(self.looks) <= self.vague:
            return ChildInfo(None, "restarting", None, "worker", "Worker", str(message.child))
        outcome = await self.spawn_link(Worker, "again", name=str(message.child), supervised=False)
        assert isinstance(outcome, Started)
        return ChildInfo(None, "running", outcome.address, "worker", "Worker", str(message.child))

    @call
    def looked(self, message: Ask) -> list[float]:
        return self.looks

    @info
    def ended(self, message: ExitSignal) -> None: ...


def test_a_pool_that_the_name_table_belies_is_looked_at_again() -> None:
    """The pool restarts a member whose name says dead: no change will be told, so the keeper looks until they agree."""

    async def test(house: House) -> None:
        await house.start(VaguePool, 3, name="the/pool")
        await house.start(Keeper, "the/pool", [child_spec("w", Worker, "first", name="w/a")], name="the/keeper")
        assert [each.state for each in await kept(house)] == ["running"]
        await house.tell_to_end("w/a")
        await asyncio.sleep(2.5 * LOOK_AGAIN)
        assert house.state("w/a") == "dead"
        assert [each.state for each in await kept(house)] == ["restarting"]
        await asyncio.sleep(LOOK_AGAIN)
        assert [each.state for each in await kept(house)] == ["running"]
        assert await house.call("w/a", Ask()) == ("again",)
        looks = await house.call("the/pool", Ask())
        assert [later - earlier for earlier, later in pairwise(looks)] == pytest.approx([LOOK_AGAIN] * 3)
        await asyncio.sleep(60.0)
        assert len(await house.call("the/pool", Ask())) == 4

    in_house(test)


async def start_pool_and_keeper(house: House, declared: Any) -> None:
    """As in the standard tree: rest_for_one, the pool first."""
    children = [
        DynamicSupervisor.child_spec("pool", name="the/pool"),
        child_spec("keeper", Keeper, "the/pool", declared, kwargs={"backoff": BACKOFF}, name="the/keeper"),
    ]
    await house.start(Supervisor, children, strategy="rest_for_one", max_restarts=10)
    await house.call("the/keeper", DeclaredSet())


async def give_up(house: House, name: str) -> None:
    """Have a module's worker crash, and wait until the module's supervisor has given up."""
    supervisor = house.address(f"sup/{name}")
    await house.tell_to_end(f"w/{name}", "bug")
    await house.engine.wait_down(supervisor, None)


async def kept(house: House) -> list[Any]:
    """The declared set."""
    return list(await house.call("the/keeper", DeclaredSet()))


def test_the_declared_set_is_started() -> None:
    """At its own start a keeper starts what was declared, in order."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [module("a"), module("b")])
        assert await house.call("w/a", Ask()) == ("a",)
        assert [(each.name, each.state, each.failures) for each in await kept(house)] == [
            ("sup/a", "running", 0),
            ("sup/b", "running", 0),
        ]

    in_house(test)


def test_the_declared_set_may_come_from_a_function() -> None:
    """A function is given the keeper, and may be async."""

    async def test(house: House) -> None:
        async def declared(keeper: Keeper) -> list[ChildSpec]:
            assert keeper.name == "the/keeper"
            return [module("a")]

        await start_pool_and_keeper(house, declared)
        assert await house.call("w/a", Ask()) == ("a",)

    in_house(test)


def test_one_that_gave_up_is_dead_and_tried_again_later() -> None:
    """A member that tripped is dead with its reason; the pool and the others go on; after the delay it is back."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [module("a"), module("b")])
        pool = house.address("the/pool")
        began = house.now()
        await give_up(house, "a")
        await asyncio.sleep(0.5)
        [a, b] = await kept(house)
        assert (a.state, a.failures, a.reason, a.next_try) == ("waiting", 1, "shutdown", pytest.approx(0.5))
        assert (b.state, house.state("sup/a"), house.address("the/pool")) == ("running", "dead", pool)
        with pytest.raises(NoProcess) as caught:
            await house.call("w/a", Ask())
        assert caught.value.reason == "bug"
        await asyncio.sleep(0.6)
        assert await house.call("w/a", Ask()) == ("a",)
        assert house.now() - began == pytest.approx(1.1)

    in_house(test)


def test_delays_grow_and_are_forgotten_after_a_good_run() -> None:
    """1, 2, 4 s while it keeps failing; 1 s again after it ran long enough."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [module("a")])
        delays = []
        for run in (0.0, 0.0, 0.0, 70.0):
            await asyncio.sleep(run)
            await give_up(house, "a")
            [member] = await kept(house)
            delays.append(member.next_try)
            await asyncio.sleep(member.next_try + 0.01)
        assert delays == pytest.approx([1.0, 2.0, 4.0, 1.0])

    in_house(test)


def test_a_start_that_fails_is_tried_again() -> None:
    """A member that does not start at boot does not hold up the others, and is tried until it starts."""

    async def test(house: House) -> None:
        script = Script("no disk", "no disk", None)
        await start_pool_and_keeper(house, [module("a", kwargs={"script": script}), module("b")])
        [a, b] = await kept(house)
        assert (a.state, b.state) == ("waiting", "running")
        assert a.reason == ("shutdown", ("failed_to_start_child", "w", "no disk"))
        await asyncio.sleep(3.1)
        assert (script.attempts, (await kept(house))[0].state) == (3, "running")

    in_house(test)


def test_what_the_pool_restarts_is_left_to_the_pool() -> None:
    """A member that crashes (abnormally) is restarted by the pool; the keeper follows it to its new address."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [child_spec("p", Worker, "p", name="w/p")])
        await house.tell_to_end("w/p")
        assert await house.call("w/p", Ask()) == ("p",)
        [member] = await kept(house)
        assert (member.state, member.failures) == ("running", 0)
        await house.tell_to_end("w/p")
        await house.call("w/p", Ask())
        assert (await house.call("the/pool", CountChildren())).active == 1

    in_house(test)


def test_what_the_pool_gives_up_while_it_restarts_is_tried_again() -> None:
    """A member whose restart the pool is told to forget is dead for the keeper, which tries it again later."""

    async def test(house: House) -> None:
        spec = child_spec("p", Worker, "p", name="w/p", backoff=Backoff(initial=5.0, jitter=False))
        await start_pool_and_keeper(house, [spec])
        await house.tell_to_end("w/p")
        assert (await kept(house))[0].state == "restarting"
        await house.call("the/pool", TerminateChild("w/p"))
        assert (await kept(house))[0].state == "waiting"
        await asyncio.sleep(1.1)
        assert (await kept(house))[0].state == "running"

    in_house(test)


def test_it_waits_while_the_pool_delays_a_restart() -> None:
    """A member with a back-off of its own is restarting, not dead; nothing is started twice."""

    async def test(house: House) -> None:
        spec = child_spec("p", Worker, "p", name="w/p", backoff=Backoff(initial=5.0, jitter=False))
        await start_pool_and_keeper(house, [spec])
        await house.tell_to_end("w/p")
        assert (await kept(house))[0].state == "restarting"
        handled = house.address("the/keeper").cell.handled
        await asyncio.sleep(4.9)
        assert house.address("the/keeper").cell.handled == handled  # it is told, it does not ask again and again
        await asyncio.sleep(0.2)
        assert (await kept(house))[0].state == "running"
        assert (await house.call("the/pool", CountChildren())).specs == 1

    in_house(test)


def test_a_restarted_keeper_finds_what_runs() -> None:
    """The keeper crashes: members that run are found, not started twice, and watched again."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [module("a")])
        before = house.address("w/a")
        keeper = house.address("the/keeper")
        house.engine.kill(keeper)
        [member] = await kept(house)
        assert (member.state, house.address("w/a")) == ("running", before)
        await give_up(house, "a")
        await asyncio.sleep(1.1)
        assert await house.call("w/a", Ask()) == ("a",)

    in_house(test)


def test_a_restarted_pool_gets_the_declared_set_back() -> None:
    """The pool is killed: rest_for_one restarts the keeper, which starts everything again."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [module("a"), module("b")])
        orphan = house.address("w/b")
        house.engine.kill("the/pool")
        await house.engine.wait_down(orphan, None)
        await kept(house)
        await asyncio.sleep(1.1)
        assert await house.call("w/a", Ask()) == ("a",)
        assert await house.call("w/b", Ask()) == ("b",)

    in_house(test)


def test_declare_starts_and_keeps() -> None:
    """Declare answers with the start; from then on the child is kept."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [])
        started = await house.call("the/keeper", Declare(module("a")))
        assert started.address == house.address("sup/a")
        await give_up(house, "a")
        await asyncio.sleep(1.1)
        assert await house.call("w/a", Ask()) == ("a",)

    in_house(test)


def test_a_failed_first_start_is_not_declared() -> None:
    """Declare raises why it did not start; nothing is kept, nothing is tried again."""

    async def test(house: House) -> None:
        script = Script("boom", None)
        await start_pool_and_keeper(house, [])
        with pytest.raises(StartError):
            await house.call("the/keeper", Declare(module("a", kwargs={"script": script})))
        await asyncio.sleep(60.0)
        assert (await kept(house), script.attempts) == ([], 1)

    in_house(test)


def test_declaring_what_waits_tries_it_at_once() -> None:
    """A member that waits for its next try is tried now, by the new spec; if that fails the old one goes on waiting."""

    async def test(house: House) -> None:
        script = Script("no disk", "still none", None)
        await start_pool_and_keeper(house, [module("a", kwargs={"script": script})])
        began = house.now()
        with pytest.raises(StartError):
            await house.call("the/keeper", Declare(module("a", kwargs={"script": script})))
        [a] = await kept(house)
        assert (a.state, script.attempts) == ("waiting", 2)
        started = await house.call("the/keeper", Declare(module("a", kwargs={"script": script})))
        assert started.address == house.address("sup/a")
        [a] = await kept(house)
        assert (a.state, a.next_try, house.now()) == ("running", None, began)
        await asyncio.sleep(60.0)
        assert script.attempts == 3

    in_house(test)


def test_declarations_are_refused_when_they_make_no_sense() -> None:
    """A name twice, no name at all, a name somebody else has, an unknown one undeclared."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [module("a")])
        await house.start(Worker, "stranger", name="sup/x")
        with pytest.raises(SupervisorError) as twice:
            await house.call("the/keeper", Declare(module("a")))
        assert twice.value.reason == "already_present"
        with pytest.raises(SpecError):
            await house.call("the/keeper", Declare(ChildSpec("n", Worker)))
        with pytest.raises(StartError):
            await house.call("the/keeper", Declare(module("x")))
        with pytest.raises(SupervisorError) as unknown:
            await house.call("the/keeper", Undeclare("sup/q"))
        assert unknown.value.reason == "not_found"
        assert len(await kept(house)) == 1

    in_house(test)


def test_undeclare_stops_and_forgets() -> None:
    """The child stops, its name is gone, and it does not come back; also while it waits for its next try."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [module("a"), module("b")])
        await house.call("the/keeper", Undeclare("sup/a"))
        await give_up(house, "b")
        await house.call("the/keeper", Undeclare("sup/b"))
        await asyncio.sleep(60.0)
        assert (house.state("sup/a"), house.state("sup/b"), await kept(house)) == ("unknown", "unknown", [])
        assert (await house.call("the/pool", CountChildren())).specs == 0

    in_house(test)


def test_an_ignored_member_is_left_alone() -> None:
    """Ignore is a successful start without a process: no tries follow."""

    async def test(house: House) -> None:
        script = Script(Ignore())
        await start_pool_and_keeper(house, [])
        spec = child_spec("i", Worker, name="w/i", kwargs={"script": script})
        assert await house.call("the/keeper", Declare(spec)) == Ignored()
        await asyncio.sleep(60.0)
        assert (script.attempts, (await kept(house))[0].state) == (1, "ignored")

    in_house(test)


def test_a_name_that_somebody_else_holds_is_waited_for() -> None:
    """At boot a member whose name a stranger has is not taken for its own; it starts once the name is free."""

    async def test(house: House) -> None:
        stranger = await house.start(Worker, "stranger", name="sup/a")
        await start_pool_and_keeper(house, [module("a")])
        assert (await kept(house))[0].state == "waiting"
        house.engine.kill(stranger)
        await asyncio.sleep(3.1)
        assert (await kept(house))[0].state == "running"

    in_house(test)


def test_a_child_started_past_the_keeper_is_not_kept() -> None:
    """Only what was declared is kept: other children of the pool are nobody's."""

    async def test(house: House) -> None:
        await start_pool_and_keeper(house, [])
        await house.call("the/pool", StartChild(module("a")))
        await house.tell_to_end("w/a")
        await asyncio.sleep(60.0)
        assert house.state("sup/a") == "dead"

    in_house(test)
