"""Restart intensity and supervisor flags."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.errors import SpecError
from dspex.supervisors.flags import DynamicFlags, Flags, window_of
from dspex.supervisors.intensity import NANOSECONDS, RestartWindow, nanoseconds


def test_intensity_zero_trips_on_the_first() -> None:
    """SUP-40: with intensity 0 there is no restart at all."""
    assert not RestartWindow(0, 5.0).add(0)


def test_the_one_after_the_last_allowed_trips() -> None:
    """SUP-40: the (intensity + 1)-th restart inside the window trips."""
    window = RestartWindow(2, 5.0)
    assert [window.add(n) for n in (1, 2, 3)] == [True, True, False]


def test_a_distance_of_exactly_the_period_is_inside() -> None:
    """SUP-41: d <= period is inside the window, a nanosecond more is not."""
    inside, outside = RestartWindow(1, 5.0), RestartWindow(1, 5.0)
    assert inside.add(7)
    assert outside.add(7)
    assert not inside.add(7 + 5 * NANOSECONDS)
    assert outside.add(7 + 5 * NANOSECONDS + 1)


def test_the_window_slides() -> None:
    """SUP-41: old restarts are forgotten one by one."""
    window = RestartWindow(2, 1.0)
    assert [window.add(nanoseconds(t)) for t in (0.0, 0.9, 1.5, 2.0, 2.4)] == [True, True, True, True, False]


def test_history_is_bounded_by_the_window() -> None:
    """Only what is inside the window is kept."""
    window = RestartWindow(5, 1.0)
    for second in range(0, 1000, 2):
        assert window.add(nanoseconds(float(second)))
    assert len(window) == 1


@given(
    limit=st.integers(0, 5),
    period=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 12), max_size=40),
)
def test_it_is_otps_add_restart_on_whole_units(limit: int, period: int, gaps: list[int]) -> None:
    """The window equals OTP's add_restart, written as OTP writes it, for any history."""
    window = RestartWindow(limit, period / NANOSECONDS)
    restarts: list[int] = []
    now = 0
    for gap in gaps:
        now += gap
        restarts = [t for t in restarts if t >= now - period] + [now]
        assert window.add(now) == (len(restarts) <= limit)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"strategy": "one_for_al"}, ("invalid_strategy", "one_for_al")),
        ({"max_restarts": -1}, ("invalid_intensity", -1)),
        ({"max_restarts": 1.5}, ("invalid_intensity", 1.5)),
        ({"max_restarts": True}, ("invalid_intensity", True)),
        ({"max_seconds": 0}, ("invalid_period", 0)),
        ({"max_seconds": "infinity"}, ("invalid_period", "infinity")),
        ({"max_seconds": float("inf")}, ("invalid_period", float("inf"))),
        ({"max_seconds": 5000}, ("invalid_period", 5000)),
        ({"auto_shutdown": "always"}, ("invalid_auto_shutdown", "always")),
    ],
)
def test_bad_flags_are_refused_in_otps_words(flags: dict[str, Any], reason: Any) -> None:
    """SUP-02: bad flags are ``("supervisor_data", E)``."""
    with pytest.raises(SpecError) as caught:
        Flags(**flags)
    assert caught.value.reason == ("supervisor_data", reason)


def test_a_misspelt_strategy_is_refused_with_the_nearest_one() -> None:
    """Messages say what was expected and what was probably meant."""
    with pytest.raises(SpecError, match="did you mean 'one_for_all'"):
        Flags("one_for_al")  # type: ignore[arg-type]


def test_simple_one_for_one_has_no_auto_shutdown() -> None:
    """SUP-68: simple_one_for_one with auto_shutdown is refused."""
    with pytest.raises(SpecError) as caught:
        Flags("simple_one_for_one", auto_shutdown="any_significant")
    assert caught.value.reason[1][0] == "bad_combination"


def test_defaults_are_elixirs() -> None:
    """SUP-01, DYN-01: three restarts in five seconds, never auto_shutdown, any number of children."""
    flags, dynamic = Flags(), DynamicFlags()
    assert (flags.max_restarts, flags.max_seconds, flags.auto_shutdown) == (3, 5.0, "never")
    assert (dynamic.max_restarts, dynamic.max_seconds, dynamic.max_children) == (3, 5.0, None)


def test_a_long_window_is_written_with_its_unit() -> None:
    """A window of a day is a timedelta."""
    window = window_of(Flags(max_restarts=1, max_seconds=timedelta(days=1)))
    assert window.add(0)
    assert not window.add(nanoseconds(86_400.0))


@pytest.mark.parametrize("bad", [{"max_children": -1}, {"max_children": 1.5}, {"extra_arguments": 3}])
def test_bad_dynamic_flags_are_refused(bad: dict[str, Any]) -> None:
    """DYN-01: max_children is a whole number or None, extra_arguments a tuple."""
    with pytest.raises(SpecError) as caught:
        DynamicFlags(**bad)
    assert caught.value.reason[0] == "supervisor_data"
