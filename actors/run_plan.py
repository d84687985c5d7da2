"""What an optimization run is to do: checked when it is planned, and JSON enough to begin again in another process."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from decimal import Decimal, InvalidOperation
from random import Random
from typing import Any, Final

from ..runtime.errors import ConfigError, RunConflict, did_you_mean
from .examples import Example
from .lm import canonical_json
from .optimizers.bench import Optimizer
from .program_state import ProgramState
from .run_program import Program, source_hash
from .scoring import Scorer

VERSION: Final = 1
HELD_OUT: Final = 0.5
"""Share of the training examples that is held out for validation if no validation examples are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBudget:
    """What a run may spend in all, over every process that works on it. Each part is optional.

    Args:
        calls: model requests.
        tokens: input and output.
        money: US dollars; a request whose price is unknown is refused then.
        seconds: of work.

    Raises:
        ConfigError: a part is no number from 0.
    """

    calls: int | None = None
    tokens: int | None = None
    money: Decimal | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            whole = each.name in ("calls", "tokens")
            object.__setattr__(self, each.name, _amount(each.name, value, whole=whole))

    @classmethod
    def of(cls, given: RunBudget | Mapping[str, Any] | None) -> RunBudget:
        """A budget from a mapping.

        Raises:
            ConfigError: a part is unknown or malformed.
        """
        if isinstance(given, RunBudget):
            return given
        known = [each.name for each in fields(cls)]
        for name in given or {}:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ConfigError(
                    f"expected the parts {', '.join(known)}, got {name!r}{hint}, at budget", path="budget"
                )
        return cls(**(given or {}))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"money": None if self.money is None else str(self.money)}


def _amount(name: str, value: Any, *, whole: bool) -> Any:
    expected = "a whole number from 0" if whole else "a number from 0"
    try:
        if isinstance(value, bool) or (whole and not isinstance(value, int)):
            raise ValueError
        number = Decimal(str(value)) if name == "money" else value
        if not (math.isfinite(number) and number >= 0):
            raise ValueError
    except (ValueError, TypeError, InvalidOperation):
        path = f"budget.{name}"
        raise ConfigError(
            f"expected {expected}, got {value!r}, at {path}", path=path, expected=expected, got=repr(value)
        ) from None
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run is to do.

    Attributes:
        run: its id.
        module: id of the module it optimizes.
        program: what that module is; ``base`` in it is where the run begins.
        optimizer: how it searches.
        options: the optimizer's options, as JSON.
        metric: how good a prediction is, as it was found.
        scorer: the same, ready to score.
        blocking: whether a plain metric function runs on a daemon thread.
        train, validation: the examples.
        seed: of the run's randomness.
        workers: examples run on at once.
        batch: examples of one trial run on at once.
        patience: steps without a better score after which it stops; 0 never stops it.
        max_steps: steps after which it stops in any case; 0 never stops it.
        budget: what it may spend.
        prompt_provider: id of the provider whose model writes instructions.
        prompt_model: which model; None takes the provider's default.
    """

    run: str
    module: str
    program: Program
    optimizer: Optimizer
    options: Mapping[str, Any]
    metric: object
    scorer: Scorer
    blocking: bool
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

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must be the same for a run to go on: a word or a hash for each part of its code, data and settings."""
        return {
            "module": self.module,
            "program": self.program.fingerprint,
            "metric": _code_of(self.metric, self.scorer.name),
            "method": self.optimizer.method,
            "options": canonical_json(self.options),
            "seed": str(self.seed),
            "patience": str(self.patience),
            "max_steps": str(self.max_steps),
            "prompt model": f"{self.prompt_provider}/{self.prompt_model or 'default'}",
            "train": data_hash(self.train),
            "validation": data_hash(self.validation),
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "version": VERSION,
            "module": self.module,
            "method": self.optimizer.method,
            "options": dict(self.options),
            "metric": self.scorer.reference,
            "blocking": self.blocking,
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
        then, now = stored["fingerprint"], self.fingerprint
        differences = {
            part: (then.get(part), now.get(part)) for part in {**then, **now} if then.get(part) != now.get(part)
        }
        if differences:
            shown = "; ".join(
                f"{part}: {_short(old)} then, {_short(new)} now" for part, (old, new) in differences.items()
            )
            raise RunConflict(
                f"expected the run {self.run!r} as it was begun, got another {', '.join(differences)} ({shown}); "
                f"take another run_id, with fork={self.run!r} to use its model answers again",
                run_id=self.run,
                differences=differences,
            )


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


def _code_of(metric: object, name: str) -> str:
    told = f" {metric!r}" if is_dataclass(metric) else ""
    return f"{name}{told} {source_hash(metric if inspect.isroutine(metric) else type(metric))}".strip()


def _short(text: object) -> str:
    shown = str(text)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _refuse(expected: str, got: str, path: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)
