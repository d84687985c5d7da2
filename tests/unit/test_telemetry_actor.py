"""The telemetry actor: what it counts, what it drops, and that it lets go."""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from dspex.actors.configuration.settings import TelemetrySettings
from dspex.actors.telemetry.actor import (
    EmitCounter,
    EmitGauge,
    EmitHistogram,
    MetricsFor,
    Record,
    ResetMetrics,
    Snapshot,
    TelemetryActor,
    TelemetryReport,
    TelemetryStatus,
)
from dspex.actors.telemetry.metric_values import Value
from dspex.actors.telemetry.metrics import Metric, MetricsSnapshot, update
from dspex.actors.telemetry.rules import Rule
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.engine import Engine
from dspex.runtime.errors import MetricError, NoProcess
from dspex.runtime.gen_server import GenServer, cast
from dspex.supervisors.supervisor import Supervisor
from kit.supervision import House, in_house

NAME = "observers/telemetry"
EVENT = ("dspex", "event_store", "appended")
APPENDED = "dspex_event_store_appended_total"


async def snapshot(house: House) -> MetricsSnapshot:
    """All metrics."""
    answer = await house.call(NAME, Snapshot())
    assert isinstance(answer, MetricsSnapshot)
    return answer


async def status(house: House) -> TelemetryReport:
    """How the actor does."""
    answer = await house.call(NAME, TelemetryStatus())
    assert isinstance(answer, TelemetryReport)
    return answer


async def passed(house: House, seconds: float) -> None:
    """Let virtual time pass."""
    moment = house.engine.loop.create_future()
    house.engine.loop.call_later(seconds, moment.set_result, None)
    await moment


def test_a_snapshot_holds_every_event_executed_before_it() -> None:
    """Nobody has to wait for a flush: asking takes over what is buffered."""

    async def test(house: House) -> None:
        await house.start(TelemetryActor, name=NAME)
        for count in (1, 500):
            house.engine.telemetry.execute(EVENT, {"count": count}, {})
        assert (await snapshot(house)).total(APPENDED) == 501
        house.engine.telemetry.execute(EVENT, {"count": 1}, {})
        assert (await snapshot(house)).total(APPENDED) == 502

    in_house(test)


def test_the_buffer_is_flushed_by_itself() -> None:
    """Events reach the metrics a moment later even if nobody asks; the buffer is empty again."""

    async def test(house: House) -> None:
        address = await house.start(TelemetryActor, name=NAME, buffer_limit=10)
        for _ in range(5):
            for _ in range(10):
                house.engine.telemetry.execute(EVENT, {"count": 1}, {})
            assert address.cell.instance._collector.buffered == 10
            await passed(house, 0.2)
            assert address.cell.instance._collector.buffered == 0
        assert (await status(house)).dropped == 0
        assert (await snapshot(house)).total(APPENDED) == 50

    in_house(test)


def test_what_exceeds_the_buffer_is_dropped_and_counted() -> None:
    """The buffer is bounded; losses show in status and metrics, and it goes on afterwards."""

    async def test(house: House) -> None:
        await house.start(TelemetryActor, name=NAME, buffer_limit=10)
        for _ in range(25):
            house.engine.telemetry.execute(EVENT, {"count": 1}, {})
        seen = await snapshot(house)
        assert (seen.total(APPENDED), seen.total("dspex_telemetry_dropped_total")) == (10, 15)
        house.engine.telemetry.execute(EVENT, {"count": 1}, {})
        assert (await snapshot(house)).total(APPENDED) == 11
        assert (await status(house)).dropped == 15

    in_house(test)


def test_values_can_be_sent_one_by_one_and_in_batches() -> None:
    """Counters add, gauges replace, histograms count; labels keep series apart."""

    async def test(house: House) -> None:
        await house.start(TelemetryActor, name=NAME)
        for message in (
            EmitCounter("app_total"),
            EmitCounter("app_total", 2.5, {"kind": "x"}),
            EmitGauge("app_level", 3),
            EmitGauge("app_level", -1.5),
            EmitHistogram("app_seconds", 0.2),
            Record((update("counter", "app_total", 10), update("histogram", "app_seconds", 0.4))),
        ):
            house.engine.cast(NAME, message)
        seen = await snapshot(house)
        assert seen.total("app_total") == 13.5
        assert seen.total("app_total", kind="x") == 2.5
        assert seen.total("app_level") == -1.5
        value = seen.histogram("app_seconds")
        assert value is not None
        assert value.count == 2
        assert value.p50 == pytest.approx(0.2, rel=0.01)

    in_house(test)


@pytest.mark.parametrize("message", [EmitCounter, EmitGauge, EmitHistogram])
@pytest.mark.parametrize(
    "wrong", [("a.b", 1, {}), ("", 1, {}), ("a", "1", {}), ("a", math.nan, {}), ("a", 1, {"b": None}), ("a", 1, [])]
)
def test_a_malformed_value_is_refused_where_it_is_made(message: Any, wrong: tuple[Any, ...]) -> None:
    """Bad names, values and labels raise at the sender, not in the actor."""
    with pytest.raises(MetricError):
        message(*wrong)


@pytest.mark.parametrize("wrong", [5, ("junk",), update("counter", "a", 1)])
def test_a_malformed_batch_is_refused_where_it_is_made(wrong: Any) -> None:
    """In the actor it would be a crash, and all metrics would begin again at zero."""
    with pytest.raises(MetricError, match="expected a tuple of updates"):
        Record(wrong)


def test_a_counter_is_not_decremented_and_a_prefix_is_text() -> None:
    """The remaining refusals at the sender."""
    with pytest.raises(MetricError, match=">= 0"):
        EmitCounter("a_total", -1)
    with pytest.raises(MetricError, match="beginning of a metric name"):
        MetricsFor(None)  # type: ignore[arg-type]


def test_what_was_checked_cannot_change_on_its_way() -> None:
    """A message keeps its own copy of the labels, and pickles."""
    labels: dict[str, Any] = {"kind": "x"}
    message = EmitCounter("a_total", 1, labels)
    labels["kind"] = None
    assert message.labels == {"kind": "x"}
    assert pickle.loads(pickle.dumps(message)) == message


def test_a_value_of_the_wrong_kind_is_counted_and_the_actor_lives() -> None:
    """The sender of a cast cannot be told: the refusal shows in status and metrics instead."""

    async def test(house: House) -> None:
        address = await house.start(TelemetryActor, name=NAME)
        house.engine.cast(NAME, EmitCounter("app_total"))
        house.engine.cast(NAME, EmitGauge("app_total", 5))
        seen = await snapshot(house)
        assert (seen.total("app_total"), seen.total("dspex_telemetry_rejected_total")) == (1, 1)
        report = await status(house)
        assert report.rejected == 1
        assert "expected a counter, got a gauge, at 'app_total'" in (report.last_rejection or "")
        assert house.address(NAME) == address

    in_house(test)


def test_metrics_are_selected_by_prefix() -> None:
    """Foundation's get_metrics_for, on real data: names that begin alike, and one that is the other's prefix."""

    async def test(house: House) -> None:
        await house.start(TelemetryActor, name=NAME)
        for name in ("app", "app_total", "other"):
            house.engine.cast(NAME, EmitCounter(name))
        seen = await house.call(NAME, MetricsFor("app"))
        assert [family.name for family in seen.families] == ["app", "app_total"]
        assert (await house.call(NAME, MetricsFor("nothing"))).families == ()

    in_house(test)


def test_reset_begins_at_zero() -> None:
    """All values are forgotten, buffered ones and the engine's totals included."""

    async def test(house: House) -> None:
        await house.start(TelemetryActor, name=NAME)
        house.engine.telemetry.execute(EVENT, {"count": 5}, {})
        house.engine.cast(NAME, EmitCounter("app_total"))
        house.engine.cast("nobody/there", "lost")
        assert (await snapshot(house)).total("dspex_engine_dead_letters_total") == 1
        house.engine.telemetry.execute(EVENT, {"count": 5}, {})
        assert await house.call(NAME, ResetMetrics()) is None
        seen = await snapshot(house)
        assert (seen.select(APPENDED), seen.select("app_total")) == ((), ())
        assert seen.total("dspex_engine_dead_letters_total") == 0
        house.engine.cast("nobody/there", "lost")
        assert (await snapshot(house)).total("dspex_engine_dead_letters_total") == 1

    in_house(test)


class Deaf(GenServer):
    """Has one handler, for text."""

    @cast
    def text(self, msg: str) -> None: ...


def test_the_engines_totals_are_shown_even_from_before_its_start() -> None:
    """Dead letters, unhandled messages and actors are the engine's own counts."""

    async def test(house: House) -> None:
        house.engine.cast("nobody/there", "lost")
        await house.start(TelemetryActor, name=NAME)
        deaf = await house.start(Deaf)
        house.engine.send(deaf, "what?", None)
        await passed(house, 0.01)
        seen = await snapshot(house)
        assert seen.total("dspex_engine_dead_letters_total") == 1
        assert seen.total("dspex_engine_unhandled_total") == 1
        assert seen.total("dspex_engine_spawned_total") == 2
        assert seen.total("dspex_engine_actors") == 2
        for word in ("overloaded", "late_replies", "slow_handlers", "crashed"):
            assert seen.total(f"dspex_engine_{word}_total") == 0

    in_house(test)


def test_settings_bound_series_and_age() -> None:
    """max_series folds, retention drops; what dspex itself counts is kept."""

    async def test(house: House) -> None:
        settings = TelemetrySettings(retention=60.0, max_series=2)
        await house.start(TelemetryActor, name=NAME, settings=settings)
        house.engine.telemetry.execute(EVENT, {"count": 5}, {})
        for user in range(5):
            house.engine.cast(NAME, EmitCounter("app_total", 1, {"user": user}))
        seen = await snapshot(house)
        assert (len(seen.select("app_total")), seen.total("app_total")) == (3, 5)
        await passed(house, 60.1)
        seen = await snapshot(house)
        assert (seen.select("app_total"), seen.total(APPENDED)) == ((), 5)
        report = await status(house)
        assert (report.retention, report.max_series) == (60.0, 2)

    in_house(test)


def test_rules_of_ones_own() -> None:
    """Who hosts the actor may feed it other events."""

    async def test(house: House) -> None:
        rule = Rule(("app", "stop"), Metric("app_rows_total", "counter"), "rows", (("table", "table"),))
        await house.start(TelemetryActor, name=NAME, rules=(rule,))
        house.engine.telemetry.execute(("app", "stop"), {"rows": 7}, {"table": "t"})
        house.engine.telemetry.execute(EVENT, {"count": 1}, {})
        seen = await snapshot(house)
        assert (seen.total("app_rows_total", table="t"), seen.family(APPENDED)) == (7, None)

    in_house(test)


@pytest.mark.parametrize("reason", ["kill", "shutdown"])
def test_it_detaches_at_any_end(reason: str) -> None:
    """Killed or stopped, no handler stays behind."""

    async def test(house: House) -> None:
        address = await house.start(TelemetryActor, name=NAME)
        before = len(house.engine.telemetry.list_handlers(("dspex", "lm")))
        house.engine.telemetry.execute(EVENT, {"count": 1}, {})
        house.engine.kill(address, reason)
        await house.engine.wait_down(address, None)
        assert before > 0
        assert house.engine.telemetry.list_handlers(("dspex", "lm")) == ()
        house.engine.telemetry.execute(EVENT, {"count": 1}, {})
        with pytest.raises(NoProcess):
            await snapshot(house)

    in_house(test)


def test_killed_under_a_supervisor_it_attaches_again() -> None:
    """After a restart it counts on, attached once."""

    async def test(house: House) -> None:
        telemetry = ChildSpec("telemetry", TelemetryActor, name=NAME)
        await house.start(Supervisor, [telemetry])
        before = len(house.engine.telemetry.list_handlers())
        address = house.address(NAME)
        house.engine.kill(address)
        await house.engine.wait_down(address, None)
        await passed(house, 0.01)
        assert house.address(NAME) != address
        house.engine.telemetry.execute(EVENT, {"count": 3}, {})
        seen = await snapshot(house)
        assert seen.total(APPENDED) == 3
        assert len(house.engine.telemetry.list_handlers()) == before
        assert (await status(house)).attached

    in_house(test)


def test_it_counts_real_supervisor_reports() -> None:
    """A crash under a supervisor shows as report, restart and start."""

    async def test(house: House) -> None:
        await house.start(TelemetryActor, name=NAME)
        await house.start(Supervisor, [ChildSpec("deaf", Deaf, name="app/deaf")], name="app/house")
        address = house.address("app/deaf")
        house.engine.cast(address, 42)
        await house.engine.wait_down(address, None)
        await passed(house, 0.01)
        seen = await snapshot(house)
        assert seen.total("dspex_supervisor_reports_total", kind="child_terminated", supervisor="app/house") == 1
        assert seen.total("dspex_supervisor_restarts_total", supervisor="app/house") == 1
        assert seen.total("dspex_supervisor_starts_total", supervisor="app/house") == 2

    in_house(test)


def test_an_event_of_another_thread_that_comes_too_late_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The actor may end between an event and its flush: there is nothing to flush, and nothing to complain about."""

    async def test(house: House) -> None:
        address = await house.start(TelemetryActor, name=NAME)
        late = threading.Thread(target=house.engine.telemetry.execute, args=(EVENT, {"count": 1}, {}))
        late.start()
        late.join()
        house.engine.kill(address)
        for _ in range(3):
            await asyncio.sleep(0)
        assert [record.getMessage() for record in caplog.records] == []

    in_house(test)


def test_the_status_tells_what_waited() -> None:
    """How full the buffer is shows before asking empties it."""

    async def test(house: House) -> None:
        await house.start(TelemetryActor, name=NAME)
        for _ in range(3):
            house.engine.telemetry.execute(EVENT, {"count": 1}, {})
        assert (await house.call(NAME, TelemetryStatus())).buffered == 3
        assert (await house.call(NAME, TelemetryStatus())).buffered == 0

    in_house(test)


class Watched(TelemetryActor):
    """Says when it has flushed."""

    flushed = threading.Semaphore(0)

    def _take(self, updates: Iterable[Value]) -> None:
        super()._take(updates)
        self.flushed.release()


def test_events_of_other_threads_reach_the_metrics_by_themselves() -> None:
    """Any thread may execute events; the engine's thread takes them over a moment later, again and again."""
    engine = Engine()
    try:
        start = engine.spawn(Watched, (), {"flush_interval": 0.001}, name=NAME)
        asyncio.run_coroutine_threadsafe(start, engine.loop).result(5)
        for _ in range(3):
            engine.telemetry.execute(EVENT, {"count": 1}, {})
            assert Watched.flushed.acquire(timeout=5)
        assert engine.outside.call_blocking(NAME, Snapshot(), timeout=5.0).total(APPENDED) == 3
    finally:
        engine.stop()
    assert engine.telemetry.list_handlers() == ()
    engine.telemetry.execute(EVENT, {"count": 1}, {})
