"""The state of a program: what its predictors tell their models. A frozen value with a JSON form."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from ...runtime.errors import ConfigError, LMInvalidRequest, did_you_mean
from ..configuration.types import is_table
from ..lm.values import canonical_json, plain_json
from .state_file import write_whole

VERSION: Final = 1
ONLY: Final = "predict"
"""Name of the predictor of a module that has just one."""


@dataclass(frozen=True, slots=True)
class PredictorState:
    """What one predictor tells its model.

    Args:
        instructions: what the model is to do; None leaves the signature's own.
        demos: worked examples to show: JSON objects of field values.

    Raises:
        ConfigError: the instructions are no text, or a demo is no JSON object.
    """

    instructions: str | None = None
    demos: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        if self.instructions is not None and not _is_text(self.instructions):
            raise _refuse("a text or None", _kind(self.instructions), "instructions")
        demos = [_plain(_table(demo, f"demos[{index}]"), f"demos[{index}]") for index, demo in enumerate(self.demos)]
        object.__setattr__(self, "demos", tuple(demos))


@dataclass(frozen=True, slots=True)
class ProgramState:
    """What each named predictor of a program tells its model, and where that came from.

    Args:
        predictors: by name; one that is not named keeps what it has.
        provenance: JSON: how the state was made (run, method, seed, data hash, scores, cost); empty if by hand.

    Raises:
        ConfigError: a predictor's is no :class:`PredictorState`, or the provenance no JSON object.
    """

    predictors: Mapping[str, PredictorState] = field(default_factory=dict[str, PredictorState], hash=False)
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    _key: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, each in _table(self.predictors, "predictors").items():
            if not isinstance(each, PredictorState):
                raise _refuse("a PredictorState", _kind(each), f"predictors.{name}")
        object.__setattr__(self, "provenance", _plain(_table(self.provenance, "provenance"), "provenance"))

    @property
    def key(self) -> str:
        """SHA-256 of what the predictors tell; the provenance is no part of it."""
        if not self._key:  # a state is asked for it with each example
            text = canonical_json(self.to_dict()["predictors"])
            object.__setattr__(self, "_key", hashlib.sha256(text.encode("ascii")).hexdigest())
        return self._key

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
            ConfigError: it is no such object, or of a newer version; the path says where.
        """
        table = _table(data, "state", ("version", "predictors", "provenance"))
        for key in ("version", "predictors"):
            if key not in table:
                raise _refuse(f"the key {key!r}", "none", "state")
        version = table["version"]
        if type(version) is not int or not 1 <= version <= VERSION:
            raise _refuse(f"a state of version {VERSION} or older", f"version {version!r}"[:40], "state.version")
        return cls(
            {name: _read(each, name) for name, each in _table(table["predictors"], "state.predictors").items()},
            table.get("provenance", {}),
        )

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigError: it is no JSON, or no state.
        """
        return cls.from_dict(_json(text, "the text"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, as JSON: the whole of it, or nothing.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(path, f"{self.to_json()}\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: the file cannot be read.
            ConfigError: it holds no state.
        """
        return cls.from_dict(_json(Path(path).read_bytes(), os.fspath(path)))


def _json(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _refuse("the state of a program as JSON", f"something else ({error})", where) from None


def _read(data: object, name: str) -> PredictorState:
    where = f"state.predictors.{name}"
    table = _table(data, where, ("instructions", "demos"))
    demos: object = table.get("demos", ())
    if not isinstance(demos, list | tuple):
        raise _refuse("a list", _kind(demos), f"{where}.demos")
    try:
        return PredictorState(table.get("instructions"), tuple(demos))  # pyright: ignore[reportUnknownArgumentType]
    except ConfigError as error:
        path = f"{where}.{error.facts['path']}"
        raise _refuse(str(error.facts["expected"]), str(error.facts["got"]), path) from None


def _table(given: object, where: str, known: Collection[str] | None = None) -> Mapping[str, Any]:
    if not is_table(given):
        raise _refuse("a table", type(given).__name__, where)
    for key in given:
        if known is not None and key not in known:
            hint = did_you_mean(str(key), known)
            raise _refuse(f"the keys {', '.join(known)}", f"{key!r}{hint}", where)
    return given


def _plain(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    try:
        plain: Mapping[str, Any] = plain_json(dict(given), where)
    except LMInvalidRequest as error:
        raise _refuse("JSON", f"something else ({error.__cause__})"[:200], where) from error
    return plain


def _is_text(given: object) -> bool:
    # Half of a surrogate pair is none: nothing could write it down.
    return isinstance(given, str) and given.encode("utf-8", "replace").decode() == given


def _kind(given: object) -> str:
    return "text that is no Unicode" if isinstance(given, str) else type(given).__name__


def _refuse(expected: str, got: str, path: str) -> ConfigError:
    return ConfigError(f"expected {expected}, got {got}, at {path}", path=path, expected=expected, got=got)
