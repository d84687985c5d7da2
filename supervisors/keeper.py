"""A keeper: what was declared is alive, or will be tried again.

A pool (``DynamicSupervisor``) restarts a child that crashes; a child that gave up (a supervisor that
tripped ends with ``shutdown``) it forgets, as OTP does. The keeper beside it knows the declared set:
it starts the set at its own start, and tries a dead member again after a delay that grows. Between
two tries the member's name is ``dead`` in the name table, with its reason, so calls fail typed.

The keeper holds nothing that is worth keeping: restarted, it reads the declared set again and finds
the members that run.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from thespian.actors import ActorAddress

from ..runtime.child_spec import ChildSpec, RestartDelay, StartChild, as_child_spec
from ..runtime.errors import AlreadyStarted, CallError, Error, SpecError, StartError, SupervisorError
from ..runtime.gen_server import Continue, Fail, GenServer, Ignored, Started, Target, call, info
from ..runtime.messages import Down
from ..runtime.names import Change, NameEntry, qualify
from ..runtime.reasons import Reason
from ..runtime.succession import keep, kept
from ..runtime.timers import Timer
from . import refusals
from .backoff import Backoff
from .messages import ChildInfo, TerminateChild, WhichChild

KeptState = Literal["running", "restarting", "waiting", "ignored"]
DeclaredSource: TypeAlias = (
    "Iterable[ChildSpec] | Callable[[Keeper], Iterable[ChildSpec] | Awaitable[Iterable[ChildSpec]]]"
)

_SETTLED: Final = ("running", "dead")
"""States of a name in which the pool no longer restarts it."""
LOOK_AGAIN: Final = 0.05
"""Seconds until the keeper looks again where pool and name table do not agree: one of them is about to change."""


@dataclass(frozen=True, slots=True)
class Declare:
    """Start a child and keep it. Answers ``Started(address, info)`` or ``Ignored()``.

    A member that waits for its next try is tried at once, by this spec.

    Raises at the caller:
        SpecError: the spec has no registered name, or is malformed.
        SupervisorError: ``already_present``: the name is declared already, and not waiting.
        Error: the first start failed; the child is not declared then.
    """

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class Undeclare:
    """Stop a declared child, by its registered name, and forget it. Answers None.

    Raises at the caller:
        SupervisorError: ``not_found``.
    """

    name: str


@dataclass(frozen=True, slots=True)
class DeclaredSet:
    """The declared set: a tuple of :class:`Kept`, in the order of declaration."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One member of the declared set.

    Attributes:
        name: its registered name.
        spec: its child spec.
        state: ``running``; ``restarting`` (by the pool); ``waiting`` for the next try; ``ignored``.
        failures: ends and failed starts in a row.
        next_try: seconds until the next try, or None if none is due.
        reason: why it ended last, or did not start.
    """

    name: str
    spec: ChildSpec
    state: KeptState
    failures: int
    next_try: float | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Try:
    """To itself: the time for another try has come."""

    name: str


@dataclass(frozen=True, slots=True)
class _Look:
    """To itself: the pool has restarted this member, or given it up."""

    name: str


class _Member:
    __slots__ = ("due", "failures", "monitor", "name", "reason", "since", "spec", "state", "timer")

    def __init__(self, spec: ChildSpec, name: str) -> None:
        self.spec = spec
        self.name = name
        self.state: KeptState = "waiting"
        self.failures = 0
        self.reason: Reason = None
        self.since = 0.0
        self.monitor: int | None = None
        self.timer: Timer | None = None
        self.due: float | None = None


class Keeper(GenServer):
    """Keeps a declared set of children alive in a pool. See the module's docstring."""

    def init(self, pool: Target, declared: DeclaredSource = (), *, backoff: RestartDelay | None = None) -> Continue:
        """Start the declared set, after the start.

        Args:
            pool: name or address of the ``DynamicSupervisor`` that runs the children.
            declared: child specs with registered names, or a function that is given this keeper and
                returns them, plain or async.
            backoff: the delay before a dead child is tried again.
        """
        self._pool = pool
        self._declared = declared
        self._backoff = backoff or Backoff(initial=0.5, maximum=30.0, reset_after=60.0)
        self._members: dict[str, _Member] = {}
        self._watched: dict[int, _Member] = {}
        self._unsubscribe: Callable[[], None] | None = None
        if isinstance(pool, str):
            keep(self.system.kept, qualify(self.namespace, pool))
        return Continue()

    async def handle_continue(self, value: Any) -> None:
        """Read the declared set and start what does not run."""
        declared: Any = self._declared(self) if callable(self._declared) else self._declared
        if inspect.isawaitable(declared):
            declared = await declared
        for given in declared:
            member = self._member(as_child_spec(given))
            self._members[member.name] = member
        for member in tuple(self._members.values()):
            await self._try(member)
        if isinstance(self._pool, str):
            kept(self.system.names, self.system.kept, qualify(self.namespace, self._pool))

    def _member(self, spec: ChildSpec) -> _Member:
        if spec.name is None:
            raise SpecError(f"a kept child needs a registered name; child {spec.id!r} has none", reason="missing_name")
        return _Member(spec, qualify(self.namespace, spec.name))

    # -- tries -------------------------------------------------------------------------------------

    async def _try(self, member: _Member) -> None:
        try:
            await self._start(member)
        except AlreadyStarted:
            await self._look(member)  # it outlived the keeper before this one
        except (StartError, SupervisorError, CallError) as error:
            self._failed(member, error.facts.get("reason", error.code))

    async def _start(self, member: _Member) -> Started | Ignored:
        """Start a member in the pool and watch it."""
        self._cancel(member)
        outcome: Started | Ignored = await self.call(self._pool, StartChild(member.spec), timeout=None)
        if isinstance(outcome, Ignored):
            member.state = "ignored"
        else:
            self._watch(member, outcome.address)
        return outcome

    def _watch(self, member: _Member, address: ActorAddress) -> None:
        member.state = "running"
        member.since = self.clock.monotonic()
        member.monitor = self.monitor(address)
        self._watched[member.monitor] = member

    def _failed(self, member: _Member, reason: Reason) -> None:
        """It is dead; try again later."""
        member.reason = reason
        if member.state == "running" and self.clock.monotonic() - member.since >= self._backoff.reset_after:
            member.failures = 0
        member.failures += 1
        member.state = "waiting"
        self._try_in(member, self._backoff.delay(member.failures, self.random))

    def _try_in(self, member: _Member, seconds: float) -> None:
        member.due = self.clock.monotonic() + seconds
        member.timer = self.start_timer(seconds, _Try(member.name))

    def _cancel(self, member: _Member) -> None:
        if member.timer is not None:
            member.timer.cancel()
        if member.monitor is not None:
            self.demonitor(member.monitor)
            self._watched.pop(member.monitor, None)
        member.timer = member.monitor = member.due = None

    @info
    async def time_for_a_try(self, message: _Try) -> None:
        """Another try."""
        member = self._members.get(message.name)
        if member is not None and member.timer is not None:
            member.timer = member.due = None
            await self._try(member)

    @info
    async def time_for_a_look(self, message: _Look) -> None:
        """Another look at what the pool restarted."""
        member = self._members.get(message.name)
        if member is not None and member.state == "restarting":
            await self._look(member)

    @info
    async def member_ended(self, down: Down) -> None:
        """A member ended; the pool may have restarted it."""
        member = self._watched.pop(down.ref, None)
        if member is not None:
            member.monitor = None
            member.reason = down.reason
            await self._look(member)

    async def _look(self, member: _Member) -> None:
        """Ask the pool what became of a member. When it answers it has handled the end: its mailbox is in order."""
        try:
            child: ChildInfo = await self.call(self._pool, WhichChild(member.name), timeout=None)
        except (SupervisorError, CallError):
            self._failed(member, member.reason)
            return
        if child.address is not None:
            self._watch(member, child.address)
        else:
            self._await_restart(member)

    def _await_restart(self, member: _Member) -> None:
        """The pool restarts a member: look again when the name table says that this is over."""
        member.state = "restarting"
        entry = self.system.names.get(member.name)
        if entry is None or entry.state in _SETTLED:
            self.start_timer(LOOK_AGAIN, _Look(member.name))
        elif self._unsubscribe is None:
            self._unsubscribe = self.own(self.system.names.subscribe(self._on_change))

    def _on_change(self, entry: NameEntry, change: Change) -> None:
        """On the engine's thread, while whoever changed the name runs."""
        member = self._members.get(entry.name)
        if member is not None and member.state == "restarting" and (change == "dropped" or entry.state in _SETTLED):
            self.send(self.myAddress, _Look(entry.name))
        if self._unsubscribe is not None and all(each.state != "restarting" for each in self._members.values()):
            self.disown(self._unsubscribe)
            self._unsubscribe()
            self._unsubscribe = None

    # -- calls -------------------------------------------------------------------------------------

    @call
    async def declare(self, message: Declare) -> Started | Ignored | Fail:
        """See :class:`Declare`."""
        try:
            member = self._member(as_child_spec(message.spec))
            known = self._members.get(member.name)
            if known is not None and known.state != "waiting":
                return Fail(refusals.already_present(self.name or "keeper", member.name))
            outcome = await self._start(member)
        except Error as error:
            return Fail(error)
        if known is not None:
            self._cancel(known)
        self._members[member.name] = member
        return outcome

    @call
    async def undeclare(self, message: Undeclare) -> Fail | None:
        """See :class:`Undeclare`."""
        name = qualify(self.namespace, message.name)
        member = self._members.pop(name, None)
        if member is None:
            return Fail(refusals.not_found(self.name or "keeper", message.name))
        self._cancel(member)
        # The pool knows it only if it runs: not between two tries, and not if the pool itself is down.
        with contextlib.suppress(SupervisorError, CallError):
            await self.call(self._pool, TerminateChild(name), timeout=None)
        if not self.system.alive(name):
            self.system.names.drop(name)
        return None

    @call
    def declared_set(self, message: DeclaredSet) -> tuple[Kept, ...]:
        """See :class:`DeclaredSet`."""
        now = self.clock.monotonic()
        return tuple(
            Kept(
                name=member.name,
                spec=member.spec,
                state=member.state,
                failures=member.failures,
                next_try=None if member.due is None or member.state != "waiting" else max(0.0, member.due - now),
                reason=member.reason,
            )
            for member in self._members.values()
        )
