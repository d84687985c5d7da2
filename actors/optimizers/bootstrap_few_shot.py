"""Bootstrap few-shot: let a teacher work on examples, and show what it got right, each predictor its own part."""

from __future__ import annotations

from dataclasses import dataclass

from ..modules.program_state import ProgramState
from .bench import Bench
from .demos import DemoOptions, Teacher, shuffled, with_demos
from .search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapFewShot(DemoOptions):
    """Shows worked examples made by a teacher, and labelled ones up to ``max_demos``, if the program is better so.

    Options: see :class:`~.demos.DemoOptions`.
    """

    @property
    def method(self) -> str:
        """The word that chooses it."""
        return "bootstrap"

    def steps(self, bench: Bench) -> int:
        """The program as it is, and with worked examples."""
        return 2

    async def optimize(self, bench: Bench) -> ProgramState:
        """See :class:`~.bench.Optimizer`."""
        search = Search(bench, self.method)
        await search.begin()
        if not search.perfect:
            order = shuffled(bench)
            lesson = await Teacher(bench, self).lesson(order, self.max_bootstrapped)
            await search.generation({"bootstrap": with_demos(bench, lesson, order, self.max_demos)})
        return search.result
