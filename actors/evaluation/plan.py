"""What is to be evaluated, and how: checked when it is planned, and JSON enough to go on in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ...runtime.context import Context
from ...runtime.errors import RunError
from ..examples import Example
from ..lm.values import canonical_json
from ..modules.messages import DEFAULT_OPTIONS, PredictOptions
from ..runs.fingerprint import code_of
from ..runs.plan import data_hash, example_to_dict
from ..runs.program import Program
from .scoring import Scorer
from .work import check_whole

KIND: Final = "evaluation"
"""The kind of such runs."""
VERSION: Final = 1


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
        journaled: whether the run has a journal, ``run-journal/<run_id>``: what was paid for is found there again.
        context: the trace it is part of; None begins one.

    Raises:
        ConfigError: a count is out of range.
    """

    run_id: str
    module: str
    dataset: tuple[Example, ...] = field(repr=False)
    scorer: Scorer
    workers: int = 1
    max_errors: int | None = None
    options: PredictOptions = DEFAULT_OPTIONS
    journaled: bool = False
    context: Context | None = None

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)
        if self.max_errors is not None:
            check_whole("max_errors", self.max_errors, 0)

    def fingerprint(self, program: Program, judges: str | None) -> dict[str, str]:
        """What must be the same for an evaluation to go on: a word or a hash for each part of it.

        Args:
            program: what the module is now, its state included.
            judges: which models judge, if any do.
        """
        options = {name: value for name, value in asdict(self.options).items() if value is not None}
        parts = {
            "module": self.module,
            **program.fingerprint,
            "state": program.base.key,
            "options of calls": canonical_json(options),
            "metric": code_of(self.scorer.metric, self.scorer.name),
            "data": data_hash(self.dataset),
        }
        return parts if judges is None else parts | {"judge": judges}

    def to_dict(self, program: Program, judges: str | None = None) -> dict[str, Any]:
        """As JSON: what another process needs to go on, and to know whether it may.

        Args:
            program: what the module is now.
            judges: which models judge, if any do.
        """
        return {
            "version": VERSION,
            "module": self.module,
            "method": KIND,
            "metric": self.scorer.reference,
            "metric_name": self.scorer.name,
            "blocking": self.scorer.blocking,
            "dataset": [example_to_dict(example) for example in self.dataset],
            "inputs": list(program.inputs),
            "workers": self.workers,
            "max_errors": self.max_errors,
            "options": asdict(self.options),
            "user": None if self.context is None else self.context.user,
            "fingerprint": self.fingerprint(program, judges),
        }


def metric_of(run: str, plan: Mapping[str, Any]) -> Scorer:
    """The metric of an evaluation that another process began.

    Args:
        run: its id.
        plan: what :meth:`EvaluationPlan.to_dict` wrote.

    Raises:
        RunError: it has no name by which it can be found.
        ConfigError: it is not there any more.
    """
    if plan["metric"] is None:
        raise RunError(
            f"expected a metric that can be found by its name, got {plan['metric_name']!r} of the program's own, "
            f"at {run}; go on from there: app.evaluate(..., run_id={run!r})",
            run_id=run,
        )
    return Scorer(plan["metric"], blocking=plan["blocking"])
