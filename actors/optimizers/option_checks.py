"""Checks of optimizers' options and data: what does not fit is refused before anything is spent."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from ...runtime.errors import ConfigError
from .bench import Bench


def check_whole(name: str, value: Any, least: int) -> None:
    """A whole number from ``least``.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        refuse(name, f"a whole number from {least}", value)


def check_number(name: str, value: Any, most: float) -> None:
    """A number from 0 to ``most``.

    Raises:
        ConfigError: it is none.
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= most:
        refuse(name, f"a number from 0 to {most:g}", value)


def check_flag(name: str, value: Any) -> None:
    """True or false.

    Raises:
        ConfigError: it is neither.
    """
    if not isinstance(value, bool):
        refuse(name, "true or false", value)


def check_data(bench: Bench) -> None:
    """There is something to learn from, something to choose by, and something to change.

    Raises:
        ConfigError: one of them is empty.
    """
    if not bench.predictors:
        refuse("program", "a program with a predictor", 0)
    if not bench.train:
        refuse("train", "examples to learn from", 0)
    if not bench.validation:
        refuse("validation", "examples to choose by, held out from those to learn from", 0)


def refuse(path: str, expected: str, got: Any, hint: str = "") -> NoReturn:
    """Raise the ConfigError of an option."""
    message = f"expected {expected}, got {got!r}, at {path}{hint}"
    raise ConfigError(message, path=path, expected=expected, got=got)
