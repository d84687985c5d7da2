"""``app.evaluate`` in a whole application, over real HTTP: report, progress, events, and what is left afterwards."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.actors.evaluation.report import EvaluationReport
from dspex.actors.evaluation.scoring import Host, Score
from dspex.actors.evaluation.work import EvaluationProgress, EvaluationStatus
from dspex.actors.examples import Example
from dspex.actors.modules.messages import Predict
from dspex.actors.modules.prediction import Prediction
from dspex.actors.runs.messages import CancelRun, PauseRun, RunInfo
from dspex.actors.scorers.llm_judge import LMJudge
from dspex.actors.scorers.texts import ExactMatch
from dspex.actors.testing.scripted_provider import marked
from dspex.runtime.errors import (
    ApplicationDown,
    ConfigError,
    Error,
    LMAuthError,
    NoProcess,
    RunConflict,
    RunError,
    UsageError,
)
from kit.application import Gate, Watch, application
from kit.http_server import Exchange, completion
from kit.runs import EXAMPLES, ROOT, model
from kit.runs import configuration as runs_configuration


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


SHOWING = """
import json, sys
import dspex
from kit.runs import EXAMPLES
with dspex.start(config=json.loads(sys.argv[1])) as app:
    print(app.evaluate("qa", EXAMPLES, metric="exact_match", workers=4).total)
"""


def test_a_bar_on_a_real_terminal() -> None:
    """Where stderr is a terminal it is drawn there, counts to the end and is gone; stdout has the program's words."""
    with model() as (_, server):
        terminal, side = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", SHOWING, json.dumps(runs_configuration(server, None))],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TERM": "xterm", "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=side,
        )
        os.close(side)
        shown = b""
        with suppress(OSError):  # the terminal's other side is closed
            while piece := os.read(terminal, 4096):
                shown += piece
        os.close(terminal)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"24\n"), shown
    text = shown.decode()
    assert "evaluate qa" in text
    assert "24/24" in text
    assert text.rstrip().endswith("\x1b[2K"), "the bar's line is cleared in the end"


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


def half(example: Example, prediction: Prediction) -> float:
    """A metric that other processes find."""
    return 0.5


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda app: app.module("qa").update(demos=[{"question": "a", "answer": "b"}]), "state"),
        (lambda app: app.module("qa").update(instructions="Be brief."), "state"),
        (lambda app: app.update_setting(("ai", "providers", "local", "default_model"), "another"), "model"),
    ],
    ids=["demos", "instructions", "default model"],
)
def test_another_program_is_refused_with_the_difference(change: Any, part: str) -> None:
    """As many demos as before are not the same demos; under another name its model answers are used again."""
    with application(capitals, "qa") as (app, server):
        app.module("qa").update(demos=[{"question": "a", "answer": "c"}])
        app.evaluate("qa", DATASET, metric="f1", run_id="mine")
        change(app)
        with pytest.raises(RunConflict, match=f"the evaluation 'mine' as it was begun, got another {part} ") as caught:
            app.evaluate("qa", DATASET, metric="f1", run_id="mine")
        assert list(caught.value.differences) == [part]
        with pytest.raises(RunConflict, match=r"metric: f1.*fork='mine'"):
            app.evaluate("qa", DATASET, metric="contains", run_id="mine")
        assert len(server.requests) == 3


def test_a_fork_uses_the_model_answers_again() -> None:
    """Another metric over the same answers costs nothing but what failed."""
    with application(capitals, "qa") as (app, server):
        old = app.evaluate("qa", DATASET, metric="f1", run_id="old")
        new = app.evaluate("qa", DATASET, metric="exact_match", run_id="new", fork="old")
        assert new.score == old.score
        assert new.spent.input_tokens == old.spent.input_tokens
        assert len(server.requests) == 3 + 1
        with pytest.raises(RunError, match=r"'older'.*did you mean 'old'"):
            app.evaluate("qa", DATASET, metric="f1", run_id="newer", fork="older")
        with pytest.raises(UsageError, match="expected a run_id with fork"):
            app.evaluate("qa", DATASET, metric="f1", fork="old")


def test_a_judge_and_the_modules_that_a_metric_asks_are_paid_once() -> None:
    """What a metric asks of models is in the journal too, answer by answer; and so is each row."""
    asked_of: list[str] = []

    def script(exchange: Exchange) -> None:
        messages = str(exchange.request.json()["messages"])
        judging = "[[ ## score ## ]]" in messages
        asked_of.append("judge" if judging else "critic" if "critique" in messages else "qa")
        answer = {"reasoning": "so so", "score": "0.5"} if judging else {"critique": "bad", "answer": "Oslo"}
        exchange.reply(200, completion(marked(answer)))

    @dataclass(frozen=True)
    class Both:
        """Asks a module, and then a judge; falls over at the first example until it is mended."""

        broken: list[bool] = field(default_factory=lambda: [True], repr=False)

        async def judge(self, example: Example, prediction: Prediction, host: Host) -> float:
            critique = await host.call("module/critic", Predict({"answer": prediction.answer}))
            assert critique.critique == "bad"
            result = await LMJudge("local").judge(example, prediction, host)
            if self.broken and self.broken.pop():
                raise LMAuthError("no credit")
            return result.score

    with application(script, "qa") as (app, _):
        app.start_module("critic", "answer -> critique", provider="local")
        metric = Both()
        stopped = app.evaluate("qa", DATASET, metric=metric, run_id="mine", workers=1)
        assert (stopped.outcome, stopped.rows, stopped.reason) == ("stopped", (), "lm_auth: no credit")
        assert app.runs.get("mine").state == "failed"
        report = app.evaluate("qa", DATASET, metric=metric, run_id="mine", workers=1)
        assert (report.outcome, report.score) == ("completed", 0.5)
        assert sorted(asked_of) == ["critic"] * 3 + ["judge"] * 3 + ["qa"] * 3
        assert report.spent.input_tokens == 3 * 11
        assert app.runs.get("mine").paid.calls == 9


def test_what_finds_no_room_in_a_budget_waits_for_the_others(tmp_path: Path) -> None:
    """Room is reserved for the longest answer: a budget that has room for one request at a time is enough for all."""
    with model() as (script, server):
        config = runs_configuration(server, tmp_path, max_tokens=500, budget={"tokens": 1100})
        with dspex.start(config=config) as app:
            report = app.evaluate("qa", EXAMPLES, metric="exact_match", run_id="mine", workers=4)
            assert (report.outcome, report.failures) == ("completed", 0)
            assert script.calls == len(EXAMPLES)


def test_a_run_is_let_go_of_with_its_evaluation(tmp_path: Path) -> None:
    """Who gives up in a process that lives on leaves it to others; elsewhere it is paused, resumed, cancelled."""
    config = {"events": {"path": str(tmp_path / "events.db")}}
    gate = Gate()
    with application(gate, "qa", config=config) as (app, _):
        watch = Watch(app)

        async def begun_and_left() -> None:
            work = asyncio.create_task(app.aio.evaluate("qa", DATASET, metric=half, run_id="mine"))
            await asyncio.to_thread(watch.until, lambda: watch.state("run/mine") == "running")
            await app.aio.call("run/mine", PauseRun())
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

        asyncio.run(begun_and_left())
        gate.open.set()
        [stored] = app.runs.list()
        assert (stored.state, stored.owner) == ("paused", None)
        assert (app.runs.report("mine").outcome, app.runs.report("mine").rows) == ("paused", ())
        assert app.runs.evaluate("mine").score == 0.5
        assert app.runs.get("mine").state == "completed"
        assert app.runs.evaluate("mine") == app.runs.report("mine")


def test_a_cancel_that_was_answered_is_written_down() -> None:
    """It is final: begun again, whatever died since, the run is over and asks no model."""
    gate, arrived = Gate(), threading.Semaphore(0)

    def held(exchange: Exchange) -> None:
        arrived.release()
        gate(exchange)

    with application(held, "qa") as (app, server):
        found: list[EvaluationReport] = []
        options: dict[str, Any] = {"metric": "f1", "run_id": "mine"}
        work = threading.Thread(target=lambda: found.append(app.evaluate("qa", DATASET, **options)))
        work.start()
        for _ in DATASET:
            assert arrived.acquire(timeout=10), "no request is on its way any more"
        status: EvaluationStatus = app.call("run/mine", CancelRun())
        assert (status.state, app.runs.get("mine").state) == ("cancelled", "cancelled")
        work.join(10)
        gate.open.set()
        asked_of = len(server.requests)
        assert app.evaluate("qa", DATASET, **options) == found[0]
        assert len(server.requests) == asked_of


def test_what_cannot_be_gone_on_with_says_what_to_do() -> None:
    """A metric of the program's own cannot be found by its name; an optimization is none of these."""
    with application(capitals, "qa") as (app, _):
        stopped = app.evaluate("qa", DATASET, metric=lambda example, prediction: 1.0, run_id="mine", max_errors=0)
        assert stopped.outcome == "too_many_errors"
        app.optimize("qa", DATASET, metric="f1", method="labeled_few_shot", run_id="other").result(10)
        with pytest.raises(RunError, match="expected an evaluation, got a run of kind optimization, at other"):
            app.runs.evaluate("other")
        with pytest.raises(RunError, match="expected an evaluation, got a run of kind optimization, at other"):
            app.runs.report("other")
        with pytest.raises(RunError, match=r"app\.runs\.evaluate\('mine'\)"):
            app.runs.resume("mine")


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
            (ConfigError, {"dataset": None}),
            (ConfigError, {"dataset": [{"country": "Norway", "answer": "Oslo"}]}),
            (ConfigError, {"metric": ExactMatch}),
            (ConfigError, {"metric": "exact_mach"}),
            (ConfigError, {"workers": 0}),
            (ConfigError, {"workers": "many"}),
            (ConfigError, {"max_errors": -1}),
            (UsageError, {"program": 7}),
            (UsageError, {"progress": 7}),
            (ConfigError, {"run_id": ""}),
            (ConfigError, {"run_id": "a/b"}),
            (ConfigError, {"metric": "metric/nobody"}),
            (ConfigError, {"metric": LMJudge("nobody")}),
            (NoProcess, {"program": "nobody"}),
        ]
        for error, change in wrong:
            given: dict[str, Any] = {"program": "qa", "dataset": DATASET, "metric": "f1", **change}
            with pytest.raises(error):
                app.evaluate(given.pop("program"), given.pop("dataset"), **given)
        assert server.requests == []
        assert app.entry("run/mine") is None
