"""One field of a signature, and the plain data it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from ...runtime.errors import SignatureError, did_you_mean
from .constraints import CONSTRAINTS, FREE, Constraints, constraint_problem
from .parse import ParsedField, name_problem, parse_type
from .types import STR, FieldType

_KEYS: Final = ("name", "type", "description", "constraints")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a signature.

    Args:
        name: an identifier that is no keyword and does not start with ``_``.
        type: a type, or its text.
        description: one line for the model, or nothing.
        constraints: what its values must keep to.

    Raises:
        SignatureError: the name or the type is malformed, or a constraint does not fit the type.
    """

    name: str
    type: FieldType = STR
    description: str = ""
    constraints: Constraints = FREE

    def __post_init__(self) -> None:
        problem = name_problem(self.name)
        if problem:
            raise SignatureError(f"expected {problem}, got {self.name!r}", field=self.name, expected=problem)
        if not isinstance(cast("object", self.description), str):
            refuse(f"a text as description of {self.name!r}", self.description)
        object.__setattr__(self, "type", as_type(self.type))
        wrong = constraint_problem(self.type, self.constraints.given)
        if wrong:
            got = repr(getattr(self.constraints, wrong[0]))
            raise SignatureError(
                f"expected {wrong[1]}, got {got}, at field {self.name!r}", field=self.name, expected=wrong[1], got=got
            )

    @classmethod
    def of(cls, parsed: ParsedField) -> Field:
        """A field as it stood in a text."""
        return cls(parsed.name, parsed.type, parsed.description, parsed.constraints)

    def __str__(self) -> str:
        """The canonical text, without the description."""
        return self._written(str(self.constraints))

    @property
    def text(self) -> str:
        """The canonical text of the whole field."""
        options = [str(self.constraints)] if self.constraints.given else []
        if self.description:
            options.append(f"desc={json.dumps(self.description, ensure_ascii=False)}")
        return self._written(", ".join(options))

    def _written(self, options: str) -> str:
        named = self.name if self.type == STR else f"{self.name}: {self.type}"
        return f"{named} ({options})" if options else named

    @property
    def label(self) -> str:
        """Its type and constraints, for people and models: ``float, at least 0, at most 1``."""
        words = self.constraints.words
        return f"{self.type.label}, {words}" if words else self.type.label

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which :meth:`from_dict` makes an equal field."""
        more = {"constraints": self.constraints.given} if self.constraints.given else {}
        return {"name": self.name, "type": str(self.type), "description": self.description, **more}

    @classmethod
    def from_dict(cls, data: object) -> Field:
        """A field from what :meth:`to_dict` gave.

        Raises:
            SignatureError: a key is unknown, missing or of the wrong type.
        """
        table = table_of(data, _KEYS, "a field")
        for key in _KEYS[:-1]:
            if not isinstance(table.get(key, ""), str):
                refuse(f"a text as {key!r} of a field", table[key])
        given = table_of(table.get("constraints", {}), CONSTRAINTS, "constraints")
        kind = parse_type(table.get("type", "str"))
        return cls(table.get("name", ""), kind, table.get("description", ""), Constraints(**given))


def as_type(kind: object) -> FieldType:
    """A type, or what its text says.

    Raises:
        SignatureError: the text is malformed.
    """
    return kind if isinstance(kind, FieldType) else parse_type(cast("str", kind))


def table_of(data: object, keys: tuple[str, ...], what: str) -> Mapping[str, Any]:
    """A mapping of known keys.

    Raises:
        SignatureError: it is none, or one of its keys is unknown.
    """
    if not isinstance(data, Mapping):
        refuse(f"{what} as a mapping", data)
    table = cast("Mapping[str, Any]", data)
    for key in table:
        if key not in keys:
            raise SignatureError(f"expected the keys {', '.join(keys)}, got {key!r}{did_you_mean(str(key), keys)}")
    return table


def refuse(expected: str, got: object) -> NoReturn:
    """Refuse something for its type."""
    raise SignatureError(f"expected {expected}, got {type(got).__name__}", expected=expected)
