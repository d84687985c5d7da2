"""Programs that the tests host, found by their import path."""

from __future__ import annotations

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
