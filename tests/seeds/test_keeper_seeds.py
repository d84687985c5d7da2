"""A keeper under many seeds: whatever it learns first, in the end it knows what the pool made of its members."""

from __future__ import annotations

import random

from dspex.runtime.child_spec import child_spec
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.keeper import DeclaredSet, Keeper
from dspex.supervisors.supervisor import Supervisor
from kit.seeds import under_many_seeds
from kit.supervision import End, Script, Worker


@under_many_seeds
def test_a_keeper_misses_no_restart(seed: int) -> None:
    """Members end, and fail to restart a few times: the keeper has them running when they run."""
    lots = random.Random(f"keeper {seed}")
    with VirtualSystem(seed) as system:
        scripts = {key: Script(None, *["no"] * lots.randint(0, 3), None) for key in "abcd"}
        declared = [
            child_spec(key, Worker, key, kwargs={"script": script}, name=f"w/{key}") for key, script in scripts.items()
        ]
        pool = DynamicSupervisor.child_spec("pool", name="s/pool", max_restarts=1_000)
        keeper = child_spec("keeper", Keeper, "s/pool", declared, name="s/keeper")
        system.spawn(Supervisor, [pool, keeper], strategy="rest_for_one")
        system.call("s/keeper", DeclaredSet())
        before = {key: system.address(f"w/{key}") for key in scripts}
        for key in lots.sample("abcd", 3):
            system.engine.cast(f"w/{key}", End("boom"))
        system.advance(1.0)
        kept = system.call("s/keeper", DeclaredSet())
        assert [(each.name, each.state) for each in kept] == [(f"w/{key}", "running") for key in scripts]
        assert sum(system.address(f"w/{key}") != before[key] for key in scripts) == 3
