"""The events of one trace as a tree of its steps.

A step is a span: what one actor did for one message. Its events say which step asked for it (``parent_id``), so
steps nest as the calls did, however deep, and whoever looks for the root finds everything below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .kinds import Event


@dataclass(frozen=True, slots=True)
class TraceNode:
    """A step and what it caused.

    Attributes:
        span_id: the step; None gathers events that belong to no step.
        events: what happened in it, in the order of the log.
        children: the steps it asked for, in the order of their first event.
    """

    span_id: str | None
    events: tuple[Event, ...]
    children: tuple[TraceNode, ...] = ()

    def walk(self) -> Iterator[TraceNode]:
        """This node and all below it, a parent before its children."""
        waiting: list[TraceNode] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def trace_tree(events: Iterable[Event]) -> tuple[TraceNode, ...]:
    """Nest the events of a trace, which come in the order of the log.

    A step whose parent left no event stands at the top. So does the first of steps that claim to be above one
    another: every event is in the answer exactly once, whatever the ids say.
    """
    spans: dict[str | None, list[Event]] = {}
    parents: dict[str | None, str] = {}
    for event in events:
        spans.setdefault(event.span_id, []).append(event)
        # The first event that names a parent decides.
        if event.parent_id is not None:
            parents.setdefault(event.span_id, event.parent_id)
    children: dict[str | None, list[str | None]] = {span: [] for span in spans}
    for span in spans:
        parent = parents.get(span)
        if parent in spans and parent is not None:
            children[parent].append(span)
        else:
            parents.pop(span, None)
    placed: set[str | None] = set()
    # What the true roots do not reach hangs in a circle: the circle is cut above its first step.
    roots = [_build(span, spans, children, placed) for span in spans if span not in parents]
    roots += [_build(span, spans, children, placed) for span in spans if span not in placed]
    place = {span: number for number, span in enumerate(spans)}
    return tuple(sorted(roots, key=lambda node: place[node.span_id]))


def _build(
    root: str | None,
    spans: Mapping[str | None, list[Event]],
    children: Mapping[str | None, list[str | None]],
    placed: set[str | None],
) -> TraceNode:
    # Over a list, not by recursion: a chain of calls may be deeper than Python's stack.
    placed.add(root)
    order = [root]
    below: dict[str | None, list[str | None]] = {}
    for span in order:
        below[span] = [child for child in children[span] if child not in placed]
        placed.update(below[span])
        order.extend(below[span])
    built: dict[str | None, TraceNode] = {}
    for span in reversed(order):
        built[span] = TraceNode(span, tuple(spans[span]), tuple(built.pop(child) for child in below[span]))
    return built[root]
