"""Work begun again if nobody was there to do it: an actor comes back, and so may a model; what was paid is found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ...runtime.errors import (
    ActorDied,
    ApplicationDown,
    CallCancelled,
    LMAuthError,
    LMCircuitOpen,
    LMConnectionError,
    LMQuotaExceeded,
    NameUnavailable,
    NoProcess,
    Overloaded,
    RunConflict,
    StoreError,
)

T = TypeVar("T")
TRIES: Final = 9
"""How often an example is tried whose module, or its provider, dies under it: some twelve seconds."""
FIRST_PAUSE: Final = 0.05
AWAY: Final = (
    ActorDied,
    CallCancelled,
    LMCircuitOpen,
    LMConnectionError,
    NameUnavailable,
    NoProcess,
    Overloaded,
)
"""Failures of whoever was asked, whatever it was asked: the same may go well a little later."""
GATED: Final = (LMAuthError, LMQuotaExceeded)
"""Failures that close a provider's gate."""
HOPELESS: Final = (
    *GATED,
    LMCircuitOpen,
    LMConnectionError,
    NoProcess,
    NameUnavailable,
    ApplicationDown,
    RunConflict,
    StoreError,
)
"""Failures that the next example would meet too: they end the work, and are no example's score."""


async def tried(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, up to :data:`TRIES` times, with twice the pause after each; not before a breaker lets somebody through."""
    for number in range(TRIES - 1):
        try:
            return await work()
        except (*AWAY, *GATED) as error:
            # Of a gate: another request is just finding out whether the key, or the account, is mended.
            if isinstance(error, GATED) and error.facts.get("state") != "trying":
                raise
            await asyncio.sleep(max(FIRST_PAUSE * 2**number, error.facts.get("retry_after") or 0.0))
    return await work()
