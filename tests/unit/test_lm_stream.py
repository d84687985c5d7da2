"""One streamed answer, in virtual time: its chunks, its three clocks, its ends, and what is read when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dspex.actors.budgets.messages import CancelReservation, SettleBudget
from dspex.actors.http.leased_transport import LeasedTransport
from dspex.actors.lm.chunks import LMChunk, LMStreamEnd
from dspex.actors.lm.failures import lm_error
from dspex.actors.lm.setup import House, Setup
from dspex.actors.lm.stream import LMStream
from dspex.actors.lm.values import LMRequest, Message
from dspex.actors.providers.messages import SUBSCRIBE_PATIENCE, Leave, OpenStream, ProviderStatus
from dspex.actors.testing.scripted_provider import Cut, Hang, Rule, failure, rate_limited, refused, server_error
from dspex.actors.wire_formats import wire_format
from dspex.runtime.errors import (
    ActorDied,
    Error,
    LMError,
    LMInvalidRequest,
    LMProtocolError,
    LMRateLimited,
    LMServerError,
    LMTimeout,
    NoProcess,
    StreamInterrupted,
)
from dspex.runtime.reasons import Crash
from dspex.runtime.stages import Stream, stream
from kit.guards import Post, post
from kit.providers import FakeStream, FakeTransport, events, settings


async def read(world: Post, max_demand: int = 1000, **how: Any) -> list[Any]:
    """Everything that a stream brings."""
    opened = await world.opening(**how)
    async with stream(opened.address, world.system.engine, max_demand=max_demand, cancel="transient") as found:
        return [event async for event in found]


def reads(world: Post, **how: Any) -> list[Any]:
    """The same, waited for; then everything has been told."""
    try:
        return world.system.run(read(world, **how))
    finally:
        world.system.settle()


def fails(world: Post, expected: type[Error], **how: Any) -> Any:
    """Open a stream; the error that must come."""
    with pytest.raises(expected) as caught:
        reads(world, **how)
    assert type(caught.value) is expected
    return caught.value


@asynccontextmanager
async def reading(world: Post, max_demand: int = 1) -> AsyncIterator[Stream]:
    """A stream that is opened, to be read by hand."""
    opened = await world.opening()
    async with stream(opened.address, world.system.engine, max_demand=max_demand, cancel="transient") as found:
        yield found


def running(world: Post) -> int:
    """How many streams there are."""
    world.system.settle()
    return world.system.tree().count("LMStream")


def balanced(world: Post, refused: int = 0) -> None:
    """All that was held is given back, nobody is left."""
    world.book.balanced(refused)
    assert len(world.book.paid) == len(world.book.reservations)
    assert running(world) == 0
    assert world.system.call("provider/p", ProviderStatus()).in_flight == 0


# -- a good one ------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_demand", [1, 2, 1000])
def test_chunks_in_order_and_one_end(max_demand: int) -> None:
    """Each piece once, numbered, whatever the demand; the last item holds the whole answer."""
    with post() as world:
        world.rules(Rule("a b c d", delay=2.0, pause=1.0))
        *chunks, end = reads(world, max_demand=max_demand)
        assert [(chunk.index, chunk.text) for chunk in chunks] == [(0, "a"), (1, " b"), (2, " c"), (3, " d")]
        assert isinstance(end, LMStreamEnd)
        assert end.error is None
        answer = end.response
        assert answer is not None
        assert (answer.text, answer.finish_reason, answer.usage.total_tokens) == ("a b c d", "stop", 15)
        assert answer.time_to_first_chunk == pytest.approx(2.0)
        assert [one.status for one in answer.attempts] == [200]
        assert [(one.failure, one.tokens) for one in world.book.settled] == [(None, 15)]
        assert [(type(one), one.tokens) for one in world.book.paid] == [(SettleBudget, 15)]
        balanced(world)


def test_the_admission_is_held_to_the_end() -> None:
    """A stream that is open counts as in flight, until its last piece."""
    with post() as world:
        world.rules(Rule("a b c", pause=10.0))

        async def run() -> None:
            async with reading(world) as found:
                await anext(found)
                assert (world.book.settled, world.book.paid) == ([], [])
                rest = [event async for event in found]
                assert len(rest) == 3

        world.system.run(run())
        assert world.book.ends == [None]
        balanced(world)


def test_an_empty_answer_is_an_answer() -> None:
    """No chunk at all, but a whole stream: its end."""
    with post(transport=lambda made: _fake(made, lambda: FakeStream(*events()))) as world:
        (end,) = reads(world)
        assert (end.response.text, end.response.finish_reason) == ("", "stop")
        balanced(world)


def test_nothing_of_one_large_read_is_dropped() -> None:
    """One read may bring more pieces than a producer's buffer holds by itself: all of them wait for a slow reader."""
    words = [f"{number} " for number in range(12_000)]
    with post(transport=lambda made: _fake(made, lambda: FakeStream(b"".join(events(*words))))) as world:
        *chunks, end = reads(world, max_demand=100)
        assert [chunk.text for chunk in chunks] == words
        assert end.response.text == "".join(words)
        balanced(world)


def test_the_end_may_come_with_the_first_piece() -> None:
    """A whole answer in one read."""
    with post(transport=lambda made: _fake(made, lambda: FakeStream(b"".join(events("Hel", "lo"))))) as world:
        *chunks, end = reads(world, max_demand=1)
        assert [chunk.text for chunk in chunks] == ["Hel", "lo"]
        assert end.response.text == "Hello"
        balanced(world)


# -- before the first chunk ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "row"),
    [
        (server_error(), "server"),
        (server_error(503), "server"),
        (failure(409), "conflict"),
        (refused(), "connection"),
        (rate_limited(2.0), "rate"),
        (Cut(text="a b", after_pieces=0), "protocol"),
        (Cut(text="a b", after_pieces=0, silent=True), "protocol"),
        (Hang(text="a b", after_pieces=0), "timeout"),
    ],
)
def test_another_attempt_before_the_first_chunk(bad: Any, row: str) -> None:
    """Nothing was delivered: the reader never hears of it; each attempt is admitted and settled by itself."""
    with post(first_chunk_timeout=5.0) as world:
        world.rules(bad, "a b")
        *chunks, end = reads(world)
        assert [chunk.text for chunk in chunks] == ["a", " b"]
        assert len(end.response.attempts) == 2
        assert world.book.ends == [row, None]
        assert len(world.book.reservations) == 1
        balanced(world)


def test_a_stream_that_cannot_be_opened_fails_in_its_call() -> None:
    """After the last attempt: the failure itself, no StreamInterrupted, with all attempts."""
    with post(retry_attempts=2) as world:
        world.rules(server_error())
        assert len(fails(world, LMServerError).attempts) == 2
        assert world.book.ends == ["server"] * 2
        assert [type(one) for one in world.book.paid] == [CancelReservation]
        balanced(world)


def test_a_refused_stream_is_not_sent() -> None:
    """The protection's error is the caller's."""
    with post() as world:
        world.book.admit = lambda message: lm_error("limit", "no", local=True)
        fails(world, LMRateLimited)
        assert world.sent == 0
        balanced(world, refused=1)


def test_an_error_status_with_a_long_body() -> None:
    """The body of a refusal is read for its message, in pieces."""
    body = b'{"error": {"message": "no such model", "code": "model_not_found"}}'
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    with post(transport=lambda made: _fake(made, lambda: FakeStream(*pieces, status=404))) as world:
        assert "no such model" in str(fails(world, LMInvalidRequest))
        balanced(world)


def test_giving_up_while_it_opens() -> None:
    """The caller leaves before the first chunk: the request ends, nothing is left."""
    with post() as world:
        world.rules(Hang(text="a b", after_pieces=0))

        async def run() -> None:
            asked = asyncio.ensure_future(world.opening())
            await asyncio.sleep(1.0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

        world.system.run(run())
        world.system.settle()
        assert world.script.cancelled == 1
        assert world.book.ends == ["cancelled"]
        assert world.system.call("provider/p", ProviderStatus()).errors == {"cancelled": 1}
        balanced(world)


# -- the three clocks ------------------------------------------------------------------------------


async def given_up(world: Post, step: int) -> bool:
    """Begin to open a stream and give up after so many turns of the loop; False if it was open by then."""
    asked = asyncio.ensure_future(world.opening())
    for _ in range(step):
        await asyncio.sleep(0)
    if not asked.cancel():
        world.system.engine.cast((await asked).address, Leave())
        return False
    with pytest.raises(asyncio.CancelledError):
        await asked
    return True


def test_giving_up_at_any_step_of_the_opening_leaves_nothing() -> None:
    """Whoever gives up, also while the answer is on its way: the stream ends at once, not when nobody has come."""
    with post() as world:
        world.rules(Rule("a b c"))
        began, step = world.system.engine.now(), 0
        while world.system.run(given_up(world, step)):
            assert running(world) == 0, f"a stream was left by who gave up after {step} turns of the loop"
            assert world.system.call("provider/p", ProviderStatus()).in_flight == 0
            step += 1
        assert step > 5
        assert world.system.engine.now() - began < 1.0
        balanced(world)


def test_the_clock_to_the_first_chunk() -> None:
    """Not the head, the first chunk: comes too late, to the moment; that speaks against the provider."""
    with post(first_chunk_timeout=5.0, retry_attempts=1) as world:
        world.rules(Hang(text="a b", after_pieces=0))
        began = world.system.now
        error = fails(world, LMTimeout)
        assert world.system.now - began == pytest.approx(5.0)
        assert error.facts["failure"] == "timeout"
        balanced(world)


def test_the_clock_between_two_chunks() -> None:
    """A stream that falls silent is ended, to the moment; pieces that come in time are not its business."""
    with post(chunk_timeout=5.0) as world:
        world.rules(Rule(Hang(text="a b c", after_pieces=3), pause=4.0))
        began = world.system.now
        *chunks, end = reads(world)
        assert len(chunks) == 3
        assert end.error.facts["cause"] == "lm_timeout"
        assert world.system.now - began == pytest.approx(13.0)  # two pauses, and the silence
        assert world.book.ends == ["interrupted"]
        balanced(world)


def test_the_clock_of_the_whole() -> None:
    """An answer that never ends is ended, however lively; that does not speak against the provider."""
    with post(stream_timeout=20.0) as world:
        world.rules(Rule("and so on " * 50, pause=1.0))
        began = world.system.now
        *_, end = reads(world)
        assert world.system.now - began == pytest.approx(20.0)
        assert isinstance(end.error, StreamInterrupted)
        assert world.book.ends == ["deadline"]
        balanced(world)


def test_the_deadline_of_the_opening_call_ends_with_it() -> None:
    """Once open, a stream may last longer than the call that opened it."""
    with post() as world:
        world.rules(Rule("a b c d", pause=10.0))
        *chunks, end = reads(world, timeout=5.0)
        assert len(chunks) == 4
        assert end.response.text == "a b c d"


def test_the_deadline_of_the_opening_call_holds_for_the_opening() -> None:
    """The caller's time is up before the first chunk: no fault of the provider."""
    with post() as world:
        world.rules(Hang(text="a b", after_pieces=0))
        error = fails(world, LMTimeout, timeout=5.0)
        assert error.facts["failure"] == "deadline"
        assert world.book.ends == ["deadline"]
        balanced(world)


def test_a_slow_reader_is_no_slow_provider() -> None:
    """While nothing is asked for, the clock between two chunks stands still."""
    with post(chunk_timeout=5.0) as world:
        world.rules("a b c d")

        async def run() -> list[Any]:
            async with reading(world) as found:
                seen: list[Any] = []
                async for event in found:
                    seen.append(event)
                    await asyncio.sleep(20.0)
                return seen

        *chunks, end = world.system.run(run())
        assert [chunk.text for chunk in chunks] == ["a", " b", " c", " d"]
        assert end.error is None
        balanced(world)


# -- demand ----------------------------------------------------------------------------------------


def _fake(made: Any, answer: Callable[[], FakeStream]) -> FakeTransport:
    transport = FakeTransport(made)
    transport.stream = lambda request: answer()
    return transport


def test_without_demand_nothing_is_read() -> None:
    """Up to the first chunk it is read at once; then as asked for: the rest stays in the socket."""
    body = FakeStream(*events(*"abcdefgh"))
    with post(transport=lambda made: _fake(made, lambda: body)) as world:

        async def run() -> None:
            opened = await world.opening()
            await asyncio.sleep(10.0)
            assert body.reads == 1
            async with stream(opened.address, world.system.engine, max_demand=1, cancel="transient") as found:
                for number in range(1, 6):
                    assert (await anext(found)).text == "abcdefgh"[number - 1]
                    await asyncio.sleep(10.0)
                    # What was read is given, and at most the next piece is asked for.
                    assert number <= body.reads <= number + 1

        world.system.run(run())
        balanced(world)
        assert body.closed == 1


def test_one_piece_with_much_in_it_satisfies_the_demand() -> None:
    """Chunks that come together are kept, and not more is read before they are taken."""
    pieces = events(*"abcdefgh")
    body = FakeStream(b"".join(pieces[:6]), *pieces[6:])
    with post(transport=lambda made: _fake(made, lambda: body)) as world:

        async def run() -> None:
            async with reading(world) as found:
                for letter in "abcde":
                    assert (await anext(found)).text == letter
                    await asyncio.sleep(1.0)
                    assert body.reads == 1
                assert [event.text async for event in found if isinstance(event, LMChunk)] == list("fgh")

        world.system.run(run())
        balanced(world)


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "cause", "row"),
    [
        (Cut(text="a b c", after_pieces=2), LMProtocolError, "interrupted"),
        (Cut(text="a b c", after_pieces=2, silent=True), LMProtocolError, "interrupted"),
        (Hang(text="a b c", after_pieces=2), LMTimeout, "interrupted"),
    ],
)
def test_a_failure_after_the_first_chunk(bad: Any, cause: type[LMError], row: str) -> None:
    """No second attempt; the last item says what came, how it ended, and what is known of the usage."""
    with post() as world:
        world.rules(Rule(bad, pause=1.0))
        *chunks, end = reads(world)
        assert [chunk.text for chunk in chunks] == ["a", " b"]
        error = end.error
        assert isinstance(error, StreamInterrupted)
        assert end.response is None
        assert error.facts["text"] == "a b"
        assert error.facts["cause"] == cause.code
        assert (error.facts["failure"], error.facts["retryable"]) == (row, False)
        assert error.facts["usage"].total_tokens is None
        assert (error.provider, error.facts["model"], len(error.attempts)) == ("p", "m", 1)
        assert world.sent == 1
        assert world.book.ends == [row]
        assert [(type(one), one.tokens) for one in world.book.paid] == [(SettleBudget, None)]
        (event,) = world.of("lm_error")
        assert (event.partial, event.stream, event.code) == (True, True, "lm_stream_interrupted")
        balanced(world)


def test_usage_that_was_told_before_it_broke_is_used() -> None:
    """Partial usage is what is settled."""
    pieces = events("a", finish=None, usage=(11, 3))
    body = FakeStream(*pieces, lm_error("protocol", "cut"))
    with post(transport=lambda made: _fake(made, lambda: body)) as world:
        *_, end = reads(world)
        assert end.error.facts["usage"].total_tokens == 14
        assert [one.tokens for one in world.book.paid] == [14]


def test_the_reader_leaves() -> None:
    """The request ends with it; nothing is told against the provider; what was used nobody knows."""
    with post() as world:
        world.rules(Rule("a b c d", pause=1.0))

        async def run() -> None:
            async with reading(world) as found:
                await anext(found)

        world.system.run(run())
        world.system.settle()
        assert world.script.cancelled == 1
        assert world.book.ends == ["cancelled"]
        assert [(type(one), one.tokens) for one in world.book.paid] == [(SettleBudget, None)]
        assert world.system.call("provider/p", ProviderStatus()).errors == {"cancelled": 1}
        balanced(world)


def test_nobody_subscribes() -> None:
    """The request does not run on for nobody."""
    with post() as world:
        world.rules(Rule("a b c d", pause=1.0))
        world.system.run(world.opening())
        world.system.advance(SUBSCRIBE_PATIENCE - 1.0)
        assert running(world) == 1
        world.system.advance(2.0)
        assert world.script.cancelled == 1
        assert world.book.ends == ["cancelled"]
        balanced(world)


def test_nobody_connects() -> None:
    """Whoever started it is gone: it ends, and has sent nothing."""
    with post() as world:
        ask = OpenStream(LMRequest((Message("user", "Hi"),)))
        made = settings()
        lease = LeasedTransport(world.script.transport(made), lambda lease: None)
        setup = Setup("p", made, wire_format("openai"), lease, House())
        world.system.spawn(LMStream, setup, ask, world.system.address("provider/p"), name="demo/stream")
        world.system.advance(SUBSCRIBE_PATIENCE + 1.0)
        assert world.system.state("demo/stream") != "running"
        assert world.sent == 0


def test_opening_may_take_longer_than_a_reader_is_waited_for() -> None:
    """Attempts and pauses before the first chunk are not the time that a reader has."""
    with post(first_chunk_timeout=200.0) as world:
        world.rules(Rule("a b", delay=3.0 * SUBSCRIBE_PATIENCE))
        *chunks, _ = reads(world)
        assert len(chunks) == 2
        balanced(world)


@pytest.mark.parametrize("max_demand", [1, 100])
def test_a_killed_stream(max_demand: int) -> None:
    """Its reader is told, its request ends, the provider counts it out."""
    with post() as world:
        world.rules(Rule("a b c d", pause=5.0))

        async def run() -> None:
            opened = await world.opening()
            found = stream(opened.address, world.system.engine, max_demand=max_demand, cancel="transient")
            await anext(found)
            world.system.engine.kill(opened.address)
            with pytest.raises(ActorDied):
                [event async for event in found]

        world.system.run(run())
        world.system.settle()
        assert world.script.cancelled == 1
        status = world.system.call("provider/p", ProviderStatus())
        assert (status.in_flight, status.errors) == (0, {"killed": 1})
        assert running(world) == 0


@pytest.mark.parametrize("begun", [False, True])
def test_a_killed_stream_is_told_by_a_name_that_users_know(begun: bool) -> None:
    """Killed before anybody subscribed or while it is read: the error says whose stream it was, and why it ended."""
    with post() as world:
        world.rules(Rule("a b c d", pause=5.0))

        async def run() -> None:
            opened = await world.opening()
            found = stream(opened.address, world.system.engine, max_demand=1, cancel="permanent")
            if begun:
                await anext(found)
            world.system.engine.kill(opened.address)
            with pytest.raises(ActorDied if begun else NoProcess, match=r"ended \(killed\).* of streams/p") as caught:
                [event async for event in found]
            assert caught.value.facts["reason"] == "killed"

        world.system.run(run())


def test_a_defect_ends_the_stream_with_its_reason() -> None:
    """What is no failure of the provider is no answer either: the reader hears of the crash."""

    def answer() -> FakeStream:
        return FakeStream(*events("a", finish=None, usage=None), 42)  # type: ignore[arg-type]

    with post(transport=lambda made: _fake(made, answer)) as world:

        async def run() -> None:
            async with reading(world) as found:
                assert (await anext(found)).text == "a"
                with pytest.raises(ActorDied) as caught:
                    await anext(found)
                assert isinstance(caught.value.reason, Crash)

        world.system.run(run())
        assert running(world) == 0
        assert world.system.call("provider/p", ProviderStatus()).in_flight == 0
