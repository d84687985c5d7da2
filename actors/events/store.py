"""The event-store actor, ``core/events``: remembers what happened, in a journal that outlives it.

::

    self.cast("core/events", Append((event,)))                     # told; never waits
    ids = await self.call("core/events", AppendAcked((event,)))    # stored; survives a kill -9
    page = await self.call("core/events", Query(EventQuery.of(type="lm_error", limit=10)))

Its mailbox never waits for the disk. Appends go to the journal's writer; an acknowledgement goes out when the
journal says that the events are stored. Queries run on threads. Events of casts that could not be stored are
counted as lost, reported by telemetry (``dspex.event_store.lost``) and, at the first, in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from typing import cast as cast_type

from thespian.actors import ActorAddress

from ...runtime.calls import Call
from ...runtime.clock import Clock
from ...runtime.errors import ApplicationDown, Error, EventInvalid, StoreError
from ...runtime.gen_server import Fail, GenServer, NoReply, call, cast, info
from ...runtime.log import get_logger
from ...runtime.messages import Down
from ...runtime.reasons import Reason
from ..journal import Journal
from ..journals.memory import MemoryJournal
from ..journals.owned import OwnedJournal
from ..journals.sqlite import Durability, SqliteJournal
from ..journals.sqlite_file import default_path
from .codec import encode, fields_of
from .kinds import Event
from .messages import (
    Append,
    AppendAcked,
    EventNotification,
    GetEvent,
    Prune,
    Query,
    StoreStatistics,
    StoreStats,
    Subscribe,
    SubscriptionEnded,
    TraceTree,
    Unsubscribe,
)
from .query import MAX_LIMIT, EventPage, EventQuery
from .retention import Retention
from .tree import TraceNode, trace_tree

NAME: Final = "core/events"
"""The name under which everybody finds the event store."""
GATHERING: Final = 0.005
"""Seconds that events of casts may wait for others: a transaction for each would hold up whoever emits them."""
APPENDED: Final = ("dspex", "event_store", "appended")
"""Telemetry: events were stored. Measurements: ``count``."""
LOST: Final = ("dspex", "event_store", "lost")
"""Telemetry: events that nobody waited for could not be stored. Measurements: ``count``; metadata: ``code``."""


def open_journal(
    *,
    app: str = "dspex",
    path: str | Path | None = None,
    in_memory: bool = False,
    retention: Retention | None = None,
    durability: Durability = "process",
    max_bytes: int | None = None,
    clock: Clock | None = None,
) -> Journal:
    """Open the journal that the settings ask for.

    Args:
        app: names the file if ``path`` does not: ``<user state dir>/dspex/<app>.db``.
        path: the file.
        in_memory: no file; lasts as long as the object, so hand the object to the actor, not this function.
        retention: what to forget; each journal has its own default.
        durability: ``"process"`` or ``"power"``, see :mod:`dspex.actors.journals.sqlite`.
        max_bytes: the most bytes the file may grow to.
        clock: where the age of events is read from.

    Raises:
        StoreError: see :class:`~dspex.actors.journals.sqlite.SqliteJournal`.
    """
    if in_memory:
        return MemoryJournal(retention=retention, clock=clock)
    return SqliteJournal(
        default_path(app) if path is None else path,
        retention=retention,
        durability=durability,
        max_bytes=max_bytes,
        clock=clock,
    )


class _Outcome(NamedTuple):
    # What became of one append: of a call's batch, or of those that some casts brought (`caller` is None).
    batches: tuple[tuple[Event, ...], ...]
    caller: Call | None
    future: Future[tuple[int, ...]]

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(event for batch in self.batches for event in batch)


@dataclass(slots=True)
class _Subscription:
    subscriber: ActorAddress
    query: EventQuery


class EventStore(GenServer):
    """The actor.

    Args of ``init``:
        journal: a function that opens the journal, which is then this actor's and closed with it; a restart opens
            it again. Or an open journal, which stays open: it is its owner's.
    """

    trap_exit = True  # so that terminate runs, and what waits is stored

    async def init(self, journal: Journal | Callable[[], Journal]) -> None:
        """Open the journal.

        Raises:
            StoreError: it cannot be opened; the start fails with this reason.
        """
        if callable(journal):
            owned = self.own(OwnedJournal(self.system.executor, journal))
            self._journal: Journal = await asyncio.wrap_future(owned.opening)
        else:
            self._journal = journal
        self._subscriptions: dict[int, _Subscription] = {}
        self._gathered: list[tuple[Event, ...]] = []
        self._outcomes: deque[_Outcome] = deque()
        self._called = False
        self._lost = self._tried_again = 0
        self._failing = False
        self._log = get_logger("dspex.event_store")

    # -- appending ---------------------------------------------------------------------------------

    @cast
    def append(self, msg: Append) -> None:
        """Hand events to the journal; what comes within some milliseconds goes together."""
        if not self._gathered:
            self.system.loop.call_later(GATHERING, self._hand_over)
        self._gathered.append(tuple(msg.events))

    def _hand_over(self) -> None:
        """Hand the journal what casts have brought, before anything that came after them is done."""
        if self._gathered:
            batches, self._gathered = tuple(self._gathered), []
            self._submit(batches, None)

    @call
    def append_acked(self, msg: AppendAcked) -> NoReply:
        """Hand events to the journal; the answer follows when they are stored."""
        self._hand_over()
        self._submit((tuple(msg.events),), self.caller)
        return NoReply()

    def _submit(self, batches: tuple[tuple[Event, ...], ...], caller: Call | None) -> None:
        outcome = _Outcome(batches, caller, self._journal.append([event for batch in batches for event in batch]))
        if len(batches) > 1 and outcome.future.done() and _failure(outcome.future) is not None:
            self._submit_apart(outcome)
        else:
            outcome.future.add_done_callback(partial(self._settled, batches, caller))

    def _submit_apart(self, outcome: _Outcome) -> None:
        """One bad batch must not take the others with it."""
        self._tried_again += sum(map(len, outcome.batches))
        for batch in outcome.batches:
            self._submit((batch,), None)

    def _settled(
        self, batches: tuple[tuple[Event, ...], ...], caller: Call | None, future: Future[tuple[int, ...]]
    ) -> None:
        # Runs in the journal's thread: leaves the outcome and calls the engine's thread, once for a whole group.
        self._outcomes.append(_Outcome(batches, caller, future))
        if self._called:
            return
        self._called = True
        try:
            # Not a message: a full mailbox must not swallow acknowledgements.
            self.system.post(self._drain)
        except ApplicationDown:
            # The engine is gone, and with it whoever waited; the events are stored all the same.
            return

    def _drain(self) -> None:
        self._called = False
        stored: list[_Outcome] = []
        count = 0
        while self._outcomes:
            outcome = self._outcomes.popleft()
            error = _failure(outcome.future)
            if error is not None and len(outcome.batches) > 1:
                self._submit_apart(outcome)
                continue
            if error is not None:
                self._refused(outcome, error)
                continue
            count += sum(map(len, outcome.batches))
            stored.append(outcome)
            if outcome.caller is not None:
                self.reply(outcome.caller, tuple(event.id for event in outcome.events))
        if count:
            self._failing = False
            self.system.telemetry.execute(APPENDED, {"count": count}, {})
            self._notify(stored)

    def _refused(self, outcome: _Outcome, error: Error) -> None:
        if outcome.caller is not None:
            self.fail(outcome.caller, error)
            return
        count = len(outcome.events)
        self._lost += count
        self.system.telemetry.execute(LOST, {"count": count}, {"code": error.code})
        invalid = isinstance(error, EventInvalid)
        if invalid or not self._failing:
            self._log.warning("events were not stored", count=count, code=error.code, error=error.message)
        self._failing = self._failing or not invalid

    # -- asking ------------------------------------------------------------------------------------

    @call
    def query(self, msg: Query) -> NoReply:
        """Answer a query."""
        self._hand_over()
        return self.serve(self.run_blocking(self._journal.query, msg.query))

    @call
    def get(self, msg: GetEvent) -> NoReply:
        """Answer one event."""
        self._hand_over()
        return self.serve(self.run_blocking(self._journal.get, msg.id))

    @call
    def tree(self, msg: TraceTree) -> NoReply:
        """Answer a trace."""
        self._hand_over()
        return self.serve(self.run_blocking(_tree, self._journal, msg.trace_id))

    @call
    def prune(self, msg: Prune) -> NoReply:
        """Forget events."""
        self._hand_over()
        return self.serve(_result(self._journal.prune(msg.before, msg.types)))

    @call
    def stats(self, _: StoreStats) -> NoReply:
        """Answer statistics."""
        self._hand_over()
        return self.serve(self._statistics())

    async def _statistics(self) -> StoreStatistics:
        journal = await self.run_blocking(self._journal.stats)
        # What was refused together and then tried apart counts once.
        journal = replace(journal, refused=journal.refused - self._tried_again)
        return StoreStatistics(journal, self._lost, len(self._subscriptions))

    # -- subscriptions -----------------------------------------------------------------------------

    @call
    def subscribe(self, msg: Subscribe) -> int | Fail:
        """Begin a subscription."""
        if not isinstance(cast_type("object", msg.subscriber), ActorAddress):
            return Fail(StoreError(f"expected the address of a subscriber, got {type(msg.subscriber).__name__}"))
        subscription = self.monitor(msg.subscriber)
        self._subscriptions[subscription] = _Subscription(msg.subscriber, msg.query)
        return subscription

    @call
    def unsubscribe(self, msg: Unsubscribe) -> bool:
        """End a subscription."""
        if self._subscriptions.pop(msg.subscription, None) is None:
            return False
        self.demonitor(msg.subscription)
        return True

    @info
    def down(self, msg: Down) -> None:
        """A subscriber has died."""
        self._subscriptions.pop(msg.ref, None)

    def _notify(self, stored: Iterable[_Outcome]) -> None:
        # The journal may answer after this actor's end, when it has nobody left to tell.
        if not self._subscriptions or not self.system.alive(self.myAddress):
            return
        pairs = [pair for outcome in stored for pair in zip(outcome.future.result(), outcome.events, strict=True)]
        # As they stand in the log: the fields that a query is about are those of the line.
        rows = [(seq, event, fields_of(encode(event).body)) for seq, event in pairs]
        for number, subscription in list(self._subscriptions.items()):
            query = subscription.query
            try:
                found = [(seq, event) for seq, event, values in rows if query.matches(values) and query.accepts(event)]
            except StoreError as error:
                del self._subscriptions[number]
                self.demonitor(number)
                self._tell(subscription, SubscriptionEnded(number, error))
                continue
            if found:
                seqs, events = zip(*found, strict=True)
                self._tell(subscription, EventNotification(number, events, seqs))

    def _tell(self, subscription: _Subscription, news: EventNotification | SubscriptionEnded) -> None:
        # Without the trace (and user) of whichever message was handled last: the events are of many.
        self.system.send(subscription.subscriber, news, self._myRef, None)

    # -- the end -----------------------------------------------------------------------------------

    async def terminate(self, reason: Reason) -> None:
        """Store what waits, and answer who waits for it."""
        del reason
        self._hand_over()
        # An empty batch is done when all before it are.
        last = self._journal.append(())
        await asyncio.gather(asyncio.wrap_future(last), return_exceptions=True)
        self._drain()


def _failure(future: Future[Any]) -> Error | None:
    try:
        error = future.exception()
    except CancelledError:
        return StoreError("the append was taken back")
    # The journal's futures fail with StoreError only.
    return error if isinstance(error, Error | None) else StoreError(repr(error))


def _tree(journal: Journal, trace_id: str) -> tuple[TraceNode, ...]:
    query = EventQuery.of(trace_id=trace_id, order="oldest", limit=MAX_LIMIT)
    events: list[Event] = []
    while True:
        page: EventPage = journal.query(query)
        events.extend(page.events)
        if not page.more:
            return trace_tree(events)
        query = replace(query, cursor=page.cursor)


async def _result(future: Future[Any]) -> Any:
    return await asyncio.wrap_future(future)


__all__ = (
    "APPENDED",
    "GATHERING",
    "LOST",
    "NAME",
    "Append",
    "AppendAcked",
    "EventNotification",
    "EventStore",
    "GetEvent",
    "Prune",
    "Query",
    "StoreStatistics",
    "StoreStats",
    "Subscribe",
    "SubscriptionEnded",
    "TraceTree",
    "Unsubscribe",
    "open_journal",
)
