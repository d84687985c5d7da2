"""What tests/conftest.py promises to every test run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from dspex.actors.journals.sqlite_file import default_path

TESTS = Path(__file__).resolve().parents[1]

# Each test of this file leaves garbage whose finalizer parses, and fails where pytest shows a long source.
FAILING = """
import ast
import pytest

class Parses:
    def __init__(self):
        self.me = self

    def __del__(self):
        ast.parse("x + y")

@pytest.mark.parametrize("n", range(30))
def test_fails(n):
    for _ in range(400):
        Parses()
    assert n < 0
"""


def test_a_failing_test_is_one_failure_and_not_the_end_of_the_run(tmp_path: Path) -> None:
    """Garbage whose finalizer parses source does not disturb the reports of failing tests."""
    shutil.copy(TESTS / "conftest.py", tmp_path)
    padding = "\n".join(f"def padding_{n}(a, b): return [a + b, {{a: (b, {n})}}]" for n in range(500))
    (tmp_path / "test_it.py").write_text(FAILING + padding, "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout
    assert "30 failed" in run.stdout


def test_no_test_writes_to_the_users_state_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The default event log lies in a temporary folder while tests run, also for the processes they start."""
    assert tmp_path_factory.getbasetemp() in Path(os.environ["XDG_STATE_HOME"]).parents
    assert Path(os.environ["XDG_STATE_HOME"]) in default_path("dspex").parents


def test_no_test_holds_a_bound_on_real_time_by_itself() -> None:
    """A busy machine would fail it: `kit.promptness` tries again, and processor time is nobody else's."""
    bound = re.compile(r"^ *assert .*(time\.(monotonic|perf_counter|time)\(\)|closed_at) - [\w.]+\)? <", re.MULTILINE)
    assert bound.search("    assert 0.2 < time.monotonic() - began < 2.0")
    assert bound.search("    assert abs(server.closed_at - left) < SOON")
    others = (path for path in TESTS.rglob("test_*.py") if path != Path(__file__))
    assert [path for path in others if bound.search(path.read_text("utf-8"))] == []


def test_a_slow_machine_fails_no_property() -> None:
    """Hypothesis has no deadline, and in CI tries the same examples each time."""
    assert settings().deadline is None
    assert settings().derandomize == bool(os.environ.get("CI"))
