"""How the registry answers a query: the index proposes, the conditions decide. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...runtime.errors import RegistryError, did_you_mean
from ...runtime.names import STATES, NameEntry, NameTable
from ...runtime.registry_query import Clause, clauses, name_matcher
from .index import RegistryIndex
from .messages import Select

ANY_STATE: Final = "any"
_ENTRY_WORDS: Final = ("name", "kind", "id", "namespace", "state", "incarnation", "restarts", "since")


def find(query: Select, names: NameTable, index: RegistryIndex) -> Iterator[NameEntry]:
    """Entries that meet all conditions. The query is checked at once, the entries are found lazily.

    Raises:
        RegistryError: a condition is malformed.
    """
    tests = clauses(query.where)
    matches = name_matcher("*" if query.pattern is None else query.pattern)
    kind = None if query.kind is None else check_text(query.kind, "kind")
    namespace = None if query.namespace is None else check_text(query.namespace, "namespace")
    if query.state not in (None, ANY_STATE, *STATES):
        hint = did_you_mean(str(query.state), (*STATES, ANY_STATE))
        words = ", ".join(STATES)
        raise RegistryError(f"expected a state of {words}, or {ANY_STATE}, got {query.state!r}{hint}", key="state")

    def fits(entry: NameEntry) -> bool:
        return (
            (entry.state != "dead" if query.state is None else query.state in (ANY_STATE, entry.state))
            and kind in (None, entry.kind)
            and namespace in (None, entry.namespace)
            and matches(local_name(entry))
            and all(meets(entry, test) for test in tests)
        )

    proposed = index.candidates(tests, kind=kind, namespace=namespace)
    return (entry for name in proposed if (entry := names.get(name)) is not None and fits(entry))


def meets(entry: NameEntry, clause: Clause) -> bool:
    """Whether an entry passes a clause. A path is one of the metadata, or else of the row (``restarts``)."""
    head = clause.path[0]
    if head not in entry.metadata and head in _ENTRY_WORDS:
        return clause.matches({head: getattr(entry, head)})
    return clause.matches(entry.metadata)


def local_name(entry: NameEntry) -> str:
    """The name without its namespace."""
    return entry.name.rpartition(":")[2]


def check_text(value: object, what: str) -> str:
    """Return ``value`` if it is a text.

    Raises:
        RegistryError: it is not; facts: key.
    """
    if isinstance(value, str):
        return value
    raise RegistryError(f"expected a text as {what}, got {type(value).__name__}", key=what)
