"""The place of a plain function under a provider's protection."""

from __future__ import annotations

import contextlib
from typing import Final, cast

from ...actors.lm.failures import failure_of
from ...actors.protection.messages import Admit, Settle
from ...actors.providers.messages import OnLimit
from ...runtime.context import Context
from ...runtime.errors import CallError, LMError, UsageError
from .asks import check_on_limit, check_who
from .life import Life

# Beyond the caller's own deadline, so that what is settled late is settled by the caller.
_LEASE: Final = 5.0


class Seat:
    """An admission of code outside of actors: ``with`` settles it by how the block ends.

    Attributes:
        target: who is asked for it.
        ask: what.
        context: the trace of it.
        taken: whether it was given.
    """

    def __init__(
        self, life: Life, provider: str, user: str | None, tokens: int, timeout: float, on_limit: OnLimit | None
    ) -> None:
        check_who(user, None)
        check_on_limit(on_limit)
        given = cast("object", timeout)
        if not (isinstance(given, int | float) and 0 < given <= 3600):
            raise UsageError(f"expected seconds above 0, at most 3600, got {given!r}, at timeout")
        needs = cast("object", tokens)
        if not (isinstance(needs, int) and needs >= 0):
            raise UsageError(f"expected a whole number of tokens from 0, got {needs!r}, at tokens")
        self._life = life
        self.taken = False
        self.target = f"protection/{provider}"
        self.context = Context.root(life.engine.ids, user=user)
        self.ask = Admit(life.engine.ids.span_id(), tokens, user, on_limit, lease=timeout + _LEASE)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Who was not let in, or gave up, may have been let in at the last moment.
        failure = _failure(error) if self.taken else "cancelled"
        with contextlib.suppress(CallError):  # the application has stopped: there is nothing to settle
            self._life.engine.cast(self.target, Settle(self.ask.id, failure))


def check_function(function: object) -> None:
    """Check what is to be called.

    Raises:
        UsageError: it cannot be.
    """
    if not callable(function):
        raise UsageError(f"expected a function without arguments, got {type(function).__name__}")


def _failure(error: BaseException | None) -> str | None:
    """The row of a failure that an outcome belongs to; None is success."""
    if error is None:
        return None
    if isinstance(error, LMError):
        row = failure_of(error)
        return "server" if row is None else row.name
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError):
        return "connection"
    return "server" if isinstance(error, Exception) else "cancelled"
