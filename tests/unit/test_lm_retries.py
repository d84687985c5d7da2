"""When a failed attempt is followed by another one, and after which pause."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.lm.failures import FAILURES, lm_error
from dspex.actors.lm.retries import JITTER, pause
from dspex.runtime.errors import LMError

RETRYABLE = sorted(name for name, row in FAILURES.items() if row.retryable)
FINAL = sorted(set(FAILURES) - set(RETRYABLE))


class End(random.Random):
    """Randomness at one end of each range."""

    def __init__(self, upper: bool) -> None:
        super().__init__(0)
        self.upper = upper

    def uniform(self, a: float, b: float) -> float:
        """That end."""
        return b if self.upper else a


def settings(**fields: Any) -> ProviderSettings:
    """Settings of a provider that tries often."""
    return ProviderSettings(**{"kind": "openai", "retry_attempts": 50, **fields})


@pytest.mark.parametrize("name", FINAL)
def test_what_no_attempt_mends_is_not_tried_again(name: str) -> None:
    """Rows that are not retryable have no pause, whatever the provider asks for."""
    assert pause(lm_error(name, "no", retry_after=1.0), 1, settings(), random.Random(1)) is None


@pytest.mark.parametrize("name", RETRYABLE)
def test_the_last_attempt_has_no_pause(name: str) -> None:
    """As many attempts as configured, the first included; none and one both mean one."""
    error = lm_error(name, "no")
    assert pause(error, 2, settings(retry_attempts=3), random.Random(1)) is not None
    assert pause(error, 3, settings(retry_attempts=3), random.Random(1)) is None
    for attempts in (0, 1):
        assert pause(error, 1, settings(retry_attempts=attempts), random.Random(1)) is None


def test_an_error_that_names_no_row_is_not_tried_again() -> None:
    """What is not known is not retried; an error may say for itself that it is not to be."""
    assert pause(LMError("?"), 1, settings(), random.Random(1)) is None
    error = lm_error("server", "no")
    error.facts["retryable"] = False
    assert pause(error, 1, settings(), random.Random(1)) is None


@given(
    name=st.sampled_from(RETRYABLE),
    attempt=st.integers(1, 49),
    base=st.floats(0.0, 100.0),
    longest=st.floats(0.0, 1000.0),
    seed=st.integers(),
)
def test_full_jitter_within_a_bound_that_doubles(
    name: str, attempt: int, base: float, longest: float, seed: int
) -> None:
    """Between nothing and base * 2 ** (attempt - 1), twice that if overloaded, and never above the longest."""
    made = settings(retry_base_delay=base, retry_max_delay=longest)
    bound = min(base * 2.0 ** (attempt - 1) * (2.0 if name == "overloaded" else 1.0), longest)
    error = lm_error(name, "no")
    found = pause(error, attempt, made, random.Random(seed))
    assert found is not None
    assert 0.0 <= found <= bound
    assert pause(error, attempt, made, End(upper=False)) == 0.0
    assert pause(error, attempt, made, End(upper=True)) == pytest.approx(bound)


@given(name=st.sampled_from(RETRYABLE), asked=st.floats(0.0, 120.0), attempt=st.integers(1, 49), seed=st.integers())
def test_retry_after_is_a_minimum(name: str, asked: float, attempt: int, seed: int) -> None:
    """Never earlier than the provider asks, and not much later."""
    found = pause(lm_error(name, "no", retry_after=asked), attempt, settings(), random.Random(seed))
    assert found is not None
    assert asked <= found <= asked * (1.0 + JITTER)


@pytest.mark.parametrize(("asked", "longest"), [(120.1, 120.0), (1.0, 0.5), (float("inf"), 120.0), (float("nan"), 9.0)])
def test_too_long_a_retry_after_ends_the_trying(asked: float, longest: float) -> None:
    """The provider would only say the same again."""
    error = lm_error("rate", "no", retry_after=asked)
    assert pause(error, 1, settings(retry_after_max=longest), random.Random(1)) is None


def test_callers_do_not_come_back_together() -> None:
    """A hundred callers that failed at once are spread over the pause, with a Retry-After too."""
    rng = random.Random(5)
    for error in (lm_error("server", "no"), lm_error("rate", "no", retry_after=5.0)):
        found = {pause(error, 3, settings(), rng) for _ in range(100)}
        assert len(found) == 100
