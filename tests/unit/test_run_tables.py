"""The list of runs on terminals of any width: nothing is cut, and no word is broken where there is room for it."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from dspex.actors.runs.messages import Paid
from dspex.actors.runs.store import StoredRun
from dspex.supervisors.app.runs.tables import run_table

MADE = "labeled_few_shot-01a205a2b09778e6"


def run(id: str = "nightly", method: str = "random_search", **more: Any) -> StoredRun:
    """A run as the file has it."""
    facts: dict[str, Any] = {
        "kind": "optimization",
        "state": "running",
        "plan": {"method": method, "module": "qa"},
        "progress": {"step": 1, "steps": 2, "best_score": 0.5},
        "paid": Paid(10, 100, Decimal("1.5")),
        "created": 0.0,
        "updated": 0.0,
        "wish": None,
        "owner": None,
    }
    return StoredRun(id=id, **{**facts, **more})


def listed(runs: list[StoredRun], width: int) -> list[str]:
    """The list as lines."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(run_table(runs, width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_line_for_each_run_where_that_fits() -> None:
    """Under the names of the columns."""
    runs = [run(), run("e", state="budget_exhausted")]
    assert len(listed(runs, 79)) == 6, "it needs one more"
    lines = listed(runs, 80)
    assert lines[0].split() == ["run", "state", "kind", "module", "progress", "score", "cost", "seen", "(UTC)"]
    assert " ".join(lines[1].split()) == "nightly running random_search qa 1 of 2 50.0% $1.5000 01-01 00:00"
    assert len(lines) == 3


@pytest.mark.parametrize("width", [80, 100])
def test_the_longest_words_of_ours_fit_in_eighty_columns(width: int) -> None:
    """An id that we made ourselves stands above its line; all of them are whole, so that they can be copied."""
    runs = [run(MADE, "labeled_few_shot", state="budget_exhausted", paid=Paid(10, 100, Decimal("1.5"), 3)), run()]
    lines = listed(runs, width)
    assert lines[0] == "run"
    assert lines[2] == MADE
    assert " ".join(lines[3].split()) == "budget_exhausted labeled_few_shot qa 1 of 2 50.0% $1.5000+ 01-01 00:00"
    assert lines[4] == "nightly"
    assert len(lines) == 6
    assert [lines[1].index("module"), lines[3].index("qa"), lines[5].index("qa")] == [36, 36, 36]


def test_nothing_is_lost_where_nothing_fits() -> None:
    """Longer names of the user's own are wrapped between words, and whole."""
    method, module = "BootstrapFewShotWithRandomSearch", "customer-support-triage"
    words = " ".join(listed([run(MADE, plan={"method": method, "module": module})], 60)).split()
    assert {method, module, MADE, "01-01", "00:00"} <= set(words)


def test_marks_in_names_are_shown() -> None:
    """Not obeyed."""
    assert any("[red]x[/red]" in line for line in listed([run("[red]x[/red]")], 40))
