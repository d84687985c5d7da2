"""Dispatchers, buffers and accounting, without actors."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from dspex.runtime.errors import SpecError, UsageError
from dspex.runtime.stages import (
    Account,
    BroadcastDispatcher,
    DemandDispatcher,
    PartitionDispatcher,
    SubscriptionRefused,
)
from dspex.runtime.stages.buffer import new_buffer
from kit.stages import Links


def linked(dispatcher: Any, *names: str, **options: Any) -> list[Links]:
    """Links that subscribed, in order."""
    links = [Links(name) for name in names]
    for link in links:
        assert dispatcher.subscribe(link, options) == 0
    return links


# -- accounting ------------------------------------------------------------------------------------


def test_the_examples_of_the_rule() -> None:
    """STG-04: asks leave when at most min_demand events are outstanding, after the chunk, up to max_demand."""
    account = Account(10, 4)
    assert account.cut("abc") == [("abc", 0)]
    assert account.cut("de") == [("de", 0)]
    assert account.cut("f") == [("f", 6)]
    assert [(len(part), ask) for part, ask in Account(1000, 500).cut(range(1000))] == [(500, 500), (500, 500)]
    assert [ask for _, ask in Account(5, 4).cut("abc")] == [1, 1, 1]


def test_more_than_was_asked_for_is_not_asked_for_again() -> None:
    """STG-04: surplus counts neither below 0 nor for what is still to come."""
    account = Account(4, 0)
    assert account.surplus(6) == 2
    assert [ask for _, ask in account.cut("abcdef")] == [4, 0]
    assert account.outstanding == 4
    assert [ask for _, ask in account.cut("abc")] == [0]
    assert [ask for _, ask in account.cut("def")] == [4]
    assert account.outstanding == 4


# -- buffer ----------------------------------------------------------------------------------------


def test_a_full_buffer_keeps_the_last_or_the_first() -> None:
    """STG-41: keep last drops the oldest, keep first the newest, and the number is told."""
    last, first = new_buffer(3, "last"), new_buffer(3, "first")
    for buffer in (last, first):
        assert buffer.store("ab") == (0, [])
        assert buffer.store("cde")[0] == 2
    assert (last.take(9)[0], first.take(9)[0]) == (("c", "d", "e"), ("a", "b", "c"))


def test_infos_stand_behind_the_events_before_them() -> None:
    """STG-50: in a limited buffer an info goes with the event before it, in an unlimited one after it."""
    limited, unlimited = new_buffer(9, "last"), new_buffer(None, "last")
    for buffer in (limited, unlimited):
        buffer.store("ab")
        buffer.add_info(1)
        buffer.add_info(2)
        buffer.store("c")
    assert limited.take(2) == (("a", "b"), [1, 2])
    assert unlimited.take(2) == (("a", "b"), [])
    assert [unlimited.take(1), unlimited.take(1), unlimited.take(1)] == [((), [1]), ((), [2]), (("c",), [])]


def test_only_an_unlimited_buffer_counts_infos() -> None:
    """STG-43: the estimate counts events, in an unlimited buffer infos too."""
    for size, count in ((9, 1), (None, 2)):
        buffer = new_buffer(size, "last")
        buffer.store("a")
        buffer.add_info(1)
        assert buffer.count == count


def test_infos_are_released_when_their_events_are_dropped() -> None:
    """STG-51: infos are never discarded."""
    buffer = new_buffer(2, "last")
    buffer.store("ab")
    buffer.add_info(1)
    assert buffer.store("c") == (1, [])
    assert buffer.store("d") == (1, [1])


# -- demand ----------------------------------------------------------------------------------------


def test_asks_add_up_and_the_rest_comes_back() -> None:
    """DSP-01: nobody gets more than asked; what nobody asked for comes back."""
    dispatcher = DemandDispatcher()
    (a,) = linked(dispatcher, "a")
    assert [dispatcher.ask(a, 2), dispatcher.ask(a, 1)] == [2, 1]
    assert dispatcher.dispatch(tuple("abcde")) == ("d", "e")
    assert a.sent == [("a", "b", "c")]


def test_the_highest_demand_first_and_ties_in_order() -> None:
    """DSP-02: the first is filled completely, put back by its rest, then the next."""
    dispatcher = DemandDispatcher(max_demand=9)
    a, b, c = linked(dispatcher, "a", "b", "c")
    for link, count in ((a, 2), (b, 3), (c, 2)):
        dispatcher.ask(link, count)
    assert dispatcher.dispatch((1,)) == ()
    assert (a.sent, b.sent) == ([], [(1,)])  # b has 2 left, and reached it last
    assert dispatcher.dispatch((2, 3, 4)) == ()
    assert (a.sent, b.sent, c.sent) == ([(2, 3)], [(1,)], [(4,)])
    assert dispatcher.dispatch((5, 6, 7, 8)) == (8,)
    assert (b.events, c.events) == ([1, 5, 6], [4, 7])


def test_the_demand_of_one_that_left_is_pending() -> None:
    """DSP-03: what was asked upstream for it is not asked again; events nobody took reduce it."""
    dispatcher = DemandDispatcher()
    a, b = linked(dispatcher, "a", "b")
    dispatcher.ask(a, 5)
    assert dispatcher.cancel(a) == 0
    assert dispatcher.ask(b, 2) == 0
    assert dispatcher.dispatch((1, 2, 3)) == (3,)
    assert dispatcher.ask(b, 4) == 2


def test_only_the_first_dispatch_shuffles() -> None:
    """DSP-04: once, not again."""

    class Counted(random.Random):
        shuffled = 0

        def shuffle(self, x: Any) -> None:
            self.shuffled += 1

    rng = Counted()
    dispatcher = DemandDispatcher(shuffle_demands_on_first_dispatch=True, rng=rng)
    (a,) = linked(dispatcher, "a")
    dispatcher.ask(a, 2)
    assert rng.shuffled == 0
    for event in (1, 2):
        dispatcher.dispatch((event,))
        assert rng.shuffled == 1


def test_consumers_are_shuffled_once() -> None:
    """DSP-04: before the first dispatch, and never again."""
    first: set[str] = set()
    for seed in range(20):
        dispatcher = DemandDispatcher(shuffle_demands_on_first_dispatch=True, rng=random.Random(seed))
        links = linked(dispatcher, "a", "b", "c")
        for link in links:
            dispatcher.ask(link, 1)
        dispatcher.dispatch((1,))
        first |= {link.consumer for link in links if link.sent}
        for link in links:
            dispatcher.ask(link, 1)
        dispatcher.dispatch((2, 3, 4, 5, 6))
        assert sum(len(link.events) for link in links) == 6
    assert first == {"a", "b", "c"}


def test_a_greedy_ask_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    """DSP-05: an ask above max_demand, or above the first ask, is logged and counts."""
    for dispatcher in (DemandDispatcher(max_demand=2), DemandDispatcher()):
        (a,) = linked(dispatcher, "a")
        with caplog.at_level(logging.WARNING, "dspex.stages"):
            assert dispatcher.ask(a, 2) == 2
            assert not caplog.records
            assert dispatcher.ask(a, 3) == 3
        assert "max_demand=2" in caplog.text
        caplog.clear()


# -- broadcast -------------------------------------------------------------------------------------


def test_everything_goes_to_everybody_at_the_pace_of_the_slowest() -> None:
    """DSP-10: never above the smallest demand; the rest comes back."""
    dispatcher = BroadcastDispatcher()
    a, b = linked(dispatcher, "a", "b")
    assert dispatcher.ask(a, 3) == 0
    assert dispatcher.ask(b, 2) == 2
    assert dispatcher.dispatch((1, 2, 3)) == (3,)
    assert a.sent == b.sent == [(1, 2)]
    assert dispatcher.ask(b, 4) == 1  # a has one left


def test_a_newcomer_blocks_until_it_asks_or_leaves() -> None:
    """DSP-11: waiting goes back to the others' surplus; the cancel of the blocking one frees it."""
    dispatcher = BroadcastDispatcher()
    (a,) = linked(dispatcher, "a")
    assert dispatcher.ask(a, 3) == 3
    (b,) = linked(dispatcher, "b")
    assert dispatcher.dispatch((1,)) == (1,)
    assert dispatcher.cancel(b) == 0
    assert dispatcher.dispatch((1,)) == ()
    assert a.sent == [(1,)]


def test_upstream_is_never_asked_twice_for_the_same() -> None:
    """DSP-12: what was requested and not dispatched is not requested again, also after the last left."""
    dispatcher = BroadcastDispatcher()
    (a,) = linked(dispatcher, "a")
    assert dispatcher.ask(a, 3) == 3
    (b,) = linked(dispatcher, "b")
    assert dispatcher.ask(b, 3) == 0
    assert dispatcher.cancel(a) == 0
    assert dispatcher.cancel(b) == 0
    assert dispatcher.dispatch((1,)) == (1,)
    (c,) = linked(dispatcher, "c")
    assert dispatcher.ask(c, 5) == 2


def test_one_process_subscribes_once() -> None:
    """DSP-13: a second subscription of one consumer is refused; after a cancel it may come again."""
    dispatcher = BroadcastDispatcher()
    (a,) = linked(dispatcher, "a")
    with pytest.raises(SubscriptionRefused, match="already_subscribed"):
        dispatcher.subscribe(Links("a"), {})
    dispatcher.cancel(a)
    linked(dispatcher, "a")


def test_a_selector_chooses() -> None:
    """DSP-14: what it refuses is not sent but asked for again; an empty batch may be sent."""
    dispatcher = BroadcastDispatcher()
    (even,) = linked(dispatcher, "even", selector=lambda event: event % 2 == 0)
    (every,) = linked(dispatcher, "every")
    for link in (even, every):
        dispatcher.ask(link, 4)
    dispatcher.dispatch((1, 2, 3))
    dispatcher.dispatch((5,))
    assert (even.sent, even.again) == ([(2,), ()], [2, 1])
    assert (every.sent, every.again) == ([(1, 2, 3), (5,)], [])
    with pytest.raises(SpecError, match="selector"):
        dispatcher.subscribe(Links("x"), {"selector": "even"})


# -- partition -------------------------------------------------------------------------------------


def partitioned(**options: Any) -> tuple[PartitionDispatcher, Links, Links, list[Any]]:
    """Two partitions with a consumer each, and the infos that came."""
    dispatcher = PartitionDispatcher(2, **options)
    infos: list[Any] = []
    dispatcher.on_info(infos.append)
    (zero,) = linked(dispatcher, "zero", partition=0)
    (one,) = linked(dispatcher, "one", partition=1)
    return dispatcher, zero, one, infos


def test_events_go_by_their_hash() -> None:
    """DSP-20: as many are hashed as were asked for; None drops an event and uses no demand."""
    dispatcher, zero, one, _ = partitioned(hash=lambda event: None if event == 9 else (-event, event % 2))
    assert dispatcher.ask(zero, 2) == 2
    assert dispatcher.dispatch((2, 9, 4, 6)) == (6,)
    assert (zero.sent, one.sent) == ([(-2, -4)], [])


def test_one_consumer_for_each_partition() -> None:
    """DSP-21: a partition that is taken raises, a free one is taken again."""
    dispatcher, zero, _, _ = partitioned()
    with pytest.raises(SpecError, match="taken by 'zero'"):
        dispatcher.subscribe(Links("x"), {"partition": 0})
    dispatcher.cancel(zero)
    linked(dispatcher, "x", partition=0)


def test_a_partition_without_demand_queues() -> None:
    """DSP-22: its events wait in it; its cancel drops them and asks for as many, or its demand is pending."""
    dispatcher, zero, one, _ = partitioned()
    dispatcher.ask(zero, 4)
    assert dispatcher.dispatch((1, 3, 2)) == ()
    assert (zero.sent, one.sent) == ([(2,)], [])
    assert dispatcher.ask(one, 1) == 1
    assert one.sent == [(1,)]
    assert dispatcher.cancel(one) == 1  # 3 is dropped
    assert dispatcher.cancel(zero) == 0  # 3 are pending
    (again,) = linked(dispatcher, "again", partition=1)
    assert dispatcher.ask(again, 5) == 2


def test_infos_wait_for_the_queues_there_are() -> None:
    """DSP-23: delivered when the last queue that existed has passed them; at once if there was none."""
    dispatcher, zero, one, infos = partitioned()
    dispatcher.info("early")
    assert infos == ["early"]
    dispatcher.ask(one, 1)
    dispatcher.dispatch((1,))  # what was asked for is out: from here its partition has a queue, though empty
    dispatcher.info("behind")
    assert infos == ["early"]
    dispatcher.ask(one, 1)
    dispatcher.dispatch((5, 7))
    assert infos == ["early", "behind"]
    infos.remove("behind")
    dispatcher.cancel(one)
    (one,) = linked(dispatcher, "one", partition=1)
    dispatcher.ask(zero, 3)
    dispatcher.dispatch((1, 3))
    dispatcher.info("late")
    dispatcher.ask(one, 1)
    assert infos == ["early"]
    dispatcher.ask(one, 2)
    assert infos == ["early", "late"]
    dispatcher.dispatch((2, 5, 7, 9))
    dispatcher.info("dropped")
    dispatcher.cancel(one)
    assert infos == ["early", "late", "dropped"]


@pytest.mark.parametrize(
    ("options", "match"),
    [({}, "got None"), ({"partition": 7}, "one of 0, 1"), ({"partition": "x"}, "got 'x'")],
)
def test_wrong_partitions_raise(options: dict[str, Any], match: str) -> None:
    """DSP-24: a missing or unknown partition at subscribe raises."""
    dispatcher = partitioned()[0]
    with pytest.raises(SpecError, match=match):
        dispatcher.subscribe(Links("x"), options)


@pytest.mark.parametrize(("answer", "match"), [((1, 7), "got 7"), (5, "got int"), ((1, 2, 3), "got tuple")])
def test_wrong_hashes_raise(answer: Any, match: str) -> None:
    """DSP-24: an unknown partition from hash, or no pair, raises."""
    dispatcher, zero, _, _ = partitioned(hash=lambda event: answer)
    dispatcher.ask(zero, 1)
    with pytest.raises(UsageError, match=match):
        dispatcher.dispatch((1,))


def test_partitions_are_required() -> None:
    """DSP-20: no partitions, and names without a hash function, are refused."""
    for partitions in (0, None, (), "ab", True):
        with pytest.raises(SpecError, match="partitions"):
            PartitionDispatcher(partitions)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="hash"):
        PartitionDispatcher(["odd", "even"])
    named = PartitionDispatcher(["odd", "even"], hash=lambda event: (event, "odd" if event % 2 else "even"))
    (odd,) = linked(named, "odd", partition="odd")
    named.ask(odd, 2)
    named.dispatch((1, 2))
    assert odd.sent == [(1,)]


def test_texts_are_hashed_alike_in_every_process() -> None:
    """DSP-20: the default hash of what is no integer is the CRC-32 of its text."""
    dispatcher, zero, one, _ = partitioned()
    for link in (zero, one):
        dispatcher.ask(link, 4)
    dispatcher.dispatch(("a", "b", "c", "d"))
    assert (zero.events, one.events) == (["d"], ["a", "b", "c"])
