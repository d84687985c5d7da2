"""Thespian's front door: ``ActorSystem(systemBase=LocalSystemBase(...), transientUnique=True)``.

``tell``, ``ask``, ``listen``, ``createActor`` and ``private()`` work as Thespian documents them, from
any thread. The actors run on the engine's thread all the time, not only while somebody asks.
"""

from __future__ import annotations

import queue
import sys
import time
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Final

from thespian.actors import Actor, ActorAddress, ThespianGeneration
from thespian.system import isInternalActorSystemMessage

from .address import know_outsider
from .cell import Cell
from .context import Context
from .engine import Engine
from .outcomes import Started, StartResult
from .spawning import start_error

CLOSED: Final = object()
"""Wakes whoever listens when the engine has stopped."""


class ExternalCell(Cell):
    """What stands for a requester outside: messages sent to it wait for its ``listen``."""

    __slots__ = ("inbox",)

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, engine.next_number(), Actor(), None)
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        know_outsider(self)

    def put_info(
        self, message: Any, sender: ActorAddress | None, context: Context | None, *, force: bool = False
    ) -> None:
        """Keep the message for ``listen``."""
        self.inbox.put(message)
        self.engine.hand_over()

    def put_notice(self, message: Any, sender: ActorAddress | None = None, context: Context | None = None) -> None:
        """The same."""
        self.put_info(message, sender, context)


class ExternalEndpoint:
    """One requester outside: the system's own one, or a ``private()`` context of a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cell = cell = ExternalCell(engine)
        engine.outside.at_close(cell.address.number, lambda: cell.inbox.put(CLOSED))

    def tell(self, address: ActorAddress, message: Any) -> None:
        """Send and do not wait."""
        self._engine.post(self._engine.router.send, address, message, self._cell, None)

    def ask(self, address: ActorAddress, message: Any, timeout: timedelta | float | None) -> Any:
        """Send, and wait for a message from any actor."""
        self._engine.outside.refuse_here("ask", "use tell, or await a call")
        self.tell(address, message)
        return self.listen(timeout)

    def listen(self, timeout: timedelta | float | None) -> Any:
        """Wait for a message from any actor; None if none came in time.

        Raises:
            WrongThread: this is the engine's own thread.
            ApplicationDown: the engine has stopped.
        """
        self._engine.outside.refuse_here("listen", "make an actor receive the message instead")
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                message = self._cell.inbox.get(timeout=remaining)
            except queue.Empty:
                return None
            if message is CLOSED:
                self._cell.inbox.put(CLOSED)
                raise self._engine.router.down()
            if not isInternalActorSystemMessage(message):
                return message

    def newPrimaryActor(  # noqa: N802 - Thespian's name
        self,
        actorClass: type[Actor] | str,  # noqa: N803 - Thespian's name
        requirements: Any,
        globalName: str | None,  # noqa: N803 - Thespian's name
        sourceHash: str | None = None,  # noqa: N803 - Thespian's name
    ) -> ActorAddress:
        """Create a top-level actor and wait until it has started; a failure is raised here.

        Raises:
            StartError: its ``init`` failed, or would not start.
            ActorSystemException: Thespian's errors: no such class, no fitting capabilities.
        """
        self._engine.outside.refuse_here("createActor", "create it as a child of an actor")
        started: Future[StartResult] = Future()
        address: ActorAddress = self._engine.on_engine(
            self._engine.create_actor, None, actorClass, requirements, globalName, started.set_result
        )
        result = started.result()
        if not isinstance(result, Started):
            raise start_error(actorClass, result)
        return address

    def exit_context(self) -> None:
        """The private context ends; what is sent to it from now on is a dead letter."""
        self._engine.outside.at_close(self._cell.address.number, None)
        self._cell.address.cell = None


class LocalSystemBase(ExternalEndpoint):
    """The in-process system base, to be given to Thespian's ``ActorSystem``.

    Args:
        capabilities: the system's capabilities; ``ActorSystem`` gives them to no system base object.
        **options: as of :class:`~.engine.Engine`.

    Attributes:
        engine: the engine, for everything Thespian has no name for.
    """

    def __init__(self, capabilities: dict[str, Any] | None = None, **options: Any) -> None:
        self.capabilities: dict[str, Any] = {} if capabilities is None else capabilities
        self.capabilities.update(
            {
                "Python Version": tuple(sys.version_info),
                "Thespian Generation": ThespianGeneration,
                "Thespian Version": str(int(time.time() * 1000)),
                "Thespian ActorSystem Name": "dspex",
                "Thespian ActorSystem Version": 1,
                "Thespian Watch Supported": sys.platform != "win32",
                "AllowRemoteActorSources": "No",
            }
        )
        self.engine = Engine(capabilities=self.capabilities, **options)
        super().__init__(self.engine)

    def external_clone(self) -> ExternalEndpoint:
        """Thespian's ``private()``: an endpoint for one more thread."""
        self.engine.outside.check_process()
        return ExternalEndpoint(self.engine)

    def updateCapability(self, name: str, value: Any) -> None:  # noqa: N802 - Thespian's name
        """Change a capability; actors that can no longer run here are asked to exit."""
        self.engine.on_engine(self.engine.update_capability, name, value)

    def loadActorSource(self, fname: Any) -> str:  # noqa: N802 - Thespian's name
        """Not offered.

        Raises:
            UsageError: always.
        """
        return self._cell.loadActorSource(fname)

    def unloadActorSource(self, sourceHash: str) -> None:  # noqa: N802, N803 - Thespian's names
        """Not offered.

        Raises:
            UsageError: always.
        """
        self._cell.unloadActorSource(sourceHash)

    def shutdown(self) -> None:
        """Stop every actor and the engine."""
        self.engine.stop()


__all__ = ("CLOSED", "ExternalCell", "ExternalEndpoint", "LocalSystemBase")
