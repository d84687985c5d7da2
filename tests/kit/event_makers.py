"""For tests of events: a way to make them, and every kind of journal behind one name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspex.actors.events.kinds import CustomEvent
from dspex.actors.events.retention import Retention
from dspex.actors.journal import Journal
from dspex.actors.journals.memory import MemoryJournal
from dspex.actors.journals.sqlite import SqliteJournal
from dspex.runtime.clock import Clock
from dspex.runtime.context import Context
from dspex.runtime.ids import IdSource

JOURNALS = ("memory", "sqlite")
_ids = IdSource()


def make(type: str = "note", *, id: str | None = None, time: float = 1.0, **fields: Any) -> CustomEvent:
    """An event of the test's own; what is no common field goes into its data."""
    common = {name: fields.pop(name) for name in list(fields) if name in CustomEvent.model_fields}
    data = common.pop("data", fields)
    return CustomEvent(id=id or _ids.sortable(), type=type, time=time, data=data, **common)


class ManualClock:
    """A clock that stands still until told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class FakeActor:
    """What `stamp` needs of an actor."""

    def __init__(self) -> None:
        self.clock: Clock = ManualClock()
        self.ids = IdSource(self.clock)
        self.context = Context("t" * 32, "s" * 16, "p" * 16, "ann")
        self.name: str | None = "module/qa"


@contextmanager
def open_kind(
    kind: str, directory: Path, *, retention: Retention | None = None, clock: Clock | None = None
) -> Iterator[Journal]:
    """A fresh journal of a kind, closed at the end."""
    journal: Journal
    if kind == "memory":
        journal = MemoryJournal(retention=retention, clock=clock)
    else:
        journal = SqliteJournal(directory / "events.db", retention=retention, clock=clock)
    try:
        yield journal
    finally:
        journal.close()
