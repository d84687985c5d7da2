"""``app.evaluate`` in a whole application, over real HTTP: report, progress, events, and what is left afterwards."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dspex import ChildSpec, GenServer, call
from dspex.actors.evaluation import EvaluationProgress
from dspex.actors.evaluation_actor import EvaluationStatus
from dspex.actors.evaluation_report import EvaluationReport
from dspex.actors.examples import Example
from dspex.actors.prediction import Prediction
from dspex.actors.run_messages import CancelRun, RunInfo
from dspex.actors.scorers.llm_judge import LMJudge
from dspex.actors.scoring import Score
from dspex.actors.testing.scripted_provider import marked
from dspex.runtime.errors import ApplicationDown, ConfigError, Error, NoProcess, RunConflict, UsageError
from kit.application import Gate, Watch, application
from kit.http_server import Exchange, completion


def asked(exchange: Exchange) -> str:
    """The last message of a request."""
    return str(exchange.request.json()["messages"][-1]["content"])


def capitals(exchange: Exchange) -> None:
    """Knows one capital of two, and fails at the third."""
    text = asked(exchange)
    if "Atlantis" in text:
        exchange.reply(400, {"error": {"message": "no such place"}})
    else:
        exchange.reply(200, completion(marked({"answer": "Oslo" if "Norway" in text else "Bonn"})))


DATASET = [
    Example(question="Norway", answer="Oslo").with_inputs("question"),
    Example(question="Germany", answer="Berlin").with_inputs("question"),
    Example(question="Atlantis", answer="?").with_inputs("question"),
]


def test_a_module_is_evaluated() -> None:
    """One right, one wrong, one failed: a third; the failure is a row, and everything is in one trace."""
    with application(capitals, "qa") as (app, server):
        report = app.evaluate("qa", DATASET, metric="exact_match", workers=2)
        assert isinstance(report, EvaluationReport)
        assert report.score == pytest.approx(1 / 3)
        assert [row.score for row in report.rows] == [1.0, 0.0, 0.0]
        assert report.errors == {"lm_invalid_request": 1}
        assert report.rows[1].feedback == "expected answer to be 'Berlin', got 'Bonn'"
        assert len(server.requests) == 3
        assert report.spent.input_tokens == 22
        kinds = [event.type for event in app.events.query(correlation_id=report.correlation_id, limit=100).events]
        assert kinds.count("module_execution") == 3
        assert kinds.count("evaluation_started") == kinds.count("evaluation_ended") == 1
        total = app.telemetry.snapshot().total
        assert total("dspex_evaluation_examples_total") == 3
        assert total("dspex_evaluation_failures_total") == 1


def test_nothing_is_left_behind() -> None:
    """The evaluation's actor and its name are gone, so that the id may be used again."""
    with application(capitals, "qa") as (app, _):
        for _ in range(2):
            assert app.evaluate("qa", DATASET, metric="contains", run_id="mine").run_id == "mine"
            assert app.entry("run/mine") is None
        assert "run/" not in app.tree()


def test_a_handle_brings_its_options() -> None:
    """Its model, its user; and an example may be a mapping, which takes the module's inputs for its own."""
    with application(capitals, "qa") as (app, server):
        qa = app.module("qa").options(model="other", user="u7")
        report = app.evaluate(qa, [{"question": "Norway", "answer": "oslo"}], metric="exact_match")
        assert report.score == 1.0
        assert server.requests[0].json()["model"] == "other"
        events = app.events.query(correlation_id=report.correlation_id, limit=100).events
        assert {event.user for event in events} == {"u7"}


def test_metrics_of_ones_own() -> None:
    """A function, plain, async or blocking; an actor; a model as the judge."""

    class Mine(GenServer):
        @call
        def score(self, msg: Score) -> tuple[float, str]:
            return 0.5, f"by actor: {msg.prediction.answer}"

    threads: list[str] = []

    def slow(example: Example, prediction: Prediction) -> float:
        threads.append(threading.current_thread().name)
        return 0.25

    async def later(example: Example, prediction: Prediction) -> bool:
        await asyncio.sleep(0)
        return bool(prediction.answer == example.answer)

    def judging(exchange: Exchange) -> None:
        if "[[ ## score ## ]]" in str(exchange.request.json()["messages"]):
            exchange.reply(200, completion(marked({"reasoning": "nearly", "score": "0.75"})))
        else:
            capitals(exchange)

    with application(judging, "qa") as (app, _):
        app.start_child(ChildSpec("mine", Mine, name="metric/mine"))
        first = DATASET[:1]
        assert app.evaluate("qa", first, metric=later).score == 1.0
        assert app.evaluate("qa", first, metric="metric/mine").rows[0].feedback == "by actor: Oslo"
        assert app.evaluate("qa", first, metric=slow, blocking=True).score == 0.25
        assert app.evaluate("qa", first, metric=slow).score == 0.25
        assert threads[0] != threads[1]
        judged = app.evaluate("qa", first, metric=LMJudge("local"))
        assert [(row.score, row.feedback) for row in judged.rows] == [(0.75, "nearly")]


def test_progress_is_told() -> None:
    """To a function: completions, never going back, up to all of them. One that raises harms nobody."""
    told: list[EvaluationProgress] = []

    def bad(progress: EvaluationProgress) -> None:
        told.append(progress)
        raise ZeroDivisionError

    with application(capitals, "qa") as (app, _):
        app.evaluate("qa", DATASET * 4, metric="f1", workers=3, progress=told.append)
        assert [now.done for now in told] == sorted(now.done for now in told)
        assert (told[-1].done, told[-1].total, told[-1].failures) == (12, 12, 4)
        told.clear()
        assert app.evaluate("qa", DATASET, metric="f1", progress=bad).complete
        assert len(told) == 1
        assert not [one for one in app.engine.telemetry.list_handlers() if "progress" in str(one.id)]


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one only, unless asked for, and not if it is configured away."""
    shown: list[str] = []
    with application(capitals, "qa") as (app, _):
        for stream, progress in ((Terminal(), None), (io.StringIO(), None), (io.StringIO(), True), (Terminal(), False)):
            monkeypatch.setattr(sys, "stderr", stream)
            app.evaluate("qa", DATASET, metric="f1", progress=progress)
            shown.append(stream.getvalue())
        assert "3/3" in shown[0]
        assert ["evaluate qa" in text for text in shown] == [True, False, True, False]
        app.update_setting(("dspex", "evaluation", "progress_reporting"), False)
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        app.evaluate("qa", DATASET, metric="f1")
        assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("settings", "asked", "workers"),
    [
        ({"max_workers": 3}, None, 3),
        ({"max_workers": 3}, 2, 2),
        ({"parallel_execution": False}, None, 1),
        ({"parallel_execution": False}, 5, 5),
        ({"max_workers": 3}, "auto", 8),
        ({}, None, 8),
    ],
)
def test_how_many_work_at_once(
    settings: dict[str, Any], asked: Any, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asked for, else as configured; auto fits the machine."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with application(capitals, "qa", config={"dspex": {"evaluation": settings}}) as (app, _):
        assert app.evaluate("qa", DATASET, metric="f1", workers=asked).workers == workers


def test_a_second_run_with_the_same_id_is_refused() -> None:
    """The first one goes on; from elsewhere it can be looked at and cancelled."""
    gate = Gate()
    with application(gate, "qa") as (app, _):
        found: list[EvaluationReport] = []
        work = threading.Thread(
            target=lambda: found.append(app.evaluate("qa", DATASET, metric="f1", run_id="mine", workers=1))
        )
        work.start()
        watch = Watch(app)
        watch.until(lambda: watch.state("run/mine") == "running")
        with pytest.raises(RunConflict) as caught:
            app.evaluate("qa", DATASET, metric="f1", run_id="mine")
        assert caught.value.run_id == "mine"
        status: EvaluationStatus = app.call("run/mine", RunInfo())
        assert (status.state, status.progress.total) == ("running", 3)
        app.call("run/mine", CancelRun())
        work.join(10)
        gate.open.set()
        assert (found[0].outcome, found[0].rows) == ("cancelled", ())


def test_under_its_name_an_evaluation_goes_on(tmp_path: Path) -> None:
    """Another process that begins it again sends only what is missing; once it is over its report is there for free."""
    config = {"events": {"path": str(tmp_path / "events.db")}}
    gate, reached = threading.Event(), threading.Event()

    def script(exchange: Exchange) -> None:
        if "Germany" in asked(exchange) and not gate.is_set():
            reached.set()
            gate.wait(10)
            return
        capitals(exchange)

    options: dict[str, Any] = {"metric": "exact_match", "run_id": "mine", "workers": 1}
    with application(script, "qa", config=config) as (app, server):

        def interrupted() -> None:
            with pytest.raises(Error):
                app.evaluate("qa", DATASET, **options)

        work = threading.Thread(target=interrupted)
        work.start()
        assert reached.wait(10)
        app.stop()
        gate.set()
        work.join(10)
    with application(script, "qa", config=config) as (app, server):
        report = app.evaluate("qa", DATASET, **options)
        assert len(server.requests) == 2
        assert [row.score for row in report.rows] == [1.0, 0.0, 0.0]
        assert report.rows[0].prediction == Prediction({"answer": "Oslo"})
        assert app.evaluate("qa", DATASET, **options).spent == report.spent
        assert len(server.requests) == 2
        [stored] = app.runs.list()
        assert (stored.id, stored.kind, stored.state, stored.progress["step"]) == ("mine", "evaluation", "completed", 3)
        with pytest.raises(RunConflict) as caught:
            app.evaluate("qa", DATASET[:2], **options)
        assert list(caught.value.differences) == ["data"]


def test_a_crash_of_the_evaluation_is_survived() -> None:
    """Its supervisor starts it again, from its journal; who waits for the report hardly notices."""
    gate = Gate()
    with application(gate, "qa") as (app, _):
        found: list[EvaluationReport] = []
        options: dict[str, Any] = {"metric": "f1", "run_id": "mine", "workers": 1}
        work = threading.Thread(target=lambda: found.append(app.evaluate("qa", DATASET, **options)))
        work.start()
        watch = Watch(app)
        watch.until(lambda: watch.state("run/mine") == "running")
        before = watch.incarnation("run/mine")
        app.kill("run/mine")
        watch.until(lambda: watch.running("run/mine", before))
        gate.open.set()
        work.join(10)
        assert found[0].complete


def test_who_gives_up_takes_the_evaluation_along() -> None:
    """Cancelled, the caller leaves no actor behind that goes on paying."""

    async def scenario(app: Any) -> None:
        running = asyncio.create_task(app.aio.evaluate("qa", DATASET, metric="f1", run_id="mine"))
        watch = Watch(app)
        await asyncio.to_thread(watch.until, lambda: watch.state("run/mine") == "running")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert app.entry("run/mine") is None

    gate = Gate()
    with application(gate, "qa") as (app, _):
        asyncio.run(scenario(app))
        gate.open.set()


def test_an_application_that_stops_ends_its_evaluations() -> None:
    """Who waits is told."""
    gate = Gate()
    with application(gate, "qa") as (app, _):
        errors: list[Exception] = []

        def work() -> None:
            try:
                app.evaluate("qa", DATASET, metric="f1", run_id="mine")
            except ApplicationDown as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        watch = Watch(app)
        watch.until(lambda: watch.state("run/mine") == "running")
        app.stop()
        gate.open.set()
        thread.join(10)
        assert len(errors) == 1


def test_what_cannot_be_evaluated_is_refused_at_once() -> None:
    """Typed, with what was expected, before a single request."""
    with application(capitals, "qa") as (app, server):
        wrong: list[tuple[type[Exception], dict[str, Any]]] = [
            (ConfigError, {"dataset": []}),
            (ConfigError, {"dataset": ["Norway"]}),
            (ConfigError, {"metric": "exact_mach"}),
            (ConfigError, {"workers": 0}),
            (ConfigError, {"workers": "many"}),
            (ConfigError, {"max_errors": -1}),
            (UsageError, {"program": 7}),
            (UsageError, {"progress": 7}),
            (UsageError, {"run_id": ""}),
            (NoProcess, {"program": "nobody"}),
        ]
        for error, change in wrong:
            given: dict[str, Any] = {"program": "qa", "dataset": DATASET, "metric": "f1", **change}
            with pytest.raises(error):
                app.evaluate(given.pop("program"), given.pop("dataset"), **given)
        assert server.requests == []
        assert app.entry("run/mine") is None
