"""Events: their fields, versions, JSON, what is refused, and the builders."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from typing import Any, Literal

import pytest

from dspex.actors.events.builders import function_entry, function_exit, state_change, truncate_if_large
from dspex.actors.events.codec import MAX_EVENT_BYTES, decode, encode, fields_of, same
from dspex.actors.events.kinds import (
    ConfigUpdated,
    CustomEvent,
    EngineReport,
    Event,
    LmError,
    LmRequest,
    LmResponse,
    LmRetry,
    ModuleExecution,
    OptimizationCheckpoint,
    OptimizationEnded,
    OptimizationIteration,
    OptimizationStarted,
    Registered,
    SupervisorReport,
    UnknownEvent,
    Unregistered,
    event_class,
    stamp,
)
from dspex.actors.events.tree import TraceNode, trace_tree
from dspex.runtime.errors import DefinitionError, EventInvalid, StoreCorrupt
from kit.event_makers import FakeActor, make

BASE: dict[str, Any] = {"id": "e1", "time": 12.5}

ONE_OF_EACH: list[Event] = [
    LmRequest(**BASE, provider="p", model="m", prompt_hash="h", prompt_tokens=3, messages=({"role": "user"},)),
    LmResponse(**BASE, provider="p", model=None, request_event_id="r", duration=0.5, cost=Decimal("0.00125")),
    LmError(**BASE, provider="p", model="m", code="lm_timeout", status=504, retry_after=1.5),
    LmRetry(**BASE, provider="p", model="m", code="lm_rate_limited", attempt=1, delay=0.25),
    ModuleExecution(**BASE, module_type="predict", signature="a -> b", input_fields=("a",), duration=1, success=True),
    OptimizationStarted(**BASE, run_id="r", module="qa", method="bootstrap", config={"seed": 1}),
    OptimizationIteration(**BASE, run_id="r", method="bootstrap", iteration=3, best_score=0.5),
    OptimizationCheckpoint(**BASE, run_id="r", iteration=3, state={"demos": [{"q": "a"}]}),
    OptimizationEnded(**BASE, run_id="r", outcome="cancelled"),
    Registered(**BASE, name="module/qa", kind="module", metadata={"provider": "p"}),
    Unregistered(**BASE, name="module/qa", reason="killed", restarts=2),
    SupervisorReport(**BASE, kind="child_terminated", supervisor="core", child="events", reason="killed"),
    EngineReport(**BASE, kind="deadlock", actors=("a/a", "a/b"), messages=("Ask", None), seconds=2.5),
    ConfigUpdated(**BASE, path=("ai", "timeout"), value=3, previous=None),
    make("deploy", stage="test", nested={"a": [1, 2.5, None, True, "ü\0"]}),
]


def through_json(event: Event) -> Event:
    """The event as it comes back from a journal."""
    return decode(fields_of(encode(event).body))


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.type)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """Each type survives JSON and pickle: same class, same fields; and it is one line."""
    body = encode(event).body
    assert "\n" not in body
    back = through_json(event)
    assert type(back) is type(event)
    assert back == event
    assert pickle.loads(pickle.dumps(event)) == event


def test_events_are_frozen() -> None:
    """What happened does not change."""
    with pytest.raises(ValueError, match="frozen"):
        ONE_OF_EACH[0].time = 3.0  # type: ignore[misc]


def test_a_cost_is_a_number_in_json_and_a_decimal_here() -> None:
    """Queries can compare costs, and sums stay exact."""
    event = LmResponse(**BASE, provider="p", model="m", request_event_id="r", duration=1, cost=Decimal("0.1"))
    assert json.loads(encode(event).body)["cost"] == 0.1
    back = through_json(event)
    assert isinstance(back, LmResponse)
    assert back.cost == Decimal("0.1")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"provider": "p", "model": "m"}, "prompt_hash", "got nothing"),
        ({"provider": "p", "model": "m", "prompt_hsh": "h"}, "prompt_hash", "was it meant by 'prompt_hsh'"),
        (
            {"provider": "p", "model": "m", "prompt_hash": "h", "promt_tokens": 1},
            "event",
            "did you mean 'prompt_tokens'",
        ),
        ({"provider": "p", "model": "m", "prompt_hash": "h", "prompt_tokens": -1}, "prompt_tokens", "got -1"),
        ({"provider": "p", "model": "m", "prompt_hash": "h", "time": float("nan")}, "time", "finite"),
        ({"provider": "p", "model": "m", "prompt_hash": "h", "id": ""}, "id", "at least 1 character"),
        ({"provider": "p", "model": "m", "prompt_hash": "h", "type": "lm_respone"}, "type", "lm_request"),
    ],
)
def test_a_malformed_event_is_refused_when_made(fields: dict[str, Any], field: str, words: str) -> None:
    """The error names the field, what was expected and what came."""
    with pytest.raises(EventInvalid, match="expected a valid") as caught:
        LmRequest(**(BASE | fields))
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_refused_text_is_not_shown() -> None:
    """An error does not repeat a text, which may be private."""
    with pytest.raises(EventInvalid) as caught:
        LmRequest(**BASE, provider="p", model="m", prompt_hash="h", prompt_tokens="my-secret")  # type: ignore[arg-type]
    assert "my-secret" not in str(caught.value)
    assert "my-secret" not in repr(caught.value.facts)


@pytest.mark.parametrize("value", [object(), {1: 2}, float("inf"), [float("nan")], (1,), b"x", {1, 2}])
def test_custom_data_must_be_json(value: object) -> None:
    """What JSON cannot hold is refused at once, with its place."""
    with pytest.raises(EventInvalid, match="data"):
        make(data={"a": value})


def test_circular_and_bottomless_data_is_refused() -> None:
    """Neither a circle nor an endless nesting hangs or crashes."""
    circle: dict[str, Any] = {}
    circle["c"] = circle
    with pytest.raises(EventInvalid):
        make(data=circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EventInvalid) as caught:
        make(data={"deep": deep})
    assert len(str(caught.value)) < 500


def test_a_custom_event_may_not_take_a_known_type() -> None:
    """A free event under the name of a built-in type would not come back as it was."""
    with pytest.raises(EventInvalid, match="belongs to LmError"):
        CustomEvent(**BASE, type="lm_error")


def test_encode_refuses_what_cannot_be_stored() -> None:
    """Too large, not Unicode, or no event at all: EventInvalid before anything is written."""
    room = MAX_EVENT_BYTES - len(encode(make(id="x", text="")).body)
    assert encode(make(id="x", text="a" * room))
    with pytest.raises(EventInvalid, match="at most 1000000 bytes, got 1000001"):
        encode(make(id="x", text="a" * (room + 1)))
    with pytest.raises(EventInvalid, match="at most"):
        encode(make(id="x", text="ü" * (room // 2 + 1)))
    with pytest.raises(EventInvalid, match="JSON values"):
        encode(make(text="\ud800"))
    with pytest.raises(EventInvalid, match="expected an event, got dict"):
        encode({"id": "x"})  # type: ignore[arg-type]


def test_unknown_fields_of_a_newer_version_are_kept() -> None:
    """An older reader passes on what it does not know."""
    line = encode(ONE_OF_EACH[0]).body
    newer = fields_of(line) | {"version": 9, "reasoning_tokens": 7}
    event = decode(newer)
    assert type(event) is LmRequest
    assert event.model_extra == {"reasoning_tokens": 7}
    assert fields_of(encode(event).body) == newer


def test_a_newer_version_that_does_not_fit_loads_as_unknown() -> None:
    """A field that became something else does not make the log unreadable."""
    newer = fields_of(encode(ONE_OF_EACH[0]).body) | {"version": 9, "prompt_tokens": "many"}
    event = decode(newer)
    assert type(event) is UnknownEvent
    assert event.type == "lm_request"
    assert fields_of(encode(event).body).items() >= newer.items()


def test_a_type_nobody_declared_loads_as_unknown() -> None:
    """An event of somebody's own class can be read without that class."""
    event = decode({"id": "x", "type": "their_type", "version": 1, "time": 1.0, "color": "red"})
    assert type(event) is UnknownEvent
    assert event.model_extra == {"color": "red"}


def test_whatever_a_foreign_event_calls_data_can_be_read() -> None:
    """Another program's class may have a field `data` of any kind; one such event does not end a query."""
    foreign = {"id": "x", "type": "their_type", "version": 1, "time": 1.0, "data": [1, 2]}
    event = decode(foreign)
    assert type(event) is UnknownEvent
    assert fields_of(encode(event).body).items() >= foreign.items()


def test_an_own_event_class_is_known_once_defined() -> None:
    """A subclass with a type of its own comes back as that class; the type cannot be taken twice."""

    class Shipped(Event, frozen=True):
        type: Literal["shipped_here"] = "shipped_here"
        parcel: int

    assert event_class("shipped_here") is Shipped
    assert through_json(Shipped(**BASE, parcel=3)) == Shipped(**BASE, parcel=3)
    with pytest.raises(DefinitionError, match="lm_request"):

        class Mine(Event, frozen=True):
            type: Literal["lm_request"] = "lm_request"


@pytest.mark.parametrize("line", ["", "{", "[1]", "nonsense"])
def test_a_damaged_line_is_corruption(line: str) -> None:
    """What is no JSON object was not written by us."""
    with pytest.raises(StoreCorrupt):
        fields_of(line)


def test_same_ignores_the_order_of_fields() -> None:
    """Two lines that say the same are the same event."""
    assert same('{"a":1,"b":2}', '{"b":2,"a":1}')
    assert not same('{"a":1}', '{"a":2}')


def test_stamp_takes_the_common_fields_from_the_actor() -> None:
    """Id, time, trace, user and source come from the actor; a field given wins."""
    actor = FakeActor()
    event = stamp(actor, LmRequest, provider="p", model="m", prompt_hash="h", user="bob")
    assert (event.time, event.trace_id, event.span_id) == (1000.0, "t" * 32, "s" * 16)
    assert (event.parent_id, event.source, event.user) == ("p" * 16, "module/qa", "bob")
    assert stamp(actor, LmRequest, provider="p", model="m", prompt_hash="h").id > event.id


# -- builders ----------------------------------------------------------------------------------------


def test_truncate_if_large_keeps_small_values_whole() -> None:
    """A small value is kept; a large one becomes a preview with its size; what is no JSON shows its repr."""
    assert truncate_if_large({"a": [1, (2, 3)]}) == {"a": [1, [2, 3]]}
    assert truncate_if_large("x" * 50, limit=100) == "x" * 50
    large = truncate_if_large("ü" * 100, limit=100)
    assert isinstance(large, dict)
    assert (large["truncated"], large["size"]) == (True, 202)
    assert "<object object" in str(truncate_if_large(object()))
    assert truncate_if_large(float("inf")) == "Infinity"
    assert truncate_if_large(b"\xff") == "_w=="
    assert "ud800" in str(truncate_if_large("\ud800"))
    circle: list[Any] = []
    circle.append(circle)
    assert truncate_if_large(circle) == "[[...]]"


def test_function_entry_and_exit_belong_together() -> None:
    """The exit names its entry, stands in its span, and says how it went."""
    actor = FakeActor()
    entry = function_entry(actor, "app.load", {"path": "a", "rows": ["r" * 20_000]}, caller="main")
    assert entry.arguments["path"] == "a"
    assert isinstance(entry.arguments["rows"], dict)
    good = function_exit(actor, entry, 0.5, result={"n": 1})
    assert (good.entry_event_id, good.span_id, good.success, good.result) == (entry.id, entry.span_id, True, {"n": 1})
    bad = function_exit(actor, entry, 0.5, error=KeyError("k"))
    assert (bad.success, bad.error) == (False, "KeyError: 'k'")
    told = function_exit(actor, entry, 0.5, error=ValueError("bad key sk-hush-hush-hush " + "x" * 2_000_000))
    assert told.error is not None
    assert told.error.startswith("ValueError: bad key [redacted] x")
    assert len(encode(told).body) < MAX_EVENT_BYTES


def test_state_change_is_field_by_field() -> None:
    """Only the fields that differ are there, nested ones by path, with what was and what is."""
    old = {"a": 1, "deep": {"x": 1, "y": 2}, "gone": True, "flag": 1}
    new = {"a": 1, "deep": {"x": 1, "y": 3}, "came": None, "flag": True}
    event = state_change(FakeActor(), "settings", old, new)
    assert event is not None
    assert event.changes == {
        "deep.y": {"old": 2, "new": 3},
        "gone": {"old": True},
        "came": {"new": None},
        "flag": {"old": 1, "new": True},
    }
    assert state_change(FakeActor(), "settings", old, old) is None


# -- trees -------------------------------------------------------------------------------------------


def shape(nodes: tuple[TraceNode, ...]) -> list[Any]:
    """Span ids, nested."""
    return [[node.span_id, *shape(node.children)] if node.children else node.span_id for node in nodes]


def test_a_trace_nests_as_its_calls_did() -> None:
    """The root finds everything below it; a step whose parent left no event stands at the top."""
    events = [
        make(span_id="a"),
        make(span_id="b", parent_id="a"),
        make(span_id="c", parent_id="b"),
        make(span_id="b", parent_id="a"),
        make(span_id="d", parent_id="a"),
        make(span_id="lost", parent_id="pruned"),
        make(),
    ]
    tree = trace_tree(events)
    assert shape(tree) == [["a", ["b", "c"], "d"], "lost", None]
    assert tree[0].children[0].events == (events[1], events[3])
    assert [node.span_id for node in tree[0].walk()] == ["a", "b", "c", "d"]


def test_steps_in_a_circle_are_cut_above_the_first() -> None:
    """Ids that make no sense lose no event and hang nothing."""
    events = [
        make(span_id="tail", parent_id="x"),
        make(span_id="x", parent_id="y"),
        make(span_id="y", parent_id="x"),
        make(span_id="self", parent_id="self"),
    ]
    tree = trace_tree(events)
    assert sorted(event.id for root in tree for node in root.walk() for event in node.events) == sorted(
        event.id for event in events
    )
    assert "self" in [node.span_id for node in tree]


def test_a_deep_trace_needs_no_deep_stack() -> None:
    """Ten thousand nested steps are nested, quickly."""
    events = [make(span_id=str(n), parent_id=str(n - 1)) for n in range(10_000)]
    (root,) = trace_tree(events)
    assert sum(1 for _ in root.walk()) == 10_000
