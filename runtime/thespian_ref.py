"""What ``thespian.actors.Actor`` expects of its ``_myRef``: Thespian's actor API, on a cell."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from thespian.actors import Actor, ActorAddress, WakeupMessage
from thespian.system.messages.status import Thespian_ActorStatus
from thespian.system.timing import ExpirationTimer

from .errors import UsageError

if TYPE_CHECKING:
    from .address import LocalAddress
    from .engine import Engine


class ThespianRef:
    """Mixin of :class:`~.cell.Cell`; the names are Thespian's."""

    __slots__ = ()

    engine: Engine
    address: LocalAddress
    global_name: str | None

    @property
    def globalName(self) -> str | None:  # noqa: N802 - Thespian's name
        """The global name, if any."""
        return self.global_name

    def createActor(  # noqa: N802 - Thespian's name
        self,
        actorClass: type[Actor] | str,  # noqa: N803 - Thespian's name
        requirements: Any,
        globalName: str | None,  # noqa: N803 - Thespian's name
        sourceHash: str | None,  # noqa: N803 - Thespian's name
    ) -> ActorAddress:
        """Create a child."""
        return self.engine.on_engine(self.engine.create_actor, self, actorClass, requirements, globalName)

    def actor_send(self, target: ActorAddress, message: Any) -> None:
        """Send a message; from any thread, as an actor may have started threads of its own."""
        cell: Any = self
        if self.engine.outside.on_thread():
            self.engine.router.send(target, message, cell, cell.context)
        else:
            self.engine.post(self.engine.router.send, target, message, cell, cell.context)

    def wakeupAfter(self, period: timedelta | float, payload: Any) -> None:  # noqa: N802 - Thespian's name
        """Have a ``WakeupMessage`` arrive later."""
        seconds = period.total_seconds() if isinstance(period, timedelta) else float(period)
        wakeup = WakeupMessage(period, payload)
        self.engine.on_engine(self.engine.start_wakeup, self, seconds, wakeup)

    def handleDeadLetters(self, address: ActorAddress, enable: bool) -> None:  # noqa: N802 - Thespian's name
        """Register for dead letters, or stop."""
        self.engine.on_engine(self.engine.dead_letters.handle, self, enable)

    def updateCapability(self, name: str, value: Any) -> None:  # noqa: N802 - Thespian's name
        """Change a capability of the system."""
        self.engine.on_engine(self.engine.update_capability, name, value)

    def notifyOnSystemRegistrationChanges(self, address: ActorAddress, enable: bool) -> None:  # noqa: N802
        """Nothing to tell: one process has no convention."""

    def actorSystemShutdown(self) -> None:  # noqa: N802 - Thespian's name
        """Stop the whole engine."""
        self.engine.request_stop()

    def registerSourceAuthority(self, address: ActorAddress) -> None:  # noqa: N802 - Thespian's name
        """Not offered: code comes from the installed packages."""
        raise _no_sources()

    def notifyOnSourceAvailability(self, address: ActorAddress, enable: bool) -> None:  # noqa: N802
        """Not offered: code comes from the installed packages."""
        raise _no_sources()

    def loadActorSource(self, fname: Any) -> str:  # noqa: N802 - Thespian's name
        """Not offered: code comes from the installed packages."""
        raise _no_sources()

    def unloadActorSource(self, sourceHash: str) -> None:  # noqa: N802, N803 - Thespian's names
        """Not offered: code comes from the installed packages."""
        raise _no_sources()

    def thespian_status(self) -> Thespian_ActorStatus:
        """What Thespian's status request answers."""
        cell: Any = self
        system = self.engine.system_address
        parent = cell.parent.address if cell.parent is not None else system
        status = Thespian_ActorStatus(self.address, cell.actor_class.__name__, system, parent)
        for child in cell.children or ():
            status.addChild(child)
        now = self.engine.now()
        wakeups = [timer.when - now for timer in self.engine.timers.pending() if timer.owner is self]
        status.addWakeups([(self.address, ExpirationTimer(max(0.0, seconds))) for seconds in wakeups])
        return status

    def preRegisterRemoteSystem(self, address: Any, capabilities: Any) -> None:  # noqa: N802
        """Not offered in one process."""
        raise _no_convention()

    def deRegisterRemoteSystem(self, address: Any) -> None:  # noqa: N802 - Thespian's name
        """Not offered in one process."""
        raise _no_convention()


def _no_sources() -> UsageError:
    return UsageError("loading actor sources is not offered by the in-process engine; install the package instead")


def _no_convention() -> UsageError:
    return UsageError("the in-process engine joins no convention of several systems")
