"""How the command line draws what a console told: rows, one name, and the live view."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from .picture import TreeNode

Row = Mapping[str, Any]
Sort = Literal["tree", "mailbox", "rate", "restarts", "name"]
NUMBERS: Final = ("mailbox", "rate", "restarts")
_COLOURS: Final = {
    "stuck": "bold red",
    "dead": "red",
    "restarting": "yellow",
    "backing_off": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "busy": "green",
    "suspended": "magenta",
}
# Python's own words for an object that has none: where it lies.
_OBJECT: Final = re.compile(r"<.* at 0x[0-9a-f]+.*>$|<(bound method|function|built-in) ")


def chosen(rows: Iterable[Row], sort: Sort = "tree", wanted: str | None = None) -> list[Row]:
    """Rows in the order asked for: numbers highest first, ``tree`` as they come.

    Args:
        rows: with ``rate``.
        sort: by what.
        wanted: only rows in whose name, actor or state this text stands, in any case.
    """
    found = [row for row in rows if wanted is None or _has(row, wanted.casefold())]
    if sort == "name":
        return sorted(found, key=lambda row: str(row["name"]))
    if sort in NUMBERS:
        return sorted(found, key=lambda row: float(row[sort]), reverse=True)
    return found


def _has(row: Row, text: str) -> bool:
    return any(text in str(row[column]).casefold() for column in ("name", "actor", "state"))


def live_view(stats: Mapping[str, Any], rows: Sequence[Row], *, indented: bool) -> Group:
    """The live view: a line about the application, and a table of rows.

    Args:
        stats: what the console told last.
        rows: what to show of it.
        indented: whether names stand as deep as in the tree.
    """
    table = Table("name", "state", box=None, pad_edge=False)
    for title in ("mailbox", "msg/s", "handled", "restarts"):
        table.add_column(title, justify="right")
    for row in rows:
        name = "  " * row["depth"] * indented + row["name"]
        table.add_row(
            Text(name),
            Text(row["state"], style=_COLOURS.get(row["state"], "")),
            str(row["mailbox"]),
            f"{row['rate']:.1f}",
            str(row["handled"]),
            str(row["restarts"]),
        )
    return Group(_headline(stats), table)


def _headline(stats: Mapping[str, Any]) -> Text:
    counters = stats["counters"]
    line = Text(
        f"{stats['app']} ({stats['pid']})  actors {counters['spawned'] - counters['ended']}"
        f"  crashed {counters['crashed']}  overloaded {counters['overloaded']}"
    )
    if stats["stopping"]:
        line.append("  stopping", style="yellow")
    if stats["held"]:
        who = stats["holder"] or "code that is no actor's"
        line.append(f"  the loop is held by {who}, for {stats['held']:.0f} s", style="bold red")
    return line


def row_line(row: Row) -> str:
    """One row as one line."""
    parts = [row["name"], row["state"], f"mailbox {row['mailbox']}", f"handled {row['handled']}"]
    parts += [f"{row['rate']:.1f}/s", f"restarts {row['restarts']}"]
    return "  ".join([*parts, f"(last end: {row['reason']})"] if row["reason"] else parts)


def details(shown: Mapping[str, Any]) -> str:
    """What ``show`` told, a line for each fact; twice the same and what says nothing to people is left out."""
    row: Mapping[str, Any] = shown["row"]
    facts = {name: value for name, value in row.items() if value != "" and name not in ("since", "depth")}
    facts["since"] = f"{row['since']:.1f} s"
    statistics: Mapping[str, Any] = shown["statistics"] or {}
    facts |= {name: value for name, value in statistics.items() if name not in (*row, "status", "age")}
    lines = ["row:", *_lines(facts)]
    if shown["metadata"]:
        lines += ["metadata:", *_lines(shown["metadata"])]
    if shown["state"] is None:
        return "\n".join([*lines, f"state: not told: {shown['state_error']}"])
    state = {name.lstrip("_"): value for name, value in shown["state"].items() if not _OBJECT.match(str(value))}
    if state:
        lines += ["state:", *_lines(state)]
    return "\n".join(lines)


def _lines(facts: Mapping[str, Any]) -> list[str]:
    return [f"  {name}: {value}" for name, value in facts.items()]


def node_from(data: Mapping[str, Any]) -> TreeNode:
    """The tree as :meth:`.TreeNode.to_dict` gave it."""
    facts = {name: value for name, value in data.items() if name != "children"}
    return TreeNode(**facts, children=tuple(node_from(child) for child in data["children"]))
