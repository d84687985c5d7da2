"""Where the consoles of running applications listen, and who may use them.

Each application has a Unix socket of its own, ``<user runtime folder>/dspex/<app>-<pid>.sock``. Folder and
socket belong to the user alone; on top of that the server asks the system who is at the other end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ....runtime.errors import UsageError

MAX_OF_A_NAME: Final = 100
"""Applications of one name in one process that can have a console."""
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(frozen=True, slots=True)
class Address:
    """The console of a running application.

    Attributes:
        app: name of the application.
        pid: its process.
        path: its socket.
    """

    app: str
    pid: int
    path: Path


def folder() -> Path:
    """The folder of this user's sockets; it need not exist.

    It stands in the user's runtime folder, where the system has one (XDG Base Directory Specification), else in
    the folder for temporary files. Not asked of platformdirs, which warns the host program where there is none.
    """
    user = os.geteuid()
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}")
    if runtime.is_absolute() and runtime.is_dir():
        return runtime / "dspex"
    return Path(tempfile.gettempdir()) / f"dspex-{user}"


def check_folder(place: Path) -> None:
    """Refuse a folder that somebody else may have prepared.

    Raises:
        UsageError: it is no folder, or others than this user may enter it.
    """
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise UsageError(
            f"expected a folder that only this user may enter, got {stat.filemode(found.st_mode)}, at {place}"
        )


def listen(app: str) -> tuple[socket.socket, Path]:
    """Make the socket of this process's application, owner-only.

    Raises:
        OSError: the system refuses it, or has no Unix sockets.
        UsageError: the folder is not safe.
    """
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(place)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path = _bind(server, place, f"{app}-{os.getpid()}")
        path.chmod(0o600)
        server.listen()
    except BaseException:  # fault boundary: a socket that is of no use is closed; it is raised again
        server.close()
        raise
    return server, path


def _bind(server: socket.socket, place: Path, stem: str) -> Path:
    for number in range(1, MAX_OF_A_NAME + 1):
        path = place / (f"{stem}.sock" if number == 1 else f"{stem}.{number}.sock")
        try:
            server.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return path
    raise OSError(errno.EADDRINUSE, f"{MAX_OF_A_NAME} consoles of this name are there", str(place))


def is_owner(connection: socket.socket) -> bool:
    """Whether the other end is a process of this very user; where the system cannot tell, the folder must do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.geteuid())


def running() -> tuple[Address, ...]:
    """The applications of this user that have a console; what a killed process left behind is removed.

    Raises:
        UsageError: the folder is not safe.
    """
    place = folder()
    if not place.exists():
        return ()
    check_folder(place)
    found: list[Address] = []
    for path in sorted(place.glob("*.sock")):
        app, _, rest = path.stem.rpartition("-")
        pid = rest.partition(".")[0]
        if not app or not pid.isdecimal():
            continue
        if _is_dead(int(pid)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        else:
            found.append(Address(app, int(pid), path))
    return tuple(found)


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return True  # the number has gone to another user's process; ours is over
    return False
