"""The first lines a child interpreter runs; by path, so that they work before ``dspex`` can be imported.

Arguments: the number of the socket, and the process id of the parent.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from types import FrameType
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
LEAVE: Final = 3.0
"""Seconds for the clean-up of a child whose actor has ended, if the parent is gone by then."""
LEAVING: Final = threading.Event()
"""The placed actor has ended: the process ends by itself."""
ORPHANED: Final = 70
"""Exit code of a child whose parent is gone (``EX_SOFTWARE``); nobody is there to read it."""


def ignore(number: int, frame: FrameType | None) -> None:
    """Ctrl-C in a terminal reaches every process: what it means is the parent's to say."""


def die_with_parent(parent: int) -> None:
    """Have the system kill this process with its parent (Linux), also if no line of Python runs here any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before that
        os._exit(ORPHANED)


def watch_parent(number: int) -> None:
    """End this process when the parent's half of the socket is closed, whatever the loop does. On a thread."""
    poll = select.poll()
    poll.register(number, 0)  # only the end of the other half is asked for, and that always comes
    while not any(happened & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, happened in poll.poll()):
        pass
    if LEAVING.is_set():
        time.sleep(LEAVE)  # noqa: TID251 - the process is about to end by itself
    os._exit(ORPHANED)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            os._exit(ORPHANED)
        data += more
    return data


def main() -> None:
    """Read where everything is, then be the child."""
    number, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, ignore)
    die_with_parent(parent)
    connection = socket.socket(fileno=number)
    connection.set_inheritable(False)
    threading.Thread(target=watch_parent, args=(number,), name="dspex-parent", daemon=True).start()
    (size,) = struct.unpack("!Q", read_exactly(connection, 8))
    settings: dict[str, Any] = json.loads(read_exactly(connection, size))
    sys.path[:] = settings["path"]
    importlib.import_module(f"{settings['package']}.child").main(connection, settings, LEAVING.set)


if __name__ == "__main__":
    main()
