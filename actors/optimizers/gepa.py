"""Reflective evolution: a prompt model reads what went wrong, writes better instructions, and what survives breeds.

After Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", 2025
(arXiv:2507.19457). Written for our bench, not taken from the library ``gepa``: that one blocks a thread for the
whole run and calls back from it, so it could neither be cancelled at once nor run in virtual time; and it tries one
child after the other, where a generation here has several, judged in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..examples import Example
from ..modules.program_state import ProgramState
from .bench import Bench
from .demos import predictor_state, shuffled
from .merge import Member, Newborn, merges
from .option_checks import check_flag, check_number, check_whole
from .pareto import pareto_weights
from .proposals import Proposer, reflection_prompt
from .search import PERFECT, Scored, Search, in_order, scores_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Gepa:
    """Evolves the instructions of the predictors, one a child; worked examples stay as they are.

    Args:
        generations: steps.
        generation: children bred at the same time; a step.
        minibatch: examples to learn from that a child's parent is watched on. A child that does no better on them
            is dropped; the others are scored on validation.
        temperature: of the prompt model.
        merge: whether, in each step, two that got better at different predictors are joined to one child more.

    Raises:
        ConfigError: an option is out of range.
    """

    generations: int = 10
    generation: int = 4
    minibatch: int = 3
    temperature: float = 1.0
    merge: bool = True

    def __post_init__(self) -> None:
        for name in ("generations", "generation", "minibatch"):
            check_whole(name, getattr(self, name), 1)
        check_number("temperature", self.temperature, 2.0)
        check_flag("merge", self.merge)

    @property
    def method(self) -> str:
        """The word that chooses it."""
        return "gepa"

    def steps(self, bench: Bench) -> int:
        """The program as it is, and the generations; fewer if nothing can be better."""
        return 1 + self.generations

    async def optimize(self, bench: Bench) -> ProgramState:
        """See :class:`~.bench.Optimizer`."""
        search = Search(bench, self.method)
        base = await search.begin()
        await _Evolution(self, search, base).run()
        return search.result


@dataclass(frozen=True, slots=True)
class _Child:
    """What a child is to be: all that is drawn by lot, before any is begun."""

    trial: str
    parent: int
    predictor: str
    examples: Sequence[Example]


class _Evolution:
    def __init__(self, options: Gepa, search: Search, base: Scored) -> None:
        self._options = options
        self._search = search
        self._bench = search.bench
        self._pool = [Member(base)]
        self._proposer = Proposer(self._bench, options.temperature)
        self._order: list[int] = []
        self._born = 0

    async def run(self) -> None:
        for number in range(1, self._options.generations + 1):
            if self._search.perfect:
                break
            weights = pareto_weights([member.scored.scores for member in self._pool])
            children = [self._draw(f"g{number}/c{place}", weights) for place in range(self._options.generation)]
            joined = self._join(weights)
            bred, stopped = await in_order([self._breed(child) for child in children])
            if stopped is not None:
                raise stopped
            born = {f"g{number}/merge": each for each in joined}
            for child, state in zip(children, bred, strict=True):
                if state is not None:
                    born[child.trial] = Newborn(state, (child.parent,))
            await self._judge(born, tried=len(children) + len(joined))
        self._proposer.warn_if_in_vain()

    async def _judge(self, born: Mapping[str, Newborn], tried: int) -> None:
        """Score them on validation; those that are new join the pool."""
        states = {trial: newborn.state for trial, newborn in born.items()}
        scored = await self._search.generation(states, tried=tried)
        known = {member.scored.state.key for member in self._pool}
        for newborn, each in zip(born.values(), scored, strict=True):
            if each.state.key not in known:
                known.add(each.state.key)
                self._pool.append(Member(each, newborn.parents))

    def _draw(self, trial: str, weights: Sequence[int]) -> _Child:
        (parent,) = self._bench.rng.choices(range(len(self._pool)), weights)
        predictors = list(self._bench.predictors)
        predictor = predictors[self._born % len(predictors)]
        self._born += 1
        return _Child(trial, parent, predictor, self._minibatch())

    def _join(self, weights: Sequence[int]) -> list[Newborn]:
        """One joined child at most."""
        if not self._options.merge:
            return []
        possible = merges(self._pool, [place for place, weight in enumerate(weights) if weight])
        return [self._bench.rng.choice(possible)] if possible else []

    def _minibatch(self) -> list[Example]:
        """The next examples; once all were seen, in a new order."""
        size = min(self._options.minibatch, len(self._bench.train))
        if len(self._order) < size:
            self._order = shuffled(self._bench)
        taken, self._order = self._order[:size], self._order[size:]
        return [self._bench.train[index] for index in taken]

    async def _breed(self, child: _Child) -> ProgramState | None:
        """Watch the parent, have it reflected upon, and try the child on the same; None if it is no better."""
        base = self._pool[child.parent].scored.state
        watched = await self._bench.run(base, child.examples, trial=f"{child.trial}/parent", trace=True)
        before = scores_of(watched)
        if min(before) >= PERFECT:
            return None
        parent = predictor_state(base, child.predictor)
        signature = self._bench.predictors[child.predictor]
        prompt = reflection_prompt(child.predictor, signature, parent.instructions, child.examples, watched)
        instructions = await self._proposer.propose(prompt, trial=f"{child.trial}/reflect")
        if instructions is None or instructions == parent.instructions:
            return None
        state = base.with_predictor(child.predictor, replace(parent, instructions=instructions))
        after = scores_of(await self._bench.run(state, child.examples, trial=f"{child.trial}/child"))
        return state if sum(after) > sum(before) else None
