"""The page for those who come from DSPy names everything that DSPy has; the example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "dspy.md"
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


@pytest.mark.timeout(120)
def test_the_example_runs() -> None:
    """With DSPy there, all of it does what it says."""
    example = ROOT / "examples" / "hosted_dspy.py"
    found = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=100, check=False)
    assert found.returncode == 0, found.stderr
    for said in (
        "answer: Madrid",
        "4 demos, 0 requests",
        "budget_exhausted: 2 evaluations",
        "completed: 5 evaluations",
    ):
        assert said in found.stdout
