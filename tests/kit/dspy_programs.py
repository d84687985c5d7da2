"""Programs that the tests host, found by their import path."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import dspy


class Checked(dspy.Module):
    """Answers, then checks the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")
        self.check = dspy.Predict("question, answer -> verdict: bool")

    def forward(self, question: str) -> Any:
        answer = self.think(question=question).answer
        verdict = self.check(question=question, answer=answer).verdict
        return dspy.Prediction(answer=answer, verdict=verdict)


class Placed(dspy.Module):
    """Says in which process it runs, and what the model said; ends it if it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        if question == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return dspy.Prediction(answer=f"{os.getpid()} {self.ask(question=question).answer}")


class Clumsy(dspy.Module):
    """Has a defect."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        raise KeyError(question)


def build() -> Any:
    """One predictor."""
    return dspy.Predict("question -> answer")


def with_its_own_lm() -> Any:
    """A predictor that would go around the provider actor."""
    predictor = dspy.Predict("question -> answer")
    predictor.lm = dspy.LM("openai/x", api_key="x", cache=False)
    return predictor


def number() -> int:
    """No module."""
    return 3


class Formatted(dspy.Module):
    """Asks in another form than DSPy's usual one; the form is the word in the question."""

    FORMS: Mapping[str, Any] = {"json": dspy.JSONAdapter, "xml": dspy.XMLAdapter, "chat": dspy.ChatAdapter}

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer, words: int")

    def forward(self, question: str) -> Any:
        with dspy.context(adapter=self.FORMS[question]()):
            return self.ask(question=question)


class Twice(dspy.Module):
    """Asks its predictor twice, and keeps the second answer."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        first = self.ask(question=question).answer
        return self.ask(question=f"{question} Not {first}?")


def best_of_two() -> Any:
    """Asks twice, on copies of its predictor."""
    return dspy.BestOfN(dspy.Predict("question -> answer"), N=2, reward_fn=_no_reward, threshold=1.0)


def _no_reward(given: Any, prediction: Any) -> float:
    return 0.0


def right(example: Any, prediction: Any, trace: Any = None) -> bool:
    """A metric of DSPy's."""
    return bool(example.answer == prediction.answer)


def deadly() -> Any:
    """Ends its process."""
    os._exit(3)
