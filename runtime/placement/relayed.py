"""Calls that cross: how the answer finds its way back, and how the caller's end does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..calls import Call
from ..cell import SUSPENDED
from ..context import Context
from ..messages import SystemMessage

if TYPE_CHECKING:
    from ..cell import Cell
    from .portal import Portal


class RelayedCall(Call):
    """A call that somebody at the other side makes; the waiter is the portal that brought it.

    The deadline is what was left there, or that of the call here which it serves. The caller's own timer is the
    one that counts: it is told from there.
    """

    __slots__ = ("id",)

    def __init__(
        self,
        portal: Portal,
        id: int,
        target: Any,
        message: Any,
        timeout: float | None,
        parent: Call | None,
        holder: Cell | None,
        context: Context | None,
    ) -> None:
        super().__init__(portal.engine, target, message, timeout, parent, holder, context, portal)
        self.id = id

    def deliver(self) -> None:
        """Send the outcome back."""
        self.waiter.answer(self)

    def expire(self) -> None:
        """The caller is told by its own timer; what was started for the call ends here."""
        self.waiter.forget_incoming(self.id)
        self.abandon()


class GiveUp:
    """Stands among the tasks that end with a call's caller: tells the other side that it gave up."""

    __slots__ = ("_id", "_tell")

    def __init__(self, id: int, tell: Callable[[int], None]) -> None:
        self._id = id
        self._tell = tell

    def cancel(self) -> None:
        """The caller gave up."""
        self._tell(self._id)


class Taken(SystemMessage):
    """Rides in a mailbox behind a batch: when it is answered, the batch has been taken."""

    __slots__ = ()


class TakenCall(Call):
    """Carries a :class:`Taken`; the waiter is told how many messages it rode behind, whatever the outcome."""

    __slots__ = ("_count",)

    def __init__(self, portal: Portal, count: int) -> None:
        super().__init__(portal.engine, "taken", Taken(), None, waiter=portal)
        self._count = count

    def complete(self, value: Any) -> None:
        """The batch has been taken; but one that is suspended answers system messages only, and takes nothing."""
        cell = self.to
        if cell is not None and cell.status == SUSPENDED and cell.mailbox is not None:
            cell.mailbox.append(self)
        else:
            super().complete(value)

    def deliver(self) -> None:
        """Tell the sender, who may send as many more."""
        self.waiter.taken(self._count)
