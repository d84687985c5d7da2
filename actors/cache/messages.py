"""What the cache of model answers is asked and told, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from thespian.actors import ActorAddress

from ..events.kinds import Event

NAME: Final = "observers/cache"
"""The name under which everybody finds the cache."""


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """Call: answers a :class:`CacheHit`, or a :class:`CacheLead` to whoever is to ask the model.

    While somebody leads on a key, further look-ups of it wait: they get the leader's answer, or one of them leads when
    the leader abandons or dies. Whoever gives up, or may have become leader without hearing of it (the call was
    cancelled or timed out), must send :class:`CacheAbandon`.

    Attributes:
        key: of the request, from :func:`~.cache.key.cache_key`.
        id: of this look-up, new for each.
        owner: the actor that leads, if it does: when that one ends, the next one leads. By default the actor that
            serves the call in which this one was made.
    """

    key: str
    id: str
    owner: ActorAddress | None = None


@dataclass(frozen=True, slots=True)
class CacheHit:
    """The answer, as JSON text (:func:`~.lm.codec.decode_response`)."""

    value: str


@dataclass(frozen=True, slots=True)
class CacheLead:
    """There is no answer: ask the model, then send :class:`CacheStore` or :class:`CacheAbandon`."""


@dataclass(frozen=True, slots=True)
class CacheStore:
    """Cast: the leader's answer; whoever waits for it gets it. Taken from others too, if it is a late one.

    Attributes:
        key, id: of the look-up.
        value: the answer as JSON text (:func:`~.lm.codec.encode_response`).
    """

    key: str
    id: str
    value: str


@dataclass(frozen=True, slots=True)
class CacheAbandon:
    """Cast: whoever looked up gives up, as leader or while waiting. An id that nobody has is ignored."""

    key: str
    id: str


@dataclass(frozen=True, slots=True)
class CacheClear:
    """Call: forgets every answer, on disk too; answers None once that is done. Requests in work go on.

    Fails with StoreUnavailable if the file cannot be written; memory is empty all the same.
    """


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """Call: answers a :class:`CacheStatusReport`."""


@dataclass(frozen=True, slots=True)
class CacheStatusReport:
    """How the cache is; counts are of this incarnation of the actor.

    Attributes:
        enabled: whether answers are kept at all.
        entries: answers in memory now.
        capacity: how many may be.
        ttl: seconds for which one is kept.
        in_work: keys on which somebody leads now.
        waiting: look-ups that wait for a leader, or for the disk.
        memory_hits: look-ups answered from memory.
        disk_hits: look-ups answered from disk.
        shared_hits: look-ups answered by a leader they waited for.
        misses: look-ups that had to ask the model.
        stored: answers taken.
        evicted: answers that went for want of room, in memory and on disk.
        errors: operations that the disk failed, or answers too large to keep.
        path: the file, or None without one.
        bytes: its size when it was last used, or None.
        last_error: what the disk last failed with, or None.
        uptime: seconds since the actor was started.
    """

    enabled: bool
    entries: int
    capacity: int
    ttl: float
    in_work: int
    waiting: int
    memory_hits: int
    disk_hits: int
    shared_hits: int
    misses: int
    stored: int
    evicted: int
    errors: int
    path: str | None
    bytes: int | None
    last_error: str | None
    uptime: float


class CacheReport(Event, frozen=True):
    """The file of the cache was damaged and is begun anew.

    Attributes:
        kind: what happened.
        path: the file.
        kept_as: where the damaged one lies now, or None if it could not be moved and was deleted.
        message: what was wrong with it.
    """

    type: Literal["cache_report"] = "cache_report"
    kind: Literal["corrupt_file"]
    path: str
    kept_as: str | None = None
    message: str = ""
