"""runtime/SEMANTICS.md: every rule it states is held by a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "runtime" / "SEMANTICS.md").read_text("utf-8")
TEST_ID = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
STATED = [line for line in PAGE.splitlines() if line.startswith("- ") or re.match(r"\| [A-Z]+-\d\d \|", line)]


def missing(text: str) -> list[str]:
    """The test ids of a text that lead to no test; a file without a test's name must be there and have some."""
    found: list[str] = []
    for path, name in TEST_ID.findall(text):
        file = ROOT / path
        tree = ast.parse(file.read_text("utf-8")) if file.is_file() else ast.Module([], [])
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        if not ((name and name in functions) or (not name and file.is_file())):
            found.append(f"{path}::{name}" if name else path)
    return found


@pytest.mark.parametrize("line", STATED, ids=lambda line: line[2:40])
def test_every_stated_rule_is_held_by_a_test(line: str) -> None:
    """Each line names at least one test, and all it names exist."""
    assert TEST_ID.search(line), "no test holds it"
    assert missing(line) == []


def test_the_page_says_what_it_should() -> None:
    """Its sections are there, with rules in each."""
    sections = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    stated = {name: [line for line in STATED if line in body] for name, body in zip(*[iter(sections)] * 2, strict=True)}
    assert list(stated) == [
        "Order",
        "Delivery",
        "Mailboxes",
        "What a restart is",
        "Kill and stop",
        "Time-outs, timers, cancellation",
        "In a process of its own",
        "What is lost, and where it is counted",
        "Rules that cannot hold here",
    ]
    assert all(len(lines) >= 3 for lines in stated.values())


def test_a_test_that_does_not_exist_is_found() -> None:
    """A wrong file and a wrong name are each found."""
    here = "tests/docs/test_semantics.py"
    assert missing(f"`{here}` `{here}::test_a_test_that_does_not_exist_is_found`") == []
    assert missing(f"`{here}::test_no` `tests/none.py` `tests/none.py::test_a`") == [
        f"{here}::test_no",
        "tests/none.py",
        "tests/none.py::test_a",
    ]
