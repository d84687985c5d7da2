"""The state of a program: what its predictors tell their models. A frozen value with a JSON form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ..runtime.errors import ConfigError
from .lm import canonical_json, plain_json

VERSION: Final = 1
ONLY: Final = "predict"
"""Name of the predictor of a module that has just one."""


@dataclass(frozen=True, slots=True)
class PredictorState:
    """What one predictor tells its model.

    Args:
        instructions: what the model is to do; None leaves the signature's own.
        demos: worked examples to show: JSON objects of field values.
    """

    instructions: str | None = None
    demos: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "demos", tuple(plain_json(dict(demo), "demos") for demo in self.demos))


@dataclass(frozen=True, slots=True)
class ProgramState:
    """What each named predictor of a program tells its model, and where that came from.

    Args:
        predictors: by name; one that is not named keeps what it has.
        provenance: JSON: how the state was made (run, method, seed, data hash, scores, cost); empty if by hand.
    """

    predictors: Mapping[str, PredictorState] = field(default_factory=dict[str, PredictorState], hash=False)
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    @property
    def key(self) -> str:
        """SHA-256 of what the predictors tell; the provenance is no part of it."""
        return hashlib.sha256(canonical_json(self.to_dict()["predictors"]).encode("ascii")).hexdigest()

    def with_predictor(self, name: str, state: PredictorState) -> Self:
        """The same with another state of one predictor."""
        return type(self)({**self.predictors, name: state}, self.provenance)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        predictors = {
            name: {"instructions": each.instructions, "demos": [dict(demo) for demo in each.demos]}
            for name, each in self.predictors.items()
        }
        return {"version": VERSION, "predictors": predictors, "provenance": dict(self.provenance)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: it is no such object, or of a newer version.
        """
        try:
            if data["version"] > VERSION:
                raise _refuse(f"a state of version {VERSION} or older", f"version {data['version']}", "version")
            predictors = {
                name: PredictorState(each.get("instructions"), tuple(each.get("demos", ())))
                for name, each in data["predictors"].items()
            }
            return cls(predictors, plain_json(data.get("provenance", {}), "provenance"))
        except (KeyError, TypeError, AttributeError) as error:
            raise _refuse("the state of a program", f"something else ({error})", "state") from None


def _refuse(expected: str, got: str, path: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)
