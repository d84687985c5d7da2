"""Circles in who waits for whom, for any who wait for any."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.circles import circles

GRAPHS = st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 9), unique=True, max_size=4), max_size=8)
Graph = dict[int, list[int]]


def reached(graph: Graph, start: int) -> set[int]:
    """Whom one waits for, directly or through others."""
    found: set[int] = set()
    ahead = list(graph.get(start, ()))
    while ahead:
        node = ahead.pop()
        if node not in found:
            found.add(node)
            ahead += graph.get(node, ())
    return found


@given(GRAPHS)
def test_each_circle_is_one(graph: Graph) -> None:
    """Each member waits for the next and the last for the first; nobody is in it twice; none is named twice."""
    found = circles(graph)
    for circle in found:
        assert len(set(circle)) == len(circle)
        assert all(after in graph[each] for each, after in zip(circle, (*circle[1:], circle[0]), strict=True))
    assert len(set(found)) == len(found)


@given(GRAPHS)
def test_who_waits_for_himself_through_others_is_told(graph: Graph) -> None:
    """Everybody who waits for himself has a circle among those he waits for in turn; nobody else has one."""
    found = circles(graph)
    for node in graph:
        knot = {other for other in reached(graph, node) if node in reached(graph, other)}
        assert any(set(circle) <= knot for circle in found) == (node in reached(graph, node))


@given(GRAPHS)
def test_circles_begin_at_their_first_member(graph: Graph) -> None:
    """So a circle looks the same wherever the search came upon it."""
    order = list(graph)
    assert all(circle[0] == min(circle, key=order.index) for circle in circles(graph))
