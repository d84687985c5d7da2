"""Routes across several providers, as users of an application declare, change and lose them."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

import dspex
from dspex.runtime.errors import ConfigError, LMRateLimited, LMServerError, NoProcess, ParseError, StreamInterrupted
from kit.application import IN_MEMORY, provider_of
from kit.http_server import Exchange, HttpServer, Script, completion
from kit.talker import ANSWER, TEXT, Talker, endings

QUESTION = "Capital of Norway?"


class Says:
    """A provider that answers with its own name, or fails with a status.

    Attributes:
        status: of its answers.
        gate: it answers only while this is set.
    """

    def __init__(self, name: str, status: int = 200) -> None:
        self.name = name
        self.status = status
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, exchange: Exchange) -> None:
        """Answer."""
        self.gate.wait(10)
        if self.status == 200:
            exchange.reply(200, completion(self.name, model=exchange.request.json()["model"]))
        else:
            exchange.reply(self.status, {"error": {"message": "no"}})


@dataclass
class Town:
    """An application with the providers a and b, each at its server."""

    app: dspex.App
    a: HttpServer
    b: HttpServer

    def ask(self, route: str = "any", text: str = QUESTION, **how: Any) -> str:
        """Ask a route; who answered."""
        return self.app.lm.complete(route, text, cache=False, **how).text

    @property
    def sent(self) -> tuple[int, int]:
        """Requests that came to each."""
        return len(self.a.requests), len(self.b.requests)


def settings(a: HttpServer, b: HttpServer, **more: Any) -> dict[str, Any]:
    """A configuration with both."""
    providers = {name: provider_of(server, retry_attempts=1) for name, server in (("a", a), ("b", b))}
    return {**IN_MEMORY, "ai": {"providers": providers, "caching": {"enabled": False}, **more}}


@pytest.fixture
def town() -> Iterator[Town]:
    """Both answer with their names."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(HttpServer(Says(name))) for name in "ab")
        yield Town(stack.enter_context(dspex.start(config=settings(a, b))), a, b)


def says(server: HttpServer) -> Says:
    """The script of a server."""
    script: Script = server.script
    assert isinstance(script, Says)
    return script


def test_the_order_is_that_of_preference(town: Town) -> None:
    """The first answers; if it fails the second does, and the answer tells of both attempts and who gave it."""
    town.app.configure_route("any", "a", "b")
    assert town.ask() == "a"
    says(town.a).status = 500
    answer = town.app.lm.complete("any", QUESTION, cache=False)
    assert (answer.text, answer.provider) == ("b", "b")
    assert [(attempt.provider, attempt.status) for attempt in answer.attempts] == [("a", 500), ("b", 200)]
    (fallback,) = town.app.events.query(type="lm_fallback").events
    told = fallback.model_dump()
    assert (told["route"], told["from_provider"], told["to_provider"]) == ("any", "a", "b")
    says(town.b).status = 500
    with pytest.raises(LMServerError) as caught:
        town.ask()
    assert (caught.value.route, caught.value.tried) == ("any", ("a", "b"))


def test_a_route_changes_while_it_runs(town: Town) -> None:
    """Order, targets and strategy hold for the next request; the route is not restarted, requests in work end well."""
    town.app.configure_route("any", "a", "b")
    says(town.a).gate.clear()
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(town.ask()))
    waiting.start()
    assert town.a.arrived.wait(5)
    town.app.configure_route("any", "b", "a")
    assert town.ask() == "b"
    says(town.a).gate.set()
    waiting.join(5)
    assert answers == ["a"]
    town.app.configure_route("any", {"provider": "a", "weight": 1}, {"provider": "b", "weight": 3}, strategy="weight")
    drawn = [town.ask() for _ in range(60)]
    assert drawn.count("b") > drawn.count("a") > 0
    town.app.configure_route("any", "a", "b", strategy="latency")
    assert town.ask() in {"a", "b"}
    town.app.update_setting(("ai", "routes", "any", "targets"), [{"provider": "b"}])
    assert [town.ask() for _ in range(3)] == ["b"] * 3
    entry = town.app.entry("provider/any")
    assert entry is not None
    assert entry.incarnation == 1


def test_the_failures_it_falls_back_after_are_set(town: Town) -> None:
    """``fallback_on`` decides, live: without ``unavailable`` a failure of the first is the caller's."""
    says(town.a).status = 503
    town.app.configure_route("any", "a", "b", fallback_on=["rate_limit"])
    with pytest.raises(LMServerError):
        town.ask()
    town.app.configure_route("any", "a", "b")
    assert town.ask() == "b"
    town.app.protection.reset("a")
    town.app.protection.configure("a", rate_limit={"window": 60.0, "limit": 1, "on_limit": "wait"})
    says(town.a).status = 200
    assert [town.ask() for _ in range(3)][1:] == ["b", "b"], "nobody waits for room while another has some"


def test_where_nobody_has_room(town: Town) -> None:
    """The refusal of limits of our own is typed, with when to come again."""
    for name in "ab":
        town.app.protection.configure(name, rate_limit={"window": 60.0, "limit": 1})
    town.app.configure_route("any", "a", "b")
    assert [town.ask(on_limit="fail") for _ in range(2)] == ["a", "b"]
    with pytest.raises(LMRateLimited) as caught:
        town.ask(on_limit="fail")
    assert caught.value.local
    assert 0 < caught.value.retry_after <= 60


def test_each_target_has_its_model(town: Town) -> None:
    """The target's own model is asked for, else the request's, else the provider's."""
    town.app.configure_route("any", {"provider": "a", "model": "small"}, "b")
    assert town.app.lm.complete("any", QUESTION, cache=False).model == "small"
    says(town.a).status = 500
    assert town.app.lm.complete("any", QUESTION, cache=False, model="mine").model == "mine"
    assert town.b.requests[-1].json()["model"] == "mine"


def test_a_removed_route_is_gone(town: Town) -> None:
    """Its name is free for a provider or another route; its targets stay; removing what is not there is an error."""
    town.app.configure_route("any", "a", "b")
    assert town.ask() == "a"
    town.app.remove_route("any")
    with pytest.raises(NoProcess):
        town.ask()
    assert town.app.lm.complete("a", QUESTION).text == "a"
    assert "provider/any" not in town.app.tree()
    with pytest.raises(ConfigError, match="any"):
        town.app.remove_route("any")
    town.app.configure_route("any", "b")
    assert town.ask() == "b"
    town.app.remove_route("any")
    town.app.configure_provider("any", **provider_of(town.a))
    assert town.ask() == "a"


def test_a_route_and_a_provider_never_share_a_name(town: Town) -> None:
    """Whichever came first stays as it was, and works."""
    with pytest.raises(ConfigError, match="names no provider has"):
        town.app.configure_route("a", "b")
    assert town.ask("a") == "a"
    town.app.configure_route("any", "b")
    with pytest.raises(ConfigError, match="names no provider has"):
        town.app.configure_provider("any", **provider_of(town.a))
    assert town.ask() == "b"


@pytest.mark.parametrize(
    ("targets", "more", "said"),
    [
        ((), {}, "at least one target"),
        (("a", "a"), {}, "each stand there once"),
        (("a",), {"strategy": "wieght"}, "did you mean 'weight'"),
        (("a",), {"fallback": []}, "did you mean 'fallback_on'"),
        (({"provider": "a", "weight": 0},), {}, "weight"),
        (({"provdier": "a"},), {}, "did you mean 'provider'"),
        (("a", "any"), {}, "lead back"),
    ],
)
def test_a_wrong_route_is_refused(town: Town, targets: Any, more: dict[str, Any], said: str) -> None:
    """At once, with what was meant, and nothing is left of it."""
    with pytest.raises(ConfigError, match=said):
        town.app.configure_route("any", *targets, **more)
    assert "any" not in town.app.setting("ai", "routes")
    assert town.app.entry("provider/any") is None


def test_a_route_that_runs_is_not_led_back_to_itself(town: Town) -> None:
    """A change is checked as the first declaration is: refused at once, over another route too, and nothing changes."""
    town.app.configure_route("any", "a")
    town.app.configure_route("other", "any")
    for target in ("any", "other"):
        with pytest.raises(ConfigError, match="lead back"):
            town.app.configure_route("any", target)
    assert town.ask() == "a"


def test_a_target_nobody_configured(town: Town) -> None:
    """It is passed over while there is another; alone, it is the caller's error. Configured later, it is asked."""
    town.app.configure_route("any", "c", "b")
    assert town.ask() == "b"
    town.app.configure_route("lone", "c")
    with pytest.raises(NoProcess, match="provider/c"):
        town.ask("lone")
    town.app.configure_provider("c", **provider_of(town.a))
    assert town.ask() == "a"
    town.app.remove_provider("c")
    assert town.ask() == "b"


def test_a_target_whose_breaker_is_open_is_not_asked(town: Town) -> None:
    """Nothing is sent there, and nobody waits for it."""
    town.app.protection.configure("a", failure_threshold=1, recovery_time=60.0)
    says(town.a).status = 500
    town.app.configure_route("any", "a", "b")
    assert [town.ask() for _ in range(4)] == ["b"] * 4
    assert town.sent == (1, 4)


def test_a_target_that_is_killed_is_passed_over(town: Town) -> None:
    """The request that was on its way there is answered by the next."""
    town.app.configure_route("any", "a", "b")
    says(town.a).gate.clear()
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(town.ask()))
    waiting.start()
    assert town.a.arrived.wait(5)
    town.app.kill("provider/a")
    waiting.join(5)
    says(town.a).gate.set()
    assert answers == ["b"]


def test_a_module_on_a_route(town: Town) -> None:
    """Asked whole or in pieces it names the route, and its answers say which provider gave them."""
    qa = town.app.start_module("qa", "question -> answer", provider="any")
    with pytest.raises(NoProcess):
        qa(question=QUESTION)
    town.app.configure_route("any", "a", "b")
    answer = qa(question=QUESTION)
    assert (answer.answer, answer.info.provider) == ("a", "a")
    says(town.a).status = 500
    answer = qa(question=QUESTION)
    assert (answer.answer, answer.info.provider, len(answer.info.attempts)) == ("b", "b", 2)
    assert answer.info.correlation_id is not None
    found = town.app.events.query(correlation_id=answer.info.correlation_id).events
    assert {event.type for event in found} >= {"lm_fallback", "lm_error", "lm_response", "module_execution"}


def test_a_stream_on_a_route(town: Town) -> None:
    """Until the first piece the next provider may take over; the result says who it was; afterwards it breaks off."""
    says(town.a).status = 500
    talk = Talker()
    town.b.script = talk
    town.app.configure_route("any", "a", "b")
    qa = town.app.start_module("qa", "question -> answer", provider="any")
    with endings(town.app) as ended:
        with qa.stream(question=QUESTION) as stream:
            assert "".join(chunk.text for chunk in stream) == TEXT
        assert (stream.result.info.provider, stream.result.info.model) == ("b", "test-model")
        with town.app.lm.stream("any", QUESTION) as direct:
            assert "".join(chunk.text for chunk in direct) == "".join(ANSWER)
        assert direct.result.provider == "b"
        town.a.script = Talker(ANSWER[:3], "cut")
        before = len(town.b.requests)
        with pytest.raises(StreamInterrupted), qa.stream(question=QUESTION) as stream:
            list(stream)
        assert len(town.b.requests) == before
        assert ended.after(2) == [None, "lm_stream_interrupted"]


def test_an_answer_that_does_not_fit_is_no_failure_of_the_provider(town: Town) -> None:
    """The model answered: another provider is not asked for its like, whatever the module does about it."""
    town.app.configure_route("any", "a", "b")
    count = town.app.start_module("count", "question -> n: int", provider="any")
    with pytest.raises(ParseError):
        count(question=QUESTION)
    assert town.sent[1] == 0


def test_a_route_in_a_file(town: Town, tmp_path: pathlib.Path) -> None:
    """Declared in TOML it starts with the application; its status and its place in the registry are a provider's."""
    path = tmp_path / "dspex.toml"
    providers = "\n".join(
        f'[ai.providers.{name}]\nkind = "openai"\nbase_url = "{server.url}/v1"\ndefault_model = "m"\nretry_attempts = 1'
        for name, server in (("a", town.a), ("b", town.b))
    )
    path.write_text(
        f"""
        {providers}
        [ai.routes.any]
        targets = [{{provider = "b", model = "big"}}, {{provider = "a"}}]
        [modules.qa]
        signature = "question -> answer"
        provider = "any"
        [events]
        in_memory = true
        """
    )
    with dspex.start(path) as app:
        assert app.module("qa")(question=QUESTION).answer == "b"
        assert town.b.requests[-1].json()["model"] == "big"
        assert "provider/any" in app.tree()
        row = app.registry.lookup("provider/any")
        assert row is not None
        assert (row.metadata["type"], row.metadata["targets"]) == ("route", ["b", "a"])
        assert app.health().ok
