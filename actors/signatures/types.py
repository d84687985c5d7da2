"""The types of a signature's fields, as values: frozen, hashable, picklable, printable.

======================== =========================================================
text                     meaning
======================== =========================================================
``str``                  any text; a field without a type has this one
``int float bool``       as in Python; ``Decimal``, ``date`` and ``datetime`` too
``list[T]``              JSON array; ``list`` alone takes anything
``dict[K, V]``           JSON object; ``dict`` alone is ``dict[str, Any]``
``tuple[A, B]``          JSON array of exactly these; ``tuple[T, ...]`` of any length
``A | B``                one of them; ``Union[A, B]`` and ``Optional[A]`` mean the same
``Literal["a", 1]``      one of these texts, whole numbers, True, False or None
``Any``                  any JSON value
``Class["shop:Order"]``  a class of the module ``shop``: a pydantic model, a dataclass, an Enum
======================== =========================================================
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, Union, cast

from pydantic import BaseModel

LiteralValue: TypeAlias = str | int | bool | None

SCALARS: Final[dict[str, Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "Decimal": Decimal,
    "date": date,
    "datetime": datetime,
    "Any": Any,
    "None": None,
}
CONTAINERS: Final = ("list", "dict", "tuple")
KEY_TYPES: Final = ("str", "int", "float", "bool", "Decimal", "date", "datetime", "Literal")
"""What a dict's keys may be: what JSON can write as text and read back."""

_WORDS: Final[dict[str, LiteralValue]] = {"True": True, "False": False, "None": None}


@dataclass(frozen=True, slots=True)
class FieldType:
    """One type. Made by the parser; ``str(type)`` is its canonical text.

    Attributes:
        name: a scalar's or container's name, ``Literal``, ``Class``, or ``|`` for a union.
        args: the element types.
        literals: the canonical text of each value of a ``Literal`` (so that ``1`` and ``True`` differ).
        variadic: ``tuple[T, ...]``.
        cls: the class of a ``Class``.
    """

    name: str
    args: tuple[FieldType, ...] = ()
    literals: tuple[str, ...] = ()
    variadic: bool = False
    cls: type | None = None

    def __str__(self) -> str:
        return self._written(lambda cls: f'Class["{cls.__module__}:{cls.__qualname__}"]')

    @property
    def label(self) -> str:
        """The text for people and models: classes by their bare names."""
        return self._written(lambda cls: cls.__name__)

    def _written(self, named: Callable[[type], str]) -> str:
        if self.cls is not None:
            return named(self.cls)
        if self.name == "|":
            return " | ".join(arg._written(named) for arg in self.args)
        if self.name == "Literal":
            return f"Literal[{', '.join(self.literals)}]"
        if not self.args:
            return self.name
        inner = ", ".join(arg._written(named) for arg in self.args)
        return f"{self.name}[{inner}{', ...' if self.variadic else ''}]"

    @property
    def values(self) -> tuple[Any, ...]:
        """The values of a ``Literal``, or of an Enum's members; of another type, none."""
        if self.cls is not None and issubclass(self.cls, Enum):
            return tuple(member.value for member in self.cls)
        return tuple(_literal_value(text) for text in self.literals)

    @property
    def classes(self) -> tuple[type, ...]:
        """The classes in it, each once."""
        own = () if self.cls is None else (self.cls,)
        return tuple(dict.fromkeys((*own, *(cls for arg in self.args for cls in arg.classes))))

    @property
    def nullable(self) -> bool:
        """Whether it is a union that takes None."""
        return self.name == "|" and NONE in self.args

    @property
    def without_none(self) -> FieldType:
        """The same without ``| None``."""
        return union(arg for arg in self.args if arg != NONE) if self.nullable else self


STR: Final = FieldType("str")
NONE: Final = FieldType("None")


def union(parts: Any) -> FieldType:
    """The union of types: flat, without doubles; of one type, that type."""
    flat: dict[FieldType, None] = {}
    for part in parts:
        flat.update(dict.fromkeys(part.args if part.name == "|" else (part,)))
    kinds = tuple(flat)
    return kinds[0] if len(kinds) == 1 else FieldType("|", kinds)


def literal_text(value: LiteralValue) -> str:
    """The canonical text of a literal value."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _literal_value(text: str) -> LiteralValue:
    if text in _WORDS:
        return _WORDS[text]
    value: str | int = json.loads(text)
    return value


def annotation(kind: FieldType) -> Any:
    """The Python type that a field type stands for."""
    if kind.name in SCALARS:
        return SCALARS[kind.name]
    return _BUILDERS[kind.name](kind)


def _tuple(kind: FieldType) -> Any:
    parts = tuple(annotation(arg) for arg in kind.args)
    if not parts:
        return tuple[Any, ...]
    return tuple[parts[0], ...] if kind.variadic else tuple[parts]  # type: ignore[valid-type]


def _dict(kind: FieldType) -> Any:
    key, value = map(annotation, kind.args) if kind.args else (str, Any)
    return dict[key, value]  # type: ignore[valid-type]


def is_model(kind: FieldType) -> bool:
    """Whether it is one class that is no Enum: a pydantic model or a dataclass."""
    return kind.cls is not None and not issubclass(kind.cls, Enum)


def fits_class(found: object) -> bool:
    """Whether a class may be the type of a field."""
    if not isinstance(found, type):
        return False
    cls = cast("type[object]", found)
    return issubclass(cls, BaseModel | Enum) or dataclasses.is_dataclass(cls)


_BUILDERS: Final[dict[str, Callable[[FieldType], Any]]] = {
    "Class": lambda kind: kind.cls,
    "list": lambda kind: list[annotation(kind.args[0]) if kind.args else Any],  # type: ignore[misc]
    "dict": _dict,
    "tuple": _tuple,
    "|": lambda kind: Union[tuple(annotation(arg) for arg in kind.args)],  # noqa: UP007 - built at run time
    "Literal": lambda kind: Literal[kind.values],
}
