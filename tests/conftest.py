"""What holds for every test run: how Hypothesis behaves, where state goes, and that a failing test is only that."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings

# A loaded machine is no failure. CI tries the same examples each time, so that a red run can be run again.
settings.register_profile("here", deadline=None)
settings.register_profile("in_ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", deadline=None, max_examples=5_000)  # pytest --hypothesis-profile=deep
settings.load_profile("in_ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that one starts, writes to the user's own state folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # the consoles' sockets
        yield


@contextmanager
def uncollected() -> Generator[None, None, None]:
    """Without garbage collection, around whatever parses Python.

    CPython before 3.11.8 and 3.12.2 counts the depth of all parsers in one place (CPython issue 106905): if the
    collector runs a finalizer meanwhile that parses too, as printing the traceback of a lost task's exception does,
    the first one raises ``SystemError: AST constructor recursion depth mismatch``.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """For a failure's report pytest parses the source; an error there would end the whole run."""
    with uncollected():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """The tests of documents and architecture parse every source file."""
    if item.path.parent.name in ("docs", "architecture"):
        with uncollected():
            return (yield)
    return (yield)
