"""Where the result of a run comes from: enough to make it again, and to see whether that was the same."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ...runtime.version import __version__
from .messages import Outcome, Paid
from .plan import RunPlan, data_hash

_PACKAGES: Final = ("optuna",)
"""Other packages that have a part in what is found."""


def provenance_of(
    plan: RunPlan, *, outcome: Outcome, score: float | None, base_score: float | None, paid: Paid
) -> dict[str, Any]:
    """The provenance of a result, as JSON.

    Args:
        plan: what was done.
        outcome: how it ended.
        score: of the best state, on validation.
        base_score: of the program as it was.
        paid: what all of it cost.
    """
    return {
        "run": plan.run,
        "module": plan.module,
        "program": dict(plan.program.fingerprint),
        "method": plan.optimizer.method,
        "options": dict(plan.options),
        "metric": plan.scorer.name,
        "prompt_model": plan.prompt_models,
        "seed": plan.seed,
        "outcome": outcome,
        "score": score,
        "base_score": base_score,
        "data": {
            "train": {"examples": len(plan.train), "hash": data_hash(plan.train)},
            "validation": {"examples": len(plan.validation), "hash": data_hash(plan.validation)},
        },
        "paid": paid.to_dict(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Our version, Python's, and those of the packages that have a part in it, as far as they are installed."""
    found = {"dspex": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an extra
    return found
