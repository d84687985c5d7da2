"""Contexts and the ids in them: one trace for a whole piece of work, a span for each step."""

from __future__ import annotations

import pickle
import random
import re
import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.context import Context
from dspex.runtime.gen_server import GenServer, call
from dspex.runtime.ids import IdSource
from dspex.runtime.scope import current_context
from kit.event_makers import ManualClock
from kit.supervision import House, in_house


class Teller(GenServer):
    """Answers the context it is called in; asked for another's, it asks that one."""

    @call
    async def tell(self, msg: str) -> list[Context | None]:
        own = [self.context, current_context()]
        return own + await self.call(msg, "") if msg else own


def test_ids_have_the_forms_of_the_standard() -> None:
    """Trace and span ids are W3C ones, sortable ids are UUIDs of version 7."""
    ids = IdSource()
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", ids.trace_id())
    assert re.fullmatch(r"(?!0{16})[0-9a-f]{16}", ids.span_id())
    assert uuid.UUID(ids.sortable()).version == 7


def test_sortable_ids_sort_as_they_were_made() -> None:
    """Later ids are greater, also while the clock stands still or goes back."""
    clock = ManualClock()
    ids = IdSource(clock)
    made = [ids.sortable() for _ in range(100)]
    clock.now -= 500.0
    made += [ids.sortable() for _ in range(100)]
    clock.now += 1000.0
    made += [ids.sortable() for _ in range(100)]
    assert made == sorted(set(made))


def test_ids_are_unique_across_threads() -> None:
    """Threads that share a source never get the same id."""
    ids, made = IdSource(), list[str]()

    def work() -> None:
        made.extend([make() for _ in range(2000) for make in (ids.trace_id, ids.span_id, ids.sortable)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4 * 3 * 2000


def test_a_seeded_source_makes_its_ids_again() -> None:
    """With its randomness and clock given, a run has the same ids once more."""
    one, two = (IdSource(ManualClock(), random.Random(7)) for _ in range(2))
    assert [one.trace_id(), one.span_id(), one.sortable()] == [two.trace_id(), two.span_id(), two.sortable()]


@given(st.integers(1, 50), st.sampled_from([None, "ann"]))
def test_a_child_stays_in_the_trace(depth: int, user: str | None) -> None:
    """However deep, each step has the same trace and user, a span of its own, and its parent's; ids do not grow."""
    ids = IdSource()
    path = [Context.root(ids, user=user)]
    for _ in range(depth):
        path.append(path[-1].child(ids))
    assert path[0].parent_id is None
    assert [step.parent_id for step in path[1:]] == [step.span_id for step in path[:-1]]
    assert len({step.span_id for step in path}) == depth + 1
    assert {(step.trace_id, step.user, len(step.span_id)) for step in path} == {(path[0].trace_id, user, 16)}
    assert pickle.loads(pickle.dumps(path)) == path


def test_a_trace_begun_elsewhere_is_joined() -> None:
    """A trace id from outside, an HTTP header's say, is kept."""
    assert Context.root(IdSource(), trace_id="e" * 32).trace_id == "e" * 32


def test_a_context_crosses_actors_with_the_call() -> None:
    """Who is called, and whom that one calls, stand in the caller's trace; outside actors there is none."""

    async def run(house: House) -> None:
        for name in ("test/a", "test/b"):
            await house.start(Teller, name=name)
        root = Context.root(house.engine.ids, user="ann")
        told = await house.engine.outside.call_async("test/a", "test/b", timeout=None, context=root)
        assert [(context.trace_id, context.user) for context in told] == [(root.trace_id, "ann")] * 4
        others = await house.call("test/a", "")
        assert others[0].trace_id != root.trace_id
        assert current_context() is None

    in_house(run)
