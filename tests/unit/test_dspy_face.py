"""What is for DSPy can be imported without DSPy, and says what is missing when it is used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

import dspex
from dspex.actors.dspy import library
from dspex.dspy import actor_lm, dspy_run, hosted_spec
from dspex.runtime.errors import ConfigError, StartError
from kit.application import application

MISSING = r"expected dspy 3.4 or 3.5 \(pip install 'dspex\[dspy\]'\), got none"


@pytest.fixture
def without_dspy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DSPy is not installed, whether it is or not."""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(library, "version", absent)
    library.dspy.cache_clear()
    library.lm15.cache_clear()
    yield
    library.dspy.cache_clear()
    library.lm15.cache_clear()


def test_the_import_is_not_dspys() -> None:
    """Who imports what is for DSPy does not wait for DSPy."""
    code = "import sys, dspex.dspy; assert 'dspy' not in sys.modules; print(dspex.dspy.hosted_spec.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=False)
    assert (run.stdout.strip(), run.returncode) == ("hosted_spec", 0), run.stderr


@pytest.mark.parametrize(
    "use",
    [
        lambda app: actor_lm(app, "local"),
        lambda app: dspy_run(app, "r", provider="local").__enter__(),
    ],
    ids=["actor_lm", "dspy_run"],
)
def test_what_needs_it_says_so(without_dspy: None, use: Callable[[dspex.App], Any]) -> None:
    """A typed error names the extra; nothing is begun."""
    with application() as (app, _):
        with pytest.raises(ConfigError, match=MISSING):
            use(app)
        assert app.runs.list() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hosted_module_says_so_when_it_starts(without_dspy: None, workers: int) -> None:
    """Its child spec is made without DSPy, as its program is made where it runs."""
    spec = hosted_spec("qa", "shop.programs:build", provider="local", workers=workers)
    with application() as (app, _), pytest.raises(StartError, match=MISSING) as refused:
        app.start_child(spec)
    assert isinstance(refused.value.__cause__, ConfigError)
