"""The tree of a test's engine as text, and the comparison with the text a test expects."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Collection, Iterator

from ..cell import Cell
from ..engine import Engine
from ..names import NameEntry

_INDENT = "    "


def draw_tree(engine: Engine, without: Collection[Cell] = ()) -> str:
    """All actors, children below their parents, in start order; one line each: name (or class) and state.

    A name that has no live actor now stands below the last parent of it.

    Args:
        engine: whose actors.
        without: top-level actors to leave out.
    """
    lines: list[str] = []
    for cell in list(engine.cells.values()):
        if cell.parent is None and cell not in without:
            lines += _branch(engine, cell)
    lines += [_line(entry) for entry in _lost(engine, None)]
    return "\n".join(lines)


def check_tree(actual: str, expected: str) -> None:
    """Compare a drawn tree with the text of a test; common indentation and blank lines do not count.

    Raises:
        AssertionError: they differ; it shows where.
    """
    wanted = [line.rstrip() for line in textwrap.dedent(expected).splitlines() if line.strip()]
    found = actual.splitlines()
    if found != wanted:
        difference = "\n".join(difflib.unified_diff(wanted, found, "expected", "actual", n=99, lineterm=""))
        raise AssertionError(f"the tree is not as expected:\n{difference}")


def _branch(engine: Engine, cell: Cell) -> Iterator[str]:
    entry = engine.names.get(cell.name) if cell.name else None
    yield _line(entry) if entry is not None else f"{cell.actor_class.__name__} {_state(cell)}"
    for child in list((cell.children or {}).values()):
        for line in _branch(engine, child):
            yield _INDENT + line
    for gone in _lost(engine, cell):
        yield _INDENT + _line(gone)


def _state(cell: Cell) -> str:
    # Whether an actor has just now something to do says nothing about the tree.
    return "running" if cell.status_name in ("idle", "ready", "busy") else cell.status_name


def _lost(engine: Engine, parent: Cell | None) -> Iterator[NameEntry]:
    """Names without a live actor whose last actor was a child of this cell (or of the present one of its name)."""
    for entry in engine.names.entries():
        cell = entry.address.cell if entry.address is not None else None
        if cell is not None and not cell.alive and _present(engine, cell.parent) is parent:
            yield entry


def _present(engine: Engine, parent: Cell | None) -> Cell | None:
    if parent is None or parent.name is None:
        return parent
    entry = engine.names.get(parent.name)
    return entry.address.cell if entry is not None and entry.address is not None else parent


def _line(entry: NameEntry) -> str:
    return f"{entry.name} {entry.state}"
