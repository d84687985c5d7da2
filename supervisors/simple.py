"""The simple_one_for_one supervisor: many children of one template (OTP 1.9)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Never

from ..runtime.address import LocalAddress
from ..runtime.child_spec import AutoShutdown, ChildSpec, check_options
from ..runtime.errors import SpecError
from ..runtime.gen_server import Fail, Ignored, Started, StartFailed, Stop, call
from ..runtime.reasons import Reason
from . import refusals
from .children import Child
from .flags import Flags, window_of
from .messages import DeleteChild, GetChildSpec, RestartChild, StartInstance
from .pool import Ends, PoolSupervisor
from .specs import AnySpec, Seconds, check_template, supervisor_child

OPTIONS = ("template", "max_restarts", "max_seconds", "auto_shutdown")


class SimpleSupervisor(PoolSupervisor):
    """Supervises any number of children made from one template, each for itself.

    ``StartInstance(args)`` starts one more, its arguments appended to the template's; a restart
    repeats them (OTP SIM-02, SIM-05).
    """

    template: ClassVar[AnySpec | None] = None
    max_restarts: ClassVar[int] = 3
    max_seconds: ClassVar[Seconds] = 5.0

    _template: ChildSpec

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the class attributes where they are written, not when a start fails. Raises SpecError."""
        super().__init_subclass__(**kwargs)
        Flags("simple_one_for_one", cls.max_restarts, cls.max_seconds)

    def init(
        self,
        template: AnySpec | Iterable[AnySpec] | None = None,
        *,
        max_restarts: int | None = None,
        max_seconds: Seconds | None = None,
        auto_shutdown: AutoShutdown = "never",
        **unknown: Never,
    ) -> Stop | None:
        """Check the flags and the template; nothing is started (OTP SIM-01).

        Args:
            template: the one child spec; a list must hold exactly one.
            max_restarts: restarts allowed within ``max_seconds``.
            max_seconds: the window in seconds.
            auto_shutdown: only ``never`` makes sense here (OTP SUP-68).
            **unknown: refused, with the nearest known option.
        """
        check_options(self.label, unknown, OPTIONS)
        try:
            flags = Flags(
                "simple_one_for_one",
                self.max_restarts if max_restarts is None else max_restarts,
                self.max_seconds if max_seconds is None else max_seconds,
                auto_shutdown,
            )
            self._template = check_template(self.template if template is None else template)
        except SpecError as error:
            return Stop(error.reason)
        self._window = window_of(flags)
        self._by_address, self._by_name = {}, {}
        return None

    @classmethod
    def child_spec(cls, id: Hashable = None, template: AnySpec | None = None, **options: Any) -> ChildSpec:
        """This supervisor as a child of another one, checked now.

        Args:
            id: its id there; the class's name if not given.
            template: the one child spec.
            **options: arguments of :meth:`init`, and fields of a child spec (``restart``, ``name`` ...).

        Raises:
            SpecError: an option is unknown or malformed.
        """
        flags = {name: options.pop(name) for name in OPTIONS[1:] if name in options}
        Flags("simple_one_for_one", **flags)
        args = (check_template(cls.template if template is None else template),)
        return supervisor_child(id, cls, flags, options, args)

    @call
    async def start_instance(self, message: StartInstance) -> Started | Ignored | Fail:
        """See :class:`.messages.StartInstance`."""
        template = self._template
        args, kwargs = template.args + message.args, {**template.kwargs, **message.kwargs}
        spec = replace(template, args=args, kwargs=kwargs, name=template.name if message.name is None else message.name)
        child = self.new_child(spec)
        outcome = await self.add(child)
        if isinstance(outcome, StartFailed):
            self.write_name(child, "dead", outcome.reason)
            return Fail(refusals.start_failed(self.label, spec, outcome.reason))
        return outcome

    @call
    def restart_or_delete(self, message: RestartChild | DeleteChild) -> Fail:
        """Refused: its children have no ids (OTP SIM-03)."""
        return Fail(refusals.by_id(self.label, message.id))

    @call
    def get_child_spec(self, message: GetChildSpec) -> ChildSpec | Fail:
        """The template, by its id or a child's address (OTP SIM-04)."""
        if message.child == self._template.id or self.find(message.child) is not None:
            return self._template
        return Fail(refusals.not_found(self.label, message.child))

    def refuse_unknown(self, child: object) -> Fail | None:
        """A dead process is fine, a living stranger is not found, an id is refused (OTP SIM-03)."""
        if not isinstance(child, LocalAddress):
            return Fail(refusals.by_id(self.label, child))
        return Fail(refusals.not_found(self.label, child)) if self.system.alive(child) else None

    def specs(self) -> int:
        """One: the template."""
        return 1

    def report_ends(self, ends: Ends) -> None:
        """Unexpected reasons are reported grouped (OTP SIM-06)."""
        groups: list[tuple[Reason, list[Child]]] = []
        for child, reason in ends:
            same = next((members for known, members in groups if known == reason), None)
            if same is None:
                groups.append((reason, [child]))
            else:
                same.append(child)
        for reason, members in groups:
            self.report("shutdown_error", members[0], reason, count=len(members))
