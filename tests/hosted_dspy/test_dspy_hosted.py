"""A ``dspy.Module`` as an actor: asked, evaluated, killed and started as our own modules are."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dspy
import pytest

import dspex
from dspex.actors.examples import Example
from dspex.actors.modules.messages import GetState, ModuleInfo, Predict, UpdateModule
from dspex.actors.modules.program_state import PredictorState, ProgramState
from dspex.actors.runs.journal import RunJournal
from dspex.actors.runs.scope import RunScope
from dspex.actors.runs.store import RunStore
from dspex.dspy import hosted_spec
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.errors import ConfigError, LMInvalidRequest, Overloaded, RemoteError, SignatureError, StartError
from kit.dspy_scene import Model, marked, scene

CHECKED = "question -> answer, verdict: bool"


def host(app: dspex.App, factory: str = "build", **settings: Any) -> Any:
    """Host a program as ``module/qa``."""
    app.start_child(hosted_spec("qa", f"kit.dspy_programs:{factory}", provider="local", **settings))
    return app.module("qa")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("placement", ["local", "process"])
def test_a_hosted_program_answers(placement: Any) -> None:
    """It is called by name as any module, in this process or in one of its own; what it cost is told."""
    model = Model()
    with scene(model) as app:
        qa = host(app, "Checked", signature=CHECKED, placement=placement)
        answer = qa(question="Where?")
        assert answer.to_dict() == {"answer": "Paris", "verdict": True}
        assert len(answer.info.attempts) == len(model.requests) == 2
        assert answer.info.usage.total_tokens == 28
        tree = {event.type for event in app.events.query(trace_id=answer.info.correlation_id, limit=100).events}
        assert {"module_execution", "dspy_module", "lm_request", "lm_response"} <= tree


def test_errors_of_actors_come_through_dspy() -> None:
    """The caller sees the provider's refusal, not what DSPy made of it, and the program lives on."""
    model = Model(status=400)
    with scene(model) as app:
        qa = host(app)
        with pytest.raises(LMInvalidRequest):
            qa(question="Where?")
        with pytest.raises(SignatureError):
            qa(questoin="Where?")
        model.status = 200
        assert qa(question="Where?").answer == "Paris"
        status = app.call("module/qa", ModuleInfo())
        assert (status.executions, status.failures, status.last_error) == (3, 2, "signature_error")


def test_a_defect_of_the_program_is_told_to_its_caller() -> None:
    """What the program raises is an error of that call only."""
    with scene(Model()) as app:
        qa = host(app, "Clumsy")
        with pytest.raises(RemoteError, match="KeyError"):
            qa(question="Where?")
        assert app.call("module/qa", ModuleInfo()).failures == 1


@pytest.mark.parametrize(
    ("factory", "settings", "text"),
    [
        ("number", {}, "dspy.Module"),
        ("biuld", {}, "did you mean 'build'"),
        ("with_its_own_lm", {}, "LM of their own"),
        ("Checked", {}, "signature"),
        ("build", {"state": "x.pkl"}, r"\.json"),
        ("build", {"state": {"other": {}}}, "state of this program"),
    ],
)
def test_a_mistake_is_a_failed_start(factory: str, settings: dict[str, Any], text: str) -> None:
    """Everything that can be known at the start is refused there."""
    with scene(Model()) as app, pytest.raises(StartError, match=text):
        host(app, factory, **settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"temprature": 1}, "got 'temprature'; did you mean 'temperature'"),
        ({"wokers": 2}, "got 'wokers'; did you mean 'workers'"),
        ({"max_concurrency": 0}, "expected a whole number from 1, got 0, at max_concurrency"),
        ({"max_queue": "many"}, "expected a whole number from 0, got 'many', at max_queue"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(settings: Any, text: str) -> None:
    """Before anything is started; a misspelt one with a hint."""
    with pytest.raises(ConfigError, match=text):
        hosted_spec("qa", "kit.dspy_programs:build", provider="local", **settings)


def test_the_state_is_dspys_own(tmp_path: Path) -> None:
    """What `module.save` wrote is where the hosted module begins, from the file or as its content."""
    program = dspy.Predict("question -> answer")
    program.signature = program.signature.with_instructions("Say where.")
    program.demos = [dspy.Example(question="a", answer="b")]
    program.save(str(tmp_path / "qa.json"))
    expected = {"predict": PredictorState("Say where.", ({"question": "a", "answer": "b"},))}
    with scene(Model()) as app:
        host(app, state=str(tmp_path / "qa.json"))
        assert app.call("module/qa", GetState()).to_dict() == ProgramState(expected).to_dict()


def test_a_candidate_is_tried_without_changing_the_module() -> None:
    """A call may have a state of its own; an update lasts, and names that are unknown are refused."""
    model = Model()
    candidate = ProgramState({"predict": PredictorState("Sing.", ({"question": "a", "answer": "b"},))})
    with scene(model) as app:
        host(app)
        told = app.call("module/qa", Predict({"question": "Where?"}, state=candidate, trace=True), timeout=10)
        assert [(each.predictor, each.outputs["answer"]) for each in told.info.calls] == [("predict", "Paris")]
        assert "Sing." in model.requests[-1]["messages"][0]["content"]
        assert len(model.requests[-1]["messages"]) == 4
        assert app.module("qa")(question="Where?").answer == "Paris"
        assert "Sing." not in model.requests[-1]["messages"][0]["content"]
        assert app.module("qa").update(candidate).predictors == candidate.predictors
        assert app.module("qa")(question="Where?").answer == "Paris"
        assert "Sing." in model.requests[-1]["messages"][0]["content"]
        with pytest.raises(ConfigError, match="predict"):
            app.call("module/qa", UpdateModule(state=ProgramState({"predcit": PredictorState()})))


def test_a_run_finds_its_answers_again() -> None:
    """Calls under a run's scope are answered from its journal: nothing is paid for twice."""
    model = Model()
    scope = RunScope("r1", "t", "0")
    with scene(model) as app:
        host(app, "Checked", signature=CHECKED)
        journal = ChildSpec("j", RunJournal, ("r1", "dspy", {}, RunStore(None)), name="run-journal/r1")
        app.start_child(journal)
        first = app.call("module/qa", Predict({"question": "Where?"}, run=scope), timeout=10)
        assert len(model.requests) == 2
        assert app.call("module/qa", Predict({"question": "Where?"}, run=scope), timeout=10) == first
        assert len(model.requests) == 2


def test_more_calls_than_may_wait_are_refused() -> None:
    """Beyond its limits a call gets a typed refusal at once; those that were taken are answered."""
    gate, errors = threading.Event(), list[Exception]()

    def answer(_: dict[str, Any]) -> str:
        gate.wait(10)
        return marked()

    with scene(Model(answer)) as app:
        qa = host(app, max_concurrency=1, max_queue=1)

        def ask() -> None:
            try:
                qa(question="Where?")
            except Overloaded as error:
                errors.append(error)
                gate.set()

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(errors) == 1
        assert app.call("module/qa", ModuleInfo()).executions == 2


def test_it_is_evaluated_by_several_workers() -> None:
    """Calls run beside each other, and are scored as those of any module."""
    both = threading.Barrier(2)

    def answer(_: dict[str, Any]) -> str:
        both.wait(5)
        return marked()

    with scene(Model(answer)) as app:
        host(app)
        rows = [Example(question=f"{number}?", answer="Paris").with_inputs("question") for number in range(4)]
        assert app.evaluate("qa", rows, metric="exact_match", workers=2).score == 1.0


def test_our_optimizers_work_on_it(tmp_path: Path) -> None:
    """A run on a hosted program finds demos that help, made of its own calls, and pays for each answer once."""

    def answer(request: dict[str, Any]) -> str:
        odd = any(f"{number}?" in request["messages"][-1]["content"] for number in (1, 3, 5, 7))
        return marked("yes" if odd and len(request["messages"]) > 2 else "no")  # knows it all once shown an example

    model = Model(answer)
    rows = [
        Example(question=f"{number}?", answer=("no", "yes")[number % 2]).with_inputs("question") for number in range(8)
    ]
    with scene(model, tmp_path) as app:
        host(app)
        result = app.optimize("qa", rows, metric="exact_match", method="bootstrap", run_id="r1").result(15)
        assert result.outcome == "completed"
        asked = len(model.requests)
        assert asked == result.status.paid.calls
        assert result.state.predictors["predict"].demos
        assert app.module("qa").update(result.state).predictors == result.state.predictors


@pytest.mark.timeout(60)
def test_a_killed_process_comes_back() -> None:
    """The supervisor starts the program again, from its factory."""
    with scene(Model()) as app:
        qa = host(app, placement="process")
        assert qa(question="Where?").answer == "Paris"
        entry = app.entry("module/qa")
        assert entry is not None
        app.kill("module/qa")
        app.registry.wait_for("module/qa", timeout=30)
        assert qa(question="Where?").answer == "Paris"
