"""What the two supervisors of children that come and go share (OTP 1.9, 1.10).

Children are found by address; each is on its own (one_for_one); a child that is not restarted is
forgotten. Every operation on one child costs the same however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..runtime.address import LocalAddress
from ..runtime.child_spec import BRUTAL_KILL, INFINITY
from ..runtime.gen_server import Fail, Ignored, Started, StartFailed, Stop, call, info
from ..runtime.messages import ExitSignal
from ..runtime.names import qualify
from ..runtime.reasons import KILL, SHUTDOWN, Reason
from . import refusals
from .base import SupervisorBase, TryAgain
from .children import Child, count
from .messages import ChildCounts, ChildInfo, CountChildren, TerminateChild, WhichChild, WhichChildren
from .reports import TRIPPED
from .strategy import (
    earlier_end_is_expected,
    end_is_reported,
    parallel_stop_is_expected,
    stop_is_expected,
    verdict,
)

Ends = list[tuple[Child, Reason]]


class PoolSupervisor(SupervisorBase):
    """Base of ``DynamicSupervisor`` and ``SimpleSupervisor``."""

    _by_address: dict[LocalAddress, Child]
    """Running children by address, restarting ones by their last address."""
    _by_name: dict[str, LocalAddress]

    # -- children ----------------------------------------------------------------------------------

    async def add(self, child: Child) -> Started | Ignored | StartFailed:
        """Start a child and keep it, if it runs."""
        outcome = await self.start(child)
        if isinstance(outcome, Started):
            self._keep(child, outcome.address)
        elif isinstance(outcome, Ignored):
            self.write_name(child, "dead")
        return outcome

    def _keep(self, child: Child, address: LocalAddress) -> None:
        child.state, child.address = "running", address
        self._by_address[address] = child
        if child.name is not None:
            self._by_name[child.name] = address

    def _forget(self, child: Child) -> None:
        if child.address is not None:
            self._by_address.pop(child.address, None)
        if child.name is not None and self._by_name.get(child.name) == child.address:
            del self._by_name[child.name]

    def find(self, child: object) -> Child | None:
        """A child by its address or registered name."""
        key = self._by_name.get(qualify(self.namespace, child)) if isinstance(child, str) else child
        return self._by_address.get(key) if isinstance(key, LocalAddress) else None

    # -- ends and restarts -------------------------------------------------------------------------

    @info
    async def child_ended(self, signal: ExitSignal) -> Stop | None:
        """A child ended by itself. Signals of strangers are ignored (OTP SUP-15)."""
        child = self.find(signal.sender)
        if child is None or child.state != "running":
            return None
        reason = child.reason = signal.reason
        self.note_end(child)
        if end_is_reported(child.restart, reason):
            self.report("child_terminated", child, reason)
        if verdict(child.restart, reason) != "restart":
            # Not restarted is forgotten (OTP SIM-04, DYN-03).
            self._forget(child)
            self.write_name(child, "dead", reason)
            return None
        delay = self.delay_restart(child)
        if delay is None:
            return await self._restart(child)
        child.state = "restarting"
        self.try_again(child, child.address, delay)
        return None

    @info
    async def retry(self, again: TryAgain) -> Stop | None:
        """Try a failed restart again, unless it was cancelled meanwhile (OTP SUP-50, DYN-07)."""
        child = self.find(again.child)
        return None if child is None or child.state != "restarting" else await self._restart(child)

    async def _restart(self, child: Child) -> Stop | None:
        if not self.may_restart():
            self.report("shutdown", child, TRIPPED)
            self._forget(child)
            self.write_name(child, "dead", child.reason)
            return Stop(SHUTDOWN)
        outcome = await self.start(child, child)
        if isinstance(outcome, Started):
            self._forget(child)
            self._keep(child, outcome.address)
        elif isinstance(outcome, Ignored):
            self._forget(child)  # OTP SIM-07, DYN-07
            self.write_name(child, "dead")
        else:
            child.reason = outcome.reason
            self.report("start_error", child, outcome.reason)
            delay = self.delay_restart(child)
            child.state = "restarting"
            self.try_again(child, child.address, delay)
        return None

    # -- stop --------------------------------------------------------------------------------------

    async def terminate(self, reason: Reason) -> None:
        """Ask all children at once; each has its own timeout; they end in any order (OTP SIM-06, DYN-09)."""
        children = tuple(self._by_address.values())
        for child in children:
            child.cancel_retry()
            self.write_stopping(child)
        unexpected = await self._stop_together([child for child in children if child.state == "running"])
        for child in children:
            self.write_stopped(child)
        self.report_ends(unexpected)

    def report_ends(self, ends: Ends) -> None:
        """Report the children that did not end as asked, one by one."""
        for child, reason in ends:
            self.report("shutdown_error", child, reason)

    async def _stop_together(self, children: Iterable[Child]) -> Ends:
        """Stop all; those that ended otherwise than asked, with their reasons, oldest first."""
        ends: dict[Child, Reason] = {}
        asked: list[tuple[float, Child]] = []
        now = self.clock.monotonic()
        for child in children:
            address, shutdown = child.address, child.spec.shutdown
            assert address is not None, "a running child has an address"
            if not self.system.alive(address):
                _, reason = await self.wait_down(address, None)
                if not earlier_end_is_expected(child.restart, reason):
                    ends[child] = reason
                continue
            if address.cell is not None:
                address.cell.comes_back = self.child_comes_back(child)
            self.exit(address, KILL if shutdown == BRUTAL_KILL else SHUTDOWN)
            patience = 0.0 if shutdown == BRUTAL_KILL else float("inf") if shutdown == INFINITY else float(shutdown)
            asked.append((now + patience, child))
        # Waiting for them one by one in the order of their deadlines kills each in time.
        for deadline, child in sorted(asked, key=lambda each: each[0]):
            reason = child.reason = await self._gone_by(deadline, child)
            if not parallel_stop_is_expected(child.restart, child.spec.shutdown, reason):
                ends[child] = reason
        return [(child, ends[child]) for child in self._by_address.values() if child in ends]

    async def _gone_by(self, deadline: float, child: Child) -> Reason:
        address = child.address
        assert address is not None, "a running child has an address"
        left = None if deadline == float("inf") else max(0.0, deadline - self.clock.monotonic())
        gone, reason = await self.wait_down(address, left)
        if not gone:
            self.exit(address, KILL)
            _, reason = await self.wait_down(address, None)
        return reason

    # -- management calls --------------------------------------------------------------------------

    @call
    async def terminate_child(self, message: TerminateChild) -> Fail | None:
        """See :class:`.messages.TerminateChild`."""
        child = self.find(message.child)
        if child is None:
            return self.refuse_unknown(message.child)
        child.cancel_retry()
        address = child.address
        self._forget(child)
        if child.state == "running" and address is not None:
            self.write_name(child, "stopping")
            reason = await self.stop(address, child)
            if not stop_is_expected(child.restart, child.spec.shutdown, reason):
                self.report("shutdown_error", child, reason)
        self.write_name(child, "dead")
        return None

    def refuse_unknown(self, child: object) -> Fail | None:
        """The answer to terminate_child for what is no child of this supervisor."""
        return Fail(refusals.not_found(self.label, child))

    @call
    def which_children(self, message: WhichChildren) -> tuple[ChildInfo, ...]:
        """See :class:`.messages.WhichChildren`."""
        return tuple(child.info(with_id=False) for child in reversed(self._by_address.values()))

    @call
    def which_child(self, message: WhichChild) -> ChildInfo | Fail:
        """See :class:`.messages.WhichChild`."""
        child = self.find(message.child)
        return Fail(refusals.not_found(self.label, message.child)) if child is None else child.info(with_id=False)

    @call
    def count_children(self, message: CountChildren) -> ChildCounts:
        """See :class:`.messages.CountChildren`."""
        return count(self._by_address.values(), self.specs())

    def specs(self) -> int:
        """How many specs it holds."""
        return len(self._by_address)
