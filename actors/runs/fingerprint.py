"""Whether a run that goes on is the one that was begun: a word or a hash for each part of its code, data, settings."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any, Final

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
        return f"{code_of(code.func, name)} {code.args} {code.keywords}"
    told = f" {code!r}" if is_dataclass(code) else ""
    return f"{name}{told} {source_hash(code if inspect.isroutine(code) else type(code))}".strip()


def source_hash(code: object) -> str:
    """Changes with the source of a function, or of a class and those of the user's that it inherits from.

    Empty if there is none: written in C, or at a prompt.
    """
    parts = [code, *_inherited(code)] if isinstance(code, type) else [code]
    try:
        source = "".join(inspect.getsource(part) for part in parts)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _inherited(code: type) -> list[type]:
    return [base for base in code.__mro__[1:] if base.__module__.partition(".")[0] not in _NOT_THE_USERS]


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
