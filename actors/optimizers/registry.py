"""The optimizers by their words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from ...runtime.errors import did_you_mean
from .bench import Optimizer
from .bootstrap_few_shot import BootstrapFewShot
from .gepa import Gepa
from .labeled_few_shot import LabeledFewShot
from .mipro import Mipro
from .option_checks import refuse
from .random_search import RandomSearch

_METHODS: Final[Mapping[str, type[LabeledFewShot | BootstrapFewShot | RandomSearch | Mipro | Gepa]]] = {
    "labeled_few_shot": LabeledFewShot,
    "bootstrap": BootstrapFewShot,
    "random_search": RandomSearch,
    "mipro": Mipro,
    "gepa": Gepa,
}
_DSPY_NAMES: Final = {
    "k": "max_demos",
    "max_labeled_demos": "max_demos",
    "max_bootstrapped_demos": "max_bootstrapped",
    "metric_threshold": "threshold",
    "num_candidate_programs": "candidates",
    "num_candidates": "proposals and demo_sets",
    "num_trials": "generations, of so many combinations as generation says",
    "minibatch_size": "minibatch",
    "reflection_minibatch_size": "minibatch",
    "init_temperature": "temperature",
    "use_merge": "merge",
    "max_metric_calls": "the run's budget",
    "num_threads": "the run's workers",
}
METHODS: Final = tuple(_METHODS)
"""What :func:`optimizer` takes."""


def optimizer(method: str, **options: Any) -> Optimizer:
    """An optimizer by its word, with its options checked.

    Args:
        method: ``labeled_few_shot``, ``bootstrap``, ``random_search``, ``mipro`` or ``gepa``.
        **options: fields of its class.

    Raises:
        ConfigError: the method or an option is unknown, an option is out of range, or an extra is not installed.
    """
    kind = _METHODS.get(method)
    if kind is None:
        refuse("method", f"one of {', '.join(METHODS)}", method, did_you_mean(str(method), METHODS))
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            expected = f"an option of {method}: {', '.join(known)}"
            hint = f"; what DSPy calls so is {_DSPY_NAMES[name]}" if name in _DSPY_NAMES else did_you_mean(name, known)
            refuse("options", expected, name, hint)
    return kind(**options)
