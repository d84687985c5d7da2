"""The pytest plugin: a virtual system as a fixture, its seed in every failure, and search under many seeds.

::

    def test_counts(virtual_system):
        virtual_system.spawn(Counter, name="demo/counter")
        assert virtual_system.call("demo/counter", Increment(2)) == 2

    @pytest.mark.seeds(50)      # fifty runs of it; a failing one is named [seed-17]
    def test_any_order(virtual_system): ...

``pytest --dspex-seed=17`` runs with that seed, ``--dspex-seeds=50`` searches in every test that uses the fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final

import pytest

from .. import testing  # which loads nothing before it is used: this plugin is loaded by every pytest run

if TYPE_CHECKING:
    from .system import VirtualSystem

_SEED: Final = "dspex_seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("dspex", "actors in virtual time")
    group.addoption("--dspex-seed", type=int, default=None, help="seed of virtual systems (default: 0)")
    group.addoption("--dspex-seeds", type=int, default=None, help="run each virtual test under so many seeds")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", "seeds(n): run the test with virtual_system under the seeds 0 to n-1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed."""
    if _SEED in metafunc.fixturenames:
        seeds = _seeds(metafunc)
        metafunc.parametrize(_SEED, seeds, indirect=True, ids=[f"seed-{seed}" for seed in seeds])


def _seeds(metafunc: pytest.Metafunc) -> list[int]:
    fixed: int | None = metafunc.config.getoption("--dspex-seed")
    if fixed is not None:
        return [fixed]
    count: object = metafunc.config.getoption("--dspex-seeds")
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is not None:
        count = marker.args[0] if len(marker.args) == 1 and not marker.kwargs else marker
    if count is None:
        return [0]
    if not isinstance(count, int) or count < 1:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: expected seeds(n) with n from 1, got {count!r}")
    return list(range(count))


@pytest.fixture
def dspex_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run."""
    # Asked for by `getfixturevalue`, the test was not known to need it when it was collected.
    seed: int = getattr(request, "param", None) or request.config.getoption("--dspex-seed") or 0
    return seed


@pytest.fixture
def virtual_system(dspex_seed: int) -> Iterator[VirtualSystem]:
    """A :class:`~dspex.runtime.testing.VirtualSystem`, closed after the test."""
    with testing.VirtualSystem(dspex_seed) as system:
        yield system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the seed of a failure, and how to run it again."""
    report = yield
    seed = getattr(item, "funcargs", {}).get(_SEED)
    if report.failed and seed is not None:
        report.sections.append(("virtual system", f"seed {seed}: pytest --dspex-seed={seed} runs it again"))
    return report
