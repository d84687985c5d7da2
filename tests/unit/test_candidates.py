"""Plans in the states of candidates."""

from __future__ import annotations

import pytest

from dspex.actors.modules.candidates import MOST, Candidates
from dspex.actors.modules.plan import ModulePlan
from dspex.actors.modules.program_state import ONLY, PredictorState, ProgramState
from dspex.runtime.errors import ConfigError


def plan(instructions: str) -> ModulePlan:
    """The plan of a module."""
    return ModulePlan.of({"signature": "question -> answer", "provider": "p", "instructions": instructions})


def state(instructions: str) -> ProgramState:
    """What a candidate tells its only predictor."""
    return ProgramState({ONLY: PredictorState(instructions)})


def test_a_state_is_worked_out_once() -> None:
    """Equal states, as they come in messages, have one plan; others have their own."""
    candidates, base = Candidates(), plan("Base.")
    first = candidates.plan(base, state("One."))
    assert first.instructions == "One."
    assert candidates.plan(base, state("One.")) is first
    assert candidates.plan(base, state("Two.")).instructions == "Two."


def test_nothing_of_an_older_base_is_kept() -> None:
    """After the module was changed, a state that says nothing means the new instructions."""
    candidates, silent = Candidates(), ProgramState()
    assert candidates.plan(plan("Old."), silent).instructions == "Old."
    assert candidates.plan(plan("New."), silent).instructions == "New."


def test_the_number_of_plans_is_bounded() -> None:
    """What was not called for longest goes first."""
    candidates, base = Candidates(), plan("Base.")
    kept = candidates.plan(base, state("kept"))
    gone = candidates.plan(base, state("gone"))
    for number in range(MOST - 1):
        candidates.plan(base, state("kept"))
        candidates.plan(base, state(str(number)))
    assert candidates.plan(base, state("kept")) is kept
    assert candidates.plan(base, state("gone")) is not gone


def test_a_state_that_does_not_fit_is_refused_each_time() -> None:
    """A mistake is not kept as if it were a plan."""
    candidates, base = Candidates(), plan("Base.")
    for _ in range(2):
        with pytest.raises(ConfigError, match="predictors"):
            candidates.plan(base, ProgramState({"nobody": PredictorState("x")}))
