"""What the others are told of an actor's end: callers, watchers, linked actors, children and the parent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from thespian.actors import ActorExitRequest, ChildActorExited

from .calls import Call
from .errors import ActorDied, CallError
from .items import CAST, INFO
from .messages import Down, ExitSignal, Reply, TaskDone, TaskFailed
from .reasons import Reason, describe, is_normal

if TYPE_CHECKING:
    from .cell import Cell

NOTICES: Final = (ExitSignal, Down, Reply, TaskDone, TaskFailed, ChildActorExited)
"""What the engine itself tells an actor: nobody misses it when the actor has ended."""


def died_error(cell: Cell, call: Call) -> CallError:
    """What a caller of this dead or dying actor is told; a fresh one for each."""
    if cell.engine.stopping and is_normal(cell.reason):
        return cell.engine.router.down()
    return ActorDied(
        f"{call.target!s} ended ({describe(cell.reason)}) before it answered {type(call.message).__name__}",
        target=str(call.target),
        reason=cell.reason,
    )


def fail_calls(cell: Cell, box: Iterable[Any], never_started: bool) -> None:
    """Answer whoever waits for an actor that has ended; what else waits in its mailbox reached nobody.

    Args:
        cell: the actor.
        box: what waited in its mailbox.
        never_started: whether its start was not over: who asked by name then waits for the next incarnation.
    """
    router = cell.engine.router
    current, cell.call = cell.call, None
    if current is not None and not current.settled:
        current.fail(died_error(cell, current))
    open_calls, cell.open_calls = cell.open_calls, None
    for call in open_calls or ():
        call.fail(died_error(cell, call))
    for item in box:
        if isinstance(item, Call):
            if never_started and item.target == cell.name and router.waits(item.target):
                router.place(item)  # to wait for the next incarnation
            else:
                item.fail(died_error(cell, item))
        elif item[0] in (CAST, INFO) and not isinstance(item[1], NOTICES):
            router.undelivered(cell.address, cell, item[1])


def tell_others(cell: Cell, reason: Reason, silent: bool) -> None:
    """Tell watchers, links, children and the parent that an actor has ended, and forget them.

    Args:
        cell: the actor.
        reason: what they are told.
        silent: whether the parent is told by somebody else.
    """
    engine = cell.engine
    parent, links, monitors, children = cell.parent, cell.links, cell.monitors, cell.children
    cell.links = cell.monitors = cell.children = None
    for other in (links or {}).values():
        if other.links is not None:
            other.links.pop(cell.address, None)
        if not (silent and other is parent):
            engine.later_signal(other, reason, cell, from_parent=other.parent is cell)
    for notify in (monitors or {}).values():
        try:
            notify(cell.address, reason)
        except Exception as error:  # fault boundary: one watcher's failure must not keep the end from the others
            engine.log.callback_failed(notify, error)
    for child in (children or {}).values():
        if not (links and child.address in links):
            child.put_notice(ActorExitRequest(), cell.address)
    if parent is not None and parent.children is not None:
        parent.children.pop(cell.address, None)
        if not silent and not (links and parent.address in links) and parent.alive:
            parent.put_notice(ChildActorExited(cell.address), engine.system_address)
    engine.flush_signals()
