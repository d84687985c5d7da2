"""The placed actor as its parent's engine sees it: a cell like any other, whose actor runs in a child interpreter.

Name, links, monitors, mailbox and its bound, calls and their ends are kept here. What stands in the mailbox has
been sent, and leaves it when the actor itself has taken it: so a process that dies takes nothing along that
nobody hears of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from thespian.actors import Actor, ActorAddress

from ..address import origin_of
from ..calls import Call
from ..cell import DEAD, INIT, NO_LIMIT, OPEN, Cell
from ..context import Context
from ..dispatcher import InlineDispatcher
from ..endings import died_error
from ..errors import ApplicationDown, Error, UsageError
from ..gen_server import GenServer
from ..items import CAST, INFO, STOP
from ..messages import SystemMessage
from ..outcomes import Ignored, Started, StartFailed, StartResult
from ..reasons import KILL, KILLED, NORMAL, Crash, Reason
from ..restart_context import RestartContext
from . import wire
from .interpreter import Interpreter, how
from .portal import Portal

if TYPE_CHECKING:
    from ..engine import Engine

LAST_WORDS: Final = 1.0
"""Seconds between the end of a process and that of its connection, whichever comes first."""
LEAVE: Final = 3.0
"""Seconds a process gets to end by itself when its actor has ended."""
PROCESS_DIED: Final = "process_died"
"""First word of the reason of an actor whose process ended under it; the second is the exit code, or the signal."""


class Start(NamedTuple):
    """What a start is made of; names the part that does not pickle."""

    actor: type[Actor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class PlacedCell(Cell):
    """A cell whose actor runs in a child interpreter.

    Attributes:
        interpreter: the process, once it was started.
    """

    elsewhere = True
    __slots__ = ("_early", "_left", "_lost", "_on_started", "_portal", "interpreter")

    def __init__(self, engine: Engine, number: int, cls: type[Actor], parent: Cell | None) -> None:
        super().__init__(engine, number, Actor(), parent)
        self.actor_class = cls
        if issubclass(cls, GenServer):
            self.set_limit(cls.mailbox_limit)
        self.interpreter: Interpreter | None = None
        self._portal = Portal(engine, self._connection_lost, self._told)
        self._portal.twin = self
        self._on_started: Callable[[StartResult], None] | None = None
        self._early: list[tuple[int, int, bytes]] | None = []
        self._lost = False
        self._left = False

    def set_limit(self, limit: int | None) -> None:
        """Bound the mailbox: -1 takes the engine's limit, None is no limit."""
        self.limit = NO_LIMIT if limit is None else self.engine.mailbox_limit if limit == -1 else limit

    # -- start -------------------------------------------------------------------------------------

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any], on_started: Callable[[StartResult], None]) -> None:
        """Start the process, and the actor in it; what cannot cross is refused before there is a process."""
        self._on_started = on_started
        engine = self.engine
        options = {
            "name": self.name,
            "namespace": self.namespace,
            # Bounded here, exactly. There a mailbox also holds a marker behind each batch.
            "mailbox_limit": None if self.limit == NO_LIMIT else 2 * self.limit,
            "restart_context": portable_context(self.restart_context),
        }
        settings = {"engine": engine.id, "mailbox_limit": engine.mailbox_limit, "slow_handler": engine.slow_handler}
        try:
            if isinstance(engine.executor, InlineDispatcher):
                raise UsageError("expected an engine in real time for placement='process', got one in virtual time")
            data = wire.dumps(
                (self.actor_class, args, kwargs, options, origin_of(self.address)),
                Start(self.actor_class, args, kwargs),
            )
            self.interpreter = Interpreter(settings, self._process_ended)
        except (UsageError, OSError) as error:
            self._end_start(StartFailed(Crash(error)))
            return
        self._portal.write(wire.START, 0, data)
        self.run_task = engine.create_task(self._connect(self.interpreter))

    async def _connect(self, interpreter: Interpreter) -> None:
        try:
            await self.engine.loop.create_unix_connection(lambda: self._portal, sock=interpreter.connection)
        except (OSError, NotImplementedError) as error:
            self._end_start(StartFailed(Crash(error)))

    def abort_start(self, reason: Reason) -> None:
        """Give up on an ``init`` that takes too long: the process is killed."""
        self._end_start(StartFailed(reason))

    def _end_start(self, outcome: Ignored | StartFailed) -> None:
        told, self._on_started = self._on_started, None
        self.die(outcome.reason if isinstance(outcome, StartFailed) else NORMAL, silent=True)
        if told is not None:
            told(outcome)

    def _started(self, info: Any) -> None:
        told, self._on_started = self._on_started, None
        self.status, self.run_task = OPEN, None
        if self.interpreter is not None:
            self._announce({"placement": "process", "pid": self.interpreter.pid})
        self.engine.named_cell_started(self)
        early, self._early = self._early or [], None
        for kind, id, data in early:
            self._portal.write(kind, id, data)
        if told is not None:
            told(Started(self.address, info))

    def _announce(self, metadata: Mapping[str, Any]) -> None:
        if self.name is not None and self.engine.names.get(self.name) is not None:
            self.engine.names.set_metadata(self.name, metadata)

    # -- mailbox -----------------------------------------------------------------------------------

    @property
    def status_name(self) -> str:
        """For people: ``busy`` while it has messages in its mailbox or calls it has not answered."""
        if self.status != OPEN:
            return super().status_name
        return "busy" if self.mailbox or self.open_calls else "idle"

    def put(self, item: Any) -> bool:
        """Send an item; False if the mailbox is full or the actor dead.

        Raises:
            UsageError: it does not pickle.
        """
        box = self.mailbox
        if box is None or len(box) >= self.limit:
            return False
        self._cross(item, notice=False)
        return True

    def force(self, item: Any) -> None:
        """Send an item whatever the limit."""
        if self.mailbox is not None:
            self._cross(item, notice=True)

    def put_notice(self, message: Any, sender: ActorAddress | None = None, context: Context | None = None) -> None:
        """Send what the engine itself has to tell: never refused."""
        self.force((INFO, message, sender, context))

    def put_call(self, call: Call) -> None:
        """Send a call, or refuse it with a typed error."""
        box = self.mailbox
        if box is None:
            call.fail(died_error(self, call))
        elif isinstance(call.message, SystemMessage):  # for the engine there, whatever waits here
            call.to = self
            self._portal.call(call, self.address, self._write)
        elif len(box) < self.limit or not self.refuses(call):
            call.to = self
            self._portal.call(call, None, self._write)
            if not call.settled:
                box.append(call)

    def _cross(self, item: Any, *, notice: bool) -> None:
        kind, message = item[0], item[1]
        if kind == STOP:
            self._write(wire.STOP, 0, wire.dumps((None, wire.portable_reason(message))))
            return
        if kind == CAST:
            self._write(wire.CAST, 0, wire.dumps((None, message, item[2]), message))
        else:
            self._write(wire.INFO, 0, wire.dumps((None, message, item[2], item[3], notice), message))
        if self.mailbox is not None:
            self.mailbox.append(item)

    def _write(self, kind: int, id: int, data: bytes) -> None:
        """What is for the actor itself waits for the end of its start; what its ``init`` asked for does not."""
        if self._early is None:
            self._portal.write(kind, id, data)
        else:
            self._early.append((kind, id, data))

    def _taken(self, count: int) -> None:
        box = self.mailbox
        self.handled += count
        while box and count > 0:
            count -= 1
            item = box.popleft()
            if isinstance(item, Call) and not item.settled:
                if self.open_calls is None:
                    self.open_calls = {}
                self.open_calls[item] = None

    # -- signals -----------------------------------------------------------------------------------

    def signal(self, reason: Reason, sender: Cell | None, *, from_parent: bool = False) -> None:
        """A kill ends the process; any other signal is the actor's own to take, or to die of."""
        if self.status == DEAD:
            return
        if reason == KILL:
            self.die(KILLED)
        elif self.status == INIT:
            if from_parent or reason != NORMAL:
                self.die(reason)
        else:
            by = None if sender is None else sender.address
            linked = sender is not None and sender.status == DEAD
            self._portal.send(wire.EXIT, 0, (None, wire.portable_reason(reason), by, from_parent, linked))

    def stop(self, reason: Reason) -> None:
        """Have it run ``terminate`` and end."""
        self.force((STOP, reason))

    # -- what the child tells ----------------------------------------------------------------------

    def _told(self, kind: int, body: Any) -> None:
        if kind == wire.TAKEN:
            self._taken(body)
        elif kind == wire.EVENT:
            self.engine.telemetry.execute(*body)
        elif kind == wire.METADATA:
            self._announce(body)
        elif kind == wire.BORN:
            self._portal.twin_origin = body
        elif kind == wire.STARTED and self.status == INIT:
            outcome = body
            if isinstance(outcome, (Ignored, StartFailed)):
                self._left = True
                self._end_start(outcome)
            elif isinstance(outcome, Error):  # unreadable: what init answered cannot be had here
                self._end_start(StartFailed(Crash(outcome)))
            else:
                self._started(outcome.info)
        elif kind == wire.ENDED:
            self._left = True
            if isinstance(body, Crash):
                self.engine.log.crashed(self, body)
            self.die(body)

    # -- the process -------------------------------------------------------------------------------

    def _process_ended(self) -> None:
        try:
            self.engine.post(self._gone)
        except ApplicationDown:
            return  # the engine has stopped, and everybody knows

    def _gone(self) -> None:
        """What it sent before comes first: its connection ends behind that, unless a process of its own has it too."""
        if self._lost or not self.alive:
            self._over()
        else:
            self.engine.timers.at(self.engine.now() + LAST_WORDS, self._over)

    def _connection_lost(self) -> None:
        self._lost = True
        if self.interpreter is not None and self.alive and self.interpreter.exit_code is None:
            self.engine.timers.at(self.engine.now() + LAST_WORDS, self._over)
        else:
            self._over()

    def _over(self) -> None:
        """The process is gone, or cut off."""
        if self.interpreter is not None and self.alive:
            code = self.interpreter.exit_code
            self.die((PROCESS_DIED, "disconnected" if code is None else how(code)))

    # -- end ---------------------------------------------------------------------------------------

    def die(self, reason: Reason, *, silent: bool = False) -> None:
        """As in the base; the process is killed, unless its actor ended by itself: then it may leave."""
        if self.status == DEAD:
            return
        told, self._on_started = self._on_started, None
        super().die(reason, silent=silent or told is not None)
        self._portal.close(reason)
        if self.interpreter is not None:
            self._let_process_end(self.interpreter)
        if told is not None:
            told(StartFailed(reason))

    def _let_process_end(self, interpreter: Interpreter) -> None:
        if not self._left:
            interpreter.kill()
        elif not self.engine.stopping:
            # It ends by itself, also when this engine is gone; this is for one that cannot.
            self.engine.timers.at(self.engine.now() + LEAVE, interpreter.kill)
        if self._portal.connected:
            self._portal.break_off()
        else:
            interpreter.connection.close()


def portable_context(context: RestartContext | None) -> RestartContext | None:
    """A restart context that crosses: a reason in it may be a sibling's, which need not."""
    if context is None:
        return None
    return replace(context, reason=wire.portable_reason(context.reason), cause=wire.portable_reason(context.cause))
