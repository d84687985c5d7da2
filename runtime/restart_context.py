"""Why an actor was started again: what its supervisor tells the new incarnation, if that asks."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from .reasons import Reason


@dataclass(frozen=True, slots=True)
class RestartContext:
    """The cause of a restart; an actor reads it as ``self.restart_context``.

    A *series* is a child's restarts in a row: it begins with an end of the child, and is over when the child has
    run for longer than its supervisor's window (``max_seconds``). Failed attempts belong to it.

    Attributes:
        reason: why this actor's last incarnation ended; one whose start failed is none. A sibling that a group
            restart stopped has what it was stopped with (``shutdown``).
        attempt: which restart of the series this is; 1 is the first.
        since: when the series began with the child's end, in seconds of ``self.clock.monotonic()``.
        failed: id of the child for which the supervisor restarts: this one, or a sibling.
        cause: why that child ended, or why its start failed at the attempt before.
    """

    reason: Reason
    attempt: int
    since: float
    failed: Hashable
    cause: Reason


__all__ = ("RestartContext",)
