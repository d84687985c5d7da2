"""For promises in time, such as "within 50 ms", on machines that are busy with other things too.

A test that measures says ``prompt(server.closed_at - left, 0.05)``, and stands below ``@tried_again``: what is late
each time is a defect of ours and stays red, what is late once was the machine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, ParamSpec

P = ParamSpec("P")

TRIES: Final = 5
"""Times that a test may run until it is in time."""


class TooLate(AssertionError):
    """What was promised came, but later than promised."""


def prompt(seconds: float, limit: float) -> None:
    """Hold that something took less time than promised.

    Args:
        seconds: that it took.
        limit: below which it should have taken.

    Raises:
        TooLate: it took longer.
    """
    if seconds >= limit:
        raise TooLate(f"expected less than {limit} s, got {seconds:.3f} s")


def tried_again(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test again when it was :class:`TooLate`, up to :data:`TRIES` times in all; other failures count at once.

    The test makes what it needs in its own body (a server, a provider), so that each try has it fresh.
    """

    @functools.wraps(test)
    def tries(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(TRIES - 1):
            try:
                return test(*args, **kwargs)
            except TooLate:
                continue
        return test(*args, **kwargs)

    return tries


__all__ = ("TRIES", "TooLate", "prompt", "tried_again")
