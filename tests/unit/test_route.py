"""The route actor: the next provider answers when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.actors.configuration.actor import ConfigurationActor
from dspex.actors.configuration.messages import UpdateSetting
from dspex.actors.configuration.provider_settings import RouteSettings
from dspex.actors.configuration.settings import Settings
from dspex.actors.events.kinds import LmFallback
from dspex.actors.lm.failures import lm_error
from dspex.actors.lm.values import Attempt, LMRequest, LMResponse, Message, Usage
from dspex.actors.providers.messages import (
    Ask,
    Complete,
    OpenStream,
    ProviderStatus,
    ProviderStatusReport,
    StreamOpened,
)
from dspex.actors.providers.route import FALLBACK, RouteActor
from dspex.runtime.errors import (
    CallTimeout,
    ConfigError,
    Error,
    LMAuthError,
    LMCircuitOpen,
    LMConnectionError,
    LMInvalidRequest,
    LMRateLimited,
    LMTimeout,
    NoProcess,
    StartError,
)
from dspex.runtime.gen_server import GenServer, NoReply, call
from dspex.runtime.reasons import Crash
from dspex.runtime.testing import VirtualSystem
from kit.providers import Notebook

REQUEST = LMRequest((Message("user", "Hi"),))


@dataclass
class Script:
    """What a provider does, and what it was asked.

    Attributes:
        answer: a text, or the row of a failure, or what makes either of the question; None: it hangs.
        seconds: how long that takes.
    """

    answer: Any = "Hello"
    seconds: float = 0.0
    facts: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.asked: list[Ask] = []
        self.cancelled = 0


class Provider(GenServer):
    """Answers by its script."""

    def init(self, id: str, script: Script) -> None:
        self.id, self.script = id, script

    @call
    def ask(self, msg: Complete | OpenStream) -> NoReply:
        self.script.asked.append(msg)
        return self.serve(self._answer(msg))

    async def _answer(self, msg: Complete | OpenStream) -> Any:
        script = self.script
        try:
            await asyncio.sleep(script.seconds)
            answer = script.answer(msg) if callable(script.answer) else script.answer
            if answer is None:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            script.cancelled += 1
            raise
        if isinstance(answer, Error):
            raise answer
        if answer.startswith("!"):
            facts = {"attempts": (Attempt(1, 500, 0.1, None, answer[1:], provider=self.id),), **(script.facts or {})}
            raise lm_error(answer[1:], "no", **facts)
        if isinstance(msg, OpenStream):
            return StreamOpened(self.myAddress, self.id)
        attempt = Attempt(1, 200, 0.1, provider=self.id)
        return LMResponse(text=answer, model="m", provider=self.id, usage=Usage(1, 2, 3), attempts=(attempt,))


class World:
    """A route over scripted providers."""

    def __init__(self, system: VirtualSystem) -> None:
        self.system = system
        self.scripts: dict[str, Script] = {}
        self.events: list[Any] = []
        self.announced: list[Mapping[str, Any]] = []
        for name in ("core/events", "core/registry"):
            system.spawn(Notebook, self.events, self.announced, name=name)

    def providers(self, **scripts: Script) -> None:
        """Start providers."""
        for id, script in scripts.items():
            self.scripts[id] = script
            self.system.spawn(Provider, id, script, name=f"provider/{id}")

    def route(self, *targets: Any, id: str = "r", **fields: Any) -> None:
        """Start a route."""
        self.system.spawn(RouteActor, id, settings=settings(*targets, **fields), name=f"provider/{id}")

    def ask(self, message: Any = None, *, timeout: float = 60.0, id: str = "r") -> Any:
        """Ask the route."""
        return self.system.call(f"provider/{id}", message or Complete(REQUEST), timeout=timeout)

    def fails(self, message: Any = None, *, timeout: float = 60.0) -> Any:
        """Ask the route; the error that must come."""
        with pytest.raises(Error) as caught:
            self.ask(message, timeout=timeout)
        return caught.value

    def asked(self, id: str) -> int:
        """How often a provider was asked."""
        return len(self.scripts[id].asked)


def settings(*targets: Any, **fields: Any) -> RouteSettings:
    """Settings of a route, by default over a and b."""
    tables = [{"provider": target} if isinstance(target, str) else target for target in targets or ("a", "b")]
    return RouteSettings.model_validate({"targets": tables} | fields)


@pytest.fixture
def world() -> Iterator[World]:
    """Virtual time, a notebook for events and announcements."""
    with VirtualSystem(seed=1) as system:
        yield World(system)


# -- answers ---------------------------------------------------------------------------------------


def test_the_first_answers(world: World) -> None:
    """Nobody else is asked, and what is asked is passed on as it is."""
    world.providers(a=Script("from a"), b=Script("from b"))
    world.route()
    message = Complete(REQUEST, accounts=("module/qa",), cache=False, rollout="3")
    answer = world.ask(message)
    assert (answer.text, answer.provider) == ("from a", "a")
    (got,) = world.scripts["a"].asked
    assert (got.request, got.accounts, got.cache, got.rollout) == (REQUEST, ("module/qa",), False, "3")
    assert world.asked("b") == 0


def test_the_next_answers_if_one_fails(world: World) -> None:
    """The attempts of both are in the answer; the hop is an event and telemetry."""
    world.providers(a=Script("!server"), b=Script("from b"))
    world.route()
    world.system.record(FALLBACK)
    answer = world.ask()
    assert answer.text == "from b"
    assert [(attempt.provider, attempt.error_code) for attempt in answer.attempts] == [("a", "server"), ("b", None)]
    world.system.settle()
    (event,) = [event for event in world.events if isinstance(event, LmFallback)]
    assert (event.route, event.from_provider, event.to_provider, event.code) == ("r", "a", "b", "lm_server_error")
    world.system.expect_event(FALLBACK, route="r", provider="a", to_provider="b", code="lm_server_error")


def test_all_fail(world: World) -> None:
    """The last error, with all who were tried and all attempts."""
    world.providers(a=Script("!server"), b=Script("!auth"))
    world.route()
    error = world.fails()
    assert isinstance(error, LMAuthError)
    assert (error.route, error.tried, error.codes) == ("r", ("a", "b"), ("lm_server_error", "lm_auth"))
    assert [attempt.provider for attempt in error.attempts] == ["a", "b"]


def test_a_request_that_no_provider_would_take_is_not_passed_on(world: World) -> None:
    """Unless that is asked for."""
    world.providers(a=Script("!invalid"), b=Script("from b"))
    world.route()
    world.route(id="s", fallback_on=["invalid"])
    error = world.fails()
    assert isinstance(error, LMInvalidRequest)
    assert error.tried == ("a",)
    assert world.ask(id="s").text == "from b"


def test_each_target_may_have_its_model(world: World) -> None:
    """Without one the request's own is asked for."""
    world.providers(a=Script("!server"), b=Script("from b"))
    world.route("a", {"provider": "b", "model": "big"})
    world.ask(Complete(LMRequest((Message("user", "Hi"),), model="small")))
    assert [world.scripts[id].asked[0].request.model for id in "ab"] == ["small", "big"]


def test_a_stream_falls_back_before_its_first_chunk(world: World) -> None:
    """Whoever opens it is named."""
    world.providers(a=Script("!overloaded"), b=Script("x"))
    world.route()
    opened = world.ask(OpenStream(REQUEST))
    assert isinstance(opened, StreamOpened)
    assert opened.provider == "b"


# -- providers that are not there ------------------------------------------------------------------


def test_a_provider_that_does_not_exist(world: World) -> None:
    """It is passed over; if there is no other the call says so, with the route."""
    world.providers(b=Script("from b"))
    world.route()
    world.route("nobody", id="s")
    assert world.ask().text == "from b"
    with pytest.raises(NoProcess) as caught:
        world.ask(id="s")
    assert caught.value.route == "s"
    assert world.ask(ProviderStatus(), id="s").health == "failing"


def test_a_provider_that_restarts_is_not_waited_for(world: World) -> None:
    """Unless there is no other: then the request waits for it."""
    world.providers(a=Script("from a"), b=Script("from b"))
    world.route()
    world.system.kill("provider/a")
    world.system.engine.names.set_state("provider/a", "restarting")
    assert world.ask().text == "from b"
    assert world.system.engine.now() == pytest.approx(1000.0)
    world.scripts["b"].answer = "!server"
    world.route("b", "a", id="s")

    async def run() -> Any:
        asked = asyncio.ensure_future(world.system.engine.call_async("provider/s", Complete(REQUEST), 60))
        await asyncio.sleep(1)
        await world.system.engine.spawn(Provider, ("a", Script("again")), {}, name="provider/a")
        return await asked

    assert world.system.run(run()).text == "again"


def test_a_provider_that_dies_with_the_request(world: World) -> None:
    """The next one is asked."""

    def die(msg: Ask) -> str:
        raise RuntimeError("broken")

    world.providers(a=Script(die), b=Script("from b"))
    world.route()
    assert world.ask().text == "from b"


def test_a_closed_provider_is_skipped(world: World) -> None:
    """After it said that its breaker is open it is asked last, until the time that it named is over."""
    world.providers(a=Script("!circuit_open", facts={"retry_after": 30.0}), b=Script("from b"))
    world.route()
    assert world.ask().text == "from b"
    assert world.ask().text == "from b"
    assert world.asked("a") == 1
    world.scripts["b"].answer = "!server"
    assert isinstance(world.fails(), LMCircuitOpen)
    assert world.asked("a") == 2
    world.scripts["a"].answer, world.scripts["b"].answer = "from a", "from b"
    world.system.advance(31)
    assert world.ask().text == "from a"


# -- limits and time -------------------------------------------------------------------------------


def limited(asked: Ask) -> str:
    """A provider without room for those who do not wait."""
    return "!limit" if asked.on_limit == "fail" else "after a wait"


def test_nobody_waits_for_room_while_another_has_some(world: World) -> None:
    """All are asked without a wait first; then the first that had no room, with one."""
    world.providers(a=Script(limited), b=Script("from b"))
    world.route()
    assert world.ask().text == "from b"
    world.scripts["b"].answer = "!server"
    answer = world.ask()
    assert (answer.text, answer.provider) == ("after a wait", "a")
    assert [attempt.provider for attempt in answer.attempts] == ["a", "b", "a"]


def test_who_does_not_want_to_wait_does_not(world: World) -> None:
    """The caller's word goes before; so does a route that is not to fall back on limits."""
    world.providers(a=Script(limited), b=Script(limited))
    world.route()
    world.route(id="s", fallback_on=["unavailable"])
    error = world.fails(Complete(REQUEST, on_limit="fail"))
    assert isinstance(error, LMRateLimited)
    assert error.tried == ("a", "b")
    assert world.ask(id="s").provider == "a"


def test_a_single_target_is_waited_for(world: World) -> None:
    """There is no other: the provider's own settings hold."""
    world.providers(a=Script(limited))
    world.route("a")
    assert world.ask().text == "after a wait"
    assert world.asked("a") == 1


def test_the_callers_deadline_holds_over_all(world: World) -> None:
    """The second gets what is left of it; when it is over the caller hears so, and nothing goes on."""
    world.providers(a=Script("!timeout", seconds=6.0), b=Script(None))
    world.route()
    with pytest.raises(CallTimeout):
        world.ask(timeout=10.0)
    assert world.system.engine.now() == pytest.approx(1010.0)
    world.system.settle()
    assert world.scripts["b"].cancelled == 1
    report = world.ask(ProviderStatus())
    assert (report.in_flight, report.errors) == (0, {"cancelled": 1})


def test_the_callers_own_time_is_nobodys_failure(world: World) -> None:
    """A provider that says that the caller's time is up: the next would have none either."""
    world.providers(a=Script("!deadline"), b=Script("from b"))
    world.route()
    assert isinstance(world.fails(), LMTimeout)
    assert world.asked("b") == 0


def test_giving_up_cancels_what_is_in_flight(world: World) -> None:
    """Down to the provider's request."""
    world.providers(a=Script(None))
    world.route()

    async def run() -> None:
        asked = asyncio.ensure_future(world.system.engine.call_async("provider/r", Complete(REQUEST), 60))
        await asyncio.sleep(1)
        asked.cancel()
        await asyncio.sleep(1)

    world.system.run(run())
    assert world.scripts["a"].cancelled == 1


# -- strategies ------------------------------------------------------------------------------------


def test_weights_share_the_requests(world: World) -> None:
    """By the engine's random numbers."""
    world.providers(a=Script("a"), b=Script("b"))
    world.route({"provider": "a", "weight": 3}, {"provider": "b", "weight": 1}, strategy="weight")
    for _ in range(200):
        world.ask()
    assert 120 < world.asked("a") < 180
    assert world.asked("a") + world.asked("b") == 200


def test_the_fastest_is_asked_first(world: World) -> None:
    """After each was tried once; one that begins to fail is left."""
    world.providers(a=Script("a", seconds=2.0), b=Script("b", seconds=0.5))
    world.route(strategy="latency")
    assert [world.ask().provider for _ in range(5)] == ["a", "b", "b", "b", "b"]
    world.scripts["b"].answer = "!server"
    assert [world.ask().provider for _ in range(3)] == ["a", "a", "a"]
    assert world.asked("b") == 5


def test_an_answer_from_the_cache_says_nothing_about_time(world: World) -> None:
    """Or a provider whose answers are kept would seem the fastest."""

    class Cached(Provider):
        async def _answer(self, msg: Complete | OpenStream) -> Any:
            return LMResponse(text="kept", model="m", provider="a", cache_hit=True)

    world.system.spawn(Cached, "a", Script(), name="provider/a")
    world.providers(b=Script("b", seconds=1.0))
    world.route(strategy="latency")
    assert [world.ask().text for _ in range(3)] == ["kept", "kept", "kept"]
    assert world.asked("b") == 0  # a stays the one to be tried


# -- routes over routes, settings, status ----------------------------------------------------------


def test_a_route_may_name_a_route(world: World) -> None:
    """Its failures fall back as a provider's do; all attempts are joined."""
    world.providers(a=Script("!server"), b=Script("!connection"), c=Script("from c"))
    world.route("a", "b", id="inner")
    world.route("inner", "c")
    answer = world.ask()
    assert answer.text == "from c"
    assert [attempt.provider for attempt in answer.attempts] == ["a", "b", "c"]
    world.scripts["c"].answer = "!connection"
    error = world.fails()
    assert isinstance(error, LMConnectionError)
    assert (error.route, error.tried) == ("r", ("inner", "c"))


def configured(world: World, **routes: Any) -> None:
    """Start a configuration with these routes."""
    found = {id: {"targets": [{"provider": target} for target in targets]} for id, targets in routes.items()}
    whole = Settings.model_validate({"ai": {"routes": found}})
    world.system.spawn(ConfigurationActor, whole, name="core/config")


def refusal(start: Callable[[], object]) -> str:
    """Why something does not start."""
    with pytest.raises(StartError) as caught:
        start()
    assert isinstance(caught.value.reason, Crash)
    assert isinstance(caught.value.reason.error, ConfigError)
    return str(caught.value.reason.error)


def test_a_route_that_leads_back_to_itself_is_refused(world: World) -> None:
    """At its start, with the way."""
    configured(world, r=["a", "s"], s=["r"])
    said = refusal(lambda: world.system.spawn(RouteActor, "r", name="provider/r"))
    assert "r -> s -> r" in said
    said = refusal(lambda: world.route("r", "a"))
    assert "r -> r" in said


def test_an_unknown_route_is_refused(world: World) -> None:
    """With the one that was meant."""
    configured(world, fast=["a"])
    said = refusal(lambda: world.system.spawn(RouteActor, "fats", name="provider/fats"))
    assert "did you mean 'fast'" in said


def test_settings_change_while_it_runs(world: World) -> None:
    """New requests go the new way; a circle made later is told to callers until it is gone, as is a lost route."""
    world.providers(a=Script("from a"), b=Script("from b"))
    configured(world, r=["a"], s=["b"])
    world.system.spawn(RouteActor, "r", name="provider/r")
    assert world.ask().text == "from a"

    def put(path: tuple[str, ...], value: Any) -> None:
        world.system.call("core/config", UpdateSetting(path, value))
        world.system.settle()

    put(("ai", "routes", "r"), {"targets": [{"provider": "b"}]})
    assert world.ask().text == "from b"
    put(("ai", "routes", "r"), {"targets": [{"provider": "s"}]})
    put(("ai", "routes", "s"), {"targets": [{"provider": "r"}]})
    error = world.fails()
    assert isinstance(error, ConfigError)
    assert "r -> s -> r" in str(error)
    assert world.ask(ProviderStatus()).health == "misconfigured"
    put(("ai", "routes", "s"), {"targets": [{"provider": "a"}]})
    world.route("a", id="s")
    assert world.ask().text == "from a"


def test_its_status_is_a_providers(world: World) -> None:
    """Requests, answers, failures and tokens; the registry hears of it as a route."""
    world.providers(a=Script("from a"), b=Script("!server"))
    world.route()
    world.ask()
    world.scripts["a"].answer = "!server"
    world.fails()
    report = world.ask(ProviderStatus())
    assert isinstance(report, ProviderStatusReport)
    assert (report.provider, report.kind, report.health) == ("r", "route", "failing")
    assert (report.requests, report.responses, report.errors) == (2, 1, {"lm_server_error": 1})
    assert (report.input_tokens, report.output_tokens, report.in_flight) == (1, 2, 0)
    world.system.advance(1)
    last = world.announced[-1]
    assert (last["type"], last["targets"], last["requests"]) == ("route", ["a", "b"], 2)
