"""For tests with processes of their own: waiting for ends, without polling."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from pathlib import Path


def wait_ended(*pids: int, seconds: float = 10.0) -> None:
    """Wait until these processes, of whomever, have ended."""
    until = time.monotonic() + seconds
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], max(0.0, until - time.monotonic()))[0], f"{pid} still runs"
        finally:
            os.close(handle)


async def wait_reaped(*pids: int, seconds: float = 10.0) -> None:
    """Wait until nothing of these child interpreters is left, not even a zombie."""
    for pid in pids:
        for thread in threading.enumerate():
            if thread.name == f"dspex-wait-{pid}":
                await asyncio.to_thread(thread.join, seconds)
        assert not exists(pid), f"{pid} is still there"


def exists(pid: int) -> bool:
    """Whether there is such a process, zombies included."""
    return Path(f"/proc/{pid}").exists()


def children() -> set[int]:
    """The child interpreters that are waited for: each has a thread that does."""
    prefix = "dspex-wait-"
    return {int(each.name.removeprefix(prefix)) for each in threading.enumerate() if each.name.startswith(prefix)}


def open_files() -> int:
    """How many file descriptors are open here."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
