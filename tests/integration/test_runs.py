"""Optimization runs in a whole application, over real HTTP: progress, limits, pauses, crashes, what comes of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

import dspex
from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.actors.modules.program_state import PredictorState, ProgramState
from dspex.actors.optimizers.bench import Bench
from dspex.actors.runs import tries as run_tries
from dspex.actors.runs.messages import RunStatus
from dspex.actors.scorers.llm_judge import LMJudge
from dspex.actors.scorers.texts import ExactMatch
from dspex.runtime.errors import CallTimeout, ConfigError, NoProcess, RunConflict, RunError, UsageError
from dspex.supervisors.app.runs.handles import Run
from kit.http_server import Exchange
from kit.runs import EXAMPLES, Held, Model, configuration, model, optimizer_process, outcome_of

HOW: Final[dict[str, Any]] = {
    "metric": "exact_match",
    "method": "random_search",
    "options": {"candidates": 6, "generation": 3},
    "run_id": "r",
    "seed": 7,
    "patience": 0,
}
WORKERS: Final = 4


@contextmanager
def optimizing(folder: Path | None = None, **module: Any) -> Iterator[tuple[dspex.App, Model]]:
    """An application with the module ``qa``, and the model behind it."""
    with model() as (script, server), dspex.start(config=configuration(server, folder, **module)) as app:
        yield app, script


def reached(run: Run, wanted: Callable[[RunStatus], bool]) -> RunStatus:
    """The first status of a run for which this holds; the run is asked again and again."""
    while not wanted(status := run.status()):
        pass
    return status


@pytest.fixture(scope="module")
def calm() -> Iterator[tuple[Any, int]]:
    """The result of an undisturbed run, and how many calls it made."""
    with optimizing() as (app, script):
        yield app.optimize("qa", EXAMPLES, **HOW).result(20), script.calls


def test_the_best_state_is_found_and_the_module_left_alone(calm: tuple[Any, int]) -> None:
    """The result beats the program as it was, says where it comes from, and is paid for as told."""
    result, calls = calm
    assert result.outcome == "completed"
    assert result.score > result.base_score
    assert result.state.predictors["predict"].demos
    facts = result.state.provenance
    assert (facts["run"], facts["method"], facts["seed"], facts["score"]) == ("r", "random_search", 7, result.score)
    assert facts["versions"]["dspex"] == dspex.__version__
    assert facts["program"]["model"] == facts["prompt_model"] == "local/test-model"
    assert (facts["metric"], facts["options"]["candidates"], facts["base_score"]) == (
        "exact_match",
        6,
        result.base_score,
    )
    assert len(facts["data"]["validation"]["hash"]) == 64
    assert facts["data"]["train"]["examples"] + facts["data"]["validation"]["examples"] == len(EXAMPLES)
    assert result.status.paid.calls == facts["paid"]["calls"] == calls
    assert (result.status.state, result.status.step, result.status.steps) == ("completed", 3, 3)


def test_a_run_is_told_of(calm: tuple[Any, int]) -> None:
    """Events for the start, each candidate, trial, step and checkpoint, and the end; the registry; telemetry."""
    with optimizing() as (app, _):
        measured: list[tuple[Any, ...]] = []
        app.engine.telemetry.attach("t", ("dspex", "optimization", "trial"), lambda *event: measured.append(event))
        app.optimize("qa", EXAMPLES, **HOW).result(20)
        kinds = tuple(f"optimization_{word}" for word in ("started", "iteration", "checkpoint", "ended"))
        told = app.events.query(types=kinds, order="oldest").events
        assert [event.type.removeprefix("optimization_") for event in told] == [
            "started",
            *(("iteration", "checkpoint") * 3),
            "ended",
        ]
        assert {event.model_dump()["run_id"] for event in told} == {"r"}
        assert told[-1].model_dump()["best_score"] == calm[0].score
        trials = app.events.query(types=("optimization_trial",), order="oldest", limit=100).events
        candidates = app.events.query(types=("optimization_candidate",), order="oldest", limit=100).events
        first, last = trials[0].model_dump(), trials[-1].model_dump()
        assert (first["trial"], first["score"], first["examples"]) == ("baseline", calm[0].base_score, 12)
        assert (last["errors"], last["traced"], len(trials)) == (0, False, calm[0].status.trials)
        tried = [event.model_dump()["candidate"] for event in candidates]
        assert len(tried) == len(set(tried)) == 7, "the program as it was, and six sets of worked examples"
        assert set(tried) == {event.model_dump()["candidate"] for event in trials}
        assert calm[0].state.key in tried
        assert candidates[0].model_dump()["demos"] == 0
        assert all(event.model_dump()["demos"] > 0 for event in candidates[1:])
        row = app.registry.lookup("run/r")
        assert row is not None
        assert (row.metadata["status"], row.metadata["step"]) == ("completed", 3)
        assert row.metadata["best_score"] == calm[0].score
        assert len(measured) == calm[0].status.trials
        labels = {"method": "random_search", "module": "qa"}
        assert app.telemetry.snapshot().total("dspex_optimization_score", **labels) == calm[0].score


def test_the_same_id_gives_the_same_run(tmp_path: Path, calm: tuple[Any, int]) -> None:
    """Asked for again, here or in the next application, a run that is over answers at once and costs nothing."""
    with model() as (script, server):
        for _ in range(2):
            with dspex.start(config=configuration(server, tmp_path)) as app:
                for _ in range(2):
                    assert app.optimize("qa", EXAMPLES, **HOW).result(20).state.key == calm[0].state.key
        assert script.calls == calm[1]


@pytest.mark.parametrize("part", ["calls", "tokens"])
def test_a_budget_is_never_exceeded(tmp_path: Path, calm: tuple[Any, int], part: str) -> None:
    """It ends when the budget is spent, with the best so far; on a larger one it goes on to the same end."""
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:
        limit = 40 if part == "calls" else 600
        result = app.optimize("qa", EXAMPLES, budget={part: limit}, **HOW).result(20)
        assert result.outcome == "budget_exhausted"
        assert 12 < script.calls <= 40 or part == "tokens"
        assert getattr(result.status.paid, part) <= limit
        assert result.base_score == calm[0].base_score
        assert result.score is not None
        again = app.optimize("qa", EXAMPLES, budget={part: 100_000}, **HOW).result(20)
        assert (again.outcome, again.state.key) == ("completed", calm[0].state.key)
        assert script.calls <= calm[1] + WORKERS
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:
        assert app.optimize("qa", EXAMPLES, **HOW).result(20).state.key == calm[0].state.key
        assert script.calls == 0


@pytest.mark.parametrize("log", ["kept", "gone"])
def test_a_budget_holds_over_restarts(tmp_path: Path, log: str) -> None:
    """What one process spent is not there for the next one, even if the event log is lost: the run's journal knows."""
    with model() as (script, server):
        for limit in (20, 30):
            if log == "gone":
                for file in tmp_path.glob("app.db*"):
                    file.unlink()
            with dspex.start(config=configuration(server, tmp_path)) as app:
                result = app.optimize("qa", EXAMPLES, budget={"calls": limit}, **HOW).result(20)
                assert (result.outcome, script.calls) == ("budget_exhausted", limit)


def test_time_is_a_budget_too() -> None:
    """Out of time it ends, with a state that can be used."""
    with optimizing() as (app, script):
        result = app.optimize("qa", EXAMPLES, budget={"seconds": 0.0}, **HOW).result(20)
        assert (result.outcome, script.calls) == ("budget_exhausted", 0)
        assert result.state.predictors == {"predict": PredictorState()}


def test_a_pause_is_no_work() -> None:
    """Time that a run is paused is not taken from its budget, nor told as work; the same for an evaluation."""
    with optimizing() as (app, script):
        held, go = threading.Event(), threading.Event()

        def hold(number: int) -> None:
            held.set()
            go.wait(10)

        script.on_call = hold
        run = app.optimize("qa", EXAMPLES, budget={"seconds": 60.0}, **HOW)
        assert held.wait(10)
        first = run.pause()
        assert run.status().elapsed == first.elapsed > 0
        assert run.status().elapsed == first.elapsed
        go.set()
        assert run.resume().elapsed >= first.elapsed
        result = run.result(20)
        assert run.status().elapsed == result.status.elapsed > first.elapsed


def test_patience_ends_a_run_that_gets_no_better() -> None:
    """After so many steps without a better score it stops; the best so far is the result."""
    with optimizing() as (app, _):
        how = {**HOW, "options": {"candidates": 12, "generation": 1}, "patience": 2}
        result = app.optimize("qa", EXAMPLES, **how).result(20)
        assert result.outcome == "stopped_early"
        assert result.status.step < 13
        assert result.score is not None


def test_a_pause_begins_nothing_further(calm: tuple[Any, int]) -> None:
    """Paused, calls in flight end and no other is made; resumed, it ends as it would have."""
    gate, arrived = threading.Event(), threading.Semaphore(0)

    def hold(number: int) -> None:
        arrived.release()
        gate.wait(10)

    with optimizing() as (app, script):
        script.on_call = hold
        run = app.optimize("qa", EXAMPLES, **HOW)
        for _ in range(WORKERS):
            assert arrived.acquire(timeout=10)
        assert run.pause().state == "paused"
        gate.set()
        reached(run, lambda status: status.paid.calls == WORKERS)
        with pytest.raises(CallTimeout):
            run.result(0.2)
        assert script.calls == WORKERS
        assert run.resume().state == "running"
        assert run.result(20).state.key == calm[0].state.key


def test_cancel_ends_it_with_the_best_so_far() -> None:
    """Cancelled, requests in flight are given up, and the result is what was found by then."""
    gate = threading.Event()
    with optimizing() as (app, script):
        run = app.optimize("qa", EXAMPLES, **HOW)
        reached(run, lambda status: status.step >= 1)
        script.on_call = lambda number: (gate.wait(10), None)[1]
        status = run.cancel()
        assert status.state == "cancelled"
        result = run.result(5)
        gate.set()
        assert (result.outcome, result.score) == ("cancelled", status.best_score)
        assert result.base_score is not None


@pytest.mark.parametrize("victim", ["run/r", "run-journal/r", "supervisor/run/r", "module/qa", "provider/local"])
def test_a_crash_costs_no_more_than_what_was_in_flight(calm: tuple[Any, int], victim: str) -> None:
    """Whatever is killed on the way, the run ends as an undisturbed one, and hardly pays more."""
    with optimizing() as (app, script):
        script.on_call = held = Held()
        run = app.optimize("qa", EXAMPLES, **HOW)
        assert held.reached.wait(10)
        app.kill(victim)
        held.go.set()
        result = run.result(20)
        assert (result.outcome, result.state.key, result.score) == ("completed", calm[0].state.key, calm[0].score)
        assert result.status.errors == 0
        assert script.calls <= calm[1] + WORKERS


def test_a_module_that_stays_away_fails_the_run(monkeypatch: pytest.MonkeyPatch, calm: tuple[Any, int]) -> None:
    """No example is scored 0 because nobody was there to work on it; with the module back the run goes on."""
    monkeypatch.setattr(run_tries, "TRIES", 2)
    with optimizing() as (app, script):
        script.on_call = held = Held()
        run = app.optimize("qa", EXAMPLES, **HOW)
        assert held.reached.wait(10)
        app.stop_module("qa")
        held.go.set()
        with pytest.raises(RunError, match="no process module/qa"):
            run.result(20)
        app.start_module("qa", "question -> answer", provider="local")
        result = app.optimize("qa", EXAMPLES, **HOW).result(20)
        assert (result.state.key, result.status.errors) == (calm[0].state.key, 0)
        assert script.calls <= calm[1] + WORKERS


def test_a_key_that_is_refused_fails_the_run(tmp_path: Path) -> None:
    """The next example would meet the same: nothing is scored, and the run says why."""
    with model() as (_, server), dspex.start(config=configuration(server, tmp_path)) as app:
        server.script = lambda exchange: exchange.reply(401, {"error": {"message": "who are you"}})
        with pytest.raises(RunError, match="lm_auth"):
            app.optimize("qa", EXAMPLES, **HOW).result(20)


def test_what_was_scored_is_not_scored_again(calm: tuple[Any, int]) -> None:
    """A score is kept with its example: a metric that costs is asked once, whatever crashes."""
    scored: list[str] = []
    killed = threading.Event()

    def metric(example: Example, prediction: Prediction) -> bool:
        scored.append(example["question"])
        if len(scored) == 40:
            killed.set()
        return bool(example["answer"] == prediction["answer"])

    with optimizing() as (app, _):
        run = app.optimize("qa", EXAMPLES, **{**HOW, "metric": metric})
        assert killed.wait(10)
        app.kill("run/r")
        result = run.result(20)
        assert result.state.key == calm[0].state.key
        assert result.status.rows <= len(scored) <= result.status.rows + WORKERS


def test_failures_score_as_failures(tmp_path: Path) -> None:
    """An example that the provider refuses scores 0, is counted, and ends nothing."""

    def script(exchange: Exchange) -> None:
        if "Is 3 even" in exchange.request.body.decode():
            exchange.reply(400, {"error": {"message": "not this one"}})
        else:
            answer(exchange)

    answer = Model()
    with model() as (_, server), dspex.start(config=configuration(server, tmp_path)) as app:
        server.script = script
        result = app.optimize("qa", EXAMPLES[:4], valset=EXAMPLES[:4], **HOW).result(20)
        assert result.outcome == "completed"
        assert result.status.errors >= 1
        assert result.base_score is not None
        assert result.base_score <= 0.75


def shaky(example: Example, prediction: Prediction) -> float:
    """A metric that fails for one question."""
    if example["question"] == "Is 2 even?":
        raise ZeroDivisionError("a bug")
    return 1.0


def test_a_metric_that_fails_fails_the_example() -> None:
    """A metric's bug is that example's error, not the end of the run."""
    with optimizing() as (app, _):
        result = app.optimize("qa", EXAMPLES[:4], valset=EXAMPLES[:4], **{**HOW, "metric": shaky}).result(20)
        assert (result.outcome, result.base_score) == ("completed", 0.75)
        assert result.status.errors >= 1


@dataclass(frozen=True)
class Own:
    """An optimizer of the user's own that has a bug, or waits."""

    bug: bool = True
    method: str = "own"

    def steps(self, bench: Bench) -> int | None:
        """Nobody knows."""
        return None

    async def optimize(self, bench: Bench) -> ProgramState:
        """Score the program as it is, then go wrong."""
        outcomes = await bench.run(bench.base, bench.validation, trial="first")
        await bench.tell(0, candidates=1, score=sum(each.score for each in outcomes), state=bench.base)
        if self.bug:
            raise LookupError("a bug")
        return bench.base


def test_a_bug_of_an_optimizer_fails_the_run(tmp_path: Path) -> None:
    """It is told as the run's failure; repaired, but otherwise the same, it goes on without paying again."""
    how = {**HOW, "options": {}, "method": Own()}
    with optimizing(tmp_path) as (app, script):
        with pytest.raises(RunError, match="LookupError: a bug"):
            app.optimize("qa", EXAMPLES, **how).result(20)
        assert app.runs.get("r").state == "failed"
        paid = script.calls
        with pytest.raises(RunError, match="LookupError: a bug"):
            app.optimize("qa", EXAMPLES, **how).result(20)
        assert script.calls == paid > 0


def test_a_run_that_is_begun_again_is_not_too_old(tmp_path: Path, calm: tuple[Any, int]) -> None:
    """What is forgotten when a run is begun is other runs: this one, however old, is not paid for twice."""
    with model() as (script, server):
        config = configuration(server, tmp_path)
        with dspex.start(config=config) as app:
            app.optimize("qa", EXAMPLES, **HOW).result(20)
            app.evaluate("qa", EXAMPLES, metric="exact_match", run_id="e")
            app.evaluate("qa", EXAMPLES[:1], metric="exact_match", run_id="other")
        config["ai"]["optimization"] = {"keep_runs": 1e-9}
        paid = script.calls
        with dspex.start(config=config) as app:
            assert app.optimize("qa", EXAMPLES, **HOW).result(20).state.key == calm[0].state.key
            assert [run.id for run in app.runs.list()] == ["r"]
        assert script.calls == paid
        config["ai"]["optimization"] = {}
        with dspex.start(config=config) as app:
            app.evaluate("qa", EXAMPLES, metric="exact_match", run_id="e")
            config["ai"]["optimization"] = {"keep_runs": 1e-9}
        paid = script.calls
        with dspex.start(config=config) as app:
            assert app.evaluate("qa", EXAMPLES, metric="exact_match", run_id="e").complete
            assert [run.id for run in app.runs.list()] == ["e"]
        assert script.calls == paid


def test_changes_are_refused_with_what_changed(tmp_path: Path) -> None:
    """Other data, another metric, another method: the run does not go on, and says why not; a fork may."""
    with optimizing(tmp_path) as (app, _):
        app.optimize("qa", EXAMPLES, **HOW).result(20)
        changes: dict[str, dict[str, Any]] = {
            "metric": {"metric": "contains"},
            "method": {"method": "labeled_few_shot", "options": {}},
            "options": {"options": {"candidates": 7}},
            "validation": {"valset": EXAMPLES[:3]},
        }
        for part, change in changes.items():
            with pytest.raises(RunConflict) as caught:
                app.optimize("qa", EXAMPLES, **{**HOW, **change})
            assert part in caught.value.facts["differences"]
        with pytest.raises(RunConflict) as caught:
            app.optimize("qa", EXAMPLES[:-1], **HOW)
        assert set(caught.value.facts["differences"]) == {"train", "validation"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"metod": "x"}, UsageError, "did you mean 'method'"),
        ({"method": "boostrap", "options": {}}, ConfigError, "did you mean 'bootstrap'"),
        ({"run_id": "a/b"}, ConfigError, "at run_id"),
        ({"workers": 0}, ConfigError, "whole number from 1.*at workers"),
        ({"budget": {"cals": 3}}, ConfigError, "did you mean 'calls'"),
        ({"budget": {"calls": -3}}, ConfigError, "at budget.calls"),
        ({"budget": {"money": "much"}}, ConfigError, "at budget.money"),
        ({"seed": "x"}, ConfigError, "at seed"),
        ({"valset": []}, ConfigError, "at least one example"),
        ({"valset": [{"question": {1, 2}}]}, ConfigError, r"at valset\[0\]"),
        ({"fork": "nobody"}, RunError, "which no run has"),
        ({"metric": "metric/mine"}, ConfigError, "expected an actor that is there, got 'metric/mine', at metric"),
        ({"metric": LMJudge("locl")}, ConfigError, "got 'provider/locl'; did you mean 'provider/local'.*at metric"),
        ({"prompt_provider": "locl"}, ConfigError, "got 'provider/locl'; .*at prompt_provider"),
        ({"options": [1]}, ConfigError, "expected a mapping of the method's options, got list, at options"),
        ({"budget": 20}, ConfigError, "expected the parts calls.*, got int, at budget"),
        ({"metric": ExactMatch}, ConfigError, r"got the class ExactMatch; give ExactMatch\(\), at metric"),
        ({"valset": 7}, ConfigError, "expected a list of examples, got int, at valset"),
        ({"valset": [{"qestion": "x"}] * 2}, ConfigError, "the inputs question.*the fields qestion, at valset"),
        ({"valset": [Example(question="x", a="y").with_inputs("question", "a")]}, ConfigError, "got 'a', at input"),
    ],
)
def test_bad_input_is_refused_at_once(change: dict[str, Any], error: type[Exception], words: str) -> None:
    """What was expected, what came, where; and nothing is begun."""
    with optimizing() as (app, script):
        with pytest.raises(error, match=words):
            app.optimize("qa", EXAMPLES, **{**HOW, **change})
        assert (script.calls, app.runs.list()) == (0, [])


def test_a_module_that_is_not_there_is_refused() -> None:
    """Nothing is begun for a module that nobody started."""
    with optimizing() as (app, _), pytest.raises(NoProcess):
        app.optimize("nobody", EXAMPLES, **HOW)


def test_a_dataset_for_another_program_is_refused() -> None:
    """None of its examples has the module's inputs: the run would score nothing but failures."""
    with optimizing() as (app, script):
        for dataset in ([{"q": "1 + 1?", "answer": "2"}] * 4, [{"answer": "2"}] * 4):
            with pytest.raises(ConfigError, match=r"expected the inputs question, in one example at least.*trainset"):
                app.optimize("qa", dataset, **HOW)
        assert (script.calls, app.runs.list()) == (0, [])


def test_too_few_examples_are_refused() -> None:
    """One example cannot be held out from itself."""
    with optimizing() as (app, _), pytest.raises(ConfigError, match="at least two examples, or a valset"):
        app.optimize("qa", EXAMPLES[:1], **HOW)


def test_the_awaitable_view_does_the_same(calm: tuple[Any, int]) -> None:
    """The same methods, as coroutines."""

    async def run() -> None:
        with model() as (_, server):
            async with dspex.astart(config=configuration(server, None)) as app:
                run = await app.optimize("qa", EXAMPLES, **HOW)
                assert (await run.status()).state == "running"
                assert (await run.pause()).state == "paused"
                assert (await run.resume()).state == "running"
                assert (await run.result(20)).state.key == calm[0].state.key
                assert [each.id for each in await app.runs.list()] == ["r"]

    asyncio.run(run())


def test_a_run_goes_on_without_the_code_that_began_it(tmp_path: Path, calm: tuple[Any, int]) -> None:
    """Its metric and method are words, so that the file of runs is enough to go on with it."""
    with model() as (script, server):
        with dspex.start(config=configuration(server, tmp_path)) as app:
            assert app.optimize("qa", EXAMPLES, budget={"calls": 30}, **HOW).result(20).outcome == "budget_exhausted"
        with dspex.start(config=configuration(server, tmp_path)) as app:
            assert app.runs.resume("r").result(20).outcome == "budget_exhausted"
            assert app.optimize("qa", EXAMPLES, **HOW).result(20).state.key == calm[0].state.key
        assert script.calls <= calm[1] + WORKERS


def test_a_run_of_another_process_can_be_cancelled(tmp_path: Path) -> None:
    """What is wished through the file reaches the process that works on the run."""
    held, go = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        if number == 14:
            held.set()
            go.wait(15)

    with model() as (script, server):
        script.on_call = hold
        process = optimizer_process(server, tmp_path, **{name: HOW[name] for name in HOW if name != "metric"})
        assert held.wait(15)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            assert app.runs.get("r").state == "running"
            assert app.runs.wish("r", "cancel").wish == "cancel"
            go.set()
            assert outcome_of(process)["outcome"] == "cancelled"
            assert app.runs.get("r").owner is None
