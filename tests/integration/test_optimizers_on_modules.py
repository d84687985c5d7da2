"""Each optimizer on a real module: prompts, adapter, provider and journal are the real ones, the model is simulated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import dspex
from dspex.actors.optimizers.registry import METHODS
from dspex.actors.testing.simulated_lm import SIGNATURE, SimulatedProvider, dataset, judge
from dspex.supervisors.app.handles import Module

CONFIG: dict[str, Any] = {
    "events": {"in_memory": True},
    "ai": {
        "caching": {"enabled": False},
        "providers": {"sim": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "default_model": "simulated"}},
    },
    "modules": {
        "sort": {"signature": SIGNATURE.text, "instructions": SIGNATURE.instructions, "provider": "sim"},
    },
}
TRAIN, VALIDATION, HELD_OUT = dataset(30), dataset(30, 100), dataset(60, 1000)


@pytest.fixture(scope="module")
def app() -> Iterator[dspex.App]:
    """An application with one module, whose model is simulated."""
    with SimulatedProvider().instead_of_http(), dspex.start(config=CONFIG) as started:
        yield started


@pytest.mark.parametrize("method", METHODS)
def test_an_optimized_module_is_better_on_held_out_data(app: dspex.App, method: str) -> None:
    """The result's state, put into a prompt by the module itself, answers more examples right than before."""
    run = app.optimize("sort", TRAIN, metric=judge, method=method, valset=VALIDATION, workers=8)
    state = run.result(timeout=50).state
    assert state is not None

    best = state.predictors["predict"]
    told = {"instructions": best.instructions or SIGNATURE.instructions, "demos": list(best.demos)}
    better = app.start_module(f"sort-{method}", SIGNATURE.text, provider="sim", **told)
    assert right(better) >= right(app.module("sort")) + 6


def right(module: Module) -> int:
    """How many answers on held-out data are right."""
    return sum(module(**each.inputs()).label == each["label"] for each in HELD_OUT)
