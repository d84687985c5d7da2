"""How a limit reports itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Scope: TypeAlias = Literal["all", "user"]
"""Whose a limit is: that of all requests, or that of one user's."""
LimitName: TypeAlias = Literal["requests", "tokens", "concurrency", "slowdown", "pause", "queue", "storage"]
"""What a request may wait for; ``queue`` are those in front of it, ``storage`` is the answer of a shared store."""


@dataclass(frozen=True, slots=True)
class BucketReport:
    """One limit.

    Attributes:
        scope: ``all``, or ``user``.
        user: whose, with the scope ``user``; None are the requests that name no user.
        limit: ``requests``, ``tokens`` or ``concurrency``.
        of: how much it lets through.
        used: how much is taken; more than ``of`` if the limit was lowered, or tokens were underestimated.
        remaining: how much is left.
        reset_in: seconds until all of it is back; None for ``concurrency``.
    """

    scope: Scope
    user: str | None
    limit: LimitName
    of: int
    used: int
    remaining: int
    reset_in: float | None
