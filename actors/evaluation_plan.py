"""What is to be evaluated, and how; and whether that is the same as it was."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..runtime.context import Context
from ..runtime.errors import RunConflict
from .evaluation import check_whole
from .examples import Example
from .lm import canonical_json
from .module_messages import DEFAULT_OPTIONS, ModuleStatus, PredictOptions
from .run_plan import data_hash
from .run_program import source_hash
from .scoring import Scorer

KIND: Final = "evaluation"
"""The kind of such runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """What is to be evaluated, and how.

    Args:
        run_id: id of the evaluation.
        module: id of the module.
        dataset: the examples.
        scorer: the metric.
        workers: examples in work at once; never more than the module works on at once.
        max_errors: failures that are borne; the next one ends the evaluation. None bears all.
        options: of each prediction.
        predict: further fields of each :class:`~.module_messages.Predict`: the ``state`` of a candidate...
        journaled: whether the run has a journal, ``run-journal/<run_id>``: what was paid for is found there again.
        context: the trace it is part of; None begins one.

    Raises:
        ConfigError: a count is out of range.
    """

    run_id: str
    module: str
    dataset: Sequence[Example] = field(repr=False)
    scorer: Scorer
    workers: int = 1
    max_errors: int | None = None
    options: PredictOptions = DEFAULT_OPTIONS
    predict: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    journaled: bool = False
    context: Context | None = None

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)
        if self.max_errors is not None:
            check_whole("max_errors", self.max_errors, 0)


def fingerprint(plan: EvaluationPlan, module: ModuleStatus) -> dict[str, str]:
    """What must be the same for an evaluation to go on: a hash of each part.

    Args:
        plan: what is to be done; its examples are JSON values.
        module: what the module says of itself.
    """
    program = [module.kind, module.signature, module.instructions, module.demos, module.provider, module.adapter]
    metric = plan.scorer.metric
    options = [plan.options.over(module.options), plan.predict]
    return {
        "program": _hash([str(each) for each in (*program, *options)]),
        "data": data_hash(plan.dataset),
        "metric": f"{plan.scorer.name} {source_hash(metric if inspect.isroutine(metric) else type(metric))}",
    }


def check_same(run: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with an evaluation that was begun otherwise.

    Raises:
        RunConflict: with ``differences``: part -> (then, now).
    """
    differences = {part: (then.get(part), now.get(part)) for part in now if then.get(part) != now.get(part)}
    if differences:
        parts = ", ".join(differences)
        raise RunConflict(
            f"expected the evaluation {run!r} as it was begun, got another {parts}; take another run_id",
            run_id=run,
            differences=differences,
        )


def _hash(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()
