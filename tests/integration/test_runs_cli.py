"""``dspex runs``: lists, shows, goes on with and cancels the runs of an application."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import dspex
from dspex.__main__ import cli
from dspex.actors.runs import journal as run_journal
from dspex.runtime.errors import RunError, StoreUnavailable
from dspex.supervisors.app.runs.tables import plot
from kit.http_server import HttpServer
from kit.runs import EXAMPLES, configuration, model

HOW: dict[str, Any] = {
    "metric": "exact_match",
    "method": "random_search",
    "options": {"candidates": 6, "generation": 3},
    "run_id": "r",
    "seed": 7,
    "patience": 0,
}


def configured(server: HttpServer, folder: Path) -> Path:
    """A configuration file of the same application."""
    path = folder / "dspex.toml"
    path.write_text(
        f'[events]\npath = "{folder / "app.db"}"\n'
        f'[ai.providers.local]\nkind = "openai"\nbase_url = "{server.url}/v1"\ndefault_model = "test-model"\n'
        "[ai.caching]\nenabled = false\n"
        '[modules.qa]\nsignature = "question -> answer"\nprovider = "local"\n'
    )
    return path


def dspex_runs(config: Path, *arguments: str) -> Result:
    """What the command line does."""
    return CliRunner().invoke(cli, ["runs", *arguments, "--config", str(config)])


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    """Left out of budget by one process it is listed, shown, and over again when another has gone on with it."""
    with model() as (script, server):
        config = configured(server, tmp_path)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            app.optimize("qa", EXAMPLES, budget={"calls": 30}, **HOW).result(20)
        listed = json.loads(dspex_runs(config, "--json").stdout)
        assert [(run["id"], run["state"], run["paid"]["calls"]) for run in listed] == [("r", "budget_exhausted", 30)]
        assert "train" not in listed[0]["plan"]
        assert "budget" in dspex_runs(config).stdout
        shown = dspex_runs(config, "show", "r").stdout
        assert "baseline" in shown
        assert "trial 1 to" in shown
        detailed = json.loads(dspex_runs(config, "show", "r", "--json").stdout)
        assert detailed["trial_list"][0]["name"] == "baseline"
        went_on = dspex_runs(config, "resume", "r", "--json")
        assert json.loads(went_on.stdout)["outcome"] == "budget_exhausted"
        assert script.calls == 30
        assert "which is over" in str(dspex_runs(config, "cancel", "r").exception)


def test_an_orphan_is_cancelled_by_the_command_line(tmp_path: Path) -> None:
    """A run that nobody works on is ended then and there."""
    with model() as (_, server):
        config = configured(server, tmp_path)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            app.optimize("qa", EXAMPLES, **HOW).pause()
        assert "cancelled" in dspex_runs(config, "cancel", "r").stdout
        assert json.loads(dspex_runs(config, "--json").stdout)[0]["state"] == "cancelled"


def test_an_evaluation_from_the_command_line(tmp_path: Path) -> None:
    """Stopped half way it is listed among the runs, shown row by row, and gone on with; then it is what it would be."""
    with model() as (script, server):
        config = configured(server, tmp_path)
        options: dict[str, Any] = {"metric": "exact_match", "workers": 2}
        with dspex.start(config=configuration(server, tmp_path)) as app:
            app.update_setting(("ai", "providers", "local", "budget"), {"requests": 10})
            stopped = app.evaluate("qa", EXAMPLES, run_id="e", **options)
            assert (stopped.outcome, len(stopped.rows)) == ("stopped", 10)
            calm = app.evaluate("qa", EXAMPLES, run_id="f", max_errors=0, **options)
            assert calm.outcome == "stopped"
        assert script.calls == 10
        [one, other] = sorted(json.loads(dspex_runs(config, "--json").stdout), key=lambda run: str(run["id"]))
        assert (one["id"], one["kind"], one["state"], one["paid"]["calls"]) == (
            "e",
            "evaluation",
            "budget_exhausted",
            10,
        )
        assert "dataset" not in one["plan"]
        assert other["progress"]["step"] == 0
        listed = [line.split() for line in dspex_runs(config).stdout.splitlines()]
        words = ["e", "budget_exhausted", "evaluation", "qa", "10", "of", "24", f"{stopped.score:.1%}", "unknown"]
        assert words in [line[:9] for line in listed], "eighty columns are enough"
        shown = dspex_runs(config, "show", "e").stdout
        for word in ("budget_exhausted: ", "exact_match", "10 of 24 examples", "Is 3 even?", f"{stopped.score:.1%}"):
            assert word in shown
        told = json.loads(dspex_runs(config, "show", "e", "--json").stdout)["report"]
        assert (told["done"], told["total"], told["score"]) == (10, 24, stopped.score)
        went_on = json.loads(dspex_runs(config, "resume", "e", "--json").stdout)
        assert (went_on["outcome"], went_on["done"], script.calls) == ("completed", 24, 24)
        assert went_on["rows"][:3] == told["rows"][:3]
        assert json.loads(dspex_runs(config, "show", "e", "--json").stdout)["report"]["score"] == went_on["score"]
        assert "qa by exact_match" in dspex_runs(config, "resume", "e").stdout
        assert script.calls == 24
        assert "which is over" in str(dspex_runs(config, "cancel", "e").exception)


def test_an_evaluation_at_work_is_cancelled_by_the_command_line(tmp_path: Path) -> None:
    """Its process hears of it with the next row; what was done is its report, and listed as such."""
    with model() as (script, server):
        reached, go_on = threading.Event(), threading.Event()

        def hold(number: int) -> None:
            if number == 3:
                reached.set()
                assert go_on.wait(10)

        script.on_call = hold
        config = configured(server, tmp_path)
        reports: list[dspex.EvaluationReport] = []
        with dspex.start(config=configuration(server, tmp_path)) as app:
            options: dict[str, Any] = {"metric": "exact_match", "run_id": "e", "workers": 1}
            work = threading.Thread(target=lambda: reports.append(app.evaluate("qa", EXAMPLES, **options)))
            work.start()
            assert reached.wait(10)
            assert "was asked to cancel it" in dspex_runs(config, "cancel", "e").stdout
            go_on.set()
            work.join(10)
        assert (reports[0].outcome, reports[0].complete) == ("cancelled", False)
        [listed] = json.loads(dspex_runs(config, "--json").stdout)
        assert (listed["state"], listed["progress"]["step"]) == ("cancelled", len(reports[0].rows))


def test_an_evaluation_with_a_metric_of_its_own_says_what_to_do(tmp_path: Path) -> None:
    """Nobody else can find it: the program that began it goes on. It can be cancelled from here."""
    with model() as (_, server):
        config = configured(server, tmp_path)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            app.update_setting(("ai", "providers", "local", "budget"), {"requests": 10})
            app.evaluate("qa", EXAMPLES, metric=lambda example, prediction: 1.0, run_id="e")
        error = dspex_runs(config, "resume", "e").exception
        assert isinstance(error, RunError)
        assert "app.evaluate(..., run_id='e')" in str(error)


def test_one_that_a_living_process_has_paused_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner is asked; no second application is started beside it."""
    monkeypatch.setattr(run_journal, "HEARTBEAT", 0.05)  # one that pauses looks no more often
    with model() as (_, server):
        config = configured(server, tmp_path)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            run = app.optimize("qa", EXAMPLES, **HOW)
            run.pause()
            assert "was asked to go on" in dspex_runs(config, "resume", "r").stdout
            assert run.result(20).outcome == "completed"


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """No file of runs, or no such run: a typed error, and no file is made."""
    with model() as (_, server):
        config = configured(server, tmp_path)
        assert isinstance(dspex_runs(config).exception, StoreUnavailable)
        assert not (tmp_path / "app.runs.db").exists()
        with dspex.start(config=configuration(server, tmp_path)) as app:
            app.optimize("qa", EXAMPLES, **HOW).cancel()
        error = dspex_runs(config, "resume", "x").exception
        assert isinstance(error, RunError)


def test_scores_are_drawn_where_they_belong() -> None:
    """The top line is 100 %, the bottom line 0 %; what is better than all before is a star."""
    lines = plot([0.0, 1.0, 0.5], height=3).splitlines()
    assert lines[:4] == [" 100% | *", "      |  o", "   0% |o", "      +---"]
    assert lines[-1].strip() == "trial 1 to 3; * is better than all before"


@pytest.mark.parametrize(("count", "first"), [(0, None), (60, 1), (100, 41)])
def test_a_long_run_is_drawn_by_its_last_trials(count: int, first: int | None) -> None:
    """More than fit in the width are not squeezed: the last ones are shown, and it says which."""
    drawn = plot([0.5] * count)
    assert ("no trial" in drawn) if first is None else (f"trial {first} to {count};" in drawn)
