"""What went wrong at a start, as one sentence: OTP nests the reasons of supervisors within one another."""

from __future__ import annotations

from typing import Any

from ...runtime.child_spec import ChildSpec
from ...runtime.errors import StartError
from ...runtime.reasons import SHUTDOWN, Crash, Reason, describe


def start_error(reason: Reason) -> StartError:
    """The error of an application that did not start.

    Its text names the child that failed and why; ``child`` is the path to it, ``reason`` OTP's nested term, and
    ``__cause__`` the exception, if there was one.
    """
    path, innermost = unfold(reason)
    where = "/".join(path)
    who = f"child {where!r}" if where else "its root supervisor"
    error = StartError(f"the application did not start: {who} failed: {describe(innermost)}", reason=reason, child=path)
    error.__cause__ = cause_of(innermost)
    return error


def unfold(reason: Reason) -> tuple[tuple[str, ...], Reason]:
    """The ids of the children on the way to the one that failed, and that one's own reason."""
    path: list[str] = []
    inner: Any = reason
    while True:
        match inner:
            case (word, ("failed_to_start_child", id, deeper)) if word == SHUTDOWN:
                path.append(str(id))
                inner = deeper
            case ("EXIT", deeper):
                inner = deeper
            case _:
                return tuple(path), inner


def cause_of(reason: Reason) -> BaseException | None:
    """The exception behind a reason, if there is one."""
    return reason.error if isinstance(reason, Crash) else None


def child_start_error(error: StartError) -> StartError:
    """A refused ``start_child`` as one sentence, with the exception behind it as ``__cause__``."""
    reason: Any = error.reason
    match reason:
        case (why, ChildSpec()):  # as a static supervisor has it
            reason = why
        case _:
            pass
    path, innermost = unfold(reason)
    if path:  # the child is a supervisor, and one below it failed
        who = error.message.partition(" did not start")[0]
        text = f"{who} did not start: child {'/'.join(path)!r} failed: {describe(innermost)}"
        error = StartError(text, **error.facts)
    error.__cause__ = cause_of(innermost)
    return error
