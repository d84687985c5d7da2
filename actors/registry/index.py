"""The registry's secondary index: which names have this kind, provider, status ... Pure.

It only narrows a search down: whoever asks still tests what it proposes, so it cannot make a wrong
answer, only a slow one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...runtime.names import NameEntry
from ...runtime.registry_query import Clause

METADATA_FIELDS: Final = ("type", "provider", "signature", "status")
"""Metadata attributes that are indexed, beside kind and namespace."""

Term = tuple[str, str]


class RegistryIndex:
    """Names by what they are. Names keep the order in which they first came."""

    def __init__(self) -> None:
        self._order: dict[str, int] = {}
        self._terms: dict[str, tuple[Term, ...]] = {}
        self._names: dict[Term, dict[str, None]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, name: object) -> bool:
        return name in self._order

    def put(self, entry: NameEntry) -> None:
        """Add a name, or write down what is true of it now."""
        name = entry.name
        if name not in self._order:
            self._order[name] = self._next
            self._next += 1
        terms = _terms(entry)
        before = self._terms.get(name, ())
        if terms == before:
            return
        self._terms[name] = terms
        for term in before:
            self._discard(term, name)
        for term in terms:
            self._names.setdefault(term, {})[name] = None

    def remove(self, name: str) -> None:
        """Forget a name."""
        self._order.pop(name, None)
        for term in self._terms.pop(name, ()):
            self._discard(term, name)

    def candidates(
        self, clauses: Iterable[Clause], *, kind: str | None = None, namespace: str | None = None
    ) -> list[str]:
        """Names among which all that fit are found, in order."""
        asked = [_term(clause) for clause in clauses]
        asked += [None if kind is None else ("kind", kind), None if namespace is None else ("namespace", namespace)]
        none: dict[str, None] = {}
        found = [self._names.get(term, none) for term in asked if term is not None]
        if not found:
            return list(self._order)
        found.sort(key=len)
        return sorted(found[0], key=self._order.__getitem__)

    def _discard(self, term: Term, name: str) -> None:
        names = self._names[term]
        del names[name]
        if not names:
            del self._names[term]


def _terms(entry: NameEntry) -> tuple[Term, ...]:
    metadata = entry.metadata
    own: list[tuple[str, Any]] = [(f"metadata.{field}", metadata.get(field)) for field in METADATA_FIELDS]
    texts = tuple((field, value) for field, value in own if isinstance(value, str))
    return (("kind", entry.kind), ("namespace", entry.namespace), *texts)


def _term(clause: Clause) -> Term | None:
    """The index term of a clause, if it asks for a text in an indexed attribute."""
    if clause.op != "eq" or len(clause.path) != 1 or clause.path[0] not in METADATA_FIELDS:
        return None
    return (f"metadata.{clause.path[0]}", clause.value) if type(clause.value) is str else None
