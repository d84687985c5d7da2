"""How a :class:`~.gen_server.GenServer` lives: OTP's GenServer contract (``OTP`` GS rows).

One message at a time, coroutines included. An exception ends the actor; nothing is tried again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from thespian.actors import ActorExitRequest
from thespian.system.messages.status import Thespian_StatusReq

from .calls import Call, crossing
from .cell import BUSY, DEAD, INIT, NO_LIMIT, OPEN, SUSPENDED, TERMINATING, Cell, exit_reason
from .errors import UnknownMessage
from .handlers import Handler
from .items import CAST, INFO, PARENT_EXIT
from .messages import SystemMessage
from .outcomes import (
    Continue,
    Exit,
    Fail,
    Ignore,
    Ignored,
    Info,
    NoReply,
    Outcome,
    Started,
    StartFailed,
    StartResult,
    Stop,
)
from .reasons import NORMAL, Crash, Reason
from .scope import Scope
from .steps import Done, Steps
from .system_messages import answer_system_message

if TYPE_CHECKING:
    from .engine import Engine
    from .gen_server import GenServer


class ServerCell(Cell):
    """A cell whose actor is a GenServer."""

    __slots__ = ("_doom", "_on_started", "calls", "casts", "eager", "infos")

    instance: GenServer

    def __init__(self, engine: Engine, number: int, instance: GenServer, parent: Cell | None) -> None:
        super().__init__(engine, number, instance, parent)
        cls = type(instance)
        self.set_limit(cls.mailbox_limit)
        self.trap_exit = cls.trap_exit
        self.rebuilds = cls.rebuilds
        self.offloop = cls.blocking
        self.eager = cls.eager
        self.guards = int(cls.blocking)
        self.calls = cls.dspex_calls
        self.casts = cls.dspex_casts
        self.infos = cls.dspex_infos
        self._on_started: Callable[[StartResult], None] | None = None
        self._doom: Exit | None = None

    def set_limit(self, limit: int | None) -> None:
        """Bound the mailbox: -1 takes the engine's limit, None is no limit."""
        self.limit = NO_LIMIT if limit is None else self.engine.mailbox_limit if limit == -1 else limit

    # -- start ---------------------------------------------------------------------------------

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any], on_started: Callable[[StartResult], None]) -> None:
        """Run ``init``; ``on_started`` is told the outcome, at once if ``init`` is a plain function."""
        self._on_started = on_started
        init = self.instance.init
        if self.offloop and not inspect.iscoroutinefunction(init):
            self._run_offloop(lambda: init(*args, **kwargs), self._initialised)
            return
        try:
            result = init(*args, **kwargs)
        except BaseException as error:  # fault boundary: a failing init is a failed start (OTP SUP-07)
            self.engine.reraise_interrupt(error)
            self._start_failed(exit_reason(error))
            return
        if inspect.iscoroutine(result):
            self._run_coroutine(result, self._initialised)
        else:
            self._initialised(result)

    def _initialised(self, result: Any, error: BaseException | None = None) -> None:
        self.run_task = None
        if error is not None:
            self._start_failed(exit_reason(error))
        elif isinstance(result, Ignore):
            self._end_start(Ignored())
        elif isinstance(result, Stop):
            self._start_failed(result.reason)
        elif result is None or isinstance(result, (Info, Continue)):
            told, self._on_started = self._on_started, None
            self.status = OPEN
            self.engine.named_cell_started(self)
            if told is not None:
                told(Started(self.address, result.value if isinstance(result, Info) else None))
            # The one who was told may have ended it already.
            if self.status == OPEN and isinstance(result, Continue):
                self._continue(result)
            if self.status == OPEN:
                self.resume_running()
        else:
            self._start_failed(("bad_return_value", result))

    def _start_failed(self, reason: Reason) -> None:
        self._end_start(StartFailed(reason))

    def abort_start(self, reason: Reason) -> None:
        """Give up on an ``init`` that takes too long."""
        self._start_failed(reason)

    def _end_start(self, outcome: Ignored | StartFailed) -> None:
        told, self._on_started = self._on_started, None
        self.die(outcome.reason if isinstance(outcome, StartFailed) else NORMAL, silent=True)
        if told is not None:
            told(outcome)

    def die(self, reason: Reason, *, silent: bool = False) -> None:
        """As in the base; one that dies before its start was over answers its starter."""
        told, self._on_started = self._on_started, None
        super().die(reason, silent=silent or told is not None)
        if told is not None:
            told(StartFailed(reason))

    # -- messages ------------------------------------------------------------------------------

    def run(self, budget: int) -> None:  # noqa: C901 - the hot path: a call for each step would cost more than the step
        """Handle up to ``budget`` messages, until the mailbox is empty or a coroutine takes over."""
        if self.status != OPEN:
            if self.status == SUSPENDED:
                self._run_suspended()
            return
        box, actor, casts = self.mailbox, self.instance, self.casts
        while box and budget > 0:
            budget -= 1
            self.handled += 1
            item: Any = box.popleft()
            if item.__class__ is tuple:
                kind, message = item[0], item[1]
                self.call = None
                if kind == CAST:
                    handler, self.context = casts[type(message)], item[2]
                    if handler is None:
                        self.stop(("unknown_cast", type(message).__name__))
                        return
                elif kind == INFO:
                    handler, self.context = self.infos[type(message)], item[3]
                    self.sender = item[2]
                    if handler is None:
                        self._unhandled(message)
                        if self.status != OPEN:
                            return
                        continue
                else:
                    self.stop(message)  # ordered by the parent or by stop(): the message is the reason
                    return
            else:
                message = item.message
                handler = self.calls[type(message)]
                if handler is None:
                    self._take_other_call(item)
                    if self.status != OPEN:
                        return
                    continue
                self.call, self.context = item, item.context
            if handler.is_async or self.offloop:
                self._hand_off(handler, message)
                return
            try:
                result = handler.function(actor, message)
            except BaseException as error:  # fault boundary: let it crash (OTP GS-08)
                self.engine.reraise_interrupt(error)
                self.stop(exit_reason(error))
                return
            call = self.call
            if call is not None and not isinstance(result, Outcome):
                self.call = None
                call.complete(result)
            elif result is not None:
                self._after(result)
            if self.status != OPEN:
                return

    def take_now(self, call: Call) -> bool:
        """Handle a call while nothing else waits, without a trip through the mailbox; plain handlers only."""
        handler = self.calls[type(call.message)]
        if handler is None or handler.is_async or self.offloop:
            return False
        self.handled += 1
        call.to = self
        self.call, self.context = call, call.context
        try:
            result = handler.function(self.instance, call.message)
        except BaseException as error:  # fault boundary: let it crash (OTP GS-08)
            self.engine.reraise_interrupt(error)
            self.stop(exit_reason(error))
            return True
        if isinstance(result, Outcome):
            self._after(result)
        elif self.call is call:
            self.call = None
            call.complete(result)
        return True

    def _hand_off(self, handler: Handler, message: Any) -> None:
        actor = self.instance
        if handler.is_async:
            self._run_coroutine(handler.function(actor, message), self._handled)
        else:
            self._run_offloop(lambda: handler.function(actor, message), self._handled)

    def _handled(self, result: Any, error: BaseException | None = None) -> None:
        self.run_task = None
        error = self._doom or error
        if error is not None:
            self.stop(exit_reason(error))
            return
        call = self.call
        if call is not None and not isinstance(result, Outcome):
            self.call = None
            call.complete(result)
        elif result is not None:
            self._after(result)
        if self.status == BUSY and self.run_task is None:
            self.resume_running()

    def _after(self, result: Any) -> None:
        """Act on what a handler returned other than a plain reply."""
        if self.status == DEAD:
            return
        call, self.call = self.call, None
        if isinstance(result, NoReply):
            if call is not None and not call.settled:
                if self.open_calls is None:
                    self.open_calls = {}
                self.open_calls[call] = None
        elif isinstance(result, Fail) and call is not None:
            call.fail(crossing(result.error))
        elif isinstance(result, Stop):
            self.call = call
            self.stop(result.reason, reply=result)
        elif isinstance(result, Continue):
            if call is not None:
                call.complete(result.reply)
            self._continue(result)
        else:
            self.call = call
            self.stop(("bad_return_value", result))

    def _continue(self, result: Continue) -> None:
        """Run ``handle_continue``, before any message (OTP GS-02); it may ask for one more."""
        step = self.instance.handle_continue
        answer: Any = result
        while isinstance(answer, Continue) and self.status != DEAD:
            value = answer.value
            if self.offloop and not inspect.iscoroutinefunction(step):
                self._run_offloop(functools.partial(step, value), self._handled)
                return
            try:
                answer = step(value)
            except BaseException as error:  # fault boundary: let it crash (OTP GS-08)
                self.engine.reraise_interrupt(error)
                self.stop(exit_reason(error))
                return
            if inspect.iscoroutine(answer):
                self._run_coroutine(answer, self._handled)
                return
        if answer is not None:
            self._after(answer)

    def _unhandled(self, message: Any) -> None:
        if isinstance(message, ActorExitRequest):
            if not message.isRecursive:
                self.children = None  # they live on, as orphans
            self.stop(NORMAL)
            return
        if isinstance(message, Thespian_StatusReq):
            self.engine.router.send(self.sender, self.thespian_status(), self, None)
            return
        try:
            self.instance.unhandled(message)
        except BaseException as error:  # fault boundary: let it crash (OTP GS-08)
            self.engine.reraise_interrupt(error)
            self.stop(exit_reason(error))

    def _take_other_call(self, call: Call) -> None:
        if isinstance(call.message, SystemMessage):
            answer_system_message(self, call)
            if self.status == SUSPENDED:
                self._run_suspended()
        else:
            self._refuse_unknown(call)

    def _refuse_unknown(self, call: Call) -> None:
        name = type(call.message).__name__
        known = sorted(each.__name__ for each in self.calls if self.calls.get(each))
        call.fail(
            UnknownMessage(
                f"{self.label} has no @call handler for {name}; it has them for {', '.join(known) or 'nothing'}",
                target=self.label,
                message_type=name,
            )
        )

    def _run_suspended(self) -> None:
        """Answer system messages, wherever they wait, and obey the parent; all else stays (OTP ``sys:suspend``)."""
        box = self.mailbox
        for item in list(box or ()):
            if self.status != SUSPENDED or box is None:
                return
            if isinstance(item, Call):
                if isinstance(item.message, SystemMessage):
                    box.remove(item)
                    answer_system_message(self, item)
            elif item[0] == PARENT_EXIT:
                box.remove(item)
                self.stop(item[1])

    # -- coroutines and threads ------------------------------------------------------------------

    def _run_coroutine(self, work: Coroutine[Any, Any, Any], done: Done) -> None:
        engine, steps = self.engine, Steps(self, work, done)
        context = engine.context_of(Scope(self, self.call, self.context, in_handler=True))
        if self.eager and steps.begin(context):
            return
        if self.status == OPEN:
            self.status = BUSY
        self.run_task = engine.create_task(steps, context)
        if self.status == DEAD:  # it ended in that first step
            self.run_task.cancel()

    def _run_offloop(self, work: Callable[[], Any], done: Done) -> None:
        if self.status == OPEN:
            self.status = BUSY
        self.run_task = self.engine.run_offloop(self, work, done)

    # -- end -----------------------------------------------------------------------------------

    def stop(self, reason: Reason, *, reply: Stop | None = None) -> None:
        """Run ``terminate``, answer the current call if ``reply`` says so, then end (OTP GS-07, GS-09)."""
        if self.status in (DEAD, TERMINATING) or self._doom_handler(reason):
            return
        if self.status == INIT:
            self._start_failed(reason)
            return
        self.status, self.scheduled, self.reason = TERMINATING, True, reason
        if isinstance(reason, Crash):
            self.engine.log.crashed(self, reason)

        def over(result: Any, error: BaseException | None = None) -> None:
            call, self.run_task = self.call, None
            if reply is not None and reply.replies and call is not None:
                self.call = None
                call.complete(reply.reply)
            self.die(reason if error is None else exit_reason(error))

        terminate = self.instance.terminate
        if self.offloop and not inspect.iscoroutinefunction(terminate):
            self._run_offloop(lambda: terminate(reason), over)
            return
        try:
            result = terminate(reason)
        except BaseException as error:  # fault boundary: a failing terminate must not keep the actor alive
            self.engine.reraise_interrupt(error)
            over(None, error)
            return
        if inspect.iscoroutine(result):
            self._run_coroutine(result, over)
        else:
            over(None)

    def _doom_handler(self, reason: Reason) -> bool:
        """Somebody else ends this actor while its handler runs: that one ends first, then ``stop`` comes again."""
        if self.status != BUSY or self.run_task is None:
            return False
        self._doom = self._doom or Exit(reason)
        self.run_task.cancel()
        return True
