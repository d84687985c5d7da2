"""Evaluations against kill -9: what was paid for is not paid for again, the judge's answers too, and the report is the
same.

Few kills in each test here; ``RUNS_KILLS=50`` is the full series, ``RUNS_SEED`` draws others.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any, Final

import pytest

import dspex
from dspex.actors.runs.messages import Wish
from dspex.actors.runs.store import RunStore
from kit.evaluations import DATASET, evaluated, evaluation_process, judging_model
from kit.run_kills import Moment, any_moment, journal_of, killed_at, killed_once, paid_calls
from kit.runs import configuration, outcome_of

KILLS: Final = int(os.environ.get("RUNS_KILLS", "4"))
IN_A_ROW: Final = 5
"""Kills of one evaluation, before it is left to end."""
WORKERS: Final = 4
HOW: Final[dict[str, Any]] = {"run_id": "r", "workers": WORKERS}
SAME: Final = (
    "index",
    "score",
    "error",
    "message",
    "feedback",
    "input_tokens",
    "output_tokens",
    "example",
    "predicted",
)


def results(report: dict[str, Any]) -> dict[str, Any]:
    """What must be the same however often it was killed: all but times and ids."""
    rows = [{name: row[name] for name in SAME} for row in report["rows"]]
    return {"rows": rows, **{name: report[name] for name in ("score", "interval", "outcome", "failures", "errors")}}


@pytest.mark.timeout(60 + 10 * KILLS)
def test_a_killed_evaluation_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """Killed again and again at random moments, it pays at most for what was in flight twice; the rows are the same."""
    rng = random.Random(os.environ.get("RUNS_SEED", "1"))
    with judging_model() as (script, server):
        (tmp_path / "calm").mkdir()
        began = time.monotonic()
        calm = outcome_of(evaluation_process(server, tmp_path / "calm", **HOW))
        duration, whole = time.monotonic() - began, script.calls
        assert (whole, calm["errors"]) == (2 * len(DATASET) - 1, {"lm_invalid_request": 1})
        assert len({row["score"] for row in calm["rows"]}) > 10, "scores that are all alike would say nothing"
        keys = {kind: set(kept) for kind, kept in journal_of(tmp_path / "calm").items()}
        killed = repeated = series = 0
        while killed < KILLS:
            folder = tmp_path / f"stormy{series}"
            folder.mkdir()
            script.calls = kills = 0
            while kills < min(IN_A_ROW, KILLS - killed):
                moment = any_moment(rng, left=max(whole - paid_calls(folder), 1), duration=duration)
                if not killed_at(script, server, folder, moment, evaluation_process, **HOW):
                    break
                kills += 1
            stormy = evaluated(configuration(server, folder), HOW)
            assert results(stormy) == results(calm)
            assert {kind: set(kept) for kind, kept in journal_of(folder).items()} == keys
            assert whole <= script.calls <= whole + kills * WORKERS
            killed, repeated, series = killed + kills, repeated + script.calls - whole, series + 1
        print(f"{series} evaluations of {whole} calls, {killed} kills, {repeated} calls repeated")  # shown by -rP


@pytest.mark.parametrize(("wish", "outcome"), [("pause", "completed"), ("cancel", "cancelled")])
def test_what_was_asked_of_it_outlives_the_process(tmp_path: Path, wish: Wish, outcome: str) -> None:
    """Killed while it pauses it is paused, and who begins it again means it to go on; a cancel is not lost."""
    with judging_model() as (script, server):
        found = killed_once(
            script,
            server,
            tmp_path,
            wish,
            lambda run: wish == "cancel" or run.state == "paused",
            evaluation_process,
            **HOW,
        )
        if wish == "pause":
            assert (found.state, found.owner) == ("paused", None)
        report, made = evaluated(configuration(server, tmp_path), HOW), script.calls
        assert report["outcome"] == outcome
        assert evaluated(configuration(server, tmp_path), HOW) == report
        assert script.calls == made <= 2 * len(DATASET) - 1 + WORKERS
        assert (len(report["rows"]) == len(DATASET)) == (wish == "pause")


def test_an_orphan_is_listed_and_resumed_by_the_application(tmp_path: Path) -> None:
    """Of a killed process: what is known of it can be read, and the next process goes on as it was planned."""
    with judging_model() as (script, server):
        assert killed_at(script, server, tmp_path, Moment("request", 40), evaluation_process, **HOW)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            [found] = app.runs.list()
            assert (found.kind, found.state, found.owner) == ("evaluation", "orphaned", None)
            assert found.paid.calls >= 39 - WORKERS
            so_far = app.runs.report("r")
            assert (so_far.outcome, so_far.total) == ("orphaned", len(DATASET))
            assert 0 < len(so_far.rows) < len(DATASET)
            report = app.runs.evaluate("r", progress=False)
            assert (report.outcome, len(report.rows)) == ("completed", len(DATASET))
            assert script.calls <= 2 * len(DATASET) - 1 + WORKERS
            assert app.runs.report("r") == report
        store = RunStore(tmp_path / "app.runs.db")
        try:
            [found] = store.runs()
            assert (found.state, found.owner) == ("completed", None)
        finally:
            store.close()
