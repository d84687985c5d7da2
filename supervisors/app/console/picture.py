"""The supervision tree as data and as text, read from the engine's bookkeeping.

No actor is asked: a stuck one is shown like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ....runtime.cell import Cell
from ....runtime.engine import Engine
from ....runtime.names import NameEntry
from ....runtime.reasons import describe

MAX_LOST: Final = 20
"""Names without an actor shown below one parent."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One actor of the tree.

    Attributes:
        label: its registered name, or its class.
        actor: its class.
        state: ``running``, ``restarting`` ... of a name, else what it does now.
        address: as text; empty for a name without a live actor.
        mailbox: messages waiting.
        restarts: how often a supervisor restarted it.
        reason: why its last incarnation ended, as text; empty if none did.
        children: its children in start order, then names of children that are down.
    """

    label: str
    actor: str
    state: str
    address: str
    mailbox: int
    restarts: int
    reason: str
    children: tuple[TreeNode, ...]

    def to_dict(self) -> dict[str, Any]:
        """The node and all below it as plain values, for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "children"}
        return {**plain, "children": [child.to_dict() for child in self.children]}


def tree_of(engine: Engine, root: Cell) -> TreeNode:
    """The tree below ``root``: live actors, and below whom they belonged names without one (the newest of each)."""
    return _branch(engine, root, _lost(engine))


def _branch(engine: Engine, cell: Cell, lost: dict[Cell, list[NameEntry]]) -> TreeNode:
    live = [_branch(engine, child, lost) for child in list((cell.children or {}).values())]
    return _node(engine, cell, (*live, *_gone(cell, lost)))


def _gone(cell: Cell, lost: dict[Cell, list[NameEntry]]) -> Iterator[TreeNode]:
    for entry in lost.get(cell, [])[-MAX_LOST:]:
        gone = _cell_of(entry)
        below = tuple(_gone(gone, lost)) if gone is not None else ()
        actor = gone.actor_class.__name__ if gone is not None else ""
        reason = describe(entry.reason) if entry.reason is not None else ""
        yield TreeNode(entry.name, actor, entry.state, "", 0, entry.restarts, reason, below)


def _lost(engine: Engine) -> dict[Cell, list[NameEntry]]:
    """Names without a live actor, by whom they belonged to: the parent of the last one, in its present incarnation."""
    found: dict[Cell, list[NameEntry]] = {}
    for entry in engine.names.entries():
        cell = _cell_of(entry)
        if cell is None or cell.alive:
            continue
        parent = cell.parent
        present = engine.names.get(parent.name) if parent is not None and parent.name else None
        owner = _cell_of(present) if present is not None else parent
        if owner is not None:
            found.setdefault(owner, []).append(entry)
    return found


def _cell_of(entry: NameEntry) -> Cell | None:
    return entry.address.cell if entry.address is not None else None


def _node(engine: Engine, cell: Cell, children: tuple[TreeNode, ...]) -> TreeNode:
    entry = engine.names.get(cell.name) if cell.name else None
    state = cell.status_name if entry is None or entry.state == "running" else entry.state
    return TreeNode(
        label=cell.name or cell.actor_class.__name__,
        actor=cell.actor_class.__name__,
        state=state,
        address=repr(cell.address),
        mailbox=len(cell.mailbox or ()),
        restarts=entry.restarts if entry else 0,
        reason=describe(entry.reason) if entry and entry.reason is not None else "",
        children=children,
    )


def draw(node: TreeNode) -> str:
    """The tree as text, one line an actor."""
    lines = [_line(node)]
    _draw_below(node, "", lines)
    return "\n".join(lines)


def _draw_below(node: TreeNode, indent: str, lines: list[str]) -> None:
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        lines.append(f"{indent}{'└── ' if last else '├── '}{_line(child)}")
        _draw_below(child, indent + ("    " if last else "│   "), lines)


def _line(node: TreeNode) -> str:
    parts = [node.label]
    if node.actor not in node.label:
        parts.append(f"[{node.actor}]")
    parts.append(node.state)
    if node.mailbox:
        parts.append(f"mailbox {node.mailbox}")
    if node.restarts:
        parts.append(f"restarts {node.restarts}")
    if node.reason:
        parts.append(f"(last end: {node.reason})" if node.address else f"({node.reason})")
    return "  ".join(parts)
