"""Rates, order and filter of what a console told."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.supervisors.app.console.client import with_rates
from dspex.supervisors.app.console.picture import TreeNode
from dspex.supervisors.app.console.view import Sort, chosen, details, node_from, row_line


def row(name: str, **more: Any) -> dict[str, Any]:
    """A row."""
    common = {"name": name, "actor": "Worker", "state": "idle", "mailbox": 0, "rate": 0.0, "restarts": 0}
    return {**common, "handled": 0, "address": name, "reason": "", "depth": 0, **more}


def test_details_say_each_thing_once_and_nothing_of_mere_objects() -> None:
    """What row and statistics both hold stands once, seconds are short, and where an object lies is left out."""
    shown = {
        "row": {**row("a/b"), "since": 5.2799808},
        "statistics": {"name": "a/b", "status": "idle", "mailbox": 0, "handled": 0, "tasks": 2, "age": 5.28},
        "metadata": {},
        "state": {
            "_left": "3",
            "_now": "<bound method BaseEventLoop.time of <_UnixSelectorEventLoop running=True>>",
            "_outbox": "<dspex.actors.events.outbox.EventOutbox object at 0x7f020f6fbc10>",
            "_slots": "<asyncio.locks.Semaphore object at 0x7f020f6fbc10 [unlocked, value:16]>",
            "_queue": "<0 wait, of 0 users>",
        },
        "state_error": "",
    }
    lines = details(shown).splitlines()
    assert lines == [
        "row:",
        *("  name: a/b", "  actor: Worker", "  state: idle", "  mailbox: 0", "  rate: 0.0", "  restarts: 0"),
        *("  handled: 0", "  address: a/b", "  since: 5.3 s", "  tasks: 2"),
        "state:",
        *("  left: 3", "  queue: <0 wait, of 0 users>"),
    ]
    assert details({**shown, "state": None, "state_error": "busy"}).endswith("state: not told: busy")


def test_rates_come_from_two_looks() -> None:
    """Messages a second between two looks; the first look has none, a new incarnation starts at 0."""
    before = {"at": 10.0, "rows": [row("a", handled=100), row("b", handled=50, address="b1")]}
    now = {"at": 12.0, "rows": [row("a", handled=110), row("b", handled=4, address="b2")]}
    assert [each["rate"] for each in with_rates(before, now)] == [5.0, 2.0]
    assert [each["rate"] for each in with_rates(None, now)] == [0.0, 0.0]
    assert [each["rate"] for each in with_rates(now, now)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("tree", ["b", "c", "a"]),
        ("name", ["a", "b", "c"]),
        ("mailbox", ["a", "b", "c"]),
        ("rate", ["c", "a", "b"]),
        ("restarts", ["b", "c", "a"]),
    ],
)
def test_rows_are_sorted(sort: Sort, order: list[str]) -> None:
    """Numbers highest first, names by alphabet, the tree as it comes."""
    rows = [
        row("b", mailbox=5, rate=0.5, restarts=9),
        row("c", mailbox=1, rate=20.0, restarts=1),
        row("a", mailbox=10, rate=3.0),
    ]
    assert [each["name"] for each in chosen(rows, sort)] == order


def test_rows_are_filtered_by_name_class_and_state() -> None:
    """A filter looks at name, class and state, in any case."""
    rows = [row("module/qa"), row("x", actor="QaModule"), row("y", state="stuck"), row("z")]
    assert [each["name"] for each in chosen(rows, wanted="QA")] == ["module/qa", "x"]
    assert [each["name"] for each in chosen(rows, wanted="stuck")] == ["y"]


def test_a_row_is_a_line() -> None:
    """The line of a row ends with the reason of the last end, if there was one."""
    assert row_line(row("a", rate=1.25)) == "a  idle  mailbox 0  handled 0  1.2/s  restarts 0"
    assert row_line(row("a", reason="boom")).endswith("(last end: boom)")


def test_a_tree_survives_the_way_through_json() -> None:
    """A tree as plain values is the same tree again."""
    leaf = TreeNode("b", "B", "dead", "", 0, 1, "boom", ())
    tree = TreeNode("a", "A", "idle", "x.1", 2, 0, "", (leaf,))
    assert node_from(tree.to_dict()) == tree
