"""The gateway's rules: who is asked, which error a client sees, who may come in, which trace is joined."""

from __future__ import annotations

import inspect
import random
from typing import Any

import pytest

from dspex.actors.configuration.settings import GatewaySettings, Settings
from dspex.runtime import errors
from dspex.runtime.errors import ConfigError, Error
from dspex.runtime.ids import IdSource
from dspex.supervisors.gateway.exposure import check_gateway, is_local_name, is_loopback
from dspex.supervisors.gateway.models import Target, listing, longest, patience, resolve
from dspex.supervisors.gateway.problems import Refused, busy, problem_of
from dspex.supervisors.gateway.traces import joined

AI = Settings.model_validate(
    {
        "ai": {
            "providers": {
                "main": {"kind": "openai", "default_model": "gpt-x", "timeout": 7.0, "first_chunk_timeout": 9.0},
                "other": {"kind": "anthropic", "default_model": "gpt-x", "timeout": 5.0},
                "bare": {"kind": "openai", "timeout": 3.0},
                "hub": {"kind": "openai", "default_model": "meta/llama"},
            },
            "routes": {
                "any": {"targets": [{"provider": "main"}, {"provider": "all"}]},
                "all": {"targets": [{"provider": "other"}, {"provider": "bare"}, {"provider": "any"}]},
            },
        }
    }
).ai


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("main", Target("main", None, "gpt-x")),
        ("bare", Target("bare", None, "bare")),
        ("main/other-model", Target("main", "other-model", "other-model")),
        ("hub/meta/llama", Target("hub", "meta/llama", "meta/llama")),
        ("gpt-x", Target("main", "gpt-x", "gpt-x")),
        ("meta/llama", Target("hub", "meta/llama", "meta/llama")),
        ("any", Target("any", None, "any")),
        ("any/gpt-x", Target("any", "gpt-x", "gpt-x")),
    ],
)
def test_a_models_name_stands_for_a_provider(name: str, target: Target) -> None:
    """Provider, provider/model, a default model and a route are found; of two the first."""
    assert resolve(name, AI) == target


@pytest.mark.parametrize(
    ("name", "hint"), [("mian", "'main'"), ("main/", "'main'"), ("gpt-y", "'gpt-x'"), ("", "at model$")]
)
def test_an_unknown_model_is_not_found(name: str, hint: str) -> None:
    """Anything else is a 404 with the nearest name."""
    with pytest.raises(Refused, match=hint) as refusal:
        resolve(name, AI)
    problem = refusal.value.problem
    assert (problem.status, problem.code, problem.param) == (404, "model_not_found", "model")


def test_without_providers_nothing_is_found() -> None:
    """Where nothing is configured, that is what is said."""
    with pytest.raises(Refused, match="a configured provider"):
        resolve("x", Settings().ai)


def test_every_listed_name_can_be_asked() -> None:
    """The list has each provider, its default model, and each route; all of them resolve."""
    names = [each["id"] for each in listing(AI, 5)]
    assert names == ["main", "main/gpt-x", "other", "other/gpt-x", "bare", "hub", "hub/meta/llama", "any", "all"]
    assert all(resolve(name, AI).id == name.partition("/")[0] for name in names)
    assert listing(AI, 5)[1] == {"id": "main/gpt-x", "object": "model", "created": 5, "owned_by": "main"}


def test_patience_is_the_providers_own() -> None:
    """A provider's deadline and a second for its word; a route's members add up, a circle is walked once."""
    assert patience("main", AI, stream=False) == 8.0
    assert patience("main", AI, stream=True) == 10.0
    assert patience("any", AI, stream=False) == 7.0 + 5.0 + 3.0 + 1.0
    assert patience("gone", AI, stream=False) == 1.0
    assert longest("main", AI) == 610.0


FACTS: dict[str, Any] = {"field": "stop", "retry_after": 1.5, "account": "a", "reason": None}


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("LMInvalidRequest", 400, "lm_invalid_request"),
        ("LMContextLength", 400, "context_length_exceeded"),
        ("LMRateLimited", 429, "rate_limit_exceeded"),
        ("LMQuotaExceeded", 429, "insufficient_quota"),
        ("LMBudgetExceeded", 429, "budget_exceeded"),
        ("LMCircuitOpen", 503, "circuit_open"),
        ("LMAuthError", 502, "lm_auth"),
        ("LMTimeout", 504, "lm_timeout"),
        ("LMConnectionError", 502, "lm_connection"),
        ("LMServerError", 502, "lm_server_error"),
        ("LMProtocolError", 502, "lm_protocol"),
        ("StreamInterrupted", 502, "lm_stream_interrupted"),
        ("CallTimeout", 504, "timeout"),
        ("Overloaded", 503, "overloaded"),
        ("NoProcess", 503, "noproc"),
        ("ActorDied", 503, "actor_died"),
        ("ApplicationDown", 503, "application_down"),
        ("ConfigError", 503, "config_error"),
        ("StoreError", 500, "store_error"),
    ],
)
def test_an_error_of_ours_has_a_status(name: str, status: int, code: str) -> None:
    """Each kind of error has OpenAI's status and body."""
    error: Error = getattr(errors, name)("what came", **FACTS)
    problem = problem_of(error)
    assert (problem.status, problem.code, problem.message) == (status, code, "what came")
    assert set(problem.body()["error"]) == {"message", "type", "param", "code"}


def test_every_error_is_a_problem() -> None:
    """No class of the tree is forgotten; none is a success."""
    for _, each in inspect.getmembers(errors, inspect.isclass):
        if issubclass(each, Error):
            assert 400 <= problem_of(each("x")).status < 600


def test_a_providers_word_on_the_request_is_handed_on() -> None:
    """A 404 of the provider is a 404; its 401 and 500 are faults of ours; an overload is a 503."""
    assert problem_of(errors.LMInvalidRequest("no such model", status=404)).status == 404
    assert problem_of(errors.LMInvalidRequest("not implemented", status=501)).status == 400
    assert problem_of(errors.LMAuthError("key", status=401)).status == 502
    assert problem_of(errors.LMServerError("x", status=529)).status == 503


def test_a_problem_says_when_to_try_again() -> None:
    """Whole seconds for all, milliseconds for OpenAI's clients; where it is of no use they are told."""
    assert problem_of(errors.LMRateLimited("x", retry_after=1.2)).headers() == {
        "retry-after": "2",
        "retry-after-ms": "1200",
    }
    assert problem_of(errors.LMRateLimited("x", retry_after=None)).headers() == {}
    assert problem_of(errors.LMQuotaExceeded("x")).headers() == {"x-should-retry": "false"}
    assert busy("x").problem.headers()["retry-after"] == "1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST."])
def test_this_machine_needs_no_token(host: str) -> None:
    """Only this machine reaches a loopback address."""
    assert is_loopback(host)
    check_gateway(GatewaySettings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org"])
def test_others_need_a_token(host: str) -> None:
    """A gateway for others without a token is refused with both ways out; with one it is not."""
    with pytest.raises(ConfigError, match=r"at gateway\.token") as refusal:
        check_gateway(GatewaySettings(host=host))
    assert refusal.value.facts["path"] == "gateway.token"
    check_gateway(GatewaySettings.model_validate({"host": host, "token": "t"}))


def test_a_token_that_is_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that holds no token is told at the start, not at the first request."""
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_TOKEN"):
        check_gateway(GatewaySettings.model_validate({"token": {"system": "NO_SUCH_TOKEN"}}))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(ConfigError, match=r"got no uvicorn.*dspex\[gateway\]"):
        check_gateway(GatewaySettings())


@pytest.mark.parametrize(
    ("header", "local"),
    [("127.0.0.1:80", True), ("localhost", True), ("[::1]:80", True), ("evil.example:80", False), ("", False)],
)
def test_a_host_header_names_this_machine_or_not(header: str, local: bool) -> None:
    """Names that a browser was led by are told from this machine's."""
    assert is_local_name(header) is local


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_is_joined() -> None:
    """A traceparent gives trace and parent; else x-request-id is the trace, a UUID as a trace id is written."""
    ids = IdSource(rng=random.Random(1))
    context = joined({"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "r"}, ids)
    assert (context.trace_id, context.parent_id) == (TRACE, SPAN)
    assert joined({"x-request-id": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"}, ids).trace_id == TRACE
    assert joined({"x-request-id": "order-17"}, ids).trace_id == "order-17"


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": "nonsense"},
        {"x-request-id": "a b"},
        {"x-request-id": "x" * 129},
        {},
    ],
)
def test_a_malformed_trace_begins_a_fresh_one(headers: dict[str, str]) -> None:
    """What cannot be joined is ignored."""
    context = joined(headers, IdSource(rng=random.Random(1)))
    assert context.trace_id not in str(headers)
    assert (len(context.trace_id), context.parent_id) == (32, None)
