"""A supervisor's bookkeeping of its children: records, and a list in start order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from thespian.actors import ActorAddress

from ..runtime.address import LocalAddress
from ..runtime.child_spec import ChildSpec, Restart
from ..runtime.reasons import Reason
from ..runtime.timers import Timer
from .messages import ChildCounts, ChildInfo
from .strategy import ChildState


class Child:
    """One child: its spec, and how it is now.

    Attributes:
        spec: how to start, restart and stop it.
        name: its registered name with its namespace, or None.
        state: ``running``, ``restarting`` or ``undefined`` (spec kept, no process).
        address: its process; when it does not run, its last one.
        reason: why it ended last.
        since: when it started, seconds on the monotonic clock.
        failures: ends in a row that a back-off counts.
        restarts: restarts of the present series (see ``RestartContext``).
        ended: when that series began, seconds on the monotonic clock.
        retry: the timer of a delayed restart, or None.
    """

    __slots__ = (
        "address",
        "ended",
        "failures",
        "id",
        "name",
        "reason",
        "restart",
        "restarts",
        "retry",
        "significant",
        "since",
        "spec",
        "state",
    )

    def __init__(self, spec: ChildSpec, name: str | None = None) -> None:
        self.spec = spec
        self.id: Hashable = spec.id
        self.restart: Restart = spec.restart
        self.significant = spec.significant
        self.name = name
        self.state: ChildState = "undefined"
        self.address: LocalAddress | None = None
        self.reason: Reason = None
        self.since = 0.0
        self.failures = 0
        self.restarts = 0
        self.ended = 0.0
        self.retry: Timer | None = None

    def __repr__(self) -> str:
        return f"<child {self.id!r} {self.state} {self.address!r}>"

    def info(self, *, with_id: bool = True) -> ChildInfo:
        """Its row in a listing (OTP SUP-74); without an id where ids mean nothing (OTP SIM-04)."""
        address = self.address if self.state == "running" else None
        id = self.id if with_id else None
        return ChildInfo(id, self.state, address, self.spec.type, start_name(self.spec), self.name)

    def cancel_retry(self) -> None:
        """A delayed restart is no longer wanted."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None


class ChildList:
    """The children of a static supervisor, in start order; found by id and by address without search."""

    __slots__ = ("_by_address", "_by_id")

    def __init__(self, children: Iterable[Child] = ()) -> None:
        self._by_id: dict[Hashable, Child] = {child.id: child for child in children}
        self._by_address: dict[ActorAddress, Child] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Child]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Child]:
        return reversed(self._by_id.values())

    def __getitem__(self, id: Hashable) -> Child:
        return self._by_id[id]

    def get(self, id: Hashable) -> Child | None:
        """The child with this id; an unhashable one is nobody's."""
        try:
            return self._by_id.get(id)
        except TypeError:
            return None

    def at(self, address: ActorAddress) -> Child | None:
        """The running child with this address."""
        return self._by_address.get(address)

    def add(self, child: Child) -> None:
        """Append a child (OTP SUP-38)."""
        self._by_id[child.id] = child

    def remove(self, child: Child) -> None:
        """Forget a child."""
        self._by_id.pop(child.id, None)
        self.ended(child, "undefined")

    def started(self, child: Child, address: LocalAddress) -> None:
        """It runs as ``address``."""
        child.state, child.address = "running", address
        self._by_address[address] = child

    def ended(self, child: Child, state: ChildState) -> None:
        """It has no process now."""
        if child.address is not None:
            self._by_address.pop(child.address, None)
        child.state = state


def count(children: Iterable[Child], specs: int) -> ChildCounts:
    """Count children (OTP SUP-75)."""
    active = supervisors = workers = 0
    for child in children:
        active += child.state == "running"
        if child.spec.type == "supervisor":
            supervisors += 1
        else:
            workers += 1
    return ChildCounts(specs, active, supervisors, workers)


def start_name(spec: ChildSpec) -> str:
    """What a spec starts, as text: the qualified name of its class or start function."""
    return getattr(spec.start, "__qualname__", None) or type(spec.start).__qualname__
