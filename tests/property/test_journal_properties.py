"""Properties of events and journals: what is read is what was stored, pages tile the log, trees lose nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex.actors.events.codec import decode, encode, fields_of
from dspex.actors.events.kinds import CustomEvent, Event
from dspex.actors.events.query import EventQuery
from dspex.actors.events.retention import Retention
from dspex.actors.events.tree import trace_tree
from dspex.actors.journal import Journal
from dspex.runtime.errors import EventInvalid
from kit.event_makers import JOURNALS, make, open_kind

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
words = st.sampled_from(["a", "b", "ab", "c"])
spans = st.none() | st.sampled_from("pqrst")


@st.composite
def events(draw: st.DrawFn, ids: st.SearchStrategy[str] | None = None) -> CustomEvent:
    """An event with few different values, so that conditions meet something."""
    return make(
        draw(words),
        id=draw(ids) if ids is not None else None,
        time=draw(st.integers(0, 5)) / 2,
        trace_id=draw(st.none() | words),
        span_id=draw(spans),
        parent_id=draw(spans),
        user=draw(st.none() | words),
        data=draw(st.dictionaries(words, scalars | words | st.integers(0, 3), max_size=3)),
    )


def clauses() -> st.SearchStrategy[tuple[str, str, Any]]:
    """Conditions on the data of such events."""
    path = words.map(lambda word: f"data.{word}")
    value = words | st.integers(0, 3) | st.booleans() | st.floats(0, 3)
    return st.one_of(
        st.tuples(path, st.sampled_from(["eq", "ne"]), value | st.none()),
        st.tuples(path, st.sampled_from(["gt", "ge", "lt", "le"]), words | st.integers(0, 3)),
        st.tuples(path, st.sampled_from(["in", "not_in"]), st.lists(value, max_size=3)),
        st.tuples(path, st.just("prefix"), words),
    )


queries = st.fixed_dictionaries(
    {"order": st.sampled_from(["newest", "oldest"]), "limit": st.integers(1, 5)},
    optional={
        "type": st.lists(words, min_size=1, max_size=2),
        "since": st.integers(0, 5).map(lambda half: half / 2),
        "until": st.integers(0, 5).map(lambda half: half / 2),
        "trace_id": words,
        "user": words,
        "where": st.lists(clauses(), max_size=2),
    },
)

# A file for each example: slower than pure code, so fewer of them.
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ids_of(found: Sequence[Event]) -> list[str]:
    """Their ids."""
    return [event.id for event in found]


def all_pages(journal: Journal, keys: dict[str, Any]) -> list[Event]:
    """A query, page by page to its end."""
    found: list[Event] = []
    cursor: int | None = None
    while True:
        page = journal.query(EventQuery.of(**keys, cursor=cursor))
        assert len(page.events) <= keys["limit"]
        found += page.events
        cursor = page.cursor
        if not page.more:
            return found


@given(st.dictionaries(texts, values, max_size=4))
def test_any_json_data_comes_back_equal(data: dict[str, Any]) -> None:
    """Integrity: what is stored is what is read, and its line does not change by reading."""
    event = make(data=data)
    line = encode(event).body
    back = decode(fields_of(line))
    assert back == event
    assert encode(back).body == line


@few
@given(st.lists(events(), max_size=12), st.lists(queries, max_size=4))
def test_journals_answer_as_the_plain_meaning_of_a_query(
    stored: list[CustomEvent], asked: list[dict[str, Any]]
) -> None:
    """Every journal equals a list that is filtered one by one; its pages tile that list."""
    for kind in JOURNALS:
        with tempfile.TemporaryDirectory() as directory, open_kind(kind, Path(directory)) as journal:
            journal.append(stored).result(5)
            for keys in asked:
                query = EventQuery.of(**keys)
                wanted = [event for event in stored if query.matches(fields_of(encode(event).body))]
                if keys["order"] == "newest":
                    wanted.reverse()
                assert all_pages(journal, keys) == wanted
                assert list(journal.query(query).events) == wanted[: keys["limit"]]


@few
@given(st.lists(st.lists(events(st.sampled_from("uvwxyz")), max_size=4), max_size=8))
def test_batches_are_all_or_nothing_and_ids_are_stored_once(batches: list[list[CustomEvent]]) -> None:
    """Against a model: a batch with a taken id changes nothing, the same event again keeps its place."""
    for kind in JOURNALS:
        model: dict[str, CustomEvent] = {}
        places: dict[str, int] = {}
        with tempfile.TemporaryDirectory() as directory, open_kind(kind, Path(directory)) as journal:
            for batch, future in [(batch, journal.append(batch)) for batch in batches]:
                after = dict(model)
                fits = all(after.setdefault(event.id, event) == event for event in batch)
                if not fits:
                    assert isinstance(future.exception(5), EventInvalid)
                    continue
                model = after
                for event, seq in zip(batch, future.result(5), strict=True):
                    assert places.setdefault(event.id, seq) == seq
            page = journal.query(EventQuery.of(order="oldest", limit=1000))
            assert list(page.events) == list(model.values())
            assert list(page.seqs) == sorted(places.values()) == [places[event.id] for event in page.events]


@few
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 9))
def test_retention_keeps_the_newest_and_only_those(sizes: list[int], bound: int) -> None:
    """However events come in batches, the newest `max_events` stay, in order."""
    for kind in JOURNALS:
        rule = Retention(max_events=bound, keep=())
        with tempfile.TemporaryDirectory() as directory, open_kind(kind, Path(directory), retention=rule) as journal:
            batches = [[make() for _ in range(size)] for size in sizes]
            for batch in batches:
                journal.append(batch).result(5)
            journal.prune(-1.0).result(5)  # stands behind retention in the queue
            stored = [event for batch in batches for event in batch]
            found = journal.query(EventQuery.of(order="oldest", limit=1000)).events
            assert ids_of(found) == ids_of(stored[-bound:])


@given(st.lists(events(), max_size=25))
def test_a_tree_holds_every_event_once_and_is_a_tree(stored: list[CustomEvent]) -> None:
    """Whatever the ids say: no event lost or doubled, no span twice, no circle, order of the log within a span."""
    nodes = [node for root in trace_tree(stored) for node in root.walk()]
    found = [event for node in nodes for event in node.events]
    assert sorted(ids_of(found)) == sorted(ids_of(stored))
    assert len({node.span_id for node in nodes}) == len(nodes)
    place = {event.id: number for number, event in enumerate(stored)}
    for node in nodes:
        assert ids_of(node.events) == sorted(ids_of(node.events), key=place.__getitem__)
        assert all(event.span_id == node.span_id for event in node.events)
        for child in node.children:
            assert any(event.parent_id == node.span_id for event in child.events)
