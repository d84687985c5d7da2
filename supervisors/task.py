"""A task: one function that runs once, in a process of its own, and the handle of who asked for it (OTP section 5)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar

from ..runtime.address import LocalAddress
from ..runtime.cell import Cell
from ..runtime.child_spec import BRUTAL_KILL
from ..runtime.context import Context
from ..runtime.engine import Engine
from ..runtime.errors import ActorDied, ApplicationDown, CallTimeout, UsageError
from ..runtime.gen_server import CALL_TIMEOUT, Continue, GenServer, Stop
from ..runtime.log import get_logger
from ..runtime.messages import TaskDone
from ..runtime.reasons import KILL, KILLED, NOPROC, NORMAL, SHUTDOWN, Crash, Reason, describe, is_normal
from ..runtime.scope import SCOPE, awaiting

T = TypeVar("T")
_ABSENT: Final[Any] = object()


@dataclass(frozen=True, slots=True)
class TaskOk(Generic[T]):
    """The task returned ``value``."""

    value: T


@dataclass(frozen=True, slots=True)
class TaskExit:
    """The task ended with ``reason`` and without a result."""

    reason: Reason


TaskResult: TypeAlias = TaskOk[T] | TaskExit
"""How a task ended."""


def cell_of(actor: GenServer) -> Cell:
    """The cell of an actor of this process."""
    address = actor.myAddress
    assert isinstance(address, LocalAddress), "actors of one engine have local addresses"
    assert address.cell is not None, "an actor's own address leads to its cell"
    return address.cell


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a task's process is started with.

    Attributes:
        function: what to run: ``async def`` or plain.
        args: its arguments.
        blocking: run it on a daemon thread.
        context: the trace context to go on in, or None.
        callers: labels of the actors it is run for, the nearest first (OTP TSK-08).
        task: the handle of who waits for it, or None.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    blocking: bool
    context: Context | None
    callers: tuple[str, ...]
    task: Task[Any] | None

    @property
    def name(self) -> str:
        """The function's name, for people."""
        return getattr(self.function, "__qualname__", None) or type(self.function).__qualname__


class TaskProcess(GenServer):
    """The process of a task: runs its function, hands over the result, ends normally."""

    handler_limit = None
    callers: tuple[str, ...] = ()
    """Labels of the actors this task is run for, the nearest first."""

    @classmethod
    def current(cls) -> TaskProcess:
        """The process of the running task: with it the task's function may call, cast and monitor.

        Raises:
            UsageError: no task runs here.
        """
        scope = SCOPE.get()
        process = None if scope is None else scope.cell.instance
        if not isinstance(process, TaskProcess):
            raise UsageError("expected current() inside the function of a supervised task, got other code")
        return process

    def init(self, job: Job) -> Continue | Stop:
        """Link and monitor, before the starter is told; the function runs after that."""
        self._job, self.callers = job, job.callers
        if job.context is not None:
            self.set_context(job.context)
        if job.task is not None and not job.task.begin(self):
            return Stop(NOPROC)
        return Continue()

    async def handle_continue(self, value: None) -> Stop:
        """Run the function."""
        job = self._job
        if job.blocking:
            result = await self.run_blocking(job.function, *job.args)
        else:
            result = job.function(*job.args)
        if inspect.isawaitable(result):
            result = await result
        if job.task is not None:
            job.task.deliver(result)
        return Stop(NORMAL)

    def terminate(self, reason: Reason) -> None:
        """Log a failure; normal-type ends are silent (OTP TSK-08)."""
        if not is_normal(reason):
            _LOG.error(
                "a task failed",
                task=self._job.name,
                callers=list(self.callers),
                reason=describe(reason),
                exc_info=reason.error if isinstance(reason, Crash) else None,
            )


class TrappingTaskProcess(TaskProcess):
    """A task that finishes what it does when it is asked to stop, within its shutdown time."""

    trap_exit: ClassVar[bool] = True


class Task(Generic[T]):
    """The handle of a task that somebody waits for; only who started it may use it (OTP TSK-03).

    ``await task`` is ``await task.result()``.

    Attributes:
        ref: in the messages of a task started with ``notify``.
        address: its process.
        linked: whether its abnormal end ends its owner, and the other way round (OTP TSK-02).
    """

    __slots__ = ("_end", "_engine", "_given_up", "_notify", "_owner", "_value", "address", "linked", "ref")

    def __init__(self, engine: Engine, owner: GenServer | None, *, linked: bool, notify: bool) -> None:
        self._engine = engine
        self._owner = owner
        self._notify = notify
        self._given_up = False
        self._value: T = _ABSENT
        self._end: Future[Reason] = Future()
        self.linked = linked
        self.ref = 0
        self.address: LocalAddress | None = None

    # -- the process's side, on the engine's thread --------------------------------------------------

    def begin(self, process: TaskProcess) -> bool:
        """The process starts: link it and watch it. False if nobody wants it any more."""
        owner = self._owner
        if self._given_up or (owner is not None and not cell_of(owner).alive):
            return False
        cell = cell_of(process)
        self.address = cell.address
        cell.watch(self._engine.next_number(), lambda address, reason: self._end.set_result(reason))
        if owner is not None:
            if self.linked:
                process.link(owner.myAddress)
            self.ref = owner.monitor(cell.address) if self._notify else self._engine.next_number()
        return True

    def deliver(self, value: T) -> None:
        """The function returned."""
        self._value = value
        if self._notify and self._owner is not None:
            cell_of(self._owner).put_notice(TaskDone(self.ref, value), self.address)

    # -- the owner's side --------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, T]:
        return self.result().__await__()

    async def result(self, timeout: float | None = CALL_TIMEOUT) -> T:
        """Wait for the result (OTP TSK-03).

        A time-out leaves the task running; only a linked one of a caller outside all actors, who has no
        process to link with, ends when its caller leaves.

        Args:
            timeout: seconds, None for ever.

        Raises:
            ActorDied: it ended without a result (``reason``; the cause is the exception, if one ended it).
            CallTimeout: it still runs.
            UsageError: somebody else's task.
        """
        self._check_owner("result")
        try:
            outcome = await self._outcome(timeout)
        except asyncio.CancelledError:
            self._leave()
            raise
        if isinstance(outcome, TaskOk):
            return outcome.value
        if outcome is None:
            self._leave()
            raise self.timed_out(timeout)
        reason = outcome.reason
        died = ActorDied(f"{self} ended ({describe(reason)}) without a result", target=str(self), reason=reason)
        raise died from (reason.error if isinstance(reason, Crash) else None)

    async def yield_(self, timeout: float | None = CALL_TIMEOUT) -> TaskResult[T] | None:
        """Look how it stands, waiting at most so long; None if it still runs: ask again later (OTP TSK-04).

        Args:
            timeout: seconds, None for ever.

        Raises:
            UsageError: somebody else's task.
        """
        self._check_owner("yield_")
        return await self._outcome(timeout)

    async def shutdown(self, timeout: float | Literal["brutal_kill"] = CALL_TIMEOUT) -> TaskResult[T] | None:
        """Stop it and wait until it is gone (OTP TSK-04).

        Args:
            timeout: seconds between the request to stop and the kill, or ``"brutal_kill"``: kill at once.

        Returns:
            Its result if it had one, None if it ended as asked, else why it ended.

        Raises:
            UsageError: somebody else's task.
        """
        self._check_owner("shutdown")
        if self._notify and self._owner is not None:
            self._owner.demonitor(self.ref)
        brutal = timeout == BRUTAL_KILL
        self.signal(KILL if brutal else SHUTDOWN)
        outcome = await self._outcome(None if isinstance(timeout, str) else timeout)
        if outcome is None:
            self.signal(KILL)
            outcome = await self._outcome(None)
        return None if outcome == TaskExit(KILLED if brutal else SHUTDOWN) else outcome

    def give_up(self) -> None:
        """End it, also if it has not begun yet."""
        self._given_up = True
        self.signal(KILL)

    def signal(self, reason: Reason) -> None:
        """Send its process an exit signal that does not come back through the link. From any thread."""
        engine = self._engine
        if engine.outside.on_thread():
            self._unlink_and_signal(reason)
            return
        try:
            engine.post(self._unlink_and_signal, reason)
        except ApplicationDown:
            return  # it ended with the engine

    def _unlink_and_signal(self, reason: Reason) -> None:
        self.unlink()
        self._engine.kill(self.address, reason)

    def unlink(self) -> None:
        """Undo the link with the owner, if there is one."""
        if self.linked and self._owner is not None and self.address is not None and self.address.cell is not None:
            cell_of(self._owner).unlink(self.address.cell)

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Have ``tell()`` called on the running event loop once the process has ended."""
        loop = asyncio.get_running_loop()

        def ended(end: Future[Reason]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell)

        self._end.add_done_callback(ended)

    def outcome(self) -> TaskResult[T] | None:
        """How it ended; None while it runs."""
        if not self._end.done():
            return None
        return TaskExit(self._end.result()) if self._value is _ABSENT else TaskOk(self._value)

    async def _outcome(self, timeout: float | None) -> TaskResult[T] | None:
        if not self._end.done():
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.when_ended(lambda: None if over.done() else over.set_result(None))
            process = None if self.address is None else self.address.cell
            with nullcontext() if process is None else awaiting(process):
                await asyncio.wait([over], timeout=timeout)
        return self.outcome()

    def timed_out(self, timeout: float | None) -> CallTimeout:
        """The error of who waited in vain."""
        return CallTimeout(f"{self} has no result after {timeout} s", target=str(self), timeout=timeout, state="busy")

    def _leave(self) -> None:
        if self.linked and self._owner is None:
            self.signal(KILL)

    def _check_owner(self, what: str) -> None:
        scope = SCOPE.get()
        here = None if scope is None else scope.cell
        owner = None if self._owner is None else cell_of(self._owner)
        if here is not owner:
            of, by = (cell.label if cell is not None else "code outside all actors" for cell in (owner, here))
            raise UsageError(f"expected {what}() of {self} by its owner, {of}, got it by {by}")

    def __repr__(self) -> str:
        return f"Task{self.address!r}"


_LOG: Final = get_logger("dspex.tasks")

__all__ = ("Job", "Task", "TaskExit", "TaskOk", "TaskProcess", "TaskResult", "TrappingTaskProcess", "cell_of")
