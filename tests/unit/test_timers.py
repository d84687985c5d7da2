"""The timer heap, and actors' timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conformance.virtual_loop import VirtualLoop
from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.errors import UsageError
from dspex.runtime.gen_server import GenServer, call, info
from dspex.runtime.timers import TimerHeap
from kit.engine import Lab, Probe, in_lab


def with_heap(test: Callable[[TimerHeap, VirtualLoop], Any]) -> None:
    """Run a test's coroutine with a heap in virtual time."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(test(TimerHeap(loop), loop))
    finally:
        loop.close()


def test_timers_fire_in_order() -> None:
    """By time; those of one moment in the order they were started."""
    fired: list[int] = []

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        start = loop.time()
        for number, delay in enumerate([3, 1, 2, 1, 3]):
            heap.at(start + delay, fired.append, number)
        await asyncio.sleep(5)
        assert fired == [1, 3, 2, 0, 4]
        assert len(heap) == 0

    with_heap(test)


def test_a_timer_fires_at_its_moment() -> None:
    """Not before, and not later than needed; one in the past fires at once."""
    fired: list[float] = []

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        start = loop.time()
        heap.at(start + 2.5, lambda: fired.append(loop.time() - start))
        heap.at(start - 1, lambda: fired.append(loop.time() - start))
        await asyncio.sleep(5)
        assert fired == pytest.approx([0, 2.5])

    with_heap(test)


def test_cancelling_tells_whether_it_came_in_time() -> None:
    """True before it fired; False afterwards, and the second time."""
    fired: list[int] = []

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        early, late = heap.at(loop.time() + 1, fired.append, 1), heap.at(loop.time() + 3, fired.append, 3)
        await asyncio.sleep(2)
        assert (early.cancel(), late.cancel(), late.cancel()) == (False, True, False)
        assert not late.active
        await asyncio.sleep(5)
        assert fired == [1]

    with_heap(test)


def test_a_timer_that_starts_itself_again_lets_others_run() -> None:
    """A timer of delay zero that starts itself again does not hold up the loop."""
    fired: list[str] = []

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        def again() -> None:
            fired.append("again")
            if "loop" not in fired and len(fired) < 1000:
                heap.at(loop.time(), again)

        again()
        for _ in range(5):
            await asyncio.sleep(0)
        fired.append("loop")
        assert len(fired) < 20

    with_heap(test)


def test_a_timer_that_fails_stops_no_other() -> None:
    """When a timer's function raises, the later ones still fire."""
    fired: list[int] = []

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        loop.set_exception_handler(lambda loop, context: fired.append(0))
        heap.at(loop.time() + 1, fired.remove, "no such thing")
        heap.at(loop.time() + 1, fired.append, 1)
        heap.at(loop.time() + 2, fired.append, 2)
        await asyncio.sleep(3)
        assert fired == [0, 1, 2]

    with_heap(test)


def test_cancelled_timers_are_swept() -> None:
    """A heap of mostly cancelled timers is swept, and does not grow for ever."""

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        heap.at(loop.time() + 1000, print)
        for _ in range(100_000):
            heap.at(loop.time() + 500, print).cancel()
        assert len(heap) == 1
        assert len(heap._heap) < 2000

    with_heap(test)


def test_a_moment_that_is_none() -> None:
    """Not a number is refused; it would spoil the order of all the others."""

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        with pytest.raises(UsageError, match="got nan"):
            heap.at(float("nan"), print)

    with_heap(test)


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(-1, 20)),  # fires at, is cancelled at (-1: never)
        max_size=60,
    )
)
def test_the_heap_against_a_list(plan: list[tuple[int, int]]) -> None:
    """Any mix of timers and cancellations fires exactly what a sorted list says."""
    fired: list[int] = []

    async def test(heap: TimerHeap, loop: VirtualLoop) -> None:
        start = loop.time()
        timers = [heap.at(start + at + 0.5, fired.append, number) for number, (at, _) in enumerate(plan)]
        for moment in range(21):
            for timer, (_, cancelled) in zip(timers, plan, strict=True):
                if cancelled == moment:
                    timer.cancel()
            await asyncio.sleep(1)
        assert len(heap) == 0

    with_heap(test)
    expected = [(at, number) for number, (at, cancelled) in enumerate(plan) if not 0 <= cancelled <= at]
    assert fired == [number for _, number in sorted(expected)]


# -- timers of actors --------------------------------------------------------------------------------


class Sleeper(GenServer):
    """Starts timers as told: its own function on itself."""

    def init(self, seen: list[Any]) -> None:
        self.seen = seen

    @call
    def do(self, what: object) -> Any:
        return what(self)  # type: ignore[operator]

    @info
    def tick(self, message: str) -> None:
        self.seen.append((message, self.system.now()))


def test_a_timer_is_a_message() -> None:
    """start_timer: the message arrives as info after so many seconds; cancelled, it does not."""

    async def test(lab: Lab) -> None:
        seen: list[Any] = []
        sleeper = await lab.start(Sleeper, seen)
        began = lab.engine.now()
        await lab.call(sleeper, lambda actor: [actor.start_timer(2, "two"), actor.start_timer(1, "one")][:0])
        timer = await lab.call(sleeper, lambda actor: actor.start_timer(1.5, "never"))
        assert timer.cancel()
        await asyncio.sleep(3)
        assert [what for what, _ in seen] == ["one", "two"]
        assert [when - began for _, when in seen] == pytest.approx([1, 2])

    in_lab(test)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_malformed_timer(seconds: float) -> None:
    """A negative time, or none, is refused at once."""

    async def test(lab: Lab) -> None:
        sleeper = await lab.start(Sleeper, [])
        error = await lab.error(sleeper, lambda actor: actor.start_timer(seconds, "x"))
        assert isinstance(error.reason.error, UsageError)

    in_lab(test)


def test_timers_are_lost_with_their_actor() -> None:
    """A timer of an actor that has ended is nobody's: no message, no dead letter."""

    async def test(lab: Lab) -> None:
        sleeper, probe = await lab.start(Sleeper, []), await lab.start(Probe)
        await lab.call(sleeper, lambda actor: actor.start_timer(1, "x") and None)
        lab.engine.kill(sleeper)
        await asyncio.sleep(2)
        assert lab.engine.dead_letters.count == 0
        assert lab.engine.alive(probe)

    in_lab(test)
