"""Paths into the settings: read, put and remove at a path, within limits.

A path is a tuple of names or a dotted text: ``("ai", "caching", "enabled")`` or ``"ai.caching.enabled"``; the
empty path is the whole. A *tree* is the configuration as plain nested mappings, only what somebody set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

from pydantic import BaseModel

from ...runtime.errors import ConfigError, did_you_mean
from ...runtime.secret import LostSecret, Secret, SecretRef
from .schema import child
from .settings import Settings
from .types import LONGEST_BARE, SECONDS, SettingsModel, is_table

Path: TypeAlias = tuple[str, ...]
PathLike: TypeAlias = str | Sequence[str]
Tree: TypeAlias = dict[str, Any]

MANY: Final = 500
"""Among more names than this no similar one is looked for: it would take too long."""

_ABSENT: Final = object()
_INTEGER_BITS: Final = 63
_LEAVES: Final = (str, bool, int, float, Decimal, timedelta, Secret, SecretRef, LostSecret)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a path or a value may be.

    Attributes:
        path_length: names in a path.
        nesting: tables and lists within one another.
        text_length: characters of one text.
        entries: values in all.
    """

    path_length: int = 50
    nesting: int = 20
    text_length: int = 1_000_000
    entries: int = 100_000


LIMITS: Final = Limits()


def dotted(path: Path) -> str:
    """The path as people write it."""
    return ".".join(path) or "the top"


def parse_path(path: object, limits: Limits = LIMITS) -> Path:
    """Return the path as a tuple of names.

    Args:
        path: a dotted text or a sequence of names; empty is the whole configuration.
        limits: how long it may be.

    Raises:
        ConfigError: it is too long, or a part is no name (facts: path, expected, got).
    """
    if isinstance(path, str):
        names: tuple[object, ...] = tuple(path.split(".")) if path else ()
    elif isinstance(path, Sequence):
        names = tuple(cast("Sequence[object]", path))
    else:
        raise _refused("a path: a dotted text or a sequence of names", type(path).__name__)
    if len(names) > limits.path_length:
        raise _refused(f"a path of at most {limits.path_length} names", f"{len(names)} names")
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            shown = repr(name[:40]) if isinstance(name, str) else type(name).__name__
            raise _refused("names of letters, digits, - and _, at most 100 long, in a path", shown)
    return cast("Path", names)


def plain(value: object, at: Path = (), limits: Limits = LIMITS) -> Any:
    """Return ``value`` as a fresh tree of plain values; models become what was set in them.

    Raises:
        ConfigError: it is nested too deep, too large, or holds something that no setting can be (a function,
            an object); the value itself is never shown.
    """
    budget = iter(range(limits.entries))
    return _plain(value, at, limits, budget, limits.nesting)


def read_at(settings: Settings, path: Path) -> Any:
    """Return the setting at ``path``: a model, a table or a value. None is a value.

    Raises:
        ConfigError: nothing is there; with a did-you-mean (facts: path, expected, got, reason).
    """
    here: object = settings
    for depth, name in enumerate(path):
        below = _below(here, name)
        if below is _ABSENT:
            raise _missing(path, depth, here)
        here = below
    return here


def find_at(settings: Settings, path: Path) -> Any:
    """As :func:`read_at`, but None where nothing is."""
    here: object = settings
    for name in path:
        here = _below(here, name)
    return None if here is _ABSENT else here


def tree_of(value: object) -> Any:
    """Return what was set in settings as a plain tree that validates to equal settings."""
    if isinstance(value, BaseModel | Mapping):
        return {name: tree_of(entry) for name, entry in _set_entries(cast("object", value)).items()}
    if isinstance(value, tuple | list):
        return [tree_of(entry) for entry in cast("Sequence[object]", value)]
    return value


def with_value(here: object, path: Path, value: object) -> Any:
    """Return the settings (a model or a table) as a tree with ``value`` at ``path``.

    What lies beside the path stays as it is, models included: it needs no second validation.
    """
    if not path:
        return value
    entries = _set_entries(here)
    return {**entries, path[0]: with_value(entries.get(path[0]), path[1:], value)}


def without(here: object, path: Path) -> Any:
    """Return the settings as a tree with nothing at ``path``; a path that is not there changes nothing."""
    entries = _set_entries(here)
    if not path[1:]:
        return {name: entry for name, entry in entries.items() if name != path[0]}
    return {**entries, path[0]: without(entries[path[0]], path[1:])} if path[0] in entries else entries


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> Tree:
    """Merge two trees: tables merge key by key, anything else of ``high`` (None too) replaces."""
    answer: Tree = {**low}
    for name, entry in high.items():
        below = answer.get(name)
        answer[name] = merged(below, entry) if is_table(below) and is_table(entry) else entry
    return answer


def _below(here: object, name: str) -> object:
    if isinstance(here, BaseModel):
        return getattr(here, name) if name in type(here).model_fields else _ABSENT
    return here.get(name, _ABSENT) if is_table(here) else _ABSENT


def _missing(path: Path, depth: int, here: object) -> ConfigError:
    known = type(here).model_fields if isinstance(here, BaseModel) else here if is_table(here) else {}
    where, name = dotted(path[:depth]), path[depth]
    if known:
        expected = f"one of the keys of {where}"
    else:
        expected = f"one of the keys of {where}, which has none" if is_table(here) else f"no keys below {where}"
    near = did_you_mean(name, known) if len(known) <= MANY else ""
    message = f"expected {expected}, got {name!r}, at {dotted(path)}{near}"
    return ConfigError(message, path=dotted(path), expected=expected, got=name, reason="path_not_found")


def _set_entries(value: object) -> dict[str, Any]:
    if isinstance(value, SettingsModel):
        model = type(value)
        names = [name for name in model.model_fields if name in value.model_fields_set]
        return {name: _as_written(getattr(value, name), model, name) for name in names}
    return {**value} if is_table(value) else {}


def _as_written(value: object, model: type[SettingsModel], name: str) -> object:
    """A setting as it may be given again: a long duration needs its unit."""
    if isinstance(value, float) and value > LONGEST_BARE and child(model, name) == SECONDS:
        return f"{Decimal(str(value)):f}s"
    return value


def _plain(value: object, at: Path, limits: Limits, budget: Iterator[int], nesting: int) -> Any:
    if next(budget, None) is None:
        raise _refused(f"at most {limits.entries} values", "more", at)
    if nesting < 0:
        raise _refused(f"at most {limits.nesting} tables within one another", "more", at)
    if isinstance(value, BaseModel):
        value = _set_entries(value)
    if isinstance(value, Mapping):
        return {
            _key(name, at): _plain(entry, (*at, str(name)), limits, budget, nesting - 1)
            for name, entry in cast("Mapping[object, object]", value).items()
        }
    if isinstance(value, list | tuple):
        return [_plain(entry, at, limits, budget, nesting - 1) for entry in cast("Sequence[object]", value)]
    return _leaf(value, at, limits)


def _leaf(value: object, at: Path, limits: Limits) -> object:
    if isinstance(value, str | Decimal) and (length := len(str(value))) > limits.text_length:
        raise _refused(f"texts of at most {limits.text_length} characters", f"{length} characters", at)
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise _refused("a finite number", repr(value), at)
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        raise _refused("a whole number of at most 64 bits, as in TOML", f"one of {value.bit_length()} bits", at)
    if value is None or isinstance(value, _LEAVES):
        return value
    raise _refused("a table, list, text, number, boolean or duration", type(value).__name__, at)


def _key(name: object, at: Path) -> str:
    if isinstance(name, str) and len(name) <= 1000:
        return name
    raise _refused("keys that are texts of at most 1000 characters", type(name).__name__, at)


def _refused(expected: str, got: str, at: Path = ()) -> ConfigError:
    where = f", at {dotted(at)}" if at else ""
    return ConfigError(
        f"expected {expected}, got {got}{where}", path=dotted(at) if at else "", expected=expected, got=got
    )
