"""Who gets a message: names and addresses to mailboxes, and what becomes of messages nobody can take.

A call to a name that is restarting is *parked* here until the name runs again, is dead, or the call's
deadline passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from thespian.actors import ActorAddress

from .address import LocalAddress
from .calls import MAX_DEPTH, Call
from .cell import Cell
from .context import Context
from .errors import (
    ApplicationDown,
    CallCycle,
    CallDepthExceeded,
    CallError,
    NameUnavailable,
    NoProcess,
)
from .items import CAST
from .names import WAITING, NameEntry, qualify
from .reasons import describe

if TYPE_CHECKING:
    from .engine import Engine

MAX_COMPARED: Final = 100
"""Names among which the one that was meant is looked for: a millisecond of the engine's thread."""


class Router:
    """Delivery within one engine. On the engine's thread.

    Attributes:
        elsewhere: in a child interpreter: who stands for a name that nobody here ever had, given the name
            and whether to fail fast. Its owner may know it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.elsewhere: Callable[[str, bool], Cell] | None = None
        self._parked: dict[str, list[Call]] = {}
        engine.names.on_running = self._unpark
        engine.names.on_unavailable = self._refuse_parked

    # -- who is it -------------------------------------------------------------------------------

    def cell_of(self, target: Any, namespace: str = "") -> Cell | None:
        """The cell of an address or name, dead ones included; None if there is none."""
        if type(target) is LocalAddress:
            return target.cell
        if isinstance(target, str):
            name = qualify(namespace, target)
            entry = self._engine.names.get(name)
            if entry is None and self.elsewhere is not None:
                return self.elsewhere(name, False)
            if entry is None or entry.address is None or entry.state == "dead":
                return None
            return entry.address.cell
        return None

    def holder_of(self, name: str, namespace: str) -> Cell | None:
        """The live actor of this engine that has a name now."""
        entry = self._engine.names.get(qualify(namespace, name))
        cell = None if entry is None or entry.state == "dead" or entry.address is None else entry.address.cell
        return cell if cell is not None and cell.alive else None

    def running(self, target: Any, namespace: str) -> tuple[str, Cell | None]:
        """A name in full, and the cell that runs under it now."""
        name = qualify(namespace, str(target))
        entry = self._engine.names.get(name)
        if entry is None or entry.state != "running" or entry.address is None:
            return name, None
        return name, entry.address.cell

    # -- plain messages and casts ----------------------------------------------------------------

    def send(
        self, target: ActorAddress | None, message: Any, sender: Cell | None, context: Context | None = None
    ) -> None:
        """Deliver a plain message."""
        cell = target.cell if type(target) is LocalAddress else None
        if cell is not None:
            cell.put_info(message, sender.address if sender is not None else None, context)
        elif target is not None and target != self._engine.system_address:
            self._engine.dead_letters.add(target, message)

    def cast(self, target: Any, message: Any, namespace: str = "", context: Context | None = None) -> None:
        """Deliver a cast; what cannot be delivered is counted (OTP GS-05)."""
        cell = self.cell_of(target, namespace)
        if cell is None or not cell.put((CAST, message, context)):
            self.undelivered(target, cell, message)

    def undelivered(self, target: Any, cell: Cell | None, message: Any) -> None:
        """Count a message that nobody could take: unknown, dead, or with a full mailbox."""
        if cell is None:
            self._engine.dead_letters.add(target, message)
            return
        if cell.alive:
            self._engine.log.overloaded(cell, message)
        self._engine.dead_letters.add(cell.address if cell.name is None else cell.name, message)

    # -- calls -----------------------------------------------------------------------------------

    def place(self, call: Call, namespace: str = "", fail_fast: bool = False) -> None:
        """Bring a call to its target, park it, or refuse it with a typed error."""
        target = call.target
        if type(target) is LocalAddress:
            cell = target.cell
        else:
            call.target = name = qualify(namespace, str(target))
            entry = self._engine.names.get(name)
            if entry is not None and entry.state in WAITING:
                self._park(entry, call, fail_fast)
                return
            if entry is None and self.elsewhere is not None:
                cell = self.elsewhere(name, fail_fast)
            elif entry is None or entry.address is None or entry.state == "dead":
                call.fail(self._nobody(call, entry))
                return
            else:
                cell = entry.address.cell
        if cell is None or cell.mailbox is None:
            call.fail(self._nobody(call, None, cell))
            return
        if (call.parent is not None or call.holder is not None) and (refusal := self._refusal(call, cell)) is not None:
            call.fail(refusal)
            return
        cell.put_call(call)
        if call.deadline is not None and not call.settled:
            self._engine.scheduler.watch_deadline(call)

    def pass_on(self, call: Call, target: Any, namespace: str = "") -> None:
        """Have somebody else answer a call that was placed before; deadline, trace and cancellation stay its own."""
        if not call.settled:
            call.let_go()
            call.target = target
            self.place(call, namespace)

    def load(self, target: Any, namespace: str = "") -> int:
        """How many messages wait for an actor, and calls that it has taken and not answered."""
        cell = self.cell_of(target, namespace)
        return 0 if cell is None else len(cell.mailbox or ()) + len(cell.open_calls or ())

    def children(self, target: Any, namespace: str = "") -> int:
        """How many children an actor has now."""
        cell = self.cell_of(target, namespace)
        return 0 if cell is None else len(cell.children or ())

    def waits(self, name: str) -> bool:
        """Whether calls to this name wait for its next incarnation now."""
        entry = self._engine.names.get(name)
        return entry is not None and entry.state in WAITING

    def parked(self, name: str) -> tuple[Call, ...]:
        """The calls that wait for a name's next incarnation. From any thread."""
        return tuple(call for call in tuple(self._parked.get(name, ())) if not call.settled)

    def _refusal(self, call: Call, cell: Cell) -> CallError | None:
        if call.depth > MAX_DEPTH:
            return CallDepthExceeded(
                f"calls nested {call.depth} deep on the way to {cell.label}; at most {MAX_DEPTH} are allowed",
                target=cell.label,
                depth=call.depth,
            )
        chain = call.chain_to(cell)
        if chain is None:
            return None
        path = " -> ".join([*chain, cell.label])
        return CallCycle(f"{cell.label} waits for this very call: {path}", target=cell.label, chain=chain)

    def _park(self, entry: NameEntry, call: Call, fail_fast: bool) -> None:
        name, limit = entry.name, self._engine.mailbox_limit
        waiting = self._parked.setdefault(name, [])
        if len(waiting) >= limit:
            waiting[:] = [each for each in waiting if not each.settled]
        if fail_fast or len(waiting) >= limit:
            why = "the caller asked not to wait" if fail_fast else f"{len(waiting)} calls wait for it already"
            call.fail(NameUnavailable(f"{name} is {entry.state}, and {why}", target=name, state=entry.state))
            return
        waiting.append(call)
        call.arm()

    def _unpark(self, entry: NameEntry) -> None:
        for call in self._parked.pop(entry.name, ()):
            if not call.settled:
                self.place(call)

    def _refuse_parked(self, entry: NameEntry) -> None:
        for call in self._parked.pop(entry.name, ()):
            call.fail(self._nobody(call, entry))

    def refuse_all_parked(self) -> None:
        """The engine stops: nobody comes back any more."""
        parked, self._parked = self._parked, {}
        for calls in parked.values():
            for call in calls:
                call.fail(self.down())

    def _nobody(self, call: Call, entry: NameEntry | None, cell: Cell | None = None) -> CallError:
        if self._engine.stopping:
            return self.down()
        reason = entry.reason if entry is not None else (cell.reason if cell is not None else None)
        known = entry is not None or cell is not None
        why = f"it is dead ({describe(reason)})" if known else f"nobody has this name or address{self._near(call)}"
        return NoProcess(f"no process {call.target!s}: {why}", target=str(call.target), reason=reason)

    def _near(self, call: Call) -> str:
        """A hint at the nearest name, if there are few enough to be compared on the engine's thread."""
        names = self._engine.names
        if not isinstance(call.target, str) or len(names) > MAX_COMPARED:
            return ""
        return names.near(call.target)

    def down(self) -> ApplicationDown:
        """The error of calls that the engine's end finds open."""
        reason = self._engine.stop_reason
        return ApplicationDown(f"the engine has stopped ({describe(reason)})", reason=reason)

    def state_of(self, call: Call) -> str:
        """What the target of a call does now, for its time-out."""
        if isinstance(call.target, str):
            entry = self._engine.names.get(call.target)
            if entry is not None and entry.state != "running":
                return entry.state
        if call.to is None:
            return "not reached yet"
        return call.to.status_name if call.to.alive else f"dead ({describe(call.to.reason)})"
