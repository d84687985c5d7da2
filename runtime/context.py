"""What travels with a message: who asked, in which trace.

Deadlines travel with the call itself (``calls.py``), because a nested call inherits what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ids import IdSource


@dataclass(frozen=True, slots=True)
class Context:
    """One place in a trace. Ids are W3C ones, so logs, events and spans join.

    Attributes:
        trace_id: the whole piece of work; also its correlation id.
        span_id: this step.
        parent_id: the step that asked for it, or None at the root.
        user: on whose behalf, or None.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    user: str | None = None

    @classmethod
    def root(cls, ids: IdSource, *, user: str | None = None, trace_id: str | None = None) -> Context:
        """Begin a trace (or join ``trace_id``, a trace begun elsewhere)."""
        return cls(trace_id or ids.trace_id(), ids.span_id(), None, user)

    def child(self, ids: IdSource) -> Context:
        """A step below this one, in the same trace."""
        return Context(self.trace_id, ids.span_id(), self.span_id, self.user)
