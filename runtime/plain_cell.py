"""How a plain Thespian ``Actor`` lives here: Thespian's contract, as its multi-process bases keep it.

A message whose handling raises is delivered a second time; after the second failure its sender gets
a ``PoisonMessage`` and the actor lives on. ``ActorExitRequest`` ends the actor, its children with it.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thespian.actors import Actor, ActorAddress, ActorExitRequest, ChildActorExited, PoisonMessage, ThespianWatch
from thespian.system.messages.status import Thespian_StatusReq

from .address import LocalAddress
from .calls import Call
from .cell import BUSY, DEAD, OPEN, TERMINATING, Cell
from .errors import UnknownMessage
from .items import CAST, INFO, PARENT_EXIT
from .outcomes import Started, StartResult
from .reasons import KILL, NORMAL, Crash, Reason
from .watches import FileWatch

if TYPE_CHECKING:
    from .engine import Engine


class PlainCell(Cell):
    """A cell whose actor is a plain Thespian actor; its mailbox has no limit."""

    __slots__ = ("_file_watch", "exit_reason")

    def __init__(self, engine: Engine, number: int, instance: Actor, parent: Cell | None) -> None:
        super().__init__(engine, number, instance, parent)
        self.offloop = bool(getattr(instance, "blocking", False))
        self.guards = int(self.offloop)
        self.exit_reason: Reason = NORMAL
        self._file_watch: FileWatch | None = None

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any], on_started: Callable[[StartResult], None]) -> None:
        """A plain actor is ready when its constructor returned."""
        self.status = OPEN
        self.engine.named_cell_started(self)
        on_started(Started(self.address))
        if self.status == OPEN:
            self.resume_running()

    def signal(self, reason: Reason, sender: Cell | None, *, from_parent: bool = False) -> None:
        """The parent's exit signal comes as an ``ActorExitRequest``, so that the actor may clean up."""
        if from_parent and reason != KILL:
            self.force((PARENT_EXIT, reason))
        else:
            super().signal(reason, sender, from_parent=from_parent)

    def run(self, budget: int) -> None:
        """Handle up to ``budget`` messages."""
        box = self.mailbox
        while box and budget > 0 and self.status == OPEN:
            budget -= 1
            self.handled += 1
            item = box.popleft()
            if isinstance(item, Call):
                self._refuse_call(item)
            elif item[0] == INFO:
                self.context = item[3]
                self._receive(item[1], item[2])
            elif item[0] == CAST:
                self.context = item[2]
                self._receive(item[1], None)
            elif item[0] == PARENT_EXIT:
                self.exit_reason = item[1]
                self._receive(ActorExitRequest(), None)
            else:
                self.stop(item[1])

    def stop(self, reason: Reason) -> None:
        """End, the children first."""
        self.exit_reason = reason
        self._exit(recursive=True)

    def die(self, reason: Reason, *, silent: bool = False) -> None:
        """As in the base; its file numbers are watched no longer."""
        self.watch_files(None)
        super().die(reason, silent=silent)

    def watch_files(self, wanted: ThespianWatch | None) -> None:
        """Watch these file numbers, and no others, for the actor."""
        if self._file_watch is not None:
            self._file_watch.close()
            self._file_watch = None
        if wanted is not None and self.alive:
            self._file_watch = FileWatch(self, wanted.filenos)

    def _refuse_call(self, call: Call) -> None:
        call.fail(
            UnknownMessage(
                f"{self.label} is a plain Thespian actor and answers no calls; use ask",
                target=self.label,
                message_type=type(call.message).__name__,
            )
        )

    # -- one message -------------------------------------------------------------------------------

    def _receive(self, message: Any, sender: ActorAddress | None) -> None:
        self.sender = sender
        if isinstance(message, Thespian_StatusReq):
            self.engine.router.send(sender, self.thespian_status(), self, None)
        elif self.offloop:
            self.status = BUSY
            self.run_task = self.engine.run_offloop(
                self,
                lambda: self._deliver(message, sender),
                lambda result, error: self._received(message, result, error),
            )
        else:
            try:
                self._after(message, self._deliver(message, sender))
            except BaseException as error:  # fault boundary: SystemExit and its like end this actor only
                self.engine.reraise_interrupt(error)
                self._received(message, None, error)

    def _received(self, message: Any, result: Any, error: BaseException | None) -> None:
        if error is not None:
            crash = Crash(error)
            self.engine.log.crashed(self, crash)
            self.die(crash)
            return
        self.status = OPEN
        self._after(message, result)
        if self.status == OPEN:
            self.resume_running()

    def _deliver(self, message: Any, sender: ActorAddress | None) -> Any:
        """Deliver, and once more if that failed; what the actor returned, or what it failed with as a ``_Failure``."""
        address = sender if sender is not None else self.engine.system_address
        actor = self.instance
        try:
            return actor.receiveMessage(message, address)
        except Exception:  # fault boundary: Thespian delivers once more
            if isinstance(message, ActorExitRequest) or not self.alive:
                return None
        try:
            return actor.receiveMessage(copy.deepcopy(message), address)
        except Exception:  # fault boundary: Thespian's poison message
            return _Failure(traceback.format_exc())

    def _after(self, message: Any, result: Any) -> None:
        if not self.alive:
            return
        if isinstance(message, ActorExitRequest):
            self._exit(message.isRecursive)
            return
        self.watch_files(result if isinstance(result, ThespianWatch) else None)
        if isinstance(result, _Failure):
            self.engine.counters.poisoned += 1
            if self.sender is not None and not isinstance(message, PoisonMessage):
                self.engine.router.send(self.sender, PoisonMessage(message, result.details), self, self.context)

    # -- end ---------------------------------------------------------------------------------------

    def _exit(self, recursive: bool) -> None:
        """Children first, as Thespian does: the parent ends when the last of them is gone."""
        children = list((self.children or {}).values()) if recursive else []
        if not recursive:
            self.children = None  # they live on, as orphans
        if not children:
            self.die(self.exit_reason)
            return
        self.status, self.scheduled = TERMINATING, True
        waiting = {child.address for child in children}

        def gone(address: LocalAddress | None, reason: Reason) -> None:
            if self.status == DEAD or address is None:
                return
            waiting.discard(address)
            if not self.offloop:
                self._deliver(ChildActorExited(address), None)
            if not waiting:
                self.die(self.exit_reason)

        for child in children:
            child.watch(self.engine.next_number(), gone)
            child.put_notice(ActorExitRequest(), self.address)


class _Failure:
    """A message that an actor failed on twice."""

    __slots__ = ("details",)

    def __init__(self, details: str) -> None:
        self.details = details
