"""Metrics: found by function, path, word or actor; checked before anything is spent; their scores too."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.evaluation.scoring import (
    ActorMetric,
    MetricResult,
    Score,
    Scorer,
    find_metric,
    read_score,
    reference_of,
)
from dspex.actors.examples import Example
from dspex.actors.modules.prediction import Prediction
from dspex.actors.scorers.texts import ExactMatch, exact_match
from dspex.runtime.errors import ConfigError, RunError
from dspex.runtime.gen_server import GenServer, call
from dspex.runtime.testing import VirtualSystem

EXAMPLE = Example(question="?", answer="Oslo").with_inputs("question")
RIGHT, WRONG = Prediction({"answer": "Oslo"}), Prediction({"answer": "Rome"})


def same(example: Example, prediction: Prediction) -> bool:
    """A metric of a user."""
    return bool(example.answer == prediction.answer)


class Nested:
    """Holds a metric."""

    @staticmethod
    def half(example: Example, prediction: Prediction, trace: object = None) -> float:
        return 0.5


class Here:
    """A host without actors."""

    async def run_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args), threading.current_thread()

    async def call(self, target: str, message: Any, *, timeout: float | None = None) -> Any:
        assert isinstance(message, Score)
        return target, message.example, message.prediction, timeout


def scored(metric: Any, prediction: Prediction = RIGHT, **options: Any) -> MetricResult:
    """What a metric says of a prediction, inside an engine."""
    with VirtualSystem() as system:

        class Scoring(GenServer):
            @call
            async def score(self, msg: Score) -> MetricResult:
                return await Scorer(metric, **options).score(msg.example, msg.prediction, self)

        system.spawn(Scoring, name="test/scoring")
        result: MetricResult = system.call("test/scoring", Score(EXAMPLE, prediction))
        return result


@pytest.mark.parametrize(
    ("returned", "score", "feedback"),
    [
        (True, 1.0, ""),
        (False, 0.0, ""),
        (0.25, 0.25, ""),
        (1, 1.0, ""),
        (Decimal("0.5"), 0.5, ""),
        ((0.5, "so"), 0.5, "so"),
    ],
)
def test_what_a_function_may_return(returned: Any, score: float, feedback: str) -> None:
    """A truth value, a number, or a score with feedback; a MetricResult too."""
    assert scored(lambda example, prediction: returned) == MetricResult(score, feedback)
    assert scored(lambda example, prediction: MetricResult(score, feedback)) == MetricResult(score, feedback)


@pytest.mark.parametrize("returned", [None, "1", 1.5, -0.1, float("nan"), float("inf"), 10**400, (1,), (0.5, 7), [0.5]])
def test_what_is_no_score_is_refused(returned: Any) -> None:
    """Neither a number from 0 to 1, nor one with feedback: the error names the metric, and no private value."""
    with pytest.raises(RunError, match="from the metric mine") as caught:
        read_score(returned, "mine")
    assert caught.value.metric == "mine"


def test_an_async_metric_is_awaited() -> None:
    """A coroutine function is a metric like any other."""

    async def metric(example: Example, prediction: Prediction) -> float:
        return 0.75

    assert scored(metric).score == 0.75


def test_a_blocking_metric_runs_on_a_thread_of_its_own() -> None:
    """It is given to ``run_blocking`` and not called in place."""
    called: list[tuple[Any, ...]] = []

    class Host(Here):
        async def run_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
            called.append(args)
            return function(*args)

    work = Scorer(same, blocking=True).score(EXAMPLE, RIGHT, Host())
    with pytest.raises(StopIteration) as done:
        work.send(None)
    assert (called, done.value.value) == ([(EXAMPLE, RIGHT)], MetricResult(1.0))


def test_an_actor_is_a_metric_by_its_name() -> None:
    """It is asked for the score of an example and a prediction."""
    with VirtualSystem() as system:

        class Mine(GenServer):
            @call
            def score(self, msg: Score) -> tuple[float, str]:
                return 0.5, f"{msg.prediction.answer} for {msg.example.answer}"

        class Asking(GenServer):
            @call
            async def score(self, msg: Score) -> MetricResult:
                return await Scorer("metric/mine").score(msg.example, msg.prediction, self)

        system.spawn(Mine, name="metric/mine")
        system.spawn(Asking, name="test/asking")
        assert system.call("test/asking", Score(EXAMPLE, WRONG)) == MetricResult(0.5, "Rome for Oslo")


class Bare:
    """A metric that says nothing of itself: its place in memory is no name, another process has another one."""

    def __call__(self, example: Example, prediction: Prediction) -> float:
        return 1.0


def test_a_metric_is_found_again_by_its_reference() -> None:
    """Words, import paths and names of actors lead back to the metric; what has no place in a module has none."""
    assert reference_of(same) == f"{__name__}:same"
    assert find_metric(f"{__name__}:same") is same
    assert reference_of(Nested.half) == f"{__name__}:Nested.half"
    assert find_metric(f"{__name__}:Nested.half") is Nested.half
    assert reference_of(exact_match) == reference_of(ExactMatch()) == "exact_match"
    assert find_metric("exact_match") is exact_match
    assert reference_of(ActorMetric("metric/mine")) == "metric/mine"
    assert reference_of(ExactMatch(normalised=False)) is None
    assert reference_of(lambda example, prediction: 1) is None
    assert reference_of(functools.partial(same)) is None
    assert Scorer("f1").name == "f1"
    assert Scorer(functools.partial(same)).name == "partial(same)"
    assert Scorer(Bare()).name == "Bare"
    assert Scorer(ExactMatch(field="answer")).name == "ExactMatch(field='answer', normalised=True)"


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("exact_mach", "did you mean 'exact_match'?"),
        ("nowhere.at_all:f", "that can be imported"),
        (":f", "that can be imported"),
        (f"{__name__}:sane", "did you mean 'same'?"),
        (f"{__name__}:EXAMPLE", "got Example"),
        (lambda example: 1, "takes 1|too many positional"),
        (lambda: 1, "too many positional"),
        (7, "got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_metric_is_refused_at_once(metric: Any, words: str) -> None:
    """Before anything is predicted, with what was expected."""
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")) as caught:
        Scorer(metric)
    assert caught.value.path == "metric"


def test_a_third_optional_argument_does_no_harm() -> None:
    """Metrics written for DSPy take a trace too."""
    assert scored(Nested.half).score == 0.5
