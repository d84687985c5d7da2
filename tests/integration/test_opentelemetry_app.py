"""A whole application against a third-party server: its spans, its metrics, and the tree of what happened."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import metrics, trace
from prometheus_client.parser import text_string_to_metric_families

import dspex
from dspex.actors.events.tree import TraceNode
from dspex.actors.protection.messages import ProtectionStatus
from dspex.actors.telemetry.opentelemetry import OpenTelemetryReport, OpenTelemetryStatus
from dspex.actors.telemetry.otel_metrics import DURATION, FIRST_CHUNK_SECONDS, TOKENS
from dspex.runtime.errors import LMError, StartError
from kit.application import IN_MEMORY, Watch
from kit.llmock_server import LLMock, llmock_server
from kit.otel import Backend, attributes, ids

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FAILS = {"type": "fail", "status": 500}


@pytest.fixture(scope="module")
def running() -> Iterator[LLMock]:
    """One server for the module."""
    with llmock_server("--response-style", "echo") as server:
        yield server


@pytest.fixture
def server(running: LLMock) -> LLMock:
    """The server, without plans."""
    running.reset()
    return running


@contextmanager
def application(server: LLMock, **telemetry: Any) -> Iterator[dspex.App]:
    """An application with a provider at the server, one where nobody listens, a route over both, and a module."""
    local = {"kind": "openai", "base_url": server.openai_url, "default_model": "m", "retry_base_delay": 0.001}
    nobody = local | {"base_url": "http://127.0.0.1:9/v1", "retry_attempts": 1}
    config = {
        **IN_MEMORY,
        "ai": {
            "providers": {"local": local, "nobody": nobody},
            "routes": {"both": {"targets": [{"provider": "nobody"}, {"provider": "local"}]}},
        },
        "modules": {"qa": {"signature": "question -> answer", "provider": "local"}},
        "telemetry": telemetry,
    }
    with dspex.start(config=config) as app:
        yield app


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """OpenTelemetry's global providers."""
    found = Backend()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: found.tracers)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: found.meters)
    return found


def ask(app: dspex.App, question: str = "Who?", module: str = "qa") -> dspex.Prediction:
    """Ask the module, in the trace."""
    return app.module(module).options(trace_id=TRACE)(question=question)


def stream(app: dspex.App, question: str = "Who?") -> list[str]:
    """The same in pieces; until the module has counted it out."""
    over = threading.Event()
    app.engine.telemetry.attach("over", ("dspex", "module", "stop"), lambda *_: over.set())
    pieces = [piece.text for piece in app.module("qa").options(trace_id=TRACE).stream(question=question)]
    assert over.wait(10)
    app.module("qa").status()  # behind it in the mailbox
    return pieces


def shape(nodes: tuple[TraceNode, ...]) -> list[Any]:
    """The tree as types of events, nested."""
    return [[*(event.type for event in node.events), *shape(node.children)] for node in nodes]


def test_spans_of_a_call_with_a_retry(server: LLMock, backend: Backend) -> None:
    """Module above request, both with the ids of their events; one span for both attempts."""
    server.plan(FAILS)
    with application(server, opentelemetry=True) as app:
        ask(app, "nothing for anybody's eyes")
        tree = app.events.tree(TRACE)
    request, execution = backend.span("chat m"), backend.span("invoke_workflow qa")
    (module,) = tree
    (step,) = module.children
    assert ids(execution) == (TRACE, module.span_id, None)
    assert ids(request) == (TRACE, step.span_id, module.span_id)
    assert [event.name for event in request.events] == ["dspex.retry"]
    found = attributes(request)
    assert (found["dspex.attempts"], found["gen_ai.response.finish_reasons"]) == (2, ("stop",))
    assert found["gen_ai.usage.input_tokens"]
    assert execution.start_time is not None
    assert request.start_time is not None
    assert execution.start_time <= request.start_time
    assert "nothing for anybody's eyes" not in repr([attributes(span) for span in backend.spans])
    (duration,) = backend.points(DURATION)
    assert duration.attributes["gen_ai.response.model"] == found["gen_ai.response.model"]
    assert {point.attributes["gen_ai.token.type"] for point in backend.points(TOKENS)} == {"input", "output"}


def test_spans_of_a_stream(server: LLMock, backend: Backend) -> None:
    """The same for a stream, with the time of its first chunk; nothing stays open."""
    with application(server, opentelemetry=True) as app:
        assert "".join(stream(app))
        (module,) = app.events.tree(TRACE)
        (step,) = module.children
    request, execution = backend.span("chat m"), backend.span("invoke_workflow qa")
    assert (ids(execution), ids(request)) == (
        (TRACE, module.span_id, None),
        (TRACE, step.span_id, module.span_id),
    )
    assert len(backend.spans) == 2
    assert attributes(request)["gen_ai.request.stream"] is True
    assert len(backend.points(FIRST_CHUNK_SECONDS)) == 1


def test_content_when_it_is_wanted(server: LLMock, backend: Backend) -> None:
    """Prompt and answer, as the conventions' JSON."""
    with application(server, opentelemetry=True, capture_content=True) as app:
        app.lm.complete("local", "the question itself")
    found = attributes(backend.span("chat m"))
    (turn,) = json.loads(str(found["gen_ai.input.messages"]))
    assert turn == {"role": "user", "parts": [{"type": "text", "content": "the question itself"}]}
    assert json.loads(str(found["gen_ai.output.messages"]))[0]["parts"]


def test_without_the_setting_there_is_nothing(server: LLMock, backend: Backend) -> None:
    """No actor, no span, no metric."""
    with application(server) as app:
        ask(app)
        assert app.entry("observers/otel") is None
    assert backend.spans == ()
    assert backend.points(DURATION) == []


def test_a_killed_actor_begins_again(server: LLMock, backend: Backend) -> None:
    """It is restarted and listens again; what was open is ended."""
    with application(server, opentelemetry=True) as app:
        watch, before = Watch(app), Watch(app).incarnation("observers/otel")
        app.kill("observers/otel")
        watch.until(lambda: watch.running("observers/otel", before))
        ask(app)
        assert app.call("observers/otel", OpenTelemetryStatus()) == OpenTelemetryReport(open_spans=0, swept=0)
    assert sorted(span.name for span in backend.spans) == ["chat m", "invoke_workflow qa"]


def test_without_the_extra_the_start_fails_with_what_to_install(
    server: LLMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error, about the setting."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(StartError, match=r"pip install 'dspex\[otel\]'"), application(server, opentelemetry=True):
        pass


def test_spans_open_at_the_end_of_the_application_are_ended(server: LLMock, backend: Backend) -> None:
    """Nothing is left behind."""
    server.plan({"type": "delay", "seconds": 1.0})
    began = threading.Event()
    with application(server, opentelemetry=True) as app:
        app.engine.telemetry.attach("began", ("dspex", "lm", "start"), lambda *_: began.set())

        def give_up() -> None:
            with pytest.raises(dspex.Error):
                ask(app)

        thread = threading.Thread(target=give_up)
        thread.start()
        assert began.wait(10)
        app.stop()
        thread.join(10)
    assert sorted(span.name for span in backend.spans) == ["chat m", "invoke_workflow qa"]
    assert all("error.type" in attributes(span) for span in backend.spans)


# -- the tree of what happened -----------------------------------------------------------------------


def test_the_tree_of_a_call_with_a_retry(server: LLMock) -> None:
    """Below the module its request, the retry and the answer."""
    server.plan(FAILS)
    with application(server) as app:
        ask(app)
        found = shape(app.events.tree(TRACE))
    assert found == [["module_execution", ["lm_request", "lm_retry", "lm_response"]]]


def test_the_tree_of_a_stream(server: LLMock) -> None:
    """Below the module its request, the first chunk and the end."""
    with application(server) as app:
        stream(app)
        found = shape(app.events.tree(TRACE))
    assert found == [["module_execution", ["lm_request", "lm_first_chunk", "lm_response"]]]


def test_the_tree_of_a_route(server: LLMock) -> None:
    """The provider that failed, the step to the next one, and that one's answer, all below the module."""
    with application(server) as app:
        app.start_module("routed", "question -> answer", provider="both")
        ask(app, module="routed")
        found = shape(app.events.tree(TRACE))
    assert found == [["lm_fallback", "module_execution", ["lm_request", "lm_error"], ["lm_request", "lm_response"]]]


def test_what_a_request_does_to_the_protection_stands_in_its_step(server: LLMock) -> None:
    """A breaker that opens belongs to the request that opened it."""
    with application(server) as app:
        app.update_setting(("ai", "providers", "nobody", "failure_threshold"), 1)
        app.start_module("lost", "question -> answer", provider="nobody")
        with pytest.raises(LMError):
            ask(app, module="lost")
        assert app.call("protection/nobody", ProtectionStatus()).breaker.state == "open"  # its word of it was before
        found = shape(app.events.tree(TRACE))
    assert found == [["module_execution", ["lm_request", "lm_error", "protection_changed"]]]


# -- metrics -----------------------------------------------------------------------------------------


def test_what_prometheus_scrapes(server: LLMock) -> None:
    """The text of a running application is one that Prometheus' own parser reads, with the new metrics in it."""
    server.plan(FAILS)
    with application(server) as app:
        ask(app)
        stream(app)
        text = app.telemetry.prometheus()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["dspex_lm_requests"].samples[0].value == 2
    assert families["dspex_lm_retries"].samples[0].value == 1
    assert families["dspex_lm_time_to_first_token_seconds"].type == "histogram"
    streams = {sample.labels["provider"]: sample.value for sample in families["dspex_lm_streams_open"].samples}
    assert streams == {"local": 0, "nobody": 0}
