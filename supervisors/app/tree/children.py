"""The supervisor of the user's own children.

It is a static supervisor like any other, with one addition: a child that was started at run time is declared by
that, and comes back when this supervisor itself is restarted. OTP would forget it, and then a crash of the event
store would take actors of the user's with it for good.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from ....runtime.child_spec import ChildSpec, StartChild, as_child_spec
from ....runtime.errors import SpecError
from ....runtime.gen_server import Fail, Ignored, Started, Stop, call
from ...messages import DeleteChild
from ...specs import AnySpec, check_specs
from ...supervisor import Supervisor


@dataclass(slots=True)
class KeptSpecs:
    """The declared children, by id, in start order. Outlives the supervisor that runs them."""

    specs: dict[Hashable, ChildSpec] = field(default_factory=dict[Hashable, ChildSpec])

    @classmethod
    def of(cls, children: Iterable[AnySpec]) -> KeptSpecs:
        """Checked specs.

        Raises:
            SpecError: one is malformed, or two have the same id.
        """
        return cls({spec.id: spec for spec in check_specs(children, "never")})


class ChildrenSupervisor(Supervisor):
    """Starts the declared children, and remembers what is declared or deleted at run time."""

    async def init(self, kept: KeptSpecs) -> Stop | None:  # type: ignore[override]  # its own start arguments
        """Start what is declared."""
        self._kept = kept
        return await super().init(tuple(kept.specs.values()))

    @call
    async def start_child(self, message: StartChild) -> Started | Ignored | Fail:
        """See :class:`...messages.StartChild`. A temporary child is not remembered: its end is for good."""
        try:
            spec = as_child_spec(message.spec)
        except SpecError as error:
            return Fail(error)
        outcome = await super().start_child(StartChild(spec))
        if not isinstance(outcome, Fail) and spec.restart != "temporary":
            self._kept.specs[spec.id] = spec
        return outcome

    @call
    def delete_child(self, message: DeleteChild) -> Fail | None:
        """See :class:`...messages.DeleteChild`."""
        refused = super().delete_child(message)
        if refused is None:
            self._kept.specs.pop(message.id, None)
        return refused
