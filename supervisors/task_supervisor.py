"""The supervisor of tasks, as Elixir's Task.Supervisor (OTP section 5).

::

    class Report(GenServer):
        @call
        async def summarise(self, msg: Summarise) -> str:
            tasks = TaskSupervisor.of(self, "reports/tasks")
            draft = await tasks.async_(write, msg.text)
            facts = [each async for each in tasks.async_stream(check, msg.claims, timeout=20.0)]
            return join(await draft, facts)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, TypedDict, TypeVar, Unpack, overload

from thespian.actors import ActorAddress

from ..runtime.child_spec import WORKER_SHUTDOWN, ChildSpec, Restart, Shutdown, StartChild, check_options
from ..runtime.engine import Engine
from ..runtime.errors import UsageError
from ..runtime.gen_server import GenServer, Started
from ..runtime.scope import current_context
from .dynamic_supervisor import DynamicSupervisor
from .task import Job, Task, TaskProcess, TaskResult, TrappingTaskProcess, cell_of
from .task_stream import StreamSettings, stream, stream_options

T = TypeVar("T")
Function = Callable[..., Any]


class TaskOptions(TypedDict, total=False):
    """How a task runs.

    Attributes:
        blocking: the function blocks: run it on a daemon thread.
        shutdown: seconds between the supervisor's request to stop and the kill, or as in a child spec.
        trap_exit: finish when asked to stop, within the shutdown time, instead of ending at once.
        notify: for actors that do not await: the result comes as the message ``TaskDone(task.ref, value)``
            and then ``Down`` with reason ``normal``, a failure as ``Down`` with its reason (OTP TSK-05).
    """

    blocking: bool
    shutdown: Shutdown | timedelta
    trap_exit: bool
    notify: bool


TASK_OPTIONS = tuple(TaskOptions.__annotations__)


class TaskSupervisor(DynamicSupervisor):
    """Supervises tasks: each a process that runs one function, ``temporary`` unless said otherwise (OTP TSK-01).

    It is a :class:`~.dynamic_supervisor.DynamicSupervisor` with the same options; ``max_children`` bounds
    the tasks (OTP TSK-06). Tasks are started through :meth:`of`.
    """

    @staticmethod
    def of(caller: GenServer | Engine, target: str | ActorAddress, *, namespace: str = "") -> Tasks:
        """The tasks of one caller under one supervisor.

        Args:
            caller: the actor whose tasks they are, or the engine for code outside all actors (on any event
                loop; without one, ``engine.outside.run_coroutine`` runs and awaits a coroutine).
            target: the name or address of the supervisor.
            namespace: where an outside caller's name is looked up; an actor has its own.
        """
        return Tasks(caller, target, namespace)


class Tasks:
    """Starts tasks for one caller; see :meth:`TaskSupervisor.of`. For coroutines.

    Functions are ``async def``, plain ones that do not wait, or, with ``blocking=True``, plain ones on a
    daemon thread. They run in the caller's trace, and reach other actors through ``TaskProcess.current()``.
    """

    def __init__(self, caller: GenServer | Engine, target: str | ActorAddress, namespace: str = "") -> None:
        self._owner = caller if isinstance(caller, GenServer) else None
        self._engine = caller.system if isinstance(caller, GenServer) else caller
        self._target = target
        self._namespace = namespace

    @overload
    async def async_(
        self, function: Callable[..., Awaitable[T]], *args: Any, **options: Unpack[TaskOptions]
    ) -> Task[T]: ...
    @overload
    async def async_(self, function: Callable[..., T], *args: Any, **options: Unpack[TaskOptions]) -> Task[T]: ...
    async def async_(self, function: Function, *args: Any, **options: Unpack[TaskOptions]) -> Task[Any]:
        """Start a task that is linked with the caller: either's abnormal end ends the other (OTP TSK-02).

        An outside caller has no process to link with: its task ends when it gives up awaiting it.

        Args:
            function: what to run.
            *args: its arguments.
            **options: see :class:`TaskOptions`.

        Raises:
            SupervisorError: ``max_children``.
            CallError: there is no such supervisor.
            SpecError: an option is unknown or malformed.
            UsageError: no function, or ``notify`` outside an actor.
        """
        return await self._start("async_", function, args, options, linked=True)

    @overload
    async def async_nolink(
        self, function: Callable[..., Awaitable[T]], *args: Any, **options: Unpack[TaskOptions]
    ) -> Task[T]: ...
    @overload
    async def async_nolink(self, function: Callable[..., T], *args: Any, **options: Unpack[TaskOptions]) -> Task[T]: ...
    async def async_nolink(self, function: Function, *args: Any, **options: Unpack[TaskOptions]) -> Task[Any]:
        """As :meth:`async_`, but not linked: its failure is only told, and it survives its caller's end."""
        return await self._start("async_nolink", function, args, options, linked=False)

    async def start_child(
        self,
        function: Function,
        *args: Any,
        blocking: bool = False,
        restart: Restart = "temporary",
        shutdown: Shutdown | timedelta = WORKER_SHUTDOWN,
        trap_exit: bool = False,
    ) -> ActorAddress:
        """Start a task that nobody waits for (OTP TSK-01); a restart runs the function again.

        Args:
            function: what to run.
            *args: its arguments.
            blocking: as in :class:`TaskOptions`.
            restart: ``temporary``, ``transient`` or ``permanent``.
            shutdown: as in :class:`TaskOptions`.
            trap_exit: as in :class:`TaskOptions`.

        Raises:
            SupervisorError: ``max_children``.
            SpecError: an option is malformed.
            CallError: there is no such supervisor.
            UsageError: no function.
        """
        job = self._job(function, args, blocking, None)
        return (await self._ask(job, restart, shutdown, trap_exit)).address

    @overload
    def async_stream(
        self, function: Callable[[Any], Awaitable[T]], items: Iterable[Any], **options: Unpack[StreamSettings]
    ) -> AsyncGenerator[TaskResult[T], None]: ...
    @overload
    def async_stream(
        self, function: Callable[[Any], T], items: Iterable[Any], **options: Unpack[StreamSettings]
    ) -> AsyncGenerator[TaskResult[T], None]: ...
    def async_stream(
        self, function: Function, items: Iterable[Any], **options: Unpack[StreamSettings]
    ) -> AsyncGenerator[TaskResult[Any], None]:
        """A task for each item, linked with the caller: ``async for result in ...`` (OTP TSK-07).

        Each result is ``TaskOk(value)`` or ``TaskExit(reason)``. Nothing is left running when the reader
        leaves; to have that at once and not when the generator is collected, use ``contextlib.aclosing``.

        Args:
            function: takes an item.
            items: read as places become free.
            **options: see :class:`~.task_stream.StreamSettings`.

        Raises:
            SpecError: an option is unknown.
            UsageError: an option is out of range.
        """
        return self._stream("async_stream", function, items, options, linked=True)

    @overload
    def async_stream_nolink(
        self, function: Callable[[Any], Awaitable[T]], items: Iterable[Any], **options: Unpack[StreamSettings]
    ) -> AsyncGenerator[TaskResult[T], None]: ...
    @overload
    def async_stream_nolink(
        self, function: Callable[[Any], T], items: Iterable[Any], **options: Unpack[StreamSettings]
    ) -> AsyncGenerator[TaskResult[T], None]: ...
    def async_stream_nolink(
        self, function: Function, items: Iterable[Any], **options: Unpack[StreamSettings]
    ) -> AsyncGenerator[TaskResult[Any], None]:
        """As :meth:`async_stream`, but not linked: a failed task is only a ``TaskExit`` of the stream."""
        return self._stream("async_stream_nolink", function, items, options, linked=False)

    def _stream(
        self, method: str, function: Function, items: Iterable[Any], options: StreamSettings, *, linked: bool
    ) -> AsyncGenerator[TaskResult[Any], None]:
        settings = stream_options(method, options)

        async def start(item: Any) -> Task[Any]:
            return await self._start(method, function, (item,), {"blocking": settings.blocking}, linked=linked)

        return stream(start, items, settings)

    async def _start(
        self, method: str, function: Function, args: tuple[Any, ...], options: TaskOptions, *, linked: bool
    ) -> Task[Any]:
        check_options(method, options, TASK_OPTIONS)
        notify = options.get("notify", False)
        if notify and self._owner is None:
            raise UsageError("expected notify=True from an actor, which has a mailbox; got it from outside")
        task: Task[Any] = Task(self._engine, self._owner, linked=linked, notify=notify)
        job = self._job(function, args, options.get("blocking", False), task)
        shutdown = options.get("shutdown", WORKER_SHUTDOWN)
        try:
            await self._ask(job, "temporary", shutdown, options.get("trap_exit", False))
        except BaseException:  # fault boundary: whoever leaves now, and why ever, would not know what it started
            task.give_up()
            raise
        return task

    def _job(self, function: Function, args: tuple[Any, ...], blocking: bool, task: Task[Any] | None) -> Job:
        if not callable(function):
            raise UsageError(f"expected a function for the task to call, got {type(function).__name__}")
        owner = self._owner
        callers: tuple[str, ...] = ()
        if owner is not None:
            callers = (cell_of(owner).label, *(owner.callers if isinstance(owner, TaskProcess) else ()))
        return Job(function, args, blocking, current_context(), callers, task)

    async def _ask(self, job: Job, restart: Restart, shutdown: Shutdown | timedelta, trap_exit: bool) -> Started:
        process = TrappingTaskProcess if trap_exit else TaskProcess
        message = StartChild(ChildSpec(job.name, process, (job,), restart=restart, shutdown=shutdown))
        if self._owner is not None:
            started: Started = await self._owner.call(self._target, message, timeout=None)
        else:
            started = await self._engine.call_async(self._target, message, None, namespace=self._namespace)
        return started


__all__ = ("TASK_OPTIONS", "Function", "TaskOptions", "TaskSupervisor", "Tasks")
