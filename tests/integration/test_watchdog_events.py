"""What the engine's watchdog finds is in the event log of an application."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.actors.events.kinds import EngineReport
from dspex.runtime.errors import CallTimeout
from dspex.runtime.testing import VirtualSystem
from kit.application import IN_MEMORY


@dataclass(frozen=True)
class Visit:
    """Call this one, after a while."""

    other: str


class Visitor(GenServer):
    """Calls another one in its handler."""

    @call
    async def visit(self, message: Visit) -> None:
        await asyncio.sleep(0.1)
        if message.other:
            try:
                await self.call(message.other, Visit(""), timeout=60.0)
            except CallTimeout:
                return


def visitors() -> list[ChildSpec]:
    """Two of them."""
    return [ChildSpec(name, Visitor, name=f"a/{name}") for name in ("a", "b")]


def test_a_deadlock_and_the_handlers_in_it_are_events() -> None:
    """Who waits for whom, by what, and for how long is in the log, and so is each handler that does not end."""
    with VirtualSystem() as system:
        app = system.start(dspex.astart, config=IN_MEMORY, children=visitors(), watch=1.0)
        for name, other in (("a/a", "a/b"), ("a/b", "a/a")):
            system.loop.create_task(system.engine.call_async(name, Visit(other), None))
        system.advance(40.0)
        found = [each for each in system.run(app.events.query()).events if isinstance(each, EngineReport)]
        reports = sorted((each.kind, each.actors, each.messages) for each in found)
        assert reports == [
            ("deadlock", ("a/a", "a/b"), ("Visit", "Visit")),
            ("stuck_handler", ("a/a",), ("Visit",)),
            ("stuck_handler", ("a/b",), ("Visit",)),
        ]
        (left,) = (each.seconds for each in found if each.kind == "deadlock")
        assert left is not None
        assert 58.0 < left < 60.0


def test_an_application_watches_unless_time_is_a_tests_own() -> None:
    """A started application looks every second; in virtual time it does so only if asked to."""

    def looks(engine: Any) -> bool:
        return any(timer.owner is engine.watchdog for timer in engine.timers.pending())

    with dspex.start(config=IN_MEMORY) as app:
        assert app.engine.on_engine(looks, app.engine)
    with VirtualSystem() as system:
        assert not looks(system.start(dspex.astart, config=IN_MEMORY).engine)
