"""Names whose actor ended: does somebody bring them back?

The name of a supervised actor is ``restarting`` when it ends, as long as its parent lives. When a
supervisor itself ends, the names below it are left to the nearest supervisor above that lives and
has said that it *rebuilds* (``GenServer.rebuilds``): it starts the lost child again, with
``spawn_link(..., replaces=address)``, or calls ``give_up(address)``. Names that the new child did not
bring back, and names that nobody is left to bring back, become ``dead``.

A pool that is rebuilt starts empty, and a keeper fills it. Names below a pool that somebody keeps
(:func:`keep`) wait for that, until the keeper says that it is through (:func:`kept`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .address import LocalAddress
from .cell import TERMINATING, Cell
from .names import WAITING

if TYPE_CHECKING:
    from .names import NameTable


def name_lost(names: NameTable, cell: Cell) -> None:
    """A cell with a name has ended: write what becomes of the name."""
    name = cell.name
    entry = names.get(name) if name is not None else None
    if name is None or entry is None or entry.address is not cell.address:
        return
    # A first start that failed is nobody's to repeat; a restart that failed is.
    comes_back = entry.state in (*WAITING, "running") or (entry.state == "starting" and entry.restarts > 0)
    if comes_back and _leave(cell, [name], own=True):
        names.set_state(name, entry.state if entry.state in WAITING else "restarting", cell.reason)
    else:
        names.set_state(name, "dead", cell.reason)


def supervisor_lost(names: NameTable, cell: Cell) -> None:
    """A cell has ended that names were left to: somebody above takes them over, or they are dead."""
    estate, cell.estate = cell.estate, None
    left = [name for group in (estate or {}).values() for name in group if _still_waits(names, name, below=cell)]
    if left and not _leave(cell, left, own=False):
        _bury(names, left)


def settle(names: NameTable, heir: Cell, address: LocalAddress) -> None:
    """The child with this address was started again, or never will be: what did not come back is dead."""
    if not _wait_for_keeper(heir, address.cell):
        _settle(names, heir, address)


def _settle(names: NameTable, heir: Cell, address: LocalAddress) -> None:
    for name in _left(names, heir, address):
        entry = names.get(name)
        pool = None if entry is None or entry.address is None else _kept_above(heir, entry.address.cell)
        if pool is None or pool.address == address:
            names.set_state(name, "dead")
        else:
            _bequeath(heir, pool.address, [name])
            _wait_for_keeper(heir, pool)


def _left(names: NameTable, heir: Cell, address: LocalAddress) -> list[str]:
    """Take what was left below this address, and still waits."""
    if address.cell is not None and not address.cell.alive:
        # What was below it and is still ending is not waited for either: nobody brings it back any more.
        address.cell.supervised = False
    left = heir.estate.pop(address, []) if heir.estate is not None else []
    return [name for name in left if _still_waits(names, name, below=heir)]


def comes_back(cell: Cell) -> bool:
    """Whether a supervisor that ends now is started again from above: stopped for that, or orphaned."""
    child, heir = cell, cell.parent
    if heir is None or heir.alive:
        return cell.comes_back
    while heir is not None and child.supervised:
        if heir.alive:
            return heir.rebuilds and (heir.status != TERMINATING or heir.comes_back)
        child, heir = heir, heir.parent
    return False


# -- pools that somebody keeps: by their name, those that were replaced, and who has what was below them --

Kept = dict[str, "dict[LocalAddress, Cell]"]


def keep(pools: Kept, pool: str) -> None:
    """What was below this pool is somebody's to start again."""
    pools.setdefault(pool, {})


def kept(names: NameTable, pools: Kept, pool: str) -> None:
    """All that was below this pool was started again that will be: what still waits is dead."""
    replaced, pools[pool] = pools.get(pool, {}), {}
    for address, heir in replaced.items():
        _settle(names, heir, address)


def _wait_for_keeper(heir: Cell, pool: Cell | None) -> bool:
    if pool is None or pool.alive or pool.name not in heir.engine.kept:
        return False
    heir.engine.kept[pool.name][pool.address] = heir
    return True


def _kept_above(heir: Cell, cell: Cell | None) -> Cell | None:
    while cell is not None and cell is not heir:
        if cell.name in heir.engine.kept:
            return cell
        cell = cell.parent
    return None


def returned(heir: Cell | None, address: LocalAddress | None, name: str) -> None:
    """A name has a new actor: nobody owes it any more. Other names below the old one are still owed."""
    if heir is None or heir.estate is None or address is None or address not in heir.estate:
        return
    left = [each for each in heir.estate.pop(address) if each != name]
    if left:
        heir.estate[address] = left


def _leave(ended: Cell, left: list[str], *, own: bool) -> bool:
    """Leave names to the nearest supervisor above that lives; False if there is none.

    Its own name an actor leaves to any parent; what was below it only to one that rebuilds.
    """
    child, heir = ended, ended.parent
    while heir is not None and child.supervised:
        if heir.alive and heir.status != TERMINATING:
            if not (heir.rebuilds or (own and child is ended)):
                return False
            _bequeath(heir, child.address, left)
            return True
        child, heir = heir, heir.parent
    return False


def _bequeath(heir: Cell, address: LocalAddress, left: list[str]) -> None:
    if heir.estate is None:
        heir.estate = {}
    heir.estate.setdefault(address, []).extend(left)


def _bury(names: NameTable, left: list[str]) -> None:
    for name in left:
        names.set_state(name, "dead")


def _still_waits(names: NameTable, name: str, below: Cell) -> bool:
    entry = names.get(name)
    if entry is None or entry.state not in WAITING or entry.address is None:
        return False
    cell = entry.address.cell
    while cell is not None and cell is not below:
        cell = cell.parent
    return cell is below
