"""Calls: each ends exactly once, with a reply or a typed error.

A call knows its deadline, the call it was made for (its parent), and the tasks started to serve it.
Where the answer goes is what the subclasses differ in.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from .context import Context
from .errors import CallCancelled, CallTimeout, Error, RemoteError
from .items import INFO
from .messages import Opens, Reply
from .timers import Timer

if TYPE_CHECKING:
    from .cell import Cell
    from .engine import Engine

MAX_DEPTH: Final = 64


class Cancels(Protocol):
    """What ends when a call's caller gives up: a task, or the same call in another process."""

    def cancel(self) -> object:
        """End it."""
        ...


class Call:
    """A request that somebody waits for. Everything but the making happens on the engine's thread.

    Attributes:
        message: what is asked.
        target: the name (qualified, once placed) or address asked.
        to: the actor that has it now, or None.
        timeout: seconds the caller gave, None for ever.
        deadline: on the loop's clock; never later than the parent's.
        parent: the call this one was made for, or None.
        holder: the actor whose handler waits for this call, or None if no handler does.
        depth: how many calls stand above it.
        settled: whether it ended.
        value: the reply, if it ended with one.
        error: the error, if it ended with one.
        waiter: whom to tell of the end; what it is depends on the kind of call.
    """

    __slots__ = (
        "_tasks",
        "_timer",
        "context",
        "deadline",
        "depth",
        "engine",
        "error",
        "holder",
        "message",
        "parent",
        "settled",
        "target",
        "timeout",
        "to",
        "value",
        "waiter",
    )

    waiter: Any

    def __init__(
        self,
        engine: Engine,
        target: Any,
        message: Any,
        timeout: float | None,
        parent: Call | None = None,
        holder: Cell | None = None,
        context: Context | None = None,
        waiter: Any = None,
    ) -> None:
        self.engine = engine
        self.target = target
        self.message = message
        self.timeout = timeout
        self.deadline = None if timeout is None else engine.now() + timeout
        self.parent = parent
        if parent is None:
            self.depth = 0
        else:
            self.depth = parent.depth + 1
            if parent.deadline is not None and (self.deadline is None or parent.deadline < self.deadline):
                self.deadline = parent.deadline
        self.holder = holder
        self.context = context
        self.waiter = waiter
        self.to: Cell | None = None
        self.settled = False
        self.value: Any = None
        self.error: Exception | None = None
        self._timer: Timer | None = None
        self._tasks: list[Cancels] | None = None

    # -- ends ------------------------------------------------------------------------------------

    def complete(self, value: Any) -> None:
        """Answer with a value. A late answer is counted and dropped."""
        if self.settled:
            self.engine.log.late_reply(self)
            self._take_leave(value)
            return
        self.settled = True
        self.value = value
        self._tasks = None  # they hold the call: nothing but the collector would free either of them
        if self._timer is not None:
            self._timer.cancel()
        if self.to is not None and self.to.open_calls is not None:
            self.to.open_calls.pop(self, None)
        self.deliver()

    def fail(self, error: Exception) -> None:
        """Answer with an error, which is raised at the caller; one of ours is told the call's trace."""
        if not self.settled:
            facts = vars(error).get("facts") if isinstance(error, Error) else None
            if facts is not None and self.context is not None:
                # With it whoever is told finds the events of what failed.
                facts["correlation_id"] = self.context.trace_id
            self._settle_with(error)
            self.deliver()

    def abandon(self) -> None:
        """The caller gave up: nobody is told, what was started for the call is cancelled.

        An answer that has come already was not taken, and what it opened is of no use to anybody.
        """
        if self.settled:
            value, self.value = self.value, None
            self._take_leave(value)
            return
        tasks = self._tasks
        self._settle_with(CallCancelled(f"the caller of {self.target!s} gave up", target=str(self.target)))
        _cancel(tasks)

    def _take_leave(self, value: Any) -> None:
        """Nobody has taken this answer."""
        if isinstance(self.message, Opens) and (address := getattr(value, "address", None)) is not None:
            farewell = self.message.farewell()
            if farewell is not None:
                self.engine.router.cast(address, farewell)

    def let_go(self) -> None:
        """Whoever has it will not answer it: somebody else is about to be asked."""
        holder, self.to = self.to, None
        if holder is not None:
            if holder.call is self:
                holder.call = None
            if holder.open_calls is not None:
                holder.open_calls.pop(self, None)

    def expire(self) -> None:
        """The deadline passed."""
        if self.settled:
            return
        state, tasks = self.engine.router.state_of(self), self._tasks
        kind = type(self.message).__name__
        self.fail(
            CallTimeout(
                f"no reply from {self.target!s} to {kind} within {self.within}; the target is {state}",
                target=str(self.target),
                timeout=self.timeout,
                state=state,
            )
        )
        _cancel(tasks)

    @property
    def within(self) -> str:
        """The time it has, for people."""
        if self.timeout is None or (self.parent is not None and self.parent.deadline == self.deadline):
            return "what was left of its caller's deadline"
        return f"{self.timeout:g} s"

    def deliver(self) -> None:
        """Bring the outcome to the caller."""
        raise TypeError(f"{type(self).__name__} has no caller")

    def _settle_with(self, error: Exception) -> None:
        self.settled = True
        self.error = error
        self._tasks = None
        if self._timer is not None:
            self._timer.cancel()
        if self.to is not None and self.to.open_calls is not None:
            self.to.open_calls.pop(self, None)

    # -- deadline and tasks ----------------------------------------------------------------------

    def arm(self) -> None:
        """Start the deadline's timer, if the call has one and is still open."""
        if not self.settled and self._timer is None and self.deadline is not None:
            self._timer = self.engine.timers.at(self.deadline, self.expire)

    def attach(self, task: Cancels) -> None:
        """Cancel ``task`` when the caller gives up."""
        if self.settled:  # nobody gives it up any more
            return
        if self._tasks is None:
            self._tasks = []
        self._tasks.append(task)

    def served(self) -> Iterator[Cell]:
        """Who works on the calls that this one was made, by whatever way, to answer; the nearest first."""
        call = self.parent
        while call is not None:
            if call.to is not None and not call.settled:
                yield call.to
            call = call.parent

    def chain_to(self, cell: Cell) -> list[str] | None:
        """The chain of waiting actors from ``cell`` to this call's maker, or None if ``cell`` does not wait."""
        chain: list[str] = []
        call: Call | None = self
        while call is not None and not call.settled:  # above a settled call nobody waits any more
            if call.holder is not None:
                chain.append(call.holder.label)
                if call.holder is cell:
                    return chain[::-1]
            call = call.parent
        return None


class AwaitedCall(Call):
    """A call that a coroutine on the engine's loop awaits; the waiter is its future."""

    __slots__ = ()

    def deliver(self) -> None:
        """Wake the coroutine."""
        waiting: asyncio.Future[None] | None = self.waiter
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.settled:
            waiting: asyncio.Future[None] = self.engine.loop.create_future()
            self.waiter = waiting
            try:
                yield from waiting
            except asyncio.CancelledError:
                self.abandon()
                raise
        if self.error is not None:
            raise self.error
        return self.value


class RequestedCall(Call):
    """A call of a plain handler: the answer arrives as a :class:`~.messages.Reply` message.

    The waiter is the asking cell.
    """

    __slots__ = ("tag",)

    tag: Any

    @property
    def sender(self) -> Cell:
        """Who asks."""
        asker: Cell = self.waiter
        return asker

    def deliver(self) -> None:
        """Put the reply into the asker's mailbox; replies are never refused."""
        sender: Cell = self.waiter
        if sender.requests is not None:
            sender.requests.pop(self, None)
        box = sender.mailbox
        if box is not None:  # put_notice, written out: this is the hot path of plain handlers
            box.append((INFO, Reply(self.tag, self.value, self.error), None, self.context))
            if not sender.scheduled:
                sender.scheduled = True
                self.engine.schedule(sender)


class FutureCall(Call):
    """A call of a coroutine that is no actor's, on any event loop; the waiter is its future."""

    __slots__ = ()

    def deliver(self) -> None:
        """Hand over the outcome, on the loop of whoever waits."""
        self.engine.outside.forget(self)
        loop = self.waiter.get_loop()
        if loop is self.engine.loop:
            self._hand_over()
        else:
            with contextlib.suppress(RuntimeError):  # that loop is closed, perhaps at this very moment
                loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        answer: asyncio.Future[Any] = self.waiter
        if answer.done():
            return
        if self.error is not None:
            answer.set_exception(self.error)
        else:
            answer.set_result(self.value)


class BlockingCall(Call):
    """A call that an outside thread waits for; the waiter is a lock, which wakes twice as fast as an Event."""

    __slots__ = ()

    def __init__(
        self,
        engine: Engine,
        target: Any,
        message: Any,
        timeout: float | None,
        parent: Call | None = None,
        holder: Cell | None = None,
        context: Context | None = None,
    ) -> None:
        lock = threading.Lock()
        lock.acquire()
        super().__init__(engine, target, message, timeout, parent, holder, context, lock)

    def deliver(self) -> None:
        """Wake the thread."""
        self.engine.outside.forget(self)
        self.waiter.release()
        self.engine.hand_over()

    def wait(self, timeout: float | None) -> bool:
        """Wait for the outcome; False if it did not come within ``timeout`` seconds."""
        return bool(self.waiter.acquire(timeout=-1 if timeout is None else max(0.0, timeout)))


def crossing(error: BaseException) -> Exception:
    """What the caller is given for an error that somebody else raised: the error itself, if it is one."""
    if isinstance(error, Exception):
        return error
    return RemoteError(f"{type(error).__name__}: {error}", type=type(error).__name__, text=str(error))


def _cancel(tasks: list[Cancels] | None) -> None:
    for task in tasks or ():
        task.cancel()
