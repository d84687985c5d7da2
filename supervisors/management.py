"""A static supervisor's child list: how records change, and the management calls (OTP 1.8)."""

from __future__ import annotations

from collections.abc import Hashable

from ..runtime.child_spec import ChildSpec, StartChild, as_child_spec, check_significance
from ..runtime.errors import SpecError, SupervisorError
from ..runtime.gen_server import Fail, Ignored, Started, StartFailed, call
from . import refusals
from .base import SupervisorBase
from .children import Child, ChildList, count
from .flags import Flags
from .messages import (
    ChildCounts,
    ChildInfo,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from .strategy import stop_is_expected


class ManagedChildren(SupervisorBase):
    """Base of ``Supervisor``: its children in start order, and the calls that people make about them."""

    _flags: Flags
    _children: ChildList

    # -- one child's record ------------------------------------------------------------------------

    def note_started(self, child: Child, outcome: Started | Ignored) -> None:
        """Book a successful start: ``ignore`` is one too, without a process (OTP SUP-05, SUP-54)."""
        if isinstance(outcome, Started):
            self._children.started(child, outcome.address)
        else:
            self.note_down(child)

    def note_down(self, child: Child) -> None:
        """It is not running and will not be restarted; a temporary child is forgotten (OTP SUP-22, SUP-23)."""
        if child.restart == "temporary":
            self._children.remove(child)
        else:
            self._children.ended(child, "undefined")
        self.write_name(child, "dead", child.reason)

    async def stop_child(self, child: Child, *, comes_back: bool = False) -> None:
        """Stop a child if it runs, cancel its retry if there is one; its record stays, as not running."""
        child.cancel_retry()
        address, was = child.address, child.state
        self._children.ended(child, "undefined")
        if was != "running" or address is None:
            return
        reason = child.reason = await self.stop(address, child, comes_back=comes_back)
        self.note_end(child)
        if not stop_is_expected(child.restart, child.spec.shutdown, reason):
            self.report("shutdown_error", child, reason)

    # -- management calls --------------------------------------------------------------------------

    @call
    async def start_child(self, message: StartChild) -> Started | Ignored | Fail:
        """See :class:`.messages.StartChild`."""
        try:
            spec = as_child_spec(message.spec)
            check_significance(spec, self._flags.auto_shutdown)
        except SpecError as error:
            return Fail(error)
        known = self._children.get(spec.id)
        if known is not None and known.state == "running":
            return Fail(refusals.already_started(self.label, spec.id, known.address))
        if known is not None:
            return Fail(refusals.already_present(self.label, spec.id))
        child = self.new_child(spec)
        outcome = await self.start(child)
        if isinstance(outcome, StartFailed):
            self.write_name(child, "dead", outcome.reason)
            return Fail(refusals.start_failed(self.label, spec, outcome.reason, wrap=True))
        self._children.add(child)
        self.note_started(child, outcome)
        return outcome

    @call
    async def terminate_child(self, message: TerminateChild) -> Fail | None:
        """See :class:`.messages.TerminateChild`."""
        child = self._children.get(message.child)
        if child is None:
            return Fail(self._not_found(message.child))
        if child.state == "running":
            self.write_name(child, "stopping")
        await self.stop_child(child)
        self.note_down(child)
        return None

    @call
    async def restart_child(self, message: RestartChild) -> Started | Ignored | Fail:
        """See :class:`.messages.RestartChild`."""
        child = self._find_down(message.id)
        if isinstance(child, Fail):
            return child
        outcome = await self.start(child)
        if isinstance(outcome, StartFailed):
            self.write_name(child, "dead", outcome.reason)
            return Fail(refusals.start_failed(self.label, child.spec, outcome.reason))
        self.note_started(child, outcome)
        return outcome

    @call
    def delete_child(self, message: DeleteChild) -> Fail | None:
        """See :class:`.messages.DeleteChild`."""
        child = self._find_down(message.id)
        if isinstance(child, Fail):
            return child
        self._children.remove(child)
        self.drop_name(child)
        return None

    def _not_found(self, child: object) -> SupervisorError:
        return refusals.not_found(self.label, child, [each.spec for each in self._children])

    def _find_down(self, id: Hashable) -> Child | Fail:
        """The child with this id, if it is not running; else the refusal of restart_child and delete_child."""
        child = self._children.get(id)
        if child is None:
            return Fail(self._not_found(id))
        if child.state == "running":
            return Fail(refusals.is_running(self.label, id))
        return Fail(refusals.is_restarting(self.label, id)) if child.state == "restarting" else child

    @call
    def which_children(self, message: WhichChildren) -> tuple[ChildInfo, ...]:
        """See :class:`.messages.WhichChildren`."""
        return tuple(child.info() for child in reversed(self._children))

    @call
    def which_child(self, message: WhichChild) -> ChildInfo | Fail:
        """See :class:`.messages.WhichChild`."""
        child = self._children.get(message.child)
        return Fail(self._not_found(message.child)) if child is None else child.info()

    @call
    def count_children(self, message: CountChildren) -> ChildCounts:
        """See :class:`.messages.CountChildren`."""
        return count(self._children, len(self._children))

    @call
    def get_child_spec(self, message: GetChildSpec) -> ChildSpec | Fail:
        """See :class:`.messages.GetChildSpec`."""
        child = self._children.get(message.child)
        return Fail(self._not_found(message.child)) if child is None else child.spec
