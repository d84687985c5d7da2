"""A pytest plugin that puts our system base where Thespian's own suite (``thespian.test``) expects one of its own.

The suite's modules star-import the ``asys`` fixture, so a conftest override is shadowed: the fixture is
rebound in ``thespian.test`` itself, before the modules are collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
import thespian.test
from thespian.actors import ActorSystem

from dspex.runtime.system_base import LocalSystemBase

# What is left out, and why. Part of a test's id -> reason.
LEFT_OUT: Final = {
    "test_sourceLoading.py": "source loading is out of scope: code comes from installed packages",
    "test_director.py": "the director deploys sources, which is out of scope",
    "test_troupe.py::testLoadable": "source loading is out of scope: code comes from installed packages",
    "test_HAConvention.py": "starts stock multi-process systems by name: nothing of ours would run",
}

# Actors of the suite whose handlers block (time.sleep), a hundred of them at once. Here code that blocks says so.
BLOCKING: Final = {"test_threadedExternal.py": "Computer"}


@pytest.fixture(params=["dspexLocalBase"])
def asys(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Thespian's fixture, with our base and the capabilities that the suite relies on."""
    capabilities = {"Foo Allowed": True, "Cows Allowed": True, "Dogs Allowed": True, "dog": "food"}
    base = LocalSystemBase(capabilities=capabilities)
    system: Any = ActorSystem(systemBase=base, capabilities=capabilities, transientUnique=True)
    system.base_name = request.param
    system.port_num = None
    system.txonly = False
    yield system
    system.shutdown()


def similar_asys(*args: object, **kwargs: object) -> None:
    """Stands where the suite starts a second system that should join the first."""
    pytest.skip("one process holds no convention of several systems")


thespian.test.asys = asys
thespian.test.similar_asys = similar_asys


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite asks for this option."""
    parser.addoption("--unstable", action="store_true", default=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is out of scope, with its reason; let actors that block say so."""
    for item in items:
        for part, reason in LEFT_OUT.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.path.name in BLOCKING and isinstance(item, pytest.Function):
            getattr(item.module, BLOCKING[item.path.name]).blocking = True
