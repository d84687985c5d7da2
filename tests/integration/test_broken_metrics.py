"""Metrics that can score nothing: told plainly, before anything is paid for if that can be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dspex
from dspex.__main__ import cli
from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.actors.scorers.llm_judge import LMJudge
from dspex.actors.scorers.texts import F1, Contains, ExactMatch
from dspex.actors.testing.scripted_provider import marked
from dspex.runtime.errors import ConfigError, LMServerError, RunConflict, RunError
from kit.application import answering, application
from kit.runs import EXAMPLES, configuration, model

METHODS: dict[str, dict[str, Any]] = {
    "labeled_few_shot": {},
    "bootstrap": {},
    "random_search": {"candidates": 4},
    "mipro": {},
    "gepa": {},
}
HALF = len(EXAMPLES) // 2


def misspelt(example: Example, prediction: Prediction) -> float:
    """A metric that never works."""
    return float(prediction.answr == example["answer"])


def mended(example: Example, prediction: Prediction) -> float:
    """The same, put right."""
    return float(prediction.answer == example["answer"])


@pytest.mark.parametrize("method", METHODS)
def test_a_search_by_a_metric_that_always_fails_ends_at_once(method: str) -> None:
    """The program as it is is all that is paid for; the failure is quoted, and the way on is told."""
    with model() as (script, server), dspex.start(config=configuration(server, None)) as app:
        how: dict[str, Any] = {"metric": misspelt, "method": method, "options": METHODS[method], "run_id": "r"}
        said = (
            rf"every prediction \({HALF}\), first: the metric failed: .*no field 'answr'.*did you mean 'answer'.*fork="
        )
        with pytest.raises(RunError, match=said):
            app.optimize("qa", EXAMPLES, **how).result(20)
        assert (script.calls, app.runs.get("r").state) == (HALF, "failed")
        status = app.runs.get("r").progress
        assert (status["errors"], status["best_score"]) == (HALF, None)


def test_once_the_metric_is_mended_the_answers_are_used_again(tmp_path: Path) -> None:
    """Over a restart it fails alike and costs nothing; the mended metric is another run, which a fork pays half."""
    how: dict[str, Any] = {"method": "labeled_few_shot"}
    with model() as (script, server):
        for _ in range(2):
            with dspex.start(config=configuration(server, tmp_path)) as app:
                with pytest.raises(RunError, match="first: the metric failed: Attr"):
                    app.optimize("qa", EXAMPLES, metric=misspelt, run_id="r", **how).result(20)
                assert script.calls == HALF
        with dspex.start(config=configuration(server, tmp_path)) as app:
            with pytest.raises(RunConflict, match=r"got another metric.*fork='r'"):
                app.optimize("qa", EXAMPLES, metric=mended, run_id="r", **how)
            result = app.optimize("qa", EXAMPLES, metric=mended, run_id="s", fork="r", **how).result(20)
            assert (result.outcome, script.calls) == ("completed", 2 * HALF)


def test_a_run_cut_short_before_that_ends_in_the_same_way(tmp_path: Path) -> None:
    """It is told by the rows that the journal has, whichever process they are of: each is paid for once."""
    how: dict[str, Any] = {"metric": misspelt, "method": "random_search", "run_id": "r", "workers": 1}
    with model() as (script, server):
        with dspex.start(config=configuration(server, tmp_path)) as app:
            cut = app.optimize("qa", EXAMPLES, budget={"calls": 5}, **how).result(20)
            assert (cut.outcome, script.calls) == ("budget_exhausted", 5)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            with pytest.raises(RunError, match=rf"every prediction \({HALF}\), first: the metric failed: Attr"):
                app.optimize("qa", EXAMPLES, **how).result(20)
            assert script.calls == HALF


def reads_a_number(example: Example, prediction: Prediction) -> float:
    """A metric that a wordy answer fails, which worked examples may make terse."""
    return float(int(prediction.answer) == int(example["answer"]))


def judge_away(example: Example, prediction: Prediction) -> float:
    """A metric whose model is away."""
    raise LMServerError("HTTP 503", status=503)


@pytest.mark.parametrize("metric", [reads_a_number, judge_away])
def test_a_metric_that_may_yet_work_is_searched_by(metric: Any) -> None:
    """That it failed on all of the first predictions may be these, or the moment."""
    with model() as (_, server), dspex.start(config=configuration(server, None)) as app:
        result = app.optimize("qa", EXAMPLES, metric=metric, method="labeled_few_shot").result(20)
        assert (result.outcome, result.score) == ("completed", 0.0)


def test_a_program_that_fails_itself_is_searched_all_the_same() -> None:
    """Its answers do not fit, which worked examples may mend: that is no fault of the metric."""
    numbers = {"modules": {"qa": {"signature": "question -> answer: int", "provider": "local"}}}
    dataset = [{"question": str(number), "answer": number} for number in range(4)]
    with application(answering(marked({"answer": "who knows?"})), config=numbers) as (app, _):
        result = app.optimize("qa", dataset, metric=misspelt, method="labeled_few_shot").result(20)
        assert (result.outcome, result.score) == ("completed", 0.0)
        assert result.status.errors > 0
        report = app.evaluate("qa", dataset, metric=misspelt)
        assert report.warning is not None
        assert report.warning.startswith("every example failed (4), first: parse_error: ")


def test_an_evaluation_says_that_its_metric_failed_every_time(tmp_path: Path) -> None:
    """In the report, in the table of the command line, as JSON, and below the bar."""
    said = "the metric failed on every prediction (24), first: metric_broken: AttributeError"
    with model() as (_, server):
        with dspex.start(config=configuration(server, tmp_path)) as app:
            report = app.evaluate("qa", EXAMPLES, metric=misspelt, run_id="e")
            assert report.warning is not None
            assert report.warning.startswith(said)
            assert said in str(report)
            assert report.to_dict()["warning"] == report.warning
        path = tmp_path / "dspex.toml"
        path.write_text(f'[events]\npath = "{tmp_path / "app.db"}"\n')
        shown = CliRunner().invoke(cli, ["runs", "show", "e", "--config", str(path)]).stdout
        assert "the metric failed on every prediction (24)" in " ".join(shown.split())


def test_the_bar_leaves_the_warning_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks at the terminal only sees it too; of an evaluation that says something, nothing is left."""
    with model() as (_, server), dspex.start(config=configuration(server, None)) as app:
        app.evaluate("qa", EXAMPLES, metric=misspelt, progress=True)
        assert "the metric failed on every prediction (24)" in " ".join(capsys.readouterr().err.split())
        app.evaluate("qa", EXAMPLES, metric=mended, progress=True)
        assert "failed on every" not in capsys.readouterr().err


# -- the shipped metrics know which fields there are ---------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (ExactMatch(field="answr"), "expected a field that an example has as a label, got 'answr'; did you mean 'ans"),
        (
            F1(field="question"),
            "expected a field that an example has as a label, got 'question' .there are: answer, why., at metric",
        ),
        (Contains(field="why"), "expected an output of the module, got 'why' .there are: answer., at metric"),
    ],
)
def test_a_field_that_cannot_be_compared_is_refused(metric: Any, words: str) -> None:
    """Of evaluations and of searches alike, before a single request."""
    dataset = [Example({**each, "why": "so"}).with_inputs("question") for each in EXAMPLES]
    with model() as (script, server), dspex.start(config=configuration(server, None)) as app:
        with pytest.raises(ConfigError, match=words):
            app.evaluate("qa", dataset, metric=metric)
        with pytest.raises(ConfigError, match=words):
            app.optimize("qa", dataset, metric=metric)
        with pytest.raises(ConfigError, match=words):
            app.optimize("qa", EXAMPLES, valset=dataset, metric=metric)
        assert (script.calls, app.runs.list()) == (0, [])


@pytest.mark.parametrize("metric", ["exact_match", "contains", F1()])
def test_labels_that_no_output_answers_are_refused(metric: Any) -> None:
    """Without a field the labels are compared that the prediction has: one of them must be an output."""
    dataset = [{"question": each["question"], "reply": each["answer"]} for each in EXAMPLES]
    words = "expected a label that is an output of the module .answer., in one example at least, got reply, at metric"
    with model() as (script, server), dspex.start(config=configuration(server, None)) as app:
        with pytest.raises(ConfigError, match=words):
            app.evaluate("qa", dataset, metric=metric)
        with pytest.raises(ConfigError, match=words):
            app.optimize("qa", dataset, metric=metric)
        assert script.calls == 0


class Wordy(dspex.Module):
    """Gives more than it declares."""

    ask = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> dict[str, Any]:
        """Answer, and say why."""
        found = await self.ask(question=question)
        return {"answer": found.answer, "why": "so"}


def test_what_can_be_compared_is_not_refused() -> None:
    """One example that has the field is enough; a program may give more than it declares; a judge takes anything."""
    dataset = [Example({**each, "why": "so"}).with_inputs("question") for each in EXAMPLES[:2]]
    mixed = [*dataset, Example(question="Is 3 even?").with_inputs("question")]
    with application(answering(marked({"answer": "yes"})), "qa") as (app, _):
        assert app.evaluate("qa", mixed, metric=ExactMatch(field="answer")).failures == 1
        app.start_program("wordy", Wordy, provider="local")
        assert app.evaluate("wordy", dataset, metric=ExactMatch(field="why")).score == 1.0
        unlabelled = [Example(question=each["question"]).with_inputs("question") for each in EXAMPLES[:2]]
        assert app.evaluate("qa", unlabelled, metric=LMJudge("local")).total == 2
        assert app.evaluate("qa", unlabelled, metric=lambda example, prediction: 1.0).score == 1.0
        with pytest.raises(ConfigError, match="got none, at metric"):
            app.evaluate("wordy", unlabelled, metric="f1")
