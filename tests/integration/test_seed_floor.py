"""What the seed and the library below it promise, seen from outside: one application and a server that answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as installed_version
from typing import Any

import pytest

import dspex
from dspex.actors.telemetry.actor import EmitCounter, EmitGauge, EmitHistogram
from dspex.runtime.errors import Error, LMServerError, UnknownMessage
from dspex.runtime.messages import GetStatistics
from kit.http_server import Exchange, HttpServer, completion

SERVICES = ("core/events", "core/config", "core/registry", "observers/telemetry")


def answer(exchange: Exchange) -> None:
    """The server answers, unless it is asked to fail."""
    if b"FAIL" in exchange.request.body:
        exchange.reply(503, {"error": {"message": "overloaded"}})
    else:
        exchange.reply(200, completion("[[ ## answer ## ]]\nOslo\n\n[[ ## completed ## ]]"))


@pytest.fixture
def app() -> Iterator[dspex.App]:
    """An application with a provider and a module."""
    with HttpServer(answer) as server, dspex.start(config={"events": {"in_memory": True}}) as app:
        app.configure_provider("local", kind="openai", base_url=f"{server.url}/v1", default_model="some-model")
        app.start_module("qa", "question -> answer", provider="local")
        yield app


class Restarts:
    """Waits for later incarnations of names, from the name table: the registry may be one of them.

    Args:
        app: whose names.
        names: which.
    """

    def __init__(self, app: dspex.App, *names: str) -> None:
        self._table = app.engine.names
        self._old = {name: self._incarnation(name) for name in names}
        self._changed = threading.Event()
        self._table.subscribe(lambda entry, change: self._changed.set())

    def _incarnation(self, name: str) -> int:
        entry = self._table.get(name)
        return 0 if entry is None or entry.state != "running" else entry.incarnation

    def wait(self) -> None:
        """Until all of them run again."""
        while not all(self._incarnation(name) > old for name, old in self._old.items()):
            assert self._changed.wait(5)
            self._changed.clear()


def test_version_is_that_of_the_distribution() -> None:
    """`dspex.__version__` is a version, the one that is packaged."""
    parts = dspex.__version__.split(".")
    assert len(parts) == 3
    assert parts[0].isdigit()
    try:
        packaged = installed_version("dspex")
    except ModuleNotFoundError:
        return  # run from a checkout that nobody installed
    assert packaged == dspex.__version__


def test_services_come_back_after_a_kill(app: dspex.App) -> None:
    """Each service that is killed, alone or with others, runs again at a new address, and the whole works."""
    restarts = Restarts(app, *SERVICES)
    app.kill("core/events")
    app.kill("observers/telemetry")
    restarts.wait()
    assert all(row is not None and row.state == "running" for row in map(app.registry.lookup, SERVICES))
    assert app.module("qa")(question="Capital of Norway?").answer == "Oslo"


def test_the_event_stores_own_crash_is_in_its_log(app: dspex.App) -> None:
    """What is told while the event store is away waits for it: its own end is remembered too."""
    restarts = Restarts(app, *SERVICES[:3])
    app.kill("core/events")
    restarts.wait()
    reports = app.events.query(type="supervisor_report", where={"child": "core/events"}).events
    assert [report.reason for report in reports] == ["killed"]  # type: ignore[attr-defined]


def test_a_failed_call_leads_to_its_events(app: dspex.App) -> None:
    """The error carries the correlation id, and the trace tree below it shows the execution and the request."""
    with pytest.raises(LMServerError) as caught:
        app.module("qa").options(user="ann")(question="FAIL")
    (root,) = app.events.tree(caught.value.correlation_id)
    types = [[event.type for event in node.events] for node in root.walk()]
    assert types == [["module_execution"], ["lm_request", "lm_retry", "lm_retry", "lm_error"]]
    assert {event.user for node in root.walk() for event in node.events} == {"ann"}


def test_an_error_of_a_call_that_reached_nobody_has_the_id_too(app: dspex.App) -> None:
    """Whatever ends a module's call, its error tells which trace it was; one of a call without a trace does not."""
    app.stop_module("qa")
    module = app.start_module("qa", "question -> answer", provider="local")
    app.stop_module("qa")
    with pytest.raises(Error) as caught:
        module.options(trace_id="c" * 32)(question="?")
    assert caught.value.correlation_id == "c" * 32
    with pytest.raises(Error) as caught:
        app.call("nobody/here", "x")
    assert "correlation_id" not in caught.value.facts


def test_modules_and_providers_register_themselves(app: dspex.App) -> None:
    """What each is, found by kind, by attribute and by pattern, with an event at birth (list_dspex_modules)."""
    (row,) = app.registry.select(kind="module")
    assert (row.metadata["signature"], row.metadata["provider"]) == ("question -> answer", "local")
    for conditions in ({"provider": "local", "kind": "module"}, {"pattern": "module/*"}):
        assert [found.name for found in app.registry.select(**conditions)] == ["module/qa"]
    (provider,) = app.registry.select(kind="provider")
    assert (provider.metadata["type"], provider.metadata["model"]) == ("provider", "some-model")
    events = app.events.query(type="registered", order="oldest", where=[("kind", "in", ["provider", "module"])]).events
    assert [event.name for event in events] == ["provider/local", "module/qa"]  # type: ignore[attr-defined]
    assert events[1].metadata["signature"] == "question -> answer"  # type: ignore[attr-defined]


def test_one_call_leaves_the_seeds_events_and_metrics(app: dspex.App) -> None:
    """Request, response and execution events, and counters of requests and tokens by provider and model."""
    prediction = app.module("qa")(question="Capital of Norway?")
    found = {event.type: event for event in app.events.query(trace_id=prediction.info.correlation_id).events}
    request: Any = found["lm_request"]
    response: Any = found["lm_response"]
    execution: Any = found["module_execution"]
    assert (request.provider, request.model, len(request.prompt_hash)) == ("local", "some-model", 64)
    assert request.prompt_tokens > 0
    assert (response.request_event_id, response.input_tokens, response.output_tokens) == (request.id, 11, 3)
    assert (execution.input_fields, execution.output_fields, execution.success) == (("question",), ("answer",), True)
    assert response.parent_id == execution.span_id
    metrics = app.telemetry.snapshot()
    assert metrics.total("dspex_lm_requests_total", provider="local", model="some-model", status="success") == 1
    assert metrics.total("dspex_lm_tokens_total", provider="local") == 14
    assert metrics.total("dspex_module_executions_total", status="success") == 1


def test_odd_messages_are_answered_and_harm_nobody(app: dspex.App) -> None:
    """An unknown call is its caller's error; whom it was for lives on, as the same incarnation."""
    names = (*SERVICES, "provider/local", "module/qa")
    for name in names:
        for odd in (object(), "drop table", ("$gen_call", None)):
            with pytest.raises(UnknownMessage, match=name):
                app.call(name, odd)
    assert [(row.state, row.incarnation) for name in names if (row := app.registry.lookup(name))] == [
        ("running", 1)
    ] * 6


def test_every_actor_tells_its_statistics(app: dspex.App) -> None:
    """Who it is, its state, its mailbox, what it has handled and how old it is, of any actor."""
    actors = {"core/events": "EventStore", "module/qa": "ModuleActor", "supervisor/core": "Supervisor"}
    for name, actor in actors.items():
        before, after = (app.call(name, GetStatistics()) for _ in range(2))
        assert (before.name, before.actor, before.status == "dead") == (name, actor, False)
        assert after.handled >= before.handled >= 0
        assert after.age > before.age > 0


class Worker(dspex.GenServer):
    """Waits on a thread until it is told to go on."""

    def init(self, go_on: threading.Event) -> None:
        self.go_on = go_on

    @dspex.call
    async def work(self, msg: str) -> int:
        await self.run_blocking(self.go_on.wait, 5)
        return await self.run_blocking(threading.get_ident)


def test_blocking_work_holds_up_nobody(app: dspex.App) -> None:
    """Work that blocks runs on a thread of its own; everybody else is answered meanwhile."""
    go_on = threading.Event()
    app.start_child(dspex.ChildSpec("worker", Worker, (go_on,), name="test/worker"))
    with ThreadPoolExecutor(1) as pool:
        worked = pool.submit(app.call, "test/worker", "work")
        assert app.module("qa")(question="Capital of Norway?").answer == "Oslo"
        assert not worked.done()
        go_on.set()
        assert worked.result(5) not in {threading.get_ident(), app.engine.thread_id}


def test_values_of_ones_own_are_counted(app: dspex.App) -> None:
    """Foundation's emit_counter, emit_gauge and emit_histogram: casts to the telemetry actor."""
    for value in (EmitCounter("jobs_total", 2), EmitGauge("queue", 7), EmitHistogram("job_seconds", 0.5)):
        app.cast("observers/telemetry", value)
    metrics = app.telemetry.snapshot()
    assert (metrics.total("jobs_total"), metrics.total("queue")) == (2, 7)
    times = metrics.histogram("job_seconds")
    assert times is not None
    assert (times.count, times.quantile(0.5)) == (1, 0.5)
