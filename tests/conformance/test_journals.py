"""What the port of journals promises, checked on every implementation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex.actors.events.kinds import ConfigUpdated, CustomEvent, Event, OptimizationEnded
from dspex.actors.events.query import EventQuery
from dspex.actors.events.retention import Retention
from dspex.actors.journal import Journal
from dspex.runtime.errors import EventInvalid, EventNotFound, StoreError, StoreUnavailable
from kit.event_makers import JOURNALS, ManualClock, make, open_kind


@pytest.fixture(params=JOURNALS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which implementation."""
    name: str = request.param
    return name


@pytest.fixture
def journal(kind: str, tmp_path: Path) -> Iterator[Journal]:
    """A fresh journal."""
    with open_kind(kind, tmp_path) as opened:
        yield opened


def put(journal: Journal, *events: Event) -> tuple[int, ...]:
    """Append and wait."""
    return journal.append(events).result(5)


def ask(journal: Journal, **keys: Any) -> list[str]:
    """The ids a query answers."""
    return [event.id for event in journal.query(EventQuery.of(**keys)).events]


def everything(journal: Journal) -> list[str]:
    """All ids, oldest first."""
    return ask(journal, order="oldest", limit=1000)


# -- appending ---------------------------------------------------------------------------------------


def test_what_was_appended_is_what_is_read(journal: Journal) -> None:
    """Events come back equal, in order, each with a place that grows."""
    events = [make("a", n=1), make("b", text="ü\0\n", trace_id="t", user="ann"), make("c", deep={"x": [1, None]})]
    seqs = put(journal, *events)
    assert list(seqs) == sorted(set(seqs))
    page = journal.query(EventQuery.of(order="oldest"))
    assert list(page.events) == events
    assert page.seqs == seqs
    assert journal.get(events[1].id) == events[1]


def test_a_stored_event_does_not_change_with_its_data(journal: Journal) -> None:
    """What is read is what was appended, whatever became of the object since."""
    event = make(n=1)
    put(journal, event)
    event.data["n"] = 2
    stored = journal.get(event.id)
    assert isinstance(stored, CustomEvent)
    assert stored.data == {"n": 1}


def test_an_empty_batch_is_answered_after_those_before_it(journal: Journal) -> None:
    """Appending nothing works, and serves as a barrier."""
    before = journal.append([make(id="a")])
    assert journal.append([]).result(5) == ()
    assert before.done()


def test_an_unknown_id_is_not_found(journal: Journal) -> None:
    """No event: a typed error that names the id."""
    with pytest.raises(EventNotFound, match="'nope'") as caught:
        journal.get("nope")
    assert caught.value.id == "nope"


@pytest.mark.parametrize("bad", [make(id="a", n=2), make(id="big", text="x" * 1_000_001), {"id": "x"}])
def test_one_bad_event_refuses_its_batch_and_nothing_else(journal: Journal, bad: Any) -> None:
    """A batch is all or nothing: a taken id, too large, no event at all."""
    put(journal, make(id="a", n=1))
    futures = [journal.append([make(id="b")]), journal.append([make(id="c"), bad]), journal.append([make(id="d")])]
    with pytest.raises(EventInvalid):
        futures[1].result(5)
    assert futures[0].result(5) < futures[2].result(5)
    assert everything(journal) == ["a", "b", "d"]
    assert journal.stats().refused == 2


def test_the_same_event_again_keeps_its_place(journal: Journal) -> None:
    """Appending is idempotent: alone, within a batch, and beside new events."""
    first, second, third = make(id="a"), make(id="b"), make(id="c")
    (place,) = put(journal, first)
    assert put(journal, first) == (place,)
    again = put(journal, second, first, second, third)
    assert again[1] == place
    assert again[0] == again[2]
    assert len(set(again)) == 3
    assert everything(journal) == ["a", "b", "c"]
    page = journal.query(EventQuery.of(order="oldest"))
    assert page.seqs == (place, again[0], again[3])
    assert journal.stats().appended == 3


def test_a_taken_id_never_replaces(journal: Journal) -> None:
    """Another event under the same id is refused, and the first one stays (also within one batch)."""
    put(journal, make(id="a", n=1))
    with pytest.raises(EventInvalid, match="'a'") as caught:
        put(journal, make(id="a", n=2))
    assert caught.value.field == "id"
    with pytest.raises(EventInvalid):
        put(journal, make(id="b", n=1), make(id="b", n=2))
    stored = journal.get("a")
    assert isinstance(stored, CustomEvent)
    assert stored.data == {"n": 1}
    assert everything(journal) == ["a"]


def test_many_threads_lose_nothing(journal: Journal) -> None:
    """Appends from several threads are all there, each once, each thread's in its order."""

    def work(name: int) -> None:
        for n in range(50):
            futures.append(journal.append([make(id=f"{name}-{n:02}")]))  # noqa: PERF401 - threads interleave here

    futures: list[Any] = []
    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = [future.result(5)[0] for future in futures]
    assert len(set(places)) == 200
    ids = everything(journal)
    assert len(ids) == 200
    for name in range(4):
        mine = [each for each in ids if each.startswith(f"{name}-")]
        assert mine == sorted(mine)


def test_a_closed_journal_takes_no_more(journal: Journal) -> None:
    """What waited is stored; a later append fails; closing twice is fine."""
    waiting = journal.append([make() for _ in range(500)])
    journal.close()
    assert len(waiting.result(0)) == 500
    with pytest.raises(StoreUnavailable, match="closed"):
        journal.append([make()]).result(5)
    journal.close()


# -- queries -----------------------------------------------------------------------------------------


@pytest.fixture
def filled(journal: Journal) -> Journal:
    """Six events: e1 to e6."""
    put(
        journal,
        make("start", id="e1", time=10.0, trace_id="t1", span_id="s1", stage="dev", score=1, user="ann"),
        make("work", id="e2", time=11.0, trace_id="t1", span_id="s2", parent_id="s1", stage="test", score=2.5),
        make("work", id="e3", time=12.0, trace_id="t2", source="module/qa", stage="prod", score="3"),
        make("stop", id="e4", time=12.0, trace_id="t1", stage=None, score=True, deep={"a": {"b": "x"}}),
        make("work", id="e5", time=9.0, data={'sta"ge': 1, "a.b": 2, "list": [1, 2]}),
        make("last", id="e6", time=14.0, trace_id="t3", stage="developer", score=-1),
    )
    return journal


@pytest.mark.parametrize(
    ("keys", "ids"),
    [
        ({}, "654321"),
        ({"order": "oldest"}, "123456"),
        ({"type": "work"}, "532"),
        ({"type": ["work", "stop"], "order": "oldest"}, "2345"),
        ({"types": ("nothing",)}, ""),
        ({"trace_id": "t1"}, "421"),
        ({"correlation_id": "t1", "type": "work"}, "2"),
        ({"span_id": "s1"}, "1"),
        ({"parent_id": "s1"}, "2"),
        ({"user": "ann"}, "1"),
        ({"source": "module/qa"}, "3"),
        ({"source": "module/qa\0"}, ""),
        ({"since": 12}, "643"),
        ({"until": 12.0}, "521"),
        ({"since": 11, "until": 14}, "432"),
        ({"limit": 2}, "65"),
        ({"limit": 2, "order": "oldest", "type": "work"}, "23"),
        ({"where": {"data.stage": "dev"}}, "1"),
        ({"where": [("data.stage", "eq", "dev")]}, "1"),
        ({"where": [("data.stage", "ne", "dev")]}, "65432"),
        ({"where": [("data.stage", "in", ["dev", "prod"])]}, "31"),
        ({"where": [("data.stage", "in", ["dev", None])]}, "41"),
        ({"where": [("data.stage", "not_in", ["dev", "prod"])]}, "6542"),
        ({"where": [("data.stage", "prefix", "dev")]}, "61"),
        ({"where": [("data.stage", "eq", None)]}, "4"),
        ({"where": [("data.score", "eq", 1)]}, "1"),
        ({"where": [("data.score", "eq", 1.0)]}, "1"),
        ({"where": [("data.score", "eq", True)]}, "4"),
        ({"where": [("data.score", "eq", "3")]}, "3"),
        ({"where": [("data.score", "gt", 0)]}, "21"),
        ({"where": [("data.score", "ge", 2.5)]}, "2"),
        ({"where": [("data.score", "lt", 1)]}, "6"),
        ({"where": [("data.score", "le", 1)]}, "61"),
        ({"where": [("data.score", "gt", "2")]}, "3"),
        ({"where": [("data.deep.a.b", "eq", "x")]}, "4"),
        ({"where": [("data.deep", "eq", {"a": {"b": "x"}})]}, "4"),
        ({"where": [("data.list", "eq", [1, 2])]}, "5"),
        ({"where": [(("data", 'sta"ge'), "eq", 1)]}, "5"),
        ({"where": [(("data", "a.b"), "eq", 2)]}, "5"),
        ({"where": [("data.nothing.at.all", "eq", "x")]}, ""),
        ({"where": [("type", "prefix", "st"), ("time", "gt", 10)]}, "4"),
        ({"where": [("data.score", "in", ["3", 10**30])]}, "3"),
        ({"where": [("data.stage", "eq", "dev'; DROP TABLE events; --")]}, ""),
        ({"where": [("data.stage", "in", [])]}, ""),
        ({"where": [("data.stage", "eq", "\ud800")]}, ""),
        ({"predicate": lambda event: event.id > "e4"}, "65"),
        ({"predicate": lambda event: event.id < "e4", "limit": 2}, "32"),
        ({"type": "work", "since": 10, "where": {"data.stage": "prod"}, "predicate": lambda _: True}, "3"),
    ],
)
def test_a_query_answers_what_it_says(filled: Journal, keys: dict[str, Any], ids: str) -> None:
    """Each condition, alone and with others; numbers compare with numbers and texts with texts only."""
    assert ask(filled, **keys) == [f"e{digit}" for digit in ids]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"tpye": "work"}, "did you mean 'type'"),
        ({"correlationid": "x"}, "did you mean 'correlation_id'"),
        ({"trace_id": "a", "correlation_id": "b"}, "got both"),
        ({"limit": 0}, "1 to 100000, got 0"),
        ({"limit": -3}, "got -3"),
        ({"limit": True}, "got True"),
        ({"limit": 10**6}, "got 1000000"),
        ({"limit": None}, "got NoneType"),
        ({"order": "newst"}, "did you mean 'newest'"),
        ({"type": []}, "at least one type"),
        ({"type": 3}, "one or more types, got int"),
        ({"type": [3]}, "texts"),
        ({"since": "yesterday"}, "got 'yesterday'"),
        ({"until": float("nan")}, "seconds since the epoch"),
        ({"trace_id": 5}, "a text of Unicode, got 5"),
        ({"trace_id": "\ud800"}, "a text"),
        ({"predicate": "x"}, "a function"),
        ({"cursor": -1}, "cursor"),
        ({"cursor": 2**63}, "cursor"),
        ({"where": [("data.x", "equals", 1)]}, "eq"),
        ({"where": [("data.x", "eq")]}, "path, op, value"),
        ({"where": "data.x"}, "where"),
        ({"where": 5}, "where"),
        ({"where": [("data.x", "in", 5)]}, "where"),
    ],
)
def test_a_malformed_query_is_refused_when_made(keys: dict[str, Any], words: str) -> None:
    """Unknown keys and wrong values are never ignored; the error says what was expected."""
    with pytest.raises(StoreError) as caught:
        EventQuery.of(**keys)
    assert words in str(caught.value)


def test_a_predicate_that_raises_is_the_askers_fault(filled: Journal) -> None:
    """The error is typed, names the event, and the journal works on."""
    with pytest.raises(StoreError, match="ZeroDivisionError") as caught:
        ask(filled, predicate=lambda event: event.id != "e3" or 1 / 0)
    assert caught.value.id == "e3"
    assert len(ask(filled)) == 6


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_pages_cover_all_without_gap_or_doubles(filled: Journal, order: str, limit: int) -> None:
    """Page by page gives the same as at once, and `more` tells when to stop."""
    at_once = ask(filled, order=order, type=["start", "work", "stop"])
    got: list[str] = []
    cursor: int | None = None
    more = True
    while more:
        page = filled.query(EventQuery.of(order=order, limit=limit, cursor=cursor, type=["start", "work", "stop"]))
        got += [event.id for event in page.events]
        cursor, more = page.cursor, page.more
    assert got == at_once


def test_a_cursor_follows_the_log(journal: Journal) -> None:
    """With the last cursor one reads on what came since: nothing twice, nothing missed, also past a pruning."""
    page = journal.query(EventQuery.of(order="oldest"))
    assert (page.events, page.cursor, page.more) == ((), None, False)
    put(journal, make(id="a", time=1.0), make(id="b", time=5.0))
    page = journal.query(EventQuery.of(order="oldest", cursor=page.cursor))
    assert [event.id for event in page.events] == ["a", "b"]
    journal.prune(6.0).result(5)
    put(journal, make(id="c", time=7.0))
    page = journal.query(EventQuery.of(order="oldest", cursor=page.cursor))
    assert [event.id for event in page.events] == ["c"]
    again = journal.query(EventQuery.of(order="oldest", cursor=page.cursor))
    assert (again.events, again.cursor) == ((), page.cursor)


def test_older_pages_stand_still_while_others_append(filled: Journal) -> None:
    """Newest first: what comes meanwhile does not shift the next page."""
    first = filled.query(EventQuery.of(limit=2))
    put(filled, make(id="e7"))
    assert ask(filled, limit=2, cursor=first.cursor) == ["e4", "e3"]


# -- forgetting --------------------------------------------------------------------------------------


def test_prune_forgets_what_is_older(filled: Journal) -> None:
    """By wall time, of all types or some; answers how many; places are not used again."""
    (last,) = filled.query(EventQuery.of(limit=1)).seqs
    assert filled.prune(12.0, ["work"]).result(5) == 2
    assert everything(filled) == ["e1", "e3", "e4", "e6"]
    assert filled.prune(100.0).result(5) == 4
    assert filled.prune(100.0).result(5) == 0
    assert everything(filled) == []
    with pytest.raises(EventNotFound):
        filled.get("e1")
    assert put(filled, make(id="e1", n=9))[0] > last
    assert filled.stats().pruned == 6


def test_the_newest_events_are_kept(kind: str, tmp_path: Path) -> None:
    """With max_events the oldest go by themselves, except types to start again from."""
    rule = Retention(max_events=5, keep=("config_updated",))
    with open_kind(kind, tmp_path, retention=rule) as journal:
        put(journal, make("config_updated2", id="0"), make(id="1"))
        for n in range(2, 30):
            put(journal, make(id=str(n)))
        wait_until_retained(journal, 5)
        assert everything(journal) == ["25", "26", "27", "28", "29"]
    rule = Retention(max_events=5, keep=("kept",))
    with open_kind(kind, tmp_path / "second", retention=rule) as journal:
        put(journal, make("kept", id="k"))
        for n in range(30):
            put(journal, make(id=str(n)))
        wait_until_retained(journal, 6)
        assert everything(journal) == ["k", "25", "26", "27", "28", "29"]


def test_what_an_actor_starts_again_from_stays(kind: str, tmp_path: Path) -> None:
    """Unless told otherwise changes of settings stay; the steps of runs, which have a journal of their own, go."""
    with open_kind(kind, tmp_path, retention=Retention(max_events=5)) as journal:
        put(journal, ConfigUpdated(id="k", time=1.0, path=("ai",)))
        put(journal, OptimizationEnded(id="o", time=1.0, run_id="r", outcome="failed"))
        for n in range(30):
            put(journal, make(id=str(n)))
        wait_until_retained(journal, 6)
        assert everything(journal) == ["k", "25", "26", "27", "28", "29"]


def test_a_bound_on_their_number_says_nothing_of_age(kind: str, tmp_path: Path) -> None:
    """Without max_age an event from before the epoch stays as long as any other."""
    with open_kind(kind, tmp_path, retention=Retention(max_events=5)) as journal:
        for id in ("a", "b", "c"):
            put(journal, make(id=id, time=-100.0))
        assert everything(journal) == ["a", "b", "c"]


def test_old_events_go_by_age(kind: str, tmp_path: Path) -> None:
    """With max_age events go once they are older, as the journal's clock has it."""
    clock = ManualClock(1000.0)
    with open_kind(kind, tmp_path, retention=Retention(max_age=100.0, keep=("kept",)), clock=clock) as journal:
        put(journal, make(id="old", time=950.0), make("kept", id="k", time=0.0), make(id="young", time=1040.0))
        clock.now = 1060.0
        put(journal, make(id="now", time=1060.0))
        wait_until_retained(journal, 3)
        assert everything(journal) == ["k", "young", "now"]


def wait_until_retained(journal: Journal, count: int) -> None:
    """Retention follows an append; a pruning that forgets nothing stands behind both in the queue."""
    for _ in range(50):
        journal.prune(-1e9).result(5)
        if journal.stats().events == count:
            return
    pytest.fail(f"expected {count} events, got {journal.stats()}")


@pytest.mark.parametrize(
    "bad", [{"max_events": 0}, {"max_events": 1.5}, {"max_age": 0}, {"max_age": -1.0}, {"max_age": "1"}]
)
def test_a_senseless_retention_is_refused(bad: dict[str, Any]) -> None:
    """Zero and negative bounds are refused when made, never ignored."""
    with pytest.raises(StoreError, match="got"):
        Retention(**bad)


def test_stats_count_what_is_there(filled: Journal, kind: str) -> None:
    """Numbers of events, real bytes, times of the first and last; nothing waits."""
    stats = filled.stats()
    assert (stats.events, stats.appended, stats.pruned, stats.refused, stats.waiting) == (6, 6, 0, 0, 0)
    assert (stats.oldest, stats.newest) == (10.0, 14.0)
    assert stats.bytes > 600
    assert (stats.path is None) == (kind == "memory")
