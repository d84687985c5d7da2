"""The page for those who come from DSPy names everything that DSPy has."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dspy.md"
MODULES = ("dspy", "dspy.teleprompt", "dspy.evaluate", "dspy.adapters", "dspy.predict", "dspy.retrievers")
EXPERIMENTAL = ("dspy.streaming", "dspy.experimental")


def names(module: str) -> list[str]:
    """The public names of a module of DSPy's, without the modules in it."""
    found = import_module(module)
    public = [name for name in getattr(found, "__all__", dir(found)) if not name.startswith("_")]
    return [name for name in public if not isinstance(getattr(found, name), ModuleType)]


@pytest.mark.parametrize("module", [*MODULES, *EXPERIMENTAL])
def test_every_name_of_dspys_has_its_row(module: str) -> None:
    """What maps to what, and what is missing, is said of every public class and function."""
    text = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    said = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
    assert set(names(module)) - said == set()
