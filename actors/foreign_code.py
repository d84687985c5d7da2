"""Code of the user that runs within a call: found by its import path, and its exceptions told as errors of the call."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable
from importlib import import_module
from typing import Final, TypeVar

from ..runtime.errors import ConfigError, Error, RemoteError, did_you_mean

T = TypeVar("T")
SHOWN: Final = 300
"""Characters of a foreign exception's text that the error shows."""


async def guarded(what: str, work: Awaitable[T]) -> T:
    """Await work of the user's code.

    Args:
        what: names the code in errors.
        work: what to wait for.

    Raises:
        Error: the code raised it.
        RemoteError: it raised something else, ``SystemExit`` too (facts: type, text, where); ``__cause__`` is that.
    """
    try:
        return await work
    except Error:
        raise
    except (Exception, SystemExit) as error:  # fault boundary: one call may not end the others of its actor
        raise foreign_error(what, error) from error


def foreign_error(what: str, error: BaseException) -> RemoteError:
    """The error that tells of an exception in code of the user."""
    kind, text, where = type(error).__name__, text_of(error)[:SHOWN], ""
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        where = f"{frames[-1].name}, line {frames[-1].lineno}"
    message = f"{what} raised {kind}: {text}{f' (in {where})' if where else ''}"
    return RemoteError(message, type=kind, text=text, where=where)


def text_of(error: BaseException) -> str:
    """What an exception says; nothing if it cannot say it."""
    try:
        return str(error)
    except Exception:  # fault boundary: how an error words itself is the user's code too
        return ""


def load(path: str, at: str) -> object:
    """What an import path names, ``package.module:name``.

    Raises:
        ConfigError: there is no such module or name.
    """
    module, colon, name = path.partition(":")
    expected = "'package.module:name' that can be imported"
    if not colon or not module or not name:
        raise ConfigError(f"expected {expected}, got {path!r}, at {at}", path=at, expected=expected, got=path)
    try:
        found: object = import_module(module)
    except ImportError as error:
        message = f"expected {expected}, got {path!r} ({error}), at {at}"
        raise ConfigError(message, path=at, expected=expected, got=path) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = did_you_mean(part, dir(found))
            message = f"expected a name that {module} has, got {path!r}{hint}, at {at}"
            raise ConfigError(message, path=at, expected=expected, got=path) from None
    return found


def path_of(thing: object, at: str) -> str:
    """The import path by which :func:`load` finds a class or function again.

    Raises:
        ConfigError: it does not: the thing was made inside a function, or another one stands there now.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    path = f"{module}:{name}"
    try:
        if isinstance(module, str) and isinstance(name, str) and load(path, at) is thing:
            return path
    except ConfigError:
        pass
    expected = "a class or function at the top of a module, so that it is found again after a restart"
    raise ConfigError(f"expected {expected}, got {path}, at {at}", path=at, expected=expected, got=path)
