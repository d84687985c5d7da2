"""What a registry can be asked, as pure values: attribute clauses and name patterns.

A malformed question raises :class:`~dspex.runtime.errors.RegistryError` when it is *made*; a
well-formed one never raises when it is *asked*: an odd value just does not match.

* A **clause** ``(path, op, value)`` tests one metadata value: ``("usage.tokens", "gt", 100)``.
* A **name pattern** tests a name: ``"module/*"``, or ``("module", ANY)`` on its two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import RegistryError
from .registry_terms import (
    ABSENT,
    ANY,
    check_iterable,
    check_operand,
    check_operator,
    evaluate,
    is_mapping,
    is_sequence,
    is_tuple,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One test of one metadata value.

    A value that is not there satisfies ``ne`` and ``not_in`` (they are the exact opposites of
    ``eq`` and ``in``) and nothing else.

    Attributes:
        path: the keys that lead to the value, outermost first.
        op: one of :data:`OPERATORS`.
        value: what to compare with.
    """

    path: tuple[str, ...]
    op: str
    value: Any

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the value at ``path`` passes the test. Never raises."""
        return evaluate(self.op, value_at(metadata, self.path), self.value)


def value_at(metadata: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value that ``path`` leads to, or a mark that equals nothing else."""
    value: Any = metadata
    for key in path:
        if not is_mapping(value) or key not in value:
            return ABSENT
        value = value[key]
    return value


Where: TypeAlias = Iterable[Clause | tuple[str | tuple[str, ...], str, Any]]
"""What a query takes: clauses, or ``(path, op, value)`` triples; all must hold."""


def clauses(where: Where) -> tuple[Clause, ...]:
    """Check a query and make it ready.

    Args:
        where: ``(path, op, value)`` triples. A path is ``"usage.tokens"``, or a tuple of keys
            where a key itself has a dot.

    Raises:
        RegistryError: a triple is malformed; facts: clause.
    """
    check_iterable(where, "a list of (path, op, value)")
    return tuple(_clause(item) for item in where)


def _clause(item: object) -> Clause:
    parts: object = (item.path, item.op, item.value) if isinstance(item, Clause) else item
    if not is_sequence(parts) or len(parts) != 3:
        raise RegistryError(f"expected (path, op, value), got {item!r}", clause=item)
    path, op, value = parts
    keys: object = path.split(".") if isinstance(path, str) else path
    if not is_sequence(keys) or not keys or not all(isinstance(key, str) and key for key in keys):
        raise RegistryError(f"expected a path like 'usage.tokens', got {path!r}, in {item!r}", clause=item)
    word = check_operator(op, item)
    check_operand(word, value, item)
    return Clause(tuple(keys), word, value)


NamePattern: TypeAlias = str | tuple[Any, Any]
"""A text with ``*``, or a pair ``(kind, id)``."""


def name_matcher(pattern: NamePattern) -> Callable[[str], bool]:
    """Make a test for names.

    Args:
        pattern: a text where ``*`` stands for any run of characters (``module/*``), or a pair
            ``(kind, id)`` where :data:`ANY` stands for any part and each text may have ``*``.

    Raises:
        RegistryError: the pattern is neither.
    """
    if isinstance(pattern, str):
        return _glob(pattern)
    if not is_tuple(pattern) or len(pattern) != 2:
        raise RegistryError(f"expected a name pattern like 'module/*' or (kind, id), got {pattern!r}", pattern=pattern)
    kind, identifier = (_part(part, pattern) for part in pattern)

    def matches(name: str) -> bool:
        first, slash, rest = name.partition("/")
        return bool(slash) and kind(first) and identifier(rest)

    return matches


def _part(part: object, pattern: NamePattern) -> Callable[[str], bool]:
    if part is ANY:
        return _glob("*")
    if isinstance(part, str):
        return _glob(part)
    raise RegistryError(f"expected a text or ANY, got {part!r}, in the name pattern {pattern!r}", pattern=pattern)


def _glob(pattern: str) -> Callable[[str], bool]:
    # Not a regular expression: several stars would make it try every split of a long name.
    first, *rest = pattern.split("*")
    if not rest:
        return pattern.__eq__
    *middle, last = rest

    def matches(name: str) -> bool:
        end = len(name) - len(last)
        if end < len(first) or not name.startswith(first) or not name.endswith(last):
            return False
        position = len(first)
        for piece in middle:
            found = name.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return matches
