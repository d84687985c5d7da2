"""Properties that every restart plan has, for any children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.child_spec import Restart
from dspex.supervisors.strategy import ChildState, plan_restart, shuts_down


@dataclass(frozen=True)
class One:
    """A child as the strategies see it."""

    id: int
    restart: Restart
    state: ChildState
    significant: bool


@st.composite
def families(draw: st.DrawFn) -> tuple[list[One], int]:
    """Children in start order, and which of them failed (never a temporary one: it is forgotten)."""
    size = draw(st.integers(1, 8))
    failed = draw(st.integers(0, size - 1))
    children = []
    for id in range(size):
        restarts = ["permanent", "transient"] if id == failed else ["permanent", "transient", "temporary"]
        restart = draw(st.sampled_from(restarts))
        states = ["running"] if restart == "temporary" else ["running", "restarting", "undefined"]
        children.append(One(id, restart, draw(st.sampled_from(states)), draw(st.booleans())))  # type: ignore[arg-type]
    return children, failed


STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])


@given(family=families(), strategy=STRATEGIES)
def test_stops_run_backwards_and_starts_forwards(family: Any, strategy: Any) -> None:
    """Whatever moves, stops in reverse start order and starts in start order (SUP-31, SUP-32)."""
    children, failed = family
    plan = plan_restart(strategy, children, failed)
    stop, start = cast("list[int]", list(plan.stop)), cast("list[int]", list(plan.start))
    assert stop == sorted(stop, reverse=True)
    assert start == sorted(start)


@given(family=families(), strategy=STRATEGIES)
def test_each_plan_starts_the_failed_child_and_never_stops_it(family: Any, strategy: Any) -> None:
    """The child that failed is dead already: it is started, not stopped, and not forgotten."""
    children, failed = family
    plan = plan_restart(strategy, children, failed)
    assert failed in plan.start
    assert failed not in plan.stop
    assert failed not in plan.forget


@given(family=families(), strategy=STRATEGIES)
def test_nothing_that_runs_is_started_again_without_being_stopped(family: Any, strategy: Any) -> None:
    """A running sibling of the group is stopped first; a temporary one does not come back (SUP-33)."""
    children, failed = family
    plan = plan_restart(strategy, children, failed)
    for child in children:
        if child.id == failed:
            continue
        if child.id in plan.start and child.state == "running":
            assert child.id in plan.stop
        if child.id in plan.stop:
            assert child.state == "running"
            assert (child.id in plan.forget) == (child.restart == "temporary")
        assert not (child.restart == "temporary" and child.id in plan.start)


@given(family=families())
def test_groups_nest(family: Any) -> None:
    """one_for_one moves a part of what rest_for_one moves, and that of what one_for_all moves."""
    children, failed = family
    one, rest, everyone = (
        plan_restart(strategy, children, failed) for strategy in ("one_for_one", "rest_for_one", "one_for_all")
    )
    assert set(one.start) <= set(rest.start) <= set(everyone.start)
    assert set(one.stop) <= set(rest.stop) <= set(everyone.stop)
    assert all(id >= failed for id in (*rest.start, *rest.stop))


@given(family=families())
def test_all_significant_implies_any_significant(family: Any) -> None:
    """Whenever all_significant ends the supervisor, any_significant would have too."""
    children, failed = family
    ended, left = children[failed], [child for child in children if child.id != failed]
    if shuts_down("all_significant", ended, left):
        assert shuts_down("any_significant", ended, left)
    assert not shuts_down("never", ended, left)
