"""The child interpreter as an operating system process: started, killed, waited for. POSIX only."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError

BOOT: Final = Path(__file__).with_name("boot.py")
PACKAGE: Final = __name__.rpartition(".")[0]


class Interpreter:
    """One child interpreter.

    Start it on a thread that lives as long as the child may: Linux kills a child that wants to die with its
    parent when the *thread* ends that started it.

    Args:
        settings: what the child's engine is made with; plain JSON values.
        on_exit: told when the process has ended; on a thread of this class's own.

    Attributes:
        connection: our half of the socket pair, not blocking.

    Raises:
        UsageError: there are no such processes on this system.
        OSError: the process could not be started.
    """

    def __init__(self, settings: Mapping[str, Any], on_exit: Callable[[], None]) -> None:
        if os.name != "posix":
            raise UsageError(f"expected a POSIX system for placement='process', got {os.name!r}")
        self.connection, theirs = socket.socketpair()
        try:
            # Nothing of the program's stands on the command line, where everybody could read it.
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, str(BOOT), str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        except OSError:
            self.connection.close()
            raise
        finally:
            theirs.close()
        # One thread each: it needs no signal handler, no child watcher and no loop of a certain kind.
        threading.Thread(target=self._wait, args=(on_exit,), name=f"dspex-wait-{self.pid}", daemon=True).start()
        data = json.dumps({"path": sys.path, "package": PACKAGE, "main": _main(), **settings}).encode()
        try:
            self.connection.sendall(struct.pack("!Q", len(data)) + data)
        except OSError:
            self.kill()
            self.connection.close()
            raise
        self.connection.setblocking(False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process lives."""
        return self._process.returncode

    def kill(self) -> None:
        """End it now; nothing in it can prevent that."""
        if self.exit_code is None:
            self._process.kill()

    def _wait(self, on_exit: Callable[[], None]) -> None:
        self._process.wait()
        on_exit()


def how(code: int) -> int | str:
    """An exit code for people and reasons: the code, or the signal's name."""
    if code >= 0:
        return code
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _main() -> dict[str, str]:
    """Where the program's own ``__main__`` comes from, for classes that are defined there."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if main is not None:
        sys.modules.setdefault("__mp_main__", main)  # under this name, multiprocessing's, the child has it
    if spec is not None:
        return {"name": spec.name}
    return {"path": str(Path(file).resolve())} if file is not None else {}
