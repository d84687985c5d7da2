"""Worked examples to show: taken from labels, or from what a teacher got right (bootstrapped)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from pydantic_core import to_jsonable_python

from ...runtime.errors import ConfigError
from ..examples import Example
from ..modules.program_state import PredictorState, ProgramState
from ..signatures.signature import Signature
from .bench import Bench, Outcome
from .option_checks import check_number, check_whole, refuse

Demo: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How worked examples are made.

    Args:
        max_demos: worked examples a predictor shows at most; what is not bootstrapped is taken from labels.
        max_bootstrapped: of these, how many come from the teacher at most.
        threshold: the least score of a teacher's answer that becomes a worked example.
        teacher: the state in which the program teaches; None: the one it has. Its JSON form is taken too.

    Raises:
        ConfigError: an option is out of range.
    """

    max_demos: int = 4
    max_bootstrapped: int = 4
    threshold: float = 1.0
    teacher: ProgramState | None = None

    def __post_init__(self) -> None:
        check_whole("max_demos", self.max_demos, 1)
        check_whole("max_bootstrapped", self.max_bootstrapped, 1)
        check_number("threshold", self.threshold, 1.0)
        if self.max_bootstrapped > self.max_demos:
            refuse("max_bootstrapped", f"at most max_demos, which is {self.max_demos}", self.max_bootstrapped)
        teacher: object = self.teacher
        if isinstance(teacher, Mapping):
            object.__setattr__(self, "teacher", ProgramState.from_dict(cast("Demo", teacher)))
        elif not isinstance(teacher, ProgramState | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            refuse("teacher", "the state of a program", teacher)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher gave.

    Attributes:
        used: indexes of the examples that it got right.
        demos: the worked examples, for each predictor.
    """

    used: tuple[int, ...]
    demos: Mapping[str, tuple[Demo, ...]]


class Teacher:
    """Runs the program on examples to learn from, keeps what it got right, and asks nothing twice.

    Args:
        bench: what it works with.
        options: how much, how good, and in which state.
    """

    def __init__(self, bench: Bench, options: DemoOptions) -> None:
        self._bench = bench
        self._state = options.teacher or bench.base
        self._threshold = options.threshold
        self._outcomes: dict[int, Outcome] = {}
        self._rounds = 0

    async def lesson(self, order: Sequence[int], wanted: int) -> Lesson:
        """Ask for examples in this order until ``wanted`` were right; never for more than are still missing.

        Raises:
            RunStopped: the bench wants no more.
        """
        right: list[int] = []
        position = 0
        while len(right) < wanted and position < len(order):
            asked = order[position : position + wanted - len(right)]
            await self._ask(asked)
            right += [index for index in asked if self._is_right(index)]
            position += len(asked)
        return Lesson(tuple(right), {name: self._demos(name, right) for name in self._bench.predictors})

    async def _ask(self, indexes: Sequence[int]) -> None:
        new = [index for index in indexes if index not in self._outcomes]
        if not new:
            return
        groups: dict[str, tuple[ProgramState, list[int]]] = {}
        for index in new:
            state = _unaided(self._state, self._bench.train[index])
            groups.setdefault(state.key, (state, []))[1].append(index)
        for state, members in groups.values():
            examples = [self._bench.train[index] for index in members]
            outcomes = await self._bench.run(state, examples, trial=f"teacher/{self._rounds}", trace=True)
            self._rounds += 1
            self._outcomes.update(zip(members, outcomes, strict=True))

    def _is_right(self, index: int) -> bool:
        outcome = self._outcomes[index]
        return outcome.error is None and outcome.score >= self._threshold

    def _demos(self, predictor: str, indexes: Sequence[int]) -> tuple[Demo, ...]:
        found: list[Demo] = []
        for index in indexes:
            calls = [call for call in self._outcomes[index].calls if call.predictor == predictor]
            if calls:  # the last is the one that led to the answer
                found.append({**plain(calls[-1].inputs), **plain(calls[-1].outputs)})
        return tuple(found)


def _unaided(state: ProgramState, example: Example) -> ProgramState:
    """The state without worked examples that give the example's answer away."""
    inputs = plain(example.inputs()) if example.has_inputs else {}
    for name, each in state.predictors.items():
        demos = tuple(demo for demo in each.demos if not inputs or not inputs.items() <= demo.items())
        if len(demos) < len(each.demos):
            state = state.with_predictor(name, replace(each, demos=demos))
    return state


NO_LESSON = Lesson((), {})


def with_demos(bench: Bench, lesson: Lesson, order: Sequence[int], max_demos: int) -> ProgramState:
    """The base with the lesson's worked examples, and labelled ones, in this order, up to ``max_demos``."""
    rest = [bench.train[index] for index in order if index not in lesson.used]
    state = bench.base
    for name, signature in bench.predictors.items():
        taught = lesson.demos.get(name, ())[:max_demos]
        demos = (*taught, *labeled_demos(signature, rest, max_demos - len(taught)))
        if demos:
            state = state.with_predictor(name, replace(predictor_state(bench.base, name), demos=demos))
    return state


def labeled_demos(signature: Signature, examples: Sequence[Example], most: int) -> tuple[Demo, ...]:
    """The first ``most`` examples that have all inputs of the signature and one output at least, as worked examples."""
    found: list[Demo] = []
    for example in examples:
        if len(found) >= most:
            break
        demo = {name: example[name] for name in signature.fields if name in example}
        if all(name in demo for name in signature.input_names) and any(name in demo for name in signature.output_names):
            found.append(plain(demo))
    return tuple(found)


def check_labels(bench: Bench) -> None:
    """Some predictor can be shown labelled examples.

    Raises:
        ConfigError: none has its inputs and outputs among the examples' fields.
    """
    if not any(labeled_demos(signature, bench.train, 1) for signature in bench.predictors.values()):
        signatures = "; ".join(f"{name}: {signature}" for name, signature in bench.predictors.items())
        got = ", ".join(bench.train[0])
        raise ConfigError(
            f"expected examples with the fields of a predictor ({signatures}), got {got}, at train",
            path="train",
            expected=signatures,
            got=got,
        )


def predictor_state(state: ProgramState, name: str) -> PredictorState:
    """What a predictor has in this state."""
    return state.predictors.get(name) or PredictorState()


def shuffled(bench: Bench) -> list[int]:
    """The indexes of the examples to learn from, in an order drawn by the run."""
    order = list(range(len(bench.train)))
    bench.rng.shuffle(order)
    return order


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as JSON values."""
    return {name: to_jsonable_python(value, fallback=str) for name, value in fields.items()}
