"""The registry actor, ``core/registry``: who is who, and what they say of themselves.

It owns nothing. Names belong to supervisors and live in the engine's name table, together with the
metadata that actors announce; this actor is a *view* of both, with an index, waiters, watchers, events
and telemetry. Killed, it reads the table again, and nobody dies with it (a stated departure from OTP
REG-14, which holds for :class:`~dspex.runtime.registry.Registry`). Its waiters are told that it
died; its watchers monitor it and watch again.

The table calls it back at each change, in the middle of somebody else's work. The index is put right
there and then, so that no answer is old; telling of the change (events, telemetry, watchers, waiters)
comes a turn later, behind what the actor announced of itself while it started.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from thespian.actors import ActorAddress

from ...runtime.address import LocalAddress
from ...runtime.errors import CallTimeout, RegistryError
from ...runtime.gen_server import Fail, GenServer, NoReply, call, cast, info
from ...runtime.messages import Down
from ...runtime.names import Change, NameEntry
from ...runtime.registry_query import name_matcher
from ...runtime.registry_terms import check_iterable
from ...runtime.registry_waiters import Waiters, WaitOver, check_seconds
from ..events.kinds import Event, Registered, Unregistered, stamp
from ..events.outbox import EventOutbox
from .health import check_health
from .index import RegistryIndex
from .messages import (
    Announce,
    AnnounceResult,
    BulkAnnounce,
    Count,
    HealthCheck,
    HealthReport,
    ListNames,
    Lookup,
    NameEvent,
    RegistryStatistics,
    RegistryStats,
    Select,
    Unannounce,
    Unwatch,
    WaitForName,
    Watch,
    WhereIs,
)
from .metadata import checked_metadata, merged_metadata
from .rows import RegistryRow, reason_text, row_of
from .search import check_text, find, local_name

T = TypeVar("T")
NAME: Final = "core/registry"
_ACCOUNTED: Final = "accounted_until"
"""Key of the registry's own metadata: up to when it told of changes; its successor goes on from there."""

_NO_TRACE: Final[Mapping[str, None]] = {"trace_id": None, "span_id": None, "parent_id": None, "user": None}


def announce(actor: GenServer, metadata: Mapping[str, Any], *, replace: bool = False) -> None:
    """Tell the registry what an actor is; an actor without a name is in no registry, and nothing is told.

    Args:
        actor: the actor that tells of itself.
        metadata: JSON-like, at most 64 KiB, no secrets; merged over what was announced before.
        replace: put it in the place of what was announced before.
    """
    if actor.name is not None:
        actor.cast(NAME, Announce(metadata, actor.name, replace))


@dataclass(frozen=True, slots=True)
class _TellChanges:
    """Timer: the first ``count`` changes can be told now."""

    count: int


class _Watcher(NamedTuple):
    ref: int
    matches: Callable[[str], bool]
    namespace: str | None

    def wants(self, entry: NameEntry) -> bool:
        return self.namespace in (None, entry.namespace) and self.matches(local_name(entry))


class RegistryActor(GenServer):
    """See the module. Messages: ``messages.py``."""

    def init(self) -> None:
        """Read the name table; tell of what changed since the predecessor ended."""
        self._names = self.system.names
        self._index = RegistryIndex()
        self._changes: deque[tuple[NameEntry, Change]] = deque()
        self._due = False
        self._live: dict[str, None] = {}
        self._waiters = Waiters(self)
        self._watchers: dict[ActorAddress, _Watcher] = {}
        self._events: list[Event] = []
        self._outbox = EventOutbox(self.system)
        self._refused = 0
        unsubscribe = self._names.subscribe(self._note)
        self.own(lambda: self._leave(unsubscribe))
        accounted = self._names.metadata(self.name or "").get(_ACCOUNTED, -math.inf)
        for entry in self._names.entries():
            self._index.put(entry)
            if entry.since >= accounted:
                self._tell_soon(entry, "state")
            if self._was_told(entry, accounted):
                self._live[entry.name] = None

    def _was_told(self, entry: NameEntry, accounted: float) -> bool:
        """Whether a predecessor told that this name is running."""
        if entry.name == self.name:
            return entry.incarnation > 1
        ended = entry.state in ("restarting", "backing_off", "dead") and accounted > -math.inf
        return entry.state in ("running", "stopping") or (ended and entry.since >= accounted)

    def _leave(self, unsubscribe: Callable[[], None]) -> None:
        unsubscribe()
        if self.name is not None:
            untold = (entry.since for entry, change in self._changes if change != "metadata")
            self._names.set_metadata(self.name, {_ACCOUNTED: min(untold, default=self.system.now())})

    # -- the table's changes -----------------------------------------------------------------------

    def _note(self, entry: NameEntry, change: Change) -> None:
        if change == "dropped":
            self._index.remove(entry.name)
        elif change != "state":  # nothing the index knows of
            self._index.put(entry)
        self._tell_soon(entry, change)

    def _tell_soon(self, entry: NameEntry, change: Change) -> None:
        self._changes.append((entry, change))
        if not self._due:
            self._due = True
            self.start_timer(0.0, _TellChanges(0))

    @info
    def tell_changes(self, msg: _TellChanges) -> None:
        """Tell of changes that were noted before the last turn: what came with them has arrived."""
        self._tell_all(msg.count)
        self._due = bool(self._changes)
        if self._due:
            self.start_timer(0.0, _TellChanges(len(self._changes)))

    def _tell_all(self, count: int) -> None:
        for _ in range(min(count, len(self._changes))):
            self._apply(*self._changes.popleft())
        if self._events:
            events, self._events = self._events, []
            self._outbox.emit(*events)

    def _apply(self, entry: NameEntry, change: Change) -> None:
        now = self._names.get(entry.name)
        if change != "metadata" and now is not None and now.incarnation == entry.incarnation:
            entry = entry._replace(metadata=now.metadata)  # with what it announced since
        known = entry.name in self._live
        if change == "metadata":
            self._tell("updated", entry)
        elif change == "dropped" or entry.state in ("dead", "restarting", "backing_off", "starting"):
            if known:
                self._gone(entry)
            elif change != "dropped":
                self._tell("state", entry)
        elif entry.state == "running":
            self._live[entry.name] = None
            self._came(entry)
        else:
            self._tell("state", entry)

    def _came(self, entry: NameEntry) -> None:
        self._record("registered", entry, Registered, metadata=_recordable(entry))
        self._tell("registered", entry)
        now = self._names.get(entry.name)
        if now is not None and now.state == "running":
            self._waiters.answer(entry.name, self._row(now))

    def _gone(self, entry: NameEntry) -> None:
        del self._live[entry.name]
        reason = "unknown" if entry.reason is None else reason_text(entry.reason)
        self._record("unregistered", entry, Unregistered, reason=reason)
        self._tell("unregistered", entry)

    def _record(self, word: str, entry: NameEntry, event: type[Event], **own: Any) -> None:
        # A name's life belongs to no request, so not to the trace of whichever one is handled now.
        common = {"name": entry.name, "kind": entry.kind or None, "restarts": entry.restarts}
        self._events.append(stamp(self, event, **common, **own, **_NO_TRACE))
        self.system.telemetry.execute(("dspex", "registry", word), {"count": 1}, common)

    def _tell(self, kind: Any, entry: NameEntry) -> None:
        for address, watcher in self._watchers.items():
            if watcher.wants(entry):
                # Without a trace, as above: neither is it the watcher's.
                self.system.send(address, NameEvent(kind, self._row(entry)), self._myRef, None)

    def _row(self, entry: NameEntry) -> RegistryRow:
        return row_of(entry, self.system.now())

    # -- queries -----------------------------------------------------------------------------------

    def _answer(self, work: Callable[[], T]) -> T | Fail:
        # A refused question is the caller's error, not a crash of the registry.
        try:
            return work()
        except RegistryError as error:
            return Fail(error)

    @call
    def lookup(self, msg: Lookup) -> RegistryRow | Fail | None:
        """Answer the row of a name."""

        def work() -> RegistryRow | None:
            entry = self._names.get(check_text(msg.name, "name"))
            return None if entry is None else self._row(entry)

        return self._answer(work)

    @call
    def where_is(self, msg: WhereIs) -> ActorAddress | Fail | None:
        """Answer the address of a live actor."""

        def work() -> ActorAddress | None:
            entry = self._names.get(check_text(msg.name, "name"))
            alive = entry is not None and entry.address is not None and self.system.alive(entry.address)
            return entry.address if alive and entry is not None and entry.state != "dead" else None

        return self._answer(work)

    @call
    def select(self, msg: Select) -> tuple[RegistryRow, ...] | Fail:
        """Answer the rows that meet all conditions."""
        return self._answer(lambda: tuple(map(self._row, self._find(msg))))

    @call
    def count(self, msg: Count) -> int | Fail:
        """Answer how many rows meet all conditions."""
        return self._answer(lambda: sum(1 for _ in self._find(msg)))

    @call
    def list_names(self, msg: ListNames) -> tuple[str, ...] | Fail:
        """Answer the names that meet all conditions."""
        return self._answer(lambda: tuple(entry.name for entry in self._find(msg)))

    def _find(self, query: Select) -> Iterator[NameEntry]:
        return find(query, self._names, self._index)

    @call
    def stats(self, _: RegistryStats) -> RegistryStatistics:
        """Answer the registry in numbers."""
        entries = list(self._names.entries())
        live = [entry for entry in entries if entry.state != "dead"]
        return RegistryStatistics(
            names=len(entries),
            by_state=dict(Counter(entry.state for entry in entries)),
            by_kind=dict(Counter(entry.kind for entry in live)),
            by_namespace=dict(Counter(entry.namespace for entry in live)),
            waiters=len(self._waiters),
            watchers=len(self._watchers),
            refused=self._refused,
        )

    @call
    def health_check(self, msg: HealthCheck) -> HealthReport | Fail | NoReply:
        """Answer how an actor is; it is asked beside the mailbox."""

        def work() -> NoReply:
            check_text(msg.name, "name")
            check_seconds(msg.timeout)
            return self.serve(check_health(self, msg))

        return self._answer(work)

    # -- announcing --------------------------------------------------------------------------------

    @call
    def announce(self, msg: Announce) -> RegistryRow | Fail:
        """Take an announcement; answer the new row."""

        def work() -> RegistryRow:
            self._announce(msg)
            return self._row(self._known(msg.name))

        return self._answer(work)

    @cast
    def announced(self, msg: Announce) -> None:
        """Take an announcement; count it if it is refused."""
        self._told(msg.name, lambda: self._announce(msg))

    @call
    def announce_all(self, msg: BulkAnnounce) -> tuple[AnnounceResult, ...] | Fail:
        """Take several announcements; answer what became of each."""

        def one(item: Announce) -> AnnounceResult:
            try:
                self._announce(item)
            except RegistryError as error:
                return AnnounceResult(item.name, error)
            return AnnounceResult(item.name)

        def work() -> tuple[AnnounceResult, ...]:
            check_iterable(msg.items, "a list of announcements")
            if not all(isinstance(item, Announce) for item in msg.items):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise RegistryError("expected a list of announcements, got something else in it")
            return tuple(map(one, msg.items))

        return self._answer(work)

    @call
    def unannounce(self, msg: Unannounce) -> RegistryRow | Fail:
        """Forget what was announced; answer the new row."""

        def work() -> RegistryRow:
            self._names.set_metadata(self._known(msg.name).name, {}, replace=True)
            return self._row(self._known(msg.name))

        return self._answer(work)

    @cast
    def unannounced(self, msg: Unannounce) -> None:
        """Forget what was announced; count it if the name is unknown."""
        self._told(msg.name, lambda: self._names.set_metadata(self._known(msg.name).name, {}, replace=True))

    def _announce(self, msg: Announce) -> None:
        entry = self._known(msg.name)
        checked = checked_metadata(msg.metadata, entry.name)
        merged = merged_metadata({} if msg.replace else entry.metadata, checked, entry.name)
        self._names.set_metadata(entry.name, merged, replace=True)

    def _told(self, name: object, work: Callable[[], None]) -> None:
        try:
            work()
        except RegistryError as error:
            self._refused += 1
            self.system.telemetry.execute(
                ("dspex", "registry", "refused"), {"count": 1}, {"name": name, "error": str(error)}
            )

    def _known(self, name: object) -> NameEntry:
        entry = self._names.get(check_text(name, "name"))
        if entry is None:
            raise RegistryError(f"expected a name that somebody had, got {name!r}", key=name)
        return entry

    # -- waiting and watching ----------------------------------------------------------------------

    @call
    def wait_for_name(self, msg: WaitForName) -> RegistryRow | Fail | NoReply:
        """Answer when the name is running."""

        def work() -> RegistryRow | NoReply:
            entry = self._names.get(check_text(msg.name, "name"))
            if entry is not None and entry.state == "running":
                return self._row(entry)
            return self._waiters.add(msg.name, msg.timeout)

        return self._answer(work)

    @info
    def wait_over(self, msg: WaitOver) -> None:
        """Somebody's time is up."""
        waiter = self._waiters.over(msg)
        if waiter is not None:
            entry = self._names.get(msg.key)
            state = "unknown" if entry is None else entry.state
            text = f"expected {msg.key} to be running within {waiter.timeout:g} s, got state {state}"
            self.fail(waiter.caller, CallTimeout(text, target=msg.key, timeout=waiter.timeout, state=state))

    @call
    def watch(self, msg: Watch) -> tuple[RegistryRow, ...] | Fail:
        """Begin to tell an actor of changes; answer what is there now."""

        def work() -> tuple[RegistryRow, ...]:
            address = _address(msg.subscriber)
            matches = name_matcher(msg.pattern)
            namespace = None if msg.namespace is None else check_text(msg.namespace, "namespace")
            self._forget(address)
            self._tell_all(len(self._changes))  # what is in the answer is not told again
            watcher = self._watchers[address] = _Watcher(self.monitor(address), matches, namespace)
            return tuple(self._row(entry) for entry in self._names.entries() if watcher.wants(entry))

        return self._answer(work)

    @call
    def unwatch(self, msg: Unwatch) -> Fail | None:
        """Stop telling an actor of changes."""
        return self._answer(lambda: self._forget(_address(msg.subscriber)))

    @info
    def watcher_down(self, msg: Down) -> None:
        """A watcher ended."""
        for address in [each for each, watcher in self._watchers.items() if watcher.ref == msg.ref]:
            del self._watchers[address]

    def _forget(self, address: ActorAddress) -> None:
        watcher = self._watchers.pop(address, None)
        if watcher is not None:
            self.demonitor(watcher.ref)


def _recordable(entry: NameEntry) -> dict[str, Any]:
    # Whoever wrote to the table directly may have written anything; an event takes only what is checked.
    try:
        return checked_metadata(entry.metadata, entry.name)
    except RegistryError:
        return {}


def _address(value: object) -> LocalAddress:
    if isinstance(value, LocalAddress):
        return value
    raise RegistryError(f"expected an actor's address as subscriber, got {type(value).__name__}", key="subscriber")


__all__ = (
    "NAME",
    "Announce",
    "AnnounceResult",
    "BulkAnnounce",
    "Count",
    "HealthCheck",
    "HealthReport",
    "ListNames",
    "Lookup",
    "NameEvent",
    "RegistryActor",
    "RegistryRow",
    "RegistryStatistics",
    "RegistryStats",
    "Select",
    "Unannounce",
    "Unwatch",
    "WaitForName",
    "Watch",
    "WhereIs",
    "announce",
)
