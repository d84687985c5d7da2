"""What the registry answers: one frozen row a name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...runtime.names import NameEntry, State
from ...runtime.reasons import describe
from ..scrub import scrub
from .metadata import copied

REASON_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """One name at the moment of the answer.

    Attributes:
        name: ``kind/id``, with ``namespace:`` before it outside the default namespace.
        kind: the part before the slash.
        id: the part after it.
        namespace: empty for the default one.
        state: starting, running, restarting, backing_off, stopping or dead.
        incarnation: how many actors had this name so far.
        restarts: how often a supervisor restarted it.
        since: when this state began, seconds on the engine's monotonic clock.
        age: how long ago that is, seconds.
        reason: why the last incarnation ended, in words, or None.
        address: the present or last actor, as text, or None.
        metadata: what the actor announced of itself; a copy.
    """

    name: str
    kind: str
    id: str
    namespace: str
    state: State
    incarnation: int
    restarts: int
    since: float
    age: float
    reason: str | None
    address: str | None
    metadata: Mapping[str, Any] = field(hash=False)


def row_of(entry: NameEntry, now: float) -> RegistryRow:
    """The row of a name table's entry; ``now`` on the engine's monotonic clock."""
    return RegistryRow(
        name=entry.name,
        kind=entry.kind,
        id=entry.id,
        namespace=entry.namespace,
        state=entry.state,
        incarnation=entry.incarnation,
        restarts=entry.restarts,
        since=entry.since,
        age=max(0.0, now - entry.since),
        reason=None if entry.reason is None else reason_text(entry.reason),
        address=None if entry.address is None else str(entry.address),
        metadata=copied(entry.metadata),
    )


def reason_text(reason: Any) -> str:
    """An exit reason in words that may leave the engine: scrubbed, and not too long."""
    return scrub(describe(reason)[: 4 * REASON_LENGTH])[:REASON_LENGTH]
