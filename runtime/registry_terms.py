"""The terms that registry questions are made of: wildcards, variables, equality and the comparisons.

Patterns and keys compare strictly: ``1`` is not ``1.0``, ``True`` is not ``1`` (OTP REG-09). Clauses
and guards compare numbers as numbers (``1`` equals ``1.0``; a bool is no number), and lists and tuples
alike, because metadata is JSON-like. No comparison ever raises, whatever odd value it meets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeGuard

from .errors import RegistryError, did_you_mean


class _Special(Enum):
    # An enum, because its members keep their identity through pickle.
    ANY = "ANY"
    ENTRY = "ENTRY"
    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return self.name


ANY: Final = _Special.ANY
"""In a pattern: matches anything (Erlang ``_``)."""

ENTRY: Final = _Special.ENTRY
"""In a result: the whole matched entry (Erlang ``$_``)."""

ABSENT: Final = _Special.ABSENT
"""A value that is not there; equals nothing else."""


@dataclass(frozen=True, slots=True)
class Var:
    """In a pattern: matches anything and remembers it under ``name`` (Erlang ``$1``).

    The same variable twice in one pattern matches only equal values.
    """

    name: str


def is_mapping(term: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether the term is a mapping."""
    return isinstance(term, Mapping)


def is_sequence(term: object) -> TypeGuard[tuple[Any, ...] | list[Any]]:
    """Whether the term is a tuple or a list; a text is neither."""
    return isinstance(term, (tuple, list))


def is_tuple(term: object) -> TypeGuard[tuple[Any, ...]]:
    """Whether the term is a tuple."""
    return isinstance(term, tuple)


def is_collection(term: object) -> TypeGuard[tuple[Any, ...] | list[Any] | set[Any] | frozenset[Any]]:
    """Whether the term is what ``in`` may look into."""
    return isinstance(term, (tuple, list, set, frozenset))


def strict_key(key: Any) -> Any:
    """A dictionary key that tells ``1``, ``1.0`` and ``True`` apart (OTP REG-09).

    Raises:
        RegistryError: ``key`` is not hashable, or does not equal itself (a NaN).
    """
    if type(key) is str:
        return key
    try:
        hash(key)
    except TypeError as error:
        raise RegistryError(f"expected a hashable key, got {type(key).__name__}: {key!r}", key=key) from error
    if not equal_strictly(key, key):
        raise RegistryError(f"expected a key that equals itself, got {key!r}", key=key)
    return _strict(key)


def _strict(key: Any) -> Any:
    if type(key) is str:
        return key
    if is_tuple(key):
        return _kind(key), tuple(_strict(part) for part in key)
    if is_collection(key):  # a frozenset: nothing else that is hashable is left
        return _kind(key), frozenset(_strict(part) for part in key)
    return _kind(key), key


def _kind(value: object) -> type:
    return type(value)


def equal_strictly(left: Any, right: Any) -> bool:
    """Equality that also compares types, inside tuples, lists and mappings too. Never raises."""
    return _guarded(_equal, left, right, True)


def equal_loosely(left: Any, right: Any) -> bool:
    """Equality as JSON sees it: ``1 == 1.0``, lists equal tuples, a bool is no number. Never raises."""
    return _guarded(_equal, left, right, False)


def _guarded(compare: Callable[..., bool], *args: Any) -> bool:
    try:
        return compare(*args)
    except Exception:  # fault boundary: a stored value's own __eq__, __lt__ or __bool__ may raise anything
        return False


def _equal(left: Any, right: Any, strict: bool) -> bool:
    if strict and type(left) is not type(right):
        return False
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if is_sequence(left) and is_sequence(right):
        return len(left) == len(right) and all(_equal(a, b, strict) for a, b in zip(left, right, strict=True))
    if is_mapping(left) and is_mapping(right):
        return len(left) == len(right) and all(
            key in right and _equal(value, right[key], strict) for key, value in left.items()
        )
    return bool(left == right)


def _ordered(left: Any, right: Any) -> bool:
    # Only numbers with numbers and texts with texts have an order worth asking for.
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
    return numbers or (isinstance(left, str) and isinstance(right, str))


def _prefix(left: Any, right: Any) -> bool:
    return isinstance(left, str) and isinstance(right, str) and left.startswith(right)


def _in(left: Any, right: Any) -> bool:
    return is_collection(right) and any(equal_loosely(left, item) for item in right)


_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": equal_loosely,
    "ne": lambda left, right: not equal_loosely(left, right),
    "gt": lambda left, right: _ordered(left, right) and left > right,
    "ge": lambda left, right: _ordered(left, right) and left >= right,
    "lt": lambda left, right: _ordered(left, right) and left < right,
    "le": lambda left, right: _ordered(left, right) and left <= right,
    "in": _in,
    "not_in": lambda left, right: not _in(left, right),
    "prefix": _prefix,
}

OPERATORS: Final = tuple(_OPERATORS)
"""The operator words: eq, ne, gt, ge, lt, le, in, not_in, prefix."""


def evaluate(op: str, left: Any, right: Any) -> bool:
    """Whether ``left op right`` holds. Never raises; what has no order is neither more nor less."""
    return _guarded(_OPERATORS[op], left, right)


def check_operator(op: object, where: object) -> str:
    """Return ``op`` if it is one of :data:`OPERATORS`.

    Raises:
        RegistryError: it is not; ``where`` is shown as its place.
    """
    if isinstance(op, str) and op in _OPERATORS:
        return op
    hint = did_you_mean(op, OPERATORS) if isinstance(op, str) else ""
    raise RegistryError(f"expected an operator of {', '.join(OPERATORS)}, got {op!r}, in {where!r}{hint}", clause=where)


def check_operand(op: str, value: object, where: object) -> None:
    """Check that ``op`` can compare with ``value``.

    Raises:
        RegistryError: it never could; ``where`` is shown as its place.
    """
    if op in ("in", "not_in") and not is_collection(value):
        expected = "a list, tuple or set of values"
    elif op == "prefix" and not isinstance(value, str):
        expected = "a text"
    elif op in ("gt", "ge", "lt", "le") and not _ordered(value, value):
        expected = "a number or a text"
    else:
        return
    raise RegistryError(f"expected {expected} for {op!r}, got {type(value).__name__}, in {where!r}", clause=where)


def check_iterable(given: object, expected: str) -> None:
    """Check that ``given`` is a list or the like; a text or a mapping is iterable, and never meant.

    Raises:
        RegistryError: it is not.
    """
    if is_mapping(given) or not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        raise RegistryError(f"expected {expected}, got {type(given).__name__}")
