"""Metrics that compare an answer with what the example expects: ``exact_match``, ``contains`` and ``f1``.

Each compares every label of the example that the prediction has, or the one field it was told of. A list of expected
texts means: any of them will do. Of several fields, ``exact_match`` and ``contains`` want all to be right; ``f1`` is
their mean::

    app.evaluate("qa", dataset, metric="exact_match")
    app.evaluate("qa", dataset, metric=ExactMatch(field="answer", normalised=False))
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, cast

from ..evaluation.scoring import MetricResult
from ..examples import Example
from ..modules.prediction import Prediction
from .labels import alternatives, as_text, compared
from .normalise import normalise, tokens


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """1 if the answer is the expected one, else 0.

    Args:
        field: the field to compare; None: every label that the prediction has.
        normalised: whether case, articles, punctuation and spacing are ignored.
    """

    field: str | None = None
    normalised: bool = True

    def __call__(self, example: Example, prediction: Prediction) -> MetricResult:
        """Compare; raises RunError if there is nothing to compare."""
        for name, expected, got in compared(example, prediction, self.field):
            if not any(self._same(one, got) for one in alternatives(expected, got)):
                return _wrong(name, expected, got, "to be")
        return MetricResult(1.0)

    def _same(self, expected: Any, got: Any) -> bool:
        if type(expected) is type(got) and expected == got:
            return True
        if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
            pairs = (cast("list[Any]", expected), cast("list[Any]", got))
            return len(pairs[0]) == len(pairs[1]) and all(map(self._same, *pairs))
        if isinstance(expected, bool) or isinstance(got, bool) or not isinstance(expected, str | int | float):
            return bool(expected == got) or as_text(expected).casefold() == as_text(got).casefold()
        one, other = as_text(expected), as_text(got)
        return normalise(one) == normalise(other) if self.normalised else one == other


@dataclass(frozen=True, slots=True)
class Contains:
    """1 if the expected text stands in the answer, as whole words, else 0.

    Args:
        field: the field to compare; None: every label that the prediction has.
        normalised: whether case, articles, punctuation and spacing are ignored; if not, any part of the text will do.
    """

    field: str | None = None
    normalised: bool = True

    def __call__(self, example: Example, prediction: Prediction) -> MetricResult:
        """Compare; raises RunError if there is nothing to compare."""
        for name, expected, got in compared(example, prediction, self.field):
            if not any(self._within(as_text(one), as_text(got)) for one in alternatives(expected, got)):
                return _wrong(name, expected, got, "to contain")
        return MetricResult(1.0)

    def _within(self, expected: str, got: str) -> bool:
        if not self.normalised:
            return expected in got
        return f" {normalise(expected)} " in f" {normalise(got)} "


@dataclass(frozen=True, slots=True)
class F1:
    """How many words the answer shares with the expected one: the harmonic mean of precision and recall (SQuAD).

    Args:
        field: the field to compare; None: every label that the prediction has.
    """

    field: str | None = None

    def __call__(self, example: Example, prediction: Prediction) -> MetricResult:
        """Compare; raises RunError if there is nothing to compare."""
        scores = [
            max((_overlap(as_text(one), as_text(got)) for one in alternatives(expected, got)), default=0.0)
            for _, expected, got in compared(example, prediction, self.field)
        ]
        return MetricResult(fmean(scores))


def _overlap(expected: str, got: str) -> float:
    wanted, found = tokens(expected), tokens(got)
    if not wanted or not found:
        return float(wanted == found)
    shared = (Counter(wanted) & Counter(found)).total()
    return 2 * shared / (len(wanted) + len(found))


def _wrong(name: str, expected: Any, got: Any, word: str) -> MetricResult:
    return MetricResult(0.0, f"expected {name} {word} {expected!r}, got {got!r}")


exact_match: Final = ExactMatch()
contains: Final = Contains()
f1: Final = F1()
