"""Telemetry as Elixir's (OTP TEL-01 to TEL-04)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from dspex.runtime.errors import AlreadyRegistered, MetricError, UsageError
from dspex.runtime.telemetry import HANDLER_FAILURE, SPAN_CONTEXT, EventName, Telemetry

EVENT = ("app", "work", "stop")
OTHER = ("app", "work", "start")


class FixedClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_000_000.0 + self.now


class Recorder:
    """A handler that keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[EventName, dict[str, Any], dict[str, Any], Any]] = []

    def __call__(
        self, event: EventName, measurements: Mapping[str, Any], metadata: Mapping[str, Any], config: Any
    ) -> None:
        self.seen.append((event, dict(measurements), dict(metadata), config))

    @property
    def events(self) -> list[EventName]:
        return [event for event, *_ in self.seen]


@pytest.fixture
def clock() -> FixedClock:
    """A clock that moves only when told."""
    return FixedClock()


@pytest.fixture
def telemetry(clock: FixedClock) -> Telemetry:
    """Nobody attached."""
    return Telemetry(clock)


def raising(error: BaseException) -> Any:
    """A handler that raises."""

    def handler(*_: Any) -> None:
        raise error

    return handler


# -- TEL-01: attach and detach ---------------------------------------------------------------------


def test_a_handler_gets_event_measurements_metadata_and_config(telemetry: Telemetry) -> None:
    """TEL-01, TEL-02: what is executed arrives as it is, with the handler's own config."""
    seen = Recorder()
    telemetry.attach("one", EVENT, seen, {"limit": 3})
    telemetry.execute(EVENT, {"duration": 0.5}, {"provider": "p"})
    assert seen.seen == [(EVENT, {"duration": 0.5}, {"provider": "p"}, {"limit": 3})]


def test_a_taken_id_is_refused_whatever_its_event(telemetry: Telemetry) -> None:
    """TEL-01: handler ids are unique; a refused attach changes nothing."""
    first, second = Recorder(), Recorder()
    telemetry.attach("one", EVENT, first)
    with pytest.raises(AlreadyRegistered, match="'one'") as caught:
        telemetry.attach_many("one", (OTHER, EVENT), second)
    assert caught.value.key == "one"
    telemetry.execute(EVENT)
    telemetry.execute(OTHER)
    assert (len(first.seen), len(second.seen)) == (1, 0)


def test_one_may_ask_whether_anybody_listens(telemetry: Telemetry) -> None:
    """To this very event, from its attachment until the last one is detached."""
    assert not telemetry.listens(EVENT)
    telemetry.attach("one", EVENT, Recorder())
    assert telemetry.listens(EVENT)
    assert not telemetry.listens(OTHER)
    telemetry.detach("one")
    assert not telemetry.listens(EVENT)


def test_attach_many_listens_to_each_event_once(telemetry: Telemetry) -> None:
    """TEL-01: one handler, several events; an event named twice is heard once."""
    seen = Recorder()
    telemetry.attach_many("many", (EVENT, OTHER, EVENT), seen)
    telemetry.execute(OTHER)
    telemetry.execute(EVENT)
    assert seen.events == [OTHER, EVENT]


def test_detach_removes_from_all_events_and_says_whether_it_was_there(telemetry: Telemetry) -> None:
    """TEL-01: detach answers ok or not_found, and frees the id."""
    seen = Recorder()
    telemetry.attach_many("many", (EVENT, OTHER), seen)
    assert telemetry.detach("many") is True
    assert telemetry.detach("many") is False
    telemetry.execute(EVENT)
    telemetry.execute(OTHER)
    assert seen.seen == []
    telemetry.attach("many", EVENT, seen)


def test_list_handlers_filters_by_prefix(telemetry: Telemetry) -> None:
    """Handlers are listed by the beginning of their event's name."""
    telemetry.attach("a", EVENT, Recorder(), 1)
    telemetry.attach("b", ("app", "other"), Recorder())
    telemetry.attach("c", ("lib",), Recorder())
    assert [one.id for one in telemetry.list_handlers()] == ["a", "b", "c"]
    assert [one.id for one in telemetry.list_handlers(("app",))] == ["a", "b"]
    assert [(one.event, one.config) for one in telemetry.list_handlers(("app", "work"))] == [(EVENT, 1)]
    assert telemetry.list_handlers(("ap",)) == ()


@pytest.mark.parametrize("event", ["app.work", (), ("app", ""), ("app", 1), ["app"], None])
def test_a_malformed_event_name_is_refused(telemetry: Telemetry, event: Any) -> None:
    """An event name is a non-empty tuple of words."""
    with pytest.raises(MetricError, match="expected an event name"):
        telemetry.attach("x", event, Recorder())
    with pytest.raises(MetricError, match="expected an event name"):
        telemetry.span(event)


def test_a_dotted_name_gets_a_hint(telemetry: Telemetry) -> None:
    """Who writes a dotted name is told the tuple."""
    with pytest.raises(MetricError, match=r"did you mean \('app', 'work'\)"):
        telemetry.attach("x", "app.work", Recorder())  # type: ignore[arg-type]


def test_async_handlers_are_refused(telemetry: Telemetry) -> None:
    """A coroutine function would never run: refused when attached, in every disguise."""

    async def handler(*_: Any) -> None: ...

    class Callable:
        async def __call__(self, *_: Any) -> None: ...

    for wrong in (handler, partial(handler), Callable(), 3):
        with pytest.raises(MetricError, match="expected a plain function"):
            telemetry.attach("x", EVENT, wrong)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="at least one event"):
        telemetry.attach_many("x", (), Recorder())


# -- TEL-02: execute -------------------------------------------------------------------------------


def test_only_the_exact_name_matches(telemetry: Telemetry) -> None:
    """TEL-02: neither a prefix nor a longer name reaches a handler."""
    seen = Recorder()
    telemetry.attach("x", ("app", "work"), seen)
    telemetry.execute(("app",))
    telemetry.execute(("app", "work", "stop"))
    assert seen.seen == []


def test_handlers_run_in_the_calling_thread(telemetry: Telemetry) -> None:
    """TEL-02: a handler runs where the event was executed, before execute returns."""
    threads: list[int] = []
    telemetry.attach("x", EVENT, lambda *_: threads.append(threading.get_ident()))
    worker = threading.Thread(target=telemetry.execute, args=(EVENT,))
    worker.start()
    worker.join()
    telemetry.execute(EVENT)
    assert threads == [worker.ident, threading.get_ident()]


def test_a_handler_may_detach_itself_while_it_runs(telemetry: Telemetry) -> None:
    """Handlers run from the list as it was when the event was executed."""
    seen = Recorder()
    telemetry.attach("self", EVENT, lambda *_: telemetry.detach("self"))
    telemetry.attach("next", EVENT, seen)
    telemetry.execute(EVENT)
    telemetry.execute(EVENT)
    assert len(seen.seen) == 2
    assert [one.id for one in telemetry.list_handlers()] == ["next"]


# -- TEL-03: failing handlers ----------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), asyncio.CancelledError()])
def test_a_raising_handler_is_detached_from_all_its_events(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """TEL-03: it is logged, detached everywhere and told of; the others still run, execute returns."""
    before, after, failures = Recorder(), Recorder(), Recorder()
    telemetry.attach("before", EVENT, before)
    telemetry.attach_many("bad", (EVENT, OTHER), raising(error), "config")
    telemetry.attach("after", EVENT, after)
    telemetry.attach("failures", HANDLER_FAILURE, failures)
    with caplog.at_level(logging.ERROR, "dspex.telemetry"):
        telemetry.execute(EVENT)
        telemetry.execute(EVENT)
        telemetry.execute(OTHER)
    assert (len(before.seen), len(after.seen)) == (2, 2)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    [(event, measurements, metadata, _)] = failures.seen
    assert event == HANDLER_FAILURE
    assert measurements == {"monotonic_time": 100.0, "system_time": 1_000_100.0}
    assert metadata["event_name"] == EVENT
    assert (metadata["handler_id"], metadata["handler_config"]) == ("bad", "config")
    assert metadata["reason"] is error
    assert metadata["stacktrace"] is error.__traceback__


def test_a_failing_failure_handler_does_not_loop(telemetry: Telemetry) -> None:
    """TEL-03: the handler of failures may fail too; it is detached like any other."""
    telemetry.attach("bad", EVENT, raising(ValueError("a")))
    telemetry.attach("worse", HANDLER_FAILURE, raising(ValueError("b")))
    telemetry.execute(EVENT)
    assert telemetry.list_handlers() == ()


def test_an_interrupt_is_the_users(telemetry: Telemetry) -> None:
    """Ctrl-C that lands in a handler is passed on, and the handler stays."""
    telemetry.attach("x", EVENT, raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        telemetry.execute(EVENT)
    assert len(telemetry.list_handlers()) == 1


def test_a_failure_does_not_detach_a_successor_of_the_same_id(telemetry: Telemetry) -> None:
    """Who took over the id of a handler while it was failing stays attached."""
    seen = Recorder()

    def replace_and_fail(*_: Any) -> None:
        telemetry.detach("x")
        telemetry.attach("x", EVENT, seen)
        raise ValueError("late")

    telemetry.attach("x", EVENT, replace_and_fail)
    telemetry.execute(EVENT)
    telemetry.execute(EVENT)
    assert len(seen.seen) == 1


def test_a_handler_that_fails_in_two_threads_is_reported_once(telemetry: Telemetry) -> None:
    """Both threads run it before either detaches it; one failure is told of."""
    both, failures = threading.Barrier(2), Recorder()

    def fail_together(*_: Any) -> None:
        both.wait()
        raise ValueError("bad")

    telemetry.attach("bad", EVENT, fail_together)
    telemetry.attach("failures", HANDLER_FAILURE, failures)
    threads = [threading.Thread(target=telemetry.execute, args=(EVENT,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures.seen) == 1


def test_threads_may_attach_and_detach_while_others_execute(telemetry: Telemetry) -> None:
    """Every attached handler hears every event, whatever other threads attach and detach meanwhile."""
    seen = Recorder()
    telemetry.attach("steady", EVENT, seen)
    start = threading.Barrier(3)

    def churn(name: str) -> None:
        start.wait()
        for number in range(300):
            telemetry.attach(f"{name}-{number}", EVENT, lambda *_: None)
            assert telemetry.detach(f"{name}-{number}")

    threads = [threading.Thread(target=churn, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    start.wait()
    for _ in range(1000):
        telemetry.execute(EVENT)
    for thread in threads:
        thread.join()
    assert len(seen.seen) == 1000
    assert [one.id for one in telemetry.list_handlers()] == ["steady"]


# -- TEL-04: span ----------------------------------------------------------------------------------


@pytest.fixture
def spans(telemetry: Telemetry) -> Recorder:
    """Hears the three events of a span."""
    seen = Recorder()
    telemetry.attach_many("spans", [("app", "work", word) for word in ("start", "stop", "exception")], seen)
    return seen


def test_a_span_executes_start_and_stop(telemetry: Telemetry, spans: Recorder, clock: FixedClock) -> None:
    """TEL-04: start with times, stop with the duration in seconds, both tied by one span context."""
    with telemetry.span(("app", "work"), {"file": "a"}) as span:
        clock.now += 2.5
        span.add({"rows": 7}, {"format": "csv"})
    (start, times, about, _), (stop, measured, more, _) = spans.seen
    assert (start, stop) == (("app", "work", "start"), ("app", "work", "stop"))
    assert times == {"monotonic_time": 100.0, "system_time": 1_000_100.0}
    assert measured == {"duration": 2.5, "monotonic_time": 102.5, "rows": 7}
    context = about[SPAN_CONTEXT]
    assert about == {"file": "a", SPAN_CONTEXT: context}
    assert more == {"file": "a", "format": "csv", SPAN_CONTEXT: context}


def test_spans_have_contexts_of_their_own_unless_given(telemetry: Telemetry, spans: Recorder) -> None:
    """TEL-04: two spans differ in their context; a context in the metadata is kept."""
    for metadata in ({}, {}, {SPAN_CONTEXT: "mine"}):
        with telemetry.span(("app", "work"), metadata):
            pass
    first, second, third = (about[SPAN_CONTEXT] for event, _, about, _ in spans.seen if event[-1] == "start")
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ValueError("bad"), "error"), (asyncio.CancelledError(), "cancelled"), (SystemExit(2), "exit")],
)
def test_a_span_that_raises_executes_exception_and_raises_again(
    telemetry: Telemetry, spans: Recorder, clock: FixedClock, error: BaseException, kind: str
) -> None:
    """TEL-04: duration, kind, reason and stack are told; the very exception goes on."""

    def work() -> None:
        with telemetry.span(("app", "work"), {"file": "a"}) as span:
            span.add({"rows": 1})
            clock.now += 1.0
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    event, measured, about, _ = spans.seen[-1]
    assert (len(spans.seen), event) == (2, ("app", "work", "exception"))
    assert measured == {"duration": 1.0, "monotonic_time": 101.0, "rows": 1}
    assert (about["kind"], about["reason"], about["file"]) == (kind, error, "a")
    assert about["stacktrace"] is not None
    assert about[SPAN_CONTEXT] == spans.seen[0][2][SPAN_CONTEXT]


def test_an_async_span_tells_of_a_cancellation(telemetry: Telemetry, spans: Recorder) -> None:
    """TEL-04: a task cancelled inside an async span ends it with kind cancelled, and stays cancelled."""

    async def main() -> bool:
        inside = asyncio.Event()

        async def work() -> None:
            async with telemetry.span(("app", "work")):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert spans.events == [("app", "work", "start"), ("app", "work", "exception")]
    assert spans.seen[-1][2]["kind"] == "cancelled"


def test_an_async_span_executes_stop(telemetry: Telemetry, spans: Recorder) -> None:
    """TEL-04: the async form is the same span."""

    async def main() -> None:
        async with telemetry.span(("app", "work")) as span:
            span.add({"rows": 1})

    asyncio.run(main())
    assert spans.events == [("app", "work", "start"), ("app", "work", "stop")]
    assert spans.seen[-1][1]["rows"] == 1


def test_what_the_start_event_said_does_not_change(telemetry: Telemetry) -> None:
    """A handler may keep the metadata of a start: what the span learns later is not written into it."""
    kept: list[Mapping[str, Any]] = []
    telemetry.attach("keep", ("app", "work", "start"), lambda event, times, metadata, _: kept.append(metadata))
    with telemetry.span(("app", "work"), {"file": "a"}) as span:
        span.add({}, {"format": "csv"})
    assert "format" not in kept[0]


def test_a_span_is_entered_once(telemetry: Telemetry, spans: Recorder) -> None:
    """A span measures one piece of work; a second use is refused, and tells nobody of a start."""
    span = telemetry.span(("app", "work"))
    with span:
        pass
    with pytest.raises(UsageError, match="entered before"):
        span.__enter__()
    assert len(spans.seen) == 2


def test_measure_returns_the_result_and_passes_the_error_on(telemetry: Telemetry, spans: Recorder) -> None:
    """Foundation's measure: the function's result or its very error, and the span around it."""
    assert telemetry.measure(("app", "work"), {"file": "a"}, lambda: 42) == 42
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        telemetry.measure(("app", "work"), {}, partial(raising(error)))
    assert caught.value is error
    assert [event[-1] for event in spans.events] == ["start", "stop", "start", "exception"]

    async def later() -> None: ...

    with pytest.raises(MetricError, match="async with"):
        _ = telemetry.measure(("app", "work"), {}, later)
