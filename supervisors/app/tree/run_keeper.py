"""The keeper of runs.

What a run is to do is known to whoever began it and to nobody else: its metric may be a function of the program's own.
So what is declared is remembered beside the keeper, and comes back when it, its pool or all that stands left of them
is restarted.
"""

from __future__ import annotations

from ....runtime.child_spec import as_child_spec
from ....runtime.gen_server import Continue, Fail, Ignored, Started, Target, call
from ...keeper import Declare, Keeper, Undeclare
from .children import KeptSpecs


class RunKeeper(Keeper):
    """Keeps the runs that were begun in this process.

    Args:
        pool: see :class:`~...keeper.Keeper`.
        begun: their specs; outlives the keeper.
    """

    def init(self, pool: Target, begun: KeptSpecs) -> Continue:  # type: ignore[override]  # its own start arguments
        """Start what was begun, after the start."""
        self._begun = begun
        return super().init(pool, lambda _: tuple(begun.specs.values()))

    @call
    async def declare(self, message: Declare) -> Started | Ignored | Fail:
        """See :class:`~...keeper.Declare`."""
        outcome = await super().declare(message)
        if not isinstance(outcome, Fail):
            spec = as_child_spec(message.spec)
            self._begun.specs[spec.name] = spec
        return outcome

    @call
    async def undeclare(self, message: Undeclare) -> Fail | None:
        """See :class:`~...keeper.Undeclare`."""
        refused = await super().undeclare(message)
        if refused is None:
            self._begun.specs.pop(message.name, None)
        return refused
