"""Work that is begun again: for how long at most, and what is said at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dspex.actors.runs.tries import PATIENCE, tried
from dspex.runtime.errors import ActorDied, Error, LMCircuitOpen, LMConnectionError, LMServerError
from dspex.runtime.testing import VirtualLoop

REFUSED = "expected a connection, got connection refused, at http://127.0.0.1:1/v1"


class Model:
    """A model that is away until ``back``; its breaker rests so long after a failure, and probes take ``probing``."""

    def __init__(self, *, recovery: float, back: float = float("inf"), probing: float = 0.0) -> None:
        self.recovery, self.back, self.probing = recovery, back, probing
        self.probe = 0.0
        self.begins: list[float] = []

    async def ask(self) -> str:
        now = asyncio.get_running_loop().time()
        self.begins.append(now)
        if now >= self.back:
            return "here"
        if now < self.probe:
            raise LMCircuitOpen("expected a closed breaker, got one that is open", retry_after=self.probe - now)
        if self.probe and now < self.probe + self.probing:
            raise LMCircuitOpen("expected a closed breaker, got one that is half-open", retry_after=None)
        self.probe = now + self.recovery
        raise LMConnectionError(REFUSED, status=None)


def over(work: Callable[[], object]) -> tuple[object, float]:
    """What came of it, and after how many virtual seconds."""

    async def timed() -> tuple[object, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            found: object = await tried(work)  # type: ignore[arg-type]
        except Error as error:
            found = error
        return found, loop.time() - began

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(0.0)) as runner:
        return runner.run(timed())


@pytest.mark.parametrize("recovery", [0.1, 1.0, 7.0, 30.0, 44.0, 46.0, 600.0])
@pytest.mark.parametrize("probing", [0.0, 20.0])
def test_the_pauses_of_a_breaker_count(recovery: float, probing: float) -> None:
    """Whatever the breaker's pauses, nobody waits longer than promised; and the reason names what is to be mended."""
    found, took = over(Model(recovery=recovery, probing=probing).ask)
    assert took <= PATIENCE
    assert isinstance(found, LMConnectionError)
    assert found.message.startswith(REFUSED)


def test_what_came_first_is_quoted_before_the_breaker() -> None:
    """A breaker that is open is the consequence."""
    found, took = over(Model(recovery=600.0).ask)
    assert isinstance(found, LMConnectionError)
    assert found.message == f"{REFUSED}; then circuit_open: expected a closed breaker, got one that is open"
    assert took < 1.0, "who cannot be asked in time is not waited for"


def test_a_usual_breaker_is_asked_once_more() -> None:
    """The model came back while its breaker rested the thirty seconds it rests by default."""
    found, took = over(Model(recovery=30.0, back=10.0).ask)
    assert found == "here"
    assert took <= PATIENCE


def test_only_a_breaker_is_known_then_that_is_said() -> None:
    """Another call opened it."""

    async def ask() -> None:
        raise LMCircuitOpen("open", retry_after=600.0)

    found, took = over(ask)
    assert isinstance(found, LMCircuitOpen)
    assert (found.message, took) == ("open", 0.0)


def test_an_actor_that_died_is_no_reason_for_a_breaker() -> None:
    """The class of the failure decides whether the run ends: a death, which is an example's, does not hide the rest."""
    failures = iter([ActorDied("gone"), LMCircuitOpen("open", retry_after=600.0)])

    async def ask() -> None:
        raise next(failures)

    found, _ = over(ask)
    assert isinstance(found, LMCircuitOpen)


def test_time_counts_from_the_first_failure() -> None:
    """A model that takes long is not away."""
    slept = iter([100.0, 0.0, 0.0])
    failures = iter([LMConnectionError("once"), LMConnectionError("twice")])

    async def ask() -> str:
        await asyncio.sleep(next(slept))
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return "here"

    assert over(ask)[0] == "here"


def test_other_failures_end_it_at_once() -> None:
    """They would come again."""

    async def ask() -> None:
        raise LMServerError("no")

    found, took = over(ask)
    assert isinstance(found, LMServerError)
    assert took == 0.0
