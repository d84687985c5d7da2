"""Runs of DSPy's optimizers in hand: pause, budget, failures that end them, the best so far, wrong options."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest

import dspex
from dspex.dspy import aoptimize_dspy, dspy_run
from dspex.runtime.errors import ConfigError, RunError, UsageError
from kit.application import provider_of
from kit.dspy_kills import EXAMPLES, OPTIMIZERS, RANDOM_SEARCH, THREADS, begun, configuration, model
from kit.http_server import Exchange, HttpServer
from kit.processes import children, wait_ended

pytestmark = pytest.mark.timeout(180)


def at(number: int, script: Any, wait: threading.Event | None = None) -> threading.Event:
    """Set once the model call of this number has come; it is answered when ``wait`` is set."""
    reached = threading.Event()

    def watch(call: int) -> None:
        if call == number:
            reached.set()
            if wait is not None:
                assert wait.wait(120)

    script.on_call = watch
    return reached


def ended() -> None:
    """No process of a run is left."""
    for pid in children():
        wait_ended(pid)


def test_a_pause_ends_the_process_and_the_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Paused it stays, over a restart of the application too; resumed it ends as an undisturbed run."""
    with model() as (script, server):
        with dspex.start(config=configuration(server, tmp_path)) as app:
            calm = begun(app, run_id="calm").result(120)
            whole, script.calls = script.calls, 0
            free = threading.Event()
            reached = at(20, script, free)
            run = begun(app, run_id="r")
            assert reached.wait(120)
            (pid,) = children()
            assert run.pause().state == "paused"
            free.set()
            wait_ended(pid)
            assert run.resume().state == "running"
            reached = at(script.calls + 10, script)
            assert reached.wait(120)
            app.runs.wish("r", "pause")
            while run.status().state != "paused":
                threading.Event().wait(0.05)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            assert app.runs.get("r").state == "paused"
            result = app.runs.resume("r").result(120)
        assert (result.outcome, result.state.predictors) == ("completed", calm.state.predictors)
        assert result.status.rows == calm.status.rows
        assert whole <= script.calls <= whole + 2 * THREADS


def test_a_budget_ends_the_run_and_a_larger_one_lets_it_go_on(tmp_path: Path) -> None:
    """It is never spent beyond; the best program evaluated so far is its result; what was paid for stays paid."""
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:
        calm = begun(app, run_id="calm").result(120)
        whole, script.calls = script.calls, 0
        result = begun(app, run_id="r", budget={"calls": 40}).result(120)
        assert (result.outcome, script.calls) == ("budget_exhausted", 40)
        assert (result.status.paid.calls, app.runs.get("r").state) == (40, "budget_exhausted")
        assert result.score is not None
        assert result.state.provenance["dspy"]
        assert result.state.predictors
        more = begun(app, run_id="r", budget={"calls": 500}).result(120)
        assert (more.outcome, more.state.predictors) == ("completed", calm.state.predictors)
        assert script.calls == whole
        timed = begun(app, run_id="t", budget={"seconds": 0.0}).result(120)
        assert (timed.outcome, timed.state.predictors) == ("budget_exhausted", {})


def test_the_actors_of_a_run_die(tmp_path: Path) -> None:
    """They are started again, and who works for them: one process, never two; the end is the same."""
    deaths = ("run/r", "run-journal/r", "dspy-run/r")
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:
        calm = begun(app, run_id="calm").result(120)
        whole, script.calls = script.calls, 0
        reached = at(10, script)
        run = begun(app, run_id="r")
        for name in deaths:
            assert reached.wait(120)
            (pid,) = children()
            reached = at(script.calls + 10, script)
            app.kill(name)
            wait_ended(pid)
        result = run.result(120)
        assert (result.outcome, result.state.predictors) == ("completed", calm.state.predictors)
        assert whole <= script.calls <= whole + len(deaths) * THREADS


def test_a_stop_of_the_application_ends_the_process(tmp_path: Path) -> None:
    """Nothing is left at work, and the run is nobody's."""
    with model() as (script, server):
        with dspex.start(config=configuration(server, tmp_path)) as app:
            reached = at(20, script)
            begun(app, run_id="r")
            assert reached.wait(120)
            (pid,) = children()
        wait_ended(pid)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            assert app.runs.get("r").state == "orphaned"
            assert app.runs.resume("r").result(120).outcome == "completed"


def test_a_refused_key_ends_the_run_instead_of_scoring_nothing(tmp_path: Path) -> None:
    """What every other call would meet too is no example's score; mended, the run goes on where it was."""
    with model() as (script, _):
        refused = threading.Event()

        def serve(exchange: Exchange) -> None:
            if refused.is_set():
                exchange.reply(401, b'{"error": {"message": "no such key"}}')
            else:
                script(exchange)

        with HttpServer(serve) as other, dspex.start(config=configuration(other, tmp_path)) as app:
            script.on_call = lambda number: refused.set() if number == 30 else None
            run = begun(app, run_id="r")
            with pytest.raises(RunError, match="lm_auth"):
                run.result(120)
            ended()
            refused.clear()
            script.on_call = lambda number: None
            app.configure_provider("local", **provider_of(other), api_key="another")
            assert begun(app, run_id="r").result(120).outcome == "completed"


def test_a_process_that_dies_each_time_fails_the_run(tmp_path: Path) -> None:
    """A program that kills its process is not begun for ever."""
    with model() as (_, server), dspex.start(config=configuration(server, tmp_path)) as app:
        with pytest.raises(RunError, match="died 3 times"):
            begun(app, "kit.dspy_programs:deadly").result(120)
        ended()


def test_the_budget_of_plain_code(tmp_path: Path) -> None:
    """DSPy is refused what goes beyond; the run is not taken for complete, whatever DSPy makes of it."""
    program = dspy.Predict("question -> answer")
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:

        def ask(calls: int) -> int:
            answers = 0
            with dspy_run(app, "r", provider="local", budget={"calls": calls}) as lm, dspy.context(lm=lm):
                for each in EXAMPLES:
                    try:
                        answers += program(question=each.question) is not None
                    except dspy.LMBillingError:
                        continue
            return answers

        assert (ask(5), script.calls, app.runs.get("r").state) == (5, 5, "budget_exhausted")
        assert (ask(50), script.calls, app.runs.get("r").state) == (12, 12, "completed")


def test_wrong_options_are_refused_at_once(tmp_path: Path) -> None:
    """Before anything is begun, and with what was meant."""
    with model() as (_, server), dspex.start(config=configuration(server, tmp_path)) as app:
        with pytest.raises(UsageError, match="did you mean 'optimizer'"):
            begun(app, optimiser="MIPROv2")
        with pytest.raises(ConfigError, match="run_id"):
            begun(app, run_id="a/b")
        with pytest.raises(ConfigError, match="run_id"), dspy_run(app, "", provider="local"):
            pass
        with pytest.raises(ConfigError, match="budget"):
            begun(app, budget={"call": 3})
        with pytest.raises(ConfigError, match="seconds"), dspy_run(app, "r", provider="local", budget={"seconds": 3}):
            pass
        assert app.runs.list() == []


def test_the_awaitable_twin(tmp_path: Path) -> None:
    """In an event loop of one's own: the same run, its handle awaitable."""

    async def scene(config: dict[str, Any]) -> Any:
        async with dspex.astart(config=config) as app:
            how: Any = {"metric": "kit.dspy_programs:right", "provider": "local", "optimizer": RANDOM_SEARCH}
            options = OPTIMIZERS[RANDOM_SEARCH]
            run = await aoptimize_dspy(app, "kit.dspy_programs:build", EXAMPLES, options=options, **how)
            return await run.result(120)

    with model() as (_, server):
        assert asyncio.run(scene(configuration(server, tmp_path))).outcome == "completed"
