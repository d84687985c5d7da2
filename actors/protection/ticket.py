"""One request at the protection actor, from asking to settling."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.address import LocalAddress
from ...runtime.calls import Call, RequestedCall
from ...runtime.timers import Timer
from .limit_buckets import Shortage
from .limit_redis import SharedHold
from .messages import Admit
from .safeguards import Pass


@dataclass(slots=True, eq=False)
class Ticket:
    """One request, from asking to settling.

    Attributes:
        id: the asker's.
        user: on whose behalf.
        tokens: estimated.
        number: the lower came earlier.
        since: when it came, on the loop's clock.
        owner: the actor whose death ends it.
        lease: seconds after which an admission is taken back.
        fails: it waits for the shared store's answer only.
        caller: who waits for the admission.
        held: what it has, once it is admitted.
        shared: what it has in the shared store.
        short: why that store had no room for it, and until when.
        timer: of the end of its patience, then of its lease.
    """

    id: str
    user: str | None
    tokens: int
    number: int
    since: float
    owner: LocalAddress | None
    lease: float | None
    fails: bool = False
    caller: Call | None = None
    held: Pass | None = None
    shared: SharedHold | None = None
    short: tuple[Shortage, float] | None = None
    timer: Timer | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    """To itself: there may be room for those who wait."""


@dataclass(frozen=True, slots=True)
class TimeIsUp:
    """To itself: of a request's patience, or of an admission's lease."""

    ticket: Ticket
    of_lease: bool


def owner_of(msg: Admit, caller: Call) -> LocalAddress | None:
    """The actor that asks: whose handler waits, or whose task, if that serves a call itself."""
    if isinstance(msg.owner, LocalAddress):
        return msg.owner
    cell = caller.holder
    if cell is None and isinstance(caller, RequestedCall):
        cell = caller.sender
    if cell is None and caller.parent is not None:
        cell = caller.parent.to
    return None if cell is None else cell.address
