"""Bootstrap with random search: many sets of worked examples, drawn at random; the best on validation stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..modules.program_state import ProgramState
from .bench import Bench
from .demos import NO_LESSON, DemoOptions, Teacher, shuffled, with_demos
from .option_checks import check_whole
from .search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSearch(DemoOptions):
    """Tries sets of worked examples: a labelled one, one full of bootstrapped ones, and random ones of random size.

    Args:
        candidates: sets to try.
        generation: sets tried at the same time; a step.

    The other options: see :class:`~.demos.DemoOptions`.

    Raises:
        ConfigError: an option is out of range.
    """

    candidates: int = 16
    generation: int = 4

    def __post_init__(self) -> None:
        DemoOptions.__post_init__(self)
        check_whole("candidates", self.candidates, 1)
        check_whole("generation", self.generation, 1)

    @property
    def method(self) -> str:
        """The word that chooses it."""
        return "random_search"

    def steps(self, bench: Bench) -> int:
        """The program as it is, and the generations."""
        return 1 + math.ceil(self.candidates / self.generation)

    async def optimize(self, bench: Bench) -> ProgramState:
        """See :class:`~.bench.Optimizer`."""
        search = Search(bench, self.method)
        await search.begin()
        teacher = Teacher(bench, self)
        for first in range(0, self.candidates, self.generation):
            if search.perfect:
                break
            numbers = range(first, min(first + self.generation, self.candidates))
            await search.generation({f"c{number}": await self._candidate(bench, teacher, number) for number in numbers})
        return search.result

    async def _candidate(self, bench: Bench, teacher: Teacher, number: int) -> ProgramState:
        order = shuffled(bench)
        wanted = self.max_bootstrapped if number == 1 else bench.rng.randint(1, self.max_bootstrapped)
        lesson = NO_LESSON if number == 0 else await teacher.lesson(order, wanted)
        return with_demos(bench, lesson, order, self.max_demos)
