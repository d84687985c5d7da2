"""Requests and modules as OpenTelemetry's spans and metrics, seen by the SDK's exporter and reader in memory."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from dspex.actors.lm.values import LMRequest, LMResponse, Message, ToolCall
from dspex.actors.providers.messages import Leave, OpenStream
from dspex.actors.telemetry.opentelemetry import OpenTelemetryActor, OpenTelemetryReport, OpenTelemetryStatus
from dspex.actors.telemetry.otel_attributes import input_messages, output_messages, request_attributes
from dspex.actors.telemetry.otel_bridge import OtelBridge
from dspex.actors.telemetry.otel_ids import id_number
from dspex.actors.telemetry.otel_metrics import DURATION, FIRST_CHUNK_SECONDS, TOKENS
from dspex.runtime.clock import Clock
from dspex.runtime.context import Context
from dspex.runtime.errors import ConfigError, Error, LMError
from dspex.runtime.outcomes import Started, StartFailed
from dspex.runtime.telemetry import Telemetry
from dspex.supervisors.dynamic_supervisor import DynamicSupervisor
from kit.otel import Backend, attributes, ids
from kit.providers import FakeStream, World, bad, events, in_world, with_world

PLACE = Context("a" * 32, "b" * 16, "c" * 16)
START, STOP, EXCEPTION = (("dspex", "lm", word) for word in ("start", "stop", "exception"))
MODULE_START, MODULE_STOP = ("dspex", "module", "start"), ("dspex", "module", "stop")
ASKED: Mapping[str, Any] = {"provider": "p", "model": "m", "context": PLACE, "kind": "openai"}


class Wall(Clock):
    """A clock that stands."""

    def time(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 10.0


class Desk:
    """A bridge alone, and the telemetry it listens to."""

    def __init__(self, *, sampler: Sampler | None = None, **options: Any) -> None:
        self.backend = Backend(sampler)
        self.telemetry = Telemetry()
        self.bridge = OtelBridge(
            self.telemetry,
            Wall(),
            tracer_provider=self.backend.tracers,
            meter_provider=self.backend.meters,
            **options,
        )

    def say(self, event: tuple[str, ...], measured: Mapping[str, Any] | None = None, **facts: Any) -> None:
        """Execute an event of a request, or a module."""
        self.telemetry.execute(event, {"system_time": 500.0, **(measured or {})}, {**ASKED, **facts})


# -- one request -------------------------------------------------------------------------------------


def test_a_request_is_one_client_span_with_our_ids() -> None:
    """Name, kind, ids, times and attributes as the conventions have them; a retry is an event in it."""
    desk = Desk()
    options = {"temperature": 0.5, "max_tokens": 9, "stop": ("x",), "seed": 7, "response_format": {"type": "json"}}
    desk.say(START, options=options, base_url="https://api.example.com/v1")
    desk.say(("dspex", "lm", "retry"), {"attempt": 1, "delay": 2.0}, code="lm_rate_limited", status=429)
    usage = {"input_tokens": 5, "output_tokens": 3, "cached_tokens": 2, "cache_write_tokens": 1, "reasoning_tokens": 1}
    desk.say(
        STOP,
        {"duration": 2.5, "attempts": 2, **usage},
        finish_reason="stop",
        response_model="m-1",
        response_id="r-1",
        usage_source="provider",
    )
    (span,) = desk.backend.spans
    assert (span.name, span.kind, span.status.status_code) == ("chat m", SpanKind.CLIENT, StatusCode.UNSET)
    assert ids(span) == ("a" * 32, "b" * 16, None)
    assert (span.start_time, span.end_time) == (500 * 10**9, 5025 * 10**8)
    assert dict(attributes(span)) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "dspex.provider": "p",
        "gen_ai.request.model": "m",
        "server.address": "api.example.com",
        "server.port": 443,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.request.seed": 7,
        "gen_ai.output.type": "json",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.cache_creation.input_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "dspex.attempts": 2,
        "gen_ai.response.model": "m-1",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.finish_reasons": ("stop",),
    }
    (retry,) = span.events
    assert retry.name == "dspex.retry"
    assert retry.attributes is not None
    assert retry.attributes["error.type"] == "lm_rate_limited"


@pytest.mark.parametrize(
    ("facts", "status", "error"),
    [
        ({"code": "lm_timeout", "kind": "error"}, StatusCode.ERROR, "lm_timeout"),
        ({"code": "cancelled", "kind": "exit"}, StatusCode.UNSET, "cancelled"),
    ],
)
def test_a_failure_is_an_error_and_a_cancellation_is_none(facts: Any, status: StatusCode, error: str) -> None:
    """Both say what it was; only a failure is one. The error's words stay out of it."""
    desk = Desk()
    desk.say(START)
    desk.say(EXCEPTION, {"duration": 1.0}, **facts)
    (span,) = desk.backend.spans
    assert (span.status.status_code, attributes(span)["error.type"]) == (status, error)
    (point,) = desk.backend.points(DURATION)
    assert point.attributes["error.type"] == error


def test_metrics_of_a_request() -> None:
    """Duration and tokens, each kind for itself, with few attributes and the conventions' buckets."""
    desk = Desk()
    desk.say(START, base_url="http://127.0.0.1:8080/v1")
    desk.say(STOP, {"duration": 0.5, "input_tokens": 100, "output_tokens": 0}, usage_source="provider")
    (duration,) = desk.backend.points(DURATION)
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": 8080,
    }
    assert (dict(duration.attributes), duration.sum) == (common, 0.5)
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    tokens = {point.attributes["gen_ai.token.type"]: point for point in desk.backend.points(TOKENS)}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 100, "output": 0}
    assert tokens["input"].explicit_bounds[-1] == 67108864


@pytest.mark.parametrize("source", ["unknown", "estimated"])
def test_tokens_that_the_provider_did_not_count_are_not_reported(source: str) -> None:
    """Unknown is not zero, and an estimate is no count."""
    desk = Desk()
    desk.say(START)
    desk.say(STOP, {"duration": 0.5, "input_tokens": 100}, usage_source=source)
    assert desk.backend.points(TOKENS) == []
    assert len(desk.backend.points(DURATION)) == 1


def test_an_answer_of_our_own_cache_is_marked_and_counts_in_no_metric() -> None:
    """Nobody was asked."""
    desk = Desk()
    desk.say(START)
    desk.say(STOP, {"duration": 0.0, "input_tokens": 0}, usage_source="provider", cache_hit=True)
    assert attributes(desk.backend.span("chat m"))["dspex.cache_hit"] is True
    assert desk.backend.points(DURATION) == desk.backend.points(TOKENS) == []


def test_the_first_chunk_of_a_stream_is_timed() -> None:
    """As an attribute of the span and as a metric; the request says that it is a stream."""
    desk = Desk()
    desk.say(START, stream=True)
    desk.say(("dspex", "lm", "chunk"), {"time_to_first_token": 0.25})
    desk.say(STOP, {"duration": 0.5})
    found = attributes(desk.backend.span("chat m"))
    assert (found["gen_ai.request.stream"], found["gen_ai.response.time_to_first_chunk"]) == (True, 0.25)
    (point,) = desk.backend.points(FIRST_CHUNK_SECONDS)
    assert point.sum == 0.25


def test_content_is_there_only_if_telemetry_was_given_it() -> None:
    """Prompts, tools and answers; without them not even their names."""
    desk = Desk()
    answer = LMResponse(text="yes", model="m", finish_reason="stop")
    desk.say(START, messages=(Message("user", "secret question"),), tools=({"type": "function"},))
    desk.say(STOP, response=answer)
    desk.say(START)
    desk.say(STOP)
    with_content, without = desk.backend.spans
    assert "secret question" in str(attributes(with_content)["gen_ai.input.messages"])
    assert json.loads(str(attributes(with_content)["gen_ai.tool.definitions"])) == [{"type": "function"}]
    assert "yes" in str(attributes(with_content)["gen_ai.output.messages"])
    assert not [name for name in attributes(without) if "messages" in name or "tool" in name]


def test_messages_as_the_conventions_have_them() -> None:
    """Roles and parts; of an image only that it is one."""
    picture = {"type": "image_url", "image_url": {"url": "data:..."}}
    call = ToolCall("c1", "add", '{"a": 1}')
    said = input_messages(
        (
            Message("user", ({"type": "text", "text": "Hi"}, picture)),
            Message("assistant", None, (call,)),
            Message("tool", "2", tool_call_id="c1"),
        )
    )
    shown = {"type": "tool_call", "id": "c1", "name": "add", "arguments": '{"a": 1}'}
    assert json.loads(said) == [
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}, {"type": "image_url"}]},
        {"role": "assistant", "parts": [shown]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "2"}]},
    ]
    answer = LMResponse(text="\ud800ok", model="m", finish_reason="tool_calls", reasoning="hm", tool_calls=(call,))
    parts = [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "?ok"}, shown]
    assert json.loads(output_messages(answer)) == [{"role": "assistant", "parts": parts, "finish_reason": "tool_calls"}]


@pytest.mark.parametrize(
    ("kind", "url", "name"),
    [
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai_responses", "https://api.openai.com/v1", "openai"),
        ("anthropic", "https://api.anthropic.com", "anthropic"),
        ("gemini", "https://generativelanguage.googleapis.com", "gcp.gemini"),
        ("openai", "https://me.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("openai", "http://127.0.0.1:1/v1", "openai"),
        ("openai", "https://notgroq.com/v1", "openai"),
    ],
)
def test_the_providers_name_is_the_conventions(kind: str, url: str, name: str) -> None:
    """By the protocol, unless the address says whose server it is."""
    assert request_attributes({"kind": kind, "base_url": url})["gen_ai.provider.name"] == name


# -- where spans stand -------------------------------------------------------------------------------


def test_a_request_is_the_child_of_the_module_that_asked() -> None:
    """And a span whose parent is none of ours begins the trace, with the trace's id."""
    desk = Desk()
    module = Context("a" * 32, "1" * 16, "9" * 16)
    desk.say(MODULE_START, module="qa", context=module)
    desk.say(START, context=Context("a" * 32, "2" * 16, "1" * 16))
    desk.say(STOP, context=Context("a" * 32, "2" * 16, "1" * 16))
    desk.say(MODULE_STOP, {"duration": 1.0}, module="qa", context=module)
    request, execution = desk.backend.spans
    assert (execution.name, execution.kind) == ("invoke_workflow qa", SpanKind.INTERNAL)
    assert attributes(execution)["gen_ai.workflow.name"] == "qa"
    assert ids(execution) == ("a" * 32, "1" * 16, None)
    assert ids(request) == ("a" * 32, "2" * 16, "1" * 16)


def test_what_is_not_sampled_has_no_children_that_are() -> None:
    """The parent's sampling holds for its children."""
    desk = Desk(sampler=ParentBased(ALWAYS_OFF))
    desk.say(MODULE_START, module="qa", context=Context("a" * 32, "1" * 16))
    desk.say(START, context=Context("a" * 32, "2" * 16, "1" * 16))
    desk.say(STOP, {"duration": 1.0}, context=Context("a" * 32, "2" * 16, "1" * 16))
    desk.say(MODULE_STOP, module="qa", context=Context("a" * 32, "1" * 16))
    assert desk.backend.spans == ()
    assert len(desk.backend.points(DURATION)) == 1
    assert len(desk.bridge.spans) == 0


def test_a_correlation_id_of_the_callers_own_is_kept_as_an_attribute() -> None:
    """It is no W3C id: the trace's is made of it, always the same."""
    desk = Desk()
    place = Context("order 42", "b" * 16)
    desk.say(START, context=place)
    desk.say(STOP, context=place)
    (span,) = desk.backend.spans
    assert attributes(span)["dspex.correlation_id"] == "order 42"
    assert ids(span)[0] == f"{id_number('order 42', 32):032x}"
    assert id_number("0" * 32, 32) != 0


def test_other_spans_of_the_program_keep_ids_of_their_own() -> None:
    """The tracer is ours, the generator below it is the program's; two applications may share it."""
    backend = Backend()
    for _ in range(2):
        OtelBridge(Telemetry(), Wall(), tracer_provider=backend.tracers, meter_provider=backend.meters)
    backend.tracers.get_tracer("dspex").start_span("theirs").end()
    backend.tracers.get_tracer("theirs").start_span("theirs").end()
    one, two = backend.spans
    assert len({ids(one)[0], ids(two)[0]}) == 2


# -- ends --------------------------------------------------------------------------------------------


def test_what_is_open_is_bounded() -> None:
    """One more ends the oldest, which says so."""
    desk = Desk(limit=3)
    for number in range(1, 6):
        desk.say(START, context=Context("a" * 32, f"{number:016x}"))
    assert len(desk.bridge.spans) == 3
    ended = [(ids(each)[1], attributes(each)["error.type"]) for each in desk.backend.spans]
    assert ended == [(f"{number:016x}", "abandoned") for number in (1, 2)]


def test_closing_ends_what_is_open_and_listens_no_more() -> None:
    """Nothing is left behind, and later events are nobody's."""
    desk = Desk()
    desk.say(START)
    desk.bridge.close()
    assert [attributes(each)["error.type"] for each in desk.backend.spans] == ["abandoned"]
    desk.say(START)
    desk.say(STOP)
    assert (len(desk.backend.spans), len(desk.bridge.spans), desk.bridge.attached) == (1, 0, False)


def test_events_without_a_place_or_a_beginning_are_let_be() -> None:
    """They may come from anybody, or from before the bridge."""
    desk = Desk()
    desk.say(START, context=None)
    for event in (STOP, EXCEPTION, MODULE_STOP, ("dspex", "lm", "chunk"), ("dspex", "lm", "retry")):
        desk.say(event)
    assert desk.bridge.attached
    assert desk.backend.spans == ()


# -- the actor ---------------------------------------------------------------------------------------


async def observed(world: World, **options: Any) -> Backend:
    """Start the actor in a world."""
    backend = Backend()
    outcome = await world.engine.spawn(
        OpenTelemetryActor, (backend.tracers, backend.meters), options, name="observers/otel"
    )
    assert isinstance(outcome, Started), outcome
    return backend


async def report(world: World) -> OpenTelemetryReport:
    """How the actor does."""
    found = await world.engine.outside.call_async("observers/otel", OpenTelemetryStatus(), timeout=5.0)
    assert isinstance(found, OpenTelemetryReport)
    return found


def run(use: Callable[[World], Awaitable[None]]) -> None:
    """In virtual time."""
    in_world(use)


def test_a_providers_request_and_its_failure() -> None:
    """The span's ids are those of the events; a failed one says what failed."""

    async def use(world: World) -> None:
        backend = await observed(world)
        await world.provider(api_key="sk-secret-secret-secret")
        context = Context("d" * 32, "e" * 16)
        await world.complete("what nobody may read", context=context)
        world.net.answer = lambda request: bad(400)
        with pytest.raises(LMError):
            await world.complete(context=context)
        good, failed = backend.spans
        event = next(each for each in world.events if each.type == "lm_response")
        assert ids(good) == (event.trace_id, event.span_id, None)
        assert attributes(good)["gen_ai.usage.input_tokens"] == 11
        assert attributes(failed)["error.type"] == "lm_invalid_request"
        assert attributes(failed)["http.response.status_code"] == 400
        shown = repr([(each.name, dict(attributes(each)), each.events) for each in backend.spans])
        assert "what nobody may read" not in shown
        assert "sk-secret" not in shown

    run(use)


def test_a_cancelled_request_ends_its_span() -> None:
    """The caller gave up: the span says so, and none is left open."""

    async def use(world: World) -> None:
        backend = await observed(world)
        await world.provider()
        world.net.gate.clear()
        with pytest.raises(Error):
            await world.complete(timeout=1.0)
        await world.settle()
        (span,) = backend.spans
        assert attributes(span)["error.type"] in {"cancelled", "lm_timeout"}
        assert (await report(world)).open_spans == 0

    run(use)


def open_stream(world: World) -> Awaitable[Any]:
    """Ask for a stream."""
    ask = OpenStream(LMRequest((Message("user", "Hi"),)))
    return world.engine.outside.call_async("provider/p", ask, timeout=5.0)


def test_the_span_of_a_killed_stream_is_ended_by_the_next_sweep() -> None:
    """Who is killed says nothing any more: the span does not stay open for ever."""

    async def use(world: World) -> None:
        backend = await observed(world, sweep_every=5.0)
        await world.provider()
        assert isinstance(await world.spawn(DynamicSupervisor, name="streams/p"), Started)
        world.net.stream = lambda request: FakeStream(*events("Hel", finish=None, usage=None), open_end=True)
        opened = await open_stream(world)
        assert (await report(world)).open_spans == 1
        world.engine.kill(opened.address)
        await asyncio.sleep(6.0)
        assert await report(world) == OpenTelemetryReport(open_spans=0, swept=1)
        assert attributes(backend.span("chat m"))["error.type"] == "actor_died"

    run(use)


def test_a_stream_that_somebody_ends_ends_its_span() -> None:
    """It is cancelled, and told of in the trace in which it was asked for, not in that of who ended it."""

    async def use(world: World) -> None:
        backend = await observed(world)
        await world.provider()
        assert isinstance(await world.spawn(DynamicSupervisor, name="streams/p"), Started)
        world.net.stream = lambda request: FakeStream(*events("Hel", finish=None, usage=None), open_end=True)
        opened = await open_stream(world)
        world.engine.outside.cast(opened.address, Leave())
        await world.settle()
        span = backend.span("chat m")
        assert attributes(span)["error.type"] == "cancelled"
        assert "gen_ai.response.time_to_first_chunk" in attributes(span)
        error = next(each for each in world.events if each.type == "lm_error")
        request = next(each for each in world.events if each.type == "lm_request")
        assert (error.trace_id, error.span_id) == (request.trace_id, request.span_id) == ids(span)[:2]

    run(use)


class Raising(SpanProcessor):
    """A span processor with a defect."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise ZeroDivisionError


def test_a_processor_that_raises_harms_no_request() -> None:
    """The request goes on; the actor notices that it listens no more, and ends, to be started again."""

    async def use(world: World) -> None:
        backend = await observed(world, sweep_every=5.0)
        backend.tracers.add_span_processor(Raising())
        await world.provider()
        assert (await world.complete()).text
        assert world.engine.names.get("observers/otel")
        await asyncio.sleep(6.0)
        assert not world.engine.alive("observers/otel")

    run(use)


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error about the setting, and nothing half started."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)

    async def use(world: World) -> None:
        outcome = await world.engine.spawn(OpenTelemetryActor, (), {}, name="observers/otel")
        assert isinstance(outcome, StartFailed)
        error = outcome.reason.error
        assert isinstance(error, ConfigError)
        assert "dspex[otel]" in str(error)
        assert error.facts["path"] == "telemetry.opentelemetry"

    asyncio.run(with_world(use))  # a thread imports it
