"""The pytest plugin of the test kit: the fixture, the seed of a failure, and the search under many seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ("pytester",)
ROOT = Path(__file__).resolve().parents[2]
SEED = "def test_seed(virtual_system):\n    assert virtual_system.seed"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest on a test file, with the plugin, in a process of its own."""
    # Loaded by its module name, whether or not this checkout is installed with its entry point.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Run(pytester)


class Run:
    """Runs pytest."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester

    def __call__(self, source: str, *options: str) -> pytest.RunResult:
        """One run."""
        self._pytester.makepyfile(source)
        return self._pytester.runpytest_subprocess(
            "-p", "dspex.runtime.testing.plugin", "-p", "no:cacheprovider", "--strict-markers", *options, timeout=50
        )


def test_the_fixture_is_a_running_system(run: Run) -> None:
    """A test of an actor needs the fixture only; its seed is 0; it is closed afterwards."""
    result = run(
        """
        from dspex.runtime.gen_server import GenServer, call

        kept = []

        class Counter(GenServer):
            @call
            def add(self, message: int) -> int:
                return message + 1

        def test_adds(virtual_system):
            virtual_system.spawn(Counter, name="demo/counter")
            assert virtual_system.call("demo/counter", 41) == 42
            assert virtual_system.seed == 0
            kept.append(virtual_system)

        def test_is_closed():
            assert kept[0].loop.is_closed()

        def test_late(request):
            assert request.getfixturevalue("virtual_system").seed == 0
        """,
        "-W",
        "error",
    )
    result.assert_outcomes(passed=3)


def test_a_failure_tells_its_seed(run: Run) -> None:
    """The report of a failure names the seed and the option that runs it again; a success does not."""
    result = run("def test_fails(virtual_system):\n    assert virtual_system.seed != 5", "--dspex-seed=5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_fails[[]seed-5[]]*", "*seed 5: pytest --dspex-seed=5 runs it again*"])
    result = run("def test_passes(virtual_system):\n    assert virtual_system.seed == 5", "--dspex-seed=5", "-rA")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*runs it again*")


def test_the_marker_runs_many_seeds(run: Run) -> None:
    """`seeds(n)` is n tests; the failing one is named after its seed."""
    source = "def test_some(virtual_system):\n    assert virtual_system.seed != 3"
    result = run(f"import pytest\n\n@pytest.mark.seeds(5)\n{source}")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_some[[]seed-3[]]*"])


def test_the_option_searches_everywhere(run: Run) -> None:
    """`--dspex-seeds` runs each virtual test so often, and no other one."""
    source = "def test_seed(virtual_system):\n    assert virtual_system.seed < 3\n\ndef test_plain():\n    pass\n"
    run(source, "--dspex-seeds=4").assert_outcomes(passed=4, failed=1)


@pytest.mark.parametrize("arguments", ["0", "'many'", "", "1, 2"])
def test_a_wrong_marker_is_refused(run: Run, arguments: str) -> None:
    """What is no number from 1 is an error that says what was expected."""
    result = run(f"import pytest\n\n@pytest.mark.seeds({arguments})\n{SEED}")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*expected seeds(n) with n from 1*"])


def test_the_readme_is_enough(run: Run) -> None:
    """The test in the kit's README passes as it stands, under many seeds, and is short and without sleeping."""
    text = (ROOT / "runtime" / "testing" / "README.md").read_text("utf-8")
    source = text.split("```python\n")[1].split("```")[0]
    assert "sleep" not in source
    body = [line for line in source[source.index("def test_") :].splitlines() if line.strip()]
    assert len(body) < 20
    run(source, "--dspex-seeds=5").assert_outcomes(passed=5)
