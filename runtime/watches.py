"""Thespian's watch: an actor is told by a ``WatchMessage`` when one of its file numbers can be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from thespian.actors import WatchMessage

if TYPE_CHECKING:
    from .cell import Cell


class FileWatch:
    """File numbers watched for one actor, until the first is ready; what its handler returns then watches anew.

    Args:
        cell: the actor.
        filenos: the file numbers.
    """

    __slots__ = ("_cell", "_filenos")

    def __init__(self, cell: Cell, filenos: Iterable[int]) -> None:
        self._cell = cell
        self._filenos = tuple(filenos)
        for fileno in self._filenos:
            cell.engine.loop.add_reader(fileno, self._ready, fileno)

    def close(self) -> None:
        """Watch no longer."""
        for fileno in self._filenos:
            self._cell.engine.loop.remove_reader(fileno)
        self._filenos = ()

    def _ready(self, fileno: int) -> None:
        self.close()
        self._cell.put_notice(WatchMessage([fileno]), self._cell.address)
