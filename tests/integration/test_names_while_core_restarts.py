"""While what stands left of them restarts, providers and modules are restarting, and who calls them waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import dspex
from dspex.actors.testing.scripted_provider import Rule, ScriptedProvider
from dspex.runtime.names import Change, NameEntry
from dspex.runtime.testing import VirtualSystem
from dspex.supervisors.app import names

CONFIG: dict[str, Any] = {
    "events": {"in_memory": True},
    "ai": {
        "providers": {
            name: {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "default_model": "m"} for name in ("p", "q")
        }
    },
    "modules": {name: {"signature": "question -> answer", "provider": "p"} for name in ("a", "b")},
}
WATCHED = ("provider/p", "provider/q", "module/a", "module/b", "supervisor/module/a", "supervisor/provider/q")
ANSWER = Rule("[[ ## answer ## ]]\nShakespeare\n\n[[ ## completed ## ]]")


async def ask(app: dspex.AsyncApp) -> str:
    """Call a module by name."""
    answer: str = (await app.module("a")(question="Who wrote Hamlet?")).answer
    return answer


@pytest.mark.parametrize(
    ("victim", "reach"),
    [
        (names.CORE, "all"),
        (names.EVENTS, "nobody"),
        (names.PROVIDERS, "all"),
        (names.MODULE_POOL, "modules"),
        (names.MODULES, "modules"),
        (names.MODULE_KEEPER, "nobody"),
    ],
)
def test_what_is_rebuilt_is_never_dead(victim: str, reach: str) -> None:
    """From the blow until it runs again each name is restarting or starting; a call made meanwhile is answered."""
    with ScriptedProvider(ANSWER).instead_of_http(), VirtualSystem(seed=4) as system:
        app = system.start(dspex.astart, config=CONFIG)
        before = {name: system.address(name) for name in WATCHED}
        asked: list[asyncio.Task[str]] = []
        seen: dict[str, set[str]] = {name: set() for name in WATCHED}

        def note(entry: NameEntry, change: Change) -> None:
            if entry.name in seen and change in ("state", "bound"):
                seen[entry.name].add(entry.state)
                if entry.name == "module/a" and entry.state == "restarting":
                    asked.append(system.loop.create_task(ask(app)))

        system.engine.names.subscribe(note)
        system.engine.kill(victim)
        system.advance(5.0)
        assert all(system.run(each) == "Shakespeare" for each in asked)
        assert bool(asked) == (reach != "nobody")
        assert set().union(*seen.values()) <= {"restarting", "starting", "running"}
        assert {system.state(name) for name in WATCHED} == {"running"}
        moved = [name for name in WATCHED if seen[name]]
        expected = {"nobody": [], "modules": [each for each in WATCHED if "module" in each]}.get(reach, list(WATCHED))
        assert moved == expected
        assert [name for name in WATCHED if system.address(name) != before[name]] == moved
