"""docs/providers.md: its table of failures is the one that retries, breaker, gates and routes read."""

from __future__ import annotations

import re
from pathlib import Path

from dspex.actors.lm.failures import FAILURES, Effect, Failure
from dspex.actors.providers.route_choice import GROUPS
from dspex.actors.wire_formats import WIRE_FORMATS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "providers.md").read_text("utf-8")
EFFECTS: dict[Effect, str] = {
    "none": "",
    "lower_rate": "slow-down",
    "pause": "pause",
    "close_quota": "closes the quota gate",
    "misconfigured": "closes the auth gate",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the rows of the last table below a heading, without its head."""
    text = PAGE[PAGE.index(f"\n## {heading}\n") + 4 :].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "`failure`" not in line]


def row_of(failure: Failure) -> list[str]:
    """What the table has to say of a failure, but for its meaning."""
    group = GROUPS.get(failure.name)
    return [
        f"`{failure.name}`",
        f"`{failure.error.__name__}`",
        "yes" if failure.retryable else "",
        "counts" if failure.counts_for_breaker else "",
        EFFECTS[failure.effect],
        f"`{group}`" if group else "",
    ]


def test_the_table_of_failures_is_the_one_that_decides() -> None:
    """Each row of the code stands in the page with its class and decisions, in order, and says what it means."""
    found = rows("Errors")
    assert [[*cells[:2], *cells[3:]] for cells in found] == [row_of(failure) for failure in FAILURES.values()]
    assert all(cells[2] for cells in found)


def test_every_kind_is_listed() -> None:
    """The page lists the wire formats that there are."""
    text = PAGE[PAGE.index("\n## Kinds\n") :].partition("\n## A request")[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)[1:] == list(WIRE_FORMATS)
