"""For tests of modules: a predict module with what stands around it, and a provider that answers by script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from dspex.actors.events.kinds import Event, ModuleExecution
from dspex.actors.events.store import Append
from dspex.actors.lm.values import Attempt, LMRequest, LMResponse, Usage
from dspex.actors.modules.actor import ModuleActor
from dspex.actors.modules.messages import ModuleInfo, ModuleStatus, Predict
from dspex.actors.modules.prediction import Prediction
from dspex.actors.providers.messages import Complete
from dspex.actors.registry.messages import Announce
from dspex.actors.runs.messages import Recall, Record
from dspex.runtime.context import Context
from dspex.runtime.gen_server import GenServer, NoReply, call, cast
from kit.supervision import House, in_house

USAGE = Usage(10, 5, 15, None, "provider")
PARIS = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"


def response(text: str = PARIS, **more: Any) -> LMResponse:
    """A model's answer."""
    facts = {"finish_reason": "stop", "usage": USAGE, "provider": "local", "attempts": (Attempt(1, 200, 0.1),)}
    return LMResponse(text=text, model="m-1", **{**facts, **more})


class FakeProvider(GenServer):
    """Answers by script, each after ``delay`` virtual seconds; remembers what it was asked, and what was given up."""

    def init(self, script: Iterable[Any] = (), delay: float = 0.0) -> None:
        self.script = list(script)
        self.delay = delay
        self.requests: list[LMRequest] = []
        self.asks: list[Complete] = []
        self.contexts: list[Context] = []
        self.busy = self.most = self.cancelled = 0

    @call
    def complete(self, msg: Complete) -> NoReply:
        self.requests.append(msg.request)
        self.asks.append(msg)
        self.contexts.append(self.context)
        return self.serve(self.answer(self.script.pop(0) if self.script else response()))

    async def answer(self, outcome: Any) -> Any:
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.busy -= 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Notebook(GenServer):
    """Stands in for the event store and the registry."""

    def init(self) -> None:
        self.events: list[Event] = []
        self.announced: list[Mapping[str, Any]] = []

    @cast
    def append(self, msg: Append) -> None:
        self.events.extend(msg.events)

    @cast
    def announce(self, msg: Announce) -> None:
        self.announced.append(msg.metadata)


class Journal(GenServer):
    """Stands in for a run's journal."""

    def init(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    @call
    def recall(self, msg: Recall) -> str | None:
        return self.kept.get((msg.kind, msg.key))

    @call
    def record(self, msg: Record) -> None:
        self.kept.update({(entry.kind, entry.key): entry.value for entry in msg.entries})


class Scene:
    """A module with everything around it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.telemetry: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        names = [("dspex", "module", what) for what in ("start", "stop", "exception")]
        house.engine.telemetry.attach_many("scene", names, self.heard)

    def heard(self, event: Any, measured: Mapping[str, Any], facts: Mapping[str, Any], _: Any) -> None:
        self.telemetry.append((event[-1], dict(measured), dict(facts)))

    async def actor(self, cls: type[GenServer], name: str, *args: Any, **kwargs: Any) -> Any:
        """Start an actor and give its object, to look at."""
        address = await self.house.start(cls, *args, name=name, **kwargs)
        return address.cell.instance

    async def stand(self, *script: Any, delay: float = 0.0) -> None:
        """Start what is around the module."""
        self.book: Notebook = await self.actor(Notebook, "core/events")
        self.registry: Notebook = await self.actor(Notebook, "core/registry")
        self.provider: FakeProvider = await self.actor(FakeProvider, "provider/local", script, delay)

    async def module(self, signature: Any = "question -> answer", **settings: Any) -> None:
        """Start the module."""
        settings = {"signature": signature, "provider": "local", **settings}
        self.qa: ModuleActor = await self.actor(ModuleActor, "module/qa", **settings)

    async def ask(
        self, options: Any = None, timeout: float | None = None, context: Context | None = None, **inputs: Any
    ) -> Prediction:
        """Predict."""
        message = Predict(inputs or {"question": "Where?"}, options or {})
        answer = await self.house.engine.outside.call_async("module/qa", message, timeout=timeout, context=context)
        assert isinstance(answer, Prediction)
        return answer

    async def status(self) -> ModuleStatus:
        """What the module says of itself."""
        status = await self.house.call("module/qa", ModuleInfo())
        assert isinstance(status, ModuleStatus)
        return status

    @property
    def executions(self) -> list[ModuleExecution]:
        """The events so far."""
        return [event for event in self.book.events if isinstance(event, ModuleExecution)]


def play(*script: Any, delay: float = 0.0, **settings: Any) -> Callable[[Callable[[Scene], Awaitable[None]]], None]:
    """Run a coroutine with a module whose provider answers by script."""

    def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
        async def test(house: House) -> None:
            scene = Scene(house)
            await scene.stand(*script, delay=delay)
            await scene.module(**settings)
            await scenario(scene)

        in_house(test)

    return run


async def gather(*calls: Awaitable[Any]) -> list[Any]:
    """All outcomes, errors as values."""
    return await asyncio.gather(*calls, return_exceptions=True)
