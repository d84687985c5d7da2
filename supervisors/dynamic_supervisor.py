"""The dynamic supervisor, as Elixir has it: starts empty, children come and go (OTP 1.10)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar, Never

from ..runtime.child_spec import ChildSpec, StartChild, as_child_spec, check_options
from ..runtime.errors import SpecError
from ..runtime.gen_server import Fail, Ignored, Started, StartFailed, Stop, call
from . import refusals
from .flags import DynamicFlags, window_of
from .messages import GetChildSpec
from .pool import PoolSupervisor
from .specs import Seconds, supervisor_child

OPTIONS = ("max_restarts", "max_seconds", "max_children", "extra_arguments")


class DynamicSupervisor(PoolSupervisor):
    """Supervises any number of children, each for itself, with a full spec each.

    There is no auto-shutdown here: a significant child is one like any other.
    Ids are not looked at and need not be unique: children are known by address, or by registered
    name. All are asked to stop at once. The class attributes are defaults for ``init``'s arguments.
    """

    wraps_start_errors = False

    max_restarts: ClassVar[int] = 3
    max_seconds: ClassVar[Seconds] = 5.0
    max_children: ClassVar[int | None] = None

    _flags: DynamicFlags

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the class attributes where they are written, not when a start fails. Raises SpecError."""
        super().__init_subclass__(**kwargs)
        DynamicFlags(cls.max_restarts, cls.max_seconds, cls.max_children)

    def init(
        self,
        *,
        max_restarts: int | None = None,
        max_seconds: Seconds | None = None,
        max_children: int | None = None,
        extra_arguments: tuple[Any, ...] = (),
        **unknown: Never,
    ) -> Stop | None:
        """Check the flags; nothing is started.

        Args:
            max_restarts: restarts allowed within ``max_seconds``.
            max_seconds: the window in seconds.
            max_children: children it may have, restarting ones included; None: any number.
            extra_arguments: come before each child's own arguments (OTP DYN-06).
            **unknown: refused, with the nearest known option.
        """
        check_options(self.label, unknown, OPTIONS)
        try:
            self._flags = DynamicFlags(
                self.max_restarts if max_restarts is None else max_restarts,
                self.max_seconds if max_seconds is None else max_seconds,
                self.max_children if max_children is None else max_children,
                extra_arguments,
            )
        except SpecError as error:
            return Stop(error.reason)
        self._window = window_of(self._flags)
        self._by_address, self._by_name = {}, {}
        return None

    @classmethod
    def child_spec(cls, id: Hashable = None, **options: Any) -> ChildSpec:
        """This supervisor as a child of another one, checked now.

        Args:
            id: its id there; the class's name if not given.
            **options: arguments of :meth:`init`, and fields of a child spec (``restart``, ``name`` ...).

        Raises:
            SpecError: an option is unknown or malformed.
        """
        flags = {name: options.pop(name) for name in OPTIONS if name in options}
        DynamicFlags(**flags)
        return supervisor_child(id, cls, flags, options)

    def arguments(self, spec: ChildSpec) -> tuple[Any, ...]:
        """Extra arguments first (OTP DYN-06)."""
        return self._flags.extra_arguments + spec.args

    @call
    async def start_child(self, message: StartChild) -> Started | Ignored | Fail:
        """See :class:`.messages.StartChild`; ignore is answered as such (OTP DYN-02)."""
        try:
            spec = as_child_spec(message.spec)
        except SpecError as error:
            return Fail(error)
        limit = self._flags.max_children
        if limit is not None and len(self._by_address) >= limit:
            return Fail(refusals.too_many(self.label, limit))
        child = self.new_child(spec)
        outcome = await self.add(child)
        if isinstance(outcome, StartFailed):
            self.write_name(child, "dead", outcome.reason)
            return Fail(refusals.start_failed(self.label, spec, outcome.reason))
        return outcome

    @call
    def get_child_spec(self, message: GetChildSpec) -> ChildSpec | Fail:
        """See :class:`.messages.GetChildSpec`."""
        child = self.find(message.child)
        return Fail(refusals.not_found(self.label, message.child)) if child is None else child.spec
