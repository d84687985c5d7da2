"""Who works on a run: one process at a time, and how the others know that it is dead."""

from __future__ import annotations

import json
import os
import platform
import secrets
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

LEASE: Final = 30.0
"""Seconds without a sign of life after which a run may be taken over, from another machine too."""
HEARTBEAT: Final = 5.0
"""Seconds between two signs of life."""
_START_TIME: Final = 19
"""Place of a process's start time in ``/proc/<pid>/stat``, behind its name (proc(5), field 22)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that works on runs.

    Attributes:
        host: its machine.
        pid: its number there.
        started: when it began, as the system tells it: numbers are used again, with another beginning.
        token: its own; what is written to a run must carry the token of the run's owner.
        space: where its number is known: containers of one machine, even of one host name, number for themselves.
    """

    host: str
    pid: int
    started: str
    token: str = field(repr=False)
    space: str = ""

    @classmethod
    def myself(cls) -> Self:
        """This process, with a new token."""
        pid = os.getpid()
        return cls(platform.node(), pid, start_time(pid) or "", secrets.token_hex(8), number_space())

    def alive(self, heartbeat: float, now: float) -> bool:
        """Whether it is to be left alone.

        Args:
            heartbeat: its last sign of life, epoch seconds.
            now: epoch seconds.
        """
        near = (self.host, self.space) == (platform.node(), number_space())
        if near and start_time(self.pid) != (self.started or None):
            return False
        return now - heartbeat < LEASE

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host or 'this machine'}"

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(text))


def number_space() -> str:
    """The namespace of this process's number (pid_namespaces(7)); empty where there are none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When a process of this machine began, in the system's own words, or None if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _listed(pid)
    except (ProcessLookupError, PermissionError):
        return None
    state, *fields = stat.rpartition(") ")[2].split()
    # A zombie has ended; only its parent has not noticed yet.
    return None if state in "ZX" else fields[_START_TIME - 1]


def _listed(pid: int) -> str | None:
    # Without /proc (macOS, the BSDs).
    found = subprocess.run(  # noqa: S603 - fixed arguments and a number
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None
