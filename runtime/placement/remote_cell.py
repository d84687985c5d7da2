"""An actor of the other side, as the actors here see it: its mailbox, links and monitors lead over the link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thespian.actors import Actor, ActorAddress

from ..address import LocalAddress
from ..calls import Call
from ..cell import DEAD, OPEN, Cell, Watch
from ..context import Context
from ..endings import tell_others
from ..errors import Overloaded
from ..items import CAST, INFO, STOP
from ..messages import SystemMessage
from ..reasons import Reason
from . import wire

if TYPE_CHECKING:
    from .portal import Portal

_NOBODY = Actor()


class RemoteCell(Cell):
    """Stands for one actor elsewhere, known by its address, or for whoever has a name there.

    It is nobody's child and in no list of the engine; it lives as long as somebody has its address, or waits
    for its end.

    Attributes:
        portal: the link to it.
        target: what the other side is told to deliver to: an address of it, or a name.
    """

    elsewhere = True
    __slots__ = ("_fail_fast", "_watch_id", "portal", "target")

    def __init__(self, portal: Portal, address: LocalAddress, target: LocalAddress | str, fail_fast: bool = False):
        super().__init__(portal.engine, address.number, _NOBODY, None)
        address.cell = self
        self.address = address
        self.portal = portal
        self.target = target
        self.status = OPEN
        self._fail_fast = fail_fast
        self._watch_id = 0

    @property
    def label(self) -> str:
        """The name it was asked for by, or its address."""
        return str(self.target)

    # -- mailbox -----------------------------------------------------------------------------------

    def put(self, item: Any) -> bool:
        """Send a cast or a plain message; False if the link is full or the other side gone.

        Raises:
            UsageError: it does not pickle.
        """
        if self.mailbox is None or self.portal.full:
            return False
        self._cross(item, notice=False)
        return True

    def force(self, item: Any) -> None:
        """Send it whatever the limit."""
        if self.mailbox is not None:
            self._cross(item, notice=True)

    def put_notice(self, message: Any, sender: ActorAddress | None = None, context: Context | None = None) -> None:
        """Send what the engine has to tell."""
        self.force((INFO, message, sender, context))

    def _cross(self, item: Any, *, notice: bool) -> None:
        kind, message, target = item[0], item[1], self.target
        if kind == CAST:
            self.portal.write(wire.CAST, 0, wire.dumps((target, message, item[2]), message))
        elif kind == INFO:
            self.portal.write(wire.INFO, 0, wire.dumps((target, message, item[2], item[3], notice), message))
        elif kind == STOP:
            self.portal.send(wire.STOP, 0, (target, wire.portable_reason(message)))

    def put_call(self, call: Call) -> None:
        """Have the call placed at the other side."""
        portal = self.portal
        if portal.full and not isinstance(call.message, SystemMessage):
            limit = self.engine.mailbox_limit
            words = f"{limit} messages wait to be sent to the process of {self.label}"
            name = type(call.message).__name__
            call.fail(Overloaded(f"{words}; {name} was refused", target=self.label, limit=limit))
            return
        call.to = self
        portal.call(call, self.target, portal.write, fail_fast=self._fail_fast)

    # -- signals -----------------------------------------------------------------------------------

    def signal(self, reason: Reason, sender: Cell | None, *, from_parent: bool = False) -> None:
        """Pass an exit signal on."""
        if self.status != DEAD:
            by = None if sender is None else sender.address
            linked = sender is not None and sender.status == DEAD
            self.portal.send(wire.EXIT, 0, (self.target, wire.portable_reason(reason), by, from_parent, linked))

    def linked_by(self, other: Cell, linked: bool) -> None:
        """An actor here has linked itself with this one, or undone it."""
        self.portal.send(wire.LINK if linked else wire.UNLINK, 0, (self.target, other.address))
        if linked:
            self.portal.hold(self)
        else:
            self._rest()

    def watch(self, ref: int, notify: Watch, watcher: Cell | None = None) -> None:
        """As in the base; the other side is asked to tell of the end."""
        super().watch(ref, notify, watcher)
        self.portal.hold(self)
        if not self._watch_id:
            self._watch_id = self.portal.watch(self)

    def unwatch(self, ref: int) -> None:
        """As in the base; with the last monitor the other side is told."""
        super().unwatch(ref)
        if not self.monitors and self._watch_id:
            self.portal.unwatch(self._watch_id)
            self._watch_id = 0
        self._rest()

    def _rest(self) -> None:
        if not self.monitors and not self.links:
            self.portal.let_go(self)

    # -- life --------------------------------------------------------------------------------------

    @property
    def status_name(self) -> str:
        """For people: what it does is known at the other side only."""
        return "dead" if self.status == DEAD else "in another process"

    def ended(self, address: LocalAddress | None, reason: Reason) -> None:
        """The other side told of its end, and who it was; links are told by a signal of their own."""
        monitors, self.monitors, self.links = self.monitors, None, None
        self.die(reason)
        for notify in (monitors or {}).values():
            notify(address, reason)

    def die(self, reason: Reason, *, silent: bool = False) -> None:
        """Tell those here who wait for its end."""
        if self.status == DEAD:
            return
        self.status, self.reason = DEAD, reason
        self.mailbox = None
        self.portal.let_go(self)
        tell_others(self, reason, silent)
