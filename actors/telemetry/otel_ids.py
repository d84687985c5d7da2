"""The ids of a trace context as OpenTelemetry's: both are W3C's, so events, logs and spans join."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

_WANTED: Final[ContextVar[tuple[int, int] | None]] = ContextVar("dspex_otel_ids", default=None)
_HEX: Final = re.compile(r"[0-9a-f]+")


def id_number(text: str, digits: int) -> int:
    """An id of a trace context as a number; one that is no W3C id (a caller chose its own) is hashed into one.

    Args:
        text: the id.
        digits: hexadecimal digits of such an id: 32 for a trace, 16 for a span.
    """
    number = int(text, 16) if len(text) == digits and _HEX.fullmatch(text) else 0
    return number or int(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:digits], 16)


@contextmanager
def use_ids(trace_id: int, span_id: int) -> Generator[None, None, None]:
    """Have the span that is started here get these ids, if its tracer asks :class:`ContextIds`."""
    token = _WANTED.set((trace_id, span_id))
    try:
        yield
    finally:
        _WANTED.reset(token)


class ContextIds:
    """An id generator of OpenTelemetry's SDK: the ids that are wanted, else those of the generator it stands before.

    Args:
        before: the tracer's own generator.
    """

    def __init__(self, before: Any) -> None:
        self._before = before

    def generate_trace_id(self) -> int:
        """The trace's id."""
        wanted = _WANTED.get()
        return wanted[0] if wanted is not None else int(self._before.generate_trace_id())

    def generate_span_id(self) -> int:
        """The span's id."""
        wanted = _WANTED.get()
        return wanted[1] if wanted is not None else int(self._before.generate_span_id())

    def is_trace_id_random(self) -> bool:
        """Whether a trace's id is random as W3C means it; a caller may have chosen ours."""
        return _WANTED.get() is None and bool(self._before.is_trace_id_random())
