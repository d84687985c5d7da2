"""DSPy itself, imported when it is first used: the rest of dspex works without it, and starts without its import."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ...runtime.errors import ConfigError

VERSIONS: Final = ("3.4", "3.5")
"""Versions whose engine contract this is."""
_EXTRA: Final = "pip install 'dspex[dspy]'"


@cache
def dspy() -> Any:
    """DSPy.

    Raises:
        ConfigError: it is not installed, or of a version that has another engine contract.
    """
    expected = f"dspy {' or '.join(VERSIONS)} ({_EXTRA})"
    try:
        found = version("dspy")
    except PackageNotFoundError:
        raise ConfigError(f"expected {expected}, got none", path="dspy", expected=expected, got=None) from None
    if ".".join(found.split(".")[:2]) not in VERSIONS:
        raise ConfigError(f"expected {expected}, got {found}", path="dspy", expected=expected, got=found)
    return import_module("dspy")


@cache
def lm15() -> Any:
    """The types that DSPy's engines speak: requests, responses, events and errors. Raises as :func:`dspy`."""
    dspy()
    return import_module("dspy.lm15")
