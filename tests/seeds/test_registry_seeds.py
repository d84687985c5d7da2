"""The registry under many seeds: rivals for a key, owners that end, readers who wait."""

from __future__ import annotations

import random

from dspex.runtime.errors import AlreadyRegistered
from dspex.runtime.gen_server import Fail, GenServer, call
from dspex.runtime.registry import CountEntries, Lookup, Registry, RegistryClient, WaitForKey
from dspex.runtime.testing import VirtualSystem
from kit.seeds import under_many_seeds

REGISTRY = "registry/test"
RIVALS = range(6)


class Rival(GenServer):
    """Registers itself when told."""

    def init(self) -> None:
        self.registry = RegistryClient(self, REGISTRY)

    @call
    async def take(self, key: str) -> str | Fail:
        try:
            await self.registry.register(key)
        except AlreadyRegistered as error:
            return Fail(error)
        return key


@under_many_seeds
def test_a_unique_key_has_one_owner_whoever_comes_first(seed: int) -> None:
    """Of rivals that ask at once one wins, the others are told who; with its end the key goes to the next."""
    lots = random.Random(f"rivals {seed}")
    with VirtualSystem(seed) as system:
        system.spawn(Registry, "unique", name=REGISTRY)
        rivals = [system.spawn(Rival) for _ in RIVALS]
        while rivals:
            asked = [system.loop.create_task(system.engine.call_async(each, "key")) for each in rivals]
            winners, told = list[int](), list[object]()
            for number, task in enumerate(asked):
                try:
                    system.run(task)
                except AlreadyRegistered as error:
                    told.append(error.holder)
                else:
                    winners.append(number)
            assert len(winners) == 1
            winner = rivals.pop(winners[0])
            assert told == [winner] * len(rivals)
            assert [owner for owner, _ in system.call(REGISTRY, Lookup("key"))] == [winner]
            system.kill(winner, lots.choice(("kill", "boom")))
            assert system.call(REGISTRY, CountEntries()) == 0


@under_many_seeds
def test_entries_go_with_their_owners_and_waiters_see_the_next(seed: int) -> None:
    """Owners of many keys end while others register and wait: at the end exactly the living ones are there."""
    lots = random.Random(f"owners {seed}")
    with VirtualSystem(seed) as system:
        system.spawn(Registry, "duplicate", name=REGISTRY)
        owners = [system.spawn(Rival) for _ in RIVALS]
        waiting = system.loop.create_task(system.engine.call_async(REGISTRY, WaitForKey("late"), None))
        held = [(owner, key) for owner in owners for key in lots.sample("abcd", 2)]
        asked = [system.loop.create_task(system.engine.call_async(owner, key)) for owner, key in held]
        doomed = lots.sample(owners, 3)
        for task in asked:
            system.run(task)
        for owner in doomed:
            system.engine.kill(owner, lots.choice(("kill", "shutdown")))
        last = next(owner for owner in owners if owner not in doomed)
        system.call(last, "late")
        assert [owner for owner, _ in system.run(waiting)] == [last]
        system.settle()
        left = [(owner, key) for owner, key in [*held, (last, "late")] if owner not in doomed]
        assert system.call(REGISTRY, CountEntries()) == len(left)
        for key in ("a", "b", "c", "d", "late"):
            found = {owner for owner, _ in system.call(REGISTRY, Lookup(key))}
            assert found == {owner for owner, its in left if its == key}
