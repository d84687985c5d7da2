"""The event-store actor: acknowledgements, losses, queries, subscriptions, and its end."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import ActorAddress

from dspex.actors.events.kinds import Event, LmRequest, stamp
from dspex.actors.events.query import EventQuery
from dspex.actors.events.store import (
    APPENDED,
    LOST,
    NAME,
    Append,
    AppendAcked,
    EventNotification,
    EventStore,
    GetEvent,
    Prune,
    Query,
    StoreStatistics,
    StoreStats,
    Subscribe,
    SubscriptionEnded,
    TraceTree,
    Unsubscribe,
    open_journal,
)
from dspex.actors.journals.memory import MemoryJournal
from dspex.actors.journals.sqlite import SqliteJournal
from dspex.runtime.child_spec import child_spec
from dspex.runtime.context import Context
from dspex.runtime.engine import Engine
from dspex.runtime.errors import CallError, EventInvalid, EventNotFound, StartError, StoreError, StoreUnavailable
from dspex.runtime.gen_server import GenServer, Started, StartFailed, call, info
from dspex.supervisors.supervisor import Supervisor
from kit.event_makers import make


class Shop:
    """An engine with an event store in it."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.told: queue.SimpleQueue[tuple[tuple[str, ...], int, Any]] = queue.SimpleQueue()
        for name in (APPENDED, LOST):
            self.engine.telemetry.attach(f"test-{name[-1]}", name, self._on_telemetry)

    def _on_telemetry(self, event: tuple[str, ...], measurements: Any, metadata: Any, _: Any) -> None:
        self.told.put((event, measurements["count"], metadata.get("code")))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.engine.loop).result(5)

    def spawn(self, cls: type[GenServer], *args: Any, name: str | None = None) -> Any:
        """Start an actor; a failed start is raised."""
        outcome = self.run(self.engine.spawn(cls, args, name=name))
        if isinstance(outcome, StartFailed):
            raise StartError(str(outcome.reason), reason=outcome.reason)
        assert isinstance(outcome, Started)
        return outcome.address

    def start(self, journal: Any) -> Any:
        """Start the store."""
        return self.spawn(EventStore, journal, name=NAME)

    def listen(self) -> tuple[Any, queue.SimpleQueue[Any]]:
        """Start a subscriber; what it hears."""
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        return self.spawn(Listener, heard), heard

    def call(self, message: Any, timeout: float = 5.0) -> Any:
        """Ask the store."""
        return self.engine.call_blocking(NAME, message, timeout)

    def cast(self, message: Any) -> None:
        """Tell the store."""
        self.engine.cast(NAME, message)

    def ids(self, **keys: Any) -> list[str]:
        """The ids a query answers, oldest first."""
        keys.setdefault("order", "oldest")
        return [event.id for event in self.call(Query(EventQuery.of(**keys))).events]

    def end(self, address: Any, reason: Any) -> Any:
        """End an actor with an exit signal as from its parent; its exit reason."""

        async def ended() -> Any:
            self.engine.later_signal(address.cell, reason, None, from_parent=reason != "kill")
            self.engine.flush_signals()
            return (await self.engine.wait_down(address, None))[1]

        return self.run(ended())


class Listener(GenServer):
    """Puts what it hears into a queue."""

    def init(self, heard: queue.SimpleQueue[Any]) -> None:
        self.heard = heard

    @info
    def on_events(self, msg: EventNotification | SubscriptionEnded) -> None:
        self.heard.put(msg)


class HeldJournal(MemoryJournal):
    """A journal whose disk answers only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.held: queue.SimpleQueue[tuple[Sequence[Event], Future[tuple[int, ...]]]] = queue.SimpleQueue()
        self.holding = True

    def append(self, events: Sequence[Event]) -> Future[tuple[int, ...]]:
        if not self.holding:
            return super().append(events)
        future: Future[tuple[int, ...]] = Future()
        self.held.put((events, future))
        return future

    def release(self, error: StoreError | None = None) -> None:
        """The disk answers the next append, from a thread of its own."""
        events, future = self.held.get(timeout=5)
        if error is not None:
            thread = threading.Thread(target=future.set_exception, args=(error,))
        else:
            thread = threading.Thread(
                target=lambda: future.set_result(super(HeldJournal, self).append(events).result())
            )
        thread.start()
        thread.join()


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A fresh engine."""
    shop = Shop()
    yield shop
    shop.engine.stop()


@pytest.fixture(params=["memory", "sqlite"])
def store(shop: Shop, request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """A shop with a running store."""
    in_memory = request.param == "memory"
    shop.start(partial(open_journal, path=tmp_path / "events.db", in_memory=in_memory))
    return shop


def test_an_acknowledged_append_is_stored(store: Shop) -> None:
    """AppendAcked answers the ids once the events can be read; telemetry counts events, not calls."""
    events = (make(id="a"), make(id="b"), make(id="c"))
    assert store.call(AppendAcked(events)) == ("a", "b", "c")
    assert store.ids() == ["a", "b", "c"]
    assert store.call(GetEvent("b")) == events[1]
    assert store.told.get(timeout=5) == (APPENDED, 3, None)
    assert store.call(AppendAcked(())) == ()


def test_a_cast_append_is_stored_too(store: Shop) -> None:
    """Append needs no answer; casts and calls of one sender keep their order."""
    store.cast(Append((make(id="a"),)))
    store.cast(Append((make(id="b"), make(id="c"))))
    store.call(AppendAcked((make(id="d"),)))
    assert store.ids() == ["a", "b", "c", "d"]


def test_a_bad_append_fails_at_the_caller_and_the_store_lives(store: Shop) -> None:
    """The whole batch is refused with the typed error; nothing restarts."""
    store.call(AppendAcked((make(id="a", n=1),)))
    address = store.engine.names.get(NAME).address  # type: ignore[union-attr]
    with pytest.raises(EventInvalid, match="'a'"):
        store.call(AppendAcked((make(id="b"), make(id="a", n=2))))
    with pytest.raises(EventInvalid, match="expected an event, got str"):
        store.call(AppendAcked(("nonsense",)))  # type: ignore[arg-type]
    with pytest.raises(EventNotFound):
        store.call(GetEvent("b"))
    assert store.engine.names.get(NAME).address == address  # type: ignore[union-attr]


def test_a_lost_cast_is_counted_and_told(store: Shop) -> None:
    """Nobody waits for a cast, so its loss shows in telemetry and in the statistics."""
    store.cast(Append((make(id="a"),)))
    store.cast(Append((make(id="b"), make(id="a", n=2))))
    told = {store.told.get(timeout=5) for _ in range(2)}
    assert told == {(APPENDED, 1, None), (LOST, 2, "event_invalid")}
    stats: StoreStatistics = store.call(StoreStats())
    assert (stats.lost, stats.journal.events, stats.journal.refused) == (2, 1, 2)


def test_the_mailbox_does_not_wait_for_the_disk(shop: Shop) -> None:
    """While an append hangs on the disk everything else is answered; its own answer comes later."""
    journal = HeldJournal()
    shop.start(journal)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    asking = threading.Thread(target=lambda: answers.put(shop.call(AppendAcked((make(id="slow"),)))))
    asking.start()
    shop.cast(Append((make(id="cast"),)))
    assert shop.ids() == []
    assert answers.empty()
    journal.release()
    assert answers.get(timeout=5) == ("slow",)
    asking.join()
    journal.release()
    journal.holding = False
    assert shop.ids() == ["slow", "cast"]


def test_a_failing_disk_is_reported_and_survived(shop: Shop) -> None:
    """Calls get the error, casts are counted as lost, and with room again all works."""
    journal = HeldJournal()
    shop.start(journal)
    full = StoreUnavailable("expected room, got none", cause="full")
    failures: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            shop.call(AppendAcked((make(),)))
        except StoreError as error:
            failures.put(error.cause)

    asking = threading.Thread(target=ask)
    asking.start()
    journal.release(full)
    assert failures.get(timeout=5) == "full"
    asking.join()
    shop.cast(Append((make(), make())))
    journal.release(full)
    assert shop.told.get(timeout=5) == (LOST, 2, "store_unavailable")
    journal.holding = False
    shop.call(AppendAcked((make(id="a"),)))
    assert shop.ids() == ["a"]


def test_a_failing_disk_is_logged_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins to fail, not one an event, whatever else is refused in between."""
    journal = HeldJournal()
    shop.start(journal)
    full = StoreUnavailable("expected room, got none", cause="full")
    for error in (full, EventInvalid("expected a new id, got an old one"), full, full):
        shop.cast(Append((make(),)))
        journal.release(error)
        assert shop.told.get(timeout=5)[0] == LOST
    journal.holding = False
    shop.call(StoreStats())
    lines = [record.getMessage() for record in caplog.records if record.name == "dspex.event_store"]
    assert ["store_unavailable" in line for line in lines] == [True, False]


def test_queries_trees_and_pruning(store: Shop) -> None:
    """The store answers queries with pages, a trace as a tree, and forgets on request."""
    store.call(AppendAcked((make("a", id="1", trace_id="t", span_id="x"), make("b", id="2", time=9.0))))
    store.call(AppendAcked((make("c", id="3", trace_id="t", span_id="y", parent_id="x", time=9.0),)))
    page = store.call(Query(EventQuery.of(limit=1)))
    assert ([event.id for event in page.events], page.more) == (["3"], True)
    assert [event.id for event in store.call(Query()).events] == ["3", "2", "1"]
    (root,) = store.call(TraceTree("t"))
    assert [node.span_id for node in root.walk()] == ["x", "y"]
    assert store.call(TraceTree("unknown")) == ()
    assert store.call(Prune(before=5.0)) == 1
    assert store.ids() == ["2", "3"]
    assert store.call(Prune(before=10.0, types=("b",))) == 1


def test_a_raising_predicate_does_not_end_the_store(store: Shop) -> None:
    """The asker gets the error; the store goes on with the same state."""
    store.call(AppendAcked((make(id="a"),)))
    with pytest.raises(StoreError, match="ZeroDivisionError"):
        store.ids(predicate=lambda event: 1 / 0)
    assert store.ids() == ["a"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Append(make()), "expected a tuple of events, got CustomEvent"),  # type: ignore[arg-type]
        (lambda: AppendAcked(5), "expected a tuple of events, got int"),  # type: ignore[arg-type]
        (lambda: AppendAcked(make() for _ in range(2)), "got generator"),  # type: ignore[arg-type]
        (lambda: Query("lm_error"), "expected an EventQuery, got str"),  # type: ignore[arg-type]
        (lambda: Subscribe(ActorAddress(None), {"type": "x"}), "expected an EventQuery, got dict"),  # type: ignore[arg-type]
        (lambda: GetEvent(5), "expected the id of an event, got int"),  # type: ignore[arg-type]
        (lambda: GetEvent("\ud800"), "expected the id of an event"),
        (lambda: Prune("2024-01-01"), "expected seconds since the epoch, got '2024-01-01', at 'before'"),  # type: ignore[arg-type]
        (lambda: Prune(10**400), "expected seconds since the epoch"),
        (lambda: Prune(5.0, "note"), "expected a tuple of types, got str"),  # type: ignore[arg-type]
    ],
)
def test_a_malformed_message_is_refused_where_it_is_made(wrong: Callable[[], Any], says: str) -> None:
    """It never reaches the store, which it would end, or whose log it would empty."""
    with pytest.raises(StoreError, match=re.escape(says)):
        wrong()


# -- subscriptions -----------------------------------------------------------------------------------


def test_subscribers_hear_what_was_stored(store: Shop) -> None:
    """Matching events come in order with their places, from casts and calls, until unsubscribed."""
    listener, heard = store.listen()
    subscription = store.call(Subscribe(listener, EventQuery.of(type="work", where={"data.stage": "dev"})))
    store.cast(Append((make("work", id="1", stage="dev"), make("work", id="2", stage="prod"))))
    store.call(AppendAcked((make("note", id="3", stage="dev"), make("work", id="4", stage="dev"))))
    got: list[tuple[str, int]] = []
    while len(got) < 2:
        news = heard.get(timeout=5)
        assert news.subscription == subscription
        got += zip((event.id for event in news.events), news.seqs, strict=True)
    assert [id for id, _ in got] == ["1", "4"]
    page = store.call(Query(EventQuery.of(order="oldest", type="work", where={"data.stage": "dev"})))
    assert [seq for _, seq in got] == list(page.seqs)
    assert store.call(Unsubscribe(subscription)) is True
    assert store.call(Unsubscribe(subscription)) is False
    store.call(AppendAcked((make("work", stage="dev"),)))
    store.call(StoreStats())
    assert heard.empty()


def test_a_notification_belongs_to_nobodys_trace(store: Shop) -> None:
    """A group holds events of many traces: what a subscriber does about it is not done for who wrote the last one."""
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Tracing(GenServer):
        @info
        def on_events(self, msg: EventNotification) -> None:
            heard.put((self.context.trace_id, self.context.user))

    store.call(Subscribe(store.spawn(Tracing)))
    context = Context("t" * 32, "s" * 16, None, "ann")
    store.engine.call_blocking(NAME, AppendAcked((make(),)), 5.0, context=context)
    trace_id, user = heard.get(timeout=5)
    assert trace_id != context.trace_id
    assert user is None


def test_a_refused_batch_is_not_announced(store: Shop) -> None:
    """Subscribers hear of nothing that is not in the log."""
    listener, heard = store.listen()
    store.call(AppendAcked((make(id="a"),)))
    store.call(Subscribe(listener))
    with pytest.raises(EventInvalid):
        store.call(AppendAcked((make(id="b"), make(id="a", n=2))))
    store.call(AppendAcked((make(id="c"),)))
    assert [event.id for event in heard.get(timeout=5).events] == ["c"]


def test_a_dead_subscriber_is_forgotten(store: Shop) -> None:
    """The store monitors its subscribers; a wrong address is refused."""
    listener, _ = store.listen()
    store.call(Subscribe(listener))
    store.call(Subscribe(listener))
    assert store.call(StoreStats()).subscriptions == 2
    store.end(listener, "kill")
    assert store.call(StoreStats()).subscriptions == 0
    with pytest.raises(StoreError, match="address of a subscriber, got str"):
        store.call(Subscribe("module/qa"))  # type: ignore[arg-type]


def test_a_subscription_whose_predicate_raises_ends(store: Shop) -> None:
    """Its subscriber is told, others and the store go on."""
    bad, bad_heard = store.listen()
    good, good_heard = store.listen()
    bad_id = store.call(Subscribe(bad, EventQuery.of(predicate=lambda event: 1 / 0)))
    store.call(Subscribe(good))
    store.call(AppendAcked((make(id="a"),)))
    ended = bad_heard.get(timeout=5)
    assert isinstance(ended, SubscriptionEnded)
    assert ended.subscription == bad_id
    assert [event.id for event in good_heard.get(timeout=5).events] == ["a"]
    assert store.call(StoreStats()).subscriptions == 1


# -- start and end -----------------------------------------------------------------------------------


def test_a_journal_that_cannot_be_opened_is_a_failed_start(shop: Shop, tmp_path: Path) -> None:
    """The start fails with the typed error, its words included."""
    (tmp_path / "events.db").write_text("not a database " * 100)
    with pytest.raises(StartError, match="move the file away"):
        shop.start(partial(open_journal, path=tmp_path / "events.db"))


def test_a_journal_that_opens_too_late_is_closed(shop: Shop) -> None:
    """A store that is killed while its journal opens leaves no open file and no thread behind."""
    opening, go, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryJournal):
        def close(self) -> None:
            super().close()
            closed.set()

    def slow() -> MemoryJournal:
        opening.set()
        assert go.wait(5)
        return Slow()

    started = asyncio.run_coroutine_threadsafe(shop.engine.spawn(EventStore, (slow,), name=NAME), shop.engine.loop)
    assert opening.wait(5)
    shop.engine.on_engine(shop.engine.kill, NAME)
    assert started.result(5) == StartFailed("killed")
    go.set()
    assert closed.wait(5)


def test_terminate_stores_what_waits_and_closes(shop: Shop, tmp_path: Path) -> None:
    """On an orderly end casts that were taken are stored and the file is closed."""
    opened: list[SqliteJournal] = []

    def open_it() -> SqliteJournal:
        opened.append(SqliteJournal(tmp_path / "events.db"))
        return opened[-1]

    address = shop.start(open_it)
    for n in range(200):
        shop.cast(Append((make(id=f"{n:03}"),)))
    shop.call(StoreStats())
    assert shop.end(address, "shutdown") == "shutdown"
    with pytest.raises(CallError):
        shop.call(StoreStats())
    shop.engine.stop()
    with pytest.raises(StoreUnavailable, match="closed"):
        opened[0].stats()
    again = SqliteJournal(tmp_path / "events.db")
    assert again.stats().events == 200
    again.close()


def test_terminate_answers_who_waits(shop: Shop) -> None:
    """An append that was taken before the order to stop is acknowledged, however slow the disk."""
    journal = HeldJournal()
    address = shop.start(journal)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    asking = threading.Thread(target=lambda: answers.put(shop.call(AppendAcked((make(id="a"),)))))
    asking.start()
    taken = journal.held.get(timeout=5)
    reasons: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ending = threading.Thread(target=lambda: reasons.put(shop.end(address, "shutdown")))
    ending.start()
    barrier = journal.held.get(timeout=5)
    for item in (taken, barrier):
        journal.held.put(item)
        journal.release()
    assert answers.get(timeout=5) == ("a",)
    assert reasons.get(timeout=5) == "shutdown"
    asking.join()
    ending.join()


def test_a_journal_given_open_stays_open(shop: Shop) -> None:
    """An object handed in outlives the actor, killed or not; the next actor reads on."""
    journal = MemoryJournal()
    for n, reason in enumerate(["shutdown", "kill", "shutdown"]):
        address = shop.start(journal)
        shop.call(AppendAcked((make(id=str(n)),)))
        shop.end(address, reason)
    shop.start(journal)
    assert shop.ids() == ["0", "1", "2"]


def test_a_killed_store_comes_back_with_its_log(shop: Shop, tmp_path: Path) -> None:
    """Under a supervisor: killed, it is restarted, opens the file again, and nothing acknowledged is missing."""
    opening: Callable[[], Any] = partial(open_journal, path=tmp_path / "events.db")
    shop.spawn(Supervisor, [child_spec("events", EventStore, opening, name=NAME)])
    acked: list[str] = []
    for n in range(3):
        acked += shop.call(AppendAcked(tuple(make(id=f"{n}-{k}") for k in range(10))))
        address = shop.engine.names.get(NAME).address  # type: ignore[union-attr]
        assert shop.end(address, "kill") == "killed"
    assert shop.ids() == acked
    assert shop.engine.names.get(NAME).restarts == 3  # type: ignore[union-attr]


def test_a_caller_of_a_killed_store_hears_at_once(shop: Shop) -> None:
    """An open acknowledgement does not hang when the store is killed."""
    journal = HeldJournal()
    address = shop.start(journal)
    failures: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            shop.call(AppendAcked((make(id="a"),)), timeout=60.0)
        except CallError as error:
            failures.put(error.code)

    asking = threading.Thread(target=ask)
    asking.start()
    held = journal.held.get(timeout=5)
    journal.held.put(held)
    shop.end(address, "kill")
    assert failures.get(timeout=5) == "actor_died"
    asking.join()
    journal.release()  # the disk answers a dead store: nothing happens


def test_stamp_works_in_an_actor(store: Shop) -> None:
    """An event stamped in a handler carries the trace of its message and the actor's name."""

    class Provider(GenServer):
        @call
        def ask(self, _: str) -> str:
            event = stamp(self, LmRequest, provider="p", model="m", prompt_hash="h")
            self.cast(NAME, Append((event,)))
            return event.id

    store.spawn(Provider, name="provider/p")
    id = store.engine.call_blocking("provider/p", "go", 5.0)
    store.call(AppendAcked(()))
    event = store.call(GetEvent(id))
    assert event.source == "provider/p"
    assert len(event.trace_id) == 32
    assert event.time > 1e9
