"""Optimization runs against kill -9: what was paid for is not paid for again, and the end is the same.

Few kills in each test here; ``RUNS_KILLS=50`` is the full series, ``RUNS_SEED`` draws others.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest

from dspex.actors.runs.store import RunStore
from dspex.runtime.errors import RunConflict
from kit.evaluations import judging_model
from kit.http_server import HttpServer
from kit.run_kills import Moment, any_moment, journal_of, killed_at, killed_once, paid_calls
from kit.runs import Model, configuration, model, optimized, optimizer_process, outcome_of

KILLS: Final = int(os.environ.get("RUNS_KILLS", "3"))
IN_A_ROW: Final = 8
"""Kills of one run, before it is left to end."""
WORKERS: Final = 4
METHODS: Final[dict[str, dict[str, Any]]] = {
    "bootstrap": {},
    "random_search": {"candidates": 6, "generation": 3},
    "mipro": {"proposals": 3, "demo_sets": 3, "generations": 3, "generation": 3, "minibatch": 6},
    "gepa": {"generations": 3, "generation": 3},
}
BY_METHOD: Final[dict[str, dict[str, Any]]] = {
    method: {"method": method, "options": options, "run_id": "r", "seed": 7, "workers": WORKERS, "patience": 0}
    for method, options in METHODS.items()
}
JUDGED: Final = BY_METHOD["random_search"] | {
    "metric": "kit.evaluations:judge",
    "options": {"candidates": 3, "generation": 3},
}
"""A run in which a model is also the judge."""
HOW: Final = BY_METHOD["random_search"]
TWENTIETH: Final = Moment("request", 20)


@pytest.mark.parametrize("method", [*METHODS, "judged"])
@pytest.mark.timeout(120 + 30 * KILLS)  # on a machine that is busy with other things
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path, method: str) -> None:
    """Killed again and again at random moments, it pays at most for what was in flight twice, and finds the same."""
    rng = random.Random(f"{method} {os.environ.get('RUNS_SEED', '1')}")
    how = BY_METHOD.get(method, JUDGED)
    with judging_model() if how is JUDGED else model() as (script, server):
        folder = tmp_path / "calm"
        folder.mkdir()
        began = time.monotonic()
        calm = outcome_of(optimizer_process(server, folder, **how))
        duration, whole = time.monotonic() - began, script.calls
        assert calm["calls"] + calm["errors"] == whole
        assert calm["score"] > calm["base"], "the search must find something, or sameness says nothing"
        journal = journal_of(folder)
        killed = repeated = series = 0
        while killed < KILLS:
            folder = tmp_path / f"stormy{series}"
            folder.mkdir()
            kills = storm(rng, script, server, folder, min(IN_A_ROW, KILLS - killed), duration, whole, how)
            stormy = optimized(configuration(server, folder), how)
            same = ("key", "score", "base", "outcome", "steps", "trials", "errors")
            assert {name: stormy[name] for name in same} == {name: calm[name] for name in same}
            assert journal_of(folder) == journal
            assert whole <= script.calls <= whole + kills * WORKERS
            assert stormy["calls"] <= script.calls
            killed, repeated, series = killed + kills, repeated + script.calls - whole, series + 1
        print(f"{method}: {series} runs of {whole} calls, {killed} kills, {repeated} calls repeated")  # shown by -rP


def storm(
    rng: random.Random,
    script: Model,
    server: HttpServer,
    folder: Path,
    most: int,
    duration: float,
    whole: int,
    how: dict[str, Any],
) -> int:
    """Begin a run and go on with it, killed each time, up to ``most`` times or until it is over; how often."""
    script.calls = 0
    for kills in range(most):
        left = whole - paid_calls(folder)
        if not killed_at(script, server, folder, any_moment(rng, left=left, duration=duration), **how):
            return kills
    return most


def test_an_orphaned_run_is_listed_and_taken_over(tmp_path: Path) -> None:
    """The run of a killed process is orphaned at once; the next process takes it over without waiting."""
    with model() as (script, server):
        assert killed_at(script, server, tmp_path, TWENTIETH, **HOW)
        store = RunStore(tmp_path / "app.runs.db")
        try:
            (found,) = store.runs()
            assert (found.state, found.owner) == ("orphaned", None)
            assert found.paid.calls >= 20 - WORKERS
            assert optimized(configuration(server, tmp_path), HOW)["outcome"] == "completed"
            (found,) = store.runs()
            assert (found.state, found.owner) == ("completed", None)
        finally:
            store.close()


def test_a_run_at_work_is_not_taken_over(tmp_path: Path) -> None:
    """While a process works on a run, another one is refused, and told who works on it."""
    with model() as (script, server):
        second: list[subprocess.Popen[str]] = []
        told: list[str] = []

        def start_another(number: int) -> None:
            if number == 10:
                second.append(optimizer_process(server, tmp_path, **HOW))
                told.append(second[0].communicate(timeout=60)[1])

        script.on_call = start_another
        first = optimizer_process(server, tmp_path, **HOW)
        assert outcome_of(first)["outcome"] == "completed"
        assert second[0].returncode == 1
        assert f"RunConflict: expected a run that nobody works on, got 'r', on which process {first.pid}" in told[0]


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    """A run that was begun otherwise does not go on; under another id its model answers are used again."""
    with model() as (script, server):
        assert killed_at(script, server, tmp_path, Moment("request", 30), **HOW)
        with pytest.raises(RunConflict, match="expected the run 'r' as it was begun, got another seed"):
            optimized(configuration(server, tmp_path), {**HOW, "seed": 8})
        script.calls = 0
        forked = optimized(configuration(server, tmp_path), {**HOW, "run_id": "f", "fork": "r"})
        assert forked["recalled"] >= 30 - WORKERS
        assert script.calls == forked["calls"]


def test_a_paused_run_stays_paused_until_it_is_begun_again(tmp_path: Path) -> None:
    """Killed while it pauses it is paused, not orphaned; who begins it again means it to go on."""
    with model() as (script, server):
        found = killed_once(script, server, tmp_path, "pause", lambda run: run.state == "paused", **HOW)
        assert (found.state, found.owner) == ("paused", None)
        told = optimized(configuration(server, tmp_path), HOW)
        assert (told["outcome"], told["calls"]) == ("completed", 96)
        assert script.calls <= 96 + WORKERS


def test_a_run_killed_before_its_cancel_is_cancelled(tmp_path: Path) -> None:
    """What was asked for is not lost with the process: begun again, it ends at once, with the best so far."""
    with model() as (script, server):
        found = killed_once(script, server, tmp_path, "cancel", lambda run: True, **HOW)
        made = script.calls
        told = optimized(configuration(server, tmp_path), HOW)
        assert (told["outcome"], told["score"]) == ("cancelled", found.progress["best_score"])
        assert script.calls == made
