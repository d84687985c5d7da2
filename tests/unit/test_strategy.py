"""The strategies, and what becomes of a child that ended: pure functions, rule by rule."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.runtime.child_spec import Restart
from dspex.runtime.errors import SpecError
from dspex.supervisors.backoff import Backoff
from dspex.supervisors.strategy import (
    ChildState,
    earlier_end_is_expected,
    end_is_reported,
    parallel_stop_is_expected,
    plan_restart,
    shuts_down,
    stop_is_expected,
    verdict,
)


@dataclass(frozen=True)
class One:
    """A child as the strategies see it."""

    id: str
    restart: Restart = "permanent"
    state: ChildState = "running"
    significant: bool = False


A, B, C, D = One("a"), One("b"), One("c"), One("d")


def plan(strategy: Any, children: list[One], failed: str) -> tuple[str, str, str]:
    """A plan as three words: stop, forget, start."""
    made = plan_restart(strategy, children, failed)
    return tuple("".join(map(str, part)) for part in (made.stop, made.forget, made.start))  # type: ignore[return-value]


def test_one_for_one_moves_only_the_child_itself() -> None:
    """SUP-30."""
    assert plan("one_for_one", [A, B, C], "b") == ("", "", "b")


def test_one_for_all_stops_in_reverse_and_starts_all_in_order() -> None:
    """SUP-31."""
    assert plan("one_for_all", [A, B, C, D], "b") == ("dca", "", "abcd")


def test_rest_for_one_leaves_earlier_children_alone() -> None:
    """SUP-32."""
    assert plan("rest_for_one", [A, B, C, D], "b") == ("dc", "", "bcd")


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_temporary_siblings_are_stopped_and_forgotten(strategy: str) -> None:
    """SUP-33."""
    assert plan(strategy, [A, B, One("t", "temporary"), D], "a") == ("dtb", "t", "abd")


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_siblings_that_were_down_are_started_too(strategy: str) -> None:
    """SUP-34: not stopped, but started."""
    down = One("x", "transient", "undefined")
    assert plan(strategy, [A, down, C], "a") == ("c", "", "axc")


def test_a_retry_of_one_for_all_begins_at_the_first() -> None:
    """SUP-51: the group stops what is up and starts all from the first."""
    children = [A, One("b", state="restarting"), One("c", state="undefined")]
    assert plan("one_for_all", children, "b") == ("a", "", "abc")


def test_a_retry_of_rest_for_one_begins_at_the_one_that_failed() -> None:
    """SUP-52: children before it that came up stay."""
    children = [A, B, One("c", state="restarting"), One("d", state="undefined")]
    assert plan("rest_for_one", children, "c") == ("", "", "cd")


NORMAL_TYPE = ["normal", "shutdown", ("shutdown", "x")]
ABNORMAL = ["crash", "killed", ("other", "x"), "noproc"]


@pytest.mark.parametrize("reason", NORMAL_TYPE)
def test_verdicts_on_normal_ends(reason: Any) -> None:
    """SUP-20 to SUP-22: permanent restarts and is reported, transient stays down, temporary is forgotten."""
    assert [verdict(r, reason) for r in ("permanent", "transient", "temporary")] == ["restart", "keep", "forget"]
    assert [end_is_reported(r, reason) for r in ("permanent", "transient", "temporary")] == [True, False, False]


@pytest.mark.parametrize("reason", ABNORMAL)
def test_verdicts_on_abnormal_ends(reason: Any) -> None:
    """SUP-20 to SUP-24: ``killed`` is abnormal; all are reported."""
    assert [verdict(r, reason) for r in ("permanent", "transient", "temporary")] == ["restart", "restart", "forget"]
    assert all(end_is_reported(r, reason) for r in ("permanent", "transient", "temporary"))


def test_what_a_stop_may_end_with() -> None:
    """SUP-14: shutdown always; normal and {shutdown, x} unless permanent; for brutal_kill killed."""
    assert stop_is_expected("permanent", 5.0, "shutdown")
    assert not stop_is_expected("permanent", 5.0, ("shutdown", "x"))
    assert not stop_is_expected("permanent", 5.0, "normal")
    assert not stop_is_expected("transient", 5.0, "killed")
    assert stop_is_expected("transient", "infinity", ("shutdown", "x"))
    assert stop_is_expected("temporary", 5.0, "normal")
    assert stop_is_expected("permanent", "brutal_kill", "killed")
    assert not stop_is_expected("permanent", "brutal_kill", "shutdown")
    assert stop_is_expected("transient", "brutal_kill", "shutdown")


def test_what_a_parallel_stop_may_end_with() -> None:
    """DYN-09, SIM-06: shutdown and {shutdown, x} always; normal unless permanent; brutal_kill only killed."""
    assert parallel_stop_is_expected("permanent", 5.0, ("shutdown", "x"))
    assert not parallel_stop_is_expected("permanent", 5.0, "normal")
    assert parallel_stop_is_expected("temporary", 5.0, "normal")
    assert not parallel_stop_is_expected("temporary", 5.0, "killed")
    assert parallel_stop_is_expected("temporary", "brutal_kill", "killed")
    assert not parallel_stop_is_expected("temporary", "brutal_kill", "shutdown")


def test_what_a_parallel_stop_may_find() -> None:
    """DYN-09: of a child found dead only a normal end is expected, and not of a permanent one."""
    assert earlier_end_is_expected("transient", "normal")
    assert not earlier_end_is_expected("permanent", "normal")
    assert not earlier_end_is_expected("transient", "shutdown")


def test_auto_shutdown_never_and_insignificant_children() -> None:
    """SUP-60, SUP-63."""
    significant = One("s", "transient", significant=True)
    assert not shuts_down("never", significant, [])
    assert not shuts_down("any_significant", A, [])


def test_any_significant_is_enough() -> None:
    """SUP-61."""
    significant = One("s", "transient", significant=True)
    assert shuts_down("any_significant", significant, [significant])


@pytest.mark.parametrize(("state", "down"), [("running", False), ("restarting", False), ("undefined", True)])
def test_all_significant_counts_running_and_restarting(state: Any, down: bool) -> None:
    """SUP-62, SUP-66: significant children that are not running do not hold it up."""
    ended = One("s", "transient", significant=True)
    other = One("o", "transient", state, significant=True)
    assert shuts_down("all_significant", ended, [other, A]) is down


def test_backoff_grows_to_its_maximum() -> None:
    """The bound doubles with each failure, up to the maximum."""
    backoff = Backoff(initial=1.0, maximum=10.0, jitter=False)
    assert [backoff.delay(n, random.Random(0)) for n in (1, 2, 3, 4, 5, 99_999)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_backoff_jitters_over_the_whole_range() -> None:
    """Full jitter: anything from 0 to the bound, the same for the same seed."""
    backoff = Backoff(initial=8.0, maximum=8.0)
    rng = random.Random(1)
    drawn = [backoff.delay(1, rng) for _ in range(200)]
    assert all(0.0 <= delay <= 8.0 for delay in drawn)
    assert min(drawn) < 1.0
    assert max(drawn) > 7.0
    assert drawn[0] == backoff.delay(1, random.Random(1))


@pytest.mark.parametrize(
    "bad", [{"initial": -1}, {"maximum": 0.01}, {"factor": 0.5}, {"reset_after": "x"}, {"initial": 5000}]
)
def test_bad_backoffs_are_refused(bad: dict[str, Any]) -> None:
    """Values out of range are an error at once."""
    with pytest.raises(SpecError, match="backoff"):
        Backoff(**bad)
