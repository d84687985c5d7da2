"""GenServer: the actor with OTP's contract, and what it may do (``OTP`` section 2).

::

    class Counter(GenServer):
        def init(self, start: int = 0) -> None:
            self.n = start

        @call
        def increment(self, msg: Increment) -> int:
            self.n += msg.by
            return self.n

State is ``self``. One message is handled at a time, async handlers included. An exception ends the
actor; its supervisor decides what then. An expected failure is a reply: ``return Fail(error)``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from thespian.actors import ActorAddress

from .address import LocalAddress
from .calls import AwaitedCall, Call, RequestedCall, crossing
from .cell import Cell, exit_reason
from .context import Context
from .errors import CallCancelled, Error, UsageError
from .handlers import HandlerTable, build_tables, call, cast, check_limit, info
from .items import CAST
from .outcomes import Continue, Exit, Fail, Ignore, Ignored, Info, NoReply, Started, StartFailed, Stop
from .process import MISSING, Process, Target, context_of, scope_of
from .reasons import KILLED, Reason, describe
from .scope import SCOPE

if TYPE_CHECKING:
    import asyncio

CALL_TIMEOUT: Final = 5.0
"""Seconds a raw call waits unless told otherwise (OTP GS-03)."""


class GenServer(Process):
    """Base class of actors under OTP's contract.

    Class attributes:
        trap_exit: whether exit signals come as messages and ``terminate`` runs on the parent's (OTP GS-09).
        blocking: handlers run on a daemon thread; for code that blocks.
        eager: the first step of a coroutine is taken without a task (for supervisors: their coroutines
            mostly end without waiting); such code must not ask asyncio for its task or a time-out.
        mailbox_limit: messages that may wait; -1 takes the engine's (10,000), None is no limit.
        handler_limit: seconds a handler may take, waiting included, before it is reported as stuck; -1 takes the
            engine's, None is no limit.
        rebuilds: for supervisors: a child that ends is started again with ``spawn_link(replaces=...)`` or
            given up with ``give_up``, so that names below it may stay ``restarting`` in between.
    """

    trap_exit: ClassVar[bool] = False
    blocking: ClassVar[bool] = False
    eager: ClassVar[bool] = False
    mailbox_limit: ClassVar[int | None] = -1
    handler_limit: ClassVar[float | None] = -1
    rebuilds: ClassVar[bool] = False

    dspex_calls: ClassVar[HandlerTable] = HandlerTable()
    dspex_casts: ClassVar[HandlerTable] = HandlerTable()
    dspex_infos: ClassVar[HandlerTable] = HandlerTable()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_limit(f"{cls.__qualname__}.mailbox_limit", cls.mailbox_limit)
        tables = build_tables(cls)
        cls.dspex_calls, cls.dspex_casts, cls.dspex_infos = tables["call"], tables["cast"], tables["info"]

    # -- to be overridden ------------------------------------------------------------------------

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Build the state. Plain or async.

        Returns:
            None, :class:`Continue`, :class:`Info`, :class:`Ignore`, or :class:`Stop` for a failed start.
        """

    def handle_continue(self, value: Any) -> Any:
        """Runs after ``Continue(value)``, before any message. Plain or async."""

    def terminate(self, reason: Reason) -> Any:
        """Clean up. Plain or async. Not run on a kill, nor for signals when not trapping exits (OTP GS-09)."""

    def format_status(self) -> Mapping[str, Any]:
        """What :class:`~.messages.GetState` tells of this actor (OTP format_status); by default its attributes.

        Values are shown as short texts, and masked if they are named like a secret.
        """
        return self.__dict__

    def unhandled(self, message: Any) -> None:
        """A plain message nobody handles: counted and dropped (OTP GS-12)."""
        self._myRef.engine.log.unhandled(self._myRef, message)

    # -- calling others --------------------------------------------------------------------------

    def call(
        self, target: Target, message: Any, *, timeout: float | None = CALL_TIMEOUT, fail_fast: bool = False
    ) -> AwaitedCall:
        """Ask another actor; ``await`` the result. For async handlers and tasks.

        Args:
            target: a name (``"kind/id"``) or an address.
            message: what to ask.
            timeout: seconds, None for ever; never longer than what is left of the call being served.
            fail_fast: refuse at once if the name is restarting, instead of waiting for it.

        Raises:
            CallError: there will be no reply (see ``errors.py``), or the error the target failed with.
            UsageError: made from a plain handler, which cannot wait; use :meth:`request`.
        """
        cell = self._myRef
        engine = cell.engine
        scope = SCOPE.get()
        if scope is None or scope.cell is not cell or (cell.guards and not engine.outside.on_thread()):
            raise UsageError(
                f"{cell.label}: expected call() inside an async handler or task, got code that cannot await; "
                "make the handler 'async def', or use request(), or call_sync() on a daemon thread"
            )
        if cell.guards and not cell.alive:
            raise CallCancelled(f"{cell.label} has ended ({describe(cell.reason)}) and calls nobody any more")
        holder = cell if scope.in_handler else None
        pending = AwaitedCall(engine, target, message, timeout, scope.call, holder, scope.context)
        engine.scheduler.place_inline(pending, cell, fail_fast)
        return pending

    def request(
        self,
        target: Target,
        message: Any,
        *,
        timeout: float | None = CALL_TIMEOUT,
        tag: Any = None,
        fail_fast: bool = False,
    ) -> Any:
        """Ask without waiting: the answer arrives as a :class:`~.messages.Reply` with ``tag``.

        Returns:
            The tag; a fresh number if none was given.
        """
        cell = self._myRef
        engine = cell.engine
        if tag is None:
            tag = engine.next_number()
        context = cell.context if cell.tasks is None else context_of(cell)
        pending = RequestedCall(engine, target, message, timeout, cell.call, None, context, cell)
        pending.tag = tag
        if cell.guards and not cell.may_act(self._place, pending, fail_fast):
            return tag
        if cell.requests is None:
            cell.requests = {}
        cell.requests[pending] = None
        engine.router.place(pending, cell.namespace, fail_fast)
        return tag

    def _place(self, pending: RequestedCall, fail_fast: bool) -> None:
        cell = self._myRef
        if cell.requests is None:
            cell.requests = {}
        cell.requests[pending] = None
        cell.engine.router.place(pending, cell.namespace, fail_fast)

    def call_sync(
        self, target: Target, message: Any, *, timeout: float | None = CALL_TIMEOUT, fail_fast: bool = False
    ) -> Any:
        """Ask and block until the answer comes; on a daemon thread: in a blocking actor, or under ``run_blocking``.

        Raises:
            CallError: as of :meth:`call`.
            WrongThread: made on the engine's own thread, where it would wait for ever.
        """
        cell = self._myRef
        scope = scope_of(cell)
        return cell.engine.outside.call_blocking(
            target,
            message,
            timeout=timeout,
            namespace=cell.namespace,
            fail_fast=fail_fast,
            parent=self._served(),
            holder=cell if scope is None or scope.in_handler else None,
            context=context_of(cell),
        )

    def cast(self, target: Target, message: Any) -> None:
        """Tell another actor; never fails (OTP GS-05). What cannot be delivered is counted."""
        cell = self._myRef
        engine = cell.engine
        context = cell.context if cell.tasks is None else context_of(cell)
        if cell.guards and not cell.may_act(engine.router.cast, target, message, cell.namespace, context_of(cell)):
            return
        to = target.cell if type(target) is LocalAddress else engine.cell_of(target, cell.namespace)
        if to is None or not to.put((CAST, message, context)):
            engine.router.undelivered(target, to, message)

    def send(self, targetAddr: ActorAddress, msg: Any) -> None:  # noqa: N803 - Thespian's names
        """Thespian's send: arrives as a plain message (info)."""
        cell = self._myRef
        send = cell.engine.router.send
        context = context_of(cell)
        if not cell.guards or cell.may_act(send, targetAddr, msg, cell, context):
            send(targetAddr, msg, cell, context)

    # -- answering -------------------------------------------------------------------------------

    @property
    def caller(self) -> Call:
        """The call being served; keep it to answer later with :meth:`reply` or :meth:`fail`."""
        served = self._served()
        if served is None:
            raise UsageError(f"{self._myRef.label}: expected caller inside a @call handler, got another kind of code")
        return served

    @property
    def sender(self) -> ActorAddress | None:
        """Who sent the plain message being handled."""
        return self._myRef.sender

    def reply(self, caller: Call, value: Any) -> None:
        """Answer a call that was left open with ``NoReply`` (OTP GS-06)."""
        cell = self._myRef
        if not cell.guards or cell.may_act(caller.complete, value):
            caller.complete(value)

    def fail(self, caller: Call, error: Exception) -> None:
        """Answer such a call with an error, raised at the caller."""
        cell = self._myRef
        if not cell.guards or cell.may_act(caller.fail, crossing(error)):
            caller.fail(crossing(error))

    def forward(self, target: Target, caller: Call | None = None) -> NoReply:
        """Have another actor answer the call being served: ``return self.forward("module/qa/1")``.

        It is as if that one had been asked: its answer goes to the caller directly, deadline, trace and cancellation
        are the call's own, a name that is restarting is waited for. What becomes of this actor is of no concern to
        the call any more.

        Args:
            target: a name or an address.
            caller: a call that was left open before, instead of the one being served.
        """
        cell, asked = self._myRef, caller or self.caller
        cell.act(cell.engine.router.pass_on, asked, target, cell.namespace)
        return NoReply()

    def serve(self, work: Coroutine[Any, Any, Any]) -> NoReply:
        """Serve the current call in a task, so that the next message need not wait: ``return self.serve(...)``.

        What the coroutine returns is the reply, unless it has handed the call on (``return self.forward(...)``); a
        dspex error it raises is the caller's; any other exception crashes the actor. It is cancelled when the caller
        gives up.
        """
        cell, served, context = self._myRef, self.caller, context_of(self._myRef)
        if served.settled:
            work.close()
            return NoReply()
        cell.act(_start_service, cell, served, work, context)
        return NoReply()


def _start_service(cell: Cell, served: Call, work: Coroutine[Any, Any, Any], context: Context | None) -> None:
    served.attach(cell.start_task(work, call=served, context=context, finish=partial(_end_service, cell, served)))


def _end_service(cell: Cell, served: Call, task: asyncio.Task[Any]) -> None:
    """The end of a task that :meth:`GenServer.serve` started."""
    if task.cancelled():
        served.fail(_cancelled(served))
    elif (error := task.exception()) is None:
        result = task.result()
        if not isinstance(result, NoReply):  # else it was handed on, or is answered later
            served.complete(result)
    elif isinstance(error, Error):
        served.fail(error)
    else:
        cell.stop(exit_reason(error))


def _cancelled(served: Call) -> Error:
    return CallCancelled(f"the task serving {served.target!s} was cancelled", target=str(served.target), reason=KILLED)


__all__ = (
    "CALL_TIMEOUT",
    "MISSING",
    "Continue",
    "Exit",
    "Fail",
    "GenServer",
    "Ignore",
    "Ignored",
    "Info",
    "NoReply",
    "StartFailed",
    "Started",
    "Stop",
    "Target",
    "call",
    "cast",
    "info",
)
