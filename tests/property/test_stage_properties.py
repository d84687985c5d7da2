"""The invariants of streams with demand, over random runs (OTP INV-1 to INV-6)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.stages import (
    Account,
    BroadcastDispatcher,
    DemandDispatcher,
    Dispatcher,
    PartitionDispatcher,
    SubscribeOptions,
    stream,
)
from dspex.runtime.stages.buffer import new_buffer
from dspex.runtime.stages.output import Output
from kit.engine import Lab, in_lab
from kit.stages import Between, Links, Numbers, Seen, Taker

DEMANDS = st.integers(1, 20).flatmap(lambda most: st.tuples(st.just(most), st.integers(0, most - 1)))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.just("emit"), st.integers(1, 8), st.just(0)),
        st.tuples(st.just("info"), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["accumulate", "forward"]), st.just(0), st.just(0)),
    ),
    max_size=40,
)


class Bench:
    """A producing half, three links, and what happened; ``exact`` emits what it is asked for, at once."""

    def __init__(self, dispatcher: Dispatcher, size: int | None = None, *, exact: bool = False) -> None:
        self.discarded = 0
        self.infos: list[int] = []
        self.exact = exact
        self.demand: list[int] = []
        self.emitted = 0
        self.noted = 0
        self.output = Output(
            dispatcher,
            new_buffer(size, "last"),
            accumulate=False,
            deliver_info=self.infos.append,
            discarded=self.count_discarded,
        )
        self.links = [Links("a"), Links("b"), Links("c")]
        self.asked = [0, 0, 0]
        for number, link in enumerate(self.links):
            self.meet(self.output.subscribe(link, {"partition": number}))

    def count_discarded(self, count: int) -> None:
        """As a producer would."""
        self.discarded += count

    def meet(self, demand: int) -> None:
        """handle_demand."""
        if demand:
            self.demand.append(demand)
            if self.exact:
                self.emit(demand)

    def emit(self, count: int) -> None:
        """The next numbers."""
        self.emitted += count
        self.output.emit(tuple(range(self.emitted - count, self.emitted)))

    def do(self, operation: tuple[str, int, int]) -> None:
        """One operation."""
        kind, number, count = operation
        if kind == "ask":
            self.asked[number] += count
            self.meet(self.output.ask(self.links[number], count))
        elif kind == "emit" and not self.exact:
            self.emit(number)
        elif kind == "info":
            self.output.info(self.noted)
            self.noted += 1
        elif kind == "accumulate":
            self.output.accumulate()
        elif kind == "forward":
            self.forward()

    def forward(self) -> None:
        """Let go what was kept back."""
        for held in self.output.forward():
            if isinstance(held, tuple):
                self.output.emit(held)
            else:
                self.meet(self.output.serve(held))


def keeps_order(operations: list[tuple[str, int, int]]) -> bool:
    """What is buffered when a producer begins to accumulate goes behind what it emits then (OTP STG-30)."""
    return not any(kind == "accumulate" for kind, _, _ in operations)


KINDS = st.sampled_from([DemandDispatcher, BroadcastDispatcher, lambda: PartitionDispatcher(3)])


@given(DEMANDS, st.lists(st.integers(1, 30), max_size=30))
def test_what_is_asked_and_what_is_outstanding(demand: tuple[int, int], sizes: list[int]) -> None:
    """INV-1: received never exceeds asked, asked minus received never max_demand; STG-04: asks only at min or below."""
    most, least = demand
    account, asked, received = Account(most, least), most, 0
    for size in sizes:
        message = range(min(size, asked - received))  # a producer that keeps the rules
        for chunk, ask in account.cut(message):
            assert 1 <= len(chunk) <= most - least
            received += len(chunk)
            assert ask == 0 or asked - received <= least
            asked += ask
            assert received <= asked <= received + most
        assert asked - received == account.outstanding


@given(KINDS, st.one_of(st.none(), st.integers(1, 9)), OPERATIONS)
def test_order_demand_and_buffer(kind: Any, size: int | None, operations: list[tuple[str, int, int]]) -> None:
    """INV-1, INV-2, INV-3, INV-4: at every moment, for each dispatcher, whatever the consumers and producer do."""
    bench = Bench(kind(), size)
    ordered = keeps_order(operations)
    for operation in operations:
        bench.do(operation)
        for link, asked in zip(bench.links, bench.asked, strict=True):
            assert len(link.events) <= asked  # INV-1
            assert not ordered or link.events == sorted(link.events)  # INV-3
        if kind is not BroadcastDispatcher:
            assert sum(bench.demand) <= sum(bench.asked)  # INV-2
            everything = [event for link in bench.links for event in link.events]
            assert len(everything) == len(set(everything))  # INV-3
        else:
            assert sum(bench.demand) <= min(bench.asked)  # INV-2
            assert bench.links[0].events == bench.links[1].events == bench.links[2].events  # INV-6
        if size is not None:
            assert bench.output.buffered <= size  # INV-4
        assert bench.infos == sorted(bench.infos)


@given(st.one_of(st.none(), st.integers(1, 9)), OPERATIONS)
def test_one_consumer_gets_all_but_what_the_buffer_dropped(
    size: int | None, operations: list[tuple[str, int, int]]
) -> None:
    """INV-3: nothing is lost or doubled, nothing of it and no info is left when enough was asked for."""
    bench = Bench(DemandDispatcher(), size)
    for link in bench.links[1:]:
        bench.output.cancel(link)
    for kind, number, count in operations:
        bench.do((kind, 0 if kind == "ask" else number, count))
    bench.forward()
    for _ in range(2):  # an ask replayed from the queue may have been answered short
        bench.do(("ask", 0, bench.emitted + 1))
    assert bench.output.buffered == 0
    assert len(bench.links[0].events) + bench.discarded == bench.emitted
    events = bench.links[0].events
    assert len(events) == len(set(events))
    assert not keeps_order(operations) or events == sorted(events)
    assert bench.infos == list(range(bench.noted))


@given(st.sampled_from([DemandDispatcher, BroadcastDispatcher]), OPERATIONS)
def test_an_exact_producer_never_has_a_buffer(kind: Any, operations: list[tuple[str, int, int]]) -> None:
    """INV-2: who emits exactly what it is asked never has anything buffered."""
    bench = Bench(kind(), exact=True)
    for operation in operations:
        bench.do(operation)
        if bench.output.held is None and operation[0] != "forward":
            assert bench.output.buffered == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=40), st.lists(st.integers(0, 40), max_size=3))
def test_broadcast_consumers_see_the_same(asks: list[tuple[int, int]], joins: list[int]) -> None:
    """INV-6: from its subscription on each sees what all others see, whenever it came."""
    bench = Bench(BroadcastDispatcher(), exact=True)
    born = [0, 0, 0]
    for step, (number, count) in enumerate(asks):
        for _ in range(joins.count(step)):
            born.append(len(bench.links[0].events))
            bench.links.append(Links(f"late {len(bench.links)}"))
            bench.asked.append(0)
            bench.meet(bench.output.subscribe(bench.links[-1], {}))
        bench.do(("ask", number % len(bench.links), count))
        for link, since in zip(bench.links, born, strict=True):
            assert link.events == bench.links[0].events[since:]


@given(DEMANDS, DEMANDS, st.integers(1, 4), st.integers(0, 60))
def test_who_stops_asking_stops_the_source(
    upper: tuple[int, int], lower: tuple[int, int], factor: int, reads: int
) -> None:
    """INV-5: along a chain at most the sum of max_demand runs ahead; INV-1, INV-3 for the reader at its end."""

    async def test(lab: Lab) -> None:
        made = Seen()
        source = await lab.start(Numbers, made)
        options = SubscribeOptions(*lower)
        how = {"max_demand": upper[0], "min_demand": upper[1]}
        between = await lab.start(Between, Seen(), source, lambda event: [event] * factor, kwargs=how)
        found: list[int] = []
        async with stream((between, options), lab.engine) as events:
            while len(found) < reads:
                found.append(await anext(events))
            await lab.settle()
            read = -(-reads // factor)
            assert sum(made.demand) <= read + 2 * upper[0] + lower[0]
        assert found == [event for event in range(read) for _ in range(factor)][:reads]

    in_lab(test)


@given(st.lists(DEMANDS, min_size=1, max_size=4), st.integers(1, 50))
def test_consumers_share_all_events(demands: list[tuple[int, int]], last: int) -> None:
    """INV-1, INV-3: every event goes to exactly one consumer, in order, none is left behind."""

    async def test(lab: Lab) -> None:
        seen = [Seen() for _ in demands]
        source = await lab.start(Numbers, kwargs={"silent": True})
        for each, (most, least) in zip(seen, demands, strict=True):
            await lab.start(Taker, each, source, kwargs={"max_demand": most, "min_demand": least})
        await lab.settle()
        assert source.cell is not None
        producer = source.cell.instance
        for _ in range(last):
            producer.emit(producer.take(1))
            await lab.settle()
        assert sorted(event for each in seen for event in each.events) == list(range(last))
        assert all(each.events == sorted(each.events) for each in seen)

    in_lab(test)
