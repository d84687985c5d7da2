"""Random supervision trees, random histories: the real tree and its model never differ.

``pytest --hypothesis-profile=deep`` tries many more histories than CI does.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from dspex.runtime.testing import VirtualSystem
from kit.supervision_model import Entry, Model, Outcome, SupSpec, Together, WorkerSpec, difference
from kit.supervision_twin import REASONS, Twin, grow, grow_child

EXAMPLES = 200
STEPS = 30
any_of = st.integers(0, 1_000)
lots = st.randoms(use_true_random=False)
outcomes = st.lists(st.sampled_from(["failed", "ignored", "started"]), min_size=1, max_size=3)


class SupervisionMachine(RuleBasedStateMachine):
    """Each rule does something to a real tree and to the model; the twin compares them after each."""

    twin: Twin
    system: VirtualSystem | None = None

    @initialize(lots=lots, seed=any_of)
    def begin(self, lots: random.Random, seed: int) -> None:
        """A random tree, scheduled in a random order."""
        self.system = VirtualSystem(seed)
        self.twin = Twin(self.system, grow(lots))

    def teardown(self) -> None:
        """Stop it."""
        if self.system is not None:
            self.system.close()

    def alive(self) -> bool:
        """Whether the root runs."""
        return bool(self.twin.supervisors)

    def pick(self, among: list[str], which: int) -> str:
        """One of them."""
        return among[which % len(among)]

    @precondition(lambda self: self.twin.workers)
    @rule(which=any_of, reason=st.sampled_from(REASONS), plan=st.none() | outcomes)
    def end(self, which: int, reason: Any, plan: list[Outcome] | None) -> None:
        """A worker ends; perhaps its next starts fail or are ignored."""
        key = self.pick(self.twin.workers, which)
        if plan is not None:
            self.twin.plan(key, plan)
        self.twin.end(key, reason)

    @precondition(lambda self: self.twin.workers)
    @rule(which=any_of, plan=outcomes)
    def plan(self, which: int, plan: list[Outcome]) -> None:
        """The next starts of a worker fail, whenever they come."""
        self.twin.plan(self.pick(self.twin.workers, which), plan)

    @precondition(lambda self: len(self.twin.supervisors) > 1)
    @rule(which=any_of)
    def kill_supervisor(self, which: int) -> None:
        """A supervisor below the root is killed."""
        self.twin.kill_supervisor(self.pick(self.twin.supervisors[1:], which))

    @precondition(alive)
    @rule(where=any_of, lots=lots)
    def start_child(self, where: int, lots: random.Random) -> None:
        """A new child, a worker or a small tree."""
        sup = self.pick(self.twin.supervisors, where)
        self.twin.start_child(sup, grow_child(lots, self.twin.new_key()))

    @precondition(alive)
    @rule(where=any_of, plan=outcomes)
    def start_child_as_planned(self, where: int, plan: list[Outcome]) -> None:
        """A new worker whose start may fail or be ignored."""
        key = self.twin.new_key()
        self.twin.plan(key, plan)
        self.twin.start_child(self.pick(self.twin.supervisors, where), WorkerSpec(key))

    @precondition(alive)
    @rule(where=any_of, which=any_of)
    def start_child_again(self, where: int, which: int) -> None:
        """A child whose id is known already; static only, elsewhere ids mean nothing."""
        sup = self.twin.model.supervisor(self.pick(self.twin.supervisors, where))
        if sup.children and sup.spec.strategy != "dynamic":
            self.twin.start_child(sup.spec.key, sup.children[which % len(sup.children)].spec)

    @precondition(alive)
    @rule(where=any_of, which=any_of, operation=st.sampled_from(["terminate_child", "restart_child", "delete_child"]))
    def manage(self, where: int, which: int, operation: str) -> None:
        """A management call about a child, or about nobody."""
        sup = self.pick(self.twin.supervisors, where)
        getattr(self.twin, operation)(sup, self.pick(self.twin.children(sup), which))

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.5]))
    def advance(self, seconds: float) -> None:
        """Time passes, so that restarts leave their window."""
        self.twin.advance(seconds)


@pytest.mark.timeout(600)  # to find a short history that fails takes a while
def test_a_supervision_tree_does_what_its_model_does() -> None:
    """What runs, in which incarnation and order, what calls answer and who trips: all as the model says."""
    examples = max(EXAMPLES, settings().max_examples)
    run_state_machine_as_test(
        SupervisionMachine, settings=settings(max_examples=examples, stateful_step_count=STEPS, deadline=None)
    )


# -- what the machine found once ---------------------------------------------------------------------


def house(restart: Any) -> SupSpec:
    """A root with a supervisor of one worker."""
    return SupSpec("top", "one_for_one", children=(SupSpec("below", "one_for_one", restart=restart),))


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
@pytest.mark.parametrize("seed", range(20))
def test_no_name_waits_for_a_child_that_went_with_its_killed_supervisor(seed: int, restart: str) -> None:
    """A child that was added later is dead once its supervisor was killed, even if it ends after that one's restart."""
    with VirtualSystem(seed) as system:
        twin = Twin(system, house(restart))
        twin.start_child("below", WorkerSpec("added"))
        twin.kill_supervisor("below")
        assert system.state("w/added") == "dead"


# -- the model itself --------------------------------------------------------------------------------


def test_the_model_retries_rest_for_one_from_the_child_that_failed() -> None:
    """The order of a retry, spelled out: b fails once, so a is left alone and c starts last (SUP-52)."""
    workers = tuple(WorkerSpec(key) for key in "abc")
    model = Model(SupSpec("top", "rest_for_one", children=workers))
    model.log, model.plans = [], {"c": ["failed"]}
    model.end("b", "killed")
    assert model.log == [("stop", "c"), ("start", "b"), ("failed", "c"), ("start", "c")]


def test_the_model_trips_with_one_restart_too_many_in_the_window() -> None:
    """A restart at exactly the window's length counts, one later does not (SUP-40, SUP-41)."""
    model = Model(SupSpec("top", "one_for_one", max_restarts=1, max_seconds=2.0, children=(WorkerSpec("a"),)))
    for model.now in (0.0, 2.5):
        model.end("a", "boom")
    assert model.trips == []
    model.now = 4.5
    model.end("a", "boom")
    assert model.trips == [("top", "a")]
    assert list(model.running()) == []


def test_logs_that_differ_are_told_apart() -> None:
    """What comes together may be in any order, but nothing may be missing, doubled or elsewhere."""
    expected: list[Entry] = [
        ("start", "a"),
        Together(((("stop", "b"), ("stop", "c")), (("stop", "d"),))),
        ("start", "e"),
    ]
    stops = [("stop", "d"), ("stop", "b"), ("stop", "c")]
    assert difference(expected, [("start", "a"), *stops, ("start", "e")]) is None
    wrongs: tuple[list[tuple[str, str]], ...] = (
        [*stops, ("start", "a"), ("start", "e")],
        [("start", "a"), ("stop", "c"), ("stop", "b"), ("stop", "d"), ("start", "e")],
        [("start", "a"), ("stop", "b"), ("stop", "b"), ("stop", "c"), ("start", "e")],
        [("start", "a"), *stops],
        [("start", "a"), *stops, ("start", "e"), ("start", "e")],
    )
    for wrong in wrongs:
        assert difference(expected, wrong) is not None
