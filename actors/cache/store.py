"""The disk behind the cache: a file that may be damaged, full, locked or gone, and never holds anybody up for it.

It is used from one thread at a time. After a failure it rests, so that a disk that is slow to fail is not asked again
and again; a damaged file is moved aside and a new one begun.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import platformdirs

from ...runtime.clock import Clock
from ...runtime.errors import StoreCorrupt, StoreError, StoreUnavailable
from .sqlite import AnswerFile

T = TypeVar("T")

MAX_BYTES: Final = 256 * 2**20
"""The most that the answers on disk take."""
REST: Final = 5.0
"""Seconds for which a disk that failed is left alone."""


def answer_file(folder: str | None, app: str) -> Path:
    """Where the answers of an application lie: ``<app>.db`` in the folder, by default ``<user cache dir>/dspex``.

    Raises:
        StoreError: the application's name cannot be a file's name, or the folder is in the home of nobody.
    """
    if not app or app != Path(app).name or app in (".", ".."):
        raise StoreError(f"expected an application name that can be a file's name, got {app!r}", key="app")
    if folder is None:
        return platformdirs.user_cache_path("dspex", appauthor=False) / f"{app}.db"
    try:
        return (Path(folder).expanduser() / f"{app}.db").absolute()
    except RuntimeError as error:
        raise StoreError(f"expected a folder, got {folder!r} ({error}), at ai.caching.disk_cache_path") from error


@dataclass(slots=True)
class DiskWork:
    """What the disk is asked at once, in this order.

    Attributes:
        clear: forget everything first.
        writes: answers to keep, by key.
        reads: keys to look up.
    """

    clear: bool = False
    writes: dict[str, str] = field(default_factory=dict[str, str])
    reads: dict[str, None] = field(default_factory=dict[str, None])

    def __bool__(self) -> bool:
        return self.clear or bool(self.writes) or bool(self.reads)


@dataclass(slots=True)
class DiskOutcome:
    """What came of it.

    Attributes:
        found: answers by key, each with its age in seconds.
        evicted: how many went for want of room.
        bytes: the space that answers take now, or None if that is not known.
        errors: what failed.
        damaged: for a damaged file: what was wrong, and where the file lies now (None if it had to be deleted).
        cleared: why it could not be cleared, or None.
    """

    found: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    evicted: int = 0
    bytes: int | None = None
    errors: list[StoreError] = field(default_factory=list[StoreError])
    damaged: tuple[StoreCorrupt, Path | None] | None = None
    cleared: StoreError | None = None


class DiskStore:
    """The answers on disk. Everything but ``close`` may block.

    Args:
        path: the file.
        clock: the wall clock counts ages, the other one rests.
        max_bytes: the most that answers take.
    """

    def __init__(self, path: Path, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._clock = clock
        self._max_bytes = max_bytes
        self._file: AnswerFile | None = None
        self._rests_until = 0.0
        self._using = threading.Lock()
        self._closing = False

    @property
    def resting(self) -> bool:
        """Whether it failed a moment ago and is left alone."""
        return self._clock.monotonic() < self._rests_until

    def run(self, work: DiskWork, ttl: float) -> DiskOutcome:
        """Do what is asked, or say what failed. Raises nothing that the disk can cause.

        Args:
            work: what is asked.
            ttl: seconds for which an answer is kept.
        """
        outcome = DiskOutcome()
        with self._using:
            if work.clear:
                outcome.cleared = self._try(outcome, lambda file: file.clear(), None)[1]
            now = self._clock.time()
            if work.writes:
                self._try(outcome, lambda file: file.write(work.writes, now), None)
                outcome.evicted, _ = self._try(outcome, lambda file: file.forget(now - ttl), 0)
            if work.reads:
                nothing: dict[str, tuple[str, float]] = {}
                rows, _ = self._try(outcome, lambda file: file.read(tuple(work.reads), now - ttl, now), nothing)
                outcome.found = {key: (value, now - created) for key, (value, created) in rows.items()}
            if self._file is not None:
                outcome.bytes, _ = self._try(outcome, lambda file: file.size(), None)
        self._close_if_asked()
        return outcome

    def _try(
        self, outcome: DiskOutcome, use: Callable[[AnswerFile], T], default: T, *, again: bool = True
    ) -> tuple[T, StoreError | None]:
        if self._closing or self.resting:
            return default, StoreUnavailable(
                f"expected a file of kept answers that works, got one that failed a moment ago, at {self.path}",
                path=str(self.path),
                cause="resting",
            )
        try:
            if self._file is None:
                self._file = AnswerFile(self.path, max_bytes=self._max_bytes)
            return use(self._file), None
        except StoreCorrupt as error:
            outcome.errors.append(error)
            outcome.damaged = error, self._set_aside()
            return self._try(outcome, use, default, again=False) if again else (default, error)
        except StoreError as error:
            outcome.errors.append(error)
            self._rests_until = self._clock.monotonic() + REST
            if error.facts.get("cause") != "locked":
                self._let_go()
            return default, error

    def _set_aside(self) -> Path | None:
        """Move the damaged file away, over the one before it; what stands beside it belongs to it and goes."""
        self._let_go()
        aside = self.path.with_name(self.path.name + ".corrupt")
        kept: Path | None = aside
        try:
            self.path.replace(aside)
        except OSError:
            kept = None
        for name in ("", "-wal", "-shm"):
            # What cannot be deleted either shows at the next opening.
            with suppress(OSError):
                self.path.with_name(self.path.name + name).unlink()
        if self.path.exists():
            self._rests_until = self._clock.monotonic() + REST
        return kept

    def close(self) -> None:
        """Let go of the file; a thread that uses it now does so when it is done."""
        self._closing = True
        self._close_if_asked()

    def _close_if_asked(self) -> None:
        # Whoever comes second sees the other's mark: the file is closed once, by one of them, and nobody waits.
        if self._closing and self._using.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._using.release()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
