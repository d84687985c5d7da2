"""Answers to the messages that every GenServer understands (OTP ``sys``)."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .calls import Call
from .cell import OPEN, SUSPENDED
from .messages import GetState, GetStatistics, Resume, Statistics, Suspend

if TYPE_CHECKING:
    from .cell import Cell

_SECRET_WORDS: Final = ("key", "token", "secret", "password", "credential", "authorization")
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120
_short.maxlist = _short.maxdict = _short.maxtuple = 8


def answer_system_message(cell: Cell, call: Call) -> None:
    """Answer a system message on the actor's behalf."""
    message = call.message
    if isinstance(message, GetState):
        call.complete(redacted_state(_told(cell)))
    elif isinstance(message, GetStatistics):
        call.complete(statistics(cell))
    elif isinstance(message, Suspend):
        cell.status = SUSPENDED
        call.complete(None)
    elif isinstance(message, Resume):
        cell.status = OPEN
        call.complete(None)
    else:
        call.complete(None)


def _told(cell: Cell) -> Mapping[str, Any]:
    told: Callable[[], Mapping[str, Any]] = cell.instance.format_status
    try:
        return told()
    except Exception as error:  # fault boundary: to be looked at must end nobody
        return {"format_status": f"failed: {type(error).__name__}"}


def redacted_state(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as short texts; whatever is named like a secret shows as ``***``."""
    return {
        name: "***" if any(word in name.lower() for word in _SECRET_WORDS) else _short.repr(value)
        for name, value in attributes.items()
        if name != "_myRef"
    }


def statistics(cell: Cell) -> Statistics:
    """What the engine knows of one actor."""
    return Statistics(
        address=repr(cell.address),
        name=cell.name,
        actor=cell.actor_class.__name__,
        status=cell.status_name,
        mailbox=len(cell.mailbox or ()),
        handled=cell.handled,
        open_calls=len(cell.open_calls or ()) + (cell.call is not None),
        tasks=len(cell.tasks or ()),
        children=len(cell.children or ()),
        age=cell.engine.now() - cell.born,
    )
