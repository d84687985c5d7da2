"""What a running application shows to somebody outside, as plain values, read from the engine's bookkeeping.

For a thread of its own: nothing here runs on the engine's thread, and no actor is asked but for its state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final, TypeVar

from ....runtime.calls import Call
from ....runtime.cell import NO_LIMIT, Cell
from ....runtime.engine import Engine
from ....runtime.errors import CallError, NoProcess, UsageError
from ....runtime.gen_server import GenServer
from ....runtime.messages import GetState
from ....runtime.names import NameEntry
from ....runtime.reasons import describe
from ....runtime.system_messages import redacted_state, statistics
from .. import names
from .explain import Explanation, Facts, OpenCall, explain
from .picture import TreeNode, tree_of
from .pulse import Held, Pulse

T = TypeVar("T")
STATE_LIMIT: Final = 2.0
"""Seconds that an actor gets to tell its state."""
_TRIES: Final = 100


class Observer:
    """Reads one engine.

    Args:
        engine: which.
        app: name of the application.
    """

    def __init__(self, engine: Engine, app: str) -> None:
        self._engine = engine
        self._app = app
        self.pulse = Pulse(engine)

    def answer(self, op: str, name: str | None) -> Any:
        """Answer one request with plain values.

        Args:
            op: ``tree``, ``stats``, ``show`` or ``explain``.
            name: whom ``show`` and ``explain`` are about.

        Raises:
            UsageError: no such request, or a name is missing.
            NoProcess: nobody ever had the name.
        """
        if op == "tree":
            return self.tree()
        if op == "stats":
            return self.stats()
        if op not in {"show", "explain"}:
            raise UsageError(f"expected one of the requests tree, stats, show, explain, got {op!r}")
        if name is None:
            raise UsageError(f"expected a name, got none, at {op}")
        return self.show(name) if op == "show" else asdict(self.explain(name))

    def tree(self) -> dict[str, Any]:
        """The supervision tree; who holds the loop is ``stuck``.

        Raises:
            NoProcess: it has not started, or is gone.
        """
        held = self.pulse.look()
        return _marked(self._tree().to_dict(), "" if held.holder is None else repr(held.holder.address))

    def stats(self) -> dict[str, Any]:
        """The application and a row for each actor and each name without one, in the order of the tree."""
        held = self.pulse.look()
        engine = self._engine
        return {
            "app": self._app,
            "pid": os.getpid(),
            "at": engine.clock.monotonic(),
            "stopping": engine.stopping,
            "held": held.seconds,
            "holder": None if held.holder is None else held.holder.label,
            "counters": asdict(engine.counters),
            "rows": steady(lambda: list(self._rows(held))),
        }

    def show(self, name: str) -> dict[str, Any]:
        """One name: its row, statistics and metadata, and its redacted state if it tells it in time."""
        held = self.pulse.look()
        cell, entry = self._find(name)
        if cell is None and entry is None:
            raise NoProcess(
                f"no process {name!r}: nobody ever had this name{self._hint(name)}", target=name, reason=None
            )
        state, error = self._state(cell, held)
        return {
            "row": self._row(cell, entry, 0, held),
            "statistics": None if cell is None else asdict(steady(lambda: statistics(cell))),
            "metadata": {} if entry is None else redacted_state(entry.metadata),
            "state": state,
            "state_error": error,
        }

    def explain(self, name: str) -> Explanation:
        """What one name waits for, and why."""
        held = self.pulse.look()
        return explain(steady(lambda: self._facts(name, held)))

    # -- rows --------------------------------------------------------------------------------------

    def _tree(self) -> TreeNode:
        entry = self._engine.names.get(names.APPLICATION)
        root = None if entry is None or entry.address is None else entry.address.cell
        if root is None:
            raise NoProcess("the application's tree has not started", target=names.APPLICATION, reason=None)
        return steady(lambda: tree_of(self._engine, root))

    def _rows(self, held: Held) -> Iterator[dict[str, Any]]:
        cells = {repr(cell.address): cell for cell in list(self._engine.cells.values())}
        entries = {entry.name: entry for entry in self._engine.names.entries()}
        for depth, node in _flat(self._tree()):
            yield self._row(cells.pop(node.address, None), entries.pop(node.label, None), depth, held)
        for cell in cells.values():  # outside the tree: actors made by plain code
            yield self._row(cell, entries.pop(cell.name or "", None), 0, held)
        for entry in entries.values():
            yield self._row(_live(entry), entry, 0, held)

    def _row(self, cell: Cell | None, entry: NameEntry | None, depth: int, held: Held) -> dict[str, Any]:
        now = self._engine.now()
        address = cell.address if cell is not None else entry.address if entry is not None else None
        return {
            "name": _label(cell, entry),
            "state": _state(cell, entry, held),
            "incarnation": 1 if entry is None else entry.incarnation,
            "restarts": 0 if entry is None else entry.restarts,
            "address": "" if address is None else repr(address),
            "reason": "" if entry is None or entry.reason is None else describe(entry.reason),
            "actor": "" if cell is None else cell.actor_class.__name__,
            "mailbox": 0 if cell is None else len(cell.mailbox or ()),
            "handled": 0 if cell is None else cell.handled,
            "since": now - entry.since if entry is not None else now - cell.born if cell is not None else 0.0,
            "depth": depth,
        }

    # -- one name ----------------------------------------------------------------------------------

    def _find(self, name: str) -> tuple[Cell | None, NameEntry | None]:
        """The live actor of a name, or of an address as rows show it, and the name's entry."""
        entry = self._engine.names.get(name)
        if entry is not None:
            return _live(entry), entry
        for cell in list(self._engine.cells.values()):
            if name in {cell.label, repr(cell.address)}:
                return cell, None if cell.name is None else self._engine.names.get(cell.name)
        return None, None

    def _hint(self, name: str) -> str:
        return self._engine.names.near(name)

    def _state(self, cell: Cell | None, held: Held) -> tuple[dict[str, str] | None, str]:
        if cell is None:
            return None, "it does not run"
        if held.seconds:
            return None, "the engine's loop is held: no actor can answer"
        if not issubclass(cell.actor_class, GenServer):  # in whatever process
            return None, "it is a plain Thespian actor, which does not tell its state"
        try:
            return self._engine.call_blocking(cell.address, GetState(), STATE_LIMIT, fail_fast=True), ""
        except CallError as error:
            return None, str(error)

    def _facts(self, name: str, held: Held) -> Facts:
        cell, entry = self._find(name)
        if cell is None and entry is None:
            return Facts(name, None, hint=self._hint(name))
        now = self._engine.now()
        common = Facts(
            name=name,
            state="running" if entry is None else entry.state,
            since=0.0 if entry is None else now - entry.since,
            reason="" if entry is None or entry.reason is None else describe(entry.reason),
            restarts=0 if entry is None else entry.restarts,
            parked=len(self._engine.router.parked(name)),
            held_by_other=held.holder.label if held.holder is not None and held.holder is not cell else None,
            stopping=self._engine.stopping,
            supervisor=_supervisor(cell, entry),
        )
        return common if cell is None else self._facts_of(common, cell, held)

    def _facts_of(self, common: Facts, cell: Cell, held: Held) -> Facts:
        now, call = self._engine.now(), cell.call
        more: dict[str, Any] = {
            "status": cell.status_name,
            "mailbox": len(cell.mailbox or ()),
            "limit": None if cell.limit == NO_LIMIT else cell.limit,
            "message": None if call is None else type(call.message).__name__,
            "left": None if call is None or call.deadline is None else call.deadline - now,
            "promised": len(cell.open_calls or ()),
            "tasks": len(cell.tasks or ()),
            "waits_for": tuple(self._open_call(each) for each in self._calls_by(cell)),
            "threaded": cell.offloop,
            "held": held.seconds if held.holder is cell else 0.0,
        }
        return Facts(**{**{name: getattr(common, name) for name in common.__slots__}, **more})

    def _open_call(self, call: Call) -> OpenCall:
        left = None if call.deadline is None else call.deadline - self._engine.now()
        target = call.to.label if call.to is not None else str(call.target)
        return OpenCall(target, type(call.message).__name__, self._engine.router.state_of(call), left)

    def _calls_by(self, cell: Cell) -> list[Call]:
        """The open calls that an actor's code made, wherever they are now."""
        found: dict[Call, None] = dict.fromkeys(cell.requests or ())
        for other in list(self._engine.cells.values()):
            for call in _calls_at(other):
                if call.holder is cell:
                    found[call] = None
        for entry in self._engine.names.entries():
            for call in self._engine.router.parked(entry.name):
                if call.holder is cell:
                    found[call] = None
        return [call for call in found if not call.settled]


def _calls_at(cell: Cell) -> Iterator[Call]:
    if cell.call is not None:
        yield cell.call
    yield from list(cell.open_calls or ())
    for item in list(cell.mailbox or ()):
        if isinstance(item, Call):
            yield item


def _label(cell: Cell | None, entry: NameEntry | None) -> str:
    if entry is not None:
        return entry.name
    return "" if cell is None else cell.label


def _state(cell: Cell | None, entry: NameEntry | None, held: Held) -> str:
    if cell is not None and held.holder is cell:
        return "stuck"
    if entry is not None and (cell is None or entry.state != "running"):
        return entry.state
    return "" if cell is None else cell.status_name


def _live(entry: NameEntry) -> Cell | None:
    cell = None if entry.address is None else entry.address.cell
    return cell if cell is not None and cell.alive else None


def _supervisor(cell: Cell | None, entry: NameEntry | None) -> str | None:
    last = cell or (None if entry is None or entry.address is None else entry.address.cell)
    return None if last is None or last.parent is None else last.parent.label


def _flat(node: TreeNode, depth: int = 0) -> Iterator[tuple[int, TreeNode]]:
    yield depth, node
    for child in node.children:
        yield from _flat(child, depth + 1)


def _marked(node: dict[str, Any], stuck: str) -> dict[str, Any]:
    state = "stuck" if stuck and node["address"] == stuck else node["state"]
    return {**node, "state": state, "children": [_marked(child, stuck) for child in node["children"]]}


def steady(read: Callable[[], T]) -> T:
    """What ``read`` returns; it is read again if the engine changed a collection meanwhile.

    Raises:
        RuntimeError: that happened each time.
    """
    for _ in range(_TRIES):
        try:
            return read()
        except RuntimeError as error:
            if "during iteration" not in str(error):
                raise
    return read()
