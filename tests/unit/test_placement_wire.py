"""What crosses between two interpreters: cut into items, and refused with words where it does not pickle."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime.context import Context
from dspex.runtime.errors import RemoteError, StartError, UsageError
from dspex.runtime.placement import wire
from dspex.runtime.placement.interpreter import how
from dspex.runtime.reasons import Crash
from kit.placed import Stubborn

ITEMS = st.lists(
    st.tuples(st.integers(0, wire.KINDS - 1), st.integers(0, 2**64 - 1), st.binary(max_size=60)), max_size=12
)


@given(items=ITEMS, data=st.data())
def test_items_come_out_as_they_went_in_however_they_are_cut(
    items: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    """The socket may cut a batch anywhere, also within a header."""
    stream = b"".join(b"".join(wire.item(*each)) for each in items)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found = wire.Reader(), list[Any]()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[begin:end])
    assert found == items


def test_a_reader_that_is_left_loses_nothing() -> None:
    """Who stops in the middle of a batch finds the rest later."""
    reader = wire.Reader()
    for found in reader.feed(b"".join(wire.item(1, 2, b"a") + wire.item(3, 4, b"b"))):
        assert found == (1, 2, b"a")
        break
    assert list(reader.feed(b"")) == [(3, 4, b"b")]


@dataclass
class Holder:
    """Has an attribute."""

    value: Any


class Pair(NamedTuple):
    """Has two."""

    one: Any
    two: Any


class Slotted:
    """Has a slot."""

    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (threading.Lock(), "got lock at lock:"),
        (Holder(threading.Lock()), "got lock at Holder.value:"),
        (Holder([1, {"a": threading.Lock()}]), "got lock at Holder.value[1]['a']:"),
        (Pair(1, Slotted(threading.Lock())), "got lock at Pair.two.inner:"),
        ((lambda: None,), "got function at tuple[0]:"),
    ],
)
def test_what_does_not_pickle_is_named(value: Any, where: str) -> None:
    """Class and attribute, in words."""
    with pytest.raises(UsageError) as caught:
        wire.dumps(("frame", value), value)
    assert where in str(caught.value)


def test_errors_and_reasons_cross_as_themselves_or_in_words() -> None:
    """What would not come out at the other side is described at this one, wherever it stands."""

    def through(value: Any) -> Any:
        return wire.loads(wire.dumps(value))

    assert through(StartError("no", reason="why")).reason == "why"
    assert type(through(("shutdown", KeyError("k")))[1]) is KeyError
    described = through({"error": Stubborn("one", "two")})["error"]
    assert isinstance(described, RemoteError)
    assert (described.type, described.text) == ("Stubborn", "one")
    crash = through(Crash(ValueError("bad"), "the trace"))
    assert crash == Crash(ValueError("bad"))
    assert crash.traceback == "the trace"
    assert isinstance(through(Crash(Stubborn("one", "two"))).error, RemoteError)
    context = Context("t", "s", None, "ann")
    assert through(context) == context
    assert wire.portable_reason(("shutdown", threading.Lock())).startswith("('shutdown', <unlocked")
    assert wire.portable_reason("normal") == "normal"


def test_how_a_process_ended() -> None:
    """An exit code stays one, a signal has its name."""
    assert [how(code) for code in (0, 3, -9, -11, -200)] == [0, 3, "SIGKILL", "SIGSEGV", "signal 200"]
