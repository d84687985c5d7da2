"""A cell: the engine's bookkeeping of one incarnation of one actor, and its life as a process.

It has what an Erlang process has: a mailbox, links, monitors, an exit reason. How messages are
handled is what its two kinds differ in: ``ServerCell`` keeps OTP's contract, ``PlainCell`` Thespian's.
Everything here runs on the engine's thread.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from thespian.actors import Actor, ActorAddress

from .address import LocalAddress
from .calls import Call, RequestedCall
from .context import Context
from .endings import died_error, fail_calls, tell_others
from .errors import Overloaded
from .guarded import Guarded
from .items import INFO, PARENT_EXIT
from .messages import Down, ExitSignal, SystemMessage, TaskDone, TaskFailed
from .outcomes import Exit, StartResult
from .reasons import KILL, KILLED, NORMAL, Crash, Reason
from .restart_context import RestartContext
from .scope import Scope
from .steps import Steps
from .thespian_ref import ThespianRef

if TYPE_CHECKING:
    from .engine import Engine

INIT: Final = 0
OPEN: Final = 1
BUSY: Final = 2
SUSPENDED: Final = 3
TERMINATING: Final = 4
DEAD: Final = 5
STATUS_NAMES: Final = ("init", "idle", "busy", "suspended", "terminating", "dead")

NO_LIMIT: Final = sys.maxsize
MAX_BATCH: Final = 32
"""Messages an actor handles before it is the next one's turn."""

Watch = Callable[[LocalAddress | None, Reason], None]
T = TypeVar("T")


class Cell(ThespianRef, Guarded):
    """One incarnation of one actor. Public attributes are read by the engine and its neighbours.

    ``scheduled`` is True while the cell stands in the run queue *or* must not be put there (before
    its start is over, while a coroutine of it runs, after its end): one test on the hot path.
    ``guards`` counts the reasons why the actor's code may stand where it must not touch the engine:
    it runs on a daemon thread, or the actor has ended. Zero, as a rule: again one test.
    ``elsewhere``: the actor runs in another process, and what is put here is sent there.
    """

    elsewhere: ClassVar[bool] = False

    __slots__ = (
        "__weakref__",
        "actor_class",
        "address",
        "awaits",
        "batch",
        "born",
        "call",
        "children",
        "comes_back",
        "context",
        "engine",
        "estate",
        "global_name",
        "guards",
        "handled",
        "instance",
        "limit",
        "links",
        "mailbox",
        "monitors",
        "name",
        "namespace",
        "offloop",
        "open_calls",
        "parent",
        "reason",
        "rebuilds",
        "requests",
        "resources",
        "restart_context",
        "run_task",
        "scheduled",
        "sender",
        "status",
        "supervised",
        "tasks",
        "trap_exit",
        "watching",
    )

    def __init__(self, engine: Engine, number: int, instance: Actor, parent: Cell | None) -> None:
        self.engine = engine
        self.address = LocalAddress(engine.id, number, self)
        self.instance: Any = instance
        self.actor_class = type(instance)
        self.parent = parent
        self.status = INIT
        self.scheduled = True
        self.mailbox: deque[Any] | None = deque()
        self.limit: int = NO_LIMIT
        self.name: str | None = None
        self.namespace: str = parent.namespace if parent is not None else ""
        self.global_name: str | None = None
        self.trap_exit = False
        self.supervised = False
        self.rebuilds = False
        self.comes_back = False
        self.offloop = False
        self.guards = 0
        self.reason: Reason = None
        self.handled = 0
        self.batch = MAX_BATCH
        self.born = engine.now()
        self.call: Call | None = None
        self.sender: ActorAddress | None = None
        self.context: Context | None = None
        self.run_task: asyncio.Task[Any] | Future[Any] | None = None
        self.children: dict[LocalAddress, Cell] | None = None
        self.estate: dict[LocalAddress, list[str]] | None = None
        self.links: dict[LocalAddress, Cell] | None = None
        self.monitors: dict[int, Watch] | None = None
        self.watching: dict[int, Cell] | None = None
        self.open_calls: dict[Call, None] | None = None
        self.requests: dict[RequestedCall, None] | None = None
        self.tasks: dict[asyncio.Task[Any], Callable[[asyncio.Task[Any]], None]] | None = None
        self.resources: list[Any] | None = None
        self.restart_context: RestartContext | None = None
        self.awaits: dict[Cell, None] | None = None

    # -- what people see ---------------------------------------------------------------------

    @property
    def label(self) -> str:
        """The name, or the class and address."""
        return self.name or f"{self.actor_class.__name__}{self.address!r}"

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.status != DEAD

    @property
    def status_name(self) -> str:
        """For people: ``idle``, ``busy`` ..."""
        if self.status == OPEN and self.scheduled:
            return "ready"
        return STATUS_NAMES[self.status]

    # -- mailbox -----------------------------------------------------------------------------

    def put(self, item: Any) -> bool:
        """Add an item; False if the mailbox is full or the actor dead (nothing is counted here)."""
        box = self.mailbox
        if box is None or len(box) >= self.limit:
            return False
        box.append(item)
        if not self.scheduled:
            self.scheduled = True
            self.engine.schedule(self)
        return True

    def force(self, item: Any) -> None:
        """Add an item whatever the limit: replies, signals, system messages."""
        if self.mailbox is not None:
            self.mailbox.append(item)
            if not self.scheduled:
                self.scheduled = True
                self.engine.schedule(self)

    def put_info(
        self, message: Any, sender: ActorAddress | None, context: Context | None, *, force: bool = False
    ) -> None:
        """Deliver a plain message; what cannot be delivered is a dead letter."""
        item = (INFO, message, sender, context)
        if force and self.mailbox is not None:
            self.force(item)
        elif not self.put(item):
            self.engine.router.undelivered(self.address, self, message)

    def put_notice(self, message: Any, sender: ActorAddress | None = None, context: Context | None = None) -> None:
        """Deliver what the engine itself has to tell: never refused, and nobody's loss if the actor has ended."""
        if self.mailbox is not None:
            self.mailbox.append((INFO, message, sender, context))
            if not self.scheduled:
                self.scheduled = True
                self.engine.schedule(self)

    def put_call(self, call: Call) -> None:
        """Deliver a call, or refuse it with a typed error."""
        box = self.mailbox
        if box is None:
            call.fail(died_error(self, call))
            return
        if len(box) >= self.limit and self.refuses(call):
            return
        call.to = self
        box.append(call)
        if not self.scheduled:
            self.scheduled = True
            self.engine.schedule(self)

    def refuses(self, call: Call) -> bool:
        """The mailbox is full: refuse a call, unless it is the engine's to answer; whether it was refused."""
        if isinstance(call.message, SystemMessage):
            return False
        self.engine.log.overloaded(self, call.message)
        words = f"the mailbox of {self.label} is full ({self.limit} messages)"
        kind = type(call.message).__name__
        call.fail(Overloaded(f"{words}; {kind} was refused", target=self.label, limit=self.limit))
        return True

    def take_now(self, call: Call) -> bool:
        """Handle a call while nothing else waits; False if it must go through the mailbox."""
        return False

    def take_exit(self, address: ActorAddress) -> tuple[bool, Reason]:
        """Remove a queued exit signal of ``address``; whether there was one, and its reason."""
        box = self.mailbox
        for place, item in enumerate(box or ()):
            if type(item) is tuple and isinstance(item[1], ExitSignal) and item[1].sender == address:
                reason = item[1].reason
                del box[place]  # type: ignore[union-attr]
                return True, reason
        return False, None

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any], on_started: Callable[[StartResult], None]) -> None:
        """Begin to live; ``on_started`` is told how that went, perhaps at once."""
        raise TypeError(f"{type(self).__name__} does not start")

    def run(self, budget: int) -> None:
        """Handle up to ``budget`` messages."""
        raise TypeError(f"{type(self).__name__} does not run")

    def stop(self, reason: Reason) -> None:
        """End with ``reason``, after a clean-up if this kind of actor has one."""
        self.die(reason)

    def resume_running(self) -> None:
        """A coroutine of this actor is over: go on with the mailbox."""
        self.status = OPEN
        if self.mailbox:
            self.scheduled = True
            self.engine.schedule(self)
        else:
            self.scheduled = False

    # -- signals -----------------------------------------------------------------------------

    def signal(self, reason: Reason, sender: Cell | None, *, from_parent: bool = False) -> None:
        """Receive an exit signal (OTP LNK-02, LNK-03, GS-10)."""
        if self.status == DEAD:
            return
        if reason == KILL:
            self.die(KILLED)
        elif self.trap_exit:
            if from_parent:
                self.force((PARENT_EXIT, reason, None))
            elif sender is not None:
                self.put_notice(ExitSignal(sender.address, reason), sender.address)
        elif reason != NORMAL or sender is self:
            self.die(reason)

    def link(self, other: Cell) -> None:
        """Link two actors; twice is once. A dead one answers with the signal ``noproc`` (OTP LNK-04)."""
        if other.status == DEAD:
            self.engine.later_signal(self, "noproc", other)
            return
        for one, two in ((self, other), (other, self)):
            if one.links is None:
                one.links = {}
            one.links[two.address] = two
        other.linked_by(self, True)

    def linked_by(self, other: Cell, linked: bool) -> None:
        """Another actor has linked itself with this one, or undone it; who lives elsewhere is told there."""

    def unlink(self, other: Cell) -> None:
        """Undo a link; no exit message of it comes any more, not even one that waits already."""
        for one, two in ((self, other), (other, self)):
            if one.links is not None:
                one.links.pop(two.address, None)
        other.linked_by(self, False)
        self.take_exit(other.address)

    def watch(self, ref: int, notify: Watch, watcher: Cell | None = None) -> None:
        """Have ``notify(address, reason)`` called once when this actor ends."""
        if self.monitors is None:
            self.monitors = {}
        self.monitors[ref] = notify
        if watcher is not None:
            if watcher.watching is None:
                watcher.watching = {}
            watcher.watching[ref] = self

    def unwatch(self, ref: int) -> None:
        """Forget a monitor."""
        if self.monitors is not None:
            self.monitors.pop(ref, None)

    def down_notifier(self, ref: int) -> Watch:
        """A watch that puts a :class:`Down` into this actor's mailbox."""

        def notify(address: LocalAddress | None, reason: Reason) -> None:
            if self.watching is not None:
                self.watching.pop(ref, None)
            self.put_notice(Down(ref, address, reason), address)

        return notify

    def demonitor(self, ref: int) -> None:
        """Undo a monitor of this actor's; a ``Down`` that waits in the mailbox goes too (OTP LNK-05)."""
        watched = (self.watching or {}).pop(ref, None)
        if watched is not None:
            watched.unwatch(ref)
        box = self.mailbox
        for place, item in enumerate(box or ()):
            if type(item) is tuple and isinstance(item[1], Down) and item[1].ref == ref:
                del box[place]  # type: ignore[union-attr]
                break

    def deliver_timer(self, message: Any, context: Context | None) -> None:
        """A timer of this actor fired; it is lost with the actor."""
        self.force((INFO, message, None, context))

    # -- tasks -------------------------------------------------------------------------------

    def start_task(
        self,
        work: Coroutine[Any, Any, Any],
        *,
        call: Call | None,
        context: Context | None,
        finish: Callable[[asyncio.Task[Any]], None],
    ) -> asyncio.Task[Any]:
        """Run a coroutine as a task of this actor; ``finish(task)`` is told of its end while the actor lives."""
        place = self.engine.context_of(Scope(self, call, context, in_handler=False))
        task = self.engine.create_task(Steps(self, work), place, self._task_over)
        if self.tasks is None:
            self.tasks = {}
        self.tasks[task] = finish
        return task

    def _task_over(self, task: asyncio.Task[Any]) -> None:
        self.engine.forget_task(task)
        finish = self.tasks.pop(task, None) if self.tasks is not None else None
        if self.status != DEAD and finish is not None:
            finish(task)
        elif not task.cancelled():
            task.exception()  # marks it as seen: the owner is gone, nobody else wants it

    def report_task(self, tag: Any, task: asyncio.Task[Any]) -> None:
        """Tell the actor of a task's end by a message (OTP TSK-05)."""
        if task.cancelled():
            self.put_notice(TaskFailed(tag, KILLED))
        elif (error := task.exception()) is not None:
            self.put_notice(TaskFailed(tag, exit_reason(error)))
        else:
            self.put_notice(TaskDone(tag, task.result()))

    # -- end ---------------------------------------------------------------------------------

    def die(self, reason: Reason, *, silent: bool = False) -> None:
        """End now: callers, watchers and links are told, everything owned is released.

        Args:
            reason: what the others see.
            silent: do not signal the parent (a failed start answers it instead).
        """
        if self.status == DEAD:
            return
        never_started = self.status == INIT
        self.status, self.reason, self.scheduled = DEAD, reason, True
        self.guards += 1
        engine = self.engine
        box, self.mailbox = self.mailbox, None
        if self.run_task is not None and not self.run_task.cancel() and not self.run_task.done():
            engine.counters.abandoned_threads += 1
        for task in list(self.tasks or ()):
            task.cancel()
        for resource in reversed(self.resources or []):
            engine.close_resource(resource, self.label)
        engine.forget(self)
        fail_calls(self, box or (), never_started)
        for request in list(self.requests or ()):
            request.abandon()
        for ref, watched in list((self.watching or {}).items()):
            watched.unwatch(ref)
        tell_others(self, reason, silent)
        # Its restart context too: each holds the end before it, and they would make a chain.
        self.instance = self.resources = self.watching = self.restart_context = None


def exit_reason(error: BaseException) -> Reason:
    """The exit reason of code that raised ``error`` (OTP GS-08)."""
    return error.reason if isinstance(error, Exit) else Crash(error)
