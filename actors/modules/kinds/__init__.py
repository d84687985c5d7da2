"""Implementations of the port of module kinds, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

from ....runtime.errors import ConfigError, did_you_mean
from ..kind import ModuleKind
from .best_of_n import BestOfN
from .chain_of_thought import ChainOfThoughtKind
from .predict import PredictKind
from .program import ProgramKind
from .react import ReAct
from .refine import Refine

KINDS: Final[Mapping[str, type[ModuleKind]]] = {
    "predict": PredictKind,
    "chain_of_thought": ChainOfThoughtKind,
    "best_of_n": BestOfN,
    "refine": Refine,
    "react": ReAct,
    "program": ProgramKind,
}


def options_of(kind: str) -> tuple[str, ...]:
    """Names of the options that a kind takes.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        known = ", ".join(KINDS)
        hint = did_you_mean(str(kind), KINDS)
        message = f"expected one of the kinds {known}, got {kind!r}{hint}, at kind"
        raise ConfigError(message, path="kind", expected=known, got=kind)
    return tuple(each.name for each in fields(KINDS[kind]) if each.init)  # type: ignore[arg-type]  # all are dataclasses


OPTIONS: Final[tuple[str, ...]] = tuple(dict.fromkeys(name for kind in KINDS for name in options_of(kind)))
"""The options of all kinds."""


def make_kind(kind: str, options: Mapping[str, Any]) -> ModuleKind:
    """The kind of that name, with its options.

    Raises:
        ConfigError: there is none, an option is missing, or it is malformed.
    """
    options_of(kind)
    for each in fields(KINDS[kind]):  # type: ignore[arg-type]  # as above
        if each.init and each.default is MISSING and each.name not in options:
            message = f"expected the option {each.name} of the kind {kind}, got nothing, at {each.name}"
            raise ConfigError(message, path=each.name, expected=f"the option {each.name}", got=None)
    return KINDS[kind](**options)
