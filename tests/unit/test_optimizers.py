"""What each optimizer gains on the simulated model, whose best program is known, and what it asks for on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytest

from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.actors.modules.program_state import ONLY, PredictorState, ProgramState
from dspex.actors.optimizers.bench import Outcome, PredictorCall
from dspex.actors.optimizers.demos import DemoOptions, Teacher
from dspex.actors.optimizers.merge import Member, merges
from dspex.actors.optimizers.proposals import Grounds, proposal_prompt
from dspex.actors.optimizers.registry import METHODS, optimizer
from dspex.actors.optimizers.search import Scored
from dspex.actors.signatures.signature import Signature
from dspex.actors.testing.simulated_bench import SimulatedBench, accuracy
from dspex.actors.testing.simulated_lm import CLUE, KEYWORD, LABELS, PROPOSALS, dataset, skill, topic, truth
from dspex.runtime.errors import ConfigError, LMAuthError, LMServerError, RunStopped

HELD_OUT = dataset(200, 1000)
THREE_TOPICS = tuple(
    {"text": text, "label": truth(text)}
    for text in (next(f"t{n}" for n in range(99) if topic(f"t{n}") == t) for t in range(3))
)


def optimize(bench: SimulatedBench, method: str, **options: Any) -> ProgramState:
    """Run an optimizer to its end."""
    return asyncio.run(optimizer(method, **options).optimize(bench))


def told(state: ProgramState) -> PredictorState:
    """What the only predictor has."""
    return state.predictors.get(ONLY, PredictorState())


def skilled(state: ProgramState) -> int:
    """The known skill of a state."""
    return skill(told(state).instructions, told(state).demos)


# -- gains ---------------------------------------------------------------------------------------


def results(method: str, *, base: ProgramState | None = None, **options: Any) -> list[ProgramState]:
    """What comes of twenty searches, each with a seed and data of its own."""
    benches = [SimulatedBench(seed=seed, first=10_000 + 100 * seed, base=base) for seed in range(20)]
    return [optimize(bench, method, **options) for bench in benches]


@pytest.mark.parametrize("method", METHODS)
def test_every_optimizer_beats_the_program_as_it_is_on_held_out_data(method: str) -> None:
    """On examples that it never saw, the program is clearly better afterwards, whatever seed and data."""
    base = accuracy(ProgramState(), HELD_OUT)
    assert min(accuracy(result, HELD_OUT) for result in results(method)) >= base + 0.1


@pytest.mark.parametrize("options", [{}, {"minibatch": 15, "generations": 12}])
def test_mipro_finds_the_planted_combination(options: dict[str, Any]) -> None:
    """The word in the instructions and examples of all topics, tried on all of validation or on a part of it first."""
    found = results("mipro", **options)
    assert all(KEYWORD in (told(result).instructions or "") for result in found)
    assert {skilled(result) for result in found} == {100}


def test_random_search_finds_the_planted_worked_examples() -> None:
    """A set with all topics, which is the best without new instructions."""
    assert {skilled(result) for result in results("random_search")} == {76}


def test_gepa_finds_the_planted_instructions() -> None:
    """The word is in the feedback's clue: with good worked examples that makes the best program."""
    base = ProgramState({ONLY: PredictorState(None, THREE_TOPICS)})
    found = results("gepa", base=base)
    assert {skilled(result) for result in found} == {100}
    assert all(told(result).demos == THREE_TOPICS for result in found)


# -- chosen by validation, never by train ----------------------------------------------------------


class Misled(SimulatedBench):
    """All labels to learn from are wrong, so what helps there hurts elsewhere."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        wrong = dict(zip(LABELS, reversed(LABELS), strict=True))
        self.train = [Example(text=each["text"], label=wrong[each["label"]]).with_inputs("text") for each in self.train]


@pytest.mark.parametrize("method", ["labeled_few_shot", "bootstrap", "random_search"])
def test_what_only_helps_on_train_is_not_taken(method: str) -> None:
    """Worse on validation means not chosen, whatever train says: the program stays as it is."""
    bench = Misled()
    assert optimize(bench, method) == bench.base


@pytest.mark.parametrize("method", METHODS)
def test_the_base_stays_if_nothing_is_better(method: str) -> None:
    """A perfect program costs its own scoring, and nothing more."""
    best = ProgramState({ONLY: PredictorState(PROPOSALS[2], THREE_TOPICS)}, {"by": "hand"})
    bench = SimulatedBench(base=best)
    assert optimize(bench, method) == best
    assert bench.calls == len(bench.validation)


# -- bootstrapping ---------------------------------------------------------------------------------


class Sized(SimulatedBench):
    """Keeps how many examples each piece of work had, and how many of them were right."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.sizes: list[tuple[int, int]] = []

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """As always."""
        outcomes = await super().run(state, examples, trial=trial, trace=trace)
        self.sizes.append((len(examples), sum(each.score == 1.0 for each in outcomes)))
        return outcomes


def test_bootstrap_shows_only_what_the_teacher_got_right() -> None:
    """Each bootstrapped demo is what the predictor was given and gave, in an answer that scored enough."""
    result = optimize(SimulatedBench(), "bootstrap", max_demos=4, max_bootstrapped=4)
    assert len(told(result).demos) == 4
    assert all(demo["label"] == truth(demo["text"]) for demo in told(result).demos)


def test_bootstrap_stops_asking_once_there_are_enough() -> None:
    """The teacher is never asked for more examples than are still missing."""
    easy = ProgramState({ONLY: PredictorState(PROPOSALS[2], THREE_TOPICS)})
    bench = SimulatedBench(train=40)
    optimize(bench, "bootstrap", teacher=easy, max_bootstrapped=3, max_demos=3)
    assert bench.asked == ["baseline", "teacher/0", "bootstrap"]
    assert bench.calls == 40 + 3 + 40


def test_a_teacher_is_asked_for_what_is_still_missing() -> None:
    """No round asks for more examples than there are demos to be had."""
    bench = Sized()
    lesson = asyncio.run(Teacher(bench, DemoOptions()).lesson(range(40), 4))
    assert len(lesson.used) == 4
    assert [size for size, _ in bench.sizes] == [
        4 - before for before in accumulate([0] + [n for _, n in bench.sizes[:-1]])
    ]


def test_a_teacher_is_not_shown_the_answer_it_is_asked_for() -> None:
    """A worked example of the teacher's is left out where it is the question itself."""
    shown: list[tuple[str, tuple[Any, ...]]] = []

    class Watched(SimulatedBench):
        async def run(
            self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
        ) -> list[Outcome]:
            shown.extend((each["text"], tuple(demo["text"] for demo in told(state).demos)) for each in examples)
            return await super().run(state, examples, trial=trial, trace=trace)

    bench = Watched()
    teacher = ProgramState({ONLY: PredictorState(None, tuple(dict(each) for each in bench.train[:3]))})
    asyncio.run(Teacher(bench, DemoOptions(teacher=teacher)).lesson(range(8), 4))
    texts = [each["text"] for each in bench.train[:3]]
    assert dict(shown) == {text: tuple(each for each in texts if each != text) for text, _ in shown}
    assert len(shown) >= 4


def test_bootstrap_fills_up_with_labels_that_are_not_shown_already() -> None:
    """Up to max_demos, each example once."""
    demos = told(optimize(SimulatedBench(seed=3), "bootstrap", max_demos=8, max_bootstrapped=2)).demos
    assert len(demos) == 8
    assert len({demo["text"] for demo in demos}) == 8


def test_random_search_asks_the_teacher_nothing_twice() -> None:
    """However many sets are made, each example is run by the teacher once at most."""
    bench = SimulatedBench()
    result = optimize(bench, "random_search", candidates=12)
    scored = sum(1 for trial in bench.asked if not trial.startswith("teacher"))
    assert bench.calls <= 40 * scored + len(bench.train)
    assert result.provenance["method"] == "random_search"


def test_random_search_begins_with_labels_alone() -> None:
    """Its first candidate needs no teacher."""
    bench = SimulatedBench()
    optimize(bench, "random_search", candidates=1)
    assert bench.asked == ["baseline", "c0"]


def test_equal_candidates_are_scored_once() -> None:
    """With one example to learn from there is only one set of worked examples."""
    bench = SimulatedBench(train=1)
    optimize(bench, "random_search", candidates=8)
    assert [trial for trial in bench.asked if not trial.startswith("teacher")] == ["baseline", "c0"]


def test_a_teacher_may_be_given_as_json() -> None:
    """Options that come from a journal are JSON."""
    teacher = ProgramState({ONLY: PredictorState(PROPOSALS[2], THREE_TOPICS)})
    first, second = SimulatedBench(), SimulatedBench()
    assert optimize(first, "bootstrap", teacher=teacher) == optimize(second, "bootstrap", teacher=teacher.to_dict())
    assert first.calls == second.calls


# -- steps, stops, provenance ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_told_in_order_and_states_only_when_better(method: str) -> None:
    """Step 0 is the program as it is; a state is told with a score above all before."""
    bench = SimulatedBench(seed=1)
    made = optimizer(method)
    result = asyncio.run(made.optimize(bench))
    assert [each.step for each in bench.told] == list(range(len(bench.told)))
    assert len(bench.told) <= (made.steps(bench) or 0)
    scores = [each.score or 0.0 for each in bench.told if each.state is not None]
    assert scores == sorted(set(scores))
    assert bench.told[0].state == bench.base
    assert bench.best == result


def test_a_result_says_where_it_comes_from() -> None:
    """Method, trial, its score on validation and that of the program before."""
    bench = SimulatedBench()
    facts = optimize(bench, "mipro").provenance
    assert (facts["method"], facts["score"]) == ("mipro", 1.0)
    assert facts["trial"] in bench.asked
    assert facts["base_score"] == accuracy(bench.base, bench.validation)


def test_patience_ends_a_search_with_the_best_so_far_told() -> None:
    """The bench stops it; what was best was told before."""
    bench = SimulatedBench(seed=2, patience=2)
    with pytest.raises(RunStopped):
        optimize(bench, "gepa", generations=50)
    assert bench.best is not None
    assert KEYWORD in (told(bench.best).instructions or "")


def test_a_generation_is_worked_on_at_the_same_time() -> None:
    """Its candidates do not wait for each other, so that workers are never idle."""
    bench = SimulatedBench()
    optimize(bench, "random_search", candidates=8, generation=4)
    assert bench.most == 4 * len(bench.validation)


def test_what_a_stopped_generation_has_found_is_told() -> None:
    """The candidates that were ready when it was stopped count, if they are better."""
    bench = SimulatedBench(budget=40 + 3 + 90)
    with pytest.raises(RunStopped, match="budget"):
        optimize(bench, "random_search", candidates=4, generation=4, max_bootstrapped=1, max_demos=4)
    assert [each.step for each in bench.told] == [0, 1]
    assert bench.best is not None
    assert accuracy(bench.best, bench.validation) > accuracy(bench.base, bench.validation)


# -- the prompt model ----------------------------------------------------------------------------------


def test_reflection_shows_what_happened_and_the_feedback() -> None:
    """The prompt model reads inputs, outputs, the score and the metric's words of the parent's own work."""
    bench = SimulatedBench()
    optimize(bench, "gepa", generations=1, generation=1)
    (prompt,) = bench.prompts
    assert CLUE in prompt
    assert "Score: 0 of 1" in prompt
    assert 'The step gave: {"label":' in prompt
    assert "Say whether the text means up or down." in prompt


def test_nobody_reflects_on_what_was_right() -> None:
    """A parent that is perfect on its examples costs nothing of the prompt model."""
    bench = SimulatedBench(base=ProgramState({ONLY: PredictorState(None, THREE_TOPICS)}), answer=lambda _: "Try.")
    optimize(bench, "gepa", generations=5, minibatch=1)
    assert len([trial for trial in bench.asked if trial.endswith("/parent")]) == 20
    assert 0 < len(bench.prompts) < 10


@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_a_prompt_model_that_fails_ends_no_search(method: str) -> None:
    """It goes on without new instructions, and says in the log that all were in vain."""
    bench = SimulatedBench(answer=lambda _: LMServerError("overloaded", provider="p"))
    result = optimize(bench, method, generations=2)
    assert accuracy(result, bench.validation) >= accuracy(bench.base, bench.validation)
    assert told(result).instructions is None


@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_a_prompt_model_that_can_never_answer_ends_it(method: str) -> None:
    """A wrong key is no matter of one proposal: somebody has to know."""
    with pytest.raises(LMAuthError):
        optimize(SimulatedBench(answer=lambda _: LMAuthError("wrong key", provider="p")), method)


def test_useless_proposals_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """If not one could be used, the log says so."""
    optimize(SimulatedBench(answer=lambda _: "``` \n```"), "gepa", generations=1)
    assert "not one of the proposed instructions could be used" in caplog.text


def test_proposals_differ_in_tip_and_examples() -> None:
    """So that a model that always says the same to the same still proposes several."""
    written = iter(range(99))
    bench = SimulatedBench(answer=lambda _: f"Instructions number {next(written)}.")
    optimize(bench, "mipro", proposals=6, generations=1)
    described, *proposed = bench.prompts
    assert len(set(proposed)) == len(proposed) == 6
    assert [trial for trial in bench.asked if trial.startswith("propose/")] == [f"propose/{ONLY}:{n}" for n in range(6)]
    # From the data, described once, and from what went well.
    assert described.startswith("Describe the data")
    assert all("About the data:\nInstructions number 0." in prompt for prompt in proposed)
    assert any("The step has done this well:" in prompt for prompt in proposed)


def test_what_was_proposed_already_is_asked_for_again() -> None:
    """With a word on what there is, until there are enough different ones; not for ever."""

    def answer(prompt: str) -> str:
        return "About moods." if prompt.startswith("Describe") else "First." if "First." not in prompt else "Second."

    bench = SimulatedBench(answer=answer)
    optimize(bench, "mipro", proposals=3, generations=1)
    proposed = bench.prompts[1:]
    assert ["First." in prompt for prompt in proposed] == [False] * 3 + [True] * 3
    assert "none of these" in proposed[3]
    assert "Second." in proposed[5]


def test_a_step_is_told_of_the_others() -> None:
    """Instructions for one step of several are written with all in view."""
    program = {"read": Signature("text -> notes"), "answer": Signature("text, notes -> label")}
    grounds = Grounds(program=program, data=None, examples=dataset(1), demos=(), tip="Be short.", others=())
    prompt = proposal_prompt("answer", None, grounds)
    assert "- `read`: text -> notes\n- `answer`: text, notes -> label" in prompt
    assert "The step is called `answer`." in prompt
    assert "Tip: Be short." in prompt


# -- several predictors ----------------------------------------------------------------------------------


class TwoSteps(SimulatedBench):
    """A program that first writes notes and then answers; it is right where the answering step has instructions."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.predictors = {"read": Signature("text -> notes"), "answer": Signature("text, notes -> label")}
        self.states: list[ProgramState] = []

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """Right by the number of predictors with the word in their instructions, or with demos."""
        self.asked.append(trial)
        self.states.append(state)
        helped = sum(bool(KEYWORD in (each.instructions or "") or each.demos) for each in state.predictors.values())
        return [self._work(index, example, helped, trace) for index, example in enumerate(examples)]

    def _work(self, index: int, example: Example, helped: int, trace: bool) -> Outcome:
        right = index % 3 <= helped
        label = example["label"] if right else "?"
        notes = {"notes": f"notes on {example['text']}"}
        calls = (
            PredictorCall("read", {"text": example["text"]}, notes),
            PredictorCall("answer", {"text": example["text"], **notes}, {"label": label}),
        )
        return Outcome(index, float(right), Prediction({"label": label}), None, CLUE, calls if trace else ())


class TwoHalves(TwoSteps):
    """Each step is enough for one half of the examples; the prompt model is useless after the first generation."""

    def __init__(self, **more: Any) -> None:
        super().__init__(answer=lambda _: f"tide {len(self.prompts)}" if len(self.prompts) < 3 else "", **more)

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """Even ones are right if the reading step has the word, odd ones if the answering step has it."""
        self.asked.append(trial)
        word = {name: KEYWORD in (each.instructions or "") for name, each in state.predictors.items()}
        halves = (word.get("read", False), word.get("answer", False))
        return [Outcome(index, float(halves[int(each["text"].split()[1]) % 2])) for index, each in enumerate(examples)]


def test_each_predictor_gets_its_own_part_of_what_was_right() -> None:
    """A bootstrapped demo has the fields of the predictor that it is for."""
    result = optimize(TwoSteps(), "bootstrap", max_demos=2, max_bootstrapped=2)
    assert [set(demo) for demo in result.predictors["read"].demos] == [{"text", "notes"}] * 2
    assert [set(demo) for demo in result.predictors["answer"].demos] == [{"text", "notes", "label"}] * 2


def test_labels_go_only_to_predictors_that_they_fit() -> None:
    """The examples know no notes: neither step of the program can be shown them."""
    with pytest.raises(ConfigError, match="expected examples with the fields of a predictor"):
        optimize(TwoSteps(), "labeled_few_shot")


def test_gepa_gives_each_predictor_its_turn() -> None:
    """Both get better instructions, one a child."""
    result = optimize(TwoSteps(), "gepa", minibatch=6)
    assert [KEYWORD in (each.instructions or "") for each in result.predictors.values()] == [True, True]


def scored(score: float, **instructions: str) -> Scored:
    """A candidate with these instructions."""
    return Scored(ProgramState({name: PredictorState(text) for name, text in instructions.items()}), "t", (score,))


def test_what_got_better_at_different_steps_is_joined() -> None:
    """A step that only one of two changed is as that one has it; what both changed, as the better has it."""
    base = Member(scored(0.1))
    read = Member(scored(0.4, read="R", both="first"), (0,))
    answer = Member(scored(0.3, answer="A", both="second"), (0,))
    (joined,) = merges([base, read, answer], [1, 2])
    assert joined.parents == (1, 2)
    assert {name: each.instructions for name, each in joined.state.predictors.items()} == {
        "read": "R",
        "answer": "A",
        "both": "first",
    }


def test_nothing_is_joined_with_its_own_line_or_twice() -> None:
    """A descendant has all that its ancestor has; and a joined candidate that exists is not made again."""
    base = Member(scored(0.1))
    read = Member(scored(0.4, read="R"), (0,))
    both = Member(scored(0.5, read="R", answer="A"), (1,))
    answer = Member(scored(0.3, answer="A"), (0,))
    assert merges([base, read, both], [0, 1, 2]) == []
    assert merges([base, read, both, answer], [1, 3]) == []
    assert len(merges([base, read, answer], [0, 1, 2])) == 1


def test_gepa_joins_what_two_lines_learned() -> None:
    """Two children learn a half each, from the program as it was; nobody has to learn both."""
    bench = TwoHalves(train=12, validation=12)
    result = optimize(bench, "gepa", generation=2, generations=2, minibatch=12)
    assert "g2/merge" in bench.asked
    assert result.provenance["trial"] == "g2/merge"
    assert result.provenance["score"] == 1.0
    apart = TwoHalves(train=12, validation=12)
    assert optimize(apart, "gepa", generation=2, generations=2, minibatch=12, merge=False).provenance["score"] < 1.0


def test_mipro_searches_instructions_and_examples_of_all_predictors() -> None:
    """Its choices are those of each predictor."""
    bench = TwoSteps()
    optimize(bench, "mipro")
    assert {trial.split(":")[0] for trial in bench.asked if trial.startswith("propose/")} == {
        "propose/read",
        "propose/answer",
    }
    assert max(len(state.predictors) for state in bench.states) == 2


# -- failures of the program -----------------------------------------------------------------------------


class Failing(SimulatedBench):
    """Every other example fails, and its score is not to be believed."""

    async def run(
        self, state: ProgramState, examples: Sequence[Example], *, trial: str, trace: bool = False
    ) -> list[Outcome]:
        """A failure has an error's code, and no prediction."""
        outcomes = await super().run(state, examples, trial=trial, trace=trace)
        return [
            each if each.index % 2 else Outcome(each.index, 1.0, None, "lm_timeout", "", each.calls)
            for each in outcomes
        ]


def test_failures_score_zero() -> None:
    """They count in the mean."""
    bench = Failing()
    optimize(bench, "labeled_few_shot")
    right = [accuracy(bench.base, [each]) for each in bench.validation[1::2]]
    assert bench.told[0].score == sum(right) / len(bench.validation)


def test_failures_teach_nothing() -> None:
    """Not even at a threshold of 0."""
    bench = Failing()
    lesson = asyncio.run(Teacher(bench, DemoOptions(threshold=0.0)).lesson(range(4), 4))
    assert lesson.used == (1, 3)


def test_gepa_tells_the_prompt_model_of_failures() -> None:
    """Its prompt names the error."""
    bench = Failing()
    optimize(bench, "gepa", generations=1, generation=1)
    assert "The program failed: lm_timeout" in bench.prompts[0]
