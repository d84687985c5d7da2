"""The scripted provider: a real provider actor above it gets what the script says."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex.actors.lm import LMRequest, LMResponse, Message
from dspex.actors.lm_failures import lm_error
from dspex.actors.provider import Complete, ProviderActor
from dspex.actors.settings import ProviderSettings
from dspex.actors.testing.scripted_provider import (
    Cut,
    Hang,
    Rule,
    ScriptedProvider,
    failure,
    rate_limited,
    refused,
    server_error,
)
from dspex.runtime.errors import (
    CallTimeout,
    LMAuthError,
    LMConnectionError,
    LMError,
    LMInvalidRequest,
    LMProtocolError,
    LMRateLimited,
    LMServerError,
    LMTimeout,
)
from dspex.runtime.testing import VirtualSystem


def settings(**more: Any) -> ProviderSettings:
    """Of a provider that needs no network."""
    fields = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "default_model": "m", "timeout": 20.0}
    return ProviderSettings.model_validate(fields | more)


def provider(system: VirtualSystem, script: ScriptedProvider) -> None:
    """Start ``provider/p`` on a script."""
    system.probe("core/events")
    system.spawn(ProviderActor, "p", settings=settings(), transport=script.transport, name="provider/p")


def ask(system: VirtualSystem, text: str = "Hi", timeout: float = 60.0) -> LMResponse:
    """Ask it."""
    answer = system.call("provider/p", Complete(LMRequest((Message("user", text),))), timeout)
    assert isinstance(answer, LMResponse)
    return answer


def test_the_first_rule_that_fits_answers() -> None:
    """By text of the last message, by the body, and otherwise; each as often as it says; requests are kept."""
    script = ScriptedProvider(
        Rule("Shakespeare", when="Hamlet"),
        Rule("once", times=1),
        Rule("m it is", when=lambda body: body["model"] == "m"),
        usage=(7, 3),
    )
    with VirtualSystem() as system:
        provider(system, script)
        texts = [ask(system, text).text for text in ("Who wrote Hamlet?", "Hi", "Hi", "Hamlet")]
        assert texts == ["Shakespeare", "once", "m it is", "Shakespeare"]
        usage = ask(system).usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens) == (7, 3)
        assert script.requests[0]["messages"][-1]["content"] == "Who wrote Hamlet?"
        script.add(Rule("new"))
        assert ask(system, "Hamlet").text == "new"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (rate_limited(3.0), LMRateLimited),
        (server_error(503), LMServerError),
        (failure(401), LMAuthError),
        (refused(), LMConnectionError),
        (Cut(), LMProtocolError),
        (Hang(), LMTimeout),
    ],
)
def test_failures_are_the_typed_errors_of_a_real_provider(answer: Any, error: type[LMError]) -> None:
    """Each comes as often as asked, and as the class that the real network would lead to; the actor lives on."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(answer, times=2), Rule("well")))
        for _ in range(2):
            with pytest.raises(error):
                ask(system)
        assert ask(system).text == "well"


def test_rate_limits_say_how_long() -> None:
    """The seconds to wait reach the caller."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(rate_limited(3.0))))
        with pytest.raises(LMRateLimited) as caught:
            ask(system)
        assert caught.value.retry_after == 3.0


def test_slow_answers_take_virtual_time() -> None:
    """An answer's delay passes on the virtual clock; a caller that gives up first cancels the request."""
    script = ScriptedProvider(Rule("late", delay=8.0))
    with VirtualSystem() as system:
        provider(system, script)
        assert ask(system).text == "late"
        assert system.now == 1008.0
        with pytest.raises((LMTimeout, CallTimeout)):
            ask(system, timeout=2.0)
        assert system.now <= 1010.01


def test_a_caller_that_gives_up_ends_the_request() -> None:
    """The script counts it."""
    script = ScriptedProvider(Rule(Hang()))
    with VirtualSystem() as system:
        provider(system, script)
        complete = Complete(LMRequest((Message("user", "Hi"),)))
        question = system.loop.create_task(system.engine.call_async("provider/p", complete))
        system.settle()
        assert (len(script.requests), script.cancelled) == (1, 0)
        question.cancel()
        system.settle()
        assert script.cancelled == 1


def test_a_scripted_error_is_raised_as_written_each_time() -> None:
    """Also a time-out of the network; what the provider adds to an error does not stay on the script's."""
    error = lm_error("timeout", "the gateway sleeps")
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(error)))
        for _ in range(2):
            with pytest.raises(LMTimeout, match="the gateway sleeps"):
                ask(system)
        assert "attempts" not in error.facts


def test_a_hang_ends_with_the_providers_timeout() -> None:
    """A provider that never answers costs its time-out, in virtual seconds."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule(Hang())))
        with pytest.raises(LMTimeout):
            ask(system)
        assert system.now == 1020.0


def test_a_request_nobody_thought_of_fails() -> None:
    """Without a rule the answer is an error that shows the question."""
    with VirtualSystem() as system:
        provider(system, ScriptedProvider(Rule("x", when="never said")))
        with pytest.raises(LMInvalidRequest, match="no rule for 'What\\?'"):
            ask(system, "What?")


def test_a_killed_provider_goes_on_with_the_script() -> None:
    """The script is the test's, not the actor's: used-up rules stay used up."""
    script = ScriptedProvider(Rule("one", times=1), Rule("two"))
    with VirtualSystem() as system:
        provider(system, script)
        assert ask(system).text == "one"
        system.kill("provider/p")
        system.spawn(ProviderActor, "p", settings=settings(), transport=script.transport, name="provider/p")
        assert ask(system).text == "two"


def test_a_whole_application_asks_the_script() -> None:
    """The standard tree with a declared provider and module, in virtual time: the module parses scripted fields."""
    script = ScriptedProvider(Rule({"answer": "Shakespeare"}, when="Hamlet", delay=2.0))
    config = {
        "events": {"in_memory": True},
        "ai": {"providers": {"local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "default_model": "m"}}},
        "modules": {"qa": {"signature": "question -> answer", "provider": "local"}},
    }
    with script.instead_of_http(), VirtualSystem(seed=2) as system:
        app = system.start(dspex.astart, config=config)
        for _ in range(2):
            assert system.run(app.module("qa")(question="Who wrote Hamlet?")).answer == "Shakespeare"
            system.kill("provider/local")
        assert system.expect_event(("dspex", "lm", "stop"), provider="local").measurements["duration"] == 2.0
        assert system.now >= 1004.0
        assert len(script.requests) == 2
