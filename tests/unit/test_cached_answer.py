"""A whole answer through the cache, in virtual time: found, waited for, asked and kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from dspex.actors.cache.actor import NAME, CacheActor
from dspex.actors.cache.messages import CacheStatus, CacheStatusReport
from dspex.actors.http.transport import HttpResponse
from dspex.actors.lm.values import LMResponse
from dspex.actors.testing.scripted_provider import Hang, Rule, server_error
from dspex.runtime.errors import LMError, LMServerError, LMTimeout
from dspex.runtime.testing import VirtualSystem
from kit.guards import Post


@pytest.fixture
def world() -> Iterator[Post]:
    """A provider with a cache, between doubles."""
    with VirtualSystem(seed=2) as system:
        made = Post(system, caching=True, retry_attempts=1)
        system.spawn(CacheActor, name=NAME)
        yield made


def cache(world: Post) -> CacheStatusReport:
    """How the cache is."""
    world.system.settle()
    report: CacheStatusReport = world.system.call(NAME, CacheStatus())
    return report


def nothing_held(world: Post) -> None:
    """Nobody works on an answer, and nobody waits for one."""
    report = cache(world)
    assert (report.in_work, report.waiting) == (0, 0)
    world.book.balanced()


def test_a_hit_costs_nothing(world: Post) -> None:
    """Neither admission nor reservation nor request; the answer says that it is one, and used nothing."""
    world.rules("Hello")
    first, again = world.ask(), world.ask()
    assert (first.text, first.cache_hit) == (again.text, not again.cache_hit) == ("Hello", False)
    assert (again.usage.total_tokens, again.attempts) == (0, ())
    assert not again.cost
    assert (world.sent, len(world.book.admissions), len(world.book.reservations)) == (1, 1, 1)
    assert [event.cache_hit for event in world.of("lm_response")] == [False, True]
    nothing_held(world)


def test_the_caller_may_not_want_the_cache(world: Post) -> None:
    """Then it is neither read nor written."""
    world.rules("Hello")
    world.ask(cache=False)
    world.ask()
    world.ask(cache=False)
    assert world.sent == 3
    assert cache(world).entries == 1


@pytest.mark.parametrize("other", [{"rollout": "2"}, {"model": "n"}, {"temperature": 0.5}, {"text": "Ho"}])
def test_another_question_is_another_answer(world: Post, other: dict[str, Any]) -> None:
    """Whatever may change the answer is part of the key."""
    world.rules("Hello")
    world.ask()
    world.ask(**other)
    assert world.sent == 2


def test_failures_are_not_kept(world: Post) -> None:
    """The next one asks anew."""
    world.rules(server_error(), "Hello")
    with pytest.raises(LMServerError):
        world.ask()
    nothing_held(world)
    assert world.ask().text == "Hello"


def test_an_answer_that_was_cut_is_not_kept(world: Post) -> None:
    """Nor one that is not plain and whole."""
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "He"}, "finish_reason": "length"}]}
    world.rules(HttpResponse(200, {"content-type": "application/json"}, json.dumps(body).encode()), "Hello")
    assert world.ask().finish_reason == "length"
    nothing_held(world)
    assert world.ask().text == "Hello"


def several(world: Post, count: int, **how: Any) -> list[LMResponse | BaseException]:
    """Ask the same so many times at once."""

    async def run() -> list[Any]:
        return await asyncio.gather(*(world.asking(**how) for _ in range(count)), return_exceptions=True)

    found: list[LMResponse | BaseException] = world.system.run(run())
    world.system.settle()
    return found


def test_one_asks_for_all(world: Post) -> None:
    """Twenty at once: one request, one reservation, one answer to all."""
    world.rules(Rule("Hello", delay=5.0))
    found = several(world, 20)
    assert {answer.text for answer in found if isinstance(answer, LMResponse)} == {"Hello"}
    assert len(found) == 20
    assert (world.sent, len(world.book.reservations)) == (1, 1)
    nothing_held(world)


def test_if_it_fails_the_next_one_asks(world: Post) -> None:
    """A failure is its own; the others get the next one's answer."""
    world.rules(Rule(server_error(), delay=1.0), Rule("Hello", delay=1.0))
    found = several(world, 5)
    assert [type(one) for one in found].count(LMServerError) == 1
    assert [type(one) for one in found].count(LMResponse) == 4
    assert world.sent == 2
    nothing_held(world)


def test_whoever_waits_keeps_its_own_deadline(world: Post) -> None:
    """The one that asks is slow: who waits hears in time that it was in vain, and nobody's breaker is touched."""
    world.rules(Rule("Hello", delay=20.0))

    async def run() -> None:
        slow = asyncio.ensure_future(world.asking())
        await asyncio.sleep(1.0)
        began = world.system.now
        with pytest.raises(LMTimeout) as caught:
            await world.asking(timeout=5.0)
        assert world.system.now - began == pytest.approx(4.98)
        assert caught.value.facts["failure"] == "deadline"
        assert (await slow).text == "Hello"

    world.system.run(run())
    assert world.book.ends == [None]
    nothing_held(world)


def test_the_one_that_asks_gives_up(world: Post) -> None:
    """Its request is cancelled, and the next one sends its own."""
    world.rules(Hang(), "Hello")

    async def run() -> None:
        first = asyncio.ensure_future(world.asking())
        await asyncio.sleep(1.0)
        second = asyncio.ensure_future(world.asking())
        await asyncio.sleep(1.0)
        first.cancel()
        assert (await second).text == "Hello"

    world.system.run(run())
    assert (world.sent, world.script.cancelled) == (2, 1)
    nothing_held(world)


def test_whoever_waits_gives_up(world: Post) -> None:
    """It leaves no trace; the other one's answer is kept."""
    world.rules(Rule("Hello", delay=5.0))

    async def run() -> None:
        first = asyncio.ensure_future(world.asking())
        await asyncio.sleep(1.0)
        second = asyncio.ensure_future(world.asking())
        await asyncio.sleep(1.0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert cache_now(await world.system.engine.call_async(NAME, CacheStatus(), 5.0)) == (1, 0)
        await first

    world.system.run(run())
    assert world.sent == 1
    nothing_held(world)


def cache_now(report: CacheStatusReport) -> tuple[int, int]:
    """Answers in work, and how many wait for one."""
    return report.in_work, report.waiting


def test_the_cache_is_down(world: Post) -> None:
    """Then every request is asked, and none fails for that."""
    world.rules("Hello")
    world.system.kill(NAME)
    assert (world.ask().text, world.ask().text, world.sent) == ("Hello", "Hello", 2)


def test_the_cache_dies_while_somebody_waits(world: Post) -> None:
    """Whoever waited asks for itself."""
    world.rules(Rule("Hello", delay=5.0))

    async def run() -> list[LMResponse]:
        asked = [asyncio.ensure_future(world.asking()) for _ in range(3)]
        await asyncio.sleep(1.0)
        world.system.engine.kill(NAME)
        return await asyncio.gather(*asked)

    assert [answer.text for answer in world.system.run(run())] == ["Hello"] * 3
    assert world.sent == 3
    world.system.settle()
    world.book.balanced()


def test_a_provider_that_dies_leaves_nothing_waiting(world: Post) -> None:
    """Its look-ups end with it."""
    world.rules(Hang())

    async def run() -> list[Any]:
        asked = [asyncio.ensure_future(world.asking()) for _ in range(3)]
        await asyncio.sleep(1.0)
        world.system.engine.kill("provider/p")
        return await asyncio.gather(*asked, return_exceptions=True)

    assert not [end for end in world.system.run(run()) if isinstance(end, LMResponse | LMError)]
    assert cache_now(cache(world)) == (0, 0)
