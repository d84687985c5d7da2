"""What an actor may do as a process: timers, tasks, resources, links, monitors, children (``OTP`` section 3).

All of it works from the actor's handlers and tasks, and also from its code on daemon threads (blocking
handlers, ``run_blocking``), where it is handed to the engine's thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from thespian.actors import Actor, ActorAddress

from .address import LocalAddress
from .calls import Call
from .cell import Cell
from .child_spec import Placement
from .clock import Clock
from .context import Context
from .errors import UsageError
from .ids import IdSource
from .messages import ExitSignal
from .outcomes import StartFailed, StartResult
from .owned import OwnedTask
from .reasons import NOPROC, Reason
from .restart_context import RestartContext
from .scope import SCOPE, Scope
from .succession import settle
from .timers import Timer

if TYPE_CHECKING:
    from .engine import Engine

T = TypeVar("T")
Target = str | ActorAddress
MISSING: Final = object()
"""What ``take_exit`` answers when no such signal waits."""


def scope_of(cell: Cell) -> Scope | None:
    """The scope of the calling code, if that is a coroutine of this actor (or a thread it waits for)."""
    scope = SCOPE.get()
    return scope if scope is not None and scope.cell is cell else None


def context_of(cell: Cell) -> Context | None:
    """The trace context of the calling code of this actor, if one was begun."""
    # A task may be anywhere in the trace; everything else of an actor stands where its message does.
    if cell.tasks is None and not cell.guards:
        return cell.context
    scope = scope_of(cell)
    return cell.context if scope is None or scope.in_handler else scope.context


class Process(Actor):
    """Base of :class:`~.gen_server.GenServer`."""

    _myRef: Cell

    # -- time, tasks, resources ------------------------------------------------------------------

    def start_timer(self, seconds: float, message: Any) -> Timer:
        """Have ``message`` arrive (as info) after ``seconds``; ``cancel()`` the result to stop it.

        Raises:
            UsageError: not a number from 0.
        """
        if not seconds >= 0:
            raise UsageError(f"{self._myRef.label}: expected a timer's seconds from 0, got {seconds!r}")
        cell = self._myRef
        when = cell.engine.now() + seconds
        return cell.act(cell.engine.timers.at, when, cell.deliver_timer, message, context_of(cell))

    def start_task(self, work: Coroutine[Any, Any, Any], *, tag: Any = None) -> OwnedTask:
        """Run a coroutine beside the mailbox; it is cancelled with this actor.

        Its end arrives as :class:`~.messages.TaskDone` or :class:`~.messages.TaskFailed` with ``tag``.
        Started while a call is served, it is cancelled also when that caller gives up; see ``detach``.
        """
        return self._start_task(work, tag, self._served())

    def detach(self, work: Coroutine[Any, Any, Any], *, tag: Any = None) -> OwnedTask:
        """As :meth:`start_task`, but it goes on when the caller that is being served gives up."""
        return self._start_task(work, tag, None)

    def _start_task(self, work: Coroutine[Any, Any, Any], tag: Any, served: Call | None) -> OwnedTask:
        cell = self._myRef
        context = context_of(cell)

        def start() -> OwnedTask:
            task = cell.start_task(work, call=served, context=context, finish=lambda done: cell.report_task(tag, done))
            if served is not None:
                served.attach(task)
            return OwnedTask(tag, task)

        return cell.act(start)

    def _served(self) -> Call | None:
        """The call that the calling code serves."""
        cell = self._myRef
        scope = scope_of(cell)
        return cell.call if scope is None else scope.call

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function that blocks on a daemon thread; it may use this actor's methods."""
        return await self._myRef.engine.run_blocking_for(self._myRef, function, *args)

    def own(self, resource: T) -> T:
        """Have the engine close ``resource`` (its ``aclose`` or ``close``) after any end, a kill included."""
        cell = self._myRef
        if cell.guards and not cell.alive:
            cell.engine.post(cell.engine.close_resource, resource, cell.label)
            return resource
        if cell.resources is None:
            cell.resources = []
        cell.resources.append(resource)
        return resource

    def disown(self, resource: object) -> None:
        """Take a resource back from the engine."""
        resources = self._myRef.resources
        if resources is not None:
            resources[:] = [each for each in resources if each is not resource]

    # -- links, monitors, exits ------------------------------------------------------------------

    def monitor(self, target: Target) -> int:
        """Be told with :class:`~.messages.Down` when ``target`` ends; at once if nobody is there (OTP LNK-05)."""
        cell = self._myRef

        def watch() -> int:
            ref = cell.engine.next_number()
            to = cell.engine.cell_of(target, cell.namespace)
            notify = cell.down_notifier(ref)
            if to is None or not to.alive:
                notify(to.address if to is not None else None, NOPROC)
            else:
                to.watch(ref, notify, cell)
            return ref

        return cell.act(watch)

    def demonitor(self, ref: int) -> None:
        """Undo a monitor, a Down that waits already included."""
        self._myRef.act(self._myRef.demonitor, ref)

    def link(self, target: Target) -> None:
        """Link with another actor; with nobody, the exit signal ``noproc`` comes back (OTP LNK-01, LNK-04)."""
        cell = self._myRef

        def link() -> None:
            to = cell.engine.cell_of(target, cell.namespace)
            if to is not None:
                cell.link(to)
            elif cell.trap_exit:
                cell.put_notice(ExitSignal(cell.engine.system_address, NOPROC))
            else:
                cell.engine.later_signal(cell, NOPROC, None)
            cell.engine.flush_signals()

        cell.act(link)

    def unlink(self, target: Target) -> None:
        """Undo a link; no exit message of it comes later (OTP LNK-04)."""
        cell = self._myRef
        to = cell.engine.cell_of(target, cell.namespace)
        if to is not None:
            cell.act(cell.unlink, to)

    def exit(self, target: Target, reason: Reason) -> None:
        """Send an exit signal; ``"kill"`` cannot be trapped (OTP LNK-02, LNK-03)."""
        cell = self._myRef

        def signal() -> None:
            to = cell.engine.cell_of(target, cell.namespace)
            if to is not None:
                cell.engine.later_signal(to, reason, cell, from_parent=to.parent is cell)
                cell.engine.flush_signals()

        cell.act(signal)

    # -- for supervisors -------------------------------------------------------------------------

    async def spawn_link(
        self,
        cls: type[Actor],
        *args: Any,
        name: str | None = None,
        supervised: bool = True,
        start_timeout: float | None = None,
        mailbox_limit: int | None = -1,
        replaces: ActorAddress | None = None,
        restart_context: RestartContext | None = None,
        placement: Placement = "local",
        **kwargs: Any,
    ) -> StartResult:
        """Start a linked child and wait until its ``init`` is over. No exit message follows a failed start.

        Args:
            cls: a GenServer or any Thespian actor class.
            *args: for ``init``.
            name: registered name, bound while the child lives.
            supervised: whether this actor will start the child again or write its name's last state
                itself; if so the name is ``restarting`` after the child's end, if not ``dead``.
            start_timeout: seconds ``init`` may take; then it is killed, reason ``timeout``.
            mailbox_limit: messages that may wait; -1 takes what the class says, None is no limit.
            replaces: the address of the ended child that this one stands in for; names that were below
                it and do not come back with it become ``dead``.
            restart_context: what the child reads as ``self.restart_context``; None for a first start.
            placement: ``process`` starts it in a child interpreter of its own.
            **kwargs: for ``init``.
        """
        cell = self._myRef
        outcome = await cell.engine.spawn(
            cls,
            args,
            kwargs,
            parent=cell,
            link=True,
            name=name,
            supervised=supervised,
            start_timeout=start_timeout,
            mailbox_limit=mailbox_limit,
            restart_context=restart_context,
            placement=placement,
        )
        if isinstance(replaces, LocalAddress) and not isinstance(outcome, StartFailed):
            settle(cell.engine.names, cell, replaces)
        return outcome

    def give_up(self, target: ActorAddress) -> None:
        """This ended child will not be started again: names that were below it and wait are ``dead``."""
        if isinstance(target, LocalAddress):
            settle(self._myRef.engine.names, self._myRef, target)

    async def wait_down(self, target: Target, timeout: float | None) -> tuple[bool, Reason]:
        """Wait for an actor's end: ``(True, reason)``, or ``(False, None)`` after ``timeout`` seconds."""
        return await self._myRef.engine.wait_down(target, timeout)

    def take_exit(self, target: ActorAddress) -> Reason:
        """Remove that actor's queued exit signal from the mailbox: its reason, or ``MISSING``."""
        found, reason = self._myRef.take_exit(target)
        return reason if found else MISSING

    # -- surroundings ----------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        """The trace context of the message being handled; begun here if it has none."""
        context = context_of(self._myRef)
        if context is None:
            context = Context.root(self._myRef.engine.ids)
            self.set_context(context)
        return context

    def set_context(self, context: Context) -> None:
        """Go on in another trace context: calls and casts from here carry it."""
        cell = self._myRef
        scope = scope_of(cell)
        if scope is not None:
            scope.context = context
        if scope is None or scope.in_handler:
            cell.context = context

    @property
    def restart_context(self) -> RestartContext | None:
        """Why a supervisor started this actor again, from ``init`` on; None on a first start.

        It is a first start, too, when somebody asked for it (``RestartChild``, a keeper's next try), or when
        the supervisor itself was restarted: that one then has the context.
        """
        return self._myRef.restart_context

    @property
    def system(self) -> Engine:
        """The engine."""
        return self._myRef.engine

    @property
    def clock(self) -> Clock:
        """The engine's clock."""
        return self._myRef.engine.clock

    @property
    def random(self) -> random.Random:
        """The engine's random source."""
        return self._myRef.engine.rng

    @property
    def ids(self) -> IdSource:
        """The engine's id source."""
        return self._myRef.engine.ids

    @property
    def name(self) -> str | None:
        """The registered name, or None."""
        return self._myRef.name

    @property
    def namespace(self) -> str:
        """The namespace in which this actor resolves names."""
        return self._myRef.namespace


__all__ = ("MISSING", "Process", "Target", "context_of", "scope_of")
