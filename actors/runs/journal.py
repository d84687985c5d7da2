"""The journal of a run, ``run-journal/<id>``: what was paid for is found again, whatever dies.

It stands left of the run, so that a crash of the run does not touch it. An answer is acknowledged once it would survive
a ``kill -9`` of the process.

A small record is written here and now: to hand it to the operating system takes some 20 µs, to hand it to a thread and
hear of it several times that. Whatever might take longer is a thread's: large records, a file that somebody else
uses, and from time to time one that brings all the others from SQLite's log into the file, which waits for the disk.
What comes meanwhile is one transaction (group commit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...runtime.calls import Call
from ...runtime.errors import Error, RunConflict, StoreError
from ...runtime.gen_server import GenServer, NoReply, Stop, call, info
from ...runtime.messages import TaskDone, TaskFailed
from ...runtime.reasons import Reason, is_normal
from .messages import (
    OVER,
    Entry,
    JournalInfo,
    JournalStatus,
    Paid,
    Recall,
    RecallAll,
    RecallKeys,
    Record,
    RunState,
    Wish,
    Wished,
)
from .owner import HEARTBEAT
from .store import RunStore

_FLUSHED: Final = "flushed"
_SMALL: Final = 64 * 1024
"""Characters that are written here and now."""
_PAGES: Final = 16 * 1024
"""What the smallest record adds to SQLite's log: each page that it changes is written whole."""
_MANY: Final = 8 * 1024 * 1024
"""How far that log may grow until it is a thread's turn again."""
_SLOW: Final = 0.02
"""Seconds: a transaction that took longer speaks for a disk that keeps its writers waiting."""
_PATIENCE: Final = 5.0
"""Seconds for which all is left to threads then."""


@dataclass(frozen=True, slots=True)
class _Beat:
    """To itself: time for a sign of life."""


@dataclass(frozen=True, slots=True)
class _Written:
    wish: Wish | None
    error: Error | None


class RunJournal(GenServer):
    """The journal of one run.

    Args:
        run: the run's id.
        kind: what kind of run.
        plan: JSON: what it needs to begin again.
        store: the file of runs.

    Raises:
        RunConflict: another process works on the run.
        StoreError: the file cannot be used.
    """

    trap_exit = True  # so that terminate runs, and what waits is written

    async def init(self, run: str, kind: str, plan: Mapping[str, Any], store: RunStore) -> None:
        """Take the run, and learn what it has recorded."""
        self._run = run
        self._store = store
        self._pen = await self.run_blocking(store.take_pen, run)
        stored = await self.run_blocking(store.begin, run, kind, plan)
        self._known = await self.run_blocking(store.keys, run)
        self._paid = stored.paid
        self._state: RunState = stored.state
        self._progress = stored.progress
        self._recalled = self._recorded = 0
        self._waiting: list[tuple[Record, Call]] = []
        self._writing: list[tuple[Record, Call]] = []
        self._busy = False  # with a transaction on a thread
        self._since_thread = 0  # how far the log has grown since a thread wrote
        self._not_before = 0.0  # monotonic time
        self._wish: Wish | None = None
        self.start_timer(HEARTBEAT, _Beat())

    @call
    def recall(self, msg: Recall) -> NoReply | None:
        """Answer a value; without a look at the disk if there is none."""
        if (msg.kind, msg.key) not in self._known:
            return None
        self._recalled += 1
        return self.serve(self.run_blocking(self._store.read, self._run, msg.kind, msg.key))

    @call
    def recall_all(self, msg: RecallAll) -> NoReply:
        """Answer all entries of a kind."""
        return self.serve(self.run_blocking(self._store.entries, self._run, msg.kind))

    @call
    def recall_keys(self, msg: RecallKeys) -> frozenset[str]:
        """Answer all keys of a kind."""
        return frozenset(key for kind, key in self._known if kind == msg.kind)

    @call
    def record(self, msg: Record) -> NoReply | None:
        """Write entries, now or with the next transaction; in the latter case the answer follows."""
        if self._write_now(msg):
            return None
        self._waiting.append((msg, self.caller))
        self._flush()
        return NoReply()

    @call
    def status(self, _: JournalInfo) -> JournalStatus:
        """How it is."""
        return JournalStatus(self._paid, self._recalled, self._recorded, self._state, self._progress)

    # -- writing -----------------------------------------------------------------------------------

    def _write_now(self, record: Record) -> bool:
        """Whether it could be written at once."""
        size = sum(len(entry.value) for entry in record.entries)
        began = self.clock.monotonic()
        # In order: never before what came earlier.
        if self._busy or size > _SMALL or self._since_thread > _MANY or began < self._not_before:
            return False
        try:
            wish = self._commit([record], wait=False)
        except (StoreError, RunConflict, TypeError, ValueError):
            return False  # the thread tries it, too, and says what is wrong
        now = self.clock.monotonic()
        if now - began > _SLOW:
            self._not_before = now + _PATIENCE
        self._since_thread += _PAGES + size
        self._wish = wish or self._wish
        self._note(record)
        self._tell()
        return True

    def _flush(self) -> None:
        if self._waiting and not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        self.detach(self._write_waiting(), tag=_FLUSHED)

    async def _write_waiting(self) -> _Written:
        # Only now: answers that came together are written together.
        self._writing, self._waiting = self._waiting, []
        return await self._write([record for record, _ in self._writing])

    async def _write(self, records: list[Record]) -> _Written:
        try:
            return _Written(await self.run_blocking(self._commit, records), None)
        except (StoreError, RunConflict) as error:
            return _Written(None, error)
        except (TypeError, ValueError) as error:
            return _Written(None, StoreError(f"expected what is JSON, got {error}, at run-journal/{self._run}"))

    def _commit(self, records: list[Record], *, wait: bool = True) -> Wish | None:
        # Only one at a time; on a thread if it may wait.
        entries, paid, progress, state = _together(records)
        paid += self._paid
        return self._store.write(
            self._run, entries, pen=self._pen, paid=paid, progress=progress, state=state, wait=wait
        )

    @info
    def written(self, msg: TaskDone) -> None:
        """A transaction is over: answer who waits for it, begin the next."""
        outcome, group = msg.value, self._writing
        assert isinstance(outcome, _Written)
        self._writing, self._busy, self._since_thread = [], False, 0
        for record, caller in group:
            if outcome.error is not None:
                self.fail(caller, outcome.error)
                continue
            self._note(record)
            self.reply(caller, None)
        self._wish = outcome.wish or self._wish
        self._tell()
        self._flush()

    def _note(self, record: Record) -> None:
        self._paid += record.paid
        self._progress = self._progress if record.progress is None else record.progress
        self._state = record.state or self._state
        self._known.update((entry.kind, entry.key) for entry in record.entries)
        self._recorded += len(record.entries)

    @info
    def write_failed(self, msg: TaskFailed) -> Stop:
        """A defect: nobody is to wait for ever."""
        return Stop(msg.reason)

    def _tell(self) -> None:
        """Tell the run what was asked of it; one that is just being restarted hears of it with the next transaction."""
        entry = self.system.names.get(f"run/{self._run}")
        if self._wish is not None and entry is not None and entry.address is not None and entry.state == "running":
            self.send(entry.address, Wished(self._wish))
            self._wish = None

    @info
    def beat(self, _: _Beat) -> None:
        """A sign of life, and a look whether somebody asked for something."""
        self.start_timer(HEARTBEAT, _Beat())
        if not self._busy and self._state not in OVER:
            self._begin()

    async def terminate(self, reason: Reason) -> None:
        """Write what waits, and let go of the run if it is not to be started again: who does need not wait."""
        group = self._writing + self._waiting
        # A transaction that is under way is over then, or is never begun: what it would write is written here.
        self._pen = await self.run_blocking(self._store.take_pen, self._run)
        outcome = await self._write([record for record, _ in group]) if group else _Written(None, None)
        for _, caller in group:
            if outcome.error is None:
                self.reply(caller, None)
            else:
                self.fail(caller, outcome.error)
        if is_normal(reason):
            await self.run_blocking(self._store.release, self._run)


def _together(records: list[Record]) -> tuple[list[Entry], Paid, Mapping[str, Any] | None, RunState | None]:
    entries: list[Entry] = []
    paid, progress, state = Paid(), None, None
    for record in records:
        entries += record.entries
        paid += record.paid
        progress = record.progress if record.progress is not None else progress
        state = record.state or state
    return entries, paid, progress, state
