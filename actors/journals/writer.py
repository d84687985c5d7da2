"""The writer thread: whatever waits is one transaction, and then everybody hears (group commit).

While a transaction is written the next appends gather, so the more there are, the larger the transactions and the
less each event costs; one that comes alone is written at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field
from typing import Final, Protocol

from ...runtime.errors import StoreError, StoreUnavailable
from ...runtime.log import get_logger
from ..events.codec import Record

MAX_GROUP: Final = 10_000
"""The most events in one transaction, unless a single batch is larger."""
_RETRY: Final = 60.0
"""Seconds until retention is tried again after it failed."""


class Log(Protocol):
    """What the writer writes to, in its own thread only."""

    def write(self, batches: Sequence[Sequence[Record]]) -> list[tuple[int, ...]]:
        """Store all batches in one transaction, or nothing (StoreError)."""
        ...

    def prune(self, before: float, types: Sequence[str]) -> int:
        """Forget older events; how many."""
        ...

    def maintain(self) -> float | None:
        """Apply retention, a little at a time; seconds until it wants to be called again, or None."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


@dataclass(slots=True)
class _Append:
    records: Sequence[Record]
    future: Future[tuple[int, ...]] = field(default_factory=Future[tuple[int, ...]])


@dataclass(slots=True)
class _Prune:
    before: float
    types: Sequence[str]
    future: Future[int] = field(default_factory=Future[int])


class GroupWriter:
    """Owns a log and the only thread that writes to it.

    Args:
        log: where to write; closed with the writer.
        name: the thread's name.
        max_waiting: with this many events waiting, more are refused (the disk does not keep up).
    """

    def __init__(self, log: Log, name: str, max_waiting: int = 100_000) -> None:
        self._log = log
        self._logger = get_logger("dspex.event_store")
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._jobs: deque[_Append | _Prune] = deque()
        self._closing = False
        self.waiting = 0
        self.refused = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def append(self, records: Sequence[Record]) -> Future[tuple[int, ...]]:
        """Queue a batch; the future fails with StoreUnavailable if the writer is closed or too far behind."""
        job = _Append(records)
        with self._changed:
            # A single batch may be larger than the bound; it is refused only if others wait. An empty one never is.
            full = records and self.waiting and self.waiting + len(records) > self._max_waiting
            if not self._closing and not full:
                self.waiting += len(records)
                self._jobs.append(job)
                self._changed.notify()
                return job.future
            self.refused += len(records)
        what = "a closed one" if self._closing else f"one with {self.waiting} events waiting for the disk"
        cause = "closed" if self._closing else "full_queue"
        job.future.set_exception(
            StoreUnavailable(f"expected a journal that takes events, got {what}, at append", cause=cause)
        )
        return job.future

    def prune(self, before: float, types: Sequence[str]) -> Future[int]:
        """Queue a pruning, after the appends that came before it."""
        job = _Prune(before, types)
        with self._changed:
            if not self._closing:
                self._jobs.append(job)
                self._changed.notify()
                return job.future
        job.future.set_exception(StoreUnavailable("expected an open journal, got a closed one", cause="closed"))
        return job.future

    def close(self) -> None:
        """Write what waits, close the log and end the thread; closing again does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        # A callback of a future runs in the writer's thread, which cannot wait for itself.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        pause: float | None = 0.0
        while True:
            with self._changed:
                if not self._jobs and not self._closing:
                    self._changed.wait(pause)
                if not self._jobs and self._closing:
                    break
                group = self._next_group()
            if group and isinstance(group[0], _Prune):
                self._prune(group[0])
            else:
                self._commit([job for job in group if isinstance(job, _Append)])
            pause = self._maintain()
        self._log.close()

    def _next_group(self) -> list[_Append | _Prune]:
        # Appends up to the next pruning or the size of a group; or one pruning.
        group: list[_Append | _Prune] = []
        events = 0
        while self._jobs:
            job = self._jobs[0]
            if isinstance(job, _Prune):
                if not group:
                    group.append(self._jobs.popleft())
                break
            if group and events + len(job.records) > MAX_GROUP:
                break
            events += len(job.records)
            group.append(self._jobs.popleft())
        return group

    def _commit(self, jobs: Sequence[_Append]) -> None:
        if not jobs:
            return
        # A caller that gave up in time takes its events back.
        live = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        with self._changed:
            self.waiting -= sum(len(job.records) for job in jobs)
        if live:
            self._write(live)

    def _write(self, jobs: Sequence[_Append]) -> None:
        try:
            places = self._log.write([job.records for job in jobs])
        except StoreError as error:
            if len(jobs) == 1 or error.facts.get("cause") == "locked":
                self._refuse(jobs, error)
                return
            # One bad or too large batch must not take the others with it: each by itself.
            # (A locked file would let each of them wait as long again.)
            for job in jobs:
                self._write([job])
        except Exception as error:  # fault boundary: the thread must live, and no future may hang
            self._refuse(jobs, StoreUnavailable(f"the journal failed to write: {error!r}", cause=repr(error)))
        else:
            for job, seqs in zip(jobs, places, strict=True):
                job.future.set_result(seqs)

    def _refuse(self, jobs: Sequence[_Append], error: StoreError) -> None:
        for job in jobs:
            self.refused += len(job.records)
            # One each: whoever gets it is told its own trace in it.
            job.future.set_exception(error if job is jobs[0] else copy(error))

    def _prune(self, job: _Prune) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            count = self._log.prune(job.before, job.types)
        except StoreError as error:
            job.future.set_exception(error)
        except Exception as error:  # fault boundary: as in _write
            job.future.set_exception(StoreUnavailable(f"the journal failed to prune: {error!r}", cause=repr(error)))
        else:
            job.future.set_result(count)

    def _maintain(self) -> float | None:
        try:
            return self._log.maintain()
        except StoreError:
            # Nobody waits for this. It is tried again, and an append that meets the same fault reports it.
            return _RETRY
        except Exception as error:  # fault boundary: as in _write
            self._logger.error("the journal failed to forget", error=repr(error))
            return _RETRY
