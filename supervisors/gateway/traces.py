"""The trace that a request joins, by its headers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Final

from ...runtime.context import Context
from ...runtime.ids import IdSource

# W3C Trace Context: version, trace id, parent id, flags; later versions may say more behind.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def joined(headers: Mapping[str, str], ids: IdSource) -> Context:
    """A context in the trace that ``traceparent`` names, or ``x-request-id``, or in a fresh one.

    What is malformed is ignored, as W3C Trace Context wants it. A UUID is written as a trace id is.
    """
    parent = _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
    if parent is not None:
        return Context(parent[1], ids.span_id(), parent[2])
    return Context.root(ids, trace_id=_trace_id(headers.get("x-request-id", "").strip()))


def _trace_id(text: str) -> str | None:
    if _REQUEST_ID.fullmatch(text) is None:
        return None
    try:
        return uuid.UUID(text).hex
    except ValueError:
        return text
