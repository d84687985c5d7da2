"""Whether a run that goes on is the one that was begun: a word or a hash for each part of its code, data, settings."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Final, cast

from ...runtime.errors import RunConflict

_SHOWN: Final = 40
_NOT_THE_USERS: Final = sys.stdlib_module_names | {"dspex", "pydantic"}


def check_same(what: str, run: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with a run that was begun otherwise.

    Args:
        what: the kind of run, in words.
        run: its id.
        then: the parts as they were.
        now: the parts as they are.

    Raises:
        RunConflict: with ``differences``: part -> (then, now).
    """
    differences = {part: (then.get(part), now.get(part)) for part in {**then, **now} if then.get(part) != now.get(part)}
    if not differences:
        return
    shown = "; ".join(text for part, (old, new) in differences.items() for text in _told(part, old, new))
    raise RunConflict(
        f"expected the {what} {run!r} as it was begun, got another {', '.join(differences)} ({shown}); "
        f"take another run_id, with fork={run!r} to use its model answers again",
        run_id=run,
        differences=differences,
    )


def code_of(code: object, name: str) -> str:
    """A metric as a text that changes with its source and, where it is a value, with its fields.

    Args:
        code: the metric.
        name: what it is called.
    """
    if isinstance(code, partial):
        return f"{code_of(code.func, name)} {_value(code.args)} {_value(code.keywords)}"
    told = f" {_value(code)}" if is_dataclass(code) else ""
    return f"{name}{told} {source_hash(code)}".strip()


def source_hash(*code: object) -> str:
    """Changes with the source of functions, and of classes and those of the user's that they inherit from.

    An object stands for its class. Empty if there is no source: written in C, or at a prompt.
    """
    parts = [part for each in code for part in _with_inherited(each)]
    source = "".join(map(_source, dict.fromkeys(parts)))
    return hashlib.sha256(source.encode()).hexdigest()[:16] if source else ""


def _with_inherited(code: object) -> list[Any]:
    if inspect.isroutine(code):
        return [code]
    found = code if isinstance(code, type) else type(code)
    return [each for each in found.__mro__ if each is found or _of_the_user(each)]


def _of_the_user(code: type) -> bool:
    return code.__module__.partition(".")[0] not in _NOT_THE_USERS


def _source(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return ""


def _value(value: object) -> str:
    """As ``repr``, but the same in each process: no address in memory, no set in the order of its hashes."""
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{value.__qualname__} {source_hash(value)}".strip()
    if isinstance(value, partial):
        return f"partial({_value(value.func)}, {_value(value.args)}, {_value(value.keywords)})"
    if is_dataclass(value):
        told = ", ".join(f"{each.name}={_value(getattr(value, each.name))}" for each in fields(value) if each.repr)
        return f"{type(value).__qualname__}({told})"
    if type(value) in (list, tuple, set, frozenset):
        entries = map(_value, cast("Iterable[object]", value))
        return f"({', '.join(sorted(entries) if isinstance(value, AbstractSet) else entries)})"
    if type(value) is dict:
        pairs = cast("dict[object, object]", value).items()
        return f"{{{', '.join(f'{_value(key)}: {_value(each)}' for key, each in pairs)}}}"
    return type(value).__qualname__ if type(value).__repr__ is object.__repr__ else repr(value)


def _told(part: str, old: str | None, new: str | None) -> list[str]:
    """The difference in words; of JSON objects, only what differs in them."""
    before, after = _object(old), _object(new)
    if before is None or after is None:
        return [f"{part}: {_short(old)} then, {_short(new)} now"]
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"{part}.{key}: {_short(before.get(key))} then, {_short(after.get(key))} now" for key in keys]


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None or not text.startswith("{"):
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def _short(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
