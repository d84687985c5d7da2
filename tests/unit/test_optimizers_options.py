"""Options of optimizers: checked when one is made, before anything is spent."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any

import pytest

from dspex.actors.modules.program_state import ONLY, PredictorState, ProgramState
from dspex.actors.optimizers.registry import METHODS, optimizer
from dspex.actors.runs.plan import options_of
from dspex.actors.testing.simulated_bench import SimulatedBench
from dspex.runtime.errors import ConfigError


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_made_by_its_word(method: str) -> None:
    """And says it."""
    assert optimizer(method).method == method


@pytest.mark.parametrize("method", METHODS)
def test_options_are_json_and_make_the_same_again(method: str) -> None:
    """So a run can be begun again from what was written down."""
    made = optimizer(method)
    assert optimizer(method, **json.loads(json.dumps(options_of(made)))) == made


def test_a_teacher_is_json_too() -> None:
    """As any other option."""
    made = optimizer("bootstrap", teacher=ProgramState({ONLY: PredictorState("Do it.")}))
    assert optimizer("bootstrap", **json.loads(json.dumps(options_of(made)))) == made


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("bootstrapp", {}, "did you mean 'bootstrap'"),
        ("bootstrap", {"max_demo": 3}, "did you mean 'max_demos'"),
        ("bootstrap", {"max_labeled_demos": 3}, "what DSPy calls so is max_demos"),
        ("bootstrap", {"max_demos": "4"}, "expected a whole number from 1, got '4', at max_demos"),
        ("bootstrap", {"max_demos": True}, "expected a whole number from 1, got True, at max_demos"),
        ("bootstrap", {"max_demos": 2, "max_bootstrapped": 3}, "at most max_demos, which is 2, got 3"),
        ("bootstrap", {"threshold": 1.5}, "expected a number from 0 to 1, got 1.5, at threshold"),
        ("bootstrap", {"threshold": float("nan")}, "expected a number from 0 to 1, got nan, at threshold"),
        ("bootstrap", {"teacher": "qa"}, "expected the state of a program, got 'qa', at teacher"),
        ("bootstrap", {"teacher": {"predictor": {}}}, "expected the keys version, predictors, provenance"),
        ("labeled_few_shot", {"max_demos": 0}, "at max_demos"),
        ("labeled_few_shot", {"threshold": 1.0}, "expected an option of labeled_few_shot: max_demos"),
        ("random_search", {"candidates": 0}, "at candidates"),
        ("random_search", {"generation": 0}, "at generation"),
        ("random_search", {"max_bootstrapped": 0}, "at max_bootstrapped"),
        ("mipro", {"proposals": -1}, "at proposals"),
        ("mipro", {"minibatch": 0}, "at minibatch"),
        ("mipro", {"temperature": 3.0}, "expected a number from 0 to 2"),
        ("gepa", {"generations": 0}, "at generations"),
        ("gepa", {"minibatch": 1.0}, "at minibatch"),
        ("gepa", {"max_demos": 4}, "expected an option of gepa: generations, generation, minibatch, temperature"),
        ("gepa", {"merge": "no"}, "expected true or false, got 'no', at merge"),
    ],
)
def test_what_does_not_fit_is_refused(method: str, options: dict[str, Any], message: str) -> None:
    """With what was expected, what came, and where."""
    with pytest.raises(ConfigError, match=message):
        optimizer(method, **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["train", "validation"])
def test_without_examples_nothing_begins(method: str, side: str) -> None:
    """Refused before a single call: to choose by what one learns from is no choice."""
    bench = SimulatedBench(**{side: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"at {side}"):
        asyncio.run(optimizer(method).optimize(bench))
    assert bench.calls == 0


def test_mipro_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is made, not in the middle of a run; the other methods do not need it."""

    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'dspex\[optimize\]'"):
        optimizer("mipro")
    assert optimizer("gepa").method == "gepa"
