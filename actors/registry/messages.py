"""The messages of the registry actor (``actor.py``), and what it answers.

Queries are calls. What changes something (:class:`Announce`, :class:`Unannounce`) is a call or a
cast: as a call it answers the new row or fails with a typed error; as a cast what is refused is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from thespian.actors import ActorAddress

from ...runtime.errors import RegistryError
from ...runtime.registry_query import NamePattern
from .rows import RegistryRow


@dataclass(frozen=True, slots=True)
class Lookup:
    """The :class:`RegistryRow` of a name, a dead one's too; None if nobody ever had it."""

    name: str


@dataclass(frozen=True, slots=True)
class WhereIs:
    """The address of the live actor with this name, or None; never a dead one's (OTP REG-05)."""

    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """Rows that meet all conditions, in the order in which the names were first used.

    Attributes:
        kind: the part of the name before the slash.
        namespace: the namespace; empty text for the default one, None for all.
        where: clauses ``(path, op, value)`` on metadata or, where it has no such key, on the row.
        pattern: ``"module/*"``, or ``("module", ANY)``; names without their namespace.
        state: one of the states; ``"any"``; None for all but dead.
    """

    kind: str | None = None
    namespace: str | None = None
    where: Sequence[Any] = ()
    pattern: NamePattern | None = None
    state: str | None = None

    @classmethod
    def of(cls, **conditions: Any) -> Self:
        """Make one from keywords; those that are no field are metadata attributes that must be equal."""
        words = [each.name for each in fields(cls)]
        own: dict[str, Any] = {word: value for word, value in conditions.items() if word in words}
        equal = [((word,), "eq", value) for word, value in conditions.items() if word not in words]
        own["where"] = (*own.get("where", ()), *equal)
        return cls(**own)


@dataclass(frozen=True, slots=True)
class Count(Select):
    """How many rows a :class:`Select` with the same conditions finds."""


@dataclass(frozen=True, slots=True)
class ListNames(Select):
    """The names that a :class:`Select` with the same conditions finds."""


@dataclass(frozen=True, slots=True)
class Announce:
    """An actor tells what it is. Actors use :func:`~dspex.actors.registry.actor.announce`, which fills in the name.

    Attributes:
        metadata: JSON-like, at most 64 KiB, no secrets.
        name: the actor's registered name.
        replace: forget what was announced before, instead of merging over it (the top level only).
    """

    metadata: Mapping[str, Any]
    name: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Unannounce:
    """Forget what was announced under a name; the name itself belongs to its supervisor."""

    name: str


@dataclass(frozen=True, slots=True)
class BulkAnnounce:
    """Several announcements at once; each is judged on its own. Answers a tuple of :class:`AnnounceResult`."""

    items: Sequence[Announce]


@dataclass(frozen=True, slots=True)
class AnnounceResult:
    """What became of one announcement; ``error`` is None if it was taken."""

    name: str
    error: RegistryError | None = None

    @property
    def ok(self) -> bool:
        """Whether it was taken."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class WaitForName:
    """Answered with the row as soon as the name is running; nobody polls.

    Fails with :class:`~dspex.runtime.errors.CallTimeout` after ``timeout`` seconds (None: for ever); give
    the call itself a longer one.
    """

    name: str
    timeout: float | None = 5.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Send every change of matching names to an actor, as :class:`NameEvent`, until it ends or unwatches.

    Answers the matching rows of now (dead ones too), so that there is no gap. One watch an actor: a second replaces it.
    """

    subscriber: ActorAddress
    pattern: NamePattern = "*"
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Unwatch:
    """End an actor's watch; it need not have one."""

    subscriber: ActorAddress


@dataclass(frozen=True, slots=True)
class NameEvent:
    """Something happened to a name; arrives at watchers as info.

    Attributes:
        kind: ``registered`` (it is running), ``unregistered`` (its actor ended; see the row's state and
            reason), ``updated`` (metadata), ``state`` (any other change of state).
        row: the name after the change.
    """

    kind: Literal["registered", "unregistered", "updated", "state"]
    row: RegistryRow


Outcome = Literal["healthy", "dead", "timeout", "failed", "crashed", "error"]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Ask an actor whether it is well. Answers a :class:`HealthReport`; never fails.

    Attributes:
        name: whom.
        timeout: seconds it may take.
        check: the message to ask with; it must be answered by True, None or ``"ok"``. Without one any
            sign of life will do: the actor must get to the message in time.
    """

    name: str
    timeout: float = 5.0
    check: Any = None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How an actor is.

    Attributes:
        name: whose.
        outcome: ``healthy``; ``dead`` (not running when asked); ``timeout``; ``failed`` (it answered
            something else); ``crashed`` (it ended of the question); ``error`` (it refused the question).
        detail: the answer or the error in words, or None.
        seconds: how long it took.
    """

    name: str
    outcome: Outcome
    detail: str | None
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether all is well."""
        return self.outcome == "healthy"


@dataclass(frozen=True, slots=True)
class RegistryStats:
    """Ask for a :class:`RegistryStatistics`."""


@dataclass(frozen=True, slots=True)
class RegistryStatistics:
    """The registry in numbers.

    Attributes:
        names: all names, dead ones included.
        by_state: how many in each state.
        by_kind: how many live ones of each kind.
        by_namespace: how many live ones in each namespace; the default one is the empty text.
        waiters: open waits for a name.
        watchers: actors that watch.
        refused: casts that were refused since the registry started.
    """

    names: int
    by_state: Mapping[str, int]
    by_kind: Mapping[str, int]
    by_namespace: Mapping[str, int]
    waiters: int
    watchers: int
    refused: int
