"""Labelled few-shot: show labelled examples, drawn once. It asks no teacher."""

from __future__ import annotations

from dataclasses import dataclass

from ..modules.program_state import ProgramState
from .bench import Bench
from .demos import NO_LESSON, check_labels, shuffled, with_demos
from .option_checks import check_data, check_whole
from .search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledFewShot:
    """Shows labelled examples as they are, if the program is better with them.

    Args:
        max_demos: how many a predictor shows at most.

    Raises:
        ConfigError: an option is out of range.
    """

    max_demos: int = 4

    def __post_init__(self) -> None:
        check_whole("max_demos", self.max_demos, 1)

    @property
    def method(self) -> str:
        """The word that chooses it."""
        return "labeled_few_shot"

    def steps(self, bench: Bench) -> int:
        """The program as it is, and with labelled examples."""
        return 2

    async def optimize(self, bench: Bench) -> ProgramState:
        """See :class:`~.bench.Optimizer`."""
        check_data(bench)
        check_labels(bench)
        search = Search(bench, self.method)
        await search.begin()
        if not search.perfect:
            await search.generation({"labeled": with_demos(bench, NO_LESSON, shuffled(bench), self.max_demos)})
        return search.result
