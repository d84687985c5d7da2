"""DSPy's optimizers against kill -9: what was paid for is not paid for again, and the program is the same.

Few kills here; ``DSPY_KILLS=10`` is the full series, ``DSPY_SEED`` draws others.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any, Final

import pytest

import dspex
from dspex.actors.runs.store import RunStore
from dspex.dspy import hosted_spec
from dspex.runtime.errors import RunConflict, RunError
from kit.dspy_kills import (
    OPTIMIZERS,
    RANDOM_SEARCH,
    THREADS,
    begun,
    configuration,
    killed_at,
    model,
    optimized,
    optimizer_process,
    outcome_of,
)
from kit.processes import children, wait_ended

KILLS: Final = int(os.environ.get("DSPY_KILLS", "1"))


EITHER: Final = [(optimizer, apart) for apart in (False, True) for optimizer in OPTIMIZERS]
"""Optimizers, and whether they work apart; a sample has each of both."""


@pytest.mark.parametrize(("optimizer", "apart"), EITHER if KILLS > 1 else EITHER[0::3])
@pytest.mark.timeout(180 + 20 * KILLS)
def test_a_killed_optimizer_ends_as_an_undisturbed_one(tmp_path: Path, optimizer: str, apart: bool) -> None:
    """Killed at random moments, DSPy pays at most for what was in flight twice, and makes the same program."""
    rng = random.Random(f"{optimizer} {apart} {os.environ.get('DSPY_SEED', '1')}")
    with model() as (script, server):
        calm = outcome_of(optimizer_process(server, tmp_path / "calm", optimizer, apart=apart))
        whole, script.calls, kills = script.calls, 0, 0
        assert whole > 30
        assert calm["demos"] or "rule" in calm["signature"]["instructions"], "or sameness says nothing"
        folder = tmp_path / "stormy"
        while kills < KILLS:
            # Never all that is left, so that there is something to be killed the next time.
            left = max(whole - script.calls, 1)
            at = rng.randint(1, max(min(left - 1, 2 * left // (KILLS - kills)), 1))
            if not killed_at(script, server, folder, optimizer, at, apart=apart):
                break
            kills += 1
        stormy = outcome_of(optimizer_process(server, folder, optimizer, apart=apart))
        assert stormy == calm
        assert kills
        assert whole <= script.calls <= whole + kills * THREADS
        print(f"{optimizer}, apart={apart}: {whole} calls, {kills} kills, {script.calls - whole} calls repeated")


@pytest.mark.timeout(180)
def test_a_killed_worker_is_started_again(tmp_path: Path) -> None:
    """``kill -9`` of the optimizer's process alone: the run goes on by itself, and ends with the same program."""
    with model() as (script, server):
        calm = outcome_of(optimizer_process(server, tmp_path / "calm", RANDOM_SEARCH, apart=True))
        whole, script.calls = script.calls, 0

        def kill(number: int) -> None:
            if number == 20:
                (pid,) = children()
                os.kill(pid, signal.SIGKILL)

        script.on_call = kill
        with dspex.start(config=configuration(server, tmp_path)) as app:
            assert optimized(app, RANDOM_SEARCH, True) == calm
            assert whole <= script.calls <= whole + THREADS
            found = app.runs.get("r")
            assert (found.state, found.progress["module"]) == ("completed", "kit.dspy_programs:build")


@pytest.mark.timeout(180)
def test_a_cancel_kills_the_process(tmp_path: Path) -> None:
    """A cancelled run's process is dead, its requests end, and its id answers how it ended."""
    at_work = threading.Event()
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:

        def hang(number: int) -> None:
            if number == 10:
                at_work.set()
                server.stopping.wait(120)

        script.on_call = hang
        run = begun(app, run_id="r")
        assert at_work.wait(120)
        (pid,) = children()
        assert run.cancel().state == "cancelled"
        wait_ended(pid)
        assert run.result(5).outcome == "cancelled"
        assert app.runs.get("r").state == "cancelled"
        with pytest.raises(RunConflict, match="seed"):
            begun(app, run_id="r", seed=2)


@pytest.mark.timeout(180)
def test_a_killed_run_is_resumed_by_its_id(tmp_path: Path) -> None:
    """The plan is in the file of runs, so another process needs nothing but the id."""
    with model() as (script, server):
        assert killed_at(script, server, tmp_path, RANDOM_SEARCH, 20, apart=True)
        store = RunStore(tmp_path / "app.runs.db")
        assert store.get("r").state == "orphaned"
        store.close()
        with dspex.start(config=configuration(server, tmp_path)) as app:
            result = app.runs.resume("r").result(120)
            assert result.outcome == "completed"
            assert result.score is not None
            assert result.status.paid.calls <= script.calls <= result.status.paid.calls + THREADS


@pytest.mark.timeout(180)
def test_an_optimizer_may_have_a_model_of_its_own(tmp_path: Path) -> None:
    """An option that names a provider is a model there; its answers are in the journal too."""
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:
        app.configure_provider("large", kind="openai", base_url=f"{server.url}/v1", default_model="large-model")
        options = {**OPTIMIZERS["MIPROv2"], "prompt_model": {"provider": "large", "temperature": 1.0}}
        result = begun(app, optimizer="MIPROv2", options=options, run_id="r").result(120)
        assert script.models == {"test-model", "large-model"}
        assert result.status.paid.calls == script.calls
        assert any("large" in entry.key for entry in app._life.plan.runs.entries("r", "call"))
        assert 0.0 < result.score <= 1.0
        saved = result.state.provenance["dspy"]
        app.start_child(hosted_spec("qa", "kit.dspy_programs:build", provider="local", state=saved))
        assert app.module("qa").state().predictors == result.state.predictors


@pytest.mark.timeout(180)
def test_scores_are_parts_of_one(tmp_path: Path) -> None:
    """Most optimizers count to 100 and some to 1: a result's score is the share that was right."""
    options = {"bsize": 4, "num_candidates": 2, "max_steps": 1, "num_threads": THREADS}
    with model() as (_, server), dspex.start(config=configuration(server, tmp_path)) as app:
        simba = begun(app, optimizer="SIMBA", options=options).result(120)
        search = begun(app).result(120)
        assert simba.score == pytest.approx(2 / 12)
        assert search.score == pytest.approx(8 / 12, abs=1e-4)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"optimizer": "BootstrapFewShto"}, "did you mean 'BootstrapFewShot'"),
        ({"options": {"max_demos": 3}}, "max_demos"),
        ({"metric": "kit.dspy_programs:wrong"}, "kit.dspy_programs"),
        ({"optimizer": "kit.dspy_programs:build"}, "class of an optimizer"),
    ],
)
def test_a_mistake_ends_the_run_with_its_reason(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    """What can only be known in the process of the run is told by its result."""
    with model() as (_, server), dspex.start(config=configuration(server, tmp_path)) as app:
        run = begun(app, **changed)
        with pytest.raises(RunError, match=text):
            run.result(120)
