"""Names below a supervisor that is stopped only to be started again: who calls them waits for their return."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec, StartChild, child_spec
from dspex.runtime.errors import NoProcess
from dspex.runtime.names import Change, NameEntry
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.keeper import DeclaredSet, Keeper
from dspex.supervisors.messages import TerminateChild, WhichChildren
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import Ask, House, Worker, in_house


def worker(name: str, **options: Any) -> ChildSpec:
    """A worker with a registered name ``w/<id>``."""
    return child_spec(name, Worker, name, **{"name": f"w/{name}", **options})


def states(house: House, name: str) -> list[str]:
    """The states that a name has from now on."""
    seen: list[str] = []

    def note(entry: NameEntry, change: Change) -> None:
        if entry.name == name and change in ("bound", "state"):
            seen.append(entry.state)

    house.engine.names.subscribe(note)
    return seen


async def start(house: House, *right: ChildSpec, strategy: str = "rest_for_one") -> None:
    """A supervisor ``s/top`` with a worker ``left``, and right of it what depends on that."""
    await house.start(Supervisor, [worker("left"), *right], strategy=strategy, name="s/top")


async def upset(house: House, name: str) -> asyncio.Task[Any]:
    """Have the left worker end; a call that is made as soon as that reaches this name."""
    await house.tell_to_end("w/left")
    while house.state(name) == "running":  # noqa: ASYNC110 - until that very moment
        await asyncio.sleep(0)
    return asyncio.ensure_future(house.call(name, Ask(), timeout=5.0))


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
def test_below_a_static_supervisor_names_are_restarting(strategy: str) -> None:
    """However deep: restarting, starting, running, and never dead; a temporary child does not come back."""

    async def test(house: House) -> None:
        inner = Supervisor.child_spec("inner", [worker("a"), worker("t", restart="temporary")])
        await start(house, Supervisor.child_spec("outer", [inner]), strategy=strategy)
        seen, gone = states(house, "w/a"), states(house, "w/t")
        assert await (await upset(house, "w/a")) == ("a",)
        await house.call("s/top", WhichChildren())  # behind the restart
        assert list(dict.fromkeys(seen)) == ["restarting", "starting", "running"]
        assert gone == ["stopping", "dead", "starting", "running"]

    in_house(test)


def test_below_a_pool_that_nobody_fills_again_they_end_with_its_return() -> None:
    """Children of a dynamic supervisor are gone with it (SUP-39): their callers are told as soon as it is back."""

    async def test(house: House) -> None:
        await start(house, DynamicSupervisor.child_spec("pool", name="s/pool"))
        await house.call("s/pool", StartChild(worker("a", shutdown=1.0)))
        seen = states(house, "w/a")
        waiting = await upset(house, "w/a")
        with pytest.raises(NoProcess):
            await waiting
        assert list(dict.fromkeys(seen)) == ["restarting", "dead"]

    in_house(test)


def test_below_a_pool_that_is_kept_they_wait_for_the_keeper() -> None:
    """What the keeper starts again was never dead; what is no longer declared is dead when it is through."""
    declared = [worker("a"), worker("b")]

    async def ask(keeper: Keeper) -> list[ChildSpec]:
        await asyncio.sleep(1.0)
        return declared

    async def test(house: House) -> None:
        pool = DynamicSupervisor.child_spec("pool", name="s/pool")
        await start(house, pool, child_spec("keeper", Keeper, "s/pool", ask, name="s/keeper"))
        await house.call("s/keeper", DeclaredSet())
        del declared[1]
        stays, goes = states(house, "w/a"), states(house, "w/b")
        waiting = await upset(house, "w/b")
        assert await house.call("w/a", Ask()) == ("a",)
        with pytest.raises(NoProcess):
            await waiting
        assert list(dict.fromkeys(stays)) == ["restarting", "starting", "running"]
        assert list(dict.fromkeys(goes)) == ["restarting", "dead"]

    in_house(test)


def test_who_is_stopped_for_good_is_dead() -> None:
    """terminate_child of a supervisor and its end with the application leave dead names at once."""

    async def test(house: House) -> None:
        await start(house, Supervisor.child_spec("inner", [worker("a")]))
        seen = states(house, "w/a")
        await house.call("s/top", TerminateChild("inner"))
        assert seen == ["stopping", "dead"]

    in_house(test)
