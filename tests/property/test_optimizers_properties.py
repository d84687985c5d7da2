"""What holds for every optimizer, whatever the seed, the order in which work ends, and the moment it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.actors.examples import Example
from dspex.actors.modules.program_state import ProgramState
from dspex.actors.optimizers.bench import Outcome
from dspex.actors.optimizers.pareto import pareto_weights
from dspex.actors.optimizers.proposals import read_instructions
from dspex.actors.optimizers.registry import METHODS, optimizer
from dspex.actors.optimizers.tpe import Tpe
from dspex.actors.testing.simulated_bench import SimulatedBench, Told, accuracy
from dspex.runtime.errors import RunStopped

SMALL: dict[str, dict[str, Any]] = {
    "random_search": {"candidates": 5, "generation": 3},
    "mipro": {"proposals": 2, "demo_sets": 2, "generations": 2, "generation": 3},
    "gepa": {"generations": 3, "generation": 2},
}
METHOD = st.sampled_from(METHODS)
MINIBATCH = st.sampled_from([None, 4])
SEEDS = st.integers(0, 2**32 - 1)


class Recorded(SimulatedBench):
    """Keeps what each piece of work was."""

    def __init__(self, **more: Any) -> None:
        super().__init__(train=12, validation=12, **more)
        self.work: dict[str, tuple[str, list[str], bool]] = {}

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """As always; a name that is used again for other work would be answered wrongly from a journal."""
        work = (state.key, [each["text"] for each in examples], trace)
        assert self.work.setdefault(trial, work) == work
        return await super().run(state, examples, trial=trial, trace=trace)


def search(method: str, minibatch: int | None, **more: Any) -> tuple[Recorded, ProgramState | None]:
    """One search on a small bench; no state if it was stopped."""
    bench = Recorded(**more)
    options = SMALL.get(method, {}) | ({"minibatch": minibatch} if method == "mipro" else {})
    try:
        return bench, asyncio.run(optimizer(method, **options).optimize(bench))
    except RunStopped:
        return bench, None


@settings(max_examples=60)
@given(METHOD, MINIBATCH, SEEDS, SEEDS)
def test_the_order_in_which_work_ends_steers_nothing(method: str, minibatch: int | None, seed: int, order: int) -> None:
    """Same seed and answers: same pieces of work, same steps, same result, provenance included."""
    calm, expected = search(method, minibatch, seed=seed)
    busy, result = search(method, minibatch, seed=seed, order=Random(order))
    assert result == expected
    assert result is not None
    assert expected is not None
    assert result.provenance == expected.provenance
    assert busy.told == calm.told
    assert busy.work == calm.work
    assert sorted(busy.prompts) == sorted(calm.prompts)


@settings(max_examples=60)
@given(METHOD, MINIBATCH, SEEDS)
def test_a_result_is_never_worse_on_validation(method: str, minibatch: int | None, seed: int) -> None:
    """Than the program as it was."""
    bench, result = search(method, minibatch, seed=seed)
    assert result is not None
    assert accuracy(result, bench.validation) >= accuracy(bench.base, bench.validation)


@settings(max_examples=80)
@given(METHOD, MINIBATCH, SEEDS, st.integers(0, 250), SEEDS)
def test_stopped_at_any_call_the_best_so_far_is_told(
    method: str, minibatch: int | None, seed: int, budget: int, order: int
) -> None:
    """All complete steps are those of the undisturbed search; after the first there is a program to use."""
    calm, _ = search(method, minibatch, seed=seed)
    bench, result = search(method, minibatch, seed=seed, budget=budget, order=Random(order))
    assert (result is None) == (budget < calm.calls)
    complete = bench.told if result is not None else bench.told[:-1]
    assert complete == calm.told[: len(complete)]
    assert (bench.best is not None) == (budget >= len(bench.validation))
    if bench.best is not None:
        best = max(each.score or 0.0 for each in bench.told)
        assert accuracy(bench.best, bench.validation) == best
        assert best >= accuracy(bench.base, bench.validation)


@given(METHOD, SEEDS)
def test_another_seed_draws_another_way_and_tells_as_many_candidates_as_it_tried(method: str, seed: int) -> None:
    """Each step says how many candidates it had; only the first is the program as it is."""
    bench, _ = search(method, None, seed=seed)
    first, *rest = bench.told
    assert first == Told(0, 1, accuracy(bench.base, bench.validation), bench.base)
    assert all(1 <= each.candidates <= 4 for each in rest)


ROWS = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=width, max_size=width), min_size=1, max_size=6
    )
)


@given(ROWS)
def test_who_is_best_at_something_may_breed_and_who_is_surpassed_may_not(rows: list[list[float]]) -> None:
    """Weight: the number of examples it is best on; 0 exactly for those that another surpasses or equals before."""
    weights = pareto_weights(rows)
    assert sum(weights) > 0
    for number, (row, weight) in enumerate(zip(rows, weights, strict=True)):
        surpassed = any(
            all(b >= a for a, b in zip(row, other, strict=True)) and (other != row or place < number)
            for place, other in enumerate(rows)
            if place != number
        )
        tops = sum(score == max(column) for score, column in zip(row, zip(*rows, strict=True), strict=True))
        assert weight == (0 if surpassed else tops)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 4), st.integers(1, 4))
def test_tpe_asks_for_each_combination_once_and_the_same_again(seed: int, first: int, second: int) -> None:
    """Nothing known is asked again, and equal seeds and scores ask for the same."""

    def play() -> list[list[tuple[int, ...]]]:
        tpe = Tpe({"a": first, "b": second}, seed=seed, startup=3)
        known: dict[tuple[int, ...], float] = {}
        rounds: list[list[tuple[int, ...]]] = []
        for _ in range(6):
            asked = tpe.ask(3, known)
            assert len(set(asked)) == len(asked)
            assert not set(asked) & set(known)
            for combination in asked:
                known[combination] = sum(combination) / 8
                tpe.tell(combination, known[combination])
            rounds.append(asked)
        return rounds

    assert play() == play()


@given(
    st.text(), st.text(alphabet="ab \n", min_size=1).filter(lambda text: bool(text.strip())), st.text(alphabet="xyz")
)
def test_instructions_are_read_out_of_a_fence(before: str, inside: str, language: str) -> None:
    """Whatever stands before it; without one the whole answer is taken; nothing is no instructions."""
    assert (
        read_instructions(f"{before.replace('`', '')}\n```{language}\n{inside}\n```\nas you wished") == inside.strip()
    )
    assert read_instructions(inside) == inside.strip()
    assert read_instructions(f"```\nshort\n```\n```\nlonger than {inside}\n```") == f"longer than {inside}".strip()
    assert read_instructions("\n ```\n\n``` ") is None
