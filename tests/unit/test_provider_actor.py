"""The provider actor, with a network that does as told and time that takes none."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from typing import Any, TypeVar

import pytest

from dspex.actors.budgets.actor import BudgetActor
from dspex.actors.configuration.actor import (
    ConfigChanged,
    ConfigurationActor,
    DeclareProvider,
    UndeclareProvider,
    UpdateSetting,
)
from dspex.actors.configuration.messages import GetSettings, SubscribeSettings
from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.configuration.settings import Settings
from dspex.actors.events.kinds import Event, LmError, LmRequest, LmResponse
from dspex.actors.http.transport import Transport
from dspex.actors.lm.values import Attempt
from dspex.actors.protection.actor import ProtectionActor
from dspex.actors.providers.actor import ProviderActor
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.context import Context
from dspex.runtime.errors import (
    ActorDied,
    CallTimeout,
    ConfigError,
    LMAuthError,
    LMConnectionError,
    LMInvalidRequest,
    LMProtocolError,
    LMRateLimited,
    LMTimeout,
)
from dspex.runtime.gen_server import GenServer, NoReply, Started, StartFailed, call
from dspex.runtime.messages import GetState
from dspex.runtime.reasons import Crash
from dspex.supervisors.supervisor import Supervisor
from kit.http_server import completion
from kit.providers import LOCAL, FakeTransport, World, bad, in_world, ok, settings

E = TypeVar("E", bound=Event)
KEY = "no-known-shape/of+key=0123456789"
TRACE = Context("a" * 32, "b" * 16, None, "ann")


def of(world: World, cls: type[E]) -> list[E]:
    """The events of one type."""
    return [event for event in world.events if isinstance(event, cls)]


async def in_flight(world: World, **fields: Any) -> asyncio.Task[Any]:
    """Start a request that waits on the network."""
    world.net.gate.clear()
    world.net.sent.clear()
    task = asyncio.ensure_future(world.complete(**fields))
    await world.net.sent.wait()
    return task


# -- answers ---------------------------------------------------------------------------------------


def test_a_request_is_answered() -> None:
    """The answer names the provider, the request id and its one attempt."""

    async def run(world: World) -> None:
        await world.provider()
        answer = await world.complete("Hello", temperature=0)
        assert (answer.text, answer.provider, answer.request_id) == ("Hello", "p", "req-1")
        assert answer.attempts == (Attempt(1, 200, 0.0, "req-1", None, provider="p"),)
        assert json.loads(world.net.requests[0].body) == {
            "model": "m",
            "messages": [{"role": "user", "content": "Hello"}],
            "temperature": 0,
        }

    in_world(run)


def test_the_mailbox_does_not_wait_for_the_network() -> None:
    """While requests are in flight others are taken up and status is answered."""

    async def run(world: World) -> None:
        await world.provider()
        tasks = [await in_flight(world) for _ in range(20)]
        report = await world.status()
        assert (report.in_flight, report.requests, report.responses) == (20, 20, 0)
        world.net.gate.set()
        assert [answer.text for answer in await asyncio.gather(*tasks)] == ["Hello"] * 20
        report = await world.status()
        assert (report.in_flight, report.responses, report.input_tokens, report.output_tokens) == (0, 20, 220, 60)

    in_world(run)


def test_a_failed_request_is_a_reply() -> None:
    """The caller gets a typed error with its facts, the actor lives on, and the error pickles."""

    async def run(world: World) -> None:
        address = await world.provider()
        world.net.answer = lambda request: bad(429, retry_after="7", x_request_id="r9")
        with pytest.raises(LMRateLimited) as caught:
            await world.complete()
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.provider, error.model, error.status, error.retry_after) == ("p", "m", 429, 7.0)
        assert (error.request_id, error.failure, error.retryable) == ("r9", "rate", True)
        assert error.attempts == (Attempt(1, 429, 0.0, "r9", "lm_rate_limited", provider="p"),)
        assert world.engine.alive(address)
        world.net.answer = lambda request: ok()
        assert (await world.complete()).text == "Hello"

    in_world(run)


def test_an_answer_that_is_none_is_a_protocol_error() -> None:
    """A success status without a completion is LMProtocolError, recorded with its status."""

    async def run(world: World) -> None:
        await world.provider()
        world.net.answer = lambda request: ok(choices=[])
        with pytest.raises(LMProtocolError) as caught:
            await world.complete()
        assert caught.value.attempts[0].status == 200

    in_world(run)


def test_a_request_without_a_model_is_refused_unsent() -> None:
    """No model anywhere: LMInvalidRequest, and nothing goes out; a request's own model is used."""

    async def run(world: World) -> None:
        await world.provider(default_model=None)
        with pytest.raises(LMInvalidRequest, match="default_model"):
            await world.complete()
        assert world.net.requests == []
        await world.complete(model="mine")
        assert json.loads(world.net.requests[0].body)["model"] == "mine"

    in_world(run)


def test_a_bug_crashes_the_actor() -> None:
    """What is no LM failure is a crash: callers in flight hear of it, connections are closed."""

    async def run(world: World) -> None:
        address = await world.provider()
        other = await in_flight(world)

        def bug(request: Any) -> Any:
            raise RuntimeError("bug")

        world.net.answer = bug
        world.net.gate.set()
        with pytest.raises(ActorDied):
            await other
        down, reason = await world.engine.wait_down(address, 5.0)
        assert down
        assert isinstance(reason, Crash)
        await world.settle()
        assert world.net.closed == 1

    in_world(run)


# -- time ------------------------------------------------------------------------------------------


def test_the_providers_timeout() -> None:
    """After the provider's own timeout: LMTimeout that counts against the provider."""

    async def run(world: World) -> None:
        await world.provider(timeout=7.0)
        world.net.gate.clear()
        began = world.engine.now()
        with pytest.raises(LMTimeout) as caught:
            await world.complete(timeout=60.0)
        assert world.engine.now() - began == pytest.approx(7.0)
        assert (caught.value.failure, caught.value.retryable) == ("timeout", True)
        assert caught.value.attempts[0].seconds == pytest.approx(7.0)
        assert (await world.status()).health == "failing"

    in_world(run)


def test_the_callers_deadline() -> None:
    """A caller with less time hears from the provider just before its own deadline; the provider is not to blame."""

    async def run(world: World) -> None:
        await world.provider(timeout=7.0)
        world.net.gate.clear()
        began = world.engine.now()
        with pytest.raises(LMTimeout) as caught:
            await world.complete(timeout=2.0)
        assert 1.9 < world.engine.now() - began < 2.0
        assert (caught.value.failure, caught.value.retryable, caught.value.provider) == ("deadline", False, "p")
        assert (await world.status()).health == "ready"

    in_world(run)


def test_a_deadline_too_near_for_an_answer() -> None:
    """With hardly any time left the request ends with the caller's deadline, and typed."""

    async def run(world: World) -> None:
        await world.provider()
        world.net.gate.clear()
        with pytest.raises((CallTimeout, LMTimeout)):
            await world.complete(timeout=0.001)
        await world.settle()
        assert (await world.status()).in_flight == 0

    in_world(run)


def test_a_caller_that_gives_up_ends_the_request() -> None:
    """Cancelling the call cancels the request; it is noted as cancelled, and says nothing about the provider."""

    async def run(world: World) -> None:
        await world.provider()
        task = await in_flight(world)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await world.settle()
        assert world.net.cancelled == 1
        report = await world.status()
        assert (report.in_flight, dict(report.errors), report.health) == (0, {"cancelled": 1}, "ready")
        (event,) = of(world, LmError)
        assert (event.code, event.attempts) == ("cancelled", 1)

    in_world(run)


def test_a_killed_actor_ends_its_requests() -> None:
    """After a kill the requests are cancelled and the connections closed."""

    async def run(world: World) -> None:
        address = await world.provider()
        task = await in_flight(world)
        assert world.engine.kill(address)
        with pytest.raises(ActorDied):
            await task
        await world.settle()
        assert (world.net.cancelled, world.net.closed) == (1, 1)

    in_world(run)


# -- secrets ---------------------------------------------------------------------------------------


def test_the_key_is_read_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing variable is LMAuthError and nothing is sent; once it is set requests go out, without a restart."""

    async def run(world: World) -> None:
        await world.provider(api_key={"system": "F_TEST_KEY"})
        with pytest.raises(LMAuthError, match="F_TEST_KEY"):
            await world.complete()
        assert world.net.requests == []
        assert (await world.status()).health == "misconfigured"
        monkeypatch.setenv("F_TEST_KEY", KEY)
        await world.complete()
        assert world.net.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert (await world.status()).health == "ready"

    monkeypatch.delenv("F_TEST_KEY", raising=False)
    in_world(run)


def test_the_real_provider_needs_a_key() -> None:
    """Without any key configured nothing goes to the provider's own address."""

    async def run(world: World) -> None:
        await world.provider(base_url="https://api.openai.com/v1")
        with pytest.raises(LMAuthError, match="api_key"):
            await world.complete()
        assert world.net.requests == []

    in_world(run)


@pytest.mark.parametrize("secret", ["line\nsecret-part", "s\N{LATIN SMALL LETTER E WITH ACUTE}cret-part"])
def test_a_key_that_cannot_be_sent_is_an_auth_error(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a line end or other characters in it: LMAuthError that does not show it."""
    monkeypatch.setenv("F_TEST_KEY", secret)

    async def run(world: World) -> None:
        await world.provider(api_key={"system": "F_TEST_KEY"})
        with pytest.raises(LMAuthError) as caught:
            await world.complete()
        assert "cret-part" not in "".join(traceback.format_exception(caught.value))

    in_world(run)


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: bad(401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}),
        lambda request: bad(400, {"error": f"headers were {dict(request.headers)}"}),
        lambda request: bad(500, [f"{KEY}"]),
        lambda request: ok(choices=[], echo=KEY),
        lambda request: ok(error={"message": KEY}, choices=[]),
        lambda request: ok(),
    ],
    ids=["401", "400", "500", "no choices", "error in 200", "good"],
)
def test_secrets_reach_nothing(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A server that echoes key and headers puts them in no error, event, metric, announcement, state, status or log."""
    caplog.set_level(logging.DEBUG)
    header = "gateway-secret-987"

    async def run(world: World) -> str:
        address = await world.provider(api_key=KEY, headers={"x-gateway": header}, capture_prompts=True)
        world.net.answer = answer
        shown: list[Any] = []
        try:
            shown.append(await world.complete())
        except Exception as error:
            shown += [*traceback.format_exception(error), repr(error), error.facts]  # type: ignore[attr-defined]
        await asyncio.sleep(1)
        shown += [event.model_dump_json() for event in world.events]
        shown += [world.telemetry, world.announcements, await world.status()]
        shown += [await world.engine.outside.call_async(address, GetState(), timeout=5.0)]
        return repr(shown)

    shown = in_world(run) + caplog.text
    assert KEY not in shown
    assert header not in shown
    assert "'p'" in shown


# -- events and telemetry --------------------------------------------------------------------------


def test_a_request_leaves_two_events() -> None:
    """lm_request and lm_response share a new span below the caller's, in its trace, for its user."""

    async def run(world: World) -> None:
        await world.provider()
        await world.complete("1234", context=TRACE)
        await world.settle()
        (asked,), (answered,) = of(world, LmRequest), of(world, LmResponse)
        for event in (asked, answered):
            assert (event.trace_id, event.parent_id, event.user) == (TRACE.trace_id, TRACE.span_id, "ann")
            assert event.source == "provider/p"
        assert asked.span_id == answered.span_id != TRACE.span_id
        assert (asked.provider, asked.model, asked.prompt_tokens, asked.messages) == ("p", "m", 2, None)
        assert len(asked.prompt_hash) == 64
        assert answered.request_event_id == asked.id
        assert (answered.model, answered.finish_reason, answered.attempts) == ("test-model", "stop", 1)
        assert (answered.input_tokens, answered.output_tokens, answered.total_tokens) == (11, 3, 14)
        assert (answered.usage_source, answered.cost, answered.cache_hit) == ("provider", None, False)

    in_world(run)


def test_two_requests_have_two_spans() -> None:
    """Requests in flight at once do not take each other's context."""

    async def run(world: World) -> None:
        await world.provider()
        contexts = [Context(str(number) * 32, "b" * 16) for number in range(3)]
        tasks = [await in_flight(world, context=context) for context in contexts]
        world.net.gate.set()
        await asyncio.gather(*tasks)
        await world.settle()
        assert [event.trace_id for event in of(world, LmRequest)] == [context.trace_id for context in contexts]
        spans = {event.trace_id: event.span_id for event in of(world, LmRequest)}
        assert {event.trace_id: event.span_id for event in of(world, LmResponse)} == spans
        assert len(set(spans.values())) == 3

    in_world(run)


def test_prompts_are_kept_only_if_asked() -> None:
    """With capture_prompts the messages stand in the event, whatever characters they hold."""

    async def run(world: World) -> None:
        await world.provider(capture_prompts=True)
        await world.complete("caf\N{LATIN SMALL LETTER E WITH ACUTE} \ud800")
        await world.settle()
        (asked,) = of(world, LmRequest)
        said = "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{REPLACEMENT CHARACTER}"
        assert asked.messages == ({"role": "user", "content": said},)
        asked.model_dump_json()

    in_world(run)


def test_a_failure_leaves_an_event() -> None:
    """lm_error says code, status, wait and attempts."""

    async def run(world: World) -> None:
        await world.provider()
        world.net.answer = lambda request: bad(429, retry_after="7")
        with pytest.raises(LMRateLimited):
            await world.complete(context=TRACE)
        await world.settle()
        (asked,), (failed,) = of(world, LmRequest), of(world, LmError)
        assert (failed.request_event_id, failed.trace_id) == (asked.id, TRACE.trace_id)
        assert (failed.code, failed.status, failed.retry_after, failed.attempts) == ("lm_rate_limited", 429, 7.0, 1)

    in_world(run)


def test_telemetry_of_a_success() -> None:
    """Start and stop, with tokens as the provider counted them."""

    async def run(world: World) -> None:
        await world.provider()
        await world.complete()
        (start, _, facts), (stop, measured, more) = world.telemetry
        assert (start, stop) == ("start", "stop")
        assert (facts["provider"], facts["model"], facts["kind"], facts["base_url"]) == ("p", "m", "openai", LOCAL)
        counts = {"attempts": 1, "input_tokens": 11, "output_tokens": 3, "total_tokens": 14}
        assert measured == {"duration": 0.0, "waited": 0.0, **counts}
        assert (more["provider"], more["model"], more["finish_reason"]) == ("p", "m", "stop")

    in_world(run)


def test_unknown_usage_is_not_zero() -> None:
    """Without usage no tokens are measured, the event says unknown, the status counts it."""

    async def run(world: World) -> None:
        await world.provider()
        world.net.answer = lambda request: ok(usage=None)
        assert (await world.complete()).usage.input_tokens is None
        await world.settle()
        (answered,) = of(world, LmResponse)
        assert (answered.input_tokens, answered.usage_source) == (None, "unknown")
        assert set(world.telemetry[-1][1]) == {"duration", "waited", "attempts"}
        assert (await world.status()).unknown_usage == 1

    in_world(run)


def test_telemetry_of_a_failure() -> None:
    """Start and exception, with the error's code."""

    async def run(world: World) -> None:
        await world.provider()
        world.net.answer = lambda request: bad(500)
        with pytest.raises(Exception, match=r"HTTP 500 from https?://"):  # the address: one has several providers
            await world.complete()
        what, measured, facts = world.telemetry[-1]
        assert (what, measured["duration"], facts["code"], facts["status"]) == (
            "exception",
            0.0,
            "lm_server_error",
            500,
        )

    in_world(run)


# -- registry and status ---------------------------------------------------------------------------


def test_it_announces_itself() -> None:
    """At its start it tells the registry what it is."""

    async def run(world: World) -> None:
        await world.provider()
        await world.settle()
        assert world.announcements == [
            {
                "type": "provider",
                "kind": "openai",
                "base_url": LOCAL,
                "model": "m",
                "status": "ready",
                "requests": 0,
                "responses": 0,
                "errors": 0,
            }
        ]

    in_world(run)


def test_many_requests_are_few_announcements() -> None:
    """Counters reach the registry in batches, and status with them."""

    async def run(world: World) -> None:
        await world.provider()
        world.net.answer = lambda request: bad(503)
        for _ in range(50):
            with pytest.raises(Exception, match="HTTP 503"):
                await world.complete()
        await asyncio.sleep(1)
        assert len(world.announcements) == 2
        last = world.announcements[-1]
        assert (last["status"], last["requests"], last["responses"], last["errors"]) == ("failing", 50, 0, 50)

    in_world(run)


def test_status_says_how_it_is() -> None:
    """Counts by error code, the last error, and since when."""

    async def run(world: World) -> None:
        await world.provider()
        await asyncio.sleep(3)
        for status in (401, 500, 500):
            world.net.answer = lambda request, status=status: bad(status)  # type: ignore[misc]
            with pytest.raises(Exception, match="HTTP"):
                await world.complete()
        report = await world.status()
        assert dict(report.errors) == {"lm_auth": 1, "lm_server_error": 2}
        assert (report.provider, report.kind, report.base_url, report.default_model) == ("p", "openai", LOCAL, "m")
        assert report.last_error is not None
        assert "HTTP 500" in report.last_error
        assert report.uptime == pytest.approx(3.0)

    in_world(run)


# -- settings --------------------------------------------------------------------------------------


async def configured(world: World, **fields: Any) -> Any:
    """Start ``core/config`` with one provider, and the provider; its start's outcome."""
    base = {"kind": "openai", "base_url": LOCAL, "default_model": "m"} | fields
    loaded = Settings.model_validate({"ai": {"providers": {"p": base}}})
    assert isinstance(await world.spawn(ConfigurationActor, loaded, name="core/config"), Started)
    await world.notebooks()
    assert isinstance(await world.spawn(BudgetActor, name="core/budgets"), Started)
    assert isinstance(await world.spawn(ProtectionActor, "p", name="protection/p"), Started)
    return await world.spawn(ProviderActor, "p", transport=world.transport, name="provider/p")


async def update(world: World, **fields: Any) -> None:
    """Change the provider's settings and wait until it has them."""
    for name, value in fields.items():
        await world.engine.outside.call_async(
            "core/config", UpdateSetting(("ai", "providers", "p", name), value), timeout=5.0
        )
    await world.settle()


def test_settings_come_from_the_configuration() -> None:
    """Given only its id it reads its settings itself, and follows their changes; connections stay."""

    async def run(world: World) -> None:
        assert isinstance(await configured(world), Started)
        await update(world, default_model="newer", timeout=3.0)
        await world.complete()
        assert json.loads(world.net.requests[0].body)["model"] == "newer"
        assert world.net.timeouts == [3.0]
        assert (len(world.transports), world.net.closed) == (1, 0)

    in_world(run)


def test_another_address_is_another_connection() -> None:
    """New requests take the new address at once; those in flight end on the old one, which is closed after the last."""

    async def run(world: World) -> None:
        await configured(world)
        old = world.net
        first, second = await in_flight(world), await in_flight(world)
        await update(world, base_url="http://127.0.0.2:9/v1")
        await world.complete()
        assert world.net.requests[0].url.startswith("http://127.0.0.2:9/")
        assert old.closed == 0
        first.cancel()
        await world.settle()
        assert old.closed == 0
        old.gate.set()
        assert (await second).text == "Hello"
        await world.settle()
        assert (old.closed, world.net.closed) == (1, 0)

    in_world(run)


def test_an_unused_connection_is_closed_at_once() -> None:
    """Nothing in flight: the old connections close when the address changes, and the new ones with the actor."""

    async def run(world: World) -> None:
        started = await configured(world)
        await update(world, max_connections=7)
        assert [transport.closed for transport in world.transports] == [1, 0]
        assert world.net.settings.max_connections == 7
        world.engine.kill(started.address)
        await world.settle()
        assert [transport.closed for transport in world.transports] == [1, 1]

    in_world(run)


def test_an_undeclared_provider_takes_no_new_requests() -> None:
    """Without settings new requests fail with ConfigError while those in flight end well; declared again it works."""

    async def run(world: World) -> None:
        await configured(world)
        ask = world.engine.outside.call_async
        running = await in_flight(world)
        await ask("core/config", UndeclareProvider("p"), timeout=5.0)
        await world.settle()
        for _ in range(2):
            with pytest.raises(ConfigError, match="'p'"):
                await world.complete()
        assert (await world.status()).health == "misconfigured"
        world.net.gate.set()
        assert (await running).text == "Hello"
        assert (await world.status()).health == "misconfigured"  # an old request says nothing about new ones
        await ask("core/config", DeclareProvider("p", settings()), timeout=5.0)
        await world.settle()
        assert (await world.status()).health == "ready"
        assert (await world.complete()).text == "Hello"
        assert (await world.status()).health == "ready"

    in_world(run)


def test_another_kind_is_another_protocol() -> None:
    """Changed to another kind, new requests are written and read in that one's protocol."""

    async def run(world: World) -> None:
        await configured(world)
        await update(world, kind="gemini")
        with pytest.raises(LMProtocolError, match="candidates"):
            await world.complete()
        await update(world, kind="openai")
        await world.complete()

    in_world(run)


def test_it_does_not_start_unconfigured() -> None:
    """An id that nobody configured is a failed start with a hint."""

    async def run(world: World) -> None:
        loaded = Settings.model_validate({"ai": {"providers": {"local": {"kind": "openai"}}}})
        await world.spawn(ConfigurationActor, loaded, name="core/config")
        outcome = await world.spawn(ProviderActor, "locl", name="provider/locl")
        assert isinstance(outcome, StartFailed)
        assert isinstance(outcome.reason, Crash)
        assert isinstance(outcome.reason.error, ConfigError)
        assert "did you mean 'local'" in str(outcome.reason.error)

    in_world(run)


def test_capture_of_prompts_follows_the_configuration() -> None:
    """events.capture_prompts is read at the start and again when it changes."""

    async def run(world: World) -> None:
        await configured(world)
        await world.complete()
        await world.engine.outside.call_async("core/config", UpdateSetting("events.capture_prompts", True), timeout=5.0)
        await world.settle()
        await world.complete()
        await world.settle()
        kept = [event.messages for event in world.events if isinstance(event, LmRequest)]
        assert kept == [None, ({"role": "user", "content": "Hi"},)]

    in_world(run)


class ScriptedConfig(GenServer):
    """Answers one question after another from a list that outlives it; None is no answer at all."""

    def init(self, answers: list[Settings | None]) -> None:
        self.answers = answers

    @call
    def subscribe(self, msg: SubscribeSettings) -> None: ...

    @call
    def get(self, msg: GetSettings) -> Settings | NoReply:
        return self.answers.pop(0) or NoReply()


def test_a_configuration_that_dies_is_asked_again() -> None:
    """Settings that changed while core/config was being restarted arrive all the same."""

    def loaded(model: str) -> Settings:
        table = {"kind": "openai", "base_url": LOCAL, "default_model": model}
        return Settings.model_validate({"ai": {"providers": {"p": table}}})

    async def run(world: World) -> None:
        answers = [loaded("m"), None, loaded("n")]
        await world.spawn(Supervisor, [ChildSpec("c", ScriptedConfig, (answers,), name="core/config")], name="s")
        started = await world.spawn(ProviderActor, "p", transport=world.transport, name="provider/p")
        world.engine.send(started.address, ConfigChanged(("ai",), None, "updated"), None)
        await world.settle()
        assert len(answers) == 1
        entry = world.engine.names.get("core/config")
        assert entry is not None
        world.engine.kill(entry.address)
        await world.settle()
        assert (await world.status()).default_model == "n"

    in_world(run)


def test_the_fake_network_is_one() -> None:
    """The fake has the port's methods."""

    async def run() -> Transport:
        return FakeTransport(ProviderSettings.model_validate({"kind": "openai"}))

    assert asyncio.run(run()) is not None
    assert completion()["choices"]


def test_a_refused_connection_is_the_callers_error() -> None:
    """An error of the network itself reaches the caller with the provider's name."""

    async def run(world: World) -> None:
        await world.provider()

        def refuse(request: Any) -> Any:
            raise LMConnectionError("refused", failure="connection", retryable=True)

        world.net.answer = refuse
        with pytest.raises(LMConnectionError) as caught:
            await world.complete()
        assert (caught.value.provider, caught.value.attempts[0].status) == ("p", None)
        assert (await world.status()).health == "failing"

    in_world(run)
