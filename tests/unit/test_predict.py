"""The predict module: one call from inputs to prediction, many at once, and what is told of it."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspex.actors.configuration.messages import ConfigChanged, GetModuleSettings, SubscribeSettings
from dspex.actors.configuration.settings import ModuleSettings
from dspex.actors.lm.values import Attempt
from dspex.actors.modules.actor import ModuleActor
from dspex.actors.modules.messages import ModuleStatus, Predict, PredictOptions, UpdateModule
from dspex.actors.modules.prediction import Prediction
from dspex.actors.modules.program_state import ONLY
from dspex.actors.signatures.signature import Signature
from dspex.runtime.context import Context
from dspex.runtime.errors import (
    ActorDied,
    CallTimeout,
    ConfigError,
    LMInvalidRequest,
    LMRateLimited,
    NoProcess,
    Overloaded,
    ParseError,
    SignatureError,
)
from dspex.runtime.gen_server import Fail, GenServer, StartFailed, call
from dspex.runtime.reasons import Crash
from kit.modules import PARIS, USAGE, Scene, gather, play, response
from kit.supervision import House, in_house


class FakeConfig(GenServer):
    """Stands in for the configuration: one module, whose settings can be changed."""

    def init(self, **settings: Any) -> None:
        self.settings = ModuleSettings(**settings)
        self.broken = self.undeclared = False
        self.subscribers: list[Any] = []

    @call
    def subscribe(self, msg: SubscribeSettings) -> None:
        self.subscribers.append((msg.address, msg.path))

    @call
    def get(self, msg: GetModuleSettings) -> ModuleSettings | Fail:
        if self.undeclared:
            return Fail(ConfigError("no modules.qa", reason="path_not_found"))
        if msg.id != "qa" or self.broken:
            return Fail(ConfigError(f"no module {msg.id}"))
        return self.settings

    def change(self, **settings: Any) -> None:
        """Change the settings and tell the module."""
        self.settings = ModuleSettings(**settings)
        self.tell()

    def tell(self) -> None:
        self.send(self.subscribers[0][0], ConfigChanged(("modules", "qa"), None, "updated"))


def test_a_prediction_and_how_it_came() -> None:
    """Inputs become a prompt, the answer becomes fields, and the prediction knows how it came."""

    async def scenario(scene: Scene) -> None:
        root = Context.root(scene.house.engine.ids, user="u1")
        answer = await scene.ask(context=root, question="Capital of France?")
        assert answer.to_dict() == {"answer": "Paris"}
        [request] = scene.provider.requests
        assert [message.role for message in request.messages] == ["system", "user"]
        assert "Be brief." in str(request.messages[0].content)
        assert "Capital of France?" in str(request.messages[1].content)
        assert (request.model, request.temperature, request.max_tokens) == (None, None, None)
        info = answer.info
        assert (info.usage, info.cost, info.provider, info.model) == (USAGE, None, "local", "m-1")
        assert (info.finish_reason, info.text, info.attempts) == ("stop", PARIS, (Attempt(1, 200, 0.1),))
        assert info.correlation_id == root.trace_id
        assert info.duration == pytest.approx(2.0)
        assert info.span_id == scene.executions[0].span_id
        assert pickle.loads(pickle.dumps(answer)).info == info

    play(delay=2.0, instructions="Be brief.")(scenario)


def test_the_execution_is_the_parent_of_its_request() -> None:
    """The execution is a span below the caller's; the provider is called in it."""

    async def scenario(scene: Scene) -> None:
        root = Context.root(scene.house.engine.ids, user="u1")
        await gather(scene.ask(context=root), scene.ask(context=root))
        first, second = scene.executions
        assert first.span_id != second.span_id
        for event, inside in zip(scene.executions, scene.provider.contexts, strict=True):
            assert (event.trace_id, event.parent_id, event.user) == (root.trace_id, root.span_id, "u1")
            assert (inside.trace_id, inside.span_id, inside.user) == (root.trace_id, event.span_id, "u1")

    play(delay=1.0)(scenario)


def test_what_is_told_of_a_success() -> None:
    """An event with names only, telemetry with the duration, and the registry's counters, soon."""

    async def scenario(scene: Scene) -> None:
        await scene.ask(question="secret words")
        [event] = scene.executions
        assert (event.module, event.module_type, event.source) == ("qa", "predict", "module/qa")
        assert (event.signature, event.input_fields, event.output_fields) == (
            "question -> answer",
            ("question",),
            ("answer",),
        )
        assert (event.success, event.error_code) == (True, None)
        assert event.duration == pytest.approx(2.0)
        assert "secret words" not in event.model_dump_json()
        (start, _, facts), (stop, measured, _) = scene.telemetry
        assert (start, stop, measured["duration"]) == ("start", "stop", pytest.approx(2.0))
        assert (facts["module"], facts["module_type"], facts["provider"]) == ("qa", "predict", "local")
        assert len(scene.registry.announced) == 1
        await asyncio.sleep(0.3)
        before, after = scene.registry.announced
        assert before == {
            "type": "module",
            "kind": "predict",
            "signature": "question -> answer",
            "provider": "local",
            "model": None,
            "adapter": "chat",
            "timeout": 30.0,
            "status": "ready",
            "executions": 0,
            "failures": 0,
            "last_error": None,
        }
        assert (after["executions"], after["failures"]) == (1, 0)

    play(delay=2.0)(scenario)


def test_the_registry_hears_of_a_hundred_calls_once() -> None:
    """Counters go to the registry in batches, not per call."""

    async def scenario(scene: Scene) -> None:
        await gather(*(scene.ask() for _ in range(100)))
        await asyncio.sleep(1.0)
        assert [each["executions"] for each in scene.registry.announced] == [0, 100]

    play()(scenario)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [({"questoin": "x"}, "did you mean 'question'"), ({"question": 5}, "expected str, got 5, at input 'question'")],
)
def test_bad_inputs_cost_nothing(inputs: dict[str, Any], words: str) -> None:
    """Inputs that do not fit are the caller's error; no model is asked and the module lives."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(SignatureError, match=words):
            await scene.ask(**inputs)
        assert scene.provider.requests == []
        assert (scene.executions[0].success, scene.executions[0].error_code) == (False, "signature_error")
        assert (await scene.ask()).answer == "Paris"

    play()(scenario)


@pytest.mark.parametrize("inputs", [None, 5, ["question"]])
def test_inputs_that_are_no_mapping_are_the_callers_error(inputs: Any) -> None:
    """Whatever stands in their place is refused and told of; the module lives."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(SignatureError, match="a mapping of fields"):
            await scene.house.call("module/qa", Predict(inputs))
        assert scene.executions[0].input_fields == ()
        assert (await scene.ask()).answer == "Paris"

    play()(scenario)


@pytest.mark.parametrize(
    ("outcome", "error", "words"),
    [
        (response("[[ ## answer ## ]]\nhigh"), ParseError, "expected float, got 'high'"),
        (response("", refusal="I must not."), ParseError, "the model's refusal 'I must not.'"),
        (response("[[ ## ans", finish_reason="length"), ParseError, "max_tokens is too small"),
        (LMRateLimited("slow down", retry_after=3.0), LMRateLimited, "slow down"),
    ],
)
def test_expected_failures_are_replies(outcome: Any, error: type[Exception], words: str) -> None:
    """A failed request and an answer that does not fit are the caller's error, told of, and the module lives."""

    async def scenario(scene: Scene) -> None:
        address = scene.house.address("module/qa")
        with pytest.raises(error, match=words) as caught:
            await scene.ask()
        code = caught.value.code  # type: ignore[attr-defined]
        [event] = scene.executions
        assert (event.success, event.error_code, event.output_fields) == (False, code, ())
        word, _, facts = scene.telemetry[-1]
        assert (word, facts["code"], facts["reason"]) == ("exception", code, caught.value)
        status = await scene.status()
        assert (status.executions, status.failures, status.last_error, status.running) == (1, 1, code, 0)
        assert scene.house.address("module/qa") == address
        assert (await scene.ask()).answer == 1.5

    settings: dict[str, Any] = {"signature": "question -> answer: float", "retry_failed_predictions": False}
    play(outcome, response("[[ ## answer ## ]]\n1.5"), **settings)(scenario)


def test_a_provider_that_is_not_there() -> None:
    """Without its provider the caller is told who is missing."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(NoProcess, match="provider/nobody"):
            await scene.ask()
        assert scene.executions[0].error_code == "noproc"

    play(provider="nobody")(scenario)


def test_a_defect_ends_the_module() -> None:
    """An exception that nobody expects is a crash: callers hear of it, and it is told of before."""

    async def scenario(scene: Scene) -> None:
        address = scene.house.address("module/qa")
        with pytest.raises(ActorDied) as caught:
            await scene.ask()
        assert isinstance(caught.value.reason, Crash)
        assert isinstance(caught.value.reason.error, AttributeError)
        assert not scene.house.engine.cell_of(address).alive  # type: ignore[union-attr]
        assert (scene.executions[0].success, scene.executions[0].error_code) == (False, "crashed")

    play("no LMResponse")(scenario)


def test_many_at_once_up_to_the_limit() -> None:
    """As many predictions as may are in work; the others wait their turn, in order."""

    async def scenario(scene: Scene) -> None:
        began = scene.house.now()
        calls = [asyncio.ensure_future(scene.ask(question=str(number))) for number in range(7)]
        await asyncio.sleep(0.5)
        status = await scene.status()
        assert (status.running, status.waiting) == (3, 4)
        assert [await each for each in calls] == [Prediction({"answer": "Paris"})] * 7
        assert scene.house.now() - began == pytest.approx(3.0)
        assert scene.provider.most == 3
        asked = [str(request.messages[1].content).split("\n")[1] for request in scene.provider.requests]
        assert asked == [str(number) for number in range(7)]
        status = await scene.status()
        assert (status.running, status.waiting) == (0, 0)

    play(delay=1.0, max_concurrency=3)(scenario)


def test_past_the_queue_calls_are_refused() -> None:
    """What neither runs nor may wait is refused at once; there is room again afterwards."""

    async def scenario(scene: Scene) -> None:
        outcomes = await gather(*(scene.ask() for _ in range(5)))
        assert [type(each) for each in outcomes] == [Prediction] * 3 + [Overloaded] * 2
        assert (outcomes[4].target, outcomes[4].limit) == ("module/qa", 1)
        assert len(scene.provider.requests) == len(scene.executions) == 3
        assert await scene.ask()

    play(delay=1.0, max_concurrency=2, max_queue=1)(scenario)


def test_a_caller_that_gives_up_takes_its_request_along() -> None:
    """A call that ran out of time, or was cancelled, ends its model request and frees its slot."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(CallTimeout):
            await scene.ask(timeout=1.0)
        waiting = asyncio.ensure_future(scene.ask())
        await asyncio.sleep(1.0)
        waiting.cancel()
        await asyncio.sleep(0.1)
        assert (scene.provider.busy, scene.provider.cancelled) == (0, 2)
        status = await scene.status()
        assert (status.running, status.waiting, status.last_error) == (0, 0, "cancelled")
        assert [event.error_code for event in scene.executions] == ["cancelled", "cancelled"]

    play(delay=10.0, max_concurrency=1)(scenario)


def test_callers_that_give_up_in_the_queue_leave_it() -> None:
    """Calls that end while they wait, or before they begin, leave no trace in the counts."""

    async def scenario(scene: Scene) -> None:
        first = asyncio.ensure_future(scene.ask())
        await gather(*(scene.ask(timeout=1.0) for _ in range(3)), *(scene.ask(timeout=0.0) for _ in range(3)))
        status = await scene.status()
        assert (status.running, status.waiting) == (1, 0)
        assert await first
        assert await scene.ask()
        assert len(scene.provider.requests) == 2

    play(delay=10.0, max_concurrency=1)(scenario)


def test_the_time_covers_the_wait_for_a_turn() -> None:
    """A prediction's timeout begins with its call: what waited too long fails, and what is left goes to the request."""

    async def scenario(scene: Scene) -> None:
        began = scene.house.now()
        outcomes = await gather(*(scene.ask() for _ in range(3)))
        assert isinstance(outcomes[0], Prediction)
        assert isinstance(outcomes[1], CallTimeout)
        assert outcomes[1].target == "provider/local"
        assert isinstance(outcomes[2], CallTimeout)
        assert (outcomes[2].target, outcomes[2].state, outcomes[2].timeout) == ("module/qa", "queued", 5.0)
        assert scene.house.now() - began == pytest.approx(5.0)
        assert (await scene.status()).running == 0

    play(delay=3.0, timeout=5.0, max_concurrency=1)(scenario)


def test_options_of_a_call() -> None:
    """A call's options win over the module's, those over the provider's; what nobody set is not sent."""

    async def scenario(scene: Scene) -> None:
        await scene.ask(options={"temperature": 0.0, "stop": ["END"]})
        await scene.ask(options=PredictOptions(model="big", max_tokens=7, seed=1, top_p=0.5))
        first, second = scene.provider.requests
        assert (first.model, first.temperature, first.max_tokens, first.stop) == ("small", 0.0, 50, ("END",))
        assert (second.model, second.temperature, second.max_tokens) == ("big", 0.7, 7)
        assert (second.seed, second.top_p, second.stop) == (1, 0.5, None)
        with pytest.raises(CallTimeout):
            await scene.ask(options={"timeout": 0.5})

    play(delay=1.0, model="small", temperature=0.7, max_tokens=50)(scenario)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"temprature": 1}, ConfigError, "did you mean 'temperature'"),
        ({"timeout": 30_000}, ConfigError, "seconds, not ms"),
        ({"timeout": 0}, ConfigError, "seconds above 0"),
        ({"timeout": True}, ConfigError, "seconds above 0"),
        ({"max_tokens": 0}, LMInvalidRequest, "max_tokens"),
        ({"temperature": "hot"}, LMInvalidRequest, "temperature"),
        (["timeout"], ConfigError, "a mapping of options, got list"),
    ],
)
def test_refused_options(options: Any, error: type[Exception], words: str) -> None:
    """A wrong option is refused where the message is made."""
    with pytest.raises(error, match=words):
        Predict({}, options)


def test_demos_and_instructions_change_live() -> None:
    """New demos and instructions hold from the next prediction on; a demo that does not fit changes nothing."""

    async def scenario(scene: Scene) -> None:
        demo = {"question": "1+1?", "answer": "2"}
        status = await scene.house.call("module/qa", UpdateModule(instructions="New.", demos=iter([demo])))
        assert (status.instructions, status.demos) == ("New.", 1)
        with pytest.raises(SignatureError, match=r"demos\[0\].*did you mean 'answer'"):
            await scene.house.call(
                "module/qa", UpdateModule(instructions="Newer.", demos=[{"question": "x", "anwer": 1}])
            )
        await scene.ask()
        messages = scene.provider.requests[0].messages
        assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
        assert str(messages[0].content).endswith("New.")
        status = await scene.house.call("module/qa", UpdateModule(instructions=None))
        assert (status.instructions, status.demos) == (None, 1)

    play(instructions="Old.")(scenario)


def test_a_prediction_ends_as_it_began() -> None:
    """A change of the module does not touch predictions in work."""

    async def scenario(scene: Scene) -> None:
        running = asyncio.ensure_future(scene.ask())
        await asyncio.sleep(0.5)
        await scene.house.call("module/qa", UpdateModule(instructions="New."))
        assert (await running).answer == "Paris"
        assert "New." not in str(scene.provider.requests[0].messages[0].content)

    play(delay=1.0)(scenario)


def test_module_info() -> None:
    """A module says what it is."""

    async def scenario(scene: Scene) -> None:
        await asyncio.sleep(2.0)
        status = await scene.status()
        assert status.uptime == pytest.approx(2.0)
        assert status == ModuleStatus(
            predictors={ONLY: Signature(status.signature, status.instructions)},
            module="qa",
            kind="predict",
            signature="question -> answer",
            instructions="Go.",
            demos=0,
            provider="local",
            adapter="chat",
            options=PredictOptions(model="m", timeout=30.0),
            max_concurrency=16,
            max_queue=1000,
            status="ready",
            running=0,
            waiting=0,
            streams=0,
            executions=0,
            failures=0,
            last_error=None,
            uptime=status.uptime,
        )

    play(signature=Signature("question -> answer", "Go."), model="m")(scenario)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"signature": "question -> answr: strng"}, SignatureError, "did you mean 'str'"),
        ({"demos": [{"question": "x", "answer": 1}]}, SignatureError, "expected str, got 1, at demos"),
        ({"adapter": "chatt"}, ConfigError, "did you mean 'chat'"),
        ({"provider": "provider/local"}, ConfigError, "without 'provider/'"),
        ({"max_concurrency": 0}, ConfigError, "a whole number >= 1, got 0, at max_concurrency"),
        ({"max_queue": 1.5}, ConfigError, "a whole number >= 0"),
        ({"timeout": 30_000}, ConfigError, "seconds, not ms"),
        ({"timeout": None}, ConfigError, "seconds above 0"),
        ({"temperature": -1}, LMInvalidRequest, "temperature"),
        ({"instruction": "x"}, ConfigError, "did you mean 'instructions'"),
    ],
)
def test_refused_starts(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    """A wrong setting is a failed start, with the error as its reason."""

    async def test(house: House) -> None:
        whole = {"signature": "question -> answer", "provider": "local", **settings}
        outcome = await house.engine.spawn(ModuleActor, (), whole, name="module/qa")
        assert isinstance(outcome, StartFailed)
        assert isinstance(outcome.reason, Crash)
        assert type(outcome.reason.error) is error
        with pytest.raises(error, match=words):
            raise outcome.reason.error

    in_house(test)


@pytest.mark.parametrize("missing", ["signature", "provider"])
def test_a_signature_and_a_provider_are_needed(missing: str) -> None:
    """Without either of them the start fails and says which."""

    async def test(house: House) -> None:
        settings = {"signature": "q -> a", "provider": "local"}
        del settings[missing]
        reason = await house.start_fails(ModuleActor, "qa", **settings)
        assert str(reason.error) == f"expected a {missing}, got nothing, at {missing}"

    in_house(test)


def test_a_module_that_is_declared_no_more_goes_on_until_it_is_stopped() -> None:
    """Callers between the two are served, or told that it is gone; never that it is misconfigured."""

    async def scenario(scene: Scene, config: FakeConfig) -> None:
        config.undeclared = True
        config.tell()
        assert (await scene.ask()).answer == "Paris"
        assert (await scene.status()).status == "ready"

    configured(scenario, signature="question -> answer", provider="local")


def configured(scenario: Callable[[Scene, FakeConfig], Awaitable[None]], **settings: Any) -> None:
    """Run a coroutine with a module that takes its settings from the configuration."""

    async def test(house: House) -> None:
        scene = Scene(house)
        await scene.stand(delay=1.0)
        config: FakeConfig = await scene.actor(FakeConfig, "core/config", **settings)
        scene.qa = await scene.actor(ModuleActor, "module/qa", "qa")
        await scenario(scene, config)

    in_house(test)


def test_settings_from_the_configuration() -> None:
    """With its id alone a module takes its settings from the configuration, and what is silent there is the default."""

    async def scenario(scene: Scene, config: FakeConfig) -> None:
        assert [path for _, path in config.subscribers] == [
            ("modules", "qa"),
            ("dspex", "modules"),
            ("dspex", "signatures"),
        ]
        status = await scene.status()
        assert (status.signature, status.provider, status.demos) == ("question -> answer", "local", 1)
        assert (status.max_concurrency, status.options.timeout, status.adapter) == (2, 30.0, "chat")
        assert (await scene.ask()).answer == "Paris"

    configured(
        scenario,
        signature="question -> answer",
        provider="local",
        max_concurrency=2,
        demos=[{"question": "x", "answer": "y"}],
    )


def test_changed_settings_hold_for_the_next_prediction() -> None:
    """A change is taken before the next call is looked at; predictions in work end as they began."""

    async def scenario(scene: Scene, config: FakeConfig) -> None:
        running = [asyncio.ensure_future(scene.ask()) for _ in range(2)]
        await asyncio.sleep(0.5)
        config.change(signature="question -> answer", provider="local", model="new", max_concurrency=4)
        await scene.ask()
        await gather(*running)
        assert [request.model for request in scene.provider.requests] == [None, "new", None]
        status = await scene.status()
        assert (status.max_concurrency, status.running, status.waiting) == (4, 0, 0)
        assert scene.registry.announced[-1]["model"] == "new"

    configured(scenario, signature="question -> answer", provider="local", max_concurrency=1)


def test_settings_that_cannot_work_refuse_calls_until_put_right() -> None:
    """After a change to what cannot work callers are told what is wrong; the module lives and recovers."""

    async def scenario(scene: Scene, config: FakeConfig) -> None:
        config.broken = True
        config.tell()
        for _ in range(2):
            with pytest.raises(ConfigError, match="no module qa"):
                await scene.ask()
        assert (await scene.status()).status == "misconfigured"
        assert scene.registry.announced[-1]["status"] == "misconfigured"
        config.broken = False
        config.tell()
        assert (await scene.ask()).answer == "Paris"
        assert (await scene.status()).status == "ready"

    configured(scenario, signature="question -> answer", provider="local")


def test_while_configuration_is_away_the_old_settings_hold() -> None:
    """A module that cannot read its new settings goes on with the old ones, and reads again until it can."""

    async def scenario(scene: Scene, config: FakeConfig) -> None:
        address = scene.house.address("core/config")
        config.tell()
        scene.house.engine.kill(address)
        assert (await scene.ask()).answer == "Paris"
        await scene.actor(FakeConfig, "core/config", signature="question -> answer", provider="local", model="new")
        await asyncio.sleep(3.0)
        await scene.ask()
        assert [request.model for request in scene.provider.requests] == [None, "new"]

    configured(scenario, signature="question -> answer", provider="local")
