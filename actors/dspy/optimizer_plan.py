"""What a DSPy optimizer is to do in a process of its own: everything by import path or as JSON. No DSPy in here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from ...runtime.errors import ConfigError
from ..examples import Example
from ..lm.values import canonical_json, plain_json
from ..runs.budget import RunBudget
from ..runs.fingerprint import check_same
from ..runs.plan import checked_examples, data_hash, example_from_dict, example_to_dict

_DSPY: Final = "dspy:"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerPlan:
    """What to do.

    Attributes:
        run: the run's id.
        factory: import path of what makes the ``dspy.Module``.
        optimizer: import path of the optimizer's class.
        options: its arguments, and those of its ``compile``.
        metric: import path of the metric; None for optimizers without one.
        provider: id of the provider or route that model calls go to.
        model: which model to ask; None takes the provider's default.
        lm: further options of the ``dspy.LM``.
        train: what ``trainset`` gets.
        validation: what ``valset`` gets; None gives none.
        seed: of the process's randomness, and of the optimizer's if it takes one.
        budget: what it may spend.
    """

    run: str
    factory: str
    optimizer: str
    options: Mapping[str, Any]
    metric: str | None
    provider: str
    model: str | None
    lm: Mapping[str, Any]
    train: tuple[Example, ...]
    validation: tuple[Example, ...] | None
    seed: int
    budget: RunBudget

    def __post_init__(self) -> None:
        if ":" not in self.optimizer:
            object.__setattr__(self, "optimizer", f"{_DSPY}{self.optimizer.removeprefix('dspy.')}")
        for name in ("options", "lm"):
            object.__setattr__(self, name, plain_json(dict(getattr(self, name)), name))

    @property
    def method(self) -> str:
        """What reports call the optimizer."""
        return self.optimizer.replace(":", ".")

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must be the same for a run to go on."""
        plain = ("factory", "optimizer", "metric", "provider", "model", "seed")
        parts = {name: str(getattr(self, name)) for name in plain}
        parts |= {name: canonical_json(getattr(self, name)) for name in ("options", "lm")}
        validation = "none" if self.validation is None else data_hash(self.validation)
        return parts | {"trainset": data_hash(self.train), "valset": validation}

    @property
    def key(self) -> str:
        """SHA-256 of all that."""
        return hashlib.sha256(canonical_json(self.fingerprint).encode("ascii")).hexdigest()

    def check_same(self, stored: Mapping[str, Any]) -> None:
        """Refuse to go on with a run that was planned otherwise.

        Raises:
            RunConflict: with ``differences``: part -> (then, now).
        """
        check_same("run", self.run, stored.get("fingerprint", {}), self.fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        validation = None if self.validation is None else [example_to_dict(each) for each in self.validation]
        told = asdict(replace(self, train=(), validation=None))
        return told | {
            "train": [example_to_dict(each) for each in self.train],
            "validation": validation or [],
            "has_validation": validation is not None,
            "budget": self.budget.to_dict(),
            "module": self.factory,
            "method": self.method,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        others = ("train", "validation", "budget")
        told = {name: data[name] for name in cls.__dataclass_fields__ if name not in others}
        validation = tuple(map(example_from_dict, data["validation"])) if data["has_validation"] else None
        train, budget = tuple(map(example_from_dict, data["train"])), RunBudget.of(data["budget"])
        return cls(train=train, validation=validation, budget=budget, **told)


def examples_of(given: Iterable[Any], where: str) -> tuple[Example, ...]:
    """Examples of ours, mappings, or ``dspy.Example``.

    Raises:
        ConfigError: one is something else, or holds what is not JSON.
    """
    return checked_examples((_example(each, f"{where}[{at}]") for at, each in enumerate(given)), where)


def _example(given: Any, where: str) -> Any:
    if isinstance(given, Mapping) or not hasattr(given, "toDict"):
        return given  # pyright: ignore[reportUnknownVariableType] - it is checked where it is used
    try:
        inputs = tuple(given.inputs().keys())
    except ValueError as error:  # of DSPy: nobody said which fields are inputs
        expected = "an example that says its inputs, .with_inputs(...)"
        raise ConfigError(f"expected {expected}, got one that does not, at {where}", path=where) from error
    return Example(given.toDict()).with_inputs(*inputs)
