"""DSPy's own optimizers on the journal of a run: what was paid for is not paid for again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

import dspex
from dspex.dspy import check_lm, dspy_run
from dspex.runtime.errors import RunConflict
from kit.dspy_scene import Model, marked, scene

TRAINSET = [
    dspy.Example(question=f"Is {number} even?", answer="no" if number % 2 else "yes").with_inputs("question")
    for number in range(8)
]


def answer(request: dict[str, Any]) -> str:
    """A model that always says yes."""
    return marked("yes")


def right(example: Any, prediction: Any, trace: Any = None) -> bool:
    """The metric."""
    return bool(example.answer == prediction.answer)


def optimize(app: dspex.App, run: str) -> Any:
    """One run of an optimizer of DSPy's, on two threads."""
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=right, max_bootstrapped_demos=2, max_labeled_demos=2, num_candidate_programs=2, num_threads=2
    )
    with dspy_run(app, run, provider="local", temperature=0.0) as lm:
        check_lm(lm)
        with dspy.context(lm=lm):
            return optimizer.compile(dspy.Predict("question -> answer"), trainset=TRAINSET).dump_state()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.timeout(60)
def test_an_interrupted_optimizer_goes_on(tmp_path: Path) -> None:
    """Begun again under its id it asks only for what it had not, and is then complete."""
    model = Model(answer)
    program = dspy.Predict("question -> answer")

    def ask(app: dspex.App, times: int) -> None:
        with dspy_run(app, "r1", provider="local", temperature=0.0) as lm, dspy.context(lm=lm):
            for turn in range(16):
                if turn == times:
                    raise Killed
                program(question=TRAINSET[turn % 8].question)

    with scene(model, tmp_path) as app:
        with pytest.raises(Killed):
            ask(app, 12)
        assert (app.runs.get("r1").state, len(model.requests)) == ("failed", 12)
        ask(app, 99)
        assert (app.runs.get("r1").state, len(model.requests)) == ("completed", 16)
        assert app.runs.get("r1").paid.calls == 16


@pytest.mark.timeout(60)
def test_another_process_pays_nothing_twice(tmp_path: Path) -> None:
    """An optimizer that ran to its end gives the same program from the journal alone, in any order of threads."""
    model = Model(answer)
    with scene(model, tmp_path) as app:
        first = optimize(app, "r1")
        asked = len(model.requests)
        assert asked > 20
    with scene(model, tmp_path) as app:
        assert optimize(app, "r1") == first
        assert len(model.requests) == asked
        assert app.runs.get("r1").paid.calls == asked


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The id of another run is not taken over."""
    with scene(Model(answer), tmp_path) as app:
        app._life.plan.runs.begin("r1", "optimization", {})
        with pytest.raises(RunConflict, match="optimization"), dspy_run(app, "r1", provider="local"):
            pass


def test_a_run_that_is_at_work_is_refused(tmp_path: Path) -> None:
    """Two blocks would answer each other's calls, and the first to end would end both."""
    with scene(Model(answer), tmp_path) as app, dspy_run(app, "r1", provider="local"):
        with pytest.raises(RunConflict, match="this process"), dspy_run(app, "r1", provider="local"):
            pass
        assert app.runs.get("r1").state == "running"
