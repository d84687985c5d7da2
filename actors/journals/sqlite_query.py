"""The reading half of the SQLite journal: from a query to SQL that looks at fewer rows.

SQL only narrows; what a query means is asked of each row in Python. So a condition may be left out here (other
operators than equality on texts, numbers whose decimal digits two programs read differently), never added.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

from ...runtime.registry_query import Clause
from ..events.query import EventQuery, is_text

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def statement(query: EventQuery, cursor: int | None, rows: int) -> tuple[str, list[Any]]:
    """SQL for the next rows of a query, and its arguments.

    Args:
        query: what is asked.
        cursor: go on beyond this place; None begins.
        rows: the most rows.
    """
    newest = query.order == "newest"
    conditions: list[str] = []
    arguments: list[Any] = []

    def narrow(condition: str, *values: Any) -> None:
        conditions.append(condition)
        arguments.extend(values)

    if cursor is not None:
        narrow("seq < ?" if newest else "seq > ?", cursor)
    if len(query.types) == 1:
        narrow("type = ?", *query.types)
    elif query.types:
        narrow(f"type IN ({', '.join('?' * len(query.types))})", *query.types)
    if query.trace_id is not None:
        narrow("trace_id = ?", query.trace_id)
    if query.since is not None:
        narrow("time >= ?", float(query.since))
    if query.until is not None:
        narrow("time < ?", float(query.until))
    for name in ("span_id", "parent_id", "user", "source"):
        value = getattr(query, name)
        if value is not None and "\0" not in value:
            narrow("json_extract(body, ?) = ?", f"$.{name}", value)
    for clause in query.where:
        texts = _texts(clause)
        if texts and all(_PLAIN_KEY.fullmatch(key) for key in clause.path):
            narrow(f"json_extract(body, ?) IN ({', '.join('?' * len(texts))})", f"$.{'.'.join(clause.path)}", *texts)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    direction = "DESC" if newest else "ASC"
    # Built of constants and question marks only.
    return f"SELECT seq, body FROM events{where} ORDER BY seq {direction} LIMIT {rows:d}", arguments  # noqa: S608


def _texts(clause: Clause) -> list[str] | None:
    # The texts one of which the value must equal, if that is what the clause says.
    if clause.op == "eq":
        values: list[Any] = [clause.value]
    elif clause.op == "in":
        values = list(cast("list[Any]", clause.value))
    else:
        return None
    return values if all(is_text(value) and "\0" not in value for value in values) else None
