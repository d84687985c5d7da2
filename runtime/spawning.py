"""Starting actors: which kind of cell, how it is linked and named, and when its start is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thespian.actors import Actor, ActorAddress, ActorSystemException, ChildActorExited, NoCompatibleSystemForActor
from thespian.system.utilis import actualActorClass, withPossibleInitArgs

from .cell import Cell
from .child_spec import PLACEMENTS, Placement
from .errors import SpecError, StartError, did_you_mean
from .gen_server import GenServer
from .handlers import check_limit, check_start_timeout
from .outcomes import Started, StartFailed, StartResult
from .placement.placed_cell import PlacedCell
from .plain_cell import PlainCell
from .reasons import SHUTDOWN, Crash, describe
from .restart_context import RestartContext
from .scope import awaiting
from .server_cell import ServerCell

if TYPE_CHECKING:
    from .engine import Engine


class Spawner:
    """Starts actors for one engine. On the engine's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def spawn(
        self,
        cls: type[Actor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        parent: Cell | None = None,
        link: bool = False,
        name: str | None = None,
        namespace: str | None = None,
        supervised: bool = False,
        start_timeout: float | None = None,
        mailbox_limit: int | None = -1,
        restart_context: RestartContext | None = None,
        placement: Placement = "local",
        born: Callable[[Cell], object] = id,
    ) -> StartResult:
        """Start an actor and wait until its ``init`` is over; a plain ``init`` does not suspend.

        Args:
            cls: a GenServer or any Thespian actor class.
            args: for ``init``.
            kwargs: for ``init``.
            parent: whose child it is.
            link: whether it is linked with its parent.
            name: registered name.
            namespace: where it and its descendants look up names; the parent's unless given.
            supervised: whether somebody starts it again.
            start_timeout: seconds ``init`` may take; then the start failed, reason ``timeout``.
            mailbox_limit: messages that may wait; -1 takes what the class says, None is no limit.
            restart_context: why it is started again; None for a first start.
            placement: ``process`` for a child interpreter of its own; see :mod:`.placement`.
            born: told the cell before ``init`` runs.

        Raises:
            DefinitionError: no such mailbox limit or start time-out.
            SpecError: no such placement.
        """
        engine = self._engine
        over: asyncio.Future[StartResult] | None = None
        outcome: StartResult | None = None

        def started(result: StartResult) -> None:
            nonlocal outcome
            outcome = result
            if over is not None and not over.done():
                over.set_result(result)

        check_limit("mailbox_limit", mailbox_limit)
        check_start_timeout(start_timeout)
        check_placement(placement)
        engine.counters.spawned += 1
        refusal = self._refusal(parent, name, namespace, placement)
        if refusal is not None:
            return refusal
        try:
            cell = self._make(cls, args, kwargs, parent, placement, namespace)
        except Exception as error:  # fault boundary: a failing constructor is a failed start
            return StartFailed(Crash(error))
        cell.supervised = supervised
        cell.restart_context = restart_context
        if mailbox_limit != -1 and isinstance(cell, (ServerCell, PlacedCell)):
            cell.set_limit(mailbox_limit)
        if name is not None:
            engine.bind_name(cell, name)
        if link and parent is not None:
            parent.link(cell)
        born(cell)
        cell.start(args, kwargs, started)
        if outcome is not None:
            return outcome
        over = engine.loop.create_future()
        timer = None
        if start_timeout is not None and isinstance(cell, (ServerCell, PlacedCell)):
            timer = engine.timers.at(engine.now() + start_timeout, cell.abort_start, "timeout")
        try:
            with awaiting(cell):
                return await over
        except asyncio.CancelledError:
            # Whoever started it has ended, or gave up: nobody would know of this actor.
            cell.die(SHUTDOWN, silent=True)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _refusal(
        self, parent: Cell | None, name: str | None, namespace: str | None, placement: Placement
    ) -> StartFailed | None:
        engine = self._engine
        late = engine.stopping and (parent is None or placement == "process")
        if late or (parent is not None and not parent.alive):
            return StartFailed(SHUTDOWN)
        space = namespace if namespace is not None else (parent.namespace if parent is not None else "")
        if name is not None and (holder := engine.router.holder_of(name, space)) is not None:
            return StartFailed(("already_started", holder.address))
        return None

    def _make(
        self,
        cls: type[Actor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Cell | None,
        placement: Placement,
        namespace: str | None,
    ) -> Cell:
        if placement == "process":
            cell = self._enter(PlacedCell(self._engine, self._engine.next_number(), cls, parent), parent)
        else:
            made = cls() if issubclass(cls, GenServer) else self._construct(cls, args, kwargs, None)
            cell = self._new_cell(made, parent)
        if namespace is not None:
            cell.namespace = namespace
        return cell

    def _new_cell(self, instance: Actor, parent: Cell | None) -> Cell:
        engine = self._engine
        number = engine.next_number()
        if isinstance(instance, GenServer):
            cell: Cell = ServerCell(engine, number, instance, parent)
        else:
            cell = PlainCell(engine, number, instance, parent)
        instance._myRef = cell
        return self._enter(cell, parent)

    def _enter(self, cell: Cell, parent: Cell | None) -> Cell:
        self._engine.cells[cell.address.number] = cell
        if parent is not None:
            if parent.children is None:
                parent.children = {}
            parent.children[cell.address] = cell
        return cell

    def _construct(self, cls: type[Actor], args: tuple[Any, ...], kwargs: dict[str, Any], requirements: Any) -> Actor:
        if args or kwargs:
            return cls(*args, **kwargs)
        creator = withPossibleInitArgs(capabilities=self._engine.capabilities, requirements=requirements)
        made: Actor = creator.create(cls)
        return made

    # -- Thespian's createActor ------------------------------------------------------------------

    def create(
        self,
        parent: Cell | None,
        wanted: type[Actor] | str,
        requirements: Any,
        global_name: str | None,
        on_started: Callable[[StartResult], None] | None = None,
    ) -> ActorAddress:
        """Thespian's createActor: of an actor (failures are told by ``ChildActorExited``) or of the system (raised).

        Args:
            parent: who creates it; None for the system.
            wanted: the class, or its dotted name.
            requirements: what the system's capabilities must meet.
            global_name: if an actor has this name already, that one is the answer.
            on_started: told how the start ended, perhaps later if ``init`` is a coroutine.
        """
        engine = self._engine
        if parent is None and engine.stopping:
            raise engine.router.down()
        if global_name and global_name in engine.global_names:
            found = engine.global_names[global_name].address
            if on_started is not None:
                on_started(Started(found))
            return found
        try:
            cls: type[Actor] = actualActorClass(wanted, None)
            check = getattr(cls, "actorSystemCapabilityCheck", None)
            if check is not None and not check(engine.capabilities, requirements or {}):
                raise NoCompatibleSystemForActor(cls, "No compatible ActorSystem could be found")
            instance = cls() if issubclass(cls, GenServer) else self._construct(cls, (), {}, requirements)
        except Exception as error:  # fault boundary: told the way Thespian tells it
            if parent is None or isinstance(error, ImportError):
                raise
            return self._stillborn(parent, error)
        engine.counters.spawned += 1
        cell = self._new_cell(instance, parent)
        if global_name:
            cell.global_name = global_name
            engine.global_names[global_name] = cell

        def started(result: StartResult) -> None:
            if parent is not None and not isinstance(result, Started):
                parent.put_notice(ChildActorExited(cell.address), engine.system_address)
            if on_started is not None:
                on_started(result)

        cell.start((), {}, started)
        return cell.address

    def _stillborn(self, parent: Cell, error: Exception) -> ActorAddress:
        cell = Cell(self._engine, self._engine.next_number(), Actor(), None)
        cell.die(Crash(error), silent=True)
        parent.put_notice(ChildActorExited(cell.address), self._engine.system_address)
        if not isinstance(error, ActorSystemException):
            self._engine.log.creation_failed(parent, error)
        return cell.address


def check_placement(placement: str) -> None:
    """Refuse a placement that there is not.

    Raises:
        SpecError: ``reason`` is ``("invalid_placement", placement)``.
    """
    if placement not in PLACEMENTS:
        near = did_you_mean(str(placement), PLACEMENTS)
        known = ", ".join(map(repr, PLACEMENTS))
        raise SpecError(
            f"expected a placement of {known}, got {placement!r}{near}", reason=("invalid_placement", placement)
        )


def start_error(cls: object, result: StartResult) -> StartError:
    """What is raised for a start that failed, or was ignored."""
    reason = result.reason if isinstance(result, StartFailed) else "ignore"
    return StartError(f"{getattr(cls, '__name__', cls)} did not start: {describe(reason)}", reason=reason)
