"""What ``init`` and handlers may return besides a plain reply, and how a start may end.

The names are OTP's: ``noreply``, ``stop``, ``{continue, x}``, ``ignore``, ``{ok, pid, info}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .address import LocalAddress
from .reasons import NORMAL, Reason


class Outcome:
    """Base of the special return values; everything else a ``@call`` handler returns is the reply."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class NoReply(Outcome):
    """The reply comes later, through ``reply`` or ``fail`` (OTP GS-06)."""


_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Stop(Outcome):
    """End the actor: ``terminate`` runs, then the reply goes out, then the exit (OTP GS-07).

    Args:
        reason: the exit reason.
        reply: the answer to the current call; without it the caller gets :class:`~.errors.ActorDied`.
    """

    reason: Reason = NORMAL
    reply: Any = _ABSENT

    @property
    def replies(self) -> bool:
        """Whether a reply was given."""
        return self.reply is not _ABSENT


@dataclass(frozen=True, slots=True)
class Continue(Outcome):
    """Run ``handle_continue(value)`` before any message; ``reply`` answers the current call first (OTP GS-02)."""

    value: Any = None
    reply: Any = None


@dataclass(frozen=True, slots=True)
class Fail(Outcome):
    """An expected failure: the caller's call raises ``error``, the actor lives on."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Ignore(Outcome):
    """From ``init``: do not start, and it is no failure (OTP SUP-05)."""


@dataclass(frozen=True, slots=True)
class Info(Outcome):
    """From ``init``: started, and tell the starter ``value`` (OTP SUP-06)."""

    value: Any


class Exit(Exception):
    """Raise it in a handler to end the actor with ``reason``.

    Args:
        reason: the exit reason, ``"normal"`` if not given.
    """

    def __init__(self, reason: Reason = NORMAL) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Started:
    """The actor runs; ``info`` is what ``init`` passed on with :class:`Info`."""

    address: LocalAddress
    info: Any = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """``init`` answered :class:`Ignore`."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The actor did not start."""

    reason: Reason


StartResult: TypeAlias = Started | Ignored | StartFailed
"""How a start ends."""
