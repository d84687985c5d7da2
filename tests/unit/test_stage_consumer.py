"""Consumers: subscriptions, asks, batches, ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from dspex.runtime.errors import SpecError, UsageError
from dspex.runtime.gen_server import StartFailed, Stop
from dspex.runtime.reasons import Crash
from dspex.runtime.stages import Consumer, Subscribe, SubscribeOptions, Subscription, stream
from dspex.runtime.stages.messages import Ask, Cancel, Cancelled, Events, Request
from kit.engine import Lab, Probe, in_lab
from kit.stages import Do, Numbers, Seen, Taker


class HandMade(Probe):
    """A producer by hand: the test sees what it gets, and sends what it likes."""


async def by_hand(lab: Lab, cls: type[Consumer] = Taker, **options: Any) -> tuple[Any, list[Any], Seen, str]:
    """A consumer below a producer by hand: consumer, what the producer got, what the consumer saw, the ref."""
    got: list[Any] = []
    producer = await lab.start(HandMade, got)
    seen = Seen()
    consumer = await lab.start(cls, seen, producer, kwargs=options)
    await lab.settle()
    return consumer, got, seen, got[0].ref


def asking(count: int, number: int = 0) -> Do:
    """Has a consumer ask in one of its subscriptions."""
    return Do(lambda stage: stage.ask(stage.seen.subscriptions[number], count))


def send(lab: Lab, consumer: Any, message: Any) -> None:
    """As a producer would."""
    lab.engine.send(consumer, message, None)


# -- asks ------------------------------------------------------------------------------------------


def test_subscribing_asks_for_max_demand_at_once() -> None:
    """STG-02, STG-03: the request, with all options and their defaults, and the first ask."""

    async def test(lab: Lab) -> None:
        _, got, _, ref = await by_hand(lab, partition=1)
        how = {"max_demand": 1000, "min_demand": 500, "cancel": "permanent"}
        assert got == [Request(ref, {**how, "partition": 1}, None), Ask(ref, 1000)]
        assert SubscribeOptions(7).minimum == 3

    in_lab(test)


def test_the_producer_is_monitored() -> None:
    """STG-03: its end reaches the consumer though they are not linked."""

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers, kwargs={"silent": True})
        seen = Seen()
        await lab.start(Taker, seen, producer, kwargs={"cancel": "temporary"})
        lab.engine.kill(producer)
        await lab.settle()
        assert seen.cancels == [("down", "killed")]

    in_lab(test)


def test_batches_and_asks() -> None:
    """STG-04: chunks of at most max - min, an ask after the chunk that brings outstanding to min."""

    async def test(lab: Lab) -> None:
        consumer, got, seen, ref = await by_hand(lab, max_demand=10, min_demand=4)
        send(lab, consumer, Events(ref, 0, (1, 2, 3)))
        send(lab, consumer, Events(ref, 3, (4, 5)))
        await lab.settle()
        assert got[2:] == []
        send(lab, consumer, Events(ref, 5, (6,)))
        await lab.settle()
        assert got[2:] == [Ask(ref, 6)]
        send(lab, consumer, Events(ref, 6, tuple(range(10))))
        await lab.settle()
        assert got[3:] == [Ask(ref, 6)]
        assert [len(batch) for batch in seen.batches] == [3, 2, 1, 6, 4]

    in_lab(test)


def test_the_ask_leaves_after_the_chunk_was_handled() -> None:
    """STG-04: an async handle_events delays the next ask, and the next batch."""
    order: list[Any] = []

    class Slow(Taker):
        async def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> None:
            await asyncio.sleep(1.0)
            order.append(events)

    async def test(lab: Lab) -> None:
        consumer, got, _, ref = await by_hand(lab, Slow, max_demand=2, min_demand=1)
        send(lab, consumer, Events(ref, 0, (1, 2)))
        await asyncio.sleep(0.5)
        assert (order, got[2:]) == ([], [])
        await asyncio.sleep(1.0)
        assert (order, got[2:]) == ([(1,)], [Ask(ref, 1)])
        await asyncio.sleep(1.0)
        assert (order, got[2:]) == ([(1,), (2,)], [Ask(ref, 1), Ask(ref, 1)])

    in_lab(test)


def test_surplus_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """STG-04: more than was asked for is handled, and an error is logged."""

    async def test(lab: Lab) -> None:
        consumer, _, seen, ref = await by_hand(lab, max_demand=2, min_demand=0)
        with caplog.at_level(logging.ERROR, "dspex.stages"):
            send(lab, consumer, Events(ref, 0, (1, 2, 3)))
            await lab.settle()
        assert "surplus=1" in caplog.text
        assert seen.events == [1, 2, 3]
        consumer, _, seen, ref = await by_hand(lab, max_demand=4, min_demand=0)
        with caplog.at_level(logging.ERROR, "dspex.stages"):
            for first in (0, 3):
                send(lab, consumer, Events(ref, first, (1, 2, 3)))
            await lab.settle()
        assert "surplus=2" in caplog.text
        assert len(seen.events) == 6

    in_lab(test)


def test_manual_mode() -> None:
    """STG-05: no asks but its own, 0 sends nothing, batches are not split."""

    async def test(lab: Lab) -> None:
        consumer, got, seen, ref = await by_hand(lab, manual=True, max_demand=2)
        for count in (0, 3):
            await lab.call(consumer, asking(count))
        await lab.settle()
        assert got[1:] == [Ask(ref, 3)]
        send(lab, consumer, Events(ref, 0, tuple(range(5))))
        await lab.settle()
        assert (seen.batches, got[2:]) == ([(0, 1, 2, 3, 4)], [])
        reason = (await lab.error(consumer, Do(lambda stage: stage.ask(stage.seen.subscriptions[0], -1)))).reason
        assert isinstance(reason, Crash)
        assert isinstance(reason.error, SpecError)

    in_lab(test)


def test_handle_subscribe_may_answer_nothing_else() -> None:
    """STG-05: anything but automatic, manual or Stop ends the consumer."""

    class Odd(Taker):
        answer: Any = None

        def handle_subscribe(self, role: str, options: Any, subscription: Any) -> Any:
            return self.answer

    class Ends(Odd):
        answer = Stop("closed")

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers)
        for cls, reason in ((Odd, ("bad_return_value", None)), (Ends, "closed")):
            assert await lab.engine.spawn(cls, (None, producer)) == StartFailed(reason)

    in_lab(test)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_demand": 0}, "max_demand: expected a whole number from 1, got 0"),
        ({"max_demand": True}, "max_demand"),
        ({"max_demand": 5, "min_demand": 5}, "from 0 to 4"),
        ({"min_demand": -1}, "min_demand"),
        ({"cancel": "permanant"}, "did you mean 'permanent'"),
    ],
)
def test_bad_subscription_options(options: dict[str, Any], match: str) -> None:
    """STG-02: refused with ("bad_opts", text), where they are made."""
    with pytest.raises(SpecError, match=match) as caught:
        SubscribeOptions(**options)
    assert caught.value.reason[0] == "bad_opts"


# -- events ----------------------------------------------------------------------------------------


def test_a_consumer_emits_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """STG-61: events it returns are logged and dropped; it lives on."""

    class Returns(Taker):
        def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> Any:
            super().handle_events(events, subscription)
            return events

    async def test(lab: Lab) -> None:
        consumer, _, seen, ref = await by_hand(lab, Returns)
        with caplog.at_level(logging.ERROR, "dspex.stages"):
            send(lab, consumer, Events(ref, 0, (1,)))
            send(lab, consumer, Events(ref, 1, (2,)))
            await lab.settle()
        assert "does not emit" in caplog.text
        assert seen.events == [1, 2]

    in_lab(test)


def test_a_stop_of_handle_events_ends_it_before_the_next_chunk() -> None:
    """handle_events may end the consumer; what came behind is lost with it (STG-10)."""

    class Ends(Taker):
        def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> Any:
            super().handle_events(events, subscription)
            return Stop("enough")

    async def test(lab: Lab) -> None:
        for count in (1, 4):
            consumer, _, seen, ref = await by_hand(lab, Ends, max_demand=2, min_demand=1)
            send(lab, consumer, Events(ref, 0, tuple(range(count))))
            assert await lab.down(consumer) == "enough"
            assert seen.events == [0]

    in_lab(test)


def test_events_of_an_unknown_subscription_are_cancelled() -> None:
    """STG-14: their sender is told unknown_subscription."""

    async def test(lab: Lab) -> None:
        got: list[Any] = []
        stranger = await lab.start(Probe, got)
        consumer = await lab.start(Taker)
        lab.engine.send(consumer, Events("x", 0, (1,)), stranger.cell)
        await lab.settle()
        assert got == [Cancel("x", "unknown_subscription")]

    in_lab(test)


# -- ends ------------------------------------------------------------------------------------------

ENDS = ("normal", "shutdown", "broken")
MODES: dict[str, Callable[[str], bool]] = {
    "permanent": lambda reason: True,
    "transient": lambda reason: reason == "broken",
    "temporary": lambda reason: False,
}


@pytest.mark.parametrize("kind", ["cancel", "down"])
@pytest.mark.parametrize("reason", ENDS)
@pytest.mark.parametrize("mode", MODES)
def test_a_producer_that_cancels_or_dies(mode: str, reason: str, kind: str) -> None:
    """STG-11: handle_cancel first, then by mode the exit, with the bare reason; normal ends a permanent one too."""

    async def test(lab: Lab) -> None:
        producer, seen = await lab.start(Numbers, kwargs={"silent": True}), Seen()
        consumer = await lab.start(Taker, seen, producer, kwargs={"cancel": mode})
        await lab.settle()
        if kind == "down":
            lab.engine.stop_actor(producer, reason)
        else:
            await lab.call(producer, Do(lambda stage: stage.cancel_consumer(stage.seen.subscriptions[0], reason)))
        await lab.settle()
        assert seen.cancels == [(kind, reason)]
        assert lab.engine.alive(consumer) is not MODES[mode](reason)
        if not lab.engine.alive(consumer):
            assert await lab.down(consumer) == reason

    in_lab(test)


@pytest.mark.parametrize("mode", MODES)
def test_a_producer_that_is_not_there(mode: str) -> None:
    """STG-12: in init the start fails with noproc, later the answer is a subscription and then the consumer exits."""

    async def test(lab: Lab) -> None:
        dead = await lab.start(Numbers)
        lab.engine.kill(dead)
        for target in (dead, "producer/none"):
            consumer = await lab.start(Taker)
            options = SubscribeOptions(cancel=mode)  # type: ignore[arg-type]
            assert isinstance(await lab.call(consumer, Subscribe(target, options)), Subscription)
            await lab.settle()
            outcome = await lab.engine.spawn(Taker, (None, target), {"cancel": mode})
            if mode == "temporary":
                assert lab.engine.alive(consumer)
                assert not isinstance(outcome, StartFailed)
            else:
                assert await lab.down(consumer) == "noproc"
                assert outcome == StartFailed("noproc")

    in_lab(test)


def test_what_is_no_producer_is_refused() -> None:
    """STG-14: subscribing to another kind of actor fails at once, and leaves that one alone."""

    async def test(lab: Lab) -> None:
        other = await lab.start(Taker)
        consumer = await lab.start(Taker)
        assert isinstance(await lab.error(consumer, Subscribe(other)), UsageError)
        outcome = await lab.engine.spawn(Taker, (None, other))
        assert isinstance(outcome, StartFailed)
        assert isinstance(outcome.reason.error, UsageError)
        with pytest.raises(UsageError, match="expected a producer"):
            await anext(stream(other, lab.engine))
        await lab.settle()
        assert len(lab.engine.cells) == 2

    in_lab(test)


def test_handle_cancel_may_stop_a_temporary_one() -> None:
    """STG-11: what handle_cancel says goes before the mode."""

    class Ends(Taker):
        def handle_cancel(self, kind: str, reason: Any, subscription: Any) -> Stop:
            return Stop("own reason")

    async def test(lab: Lab) -> None:
        producer = await lab.start(Numbers)
        consumer = await lab.start(Ends, None, producer, kwargs={"cancel": "temporary"})
        lab.engine.kill(producer)
        assert await lab.down(consumer) == "own reason"

    in_lab(test)


def test_resubscribing_ends_the_old_one_when_the_new_one_comes() -> None:
    """STG-13: the producer cancels it with the reason; an unknown old ref is fine."""

    async def test(lab: Lab) -> None:
        made, seen = Seen(), Seen()
        producer = await lab.start(Numbers, made)
        consumer = await lab.start(Taker, seen, producer, kwargs={"cancel": "temporary", "manual": True})
        await lab.settle()
        options = SubscribeOptions(cancel="temporary")
        old = seen.subscriptions[0]
        await lab.call(consumer, Subscribe(producer, options, old, "moved"))
        await lab.settle()
        assert (made.cancels, seen.cancels) == ([("cancel", "moved")], [("cancel", "moved")])
        await lab.call(consumer, Subscribe(producer, options, old, "moved again"))
        await lab.settle()
        assert (len(made.subscriptions), len(made.cancels)) == (3, 1)
        assert lab.engine.alive(producer)

    in_lab(test)


def test_a_late_end_is_told_once() -> None:
    """A cancel and the producer's end are one end; what comes later for that subscription is ignored."""

    async def test(lab: Lab) -> None:
        consumer, _, seen, ref = await by_hand(lab, cancel="temporary")
        send(lab, consumer, Cancelled(ref, "a"))
        send(lab, consumer, Cancelled(ref, "b"))
        await lab.settle()
        assert seen.cancels == [("cancel", "a")]

    in_lab(test)


def test_one_consumer_of_several_producers() -> None:
    """Each subscription has its own account and order."""

    async def test(lab: Lab) -> None:
        seen, sources = Seen(), [Seen(), Seen()]
        producers = [await lab.start(Numbers, source) for source in sources]
        consumer = await lab.start(Taker, seen, kwargs={"manual": True})
        for producer in producers:
            await lab.call(consumer, Subscribe(producer, SubscribeOptions(max_demand=3)))
        for number, count in ((0, 2), (1, 3), (0, 1)):
            await lab.call(consumer, asking(count, number))
            await lab.settle()
        assert seen.batches == [(0, 1), (0, 1, 2), (2,)]
        assert [source.demand for source in sources] == [[2, 1], [3]]

    in_lab(test)
