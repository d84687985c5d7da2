"""The name table: who answers to a name now, and what became of it.

Supervisors and the engine write it, on the engine's thread. Reading needs no message and works from
any thread, because an entry is replaced whole, never changed. It outlives every actor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal, NamedTuple

from .address import LocalAddress
from .errors import UsageError
from .reasons import Reason

log = logging.getLogger("dspex.names")
State = Literal["starting", "running", "restarting", "backing_off", "stopping", "dead"]
STATES: Final[tuple[State, ...]] = ("starting", "running", "restarting", "backing_off", "stopping", "dead")
WAITING: Final[tuple[State, ...]] = ("restarting", "backing_off")
"""States in which a call waits for the next incarnation."""
SHARED_KINDS: Final = ("core/", "observers/")
"""Names that are the same in every namespace."""
MAX_DEAD: Final = 10_000
"""Dead names kept; the oldest is forgotten first."""

NEAR_IDS: Final = 0.5
"""How alike ids are to be for a hint, from 0 to 1; they are short."""


class NameEntry(NamedTuple):
    """One name at one moment.

    Attributes:
        name: ``kind/id``, with ``namespace:`` before it outside the default namespace.
        state: one of :data:`STATES`.
        incarnation: how many actors had this name so far.
        address: the present actor, or the last one.
        since: when this state began, on the engine's monotonic clock (seconds).
        reason: why the last incarnation ended, or None.
        restarts: how often a supervisor restarted it.
        metadata: what the actor announced of itself; survives restarts.
    """

    name: str
    state: State
    incarnation: int
    address: LocalAddress | None
    since: float
    reason: Reason
    restarts: int
    metadata: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """The part before the colon; empty in the default namespace."""
        return self.name.rpartition(":")[0]

    @property
    def kind(self) -> str:
        """The part before the slash; empty if there is none."""
        return self.name.rpartition(":")[2].rpartition("/")[0]

    @property
    def id(self) -> str:
        """The part after the slash."""
        return self.name.rpartition(":")[2].rpartition("/")[2]


Change = Literal["bound", "state", "metadata", "dropped"]
Watcher = Callable[[NameEntry, Change], None]


def qualify(namespace: str, name: str) -> str:
    """``name`` within ``namespace``.

    A name that carries a namespace already is left alone (``:kind/id`` means the default one), and so
    are the kinds of which an engine has one set for all (:data:`SHARED_KINDS`).
    """
    if not namespace and name[:1] != ":":
        return name
    if ":" in name:
        return name.removeprefix(":")
    return name if name.startswith(SHARED_KINDS) else f"{namespace}:{name}"


class NameTable:
    """Names of one engine.

    Args:
        now: the engine's monotonic clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: dict[str, NameEntry] = {}
        self._dead: dict[str, None] = {}
        self._watchers: tuple[Watcher, ...] = ()
        self.on_running: Callable[[NameEntry], None] = lambda entry: None
        self.on_unavailable: Callable[[NameEntry], None] = lambda entry: None

    def get(self, name: str) -> NameEntry | None:
        """The entry of a name, or None. From any thread."""
        return self._entries.get(name)

    def __len__(self) -> int:
        """How many entries. From any thread."""
        return len(self._entries)

    def entries(self) -> Iterator[NameEntry]:
        """All entries, in the order in which the names were first used. From any thread."""
        return iter(tuple(self._entries.values()))

    def near(self, name: str) -> str:
        """A hint ``; did you mean 'x'?`` at the nearest name there is, or an empty text. From any thread.

        Kind and id are compared each for itself: what two names of a kind have in common says nothing.
        """
        ids: dict[str, list[str]] = {}
        for known in tuple(self._entries):
            kind, _, id = known.rpartition("/")
            ids.setdefault(kind, []).append(id)
        kind, slash, id = name.rpartition("/")
        places = get_close_matches(kind, ids) if slash else sorted(ids, key=bool)
        near = [f"{place}/{match}" for place in places for match in get_close_matches(id, ids[place], 1, NEAR_IDS)]
        near += [f"{place}/{id}" for place in ids if id in ids[place]]  # the very id, but of another kind
        return f"; did you mean {near[0].removeprefix('/')!r}?" if near else ""

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Have ``watcher(entry, change)`` called on the engine's thread at every change.

        Returns:
            A function that ends the subscription.
        """
        self._watchers = (*self._watchers, watcher)

        def unsubscribe() -> None:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

        return unsubscribe

    def begin(self, name: str, address: LocalAddress) -> NameEntry:
        """Bind a new incarnation, state ``starting``."""
        old = self._entries.get(name)
        if old is None:
            entry = NameEntry(name, "starting", 1, address, self._now(), None, 0, {})
        else:
            self._dead.pop(name, None)
            again = old.restarts + (old.state in ("restarting", "backing_off"))
            entry = NameEntry(
                name, "starting", old.incarnation + 1, address, self._now(), old.reason, again, old.metadata
            )
        self._put(entry, "bound")
        return entry

    def set_state(self, name: str, state: State, reason: Reason = None) -> None:
        """Write a new state; a ``reason`` of None keeps the last one. Unknown names are ignored."""
        old = self._entries.get(name)
        if old is None or (old.state == state and (reason is None or reason == old.reason)):
            return
        why = old.reason if reason is None else reason
        entry = NameEntry(name, state, old.incarnation, old.address, self._now(), why, old.restarts, old.metadata)
        self._put(entry, "state")
        if state == "running":
            self.on_running(entry)
        elif state == "dead":
            self._bury(name)
            self.on_unavailable(entry)

    def set_metadata(self, name: str, metadata: Mapping[str, Any], *, replace: bool = False) -> None:
        """Merge (or put) metadata of a known name.

        Raises:
            UsageError: nobody ever had this name.
        """
        old = self._entries.get(name)
        if old is None:
            raise UsageError(f"expected a known name, got {name!r}", name=name)
        merged = dict(metadata) if replace else {**old.metadata, **metadata}
        self._put(old._replace(metadata=merged), "metadata")

    def metadata(self, name: str) -> Mapping[str, Any]:
        """The metadata of a name; empty if nobody has it."""
        entry = self._entries.get(name)
        return {} if entry is None else entry.metadata

    def drop(self, name: str) -> None:
        """Forget a name. Who waits for it is told that there is no such process."""
        entry = self._entries.pop(name, None)
        self._dead.pop(name, None)
        if entry is not None:
            self._notify(entry, "dropped")
            self.on_unavailable(entry)

    def _bury(self, name: str) -> None:
        self._dead[name] = None
        if len(self._dead) > MAX_DEAD:
            self.drop(next(iter(self._dead)))

    def _put(self, entry: NameEntry, change: Change) -> None:
        self._entries[entry.name] = entry
        if self._watchers:
            self._notify(entry, change)

    def _notify(self, entry: NameEntry, change: Change) -> None:
        for watcher in self._watchers:
            try:
                watcher(entry, change)
            except Exception:  # fault boundary: a watcher's failure must not stop what changed the name
                log.exception("a watcher of the name table failed")
