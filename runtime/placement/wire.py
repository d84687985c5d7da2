"""What crosses between two interpreters: items, each a short header and one pickle.

::

    | length: 8 bytes | kind: 1 | id: 8 | pickle (protocol 5), ``length`` bytes |

Kind and id stand outside the pickle, so that an item whose content cannot be read at the other side still
names the call it belongs to. A *batch* is any number of items in one write.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from ..context import Context
from ..errors import RemoteError, UsageError
from ..reasons import Crash, Reason, describe

HEADER: Final = struct.Struct("!QBQ")
PROTOCOL: Final = 5

CALL, REPLY, GIVE_UP, CAST, INFO, TAKEN = range(6)
"""A call, its answer, its caller's end; a cast, a plain message; how many of those the placed actor has taken."""
EXIT, STOP, WATCH, UNWATCH, DOWN, LINK, UNLINK = range(6, 13)
"""Exit signals, orders to stop, monitors, links."""
START, BORN, STARTED, ENDED, METADATA, EVENT = range(13, 19)
"""The life of the placed actor, and what it announces."""
KINDS: Final = 19

_DEPTH: Final = 5
"""How deep the part that does not pickle is looked for."""


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        kind = cast("type[object]", type(obj))
        if kind is Context:
            return Context, (obj.trace_id, obj.span_id, obj.parent_id, obj.user)
        if kind is Crash:
            return Crash, (portable_error(obj.error), obj.traceback)
        if isinstance(obj, BaseException) and not _survives(obj):
            return _described(obj).__reduce__()
        return NotImplemented


def dumps(body: Any, what: Any = None) -> bytes:
    """Pickle one item's content.

    Args:
        body: the content.
        what: the part of it that is the user's, to be named if it does not pickle.

    Raises:
        UsageError: it does not pickle: which class, and at which attribute. Values are never shown.
    """
    file = io.BytesIO()
    try:
        _Pickler(file, PROTOCOL).dump(body)
    except Exception as error:  # fault boundary: pickling runs the message's own code
        given = body if what is None else what
        place, culprit, why = _culprit(given, error)
        name = type(given).__qualname__
        raise UsageError(
            f"expected a value that pickles, to cross to another process; got {culprit} at {name}{place}: {why}",
            type=name,
            attribute=place,
            culprit=culprit,
        ) from None
    return file.getvalue()


def loads(data: bytes | memoryview) -> Any:
    """The content of one item."""
    return pickle.loads(data)  # noqa: S301 - from the socket pair with our own other half


def item(kind: int, id: int, data: bytes) -> tuple[bytes, bytes]:
    """One item as it is written: header and content."""
    return HEADER.pack(len(data), kind, id), data


class Reader:
    """Cuts what comes out of the socket into items."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Take some bytes; kind, id and content of each item that is complete now."""
        buffer = self._buffer
        buffer += data
        at, size = 0, len(buffer)
        try:
            while size - at >= HEADER.size:
                length, kind, id = HEADER.unpack_from(buffer, at)
                begin = at + HEADER.size
                if size - begin < length:
                    break
                at = begin + length
                with memoryview(buffer) as view:
                    content = bytes(view[begin:at])
                yield kind, id, content
        finally:
            del buffer[:at]


# -- what does not pickle ------------------------------------------------------------------------------


def portable_error(error: BaseException) -> BaseException:
    """The error itself if it comes out at the other side as it is, else a description of it."""
    return error if _survives(error) else _described(error)


def portable_reason(reason: Reason) -> Reason:
    """An exit reason that crosses: itself, or in words."""
    try:
        dumps(reason)
    except UsageError:
        return describe(reason)
    return reason


def _survives(error: BaseException) -> bool:
    # Many exceptions pickle but do not unpickle: their constructors take other arguments than they keep.
    try:
        return type(pickle.loads(pickle.dumps(error, PROTOCOL))) is type(error)  # noqa: S301 - made in this line
    except Exception:  # fault boundary: runs the exception's own code
        return False


def _described(error: BaseException) -> RemoteError:
    name = type(error).__name__
    return RemoteError(f"{name}: {error}", type=name, text=str(error))


def _culprit(value: Any, error: Exception) -> tuple[str, str, str]:
    """Where in a value it is that does not pickle, its class, and why."""
    place = ""
    for _ in range(_DEPTH):
        for name, part in _parts(value):
            failure = _failure(part)
            if failure is not None:
                place, value, error = place + name, part, failure
                break
        else:
            break
    return place, type(value).__qualname__, str(error)


def _failure(value: Any) -> Exception | None:
    try:
        _Pickler(io.BytesIO(), PROTOCOL).dump(value)
    except Exception as error:  # fault boundary: pickling runs the value's own code
        return error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in cast("Mapping[object, Any]", value).items():
            yield f"[{key!r}]" if isinstance(key, (str, int)) else "[...]", part
    elif isinstance(value, (tuple, list, set, frozenset)):
        fields: tuple[str, ...] | None = getattr(cast("object", value), "_fields", None)
        for number, part in enumerate(cast("tuple[Any, ...]", value)):
            yield f".{fields[number]}" if fields else f"[{number}]", part
    else:
        names = [*getattr(value, "__dict__", ())]
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            names += [slots] if isinstance(slots, str) else slots
        for name in names:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                yield f".{name}", getattr(value, name)
