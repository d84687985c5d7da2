"""docs/otp_errors.md: every row is held by a test, every class exists, and no word of the code is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dspex.runtime import errors

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "otp_errors.md").read_text("utf-8")
TEST_ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
CLASS = re.compile(r"`([A-Z][a-z]\w+)`")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| OTP's", "| Here"))]


def missing(text: str) -> list[str]:
    """Test ids of a text that lead to no test."""
    return [
        f"{path}::{name}"
        for path, name in TEST_ID.findall(text)
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text("utf-8")
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:30])
def test_every_word_is_held_by_a_test_and_a_class(row: str) -> None:
    """Each row names a test, and the tests and error classes that it names exist."""
    assert TEST_ID.search(row), "no test holds it"
    assert missing(row) == []
    assert [
        name for name in CLASS.findall(row) if not hasattr(errors, name) and name not in {"Down", "TimeoutError"}
    ] == []


def test_no_word_of_the_refusals_is_missing() -> None:
    """Every word with which a supervisor refuses a call stands in the table."""
    source = (ROOT / "supervisors" / "refusals.py").read_text("utf-8")
    words = re.findall(r'_refused\(supervisor, "(\w+)"', source) + re.findall(r'reason=\("(\w+)"', source)
    assert len(words) >= 7
    assert [word for word in words if f"`{word}`" not in PAGE and f"`{{{word}, " not in PAGE] == []


def test_a_test_that_does_not_exist_is_found() -> None:
    """A wrong file and a wrong name are each found."""
    here = "tests/docs/test_otp_errors.py"
    assert missing(f"`{here}::test_a_test_that_does_not_exist_is_found` `{here}::test_no` `tests/none.py::test_a`") == [
        f"{here}::test_no",
        "tests/none.py::test_a",
    ]
