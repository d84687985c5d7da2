"""A text, written to a file as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text, in the place of whatever is there.

    Raises:
        OSError: it cannot be written; it names ``path``.
    """
    try:
        _write(Path(path), text)
    except OSError as error:
        # What failed may be the file beside it, which nobody asked for.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _write(path: Path, text: str) -> None:
    # Beside the file and then over it: a crash leaves the old one or the new one.
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".dspex-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:  # fault boundary: nothing is handled here, half a file is only taken away
        Path(fresh).unlink()
        raise
