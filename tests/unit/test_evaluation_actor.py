"""The evaluation as an actor: what it asks, what it answers, what is told of it. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dspex.actors.evaluation.actor import EvaluationRun
from dspex.actors.evaluation.events import EvaluationEnded, EvaluationProgressed, EvaluationStarted
from dspex.actors.evaluation.news import PROGRESS
from dspex.actors.evaluation.plan import KIND, EvaluationPlan
from dspex.actors.evaluation.report import EvaluationReport
from dspex.actors.evaluation.scoring import Metric, Scorer
from dspex.actors.evaluation.work import EvaluationStatus
from dspex.actors.events.kinds import Event
from dspex.actors.events.store import NAME, Append
from dspex.actors.examples import Example
from dspex.actors.lm.values import Attempt
from dspex.actors.modules.messages import ModuleInfo, ModuleStatus, Predict, PredictOptions
from dspex.actors.modules.prediction import Prediction, PredictionInfo
from dspex.actors.registry.actor import NAME as REGISTRY
from dspex.actors.registry.messages import Announce
from dspex.actors.runs.journal import RunJournal
from dspex.actors.runs.messages import (
    CancelRun,
    Entry,
    GetResult,
    JournalInfo,
    JournalStatus,
    Paid,
    PauseRun,
    RecallAll,
    Record,
    ResumeRun,
    RunInfo,
)
from dspex.actors.runs.scope import RunScope
from dspex.actors.runs.store import RunStore
from dspex.runtime.context import Context
from dspex.runtime.errors import (
    ActorDied,
    ConfigError,
    Error,
    LMAuthError,
    LMBudgetExceeded,
    LMQuotaExceeded,
    LMServerError,
    NoProcess,
    RunConflict,
    RunStopped,
    StartError,
)
from dspex.runtime.gen_server import Fail, GenServer, NoReply, call, cast
from dspex.runtime.testing import VirtualSystem

Answer = Callable[[str], Any]
SECONDS = 2.0
"""What a prediction takes."""


class Module(GenServer):
    """Stands in for a module; it takes its time."""

    def init(self, answer: Answer, asked: list[Predict], contexts: list[Context]) -> None:
        self.answer, self.asked, self.contexts = answer, asked, contexts

    @call
    def about(self, msg: ModuleInfo) -> ModuleStatus:
        known: dict[str, Any] = dict.fromkeys(ModuleStatus.__slots__, 0)
        return ModuleStatus(
            **{
                **known,
                "signature": "question -> answer",
                "options": PredictOptions(timeout=30.0),
                "max_concurrency": 16,
            }
        )

    @call
    def predict(self, msg: Predict) -> NoReply:
        self.asked.append(msg)
        self.contexts.append(self.context)
        return self.serve(self._predict(msg))

    async def _predict(self, msg: Predict) -> Prediction:
        await asyncio.sleep(SECONDS)
        found = self.answer(msg.inputs["question"])
        if isinstance(found, Exception):
            raise found
        info = PredictionInfo(correlation_id="t", text="as it came", attempts=(Attempt(1, 200, 0.1),))
        return Prediction({"answer": found}, info)


class Notes(GenServer):
    """Stands in for the event store and the registry."""

    def init(self, events: list[Event], rows: list[Any]) -> None:
        self.events, self.rows = events, rows

    @cast
    def append(self, msg: Append) -> None:
        self.events.extend(msg.events)

    @cast
    def announced(self, msg: Announce) -> None:
        self.rows.append(msg.metadata)


@pytest.fixture
def system() -> Iterator[VirtualSystem]:
    """An engine in virtual time."""
    with VirtualSystem() as made:
        yield made


class Scene:
    """An evaluation of a stand-in module, and what was seen."""

    def __init__(self, system: VirtualSystem, answer: Answer) -> None:
        self.system = system
        self.asked: list[Predict] = []
        self.contexts: list[Context] = []
        self.events: list[Event] = []
        self.rows: list[Any] = []
        system.spawn(Notes, self.events, self.rows, name=NAME)
        system.spawn(Notes, self.events, self.rows, name=REGISTRY)
        system.spawn(Module, answer, self.asked, self.contexts, name="module/qa")

    def start(self, count: int, metric: Metric = "exact_match", **plan: Any) -> None:
        """Start the evaluation; the right answer is the question in capitals."""
        dataset = tuple(Example(question=f"q{n}", answer=f"Q{n}") for n in range(count))
        made = EvaluationPlan(run_id="e1", module="qa", dataset=dataset, scorer=Scorer(metric), **plan)
        self.system.spawn(EvaluationRun, made, name="run/e1")

    def report(self) -> EvaluationReport:
        """Wait for the report."""
        found: EvaluationReport = self.system.call("run/e1", GetResult(), timeout=None)
        return found

    def ask(self, message: Any) -> EvaluationStatus:
        """Ask the evaluation."""
        found: EvaluationStatus = self.system.call("run/e1", message)
        return found


def scene(system: VirtualSystem, answer: Answer = str.upper) -> Scene:
    """One on this system."""
    return Scene(system, answer)


def test_a_dataset_becomes_a_report(system: VirtualSystem) -> None:
    """Every example is asked once, with its inputs only; workers share the work, and the report has it all."""
    one = scene(system)
    context = Context.root(system.engine.ids, user="u1")
    one.start(7, workers=3, options=PredictOptions(model="m"), context=context)
    report = one.report()
    assert (report.score, report.outcome, report.failures, report.total) == (1.0, "completed", 0, 7)
    assert [row.prediction and row.prediction.answer for row in report.rows] == [f"Q{n}" for n in range(7)]
    assert report.duration == pytest.approx(3 * SECONDS)
    assert sorted(str(msg.inputs) for msg in one.asked) == [str({"question": f"q{n}"}) for n in range(7)]
    assert {PredictOptions.of(msg.options).model for msg in one.asked} == {"m"}
    assert {(each.trace_id, each.user) for each in one.contexts} == {(context.trace_id, "u1")}
    assert (report.correlation_id, report.inputs) == (context.trace_id, ("question",))
    assert one.report() is report, "it answers as often as it is asked"


def test_rows_are_kept_without_what_is_large(system: VirtualSystem) -> None:
    """The model's text and the attempts are in the log; ten thousand rows need not hold them too."""
    one = scene(system)
    one.start(1)
    [row] = one.report().rows
    assert row.prediction is not None
    assert (row.prediction.info.text, row.prediction.info.attempts, row.prediction.info.correlation_id) == ("", (), "t")


def test_no_more_work_at_once_than_the_module_takes(system: VirtualSystem) -> None:
    """The others would wait there, and run into its deadline."""
    one = scene(system)
    one.start(40, workers=64)
    system.advance(SECONDS / 2)
    assert len(one.asked) == 16
    assert one.report().workers == 16


def test_failures_score_nothing_and_end_it_when_there_are_too_many(system: VirtualSystem) -> None:
    """The report of what was done says so."""
    one = scene(system, lambda question: question.upper() if question == "q0" else LMServerError("down"))
    one.start(50, workers=2, max_errors=3)
    report = one.report()
    assert (report.outcome, report.failures, report.total) == ("too_many_errors", 4, 50)
    assert report.errors == {"lm_server_error": 4}
    assert report.score == pytest.approx(1 / len(report.rows))
    assert len(one.asked) <= 7


def test_paused_resumed_cancelled(system: VirtualSystem) -> None:
    """Paused it begins nothing; resumed it goes on; cancelled it ends at once with what it has."""
    one = scene(system)
    one.start(10, workers=2)
    system.advance(SECONDS / 2)
    assert one.ask(PauseRun()).state == "paused"
    system.advance(10 * SECONDS)
    status = one.ask(RunInfo())
    assert (status.state, status.progress.done, len(one.asked)) == ("paused", 2, 2)
    assert one.ask(ResumeRun()).state == "running"
    system.advance(1.5 * SECONDS)
    assert one.ask(RunInfo()).progress.done == 4
    assert one.ask(CancelRun()).state == "cancelled"
    report = one.report()
    assert (report.outcome, len(report.rows), len(one.asked)) == ("cancelled", 4, 6)
    assert one.ask(RunInfo()).elapsed == report.duration


def test_it_is_told_of_in_the_log(system: VirtualSystem) -> None:
    """Beginning, some twenty steps however many examples, and end; all in one trace."""
    one = scene(system, lambda question: LMServerError("down") if question == "q5" else question.upper())
    one.start(200, workers=10)
    report = one.report()
    system.settle()
    started, *steps, ended = one.events
    assert isinstance(started, EvaluationStarted)
    assert isinstance(ended, EvaluationEnded)
    assert (started.metric, started.examples, started.workers) == ("exact_match", 200, 10)
    told = [event for event in steps if isinstance(event, EvaluationProgressed)]
    assert len(told) == len(steps) == 20
    assert [event.done for event in told] == list(range(10, 201, 10))
    assert (ended.outcome, ended.done, ended.failures, ended.score) == ("completed", 200, 1, report.score)
    assert {event.trace_id for event in one.events} == {report.correlation_id}
    assert one.rows[0]["status"] == "running"
    assert (one.rows[-1]["status"], one.rows[-1]["done"], one.rows[-1]["type"]) == ("completed", 200, "run")


def test_telemetry_counts_every_example_once(system: VirtualSystem) -> None:
    """Its events say what is new since the last one, and are few."""
    told: list[Any] = []
    system.engine.telemetry.attach("test", PROGRESS, lambda event, now, facts, _: told.append((now, facts)))
    one = scene(system, lambda question: LMServerError("down") if question == "q5" else question.upper())
    one.start(101, workers=10)
    one.report()
    assert sum(now["count"] for now, _ in told) == 101
    assert sum(now["failed"] for now, _ in told) == 1
    assert len(told) <= 12
    last = told[-1][1]["progress"]
    assert (last.done, last.total, last.failures, last.score) == (101, 101, 1, 100 / 101)


def test_a_run_that_is_out_of_budget_reports_what_was_done(system: VirtualSystem) -> None:
    """The rest has no rows."""
    one = scene(system, lambda question: RunStopped("spent") if question == "q3" else question.upper())
    one.start(9)
    report = one.report()
    assert (report.outcome, len(report.rows), report.failures) == ("stopped", 3, 0)


def test_with_a_journal_each_call_knows_its_place(system: VirtualSystem) -> None:
    """Predictions carry the run, the trial and the example: by these their answers are found again."""
    one = scene(system)
    system.spawn(RunJournal, "e1", KIND, {}, RunStore(None), name="run-journal/e1")
    one.start(2, journaled=True)
    one.report()
    assert [msg.run for msg in one.asked] == [RunScope("e1", "eval", "0"), RunScope("e1", "eval", "1")]


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0, 5.0, 100.0])
def test_after_a_crash_it_goes_on_where_it_was(system: VirtualSystem, seconds: float) -> None:
    """Rows that are kept are not done again; only what was in flight is; the report is that of an undisturbed one."""

    def answer(question: str) -> Any:
        return LMServerError("down") if question == "q1" else question.upper()

    one = scene(system, answer)
    system.spawn(RunJournal, "e1", KIND, {}, RunStore(None), name="run-journal/e1")
    one.start(6, journaled=True, workers=2)
    system.advance(seconds)
    system.kill("run/e1")
    kept = min(int(seconds // SECONDS) * 2, 6)
    begun = len(one.asked)
    one.start(6, journaled=True, workers=2)
    report = one.report()
    assert [(row.index, row.score, row.error) for row in report.rows] == [
        (n, float(n != 1), "lm_server_error" if n == 1 else None) for n in range(6)
    ]
    assert (report.score, report.outcome) == (5 / 6, "completed")
    assert len(one.asked) - begun == 6 - kept


def test_the_file_of_runs_knows_how_far_it_is(system: VirtualSystem) -> None:
    """Other processes see progress, and ask for an end there."""
    one, store = scene(system), RunStore(None)
    system.spawn(RunJournal, "e1", KIND, {}, store, name="run-journal/e1")
    one.start(6, journaled=True)
    system.advance(3.5 * SECONDS)
    now = store.get("e1").progress
    assert (now["step"], now["steps"], now["errors"], now["best_score"]) == (3, 6, 0, 1.0)
    assert (now["elapsed"], now["reason"]) == (3 * SECONDS, None)
    store.wish("e1", "cancel")
    report = one.report()
    assert report.outcome == "cancelled"
    assert (store.get("e1").state, store.get("e1").owner) == ("cancelled", None)


def test_a_module_that_dies_is_waited_for(system: VirtualSystem) -> None:
    """With a journal: what it was asked is asked again, and no example is scored 0 because nobody was there."""
    died = iter([ActorDied("killed"), NoProcess("not yet")])
    one = scene(system, lambda question: next(died, "Q1") if question == "q1" else question.upper())
    system.spawn(RunJournal, "e1", KIND, {}, RunStore(None), name="run-journal/e1")
    one.start(3, journaled=True)
    report = one.report()
    assert (report.score, report.failures, len(one.asked)) == (1.0, 0, 5)


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (LMAuthError("no such key"), "failed"),
        (LMQuotaExceeded("no credit"), "failed"),
        (NoProcess("stopped"), "failed"),
        (LMBudgetExceeded("spent"), "budget_exhausted"),
    ],
)
def test_what_the_next_example_would_meet_too_stops_it(system: VirtualSystem, failure: Error, state: str) -> None:
    """With a journal: examples in hand are finished, the report says why, and begun again it does what is missing."""
    bad: list[Error] = [failure]
    one = scene(system, lambda question: bad[0] if bad and question == "q3" else question.upper())
    store = RunStore(None)
    journal = system.spawn(RunJournal, "e1", KIND, {}, store, name="run-journal/e1")
    one.start(12, journaled=True, workers=2)
    report = one.report()
    assert (report.outcome, report.failures, report.reason) == ("stopped", 0, f"{failure.code}: {failure.message}")
    assert "q3" not in [row.example.question for row in report.rows]
    stored = store.get("e1")
    assert (stored.state, stored.progress["reason"], stored.owner) == (state, report.reason, None)
    bad.clear()
    system.kill(journal)
    system.kill("run/e1")
    store.begin("e1", KIND, {}, again=True)
    system.spawn(RunJournal, "e1", KIND, {}, store, name="run-journal/e1")
    one.start(12, journaled=True, workers=2)
    again = one.report()
    assert (again.outcome, again.score, len(again.rows), again.reason) == ("completed", 1.0, 12, None)
    assert [row for row in again.rows if row.index in {kept.index for kept in report.rows}] == list(report.rows)
    assert store.get("e1").state == "completed"


def test_without_a_journal_such_failures_are_rows(system: VirtualSystem) -> None:
    """Nothing can be gone on with, so every example is told of."""
    one = scene(system, lambda question: LMAuthError("no such key"))
    one.start(5)
    assert one.report().errors == {"lm_auth": 5}


def test_a_pause_outlives_a_crash(system: VirtualSystem) -> None:
    """The file of runs says that it is paused, and so it begins nothing when it is started again."""
    one, store = scene(system), RunStore(None)
    system.spawn(RunJournal, "e1", KIND, {}, store, name="run-journal/e1")
    one.start(6, journaled=True)
    system.advance(1.5 * SECONDS)
    assert one.ask(PauseRun()).state == "paused"
    assert store.get("e1").state == "paused"
    system.advance(10 * SECONDS)
    system.kill("run/e1")
    one.start(6, journaled=True)
    system.advance(10 * SECONDS)
    assert (one.ask(RunInfo()).state, len(one.asked)) == ("paused", 2)
    assert one.ask(ResumeRun()).state == "running"
    assert store.get("e1").state == "running"
    assert one.report().complete
    assert one.ask(PauseRun()).state == "completed"
    assert store.get("e1").state == "completed"


def test_an_evaluation_that_another_process_took_over_says_so(system: VirtualSystem) -> None:
    """What the journal refuses ends it: nothing that is not kept is paid for."""

    class Taken(GenServer):
        @call
        def info(self, msg: JournalInfo) -> JournalStatus:
            return JournalStatus(Paid(), 0, 0, "running", {})

        @call
        def recall(self, msg: RecallAll) -> list[Entry]:
            return []

        @call
        def record(self, msg: Record) -> Fail | None:
            return Fail(RunConflict("taken over")) if msg.entries else None

    one = scene(system)
    system.spawn(Taken, name="run-journal/e1")
    one.start(9, journaled=True)
    for _ in range(2):
        with pytest.raises(RunConflict, match="taken over"):
            one.report()
    assert len(one.asked) == 1


def test_without_the_module_it_does_not_start(system: VirtualSystem) -> None:
    """There is nothing to evaluate."""
    plan = EvaluationPlan(run_id="e1", module="nobody", dataset=(Example(q=1),), scorer=Scorer("f1"))
    with pytest.raises(StartError, match="module/nobody"):
        system.spawn(EvaluationRun, plan, name="run/e1")


def test_a_plan_is_checked_when_it_is_made() -> None:
    """Counts out of range are refused."""
    with pytest.raises(ConfigError):
        EvaluationPlan(run_id="e1", module="qa", dataset=(), scorer=Scorer("f1"), workers=0)
    with pytest.raises(ConfigError):
        EvaluationPlan(run_id="e1", module="qa", dataset=(), scorer=Scorer("f1"), max_errors=-1)


def test_a_module_that_is_busy_fails_its_example_only(system: VirtualSystem) -> None:
    """Any typed refusal of the module is that row's failure, by its own code."""

    class Refusing(GenServer):
        @call
        def about(self, msg: ModuleInfo) -> ModuleStatus:
            known: dict[str, Any] = dict.fromkeys(ModuleStatus.__slots__, 0)
            return ModuleStatus(
                **{
                    **known,
                    "signature": "question -> answer",
                    "options": PredictOptions(timeout=1.0),
                    "max_concurrency": 1,
                }
            )

        @call
        def predict(self, msg: Predict) -> Fail:
            return Fail(ConfigError("misconfigured"))

    system.spawn(Refusing, name="module/bad")
    dataset = (Example(question="?", answer="!"),)
    plan = EvaluationPlan(run_id="e1", module="bad", dataset=dataset, scorer=Scorer("f1"))
    system.spawn(EvaluationRun, plan, name="run/e1")
    report: EvaluationReport = system.call("run/e1", GetResult())
    assert report.errors == {"config_error": 1}
