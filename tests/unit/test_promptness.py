"""Tests that measure time: late each time is red, late once is not, and no other failure is forgiven."""

from __future__ import annotations

import inspect

import pytest

from kit.promptness import TRIES, TooLate, prompt, tried_again


def test_in_time_is_tried_once() -> None:
    """What keeps its promise runs one time."""
    taken: list[float] = []

    @tried_again
    def measured() -> None:
        taken.append(0.04)
        prompt(taken[-1], 0.05)

    measured()
    assert taken == [0.04]


def test_late_each_time_is_red() -> None:
    """A delay that is always there fails, after all tries, and says how long it took."""
    tries = 0

    @tried_again
    def slow() -> None:
        nonlocal tries
        tries += 1
        prompt(0.06, 0.05)

    with pytest.raises(TooLate, match=r"expected less than 0\.05 s, got 0\.060 s"):
        slow()
    assert tries == TRIES


def test_late_once_was_the_machine() -> None:
    """The last of the tries may be the first in time."""
    taken = [0.01, *[1.0] * (TRIES - 1)]

    @tried_again
    def unlucky() -> None:
        prompt(taken.pop(), 0.05)

    unlucky()
    assert taken == []


def test_another_failure_counts_at_once() -> None:
    """What is wrong, and not late, is not tried again."""
    tries = 0

    @tried_again
    def wrong() -> None:
        nonlocal tries
        tries += 1
        raise AssertionError("wrong")

    with pytest.raises(AssertionError, match="wrong"):
        wrong()
    assert tries == 1


@pytest.mark.parametrize("number", [1, 2])
@tried_again
def test_fixtures_and_parameters_reach_it(number: int, request: pytest.FixtureRequest) -> None:
    """It asks for them as any test does."""
    assert f"[{number}]" in request.node.name
    assert list(inspect.signature(test_fixtures_and_parameters_reach_it).parameters) == ["number", "request"]
