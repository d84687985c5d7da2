"""Optimization runs against kill -9: what was paid for is not paid for again, and the end is the same.

Few kills in each test here; ``RUNS_KILLS=50`` is the full series.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from dspex.actors.run_store import RunStore
from kit.http_server import HttpServer
from kit.runs import Model, model, optimizer_process, outcome_of

KILLS: Final = int(os.environ.get("RUNS_KILLS", "4"))
WORKERS: Final = 4
HOW: Final[dict[str, Any]] = {
    "method": "random_search",
    "options": {"candidates": 6, "generation": 3},
    "run_id": "r",
    "seed": 7,
    "workers": WORKERS,
    "patience": 0,
}


def killed_at(script: Model, server: HttpServer, folder: Path, call: int, **how: Any) -> bool:
    """Start or go on with a run, and kill its process -9 at its ``call``-th request; whether it lived so long."""
    process: subprocess.Popen[str]
    last = script.calls + call

    def kill(number: int) -> None:
        if number == last:
            process.kill()

    script.on_call = kill
    process = optimizer_process(server, folder, **how)
    out, err = process.communicate(timeout=60)
    script.on_call = lambda number: None
    assert process.returncode in (0, -9), err
    return process.returncode == -9 and not out


@pytest.mark.timeout(60 + 15 * KILLS)
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """Killed again and again at random calls, it pays at most for what was in flight twice, and finds the same."""
    rng = random.Random(os.environ.get("RUNS_SEED", "1"))
    with model() as (script, server):
        (tmp_path / "calm").mkdir()
        calm = outcome_of(optimizer_process(server, tmp_path / "calm", **HOW))
        whole = script.calls
        assert calm["calls"] == whole
        assert calm["score"] > calm["base"], "the search must find something, or sameness says nothing"
        killed = 0
        for series in range(1 + KILLS // 8):
            folder = tmp_path / f"stormy{series}"
            folder.mkdir()
            script.calls = kills = 0
            at_most = min(8, KILLS - killed)
            while kills < at_most:
                if not killed_at(script, server, folder, rng.randint(1, whole // at_most), **HOW):
                    break
                kills += 1
            killed += kills
            stormy = outcome_of(optimizer_process(server, folder, **HOW))
            same = ("key", "score", "base", "outcome", "steps", "trials")
            assert {name: stormy[name] for name in same} == {name: calm[name] for name in same}
            assert whole <= script.calls <= whole + kills * WORKERS
            assert stormy["calls"] <= script.calls
        assert killed >= min(KILLS, 2)


def test_an_orphaned_run_is_listed_and_taken_over(tmp_path: Path) -> None:
    """The run of a killed process is orphaned at once; the next process takes it over without waiting."""
    with model() as (script, server):
        assert killed_at(script, server, tmp_path, 20, **HOW)
        store = RunStore(tmp_path / "app.runs.db")
        try:
            (found,) = store.runs()
            assert (found.state, found.owner) == ("orphaned", None)
            assert found.paid.calls >= 20 - WORKERS
            assert outcome_of(optimizer_process(server, tmp_path, **HOW))["outcome"] == "completed"
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
                told.append(second[0].communicate(timeout=30)[1])

        script.on_call = start_another
        first = optimizer_process(server, tmp_path, **HOW)
        assert outcome_of(first)["outcome"] == "completed"
        assert second[0].returncode == 1
        assert f"RunConflict: expected a run that nobody works on, got 'r', on which process {first.pid}" in told[0]


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    """A run that was begun otherwise does not go on; under another id its model answers are used again."""
    with model() as (script, server):
        assert killed_at(script, server, tmp_path, 30, **HOW)
        process = optimizer_process(server, tmp_path, **{**HOW, "seed": 8})
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "expected the run 'r' as it was begun, got another seed" in err
        script.calls = 0
        forked = outcome_of(optimizer_process(server, tmp_path, **{**HOW, "run_id": "f", "fork": "r"}))
        assert forked["recalled"] >= 30 - WORKERS
        assert script.calls == forked["calls"]
