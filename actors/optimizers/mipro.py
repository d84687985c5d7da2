"""MIPRO: instructions and worked examples, searched for together.

After Opsahl-Ong et al., "Optimizing Instructions and Demonstrations for Multi-Stage Language Model Programs", EMNLP
2024 (arXiv:2406.11695): make sets of worked examples, have instructions proposed for each predictor from all that is
known (the program, its data, what went well), then let a Bayesian search find the combination that does best on
validation. Unlike there, who proposes what was proposed already is asked again, and told so.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..examples import Example
from ..modules.program_state import PredictorState, ProgramState
from .bench import Bench
from .demos import NO_LESSON, DemoOptions, Teacher, predictor_state, shuffled, with_demos
from .option_checks import check_number, check_whole
from .proposals import TIPS, Grounds, Proposer, proposal_prompt
from .search import Search, in_order, mean, scores_of
from .tpe import Combination, Tpe, load_optuna

_EXAMPLES: Final = 5
"""Examples that a proposal sees."""
_DEMOS: Final = 3
"""Worked examples that it sees."""
_DESCRIBED: Final = 20
"""Examples from which the data are described."""
_ROUNDS: Final = 3
"""How often proposals are asked for until there are enough different ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mipro(DemoOptions):
    """Searches for instructions and worked examples together. Needs the extra ``dspex[optimize]``.

    Args:
        proposals: different instructions wanted for each predictor, beside those it has.
        demo_sets: sets of worked examples made, beside those it has.
        generations: steps.
        generation: combinations tried at the same time; a step.
        minibatch: examples of validation on which combinations are tried first; then only the most promising of a
            step is scored on all. None: all of them are.
        temperature: of the prompt model.

    The other options: see :class:`~.demos.DemoOptions`.

    Raises:
        ConfigError: an option is out of range, or the extra is not installed.
    """

    proposals: int = 6
    demo_sets: int = 6
    generations: int = 8
    generation: int = 4
    minibatch: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        DemoOptions.__post_init__(self)
        for name in ("proposals", "demo_sets"):
            check_whole(name, getattr(self, name), 0)
        for name in ("generations", "generation"):
            check_whole(name, getattr(self, name), 1)
        if self.minibatch is not None:
            check_whole("minibatch", self.minibatch, 1)
        check_number("temperature", self.temperature, 2.0)
        load_optuna()

    @property
    def method(self) -> str:
        """The word that chooses it."""
        return "mipro"

    def steps(self, bench: Bench) -> int:
        """The program as it is, and the generations; fewer if nothing is left to try."""
        return 1 + self.generations

    async def optimize(self, bench: Bench) -> ProgramState:
        """See :class:`~.bench.Optimizer`."""
        search = Search(bench, self.method)
        await search.begin()
        if not search.perfect:
            sets = await self._demo_sets(bench)
            instructions = await self._instructions(bench, sets)
            await _Combinations(self, search, sets, instructions).run()
        return search.result

    async def _demo_sets(self, bench: Bench) -> list[ProgramState]:
        """The base, a labelled set, one full of bootstrapped ones, and random ones of random size."""
        teacher = Teacher(bench, self)
        sets = [bench.base]
        for number in range(self.demo_sets):
            order = shuffled(bench)
            wanted = self.max_bootstrapped if number == 1 else bench.rng.randint(1, self.max_bootstrapped)
            lesson = NO_LESSON if number == 0 else await teacher.lesson(order, wanted)
            sets.append(with_demos(bench, lesson, order, self.max_demos))
        return sets

    async def _instructions(self, bench: Bench, sets: Sequence[ProgramState]) -> dict[str, list[str | None]]:
        """For each predictor what it has, and what was proposed."""
        found = {name: [predictor_state(bench.base, name).instructions] for name in bench.predictors}
        if not self.proposals:
            return found
        proposer = Proposer(bench, self.temperature)
        data = await proposer.describe(_some(bench, _DESCRIBED))
        asked = dict.fromkeys(found, 0)
        for _ in range(_ROUNDS):
            work: list[Coroutine[Any, Any, str | None]] = []
            wanted = [name for name, have in found.items() for _ in range(self.proposals + 1 - len(have))]
            for name in wanted:
                number = asked[name]
                asked[name] += 1
                grounds = self._grounds(bench, name, number, sets[number % len(sets)], data, found[name])
                prompt = proposal_prompt(name, found[name][0], grounds)
                work.append(proposer.propose(prompt, trial=f"propose/{name}", ordinal=number))
            answers, stopped = await in_order(work)
            if stopped is not None:
                raise stopped
            for name, text in zip(wanted, answers, strict=True):
                if text is not None and text not in found[name]:
                    found[name].append(text)
            if not any(answers):
                break
        proposer.warn_if_in_vain()
        return found

    def _grounds(
        self, bench: Bench, name: str, number: int, shown: ProgramState, data: str | None, have: Sequence[str | None]
    ) -> Grounds:
        return Grounds(
            program=bench.predictors,
            data=data,
            examples=_some(bench, _EXAMPLES),
            demos=predictor_state(shown, name).demos[:_DEMOS],
            tip=TIPS[number % len(TIPS)],
            others=[each for each in have[1:] if each is not None],
        )


def _some(bench: Bench, most: int) -> list[Example]:
    """Examples to learn from, drawn by lot."""
    return bench.rng.sample(list(bench.train), min(most, len(bench.train)))


class _Combinations:
    """The search among combinations: for each predictor one of its instructions and one of the sets."""

    def __init__(
        self, options: Mipro, search: Search, sets: list[ProgramState], instructions: Mapping[str, list[str | None]]
    ) -> None:
        self._options = options
        self._search = search
        self._bench = search.bench
        self._sets = sets
        self._instructions = instructions
        choices: dict[str, int] = {}
        for name in self._bench.predictors:
            choices[f"{name}/instructions"] = len(instructions[name])
            choices[f"{name}/demos"] = len(sets)
        self._tpe = Tpe(choices, seed=self._bench.rng.getrandbits(32), startup=options.generation)
        self._base: Combination = (0,) * len(choices)
        # What combinations scored on all of validation, and on the minibatches they were tried on.
        self._full: dict[Combination, float] = {self._base: search.best.score}
        self._tried: dict[Combination, list[float]] = {}

    async def run(self) -> None:
        for number in range(1, self._options.generations + 1):
            asked = self._tpe.ask(self._options.generation, self._full)
            if not asked or self._search.perfect:
                return
            candidates = {f"g{number}/c{place}": self._state(each) for place, each in enumerate(asked)}
            minibatch = self._options.minibatch
            if minibatch is None or minibatch >= len(self._bench.validation):
                await self._score_all(asked, candidates)
            else:
                await self._score_best(asked, candidates, minibatch, f"g{number}/best")

    async def _score_all(self, asked: list[Combination], candidates: Mapping[str, ProgramState]) -> None:
        for combination, scored in zip(asked, await self._search.generation(candidates), strict=True):
            self._full[combination] = scored.score
            self._tpe.tell(combination, scored.score)

    async def _score_best(
        self, asked: list[Combination], candidates: Mapping[str, ProgramState], minibatch: int, trial: str
    ) -> None:
        """Try all on the same part of validation, then score the most promising of all steps on the whole of it."""
        examples = self._bench.rng.sample(list(self._bench.validation), minibatch)
        work = [self._bench.run(state, examples, trial=f"{name}/mini") for name, state in candidates.items()]
        tried, stopped = await in_order(work)
        if stopped is not None:
            raise stopped
        for combination, outcomes in zip(asked, tried, strict=True):
            score = mean(scores_of(outcomes))
            self._tried.setdefault(combination, []).append(score)
            self._tpe.tell(combination, score)
        open_ones = [each for each in self._tried if each not in self._full]
        best = max(open_ones, key=lambda each: mean(self._tried[each]))
        scored = await self._search.score(self._state(best), trial)
        self._full[best] = scored.score
        await self._search.tell([scored], candidates=len(candidates))

    def _state(self, combination: Combination) -> ProgramState:
        state = self._bench.base
        for place, name in enumerate(self._bench.predictors):
            instruction, demos = combination[2 * place : 2 * place + 2]
            shown = predictor_state(self._sets[demos], name).demos
            chosen = PredictorState(self._instructions[name][instruction], shown)
            if chosen != predictor_state(self._bench.base, name):
                state = state.with_predictor(name, chosen)
        return state
