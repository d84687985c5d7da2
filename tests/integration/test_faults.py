"""Faults that are nobody else's: what pickles and what need not. `docs/faults.md` lists all faults with their tests."""

from __future__ import annotations

import pickle
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import ChildSpec, GenServer, call
from dspex.runtime.errors import ActorDied, NoProcess
from dspex.runtime.outcomes import Started
from kit.application import IN_MEMORY, Boom, counter

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
FAULTS = (
    "a handler for an unknown message class",
    "a message nobody handles",
    "a call to a dead or unknown name",
    "a call to a restarting name",
    "an actor calls itself, or a cycle of calls",
    "a reply that never comes",
    "a full mailbox",
    "`init` raises, returns junk, or takes too long",
    "`terminate` raises or hangs",
    "values that do not pickle",
    "wrong configuration keys and types",
    "a signature with a mistake",
    "the server refuses the connection",
    "the server hangs",
    "the server answers HTML",
    "the server answers an error body",
    "the server closes early",
    "two processes append to one event file",
    "a corrupt event file",
    "a full disk",
    "`kill -9` of a process that was appending",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_row_and_a_test(fault: str) -> None:
    """The table has one row for the fault, and names at least one test in it (another test looks that they exist)."""
    (row,) = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| {fault} |")]
    assert re.search(r"`tests/\w+/\w+\.py::test_\w+`", row)


@dataclass(frozen=True)
class Keep:
    """To a keeper of things: keep this, and answer it."""

    thing: Any


class Chest(GenServer):
    """Answers what it is given."""

    @call
    def keep(self, msg: Keep) -> Any:
        return msg.thing


def test_what_does_not_pickle_is_no_trouble_within_a_process() -> None:
    """Locks, functions and files travel within a process as they are: the very object arrives."""
    lock = threading.Lock()
    with pytest.raises(TypeError):
        pickle.dumps(lock)
    with dspex.start(config=IN_MEMORY, children=[ChildSpec("chest", Chest, name="demo/chest")]) as app:
        assert app.call("demo/chest", Keep(lock)) is lock


def test_addresses_and_errors_of_calls_pickle() -> None:
    """An address comes back as the same one; an error keeps its class and facts, whatever the reason is."""
    with dspex.start(config=IN_MEMORY, children=[counter()]) as app:
        started = app.start_child(counter("b"))
        assert isinstance(started, Started)
        assert pickle.loads(pickle.dumps(started.address)) == started.address
        with pytest.raises(ActorDied) as died:
            app.call("demo/counter", Boom())
        with pytest.raises(NoProcess) as nobody:
            app.call("demo/nobody", Boom())
        for error in (died.value, nobody.value):
            again = pickle.loads(pickle.dumps(error))
            assert (type(again), str(again)) == (type(error), str(error))
        assert "ZeroDivisionError: boom" in repr(pickle.loads(pickle.dumps(died.value)).reason)
