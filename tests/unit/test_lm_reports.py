"""What is told of model requests: the events, and what telemetry makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from dspex.actors.configuration.settings import MonitoringSettings
from dspex.actors.events.kinds import Event, LmAttempt, LmError, LmFirstChunk, LmRequest, LmResponse, LmRetry
from dspex.actors.events.store import Append
from dspex.actors.lm.error_context import new_ai_context, with_context
from dspex.actors.lm.reports import LmReports
from dspex.actors.lm.values import Attempt, LMRequest, LMResponse, Message, Usage
from dspex.actors.telemetry.events import Translator
from dspex.actors.telemetry.metrics import Metrics, MetricsSnapshot
from dspex.runtime.errors import LMRateLimited, StreamInterrupted
from dspex.runtime.gen_server import GenServer, call, cast
from dspex.runtime.testing.system import VirtualSystem

E = TypeVar("E", bound=Event)
REQUEST = LMRequest((Message("user", "what nobody may read"),))
USAGE = Usage(100, 20, 120, cached_tokens=40, source="provider", cache_write_tokens=10, reasoning_tokens=5)
ATTEMPTS = (Attempt(1, 429, 0.5, "req-1", "lm_rate_limited", 2.0, "p"), Attempt(2, 200, 1.5, "req-2", None, 4.0, "p"))
ANSWER = LMResponse(
    text="yes",
    model="m-2024",
    finish_reason="stop",
    usage=USAGE,
    request_id="req-2",
    provider="p",
    attempts=ATTEMPTS,
    cost=Decimal("0.25"),
)


class Notebook(GenServer):
    """Stands in for the event store."""

    def init(self, events: list[Event]) -> None:
        self.events = events

    @cast
    def append(self, msg: Append) -> None:
        self.events.extend(msg.events)


class Teller(GenServer):
    """Tells what it is told to tell."""

    def init(self, monitoring: MonitoringSettings) -> None:
        self.reports = LmReports(self, "p", monitoring)

    @call
    def tell(self, msg: tuple[Any, ...]) -> Any:
        method, args, kwargs = msg
        return getattr(self.reports, method)(*args, **kwargs)


class Desk:
    """A teller, and who listens."""

    def __init__(self, system: VirtualSystem) -> None:
        self._system = system
        self.events: list[Event] = []
        self.translator = Translator()
        self.metrics = Metrics(self.translator.metrics)
        self.told: list[tuple[str, dict[str, Any]]] = []
        system.engine.telemetry.attach_many("desk", self.translator.events, self._on_telemetry)
        system.spawn(Notebook, self.events, name="core/events")
        self.use()

    def use(self, **monitoring: bool) -> None:
        """Monitor differently from now on."""
        self._teller = self._system.spawn(Teller, MonitoringSettings(**monitoring))

    def _on_telemetry(self, event: Any, measured: Any, facts: Any, _: Any) -> None:
        self.told.append((event[-1], dict(measured)))
        for update in self.translator.translate(event, measured, facts):
            self.metrics.record(update, 0.0)

    def tell(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the reports."""
        answer = self._system.call(self._teller, (method, args, kwargs))
        self._system.settle()
        return answer

    def only(self, cls: type[E]) -> E:
        """The one event of this type."""
        (found,) = [event for event in self.events if isinstance(event, cls)]
        return found

    @property
    def counted(self) -> MetricsSnapshot:
        """The metrics."""
        return self.metrics.snapshot(now=0.0, time=0.0)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Somebody who tells, in virtual time."""
    with VirtualSystem() as system:
        yield Desk(system)


def test_an_answer_is_told_with_all_that_was_counted(desk: Desk) -> None:
    """Tokens of every kind, cost, accounts and the provider's id stand in the event, and add up in metrics."""
    id = desk.tell("began", REQUEST, "m", capture_prompts=False)
    desk.tell("succeeded", id, "m", ANSWER, 3.5, accounts=("provider/p", "module/qa"))
    event = desk.only(LmResponse)
    assert desk.only(LmRequest).id == event.request_event_id == id
    assert not desk.only(LmRequest).stream
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (100, 20, 120)
    assert (event.cached_tokens, event.cache_write_tokens, event.reasoning_tokens) == (40, 10, 5)
    assert (event.cost, event.accounts, event.request_id) == (Decimal("0.25"), ("provider/p", "module/qa"), "req-2")
    assert (event.model, event.attempts, event.stream, event.cache_hit) == ("m-2024", 2, False, False)
    seen, labels = desk.counted, {"provider": "p", "model": "m"}
    for name, total in {
        "cost_usd": 0.25,
        "cached_input_tokens": 40,
        "cache_write_tokens": 10,
        "reasoning_tokens": 5,
        "cache_hits": 0,
        "attempts": 2,
    }.items():
        assert seen.total(f"dspex_lm_{name}_total", **labels) == total


def test_waiting_for_room_is_measured_apart_from_pauses(desk: Desk) -> None:
    """Only the wait before the first attempt is a wait for room; a request that was never admitted has none."""
    desk.tell("succeeded", "id", "m", ANSWER, 3.5)
    desk.tell("failed", "id", "m", "budget_exceeded", None, 0, 0.0)
    waits = desk.counted.histogram("dspex_lm_queue_wait_seconds", provider="p", model="m")
    assert waits is not None
    assert (waits.count, waits.sum) == (1, 2.0)


def test_an_answer_of_our_cache_is_counted_as_one(desk: Desk) -> None:
    """It is a request that cost nothing and was never sent."""
    hit = LMResponse(
        text="yes",
        model="m",
        finish_reason="stop",
        usage=Usage(0, 0, 0, source="provider"),
        cost=Decimal(0),
        cache_hit=True,
    )
    desk.tell("succeeded", "id", "m", hit, 0.0)
    assert desk.only(LmResponse).cache_hit
    assert desk.counted.total("dspex_lm_cache_hits_total", provider="p", model="m") == 1
    assert desk.counted.total("dspex_lm_attempts_total") == 0
    assert desk.counted.histogram("dspex_lm_queue_wait_seconds") is None


def test_a_stream_is_told_from_beginning_to_end(desk: Desk) -> None:
    """Its request says so, its first chunk is an event of its own, its end says when that came."""
    id = desk.tell("began", REQUEST, "m", capture_prompts=False, stream=True)
    desk.tell("first_chunk", id, "m", 0.75)
    answer = LMResponse(text="yes", model="m", finish_reason="stop", usage=USAGE, time_to_first_chunk=0.75)
    desk.tell("succeeded", id, "m", answer, 3.0)
    assert desk.only(LmRequest).stream
    assert (desk.only(LmFirstChunk).request_event_id, desk.only(LmFirstChunk).seconds) == (id, 0.75)
    assert (desk.only(LmResponse).stream, desk.only(LmResponse).time_to_first_token) == (True, 0.75)
    firsts = desk.counted.histogram("dspex_lm_time_to_first_token_seconds", provider="p", model="m")
    assert firsts is not None
    assert (firsts.count, firsts.sum) == (1, 0.75)


def test_a_retry_is_told(desk: Desk) -> None:
    """Which attempt failed, why, and how long the pause is."""
    desk.tell("retrying", "id", "m", LMRateLimited("slow down", status=429), 1, 2.5)
    event = desk.only(LmRetry)
    assert (event.request_event_id, event.code, event.status) == ("id", "lm_rate_limited", 429)
    assert (event.attempt, event.delay) == (1, 2.5)
    assert desk.counted.total("dspex_lm_retries_total", code="lm_rate_limited", provider="p", model="m") == 1


def test_an_interrupted_answer_has_cost_something(desk: Desk) -> None:
    """What came of it is counted as tokens and money, and the request as an error."""
    error = with_context(
        StreamInterrupted("cut off", status=200, request_id="req-9"),
        new_ai_context(REQUEST, provider="p", model="m").with_response(LMResponse(text="ye", model="m")),
    )
    paid = {"usage": USAGE, "cost": Decimal("0.25"), "accounts": ("provider/p",)}
    desk.tell("failed", "id", "m", error.code, error, 2, 3.5, stream=True, partial=True, **paid)
    event = desk.only(LmError)
    assert (event.total_tokens, event.cost, event.usage_source) == (120, Decimal("0.25"), "provider")
    assert (event.accounts, event.stream, event.partial, event.request_id) == (("provider/p",), True, True, "req-9")
    context = error.ai_context
    assert (event.prompt_hash, event.prompt_tokens) == (context.prompt_hash, context.prompt_tokens)
    assert (event.prompt_type, event.response_hash) == ("completion", context.response_hash)
    assert "what nobody may read" not in event.model_dump_json()
    assert desk.counted.total("dspex_lm_tokens_total", kind="output") == 20
    assert desk.counted.total("dspex_lm_cost_usd_total") == 0.25
    assert desk.counted.total("dspex_lm_errors_total", code="lm_stream_interrupted") == 1


def test_a_failure_that_cost_nothing_says_nothing_of_it(desk: Desk) -> None:
    """Unknown is not zero, in the event and in metrics."""
    desk.tell("failed", "id", "m", "cancelled", None, 1, 3.5)
    event = desk.only(LmError)
    assert (event.input_tokens, event.cost, event.usage_source, event.accounts) == (None, None, "unknown", ())
    assert (event.prompt_hash, event.partial, event.message) == (None, False, "the caller gave up")
    assert desk.counted.select("dspex_lm_tokens_total") == ()


@pytest.mark.parametrize("detailed", [True, False])
def test_single_attempts_are_told_only_if_asked(desk: Desk, detailed: bool) -> None:
    """With ``detailed_event_logging`` each try is an event, of successes and of failures."""
    desk.use(detailed_event_logging=detailed)
    desk.tell("succeeded", "good", "m", ANSWER, 3.5)
    desk.tell("failed", "bad", "m", "lm_rate_limited", LMRateLimited("slow", attempts=ATTEMPTS[:1]), 1, 0.5)
    desk.tell("failed", "ugly", "m", "cancelled", None, ATTEMPTS[:1], 0.5)
    found = [event for event in desk.events if isinstance(event, LmAttempt)]
    expected = [("good", 1), ("good", 2), ("bad", 1), ("ugly", 1)] if detailed else []
    assert [(event.request_event_id, event.number) for event in found] == expected
    if found:
        first = found[0]
        assert (first.status, first.code, first.request_id) == (429, "lm_rate_limited", "req-1")
        assert (first.seconds, first.waited) == (0.5, 2.0)


def test_cost_and_durations_are_left_out_if_not_wanted(desk: Desk) -> None:
    """Without cost tracking nobody is told a cost; without performance logging no time is measured."""
    desk.use(cost_tracking_enabled=False, performance_logging=False)
    desk.tell("first_chunk", "id", "m", 0.75)
    desk.tell("succeeded", "id", "m", ANSWER, 3.5)
    desk.tell("failed", "id", "m", "lm_timeout", None, 1, 3.5, usage=USAGE, cost=Decimal("0.25"))
    assert (desk.only(LmResponse).cost, desk.only(LmError).cost) == (None, None)
    assert desk.only(LmResponse).duration == 3.5
    assert not [measured for _, measured in desk.told if {"cost", "duration", "waited"} & set(measured)]
    assert desk.counted.total("dspex_lm_tokens_total", kind="input") == 200
    assert not [family.name for family in desk.counted.families if family.name.endswith("_seconds") and family.series]
