"""The cache and a route around real provider actors, whose network alone is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dspex.actors.budgets.actor import BudgetActor
from dspex.actors.cache.actor import NAME, CacheActor, CacheStatus
from dspex.actors.configuration.actor import ConfigurationActor
from dspex.actors.configuration.settings import Settings
from dspex.actors.lm.values import LMRequest, Message
from dspex.actors.protection.actor import ProtectionActor
from dspex.actors.providers.actor import ProviderActor
from dspex.actors.providers.messages import Complete
from dspex.actors.providers.route import RouteActor
from dspex.actors.testing.scripted_provider import Hang, Rule, ScriptedProvider, rate_limited, server_error
from dspex.runtime.testing import VirtualSystem

LOCAL = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "default_model": "m", "retry_attempts": 1}


class Town:
    """Two providers, a route over both, and the cache; each provider has a script for its network."""

    def __init__(self, system: VirtualSystem) -> None:
        self.system = system
        self.scripts = {id: ScriptedProvider() for id in "ab"}
        route = {"targets": [{"provider": "a"}, {"provider": "b"}]}
        ai = {"providers": {"a": LOCAL, "b": LOCAL}, "routes": {"r": route}}
        system.spawn(ConfigurationActor, Settings.model_validate({"ai": ai}), name="core/config")
        system.spawn(BudgetActor, name="core/budgets")
        system.spawn(CacheActor, name=NAME)
        for id, script in self.scripts.items():
            system.spawn(ProtectionActor, id, name=f"protection/{id}")
            system.spawn(ProviderActor, id, transport=script.transport, name=f"provider/{id}")
        system.spawn(RouteActor, "r", name="provider/r")

    def sent(self) -> tuple[int, int]:
        """Requests on the wire, to a and to b."""
        return len(self.scripts["a"].requests), len(self.scripts["b"].requests)

    def ask(self, text: str = "Hi", *, name: str = "provider/r", timeout: float = 20.0, **fields: Any) -> Any:
        """Ask the route."""
        return self.system.run(self.asking(text, name=name, timeout=timeout, **fields))

    async def asking(self, text: str = "Hi", *, name: str = "provider/r", timeout: float = 20.0, **fields: Any) -> Any:
        """The same, as a coroutine."""
        ask = Complete(LMRequest((Message("user", text),)), **fields)
        return await self.system.engine.call_async(name, ask, timeout)


@pytest.fixture
def town() -> Iterator[Town]:
    """In virtual time."""
    with VirtualSystem(seed=3) as system:
        yield Town(system)


def test_a_second_request_is_free(town: Town) -> None:
    """The same answer, nothing sent, nothing counted; another rollout and a caller who wants none ask anew."""
    town.scripts["a"].add(Rule("from a"))
    first, again = town.ask(), town.ask()
    assert (first.text, first.cache_hit, first.usage.total_tokens) == ("from a", False, 15)
    assert (again.text, again.cache_hit, again.usage.total_tokens, again.attempts) == ("from a", True, 0, ())
    assert town.sent() == (1, 0)
    town.ask(rollout="1")
    town.ask(cache=False)
    assert town.sent() == (3, 0)


def test_equal_requests_at_once_are_sent_once(town: Town) -> None:
    """All callers get the one answer."""
    town.scripts["a"].add(Rule("from a", delay=1.0))

    async def run() -> list[Any]:
        return await asyncio.gather(*(town.asking() for _ in range(10)))

    assert {answer.text for answer in town.system.run(run())} == {"from a"}
    assert town.sent() == (1, 0)


def test_a_leader_that_gives_up_leaves_the_request_to_the_next(town: Town) -> None:
    """Its request is cancelled, and a waiter sends one of its own."""
    town.scripts["a"].add(Rule(Hang(), times=1), Rule("from a"))

    async def run() -> Any:
        leader = asyncio.ensure_future(town.asking())
        await asyncio.sleep(1)
        waiter = asyncio.ensure_future(town.asking())
        await asyncio.sleep(1)
        leader.cancel()
        return await waiter

    assert town.system.run(run()).text == "from a"
    assert (town.sent(), town.scripts["a"].cancelled) == ((2, 0), 1)


def test_a_provider_killed_in_flight(town: Town) -> None:
    """The route asks the other provider, and no look-up is left waiting."""
    town.scripts["a"].add(Rule(Hang()))
    town.scripts["b"].add(Rule("from b"))

    async def run() -> Any:
        asked = [asyncio.ensure_future(town.asking()) for _ in range(3)]
        await asyncio.sleep(1)
        town.system.engine.kill("provider/a")
        return await asyncio.gather(*asked)

    assert [answer.text for answer in town.system.run(run())] == ["from b"] * 3
    town.system.settle()
    report = town.system.call(NAME, CacheStatus())
    assert (report.in_work, report.waiting) == (0, 0)


def test_failures_are_not_kept_and_fall_back(town: Town) -> None:
    """Both providers' attempts are in the answer; the provider that failed is asked again next time."""
    town.scripts["a"].add(Rule(server_error(), times=1), Rule(rate_limited(), times=1), Rule("from a"))
    town.scripts["b"].add(Rule("from b"))
    answer = town.ask()
    assert (answer.text, answer.provider) == ("from b", "b")
    assert [(attempt.provider, attempt.status) for attempt in answer.attempts] == [("a", 500), ("b", 200)]
    assert town.sent() == (1, 1)
    town.ask("more")
    assert town.sent() == (2, 2)
