"""What a run remembers over its end in one process and its beginning in the next: all that decided its way."""

from __future__ import annotations

import importlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any, Final

import pytest

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.actors.evaluation.scoring import Score
from dspex.actors.runs import tries as run_tries
from dspex.actors.runs.owner import Owner
from dspex.actors.runs.store import RunStore
from dspex.actors.scorers.llm_judge import LMJudge
from dspex.runtime.errors import CallTimeout, RunConflict, RunError, StoreUnavailable
from kit.application import provider_of
from kit.http_server import Exchange, HttpServer
from kit.runs import EXAMPLES, Held, configuration, model

WORKERS: Final = 4
PROMPT: Final = b"instructions for a language model"
MIPRO: Final[dict[str, Any]] = {
    "metric": "exact_match",
    "method": "mipro",
    "options": {"proposals": 2, "demo_sets": 2, "generations": 2, "generation": 2},
    "run_id": "r",
    "seed": 7,
    "patience": 0,
}


def is_prompt(exchange: Exchange) -> bool:
    """Whether the request asks for instructions."""
    return PROMPT in exchange.request.body


def refusing_prompts(answer: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    """A model that refuses to write instructions."""

    def script(exchange: Exchange) -> None:
        if is_prompt(exchange):
            exchange.reply(422, {"error": {"message": "not today"}})
        else:
            answer(exchange)

    return script


def test_a_proposal_that_failed_stays_failed(tmp_path: Path) -> None:
    """The search went on without it: a run that is taken up again does so too, though the model would now answer."""
    with model() as (script, server):
        server.script = refusing_prompts(script)
        with dspex.start(config=configuration(server, None)) as app:
            calm = app.optimize("qa", EXAMPLES, **MIPRO).result(20)
        with dspex.start(config=configuration(server, tmp_path)) as app:
            first = app.optimize("qa", EXAMPLES, budget={"calls": 40}, **MIPRO).result(20)
            assert first.outcome == "budget_exhausted"
        assert any(PROMPT in request.body for request in server.requests)
        server.script = script
        server.requests.clear()
        with dspex.start(config=configuration(server, tmp_path)) as app:
            again = app.optimize("qa", EXAMPLES, **MIPRO).result(20)
        assert not any(PROMPT in request.body for request in server.requests)
        assert (again.outcome, again.state.key) == ("completed", calm.state.key)


def test_a_fork_asks_for_what_failed(tmp_path: Path) -> None:
    """Another run uses paid answers again, not failures: those are asked for anew."""
    with model() as (script, server):
        with dspex.start(config=configuration(server, tmp_path)) as app:
            server.script = refusing_prompts(script)
            app.optimize("qa", EXAMPLES, **MIPRO).result(20)
            server.script = script
            server.requests.clear()
            app.optimize("qa", EXAMPLES, **{**MIPRO, "run_id": "f", "fork": "r"}).result(20)
        assert any(PROMPT in request.body for request in server.requests)


CHEAP: Final[dict[str, Any]] = {
    "metric": "exact_match",
    "method": "labeled_few_shot",
    "run_id": "r",
    "seed": 7,
    "budget": {"calls": 3},
}
PROGRAM: Final = """
import dspex
from pydantic import BaseModel

class Base(dspex.Module):
    async def forward(self, question):
        return await self.answer(question=question)

class Reply(BaseModel):
    text: str

class Words(dspex.Signature):
    question: str = dspex.InputField()
    answer: str = dspex.OutputField(desc="yes or no")

class Replying(dspex.Signature):
    question: str = dspex.InputField()
    reply: Reply = dspex.OutputField()

class Part(dspex.Module):
    draft = dspex.Predict(Words)

    async def forward(self, question):
        return await self.draft(question=question)

class Asking(Base):
    signature = "question -> answer"
    answer = dspex.Predict(Words)
    part = Part()
    reply = dspex.Predict(Replying)

def metric(example, prediction):
    return example["answer"] == prediction["answer"]
"""


@contextmanager
def begun(folder: Path, **module: Any) -> Iterator[tuple[dict[str, Any], HttpServer]]:
    """A configuration, and the server behind it, of an application in which the run ``r`` may begin."""
    with model() as (_, server):
        config = configuration(server, folder, **module)
        config["ai"]["providers"]["writer"] = provider_of(server)
        yield config, server


def difference(config: dict[str, Any], change: Callable[[], None], **how: Any) -> RunConflict:
    """Begin a run, change something, and try to go on with it: how it is refused. A fork is not."""
    plan = {**CHEAP, **how}
    with dspex.start(config=config) as app:
        app.optimize("qa", EXAMPLES, **plan).result(20)
    change()
    with dspex.start(config=config) as app:
        with pytest.raises(RunConflict) as caught:
            app.optimize("qa", EXAMPLES, **plan)
        app.optimize("qa", EXAMPLES, **{**plan, "run_id": "f", "fork": "r"}).result(20)
    return caught.value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("ai.providers.local.default_model", "gpt-9", "model: local/test-model then, local/gpt-9 now"),
        ("ai.providers.writer.default_model", "gpt-9", "prompt model: writer/test-model then, writer/gpt-9 now"),
        ("modules.qa.model", "gpt-9", "model: local/test-model then, local/gpt-9 now"),
        ("modules.qa.provider", "writer", "model: local/test-model then, writer/test-model now"),
        ("modules.qa.adapter", "json", "got another adapter (adapter: chat then, json now)"),
        ("modules.qa.temperature", 0.3, "settings.temperature: None then, 0.3 now"),
        ("modules.qa.kind", "chain_of_thought", "kind: predict then, chain_of_thought now"),
        ("modules.qa.signature", "question -> answer, why", "signature: question -> answer then, question -> answer,"),
    ],
)
def test_changed_settings_are_refused(tmp_path: Path, path: str, value: object, words: str) -> None:
    """What answers would be others with: the refusal says what it was and what it is."""
    with begun(tmp_path) as (config, _):

        def change() -> None:
            *tables, name = path.split(".")
            reduce(lambda table, key: table[key], tables, config)[name] = value

        assert words in str(difference(config, change, prompt_provider="writer"))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("self.answer(question=question)", 'self.answer(question=f"{question}?")', "code"),
        ('signature = "question', 'best = True; signature = "question', "code"),
        ("self.draft(question=question)", 'self.draft(question=f"{question}!")', "code"),
        ("yes or no", "yes, or else no", "predictors"),
        ("text: str", "text: bool", "predictors"),
        ('== prediction["answer"]', '!= prediction["answer"]', "metric"),
    ],
)
def test_changed_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, part: str
) -> None:
    """A program's class and what it inherits, its predictors, the metric: a run goes on only with the same."""
    name = f"programs_{part}"
    file = tmp_path / f"{name}.py"
    file.write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    with begun(tmp_path, kind="program", program=f"{name}:Asking") as (config, _):

        def change() -> None:
            assert old in PROGRAM
            file.write_text(PROGRAM.replace(old, new))
            importlib.reload(importlib.import_module(name))

        refused = difference(config, change, metric=f"{name}:metric")
    assert part in refused.facts["differences"]


def test_another_judge_is_refused(tmp_path: Path) -> None:
    """A model that judges answers too: its provider's default is part of the run."""
    with begun(tmp_path) as (config, _):

        def change() -> None:
            config["ai"]["providers"]["writer"]["default_model"] = "gpt-9"

        refused = difference(config, change, metric=LMJudge("writer"))
    assert "judge: writer/test-model then, writer/gpt-9 now" in str(refused)


def test_a_state_that_changed_changes_nothing(tmp_path: Path) -> None:
    """A run goes on from the instructions that the module had when it was begun."""
    with begun(tmp_path) as (config, _):
        with dspex.start(config=config) as app:
            first = app.optimize("qa", EXAMPLES, **CHEAP).result(20)
        config["modules"]["qa"]["instructions"] = "Be brief."
        with dspex.start(config=config) as app:
            again = app.optimize("qa", EXAMPLES, **{**CHEAP, "budget": None}).result(20)
        assert first.outcome == "budget_exhausted"
        assert again.outcome == "completed"
        assert again.state.predictors["predict"].instructions is None


def test_options_that_changed_are_named(tmp_path: Path) -> None:
    """Not all of them: the one that is another."""
    with begun(tmp_path) as (config, _), dspex.start(config=config) as app:
        how = {**CHEAP, "method": "random_search"}
        app.optimize("qa", EXAMPLES, options={"candidates": 6}, **how).result(20)
        with pytest.raises(RunConflict, match=r"got another options \(options.candidates: 6 then, 7 now\); take"):
            app.optimize("qa", EXAMPLES, options={"candidates": 7}, **how)


PRICED: Final = {"test-model": {"input": 100, "output": 200}}
"""Of the kit's completions, 11 tokens in and 3 out: 0.0017 dollars each."""


def test_money_is_a_budget(tmp_path: Path) -> None:
    """Nothing beyond it is sent: the provider itself refuses; the run says why it ended, and goes on with more."""
    with begun(tmp_path, max_tokens=50) as (config, server):
        config["ai"]["providers"]["local"]["prices"] = PRICED
        how = {**MIPRO, "method": "random_search", "options": {"candidates": 6, "generation": 3}}
        with dspex.start(config=config) as app:
            result = app.optimize("qa", EXAMPLES, budget={"money": "0.1"}, **how).result(20)
            refused = app.events.query(types=("lm_error",)).events
            paid = result.status.paid
            assert result.outcome == "budget_exhausted"
            assert "expected room in the budget of run/r (0.1 US dollars)" in str(result.status.reason)
            assert paid.calls == len(server.requests) <= 0.1 / 0.0017
            assert paid.money == paid.calls * Decimal("0.0017")
            assert f"where {paid.money} are spent" in str(result.status.reason), "nobody else held room"
            assert (paid.unpriced, result.state.provenance["paid"]["money"]) == (0, str(paid.money))
            assert result.score is not None
            assert {event.model_dump()["code"] for event in refused} == {"budget_exceeded"}
            cost = app.telemetry.snapshot().total("dspex_optimization_cost_usd", module="qa")
            assert cost == pytest.approx(float(paid.money))
            more = app.optimize("qa", EXAMPLES, budget={"money": 1}, **how).result(20)
        assert more.outcome == "completed"
        assert more.status.paid.money > paid.money


def test_a_budget_too_small_for_one_request_says_why(tmp_path: Path) -> None:
    """What is reserved is the longest answer there may be: who set no limit is told what would help."""
    with begun(tmp_path) as (config, server), dspex.start(config=config) as app:
        app.update_setting(("ai", "providers", "local", "prices"), PRICED)
        result = app.optimize("qa", EXAMPLES, **{**CHEAP, "budget": {"money": "0.1"}}).result(20)
        assert (result.outcome, len(server.requests)) == ("budget_exhausted", 0)
        assert "reserves what its longest answer would use, which max_tokens bounds" in str(result.status.reason)


def test_money_needs_a_price(tmp_path: Path) -> None:
    """What nobody knows the price of is not sent."""
    with begun(tmp_path) as (config, server), dspex.start(config=config) as app:
        result = app.optimize("qa", EXAMPLES, **{**CHEAP, "budget": {"money": 1}}).result(20)
        assert (result.outcome, len(server.requests)) == ("budget_exhausted", 0)
        assert "price" in str(result.status.reason)


class Judge(GenServer):
    """A metric that is an actor."""

    @call
    def score(self, msg: Score) -> bool:
        """Whether it is the right word."""
        return bool(msg.example["answer"] == msg.prediction["answer"])


@pytest.fixture(scope="module")
def judged() -> Any:
    """The result of an undisturbed run under a judge and a budget."""
    return crashed(None)[0]


def crashed(victim: str | None) -> tuple[Any, int]:
    """The result of a run whose application loses an actor on the way, and how many requests it made."""
    how = {**MIPRO, "metric": "metric/mine", "budget": {"calls": 10_000}}
    with model() as (script, server), dspex.start(config=configuration(server, None)) as app:
        script.on_call = held = Held()
        app.start_child(ChildSpec("judge", Judge, name="metric/mine"))
        run = app.optimize("qa", EXAMPLES, **how)
        assert held.reached.wait(10)
        if victim is not None:
            app.kill(victim)
        held.go.set()
        return run.result(30), script.calls


@pytest.mark.parametrize(
    "victim",
    [
        "metric/mine",
        "core/budgets",
        "core/config",
        "core/events",
        "core/registry",
        "protection/local",
        "observers/telemetry",
        "keeper/runs",
        "supervisor/runs",
        "supervisor/modules",
        "supervisor/core",
    ],
)
def test_a_crash_anywhere_changes_nothing(judged: Any, victim: str) -> None:
    """The judge, the budget, the configuration, a supervisor: no example fails by it, and the end is the same."""
    result, calls = crashed(victim)
    assert (result.outcome, result.state.key, result.score) == ("completed", judged.state.key, judged.score)
    assert result.status.errors == 0
    assert calls <= judged.status.paid.calls + WORKERS


def test_a_failed_run_does_not_begin_anew_by_itself(tmp_path: Path) -> None:
    """A crash to its left starts its supervisor again, not the work: that is for whoever asks for it."""
    with begun(tmp_path) as (config, server):
        config["ai"]["providers"]["local"]["gate_time"] = 0
        how = {**CHEAP, "budget": None, "workers": 1}
        with dspex.start(config=config) as app:
            working, server.script = server.script, lambda exchange: exchange.reply(401, {"error": {"message": "who?"}})
            run = app.optimize("qa", EXAMPLES, **how)
            with pytest.raises(RunError, match="lm_auth"):
                run.result(20)
            server.script = working
            server.requests.clear()
            app.kill("supervisor/runs")
            with pytest.raises(RunError, match="lm_auth"):
                run.result(20)
            assert (run.status().state, server.requests) == ("failed", [])
            assert app.optimize("qa", EXAMPLES, **how).result(20).outcome == "completed"


def test_a_run_goes_on_once_its_key_is_mended(tmp_path: Path) -> None:
    """One request finds out that the key works again; the other workers wait for that, and do not end the run."""
    with begun(tmp_path) as (config, server):
        config["ai"]["providers"]["local"]["gate_time"] = 0.05
        answer = server.script
        with dspex.start(config=config) as app:
            server.script = lambda exchange: exchange.reply(401, {"error": {"message": "who?"}})
            with pytest.raises(RunError, match="lm_auth"):
                app.optimize("qa", EXAMPLES, **MIPRO).result(20)
            while next(gate for gate in app.protection.status("local").gates if gate.gate == "auth").next_try:
                pass

            def refused() -> int:
                return len(app.events.query(types=("lm_error",), limit=100).events)

            before, first = refused(), threading.Lock()

            def probed(exchange: Exchange) -> None:
                if first.acquire(blocking=False):
                    while refused() < before + WORKERS - 1:
                        pass
                answer(exchange)

            server.script = probed
            assert app.optimize("qa", EXAMPLES, **MIPRO).result(20).outcome == "completed"


@pytest.mark.parametrize("how", ["reset", "breaker"])
def test_an_outage_is_no_examples_score(tmp_path: Path, how: str) -> None:
    """While the model cannot be reached nothing is scored; when it is back the run goes on to the same end."""
    with begun(tmp_path) as (config, server):
        more = {"failure_threshold": 2, "recovery_time": 0.2} if how == "breaker" else {"failure_threshold": 0}
        config["ai"]["providers"]["local"] |= {"retry_attempts": 1, **more}
        with dspex.start(config=config | {"events": {"in_memory": True}}) as app:
            calm = app.optimize("qa", EXAMPLES, **MIPRO).result(20)
        answer = server.script
        numbers = itertools.count()

        def script(exchange: Exchange) -> None:
            if 30 <= next(numbers) < (33 if how == "breaker" else 36):
                exchange.reset()
            else:
                answer(exchange)

        server.script = script
        with dspex.start(config=config) as app:
            result = app.optimize("qa", EXAMPLES, **MIPRO).result(20)
        assert (result.status.errors, result.state.key, result.score) == (0, calm.state.key, calm.score)


def test_a_model_that_stays_away_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with scores of 0: the run says what is wrong, and goes on when it is begun again."""
    monkeypatch.setattr(run_tries, "TRIES", 2)
    with begun(tmp_path) as (config, server):
        config["ai"]["providers"]["local"] |= {"retry_attempts": 1, "failure_threshold": 0}
        answer = server.script
        server.script = lambda exchange: exchange.reset() if is_prompt(exchange) else answer(exchange)
        with dspex.start(config=config) as app:
            with pytest.raises(RunError, match="lm_connection"):
                app.optimize("qa", EXAMPLES, **MIPRO).result(20)
            server.script = answer
            server.requests.clear()
            result = app.optimize("qa", EXAMPLES, **MIPRO).result(20)
        assert any(PROMPT in request.body for request in server.requests)
        assert (result.outcome, result.status.errors) == ("completed", 0)


@pytest.mark.parametrize("how", ["disk full", "taken over"])
def test_a_journal_that_cannot_be_written_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Who waits is told why, and the application goes on; mended, the same call goes on to the same end."""
    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:
        store = app._life.plan.runs
        script.on_call = held = Held()
        run = app.optimize("qa", EXAMPLES, **MIPRO)
        assert held.reached.wait(10)
        heir = RunStore(store.path, owner=replace(Owner.myself(), token="heir"))
        with monkeypatch.context() as patch:
            if how == "disk full":

                def full(*args: Any, **more: Any) -> None:
                    raise StoreUnavailable("expected room, got a full disk", cause="full")

                patch.setattr(store, "write", full)
            else:
                store.release("r")
                heir.begin("r", "optimization", store.get("r").plan)
            held.go.set()
            with pytest.raises(RunError, match="full disk" if how == "disk full" else "expected to own the run 'r'"):
                run.result(20)
            assert run.status().state == "failed"
            entry = app.entry("run/r")
            assert entry is not None
            assert entry.state != "dead"
        heir.close()
        script.on_call = lambda number: None
        result = app.optimize("qa", EXAMPLES, **MIPRO).result(20)
        assert (result.outcome, result.status.errors) == ("completed", 0)
        assert script.calls <= result.status.paid.calls + 2 * WORKERS


def test_a_pause_outlives_the_run(tmp_path: Path) -> None:
    """A run that crashes while it is paused is paused when it is back."""
    arrived, gate = threading.Semaphore(0), threading.Event()

    def hold(number: int) -> None:
        arrived.release()
        gate.wait(10)

    with model() as (script, server), dspex.start(config=configuration(server, tmp_path)) as app:
        script.on_call = hold
        run = app.optimize("qa", EXAMPLES, **MIPRO)
        for _ in range(WORKERS):
            assert arrived.acquire(timeout=10)
        assert run.pause().state == "paused"
        gate.set()
        app.kill("run/r")
        with pytest.raises(CallTimeout):
            run.result(0.2)
        assert run.status().state == "paused"
        assert script.calls == WORKERS
        assert run.resume().state == "running"
        assert run.result(20).outcome == "completed"


def test_an_evaluations_id_is_refused(tmp_path: Path) -> None:
    """A run of another kind is not optimized over."""
    with begun(tmp_path) as (config, _), dspex.start(config=config) as app:
        app.evaluate("qa", EXAMPLES[:2], metric="exact_match", run_id="r")
        with pytest.raises(RunConflict, match="expected a run of kind optimization, got evaluation, at r"):
            app.optimize("qa", EXAMPLES, **CHEAP)
