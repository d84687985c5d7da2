"""Exit reasons, as OTP has them (``OTP`` SUP 1.3, LNK-02, LNK-03, GS-08).

A reason is ``"normal"``, ``"shutdown"``, ``("shutdown", anything)``, ``"killed"``, ``"noproc"``,
any other plain value a program chose, or a :class:`Crash` that wraps an exception. *Normal-type*
are the first three kinds; everything else is abnormal, ``"killed"`` included.
"""

from __future__ import annotations

import traceback
from typing import Any, Final, TypeAlias

Reason: TypeAlias = Any
"""A plain comparable value, or a :class:`Crash`."""

NORMAL: Final = "normal"
SHUTDOWN: Final = "shutdown"
KILL: Final = "kill"
"""The signal that cannot be trapped; others see the victim end with :data:`KILLED`."""
KILLED: Final = "killed"
NOPROC: Final = "noproc"


class Crash:
    """The reason of an actor that an exception ended (OTP ``{exception, stack}``).

    The traceback is formatted only when somebody asks: a restart must not pay for it.
    """

    __slots__ = ("_text", "error")

    def __init__(self, error: BaseException, text: str | None = None) -> None:
        self.error = error
        self._text = text

    @property
    def traceback(self) -> str:
        """The formatted traceback of the exception."""
        if self._text is None:
            self._text = "".join(traceback.format_exception(self.error))
        return self._text

    def __repr__(self) -> str:
        return f"Crash({type(self.error).__name__}: {self.error})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Crash):
            return NotImplemented
        return type(self.error) is type(other.error) and self.error.args == other.error.args

    def __hash__(self) -> int:
        return hash((type(self.error).__name__, str(self.error)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _crash_from_text, (type(self.error).__name__, str(self.error), self.traceback)


def _crash_from_text(kind: str, text: str, trace: str) -> Crash:
    # The exception itself may not pickle; its name, words and traceback always do.
    return Crash(RuntimeError(f"{kind}: {text}"), trace)


def is_normal(reason: Reason) -> bool:
    """Whether the reason is normal-type: ``normal``, ``shutdown`` or ``("shutdown", x)``."""
    if isinstance(reason, str):
        return reason in (NORMAL, SHUTDOWN)
    if not isinstance(reason, tuple):
        return False
    return len(reason) == 2 and reason[:1] == (SHUTDOWN,)  # pyright: ignore[reportUnknownArgumentType]


def describe(reason: Reason) -> str:
    """One line for people: what ended the actor, without the traceback."""
    if isinstance(reason, Crash):
        return f"{type(reason.error).__name__}: {reason.error}"
    return reason if isinstance(reason, str) else repr(reason)
