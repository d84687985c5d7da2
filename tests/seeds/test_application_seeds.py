"""The standard tree under many seeds, from its first message on: it boots, takes blows, comes back, and stops."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import dspex
from dspex import ChildSpec, Continue, GenServer, call
from dspex.actors.testing.scripted_provider import Rule, ScriptedProvider
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.app import names
from kit.seeds import under_many_seeds

PROVIDERS = ("left", "right")
MODULES = ("a", "b", "c")
CHILDREN = ("x", "y", "z")
PARTS = (
    *(names.CORE, names.EVENTS, names.CONFIG, names.REGISTRY, names.TELEMETRY),
    *(names.PROVIDERS, names.PROVIDER_POOL, names.PROVIDER_KEEPER, "provider/left", "supervisor/provider/right"),
    *(names.MODULES, names.MODULE_POOL, names.MODULE_KEEPER, "module/a", "supervisor/module/b"),
    *("user/x", names.CHILDREN),
)
CONFIG: dict[str, Any] = {
    "events": {"in_memory": True},
    "ai": {
        "providers": {
            name: {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "default_model": "m"} for name in PROVIDERS
        }
    },
    "modules": {
        name: {"signature": "question -> answer", "provider": PROVIDERS[number % 2]}
        for number, name in enumerate(MODULES)
    },
}


@dataclass(frozen=True)
class Who:
    """Who is there?"""


class Clumsy(GenServer):
    """May fall over right after its start, once."""

    def init(self, falls: list[bool]) -> Continue:
        return Continue(falls.pop() if falls else False)

    def handle_continue(self, value: bool) -> None:
        if value:
            raise RuntimeError("clumsy")

    @call
    def who(self, message: Who) -> str | None:
        return self.name


def clumsy(lots: random.Random) -> list[ChildSpec]:
    """The user's own children; some fall at the start, but not so often that their supervisor gives up."""
    return [ChildSpec(name, Clumsy, ([lots.random() < 0.4],), name=f"user/{name}") for name in CHILDREN]


@under_many_seeds
def test_the_standard_tree_boots_and_comes_back_whole(seed: int) -> None:
    """Whatever runs first: after the start all that is declared runs and answers, and after blows it does again."""
    lots = random.Random(f"application {seed}")
    script = ScriptedProvider(Rule("[[ ## answer ## ]]\nShakespeare\n\n[[ ## completed ## ]]"))
    expected = [*(f"provider/{each}" for each in PROVIDERS), *(f"module/{each}" for each in MODULES), *PARTS]
    with script.instead_of_http(), VirtualSystem(seed) as system:
        app = system.start(dspex.astart, config=CONFIG, children=clumsy(lots))
        whole(system, app, expected)
        tree = system.tree()
        for _ in range(4):
            for victim in lots.sample(PARTS, 2):
                if system.engine.alive(victim):
                    system.engine.kill(victim, lots.choice(("kill", "boom")))
            system.advance(lots.random() * 0.01)
        system.advance(120.0)
        whole(system, app, expected)
        assert sorted(system.tree().splitlines()) == sorted(tree.splitlines())


def whole(system: VirtualSystem, app: dspex.AsyncApp, expected: list[str]) -> None:
    """All that is declared runs and answers."""
    system.settle()
    assert {name: system.state(name) for name in expected} == dict.fromkeys(expected, "running")
    assert [system.call(f"user/{name}", Who()) for name in CHILDREN] == [f"user/{name}" for name in CHILDREN]
    for name in MODULES:
        answer = system.run(app.module(name)(question="Who wrote Hamlet?"))
        assert answer.answer == "Shakespeare"
    assert system.run(app.health()).ok
