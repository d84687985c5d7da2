"""The static supervisor: one_for_one, one_for_all, rest_for_one (OTP 1.1 to 1.8).

The supervisor is linked to each child and traps exits; a child's end reaches it as a message, in
arrival order with everything else. What to do about it is decided by pure functions (:mod:`.strategy`);
this module carries it out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Never

from ..runtime.child_spec import AutoShutdown, ChildSpec, check_options
from ..runtime.errors import SpecError
from ..runtime.gen_server import StartFailed, Stop, info
from ..runtime.messages import ExitSignal
from ..runtime.reasons import SHUTDOWN, Reason
from .base import TryAgain
from .children import Child, ChildList
from .flags import Flags, Strategy, window_of
from .management import ManagedChildren
from .reports import TRIPPED
from .specs import AnySpec, Seconds, check_specs, static_flags, supervisor_child
from .strategy import Plan, end_is_reported, plan_restart, shuts_down, verdict

OPTIONS = ("children", "strategy", "max_restarts", "max_seconds", "auto_shutdown")


class Supervisor(ManagedChildren):
    """Starts its children in order, restarts them by its strategy, stops them in reverse order.

    Use it as it is, with ``init``'s arguments, or subclass it and set the class attributes; an
    argument wins over the attribute. For children that come and go use ``DynamicSupervisor``; for
    many of one kind ``SimpleSupervisor``.

    ::

        class House(Supervisor):
            strategy = "rest_for_one"
            children = (ChildSpec("store", Store), ChildSpec("web", Web, restart="transient"))

    Management calls and their answers are in :mod:`.messages`. A child with ``backoff`` counts as
    restarting while it waits; its siblings stay up meanwhile, and OTP's rules apply when it is tried.
    """

    children: ClassVar[Sequence[AnySpec]] = ()
    strategy: ClassVar[Strategy] = "one_for_one"
    max_restarts: ClassVar[int] = 3
    max_seconds: ClassVar[Seconds] = 5.0
    auto_shutdown: ClassVar[AutoShutdown] = "never"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the class attributes where they are written, not when a start fails. Raises SpecError."""
        super().__init_subclass__(**kwargs)
        cls._flags_of(None, None, None, None)

    async def init(
        self,
        children: Iterable[AnySpec] | None = None,
        *,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: Seconds | None = None,
        auto_shutdown: AutoShutdown | None = None,
        **unknown: Never,
    ) -> Stop | None:
        """Check everything, then start the children in order (OTP SUP-02 to SUP-05).

        Args:
            children: specs in start order.
            strategy: ``one_for_one``, ``one_for_all`` or ``rest_for_one``.
            max_restarts: restarts allowed within ``max_seconds``; the next one ends the supervisor.
            max_seconds: the window, in seconds.
            auto_shutdown: ``never``, ``any_significant`` or ``all_significant``.
            **unknown: refused, with the nearest known option.

        Returns:
            None, or a failed start: ``("supervisor_data", E)``, ``("start_spec", E)``, or
            ``("shutdown", ("failed_to_start_child", id, reason))`` after those that had started
            were stopped.
        """
        check_options(self.label, unknown, OPTIONS)
        try:
            self._flags = self._flags_of(strategy, max_restarts, max_seconds, auto_shutdown)
            specs = check_specs(self.children if children is None else children, self._flags.auto_shutdown)
        except SpecError as error:
            return Stop(error.reason)
        self._window = window_of(self._flags)
        self._children = ChildList(self.new_child(spec) for spec in specs)
        return await self._boot()

    @classmethod
    def _flags_of(
        cls,
        strategy: Strategy | None,
        max_restarts: int | None,
        max_seconds: Seconds | None,
        auto_shutdown: AutoShutdown | None,
    ) -> Flags:
        return static_flags(
            cls.strategy if strategy is None else strategy,
            cls.max_restarts if max_restarts is None else max_restarts,
            cls.max_seconds if max_seconds is None else max_seconds,
            cls.auto_shutdown if auto_shutdown is None else auto_shutdown,
        )

    @classmethod
    def child_spec(
        cls,
        id: Hashable = None,
        children: Iterable[AnySpec] | None = None,
        *,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: Seconds | None = None,
        auto_shutdown: AutoShutdown | None = None,
        **options: Any,
    ) -> ChildSpec:
        """This supervisor as a child of another one, checked now.

        Args:
            id: its id there; the class's name if not given.
            children: as for :meth:`init`.
            strategy: as for :meth:`init`.
            max_restarts: as for :meth:`init`.
            max_seconds: as for :meth:`init`.
            auto_shutdown: as for :meth:`init`.
            **options: any other field of a child spec: ``restart``, ``shutdown``, ``significant``, ``name``...

        Raises:
            SpecError: a flag, a child or an option is malformed.
        """
        flags = cls._flags_of(strategy, max_restarts, max_seconds, auto_shutdown)
        given = {
            "children": check_specs(cls.children if children is None else children, flags.auto_shutdown),
            "strategy": flags.strategy,
            "max_restarts": flags.max_restarts,
            "max_seconds": flags.max_seconds,
            "auto_shutdown": flags.auto_shutdown,
        }
        return supervisor_child(id, cls, given, options)

    # -- start and stop ----------------------------------------------------------------------------

    async def _boot(self) -> Stop | None:
        for child in tuple(self._children):
            outcome = await self.start(child)
            if isinstance(outcome, StartFailed):
                child.reason = outcome.reason
                self.report("start_error", child, outcome.reason)
                await self._stop_all()
                return Stop((SHUTDOWN, ("failed_to_start_child", child.id, outcome.reason)))
            self.note_started(child, outcome)
        return None

    async def terminate(self, reason: Reason) -> None:
        """Stop the children in reverse start order, one after another (OTP SUP-10, SUP-13)."""
        for child in self._children:
            if child.state == "running":
                self.write_stopping(child)
        await self._stop_all()

    async def _stop_all(self) -> None:
        for child in reversed(tuple(self._children)):
            await self.stop_child(child, comes_back=self.child_comes_back(child))
            self.write_stopped(child)

    # -- ends and restarts -------------------------------------------------------------------------

    @info
    async def child_ended(self, signal: ExitSignal) -> Stop | None:
        """A child ended by itself. Signals of strangers are ignored (OTP SUP-15)."""
        child = self._children.at(signal.sender)
        if child is None:
            return None
        reason = child.reason = signal.reason
        self.note_end(child)
        if end_is_reported(child.restart, reason):
            self.report("child_terminated", child, reason)
        if verdict(child.restart, reason) != "restart":
            self.note_down(child)
            left = (other for other in self._children if other is not child)
            return Stop(SHUTDOWN) if shuts_down(self._flags.auto_shutdown, child, left) else None
        delay = self.delay_restart(child)
        if delay is None:
            return await self._restart(child)
        self._await_retry(child, delay)
        return None

    @info
    async def retry(self, again: TryAgain) -> Stop | None:
        """Try a failed or delayed restart, unless it was cancelled meanwhile (OTP SUP-50, SUP-55)."""
        child = self._children.get(again.child)
        return None if child is None or child.state != "restarting" else await self._restart(child)

    def _await_retry(self, child: Child, delay: float | None) -> None:
        self._children.ended(child, "restarting")
        self.try_again(child, child.id, delay)

    async def _restart(self, child: Child) -> Stop | None:
        """One restart attempt, counted before it is made (OTP SUP-35, SUP-40, SUP-43)."""
        if not self.may_restart():
            self.report("shutdown", child, TRIPPED)
            self.note_down(child)
            return Stop(SHUTDOWN)
        plan = plan_restart(self._flags.strategy, self._children, child.id)
        failed = await self._carry_out(plan, child)
        if failed is not None:
            self._await_retry(failed, self.delay_restart(failed))
        return None

    async def _carry_out(self, plan: Plan, cause: Child) -> Child | None:
        """Stop and start as planned, for ``cause``; the child whose start failed, if one did (OTP SUP-51, SUP-52)."""
        for id in plan.stop:
            sibling = self._children[id]
            # Callers of a sibling that comes back wait for it, as they do for the child that died.
            comes_back = sibling.restart != "temporary"
            self.write_name(sibling, "restarting" if comes_back else "stopping")
            await self.stop_child(sibling, comes_back=comes_back)
        for id in plan.forget:
            self.note_down(self._children[id])
        starting = [self._children[id] for id in plan.start]
        for child in starting:
            child.cancel_retry()
            self._children.ended(child, "undefined")
        for child in starting:
            outcome = await self.start(child, cause)
            if isinstance(outcome, StartFailed):
                child.reason = outcome.reason
                self.report("start_error", child, outcome.reason)
                return child
            self.note_started(child, outcome)
        return None
