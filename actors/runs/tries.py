"""Work begun again if nobody was there to do it: an actor comes back, and so may a model; what was paid is found."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ...runtime.errors import (
    ActorDied,
    ApplicationDown,
    CallCancelled,
    Error,
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
"""How often an example is tried whose module, or its provider, dies under it: some twelve seconds of pauses."""
PATIENCE: Final = 45.0
"""Seconds after the first failure in which a try may begin: the usual rest of a breaker (30), and those twelve."""
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
    """Do it, up to :data:`TRIES` times, with twice the pause after each; not before a breaker lets somebody through.

    No try begins later than :data:`PATIENCE` after the first failure: a breaker that rests longer is not waited for.

    Raises:
        Error: the last failure; where that is just an open breaker, the failure that came before it, which says both.
    """
    now, end = asyncio.get_running_loop().time, math.inf
    cause: Error | None = None
    for number in range(TRIES):
        try:
            return await work()
        except (*AWAY, *GATED) as error:
            # Of a gate: another request is just finding out whether the key, or the account, is mended.
            if isinstance(error, GATED) and error.facts.get("state") != "trying":
                raise
            pause = max(FIRST_PAUSE * 2**number, error.facts.get("retry_after") or 0.0)
            end = min(end, now() + PATIENCE)
            if number + 1 >= TRIES or now() + pause > end:
                if cause is None or not isinstance(error, LMCircuitOpen):
                    raise
                raise _both(cause, error) from error
            if isinstance(error, HOPELESS) and not isinstance(error, LMCircuitOpen):
                cause = error
        await asyncio.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _both(cause: Error, then: Error) -> Error:
    """What is to be mended, and what followed from it."""
    return type(cause)(f"{cause.message}; then {then.code}: {then.message}", **cause.facts)
