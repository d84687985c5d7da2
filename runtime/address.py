"""Addresses: one for each incarnation of an actor, hashable, and safe to pickle."""

from __future__ import annotations

import os
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from thespian.actors import ActorAddress

if TYPE_CHECKING:
    from .cell import Cell
    from .engine import Engine

_PROCESS: Final = f"{os.getpid():x}{time.time_ns():x}"
"""Tells the engines of this process from those of others, which are numbered alike."""
_engines: weakref.WeakValueDictionary[str, Engine] = weakref.WeakValueDictionary()
_outsiders: weakref.WeakValueDictionary[tuple[str, int], Cell] = weakref.WeakValueDictionary()
Origin: TypeAlias = tuple[str, str, int]
"""What an address pickles as: engine, process, number."""


class Route(Protocol):
    """A way to actors of another process."""

    def address(self, origin: Origin) -> LocalAddress:
        """The address, here, that leads to one of them."""
        ...


ARRIVING: ContextVar[Route | None] = ContextVar("dspex_arriving", default=None)
"""The way by which the address that is being unpickled came: it leads back there."""
_routes: weakref.WeakValueDictionary[str, Route] = weakref.WeakValueDictionary()


class LocalAddress(ActorAddress):
    """The address of one incarnation of an actor, Thespian's ``ActorAddress`` made hashable.

    It pickles as plain values; unpickled in the process where its engine runs it is the same object
    again. In a process with a link to that one it leads there (see :mod:`.placement`), elsewhere it is an
    address to which nothing can be delivered.
    """

    __slots__ = ("cell", "engine_id", "number")

    def __init__(self, engine_id: str, number: int, cell: Cell | None = None) -> None:
        self.engine_id = engine_id
        self.number = number
        self.cell = cell

    @property
    def _aaddr(self) -> str:
        return f"{self.engine_id}.{self.number}"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, LocalAddress):
            # Not NotImplemented: the base class negates what this returns.
            return False
        return self.number == other.number and self.engine_id == other.engine_id

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return f"<{self.engine_id}.{self.number}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return find_address, origin_of(self)

    def __copy__(self) -> LocalAddress:
        return self

    def __deepcopy__(self, memo: object) -> LocalAddress:
        return self


def know_engine(engine_id: str, engine: Engine) -> None:
    """Let addresses of this engine be found again after pickling, while it lives."""
    _engines[engine_id] = engine


def known_engines() -> list[Engine]:
    """The engines of this process that still exist."""
    return list(_engines.values())


def know_outsider(cell: Cell) -> None:
    """Let the address of one who asks from outside all actors be found again, while it lives."""
    _outsiders[cell.address.engine_id, cell.address.number] = cell


def origin_of(address: LocalAddress) -> Origin:
    """What an address pickles as."""
    engine_id, _, process = address.engine_id.partition("@")
    return engine_id, process or _PROCESS, address.number


def learn_route(process: str, route: Route) -> None:
    """Let addresses of another process lead there, wherever they come from, while the way exists."""
    _routes.setdefault(process, route)


def forget_route(route: Route) -> None:
    """This way leads nowhere any more."""
    for process in [process for process, known in list(_routes.items()) if known is route]:
        del _routes[process]


def find_address(engine_id: str, process: str, number: int) -> LocalAddress:
    """The address with these parts; the very object of a live actor, if it runs in this process."""
    if process != _PROCESS:
        route = _routes.get(process) or ARRIVING.get()
        if route is not None:
            return route.address((engine_id, process, number))
        return LocalAddress(f"{engine_id}@{process}", number)
    engine = _engines.get(engine_id)
    cell = engine.cells.get(number) if engine is not None else None
    if cell is None:
        cell = _outsiders.get((engine_id, number))
    return cell.address if cell is not None else LocalAddress(engine_id, number)
