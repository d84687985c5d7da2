"""Supervision under many seeds: random trees and histories, and what happens when much happens at once."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from dspex.runtime.child_spec import ChildSpec, StartChild
from dspex.runtime.errors import Error
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.messages import CountChildren, TerminateChild, WhichChildren
from dspex.supervisors.supervisor import Supervisor
from kit.seeds import under_many_seeds
from kit.supervision import End
from kit.supervision_twin import Member, Twin, World, grow, step

STEPS = 40


@under_many_seeds
def test_a_random_tree_lives_as_its_model_does(seed: int) -> None:
    """Whatever is done to a tree, what runs, in which incarnation and order, and who trips is as the model says."""
    lots = random.Random(f"tree {seed}")
    with VirtualSystem(seed) as system:
        twin = Twin(system, grow(lots))
        for _ in range(STEPS):
            step(twin, lots)


def members(world: World, keys: str, **options: Any) -> list[ChildSpec]:
    """Workers named after their keys."""
    return [ChildSpec(key, Member, (key, world), name=f"w/{key}", **options) for key in keys]


def never_two_at_once(world: World) -> None:
    """Each worker stopped before it started again."""
    alive: Counter[str] = Counter()
    for word, key in world.log:
        alive[key] += {"start": 1, "stop": -1}.get(word, 0)
        assert alive[key] in (0, 1), f"{key} in {world.log}"


@under_many_seeds
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_many_ends_at_once_leave_a_whole_tree(seed: int, strategy: str) -> None:
    """Workers that end together come back, each once, while start_child and terminate_child go on."""
    lots, world = random.Random(f"storm {seed}"), World()
    with VirtualSystem(seed) as system:
        options: dict[str, Any] = {"strategy": strategy, "max_restarts": 1_000}
        system.spawn(Supervisor, members(world, "abcdef"), name="s/top", **options)
        for _ in range(3):
            for key in lots.sample("abcdef", 3):
                system.engine.cast(f"w/{key}", End(lots.choice(("boom", "normal"))))
            world.plans[lots.choice("abcdef")] = ["failed"] * lots.randint(0, 2)
            system.engine.cast(f"w/{lots.choice('abcdef')}", End("late"))
            assert system.call("s/top", CountChildren(), timeout=None).specs == 6
        system.settle()
        rows = system.call("s/top", WhichChildren(), timeout=None)
        assert [(row.id, row.state) for row in reversed(rows)] == [(key, "running") for key in "abcdef"]
        assert [system.state(f"w/{key}") for key in "abcdef"] == ["running"] * 6
        assert {row.address for row in rows} == {each for _, each in world.started if system.engine.alive(each)}
        never_two_at_once(world)


@under_many_seeds
def test_a_dynamic_supervisor_loses_nobody(seed: int) -> None:
    """Children start, end and are terminated by several callers at once: every call is answered, the counts agree."""
    lots, world = random.Random(f"pool {seed}"), World()
    with VirtualSystem(seed) as system:
        system.spawn(DynamicSupervisor, name="s/pool", max_restarts=1_000)
        keys = [f"k{number}" for number in range(12)]
        restarts = {key: lots.choice(("permanent", "transient", "temporary")) for key in keys}

        async def caller(key: str) -> str:
            spec = ChildSpec(key, Member, (key, world), name=f"w/{key}", restart=restarts[key])  # type: ignore[arg-type]
            await system.engine.call_async("s/pool", StartChild(spec), None)
            if lots.random() < 0.6:
                system.engine.cast(f"w/{key}", End("boom"))
            if lots.random() < 0.5:
                return "kept"
            try:
                await system.engine.call_async("s/pool", TerminateChild(f"w/{key}"), None)
            except Error as error:
                return str(error.facts["reason"])
            return "terminated"

        tasks = [system.loop.create_task(caller(key)) for key in keys]
        fates = dict(zip(keys, [system.run(task) for task in tasks], strict=True))
        assert set(fates.values()) <= {"kept", "terminated", "not_found"}
        system.settle()
        running = [row.name for row in system.call("s/pool", WhichChildren(), timeout=None)]
        assert len(set(running)) == len(running)
        assert {f"w/{key}" for key in keys if system.state(f"w/{key}") == "running"} == set(running)
        for key, fate in fates.items():
            if fate != "kept":
                assert f"w/{key}" not in running
                assert fate == "terminated" or restarts[key] == "temporary"
            elif restarts[key] != "temporary":
                assert f"w/{key}" in running
        never_two_at_once(world)
