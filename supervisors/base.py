"""What all supervisors share: starting one child, stopping one child, counting, reporting, names.

Which children move when one ends is the business of :mod:`.supervisor` (static) and :mod:`.pool`
(dynamic). A supervisor handles one message at a time, so while a child of it starts or stops it
serves nothing else (OTP SUP-78).
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from thespian.actors import Actor

from ..runtime.address import LocalAddress
from ..runtime.cell import Cell
from ..runtime.child_spec import BRUTAL_KILL, INFINITY, ChildSpec
from ..runtime.errors import DefinitionError
from ..runtime.gen_server import Exit, GenServer, Ignored, Started, StartFailed
from ..runtime.names import State, qualify
from ..runtime.reasons import KILL, SHUTDOWN, Crash, Reason
from ..runtime.restart_context import RestartContext
from ..runtime.succession import comes_back
from .children import Child
from .intensity import RestartWindow, nanoseconds
from .reports import REPORT_EVENT, START_EVENT, ChildFields, Report, ReportKind

_COUNT_ONE = {"count": 1}


@dataclass(frozen=True, slots=True)
class TryAgain:
    """To itself, behind whatever waits in the mailbox: try a failed restart again (OTP SUP-50)."""

    child: Hashable


class SupervisorBase(GenServer):
    """Base of the supervisors: traps exits, is never refused a message (OTP SUP-15)."""

    trap_exit = True
    eager = True
    rebuilds = True
    mailbox_limit = None
    wraps_start_errors: ClassVar[bool] = True
    """Whether a start function that raised fails with ``("EXIT", reason)`` (Erlang) or the bare reason (Elixir)."""

    _window: RestartWindow

    @property
    def label(self) -> str:
        """How reports and errors call this supervisor."""
        return self.name or f"{type(self).__name__}{self.myAddress!r}"

    # -- one child ---------------------------------------------------------------------------------

    def new_child(self, spec: ChildSpec) -> Child:
        """A record for a child that does not run yet."""
        return Child(spec, None if spec.name is None else qualify(self.namespace, spec.name))

    def arguments(self, spec: ChildSpec) -> tuple[Any, ...]:
        """The positional arguments with which a child starts."""
        return spec.args

    async def start(self, child: Child, failed: Child | None = None) -> Started | Ignored | StartFailed:
        """Run a child's start function; a failure is a value, whatever its kind (OTP SUP-07).

        Args:
            child: whom to start.
            failed: for whose end (or failed start) this is a restart; None if it is none.
        """
        context = self._restart_context(child, failed)
        outcome = await self._launch(child, context)
        if isinstance(outcome, StartFailed) and (orphan := _orphan(outcome.reason)) is not None:
            # A child of an incarnation of this supervisor that was killed; it is still cleaning up.
            await self.stop(orphan, child)
            outcome = await self._launch(child, context)
        if isinstance(outcome, Started):
            child.cancel_retry()
            child.since = self.clock.monotonic()
            self.progress(child, outcome.address)
        return outcome

    async def _launch(self, child: Child, context: RestartContext | None) -> Started | Ignored | StartFailed:
        spec = child.spec
        if not isinstance(spec.start, type):
            return await self._run_start_function(child, context)
        try:
            return await self.spawn_link(
                spec.start,
                *self.arguments(spec),
                name=spec.name,
                replaces=child.address,
                restart_context=context,
                placement=spec.placement,
                **spec.kwargs,
            )
        except DefinitionError as error:  # what the spec tells the engine makes no sense
            return StartFailed(Crash(error))

    async def _run_start_function(
        self, child: Child, context: RestartContext | None
    ) -> Started | Ignored | StartFailed:
        spec = child.spec
        begun: list[LocalAddress] = []

        async def start_link(cls: type[Actor], *args: Any, **kwargs: Any) -> Started | Ignored | StartFailed:
            kwargs.setdefault("name", spec.name)
            kwargs.setdefault("replaces", child.address)
            kwargs.setdefault("restart_context", context)
            kwargs.setdefault("placement", spec.placement)
            outcome = await self.spawn_link(cls, *args, **kwargs)
            if isinstance(outcome, Started):
                begun.append(outcome.address)
            return outcome

        try:
            result: Any = spec.start(start_link, *self.arguments(spec), **spec.kwargs)
            if inspect.isawaitable(result):
                result = await result
        except (Exception, SystemExit) as error:  # fault boundary: a start function is the user's code (OTP SUP-07)
            reason = error.reason if isinstance(error, Exit) else Crash(error)
            result = StartFailed(("EXIT", reason) if self.wraps_start_errors else reason)
        outcome = result if isinstance(result, (Started, Ignored, StartFailed)) else StartFailed(result)
        for address in begun:
            # What it started and then did not answer with would be nobody's child.
            if not isinstance(outcome, Started) or address != outcome.address:
                self.exit(address, KILL)
        return outcome

    async def stop(self, address: LocalAddress, child: Child, *, comes_back: bool = False) -> Reason:
        """Ask a child to stop by its shutdown rule, and wait until it is gone (OTP SUP-11, SUP-12, SUP-17).

        If it comes back, names below it are waited for as its own name is. Its exit signal comes too, and finds
        no such child: who stops one takes it out of the list first.
        """
        if address.cell is not None:
            address.cell.comes_back = comes_back
        shutdown = child.spec.shutdown
        gone, reason = False, None
        if shutdown != BRUTAL_KILL:
            self.exit(address, SHUTDOWN)
            gone, reason = await self.wait_down(address, None if shutdown == INFINITY else float(shutdown))
        if not gone:
            self.exit(address, KILL)
            _, reason = await self.wait_down(address, None)
        return reason

    # -- restarts ----------------------------------------------------------------------------------

    def note_end(self, child: Child) -> None:
        """A running child ended or was stopped: after a long enough run that begins a new series of restarts."""
        now = self.clock.monotonic()
        if not child.restarts or now - child.since > self._window.seconds:
            child.restarts, child.ended = 0, now

    def _restart_context(self, child: Child, failed: Child | None) -> RestartContext | None:
        last = None if child.address is None else child.address.cell
        if failed is None or last is None:
            child.restarts = 0
            return None
        child.restarts += 1
        return RestartContext(last.reason, child.restarts, child.ended, failed.id, failed.reason)

    def may_restart(self) -> bool:
        """Count a restart attempt; False if it is one too many (OTP SUP-40)."""
        return self._window.add(nanoseconds(self.clock.monotonic()))

    def delay_restart(self, child: Child) -> float | None:
        """The back-off delay of a child that just ended or failed to start, in seconds; None: without delay."""
        backoff = child.spec.backoff
        if backoff is None:
            return None
        if child.state == "running" and self.clock.monotonic() - child.since >= backoff.reset_after:
            child.failures = 0
        child.failures += 1
        return backoff.delay(child.failures, self.random)

    def try_again(self, child: Child, key: Hashable, delay: float | None) -> None:
        """Send the retry message to itself, after the delay if there is one."""
        child.cancel_retry()
        if delay is None:
            self.write_name(child, "restarting")
            self.send(self.myAddress, TryAgain(key))
        else:
            self.write_name(child, "backing_off")
            child.retry = self.start_timer(delay, TryAgain(key))

    # -- names and reports -------------------------------------------------------------------------

    def write_name(self, child: Child, state: State, reason: Reason = None) -> None:
        """Write a child's state into the name table, unless its name belongs to somebody else by now."""
        if state == "dead" and child.address is not None:
            self.give_up(child.address)
        if child.name is None:
            return
        names = self.system.names
        entry = names.get(child.name)
        if entry is None or entry.address is None:
            return
        if entry.address == child.address or not self.system.alive(entry.address):
            names.set_state(child.name, state, reason)

    def write_stopping(self, child: Child) -> None:
        """This supervisor is stopped, and a running child with it: who calls it waits if both come back."""
        self.write_name(child, "restarting" if self.child_comes_back(child) else "stopping")

    def write_stopped(self, child: Child) -> None:
        """A child was stopped with this supervisor."""
        if not self.child_comes_back(child):
            self.write_name(child, "dead", child.reason)

    def child_comes_back(self, child: Child) -> bool:
        """Whether this supervisor is stopped only to be started again, with this child."""
        return child.restart != "temporary" and comes_back(self._myRef)

    def drop_name(self, child: Child) -> None:
        """Forget a child's name, unless it belongs to somebody else by now."""
        entry = self.system.names.get(child.name) if child.name is not None else None
        if entry is not None and not self.system.alive(entry.address):
            self.system.names.drop(entry.name)

    def report(self, kind: ReportKind, child: Child, reason: Reason, *, count: int | None = None) -> None:
        """Make a supervisor report (OTP LOG-01 to LOG-04)."""
        report = Report(kind, self.label, self.myAddress, ChildFields.of(child, count), reason)
        self.system.telemetry.execute(REPORT_EVENT, _COUNT_ONE, report.metadata())

    def progress(self, child: Child, address: LocalAddress) -> None:
        """Tell that a child started (OTP LOG-05)."""
        metadata = {
            "kind": "progress",
            "supervisor": self.label,
            "address": self.myAddress,
            "child": child.id,
            "child_address": address,
            "name": child.name,
        }
        self.system.telemetry.execute(START_EVENT, _COUNT_ONE, metadata)


def _orphan(reason: Reason) -> LocalAddress | None:
    """The holder of a taken name, if the supervisor that started it has ended: it is about to end too."""
    match reason:
        case ("already_started", LocalAddress(cell=Cell(supervised=True, parent=Cell(alive=False)))):
            holder: LocalAddress = reason[1]
            return holder
        case _:
            return None
