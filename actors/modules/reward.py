"""What best-of-n and refine choose by: a metric of the inputs and an answer, and what is good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...runtime.errors import ConfigError
from ..evaluation.scoring import Metric, MetricResult, Scorer
from ..examples import Example
from ..foreign_code import guarded
from ..signatures.signature import Signature
from .prediction import Prediction
from .program_state import ONLY

if TYPE_CHECKING:
    from ...runtime.gen_server import GenServer


@dataclass(frozen=True, slots=True)
class Reward:
    """The options that best-of-n and refine share.

    Args:
        metric: says how good an answer is (see ``scoring.py``); its example holds the call's inputs.
        n: answers at most.
        threshold: a score from here on is good enough: no further answer is asked for.

    Raises:
        ConfigError: one of them is malformed.
    """

    metric: Metric = field(hash=False)
    n: int = 3
    threshold: float = 1.0
    _scorer: Scorer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scorer", Scorer(self.metric))
        if type(self.n) is not int or self.n < 1:
            raise _refuse("n", "a whole number from 1", self.n)
        if isinstance(self.threshold, bool) or not 0 <= self.threshold <= 1:
            raise _refuse("threshold", "a number from 0 to 1", self.threshold)

    def signature(self, given: Signature) -> Signature:
        """The declared one."""
        return given

    def predictors(self, given: Signature) -> Mapping[str, Signature]:
        """The only one."""
        return {ONLY: given}

    async def score(self, actor: GenServer, inputs: Mapping[str, Any], prediction: Prediction) -> MetricResult:
        """Score one answer.

        Raises:
            RemoteError: the metric raised what is no error of dspex.
            Error: the metric returned no score, or raised it.
        """
        example = Example(inputs).with_inputs(*inputs)
        return await guarded(f"the metric {self._scorer.name}", self._scorer.score(example, prediction, actor))


def _refuse(path: str, expected: str, got: object) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got!r}, at {path}", path=path, expected=expected, got=got)
