"""What an optimization run is to do: checked when it is planned, and JSON enough to begin again in another process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from random import Random
from typing import Any, Final

from ...runtime.errors import ConfigError
from ..evaluation.scoring import Scorer
from ..examples import Example
from ..lm.values import canonical_json
from ..modules.program_state import ProgramState
from ..optimizers.bench import Optimizer
from .budget import RunBudget
from .fingerprint import check_same, code_of
from .program import Program

VERSION: Final = 1
HELD_OUT: Final = 0.5
"""Share of the training examples that is held out for validation if no validation examples are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run is to do.

    Attributes:
        run: its id.
        module: id of the module it optimizes.
        program: what that module is; ``base`` in it is where the run begins.
        optimizer: how it searches.
        options: the optimizer's options, as JSON.
        scorer: how good a prediction is.
        train, validation: the examples.
        seed: of the run's randomness.
        workers: examples run on at once.
        batch: examples of one trial run on at once.
        patience: steps without a better score after which it stops; 0 never stops it.
        max_steps: steps after which it stops in any case; 0 never stops it.
        budget: what it may spend.
        prompt_provider: id of the provider whose model writes instructions.
        prompt_model: which model; None takes the provider's default.
        prompt_models: which one that is, in words.
        judges: which models judge, in words; None if none does.
    """

    run: str
    module: str
    program: Program
    optimizer: Optimizer
    options: Mapping[str, Any]
    scorer: Scorer
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    seed: int
    workers: int
    batch: int
    patience: int
    max_steps: int
    budget: RunBudget
    prompt_provider: str
    prompt_model: str | None
    prompt_models: str
    judges: str | None = None

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must be the same for a run to go on: a word or a hash for each part of its code, data and settings."""
        parts = {
            "module": self.module,
            **self.program.fingerprint,
            "metric": code_of(self.scorer.metric, self.scorer.name),
            "method": self.optimizer.method,
            "options": canonical_json(self.options),
            "seed": str(self.seed),
            "patience": str(self.patience),
            "max_steps": str(self.max_steps),
            "prompt model": self.prompt_models,
            "train": data_hash(self.train),
            "validation": data_hash(self.validation),
        }
        return parts if self.judges is None else parts | {"judge": self.judges}

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "version": VERSION,
            "module": self.module,
            "method": self.optimizer.method,
            "options": dict(self.options),
            "metric": self.scorer.reference,
            "blocking": self.scorer.blocking,
            "train": [example_to_dict(example) for example in self.train],
            "validation": [example_to_dict(example) for example in self.validation],
            "base": self.program.base.to_dict(),
            "seed": self.seed,
            "workers": self.workers,
            "batch": self.batch,
            "patience": self.patience,
            "max_steps": self.max_steps,
            "budget": self.budget.to_dict(),
            "prompt_provider": self.prompt_provider,
            "prompt_model": self.prompt_model,
            "fingerprint": self.fingerprint,
        }

    def begun_with(self, base: ProgramState) -> RunPlan:
        """The same, from another state of the program: a run that goes on begins where it began."""
        return replace(self, program=self.program.with_base(base))

    def check_same(self, stored: Mapping[str, Any]) -> None:
        """Refuse to go on with a run that was planned otherwise.

        Raises:
            RunConflict: with ``differences``: part -> (then, now).
        """
        check_same("run", self.run, stored["fingerprint"], self.fingerprint)


def example_to_dict(example: Example) -> dict[str, Any]:
    """An example as JSON."""
    inputs = sorted(example.inputs()) if example.has_inputs else None
    return {"fields": example.to_dict(), "inputs": inputs}


def example_from_dict(data: Mapping[str, Any]) -> Example:
    """Read what :func:`example_to_dict` wrote."""
    example = Example(data["fields"])
    return example if data["inputs"] is None else example.with_inputs(*data["inputs"])


def data_hash(examples: Iterable[Example]) -> str:
    """SHA-256 of examples in their order."""
    return hashlib.sha256("\n".join(example.key for example in examples).encode("ascii")).hexdigest()


def checked_examples(given: Iterable[Example | Mapping[str, Any]], where: str) -> tuple[Example, ...]:
    """Examples of JSON values.

    Raises:
        ConfigError: one is something else.
    """
    found: list[Example] = []
    if not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _refuse("a list of examples", type(given).__name__, where)
    for index, each in enumerate(given):
        if not isinstance(each, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _refuse("an Example or a mapping", type(each).__name__, f"{where}[{index}]")
        example = each if isinstance(each, Example) else Example(each)
        try:
            _ = example.key
        except (TypeError, ValueError) as error:
            raise _refuse("an example of JSON values", str(error), f"{where}[{index}]") from None
        found.append(example)
    return tuple(found)


def held_out(
    train: tuple[Example, ...], validation: tuple[Example, ...] | None, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training and validation examples; without validation examples half of the training ones, drawn by the seed.

    Raises:
        ConfigError: there are too few.
    """
    if validation is not None:
        if not train or not validation:
            raise _refuse("at least one example each", f"{len(train)} and {len(validation)}", "trainset and valset")
        return train, validation
    if len(train) < 2:
        raise _refuse("at least two examples, or a valset", str(len(train)), "trainset")
    order = list(range(len(train)))
    Random(seed).shuffle(order)
    chosen = set(order[: max(1, int(len(train) * HELD_OUT))])
    return (
        tuple(example for index, example in enumerate(train) if index not in chosen),
        tuple(example for index, example in enumerate(train) if index in chosen),
    )


def options_of(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's options as JSON: its fields."""
    made: object = optimizer
    if not is_dataclass(made) or isinstance(made, type):
        return {}
    options = {each.name: getattr(made, each.name) for each in fields(made) if each.init}
    return {name: value.to_dict() if isinstance(value, ProgramState) else value for name, value in options.items()}


def _refuse(expected: str, got: str, path: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)
