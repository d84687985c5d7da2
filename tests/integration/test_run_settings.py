"""The settings of optimization runs, ``ai.optimization.*``, hold wherever a call says nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import dspex
from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.supervisors.app.runs.handles import Run
from kit.runs import EXAMPLES, configuration, model


class Gate:
    """Holds requests until ``wanted`` of them are there at once, and counts how many ever were."""

    def __init__(self, wanted: int) -> None:
        self.most = 0
        self._open = 0
        self._wanted = wanted
        self._lock = threading.Lock()
        self._enough = threading.Event()

    def enter(self, number: int) -> None:
        """A request has come."""
        with self._lock:
            self._open += 1
            self.most = max(self.most, self._open)
            if self._open >= self._wanted:
                self._enough.set()
        assert self._enough.wait(20), f"never {self._wanted} requests at once"
        with self._lock:
            self._open -= 1


def hopeless(example: Example, prediction: Prediction) -> float:
    """A metric that nothing satisfies."""
    return 0.0


def run_with(app: dspex.App, **how: Any) -> Run:
    """A run that begins at once."""
    plan: dict[str, Any] = {"metric": "exact_match", "method": "labeled_few_shot", "seed": 7} | how
    return app.optimize("qa", EXAMPLES, **plan)


@pytest.mark.parametrize(
    ("settings", "how", "at_once"),
    [
        ({"default_parallel_workers": 3}, {}, 3),
        ({"default_parallel_workers": 1}, {"workers": 2}, 2),
        ({"default_parallel_workers": 6, "evaluation_batch_size": 2}, {}, 2),
    ],
)
def test_how_many_examples_are_in_work(settings: dict[str, int], how: dict[str, int], at_once: int) -> None:
    """As many as the setting says, unless the call says another number; of one candidate never more than a batch."""
    gate = Gate(at_once)
    with model() as (script, server):
        config = configuration(server, None)
        config["ai"]["optimization"] = settings
        script.on_call = gate.enter
        with dspex.start(config=config) as app:
            run_with(app, **how).result(30)
    assert gate.most == at_once


@pytest.mark.parametrize(("how", "steps"), [({}, 2), ({"max_steps": 1}, 1)])
def test_how_many_steps_a_run_may_take(how: dict[str, int], steps: int) -> None:
    """``max_optimization_iterations`` ends it, and the best so far is the result; a call may say another number."""
    with model() as (_, server):
        config = configuration(server, None)
        config["ai"]["optimization"] = {"max_optimization_iterations": 2, "early_stopping_patience": 0}
        with dspex.start(config=config) as app:
            options = {"candidates": 6, "generation": 1}
            result = run_with(app, method="random_search", options=options, **how).result(30)
    assert result.outcome == "stopped_early"
    assert f"{steps} steps after the first are done" in (result.status.reason or "")
    assert result.status.step == 1 + steps


@pytest.mark.parametrize(("settings", "how", "steps"), [(2, {}, 2), (1, {"patience": 3}, 3)])
def test_how_long_a_run_waits_for_a_better_score(settings: int, how: dict[str, int], steps: int) -> None:
    """``early_stopping_patience`` steps without a better score end it; a call may say another number."""
    with model() as (_, server):
        config = configuration(server, None)
        config["ai"]["optimization"] = {"early_stopping_patience": settings}
        with dspex.start(config=config) as app:
            options = {"candidates": 12, "generation": 1}
            result = run_with(app, method="random_search", options=options, metric=hopeless, **how).result(30)
    assert result.outcome == "stopped_early"
    assert result.score == result.base_score == 0
    assert result.status.step == 1 + steps
