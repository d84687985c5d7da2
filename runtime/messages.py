"""Messages the engine itself sends to actors, and the system messages every actor answers.

The first group arrives as *info*; a :class:`~.gen_server.GenServer` takes one with an ``@info``
handler. System messages are calls and never reach a handler: the engine answers them, as OTP's
``sys`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from thespian.actors import ActorAddress

from .reasons import Reason


@dataclass(frozen=True, slots=True)
class Down:
    """A monitored actor ended, or was never there (reason ``noproc``); comes exactly once (OTP LNK-05).

    Attributes:
        ref: what ``monitor`` returned.
        address: the actor that ended; None for a name nobody had.
        reason: why.
    """

    ref: int
    address: ActorAddress | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class ExitSignal:
    """A linked actor ended, or somebody sent an exit signal; only if trapping exits (OTP LNK-02)."""

    sender: ActorAddress
    reason: Reason


class Reply(NamedTuple):
    """The answer to a ``request``: a value, or the error that a ``call`` would have raised."""

    tag: Any
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class TaskDone:
    """A task started with ``start_task`` returned."""

    tag: Any
    value: Any


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A task started with ``start_task`` raised, or was cancelled (reason ``killed``)."""

    tag: Any
    reason: Reason


class Opens:
    """Base of requests whose answer hands over an actor, its ``address``, that is of use only to whoever asked.

    If nobody takes the answer, because its caller has given up at the last moment, the engine takes leave of it.
    """

    __slots__ = ()

    def farewell(self) -> Any:
        """What to cast to it then; None for nothing."""
        raise TypeError(f"{type(self).__name__} does not say how to take leave of what it opens")


class SystemMessage:
    """Base of the messages the engine answers for every GenServer (OTP ``sys``)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GetState(SystemMessage):
    """Answers the actor's attributes as short texts, secrets redacted."""


@dataclass(frozen=True, slots=True)
class GetStatistics(SystemMessage):
    """Answers a :class:`Statistics`."""


@dataclass(frozen=True, slots=True)
class Suspend(SystemMessage):
    """Stop handling messages, other than system ones, until :class:`Resume`."""


@dataclass(frozen=True, slots=True)
class Resume(SystemMessage):
    """Go on after :class:`Suspend`."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the engine knows of one actor.

    Attributes:
        address: its address as text.
        name: its registered name, or None.
        actor: its class.
        status: ``init``, ``idle``, ``ready``, ``busy``, ``suspended``, ``terminating`` or ``dead``.
        mailbox: messages waiting.
        handled: messages handled so far.
        open_calls: calls taken and not answered yet.
        tasks: owned tasks running.
        children: direct children alive.
        age: seconds since it was spawned.
    """

    address: str
    name: str | None
    actor: str
    status: str
    mailbox: int
    handled: int
    open_calls: int
    tasks: int
    children: int
    age: float

    def to_dict(self) -> Mapping[str, Any]:
        """The same as a plain mapping."""
        return {field: getattr(self, field) for field in self.__slots__}
