"""The application as people use it from plain code: `dspex.start`, its methods, its views, its life."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

import dspex
from dspex import ChildSpec, Continue, GenServer, Info, Supervisor
from dspex.actors.events.tree import TraceNode
from dspex.runtime.child_spec import child_spec
from dspex.runtime.errors import (
    ActorDied,
    AlreadyStarted,
    ApplicationDown,
    CallTimeout,
    ConfigError,
    EventNotFound,
    ForkedProcess,
    LMError,
    NameUnavailable,
    NoProcess,
    RegistryError,
    SignatureError,
    SpecError,
    StartError,
    StoreCorrupt,
    StoreError,
    SupervisorError,
    UsageError,
    WrongThread,
)
from dspex.runtime.outcomes import Ignored, Started
from dspex.supervisors.app import blocking_views, handles, views
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from dspex.supervisors.messages import DeleteChild, StartInstance, TerminateChild, WhichChildren
from dspex.supervisors.simple import SimpleSupervisor
from kit.application import (
    IN_MEMORY,
    Add,
    Boom,
    Broken,
    Counter,
    Gate,
    Slow,
    Watch,
    answering,
    application,
    configuration,
    counter,
    provider_of,
    trip,
)
from kit.http_server import Exchange, HttpServer, completion

KEY = "sk-live-0123456789abcdef"


# -- start and stop ----------------------------------------------------------------------------------


def test_an_application_starts_and_stops_in_memory() -> None:
    """Started, it is healthy; stopped, every call says that it is down and why."""
    app = dspex.start(config=IN_MEMORY)
    assert app.health().status == "healthy"
    app.stop()
    assert app.wait(5) == "shutdown"
    assert app.health().status == "stopped"
    with pytest.raises(ApplicationDown) as caught:
        app.call("core/registry", Add())
    assert caught.value.reason == "shutdown"


def test_what_was_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    """Events in a file outlive the application."""
    config = {"events": {"path": str(tmp_path / "events.db")}}
    with dspex.start(config=config) as app:
        id = app.events.record("visit", {"page": 7})
    with dspex.start(config=config) as app:
        event = app.events.get(id)
        assert event.type == "visit"
        assert app.events.query(type="visit", where={"data.page": 7}).events == (event,)


def test_stopping_twice_is_stopping_once() -> None:
    """A second stop, from any view, does nothing."""
    app = dspex.start(config=IN_MEMORY)
    app.stop()
    app.stop(drain=1.0)
    app.namespace("x").stop()


def test_every_method_says_that_the_application_is_down() -> None:
    """After the end each way in raises ApplicationDown at once; what needs no actor still answers."""
    app = dspex.start(config=IN_MEMORY)
    app.stop(reason="maintenance")
    ways: list[Callable[[], Any]] = [
        lambda: app.call("x/y", Add()),
        lambda: app.cast("x/y", Add()),
        lambda: app.kill("core/events"),
        lambda: app.configure_provider("p", kind="openai"),
        lambda: app.start_module("m", "a -> b", provider="p"),
        lambda: app.setting("app"),
        lambda: app.start_child(counter()),
        lambda: app.registry.select(),
        lambda: app.events.query(),
        lambda: app.telemetry.snapshot(),
        lambda: app.lm.complete("p", "Hi"),
        lambda: app.tree(),
    ]
    for way in ways:
        with pytest.raises(ApplicationDown) as caught:
            way()
        assert caught.value.reason == "maintenance"
    entry = app.entry("core/events")
    assert entry is not None
    assert entry.state == "dead"


def test_thirty_starts_leave_nothing_behind(tmp_path: Path) -> None:
    """Threads and file descriptors are as many after thirty applications as after one."""

    def once(number: int) -> None:
        with (
            HttpServer(answering()) as server,
            dspex.start(
                config={**configuration(server, "qa"), "events": {"path": str(tmp_path / f"{number}.db")}}
            ) as app,
        ):
            assert app.module("qa")(question="Who?").answer == "Shakespeare"

    def census() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    once(0)
    before = census()
    for number in range(1, 31):
        once(number)
    after = census()
    assert after[0] <= before[0]
    assert after[1] <= before[1]


def test_applications_stand_side_by_side() -> None:
    """Three applications in one process know nothing of each other."""
    apps = [dspex.start(config=IN_MEMORY) for _ in range(3)]
    try:
        for number, app in enumerate(apps):
            app.start_child(ChildSpec("counter", Counter, (number * 100,), name="demo/counter"))
        assert [app.call("demo/counter", Add()) for app in apps] == [1, 101, 201]
        apps[0].stop()
        assert [app.call("demo/counter", Add()) for app in apps[1:]] == [102, 202]
    finally:
        for app in apps:
            app.stop()


def test_a_toml_file_starts_providers_and_modules(tmp_path: Path) -> None:
    """What the file declares is ready when start returns."""
    with HttpServer(answering()) as server:
        file = tmp_path / "dspex.toml"
        file.write_text(
            f"""
            [events]
            in_memory = true
            [ai.providers.local]
            kind = "openai"
            base_url = "{server.url}/v1"
            default_model = "some-model"
            [modules.qa]
            signature = "question -> answer"
            provider = "local"
            """
        )
        with dspex.start(file) as app:
            assert app.health().status == "healthy"
            assert app.module("qa")(question="Who?").answer == "Shakespeare"


# -- a start that fails --------------------------------------------------------------------------------


def threads() -> list[str]:
    """Names of the threads that an engine or a journal runs."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dspex")]


def test_a_corrupt_event_file_is_a_start_error(tmp_path: Path) -> None:
    """The error names the file and the part, carries StoreCorrupt as its cause, and nothing is left running."""
    path = tmp_path / "events.db"
    path.write_bytes(b"this is no database at all, only a text that is long enough" * 100)
    with pytest.raises(StartError, match="core/events") as caught:
        dspex.start(config={"events": {"path": str(path)}})
    assert isinstance(caught.value.__cause__, StoreCorrupt)
    assert str(path) in str(caught.value)
    assert caught.value.child == ("core", "events")
    assert threads() == []


def test_a_child_that_does_not_start_is_a_start_error() -> None:
    """The error names the child and its exception in one sentence; nothing is left running."""
    with pytest.raises(StartError, match=r"child 'children/bad' failed: ZeroDivisionError: no way") as caught:
        dspex.start(config=IN_MEMORY, children=[counter(), ChildSpec("bad", Broken)])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert threads() == []


def test_a_malformed_child_is_refused_before_anything_starts() -> None:
    """Doubled ids and specs of no kind are SpecErrors at once."""
    for children in ([counter(), counter()], [42], [{"id": "x"}]):
        with pytest.raises(SpecError):
            dspex.start(config=IN_MEMORY, children=children)  # type: ignore[arg-type]
    assert threads() == []


def test_wrong_settings_and_options_are_refused_with_a_hint() -> None:
    """Misspelt settings and misspelt options name the nearest right one."""
    with pytest.raises(ConfigError, match="did you mean 'in_memory'"):
        dspex.start(config={"events": {"in_memry": True}})
    with pytest.raises(UsageError, match="did you mean 'children'"):
        dspex.start(config=IN_MEMORY, childern=[])
    with pytest.raises(UsageError, match="config="):
        dspex.start({"events": {"in_memory": True}})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        dspex.start("nowhere.toml")


@pytest.mark.parametrize("given", ["dspex.toml", ["events"], 5])
def test_a_configuration_that_is_no_mapping_is_refused(given: Any) -> None:
    """A file's name or a list as `config` is refused in words, not by the first thing that trips over it."""
    with pytest.raises(UsageError, match=r"expected settings as a mapping, got .* at config"):
        dspex.start(config=given)


@pytest.mark.parametrize("given", [counter(), {"id": "c", "start": Counter}, "counter"])
def test_one_child_where_several_are_meant_is_refused(given: Any) -> None:
    """A child spec by itself, and not in a list, is refused in words."""
    with pytest.raises(SpecError, match="expected several child specs, as a list, got one"):
        dspex.start(config=IN_MEMORY, children=given)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", object()])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    """It is the caller's mistake, said as such, by both views; it is not the engine that is late."""
    with dspex.start(config=IN_MEMORY) as app:
        with pytest.raises(UsageError, match=r"expected seconds .* at timeout"):
            app.call("core/events", Add(), timeout=timeout)
        with pytest.raises(UsageError, match=r"expected seconds .* at timeout"):
            asyncio.run(app.aio.call("core/events", Add(), timeout=timeout))


def test_what_is_no_name_is_refused() -> None:
    """A number where a name belongs, or no function where one does, is refused at once."""
    wrong: Any = 3
    with dspex.start(config=IN_MEMORY) as app:
        for way in (app.kill, app.entry, app.on_exit):
            with pytest.raises(UsageError, match="got int"):
                way(wrong)


def _look_in_a_fork(app: dspex.App, results: Any) -> None:
    refused = 0
    for way in (app.health, lambda: app.entry("core/events"), lambda: app.module("qa"), lambda: app.on_exit(print)):
        try:
            way()
        except ForkedProcess:
            refused += 1
    results.put(refused)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_not_told_that_all_is_well() -> None:
    """What needs no actor is refused there too: the name table is a copy of which nothing runs."""
    context = multiprocessing.get_context("fork")
    with dspex.start(config=IN_MEMORY) as app:
        results: Any = context.SimpleQueue()
        child = context.Process(target=_look_in_a_fork, args=(app, results))
        child.start()
        child.join(10)
        assert child.exitcode == 0
        assert results.get() == 4
        assert app.health().ok


# -- providers -------------------------------------------------------------------------------------------


def test_a_provider_is_checked_before_it_is_declared() -> None:
    """An unknown setting names the nearest right one; a wrong type says what was expected; nothing is declared."""
    with dspex.start(config=IN_MEMORY) as app:
        with pytest.raises(ConfigError, match="did you mean 'base_url'"):
            app.configure_provider("local", kind="openai", base_ulr="http://127.0.0.1:1/v1")
        with pytest.raises(ConfigError, match="timeout"):
            app.configure_provider("local", kind="openai", timeout="soon")
        assert dict(app.setting("ai", "providers")) == {}
        assert app.entry("provider/local") is None


def test_a_provider_that_cannot_start_is_not_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own error comes back, and the next restart does not try it again."""

    def broken(settings: object) -> NoReturn:
        raise ConfigError("expected readable certificates, got none")

    with dspex.start(config=IN_MEMORY) as app:
        with monkeypatch.context() as patched:
            patched.setattr("dspex.actors.providers.actor.http_transport", broken)
            with pytest.raises(ConfigError, match="certificates"):
                app.configure_provider("claude", kind="anthropic")
        assert dict(app.setting("ai", "providers")) == {}
        assert app.health().status == "healthy"  # nobody misses what never was
        assert app.entry("provider/claude") is None
        app.configure_provider("claude", kind="openai", base_url="http://127.0.0.1:1/v1")
        assert app.health().status == "healthy"


def test_a_provider_changes_while_it_runs() -> None:
    """Configured again, a running provider goes on at the new address, as the same incarnation."""
    with HttpServer(answering("two")) as second, application(answering("one"), "qa") as (app, _):
        qa = app.module("qa")
        assert qa(question="?").answer == "one"
        app.configure_provider("local", **provider_of(second))
        assert qa(question="?").answer == "two"
        entry = app.entry("provider/local")
        assert entry is not None
        assert entry.incarnation == 1


def test_a_removed_provider_is_gone() -> None:
    """It is stopped and forgotten; a second removal says that there is none."""
    with application(None, "qa") as (app, _):
        app.remove_provider("local")
        assert app.entry("provider/local") is None
        assert dict(app.setting("ai", "providers")) == {}
        with pytest.raises(NoProcess):
            app.module("qa")(question="?")
        with pytest.raises(ConfigError):
            app.remove_provider("local")


def test_a_literal_key_is_never_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The key reaches the server and nothing else: no repr, setting, tree, registry row, event, log or file."""
    caplog.set_level(logging.DEBUG)
    config = {"events": {"path": str(tmp_path / "events.db"), "capture_prompts": True}}
    with HttpServer(answering()) as server, dspex.start(config=config) as app:
        app.configure_provider("local", **provider_of(server, api_key=KEY, headers={"x-extra": KEY}))
        qa = app.start_module("qa", "question -> answer", provider="local")
        qa(question="Who?")
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
        watch, before = Watch(app), Watch(app).incarnation("core/config")
        app.kill("core/config")
        watch.until(lambda: watch.running("core/config", before))
        qa(question="Who?")  # the key outlived the configuration actor
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
        with pytest.raises(ConfigError) as refused:
            app.configure_provider("other", kind="openai", api_key=KEY, tiemout=3)
        shown = [
            repr(app.setting()),
            str(app.setting("ai", "providers", "local")),
            app.tree(),
            json.dumps(app.tree_data().to_dict(), default=repr),
            repr(app.registry.select(state="any")),
            repr(list(app.engine.names.entries())),
            *(event.model_dump_json() for event in app.events.query(limit=1000).events),
            repr(app.telemetry.snapshot()),
            repr(app.health()),
            str(refused.value) + repr(refused.value.facts),
        ]
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(KEY in text for text in [*shown, caplog.text])
    assert not any(KEY.encode() in content for content in files)


# -- modules ---------------------------------------------------------------------------------------------


def test_a_module_answers_and_says_how() -> None:
    """The prediction has the outputs, and tells of usage, attempts and ids."""
    with application() as (app, _):
        qa = app.start_module("qa", "question -> answer", provider="local", instructions="Be brief.")
        prediction = qa(question="Who wrote Hamlet?")
        assert prediction.answer == prediction["answer"] == "Shakespeare"
        assert (prediction.info.usage.input_tokens, prediction.info.usage.output_tokens) == (11, 3)
        assert len(prediction.info.attempts) == 1
        assert prediction.info.correlation_id
        assert qa.status().executions == 1
        assert repr(qa) == "<Module module/qa>"
        assert app.module("qa")(question="?").answer == "Shakespeare"


def test_a_module_is_checked_before_it_starts() -> None:
    """A bad signature says where; a bad setting which; and nothing is declared."""
    with application() as (app, _):
        with pytest.raises(SignatureError) as caught:
            app.start_module("qa", "question -> -> answer", provider="local")
        assert isinstance(caught.value.position, int)
        with pytest.raises(ConfigError, match="did you mean 'temperature'"):
            app.start_module("qa", "question -> answer", provider="local", temprature=1)
        with pytest.raises(SignatureError, match="did you mean 'question'"):
            app.start_module("qa", "question -> answer", provider="local", demos=[{"qestion": "?"}])
        assert dict(app.setting("modules")) == {}
        with pytest.raises(NoProcess, match="module/qa"):
            app.module("qa")
        assert app.health().status == "healthy"


def test_a_module_is_started_once_and_changed_by_starting_it_again() -> None:
    """The second start gives a handle of the same actor, with the new settings."""
    with application() as (app, server):
        app.start_module("qa", "question -> answer", provider="local", model="m1")
        again = app.start_module("qa", "question -> answer", provider="local", model="m2")
        again(question="?")
        assert server.requests[-1].json()["model"] == "m2"
        assert app.registry.count(kind="module") == 1


def test_a_stopped_module_is_gone() -> None:
    """It is stopped and forgotten; an old handle says that nobody is there."""
    with application(None, "qa") as (app, _):
        qa = app.module("qa")
        app.stop_module("qa")
        with pytest.raises(NoProcess):
            qa(question="?")
        with pytest.raises(ConfigError, match="expected one of the keys of modules, which has none, got 'qa'"):
            app.stop_module("qa")
        assert app.health().status == "healthy"


def test_a_misspelt_provider_is_told_with_a_hint() -> None:
    """A module may be started before its provider; a call then says who is missing, and who may be meant."""
    with application() as (app, _):
        qa = app.start_module("qa", "question -> answer", provider="locl")
        with pytest.raises(NoProcess, match=r"provider/locl: nobody .* did you mean 'provider/local'"):
            qa(question="?")


def test_wrong_inputs_are_refused_without_asking_the_model() -> None:
    """An unknown or missing input is the caller's error, and costs nothing."""
    with application(None, "qa") as (app, server):
        with pytest.raises(SignatureError, match="question"):
            app.module("qa")(qestion="?")
        with pytest.raises(SignatureError, match="got 'self'"):
            app.module("qa")(self="?")  # no name is special: inputs may come from a client
        assert server.requests == []


def test_options_are_checked() -> None:
    """A misspelt option names the nearest; milliseconds, odd users and odd values are refused."""
    with application(None, "qa") as (app, _):
        qa = app.module("qa")
        with pytest.raises(UsageError, match="did you mean 'timeout'"):
            qa.options(timeot=1)
        with pytest.raises(ConfigError, match="seconds, not ms"):
            qa.options(timeout=5000)
        with pytest.raises(UsageError, match="user"):
            qa.options(user=7)
        with pytest.raises(UsageError, match="trace_id"):
            qa.options(trace_id="")
        with pytest.raises(LMError):
            qa.options(temperature=-1)


def test_options_go_with_the_call() -> None:
    """Sampling options reach the model; the handle without them is unchanged."""
    with application(None, "qa") as (app, server):
        qa = app.module("qa")
        qa.options(temperature=0.5).options(max_tokens=7, model="other")(question="?")
        sent = server.requests[-1].json()
        assert (sent["temperature"], sent["model"]) == (0.5, "other")
        qa(question="?")
        assert "temperature" not in server.requests[-1].json()


def test_a_timeout_ends_the_call_and_the_request() -> None:
    """The caller hears in time, the server sees the socket close, and the module goes on."""
    with application(Exchange.hang, "qa") as (app, server):
        qa = app.module("qa").options(timeout=1.0)
        with pytest.raises((CallTimeout, LMError)) as caught:
            qa(question="?")
        assert isinstance(caught.value, TimeoutError)
        assert server.client_closed.wait(5)
        server.script = answering()
        assert app.module("qa")(question="?").answer == "Shakespeare"


def test_the_modules_own_timeout_holds_unless_told_otherwise() -> None:
    """`start_module(timeout=...)` is the deadline of calls that name none."""
    with application(Exchange.hang) as (app, server):
        qa = app.start_module("qa", "question -> answer", provider="local", timeout=1.0)
        with pytest.raises(TimeoutError):
            qa(question="?")
        assert server.client_closed.wait(5)
        app.start_module("patient", "question -> answer", provider="local", timeout=100)
        app.registry.wait_for("module/patient")
        _, how = handles.CallOptions().call("module/patient", {}, app._life)  # pyright: ignore[reportPrivateUsage]
        assert how["timeout"] > 100


def test_the_user_and_the_trace_travel_to_the_events() -> None:
    """Every event of a call has its user and its trace, also one begun elsewhere."""
    with application(None, "qa") as (app, _):
        trace = "ab" * 16
        prediction = app.module("qa").options(user="ann", trace_id=trace)(question="?")
        assert prediction.info.correlation_id == trace
        events = app.events.query(correlation_id=trace).events
        assert {event.type for event in events} == {"lm_request", "lm_response", "module_execution"}
        assert {event.user for event in events} == {"ann"}


def test_the_steps_of_a_call_are_a_tree() -> None:
    """The module's execution stands above the request and the response that it caused."""
    with application(None, "qa") as (app, _):
        prediction = app.module("qa")(question="?")
        assert prediction.info.correlation_id is not None
        (top,) = app.events.tree(prediction.info.correlation_id)
        assert [event.type for event in top.events] == ["module_execution"]
        assert top.span_id == prediction.info.span_id
        (below,) = top.children
        assert isinstance(below, TraceNode)
        assert [event.type for event in below.events] == ["lm_request", "lm_response"]
        assert all(event.parent_id == top.span_id for event in below.events)


def test_fail_fast_does_not_wait_for_a_restart() -> None:
    """While its name comes back, a call waits; one that fails fast is refused at once."""
    backoff = Backoff(initial=0.5, maximum=0.5, jitter=False)
    with dspex.start(config=IN_MEMORY, children=[counter(backoff=backoff)]) as app:
        watch = Watch(app)
        app.kill("demo/counter")
        watch.until(lambda: watch.state("demo/counter") == "backing_off")
        with pytest.raises(NameUnavailable):
            app.call("demo/counter", Add(), fail_fast=True)
        assert app.call("demo/counter", Add()) == 1


def test_many_ask_at_once() -> None:
    """Threads share one handle; every answer goes to whoever asked."""

    def echo(exchange: Exchange) -> None:
        asked = exchange.request.json()["messages"][-1]["content"]
        number = next(word for word in asked.split() if word.startswith("n="))
        exchange.reply(200, completion(number))

    with application(echo, "qa") as (app, _), ThreadPoolExecutor(16) as pool:
        qa = app.module("qa")
        answers = list(pool.map(lambda n: qa(question=f"n={n} ?").answer, range(100)))
        assert answers == [f"n={n}" for n in range(100)]


def test_the_provider_itself_can_be_asked() -> None:
    """`app.lm.complete` needs no module; the events know the user."""
    with application() as (app, _):
        response = app.lm.complete("local", "Hi", user="bob", temperature=0.1)
        assert response.text == "Shakespeare"
        (event,) = app.events.query(type="lm_response").events
        assert event.user == "bob"
        with pytest.raises(UsageError, match="user"):
            app.lm.complete("local", "Hi", user=7)  # type: ignore[arg-type]


# -- both views ------------------------------------------------------------------------------------------


def methods(cls: type) -> dict[str, list[str]]:
    """Public methods and properties, with the names of their parameters."""
    found: dict[str, list[str]] = {}
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") and name != "__call__":
            continue
        found[name] = list(inspect.signature(member).parameters) if callable(member) else []
    return found


@pytest.mark.parametrize(
    ("awaited", "plain"),
    [
        (dspex.AsyncApp, dspex.App),
        (handles.AsyncModule, handles.Module),
        *[(getattr(views, f"Async{name}"), name) for name in ("Registry", "Events", "Telemetry", "LM")],
    ],
)
def test_both_views_have_the_same_names_and_parameters(awaited: type, plain: Any) -> None:
    """What one view offers the other does too, with the same parameters and defaults."""
    other: type = getattr(blocking_views, plain) if isinstance(plain, str) else plain
    assert methods(awaited) == methods(other)
    for name in methods(awaited):
        one, two = getattr(awaited, name), getattr(other, name)
        if callable(one):
            assert defaults_of(one) == defaults_of(two), name


def defaults_of(function: Any) -> list[tuple[Any, ...]]:
    """Names, kinds and defaults of a function's parameters."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_the_awaitable_view_of_a_blocking_application() -> None:
    """`app.aio` is the same application, from a coroutine on any loop."""
    with application(None, "qa") as (app, _):
        prediction = asyncio.run(app.aio.module("qa")(question="?"))
        assert prediction.answer == "Shakespeare"


# -- actors of one's own ---------------------------------------------------------------------------------


class Told(Counter):
    """Passes something on at its start."""

    def init(self, start: int = 0) -> Info:  # type: ignore[override]
        self.n = start
        return Info("hello")


def test_a_child_of_ones_own() -> None:
    """It is started below the standard supervisor, called by name, restarted, and shown in the tree."""
    with dspex.start(config=IN_MEMORY) as app:
        started = app.start_child(ChildSpec("told", Told, (40,), name="demo/told"))
        assert isinstance(started, Started)
        assert started.info == "hello"
        assert app.call(started.address, Add(2)) == app.call("demo/told", Add(0)) == 42
        with pytest.raises(ActorDied, match="boom"):
            app.call("demo/told", Boom())
        assert app.call("demo/told", Add()) == 41
        assert "demo/told  [Told]  idle  restarts 1  (last end: ZeroDivisionError: boom)" in app.tree()


def test_a_child_is_stopped_for_good() -> None:
    """A restart of its supervisor does not bring it back; id and name are free. A temporary one is forgotten too."""
    with dspex.start(config=IN_MEMORY) as app:
        for restart in ("permanent", "temporary"):
            app.start_child(ChildSpec("told", Told, (40,), name="demo/told", restart=restart))
            app.stop_child("told")
            with pytest.raises(NoProcess):
                app.call("demo/told", Add())
        app.kill("supervisor/children")
        assert app.call("supervisor/children", WhichChildren()) == ()
        with pytest.raises(SupervisorError, match="told"):
            app.stop_child("told")
        app.start_child(counter())
        with pytest.raises(SupervisorError, match="got 'demo/counter', which is the name of the child 'counter'"):
            app.stop_child("demo/counter")
        with pytest.raises(SupervisorError, match="got 'countr'; did you mean 'counter'"):
            app.stop_child("countr")
        app.start_child(ChildSpec("told", Told, (1,), name="demo/told"))
        assert app.call("demo/told", Add()) == 2


def test_the_names_below_a_child_are_stopped_with_it() -> None:
    """A module that was stopped on purpose does not make the application look as if it had failed."""
    with dspex.start(config=IN_MEMORY) as app:
        worker = ChildSpec("worker", Told, (40,), name="module/shop/1")
        app.start_child(Supervisor.child_spec("module/shop", [worker], name="supervisor/module/shop"))
        assert app.health().parts["module/shop/1"].state == "running"
        app.stop_child("module/shop")
        assert app.health().ok
        with pytest.raises(NoProcess, match="nobody has this name"):
            app.call("module/shop/1", Add())


def test_a_child_of_a_dynamic_supervisor_is_stopped() -> None:
    """By its address, or its name; one made from a template as well."""
    crews = [
        DynamicSupervisor.child_spec("crew", name="supervisor/crew"),
        SimpleSupervisor.child_spec("likes", ChildSpec("like", Counter, (40,)), name="supervisor/likes"),
    ]
    with dspex.start(config=IN_MEMORY, children=crews) as app:
        started = app.start_child(counter(), under="supervisor/crew")
        assert isinstance(started, Started)
        like = app.call("supervisor/likes", StartInstance(name="demo/like"), timeout=None)
        app.stop_child("demo/like", under="supervisor/likes")
        app.stop_child(started.address, under="supervisor/crew")
        for gone in (started.address, like.address):
            with pytest.raises(NoProcess):
                app.call(gone, Add())


def test_a_child_is_a_spec_a_mapping_or_a_class() -> None:
    """The three ways to write a child are taken; what is none of them is refused with a hint."""
    with dspex.start(config=IN_MEMORY, children=[Counter]) as app:
        app.start_child({"id": "b", "start": (Counter, (5,))})
        ids = [child.id for child in app.call("supervisor/children", WhichChildren())]
        assert sorted(ids) == ["Counter", "b"]
        with pytest.raises(SpecError):
            app.start_child({"id": "c"})
        with pytest.raises(SpecError, match="did you mean"):
            app.start_child(child_spec("c", Counter, resart="temporary"))


def test_a_child_that_cannot_start_is_refused() -> None:
    """The error says which child, and carries the exception; a taken id says so."""
    with dspex.start(config=IN_MEMORY, children=[counter()]) as app:
        with pytest.raises(StartError, match="no way") as caught:
            app.start_child(ChildSpec("bad", Broken))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(AlreadyStarted):
            app.start_child(counter())
        with pytest.raises(NoProcess):
            app.start_child(counter("other"), under="supervisor/nobody")


def test_a_child_below_a_supervisor_of_ones_own() -> None:
    """`under=` names any supervisor."""
    crew = Supervisor.child_spec("crew", [counter("a")], name="supervisor/crew")
    with dspex.start(config=IN_MEMORY, children=[crew]) as app:
        app.start_child(counter("b"), under="supervisor/crew")
        assert [app.call(f"demo/{id}", Add()) for id in "ab"] == [1, 1]
        app.kill("supervisor/crew")
        watch = Watch(app)
        watch.until(lambda: watch.running("demo/a", 1))
        assert app.call("demo/a", Add()) == 1


def test_a_child_started_at_run_time_comes_back_with_its_supervisor() -> None:
    """Declared children come back after the death of their supervisor; deleted ones do not."""
    with dspex.start(config=IN_MEMORY, children=[counter("a")]) as app:
        for id in ("b", "c"):
            app.start_child(counter(id))
        app.start_child(counter("t", restart="temporary"))
        app.call("supervisor/children", TerminateChild("c"))
        app.call("supervisor/children", DeleteChild("c"))
        watch = Watch(app)
        app.kill("supervisor/children")
        watch.until(lambda: watch.running("demo/a", 1) and watch.running("demo/b", 1))
        ids = [child.id for child in app.call("supervisor/children", WhichChildren())]
        assert sorted(ids) == ["a", "b"]


class Hopeless(GenServer):
    """Starts well, and crashes at once."""

    def init(self) -> Continue:
        return Continue()

    def handle_continue(self, value: Any) -> None:
        raise ZeroDivisionError("again")


def test_one_bad_child_does_not_stop_the_house() -> None:
    """A child that crashes for ever trips its supervisor, which is tried again ever more slowly; the rest goes on."""
    bad = ChildSpec("bad", Hopeless, name="demo/bad")
    with application(None, "qa", children=[counter("good"), bad]) as (app, _):
        watch = Watch(app)
        watch.until(lambda: watch.incarnation("demo/bad") > 8 and watch.state("supervisor/children") == "backing_off")
        assert app.health().status == "degraded"
        assert app.module("qa")(question="?").answer == "Shakespeare"


def test_tell_and_ask_are_thespians() -> None:
    """`tell` and `ask` reach actors as plain messages, Thespian actors too."""
    from thespian.actors import Actor

    class Echo(Actor):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            if isinstance(msg, str):
                self.send(sender, msg.upper())

    with dspex.start(config=IN_MEMORY) as app:
        started = app.start_child(ChildSpec("echo", Echo))
        assert not isinstance(started, Ignored)
        assert app.ask(started.address, "hello", 5) == "HELLO"
        app.tell(started.address, "nobody hears the answer")


def test_a_cast_arrives_and_a_lost_one_is_counted() -> None:
    """A cast never fails while the application runs."""
    with dspex.start(config=IN_MEMORY) as app:
        before = app.engine.dead_letters.count
        app.cast("demo/nobody", Add())
        app.tree()  # behind the cast
        assert app.engine.dead_letters.count == before + 1


def test_killing_an_unknown_name_is_refused() -> None:
    """A misspelt name is an error with a hint, not silence."""
    with dspex.start(config=IN_MEMORY) as app, pytest.raises(NoProcess, match="did you mean 'core/events'"):
        app.kill("core/event")


def test_a_namespace_is_a_view_of_its_own_names() -> None:
    """One id means another actor in another namespace; providers, modules and events are everybody's."""
    with application(None, "qa", children=[counter()]) as (app, _):
        tenant = app.namespace("tenant-1")
        tenant.start_child(ChildSpec("tenant-counter", Counter, (100,), name="demo/counter"))
        assert (app.call("demo/counter", Add()), tenant.call("demo/counter", Add())) == (1, 101)
        entry = tenant.entry("demo/counter")
        assert entry is not None
        assert entry.name == "tenant-1:demo/counter"
        row = tenant.registry.wait_for("demo/counter")
        assert row.namespace == "tenant-1"
        assert [each.name for each in tenant.registry.select()] == ["tenant-1:demo/counter"]
        assert tenant.registry.count(namespace="", kind="demo") == 1
        assert tenant.module("qa")(question="?").answer == "Shakespeare"
        assert tenant.events.query(type="lm_response").events
        assert tenant.health().ok
        watch = Watch(app)
        tenant.kill("demo/counter")
        watch.until(lambda: watch.running("tenant-1:demo/counter", 1))
        tenant.cast("demo/counter", Boom())  # a cast without a handler ends it, and only it
        watch.until(lambda: watch.running("tenant-1:demo/counter", 2))
        assert app.call("demo/counter", Add()) == 2


# -- looking ---------------------------------------------------------------------------------------------


def test_the_registry_knows_who_is_who() -> None:
    """Rows have state, restarts and what the actor announced; one can select, count and wait."""
    with application(None, "qa") as (app, _):
        row = app.registry.lookup("module/qa")
        assert row is not None
        assert (row.state, row.kind, row.id) == ("running", "module", "qa")
        assert [each.name for each in app.registry.select(kind="module", provider="local")] == ["module/qa"]
        assert app.registry.count(pattern="provider/*") == 1
        assert app.registry.lookup("module/none") is None
        with pytest.raises(CallTimeout):
            app.registry.wait_for("module/none", timeout=0.05)
        with pytest.raises(RegistryError):
            app.registry.select(where=[("provider", "no-such-op", 1)])


def test_events_are_appended_and_found() -> None:
    """Own events are kept with their place; a wrong query names the key; an unknown id is an error."""
    with dspex.start(config=IN_MEMORY) as app:
        id = app.events.record("note", {"n": 1})
        assert app.events.get(id).type == "note"
        assert app.events.append(()) == ()
        with pytest.raises(EventNotFound):
            app.events.get("nothing")
        with pytest.raises(StoreError, match="did you mean 'limit'"):
            app.events.query(limti=3)
        assert app.events.stats().journal.events >= 1


def test_telemetry_counts_calls() -> None:
    """A snapshot holds what happened before it; turned off, it says so."""
    with application(None, "qa") as (app, _):
        app.module("qa")(question="?")
        snapshot = app.telemetry.snapshot()
        assert snapshot.total("dspex_lm_requests_total", provider="local") == 1
    config = {**IN_MEMORY, "telemetry": {"enabled": False}}
    with dspex.start(config=config) as app:
        assert app.health().status == "healthy"
        with pytest.raises(ConfigError, match=r"telemetry\.enabled"):
            app.telemetry.snapshot()


def test_health_says_what_is_wrong() -> None:
    """Healthy; degraded when a module is dead, with its reason; unhealthy while an essential part is down."""
    with application(None, "qa", rng=Slow()) as (app, _):
        assert app.health().ok
        trip(app, "module/qa")
        health = app.health()
        assert health.status == "degraded"
        assert (health.parts["module/qa"].state, health.parts["module/qa"].reason) == ("dead", "killed")
        assert json.loads(json.dumps(health.to_dict()))["status"] == "degraded"
        app.engine.on_engine(app.engine.names.set_state, "core/events", "restarting", "test")
        assert app.health().status == "unhealthy"
        app.engine.on_engine(app.engine.names.set_state, "core/events", "running")


def test_the_tree_shows_who_is_down() -> None:
    """A dead module stands in the tree below its pool, with its reason."""
    with application(None, "qa", rng=Slow()) as (app, _):
        trip(app, "module/qa")
        lines = app.tree().splitlines()
        assert any("module/qa  [ModuleActor]  dead" in line and "killed" in line for line in lines)
        pool = next(n for n, line in enumerate(lines) if "supervisor/module-pool" in line)
        assert "supervisor/module/qa" in lines[pool + 1]


# -- settings --------------------------------------------------------------------------------------------


def test_settings_are_read_and_changed_while_it_runs() -> None:
    """A live setting changes; a frozen, unknown or wrong one is refused and says why."""
    with application() as (app, _):
        app.update_setting(("ai", "providers", "local", "timeout"), 7.0)
        assert app.setting("ai", "providers", "local", "timeout") == 7.0
        with pytest.raises(ConfigError, match="did you mean 'timeout'"):
            app.update_setting(("ai", "providers", "local", "timeot"), 7.0)
        with pytest.raises(ConfigError):
            app.update_setting(("app", "name"), "other")
        with pytest.raises(ConfigError):
            app.setting("ai", "nothing")


# -- life ------------------------------------------------------------------------------------------------


def test_waiting_for_the_end() -> None:
    """`wait` gives up after its timeout, and returns the reason; `on_exit` is called once, also afterwards."""
    app = dspex.start(config=IN_MEMORY)
    with pytest.raises(TimeoutError):
        app.wait(0.01)
    told: list[Any] = []
    app.on_exit(told.append)
    app.stop(reason=("shutdown", "deploy"))
    assert app.wait(5) == ("shutdown", "deploy")
    app.on_exit(told.append)
    assert told == [("shutdown", "deploy")] * 2


def test_the_end_of_the_root_is_the_end_of_the_application() -> None:
    """The root supervisor killed, everything ends with that reason, and later calls are told it."""
    with application(None, "qa") as (app, _):
        app.kill("supervisor/application")
        assert app.wait(10) == "killed"
        with pytest.raises(ApplicationDown) as caught:
            app.module("qa")(question="?")
        assert caught.value.reason == "killed"
        assert app.engine.cells == {}


def error_of(function: Callable[[], Any]) -> dspex.Error | None:
    """The error it raises, if it does."""
    try:
        function()
    except dspex.Error as error:
        return error
    return None


def test_draining_lets_calls_finish_and_takes_no_new_ones() -> None:
    """A call in progress gets its answer; a new one is refused at once."""
    gate = Gate()
    with application(gate, "qa") as (app, server), ThreadPoolExecutor(2) as pool:
        answer = pool.submit(app.module("qa"), question="?")
        assert server.arrived.wait(5)
        stopping = pool.submit(app.stop, drain=10.0)
        while not isinstance(refusal := error_of(lambda: app.call("core/registry", Add())), ApplicationDown):
            assert refusal is not None  # an unknown message, as long as it is not draining yet
        assert refusal.reason == "draining"
        gate.open.set()
        assert answer.result(10).answer == "late"
        stopping.result(10)
        assert app.wait(5) == "shutdown"


def test_draining_ends_when_its_time_is_up() -> None:
    """A call that does not finish in time is told that the application is down."""
    with application(Exchange.hang, "qa") as (app, server), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(app.module("qa"), question="?")
        assert server.arrived.wait(5)
        app.stop(drain=0.2)
        with pytest.raises(dspex.Error):
            answer.result(10)
        assert server.client_closed.wait(5)


def test_a_blocking_call_on_the_engines_thread_is_refused() -> None:
    """From an actor, the blocking view raises WrongThread at once instead of waiting for itself."""
    with dspex.start(config=IN_MEMORY) as app:
        for way in (
            lambda: app.call("core/registry", Add()),
            lambda: app.tree(),
            lambda: app.wait(),
            lambda: app.stop(),
        ):
            with pytest.raises(WrongThread):
                app.engine.on_engine(way)


def test_reports_read_by_themselves_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A supervisor's report is a log line with all it says, and has the fields apart for who wants them."""
    with dspex.start(config=IN_MEMORY, children=[counter()]) as app:
        with pytest.raises(ActorDied):
            app.call("demo/counter", Boom())
        assert app.call("demo/counter", Add()) == 1
        (event,) = app.events.query(type="supervisor_report").events
        assert event.source == "supervisor/children"
    record = next(each for each in caplog.records if each.name == "dspex.supervisor")
    assert record.getMessage() == (
        "child_terminated supervisor=supervisor/children child=demo/counter reason=ZeroDivisionError: boom"
    )
    assert (record.supervisor, record.child) == ("supervisor/children", "demo/counter")  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
