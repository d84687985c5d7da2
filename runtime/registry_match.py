"""Match clauses ``(pattern, guards, result)`` over registry entries (OTP REG-09), as pure values.

A **pattern** is a term. ``ANY`` and ``Var`` match anything; tuples and lists match by length and item;
a mapping matches one that has at least its keys; everything else matches what is strictly equal to it.

A **guard** is ``(op, left, right)`` with an operator of :mod:`.registry_terms`, or ``("not", guard)``,
``("and", guard, ...)``, ``("or", guard, ...)``. Its operands are terms, variables replaced.

A **result** is a term, variables replaced, or ``ENTRY``, the whole entry.

What is malformed raises when the clause is made; a well-formed clause never raises when it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .errors import RegistryError, did_you_mean
from .registry_terms import (
    ANY,
    ENTRY,
    Var,
    check_iterable,
    check_operand,
    check_operator,
    equal_strictly,
    evaluate,
    is_mapping,
    is_sequence,
    is_tuple,
)

Bindings: TypeAlias = dict[str, Any]
Guards: TypeAlias = Iterable[tuple[Any, ...]]
_CONNECTIVES: Final = ("not", "and", "or")


@dataclass(frozen=True, slots=True)
class MatchClause:
    """One checked match clause; make it with :func:`match_clause`.

    Attributes:
        pattern: what an entry must look like.
        guards: what must hold besides; all of them.
        result: what to answer for a match.
    """

    pattern: Any
    guards: tuple[tuple[Any, ...], ...] = ()
    result: Any = ENTRY

    def apply(self, entry: Any) -> tuple[bool, Any]:
        """``(True, result)`` if the entry matches, else ``(False, None)``."""
        bindings: Bindings = {}
        if not _match(self.pattern, entry, bindings) or not all(_holds(guard, bindings) for guard in self.guards):
            return False, None
        return True, entry if self.result is ENTRY else _fill(self.result, bindings)


Clauses: TypeAlias = Iterable[MatchClause | tuple[Any, ...]]
"""What a select takes: clauses, or ``(pattern, guards, result)`` tuples (the last two may be left out)."""


def match_clause(pattern: Any, guards: Guards = (), result: Any = ENTRY) -> MatchClause:
    """Check a clause and make it ready.

    Raises:
        RegistryError: a guard is malformed, or a guard or the result names a variable that the
            pattern does not bind; facts: clause.
    """
    bound = frozenset(_variables(pattern))
    check_iterable(guards, "a list of guards")
    checked = tuple(_guard(guard, bound) for guard in guards)
    if result is not ENTRY:
        _check_bound(result, bound, result)
    return MatchClause(pattern, checked, result)


def match_clauses(clauses: Clauses, arity: int) -> tuple[MatchClause, ...]:
    """Check a select's clauses; the first that matches an entry answers for it.

    Args:
        clauses: see :data:`Clauses`.
        arity: the length of the entries' tuples; a tuple pattern of another length could never match.

    Raises:
        RegistryError: a clause is malformed, or there is none.
    """
    check_iterable(clauses, "a list of match clauses")
    made = tuple(_from_tuple(clause) for clause in clauses)
    if not made:
        raise RegistryError("expected at least one match clause, got none")
    for clause in made:
        shape = clause.pattern
        if shape is ANY or isinstance(shape, Var):
            continue
        if not is_tuple(shape) or len(shape) != arity:
            raise RegistryError(f"expected a pattern of {arity} parts, ANY or Var, got {shape!r}", clause=shape)
    return made


def select(clauses: Sequence[MatchClause], entries: Iterable[Any]) -> Iterator[Any]:
    """The results of the first matching clause of each entry."""
    for entry in entries:
        for clause in clauses:
            matched, result = clause.apply(entry)
            if matched:
                yield result
                break


def _from_tuple(clause: object) -> MatchClause:
    if isinstance(clause, MatchClause):
        return match_clause(clause.pattern, clause.guards, clause.result)
    if not is_tuple(clause) or not 1 <= len(clause) <= 3:
        raise RegistryError(f"expected (pattern, guards, result), got {clause!r}", clause=clause)
    return match_clause(*clause)


def _variables(term: Any) -> Iterator[str]:
    if isinstance(term, Var):
        yield term.name
    elif is_mapping(term):
        for value in term.values():
            yield from _variables(value)
    elif is_sequence(term):
        for item in term:
            yield from _variables(item)


def _check_bound(term: Any, bound: frozenset[str], where: Any) -> None:
    for name in _variables(term):
        if name not in bound:
            hint = did_you_mean(name, sorted(bound))
            raise RegistryError(
                f"expected a variable of the pattern, got Var({name!r}), in {where!r}{hint}", clause=where
            )


def _guard(guard: object, bound: frozenset[str]) -> tuple[Any, ...]:
    if not is_tuple(guard) or len(guard) < 2:
        raise RegistryError(f"expected a guard (op, left, right), got {guard!r}", clause=guard)
    op = guard[0]
    if op == "not" and len(guard) != 2:
        raise RegistryError(f"expected ('not', guard), got {guard!r}", clause=guard)
    if op in _CONNECTIVES:
        return (op, *(_guard(part, bound) for part in guard[1:]))
    if len(guard) != 3:
        raise RegistryError(f"expected a guard (op, left, right), got {guard!r}", clause=guard)
    word = check_operator(op, guard)
    _check_bound(guard[1:], bound, guard)
    # Only a plain operand can be judged now; a variable shows its value when asked.
    if not any(_variables(guard[2])):
        check_operand(word, guard[2], guard)
    return guard


def _match(pattern: Any, value: Any, bindings: Bindings) -> bool:
    if pattern is ANY:
        return True
    if isinstance(pattern, Var):
        known = bindings.setdefault(pattern.name, value)
        return known is value or equal_strictly(known, value)
    if is_mapping(pattern):
        return is_mapping(value) and all(
            key in value and _match(part, value[key], bindings) for key, part in pattern.items()
        )
    if not is_sequence(pattern):
        return equal_strictly(pattern, value)
    if not is_sequence(value) or is_tuple(pattern) is not is_tuple(value) or len(pattern) != len(value):
        return False
    return all(_match(part, each, bindings) for part, each in zip(pattern, value, strict=True))


def _holds(guard: tuple[Any, ...], bindings: Bindings) -> bool:
    op, *operands = guard
    if op == "not":
        return not _holds(operands[0], bindings)
    if op == "and":
        return all(_holds(each, bindings) for each in operands)
    if op == "or":
        return any(_holds(each, bindings) for each in operands)
    left, right = (_fill(each, bindings) for each in operands)
    return evaluate(op, left, right)


def _fill(term: Any, bindings: Bindings) -> Any:
    """The term with its variables replaced."""
    if isinstance(term, Var):
        return bindings[term.name]
    if is_mapping(term):
        return {key: _fill(value, bindings) for key, value in term.items()}
    if not is_sequence(term):
        return term
    filled = [_fill(item, bindings) for item in term]
    return tuple(filled) if is_tuple(term) else filled
