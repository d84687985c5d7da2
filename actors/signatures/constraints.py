"""What a field's values must keep to, beside their type: bounds, lengths, a pattern.

========================= =====================================================================
constraint                of
========================= =====================================================================
``ge gt le lt``           numbers: ``int``, ``float``, ``Decimal``
``min_length max_length`` ``str`` (characters), ``list``, ``dict`` and ``tuple[T, ...]`` (entries)
``pattern``               ``str``: a regular expression that is found in it; anchor it with ``^`` and ``$``
========================= =====================================================================

They hold for ``T`` of ``T | None`` too. Patterns are those of Rust's ``regex`` (no look-around, no back-references),
which takes linear time on any text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Final, TypeAlias, Union

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import SchemaError

from .types import FieldType, annotation, is_model

Number: TypeAlias = int | float

_BOUNDS: Final = ("ge", "gt", "le", "lt")
_LENGTHS: Final = ("min_length", "max_length")
_WORDS: Final[Mapping[str, str]] = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "matching the regular expression {}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a value must keep to; what is None is free.

    Args:
        ge, gt, le, lt: bounds of a number.
        min_length, max_length: characters of a text, entries of a structure.
        pattern: what must be found in a text.
    """

    ge: Number | None = None
    gt: Number | None = None
    le: Number | None = None
    lt: Number | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that are set, by name."""
        if self is FREE:  # most fields are, and each prompt asks
            return {}
        return {name: value for name in CONSTRAINTS if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        """The options of a signature's text: ``ge=0, le=1``."""
        return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.given.items())

    @property
    def words(self) -> str:
        """For the model: ``at least 0, at most 1``."""
        return ", ".join(_WORDS[name].format(value) for name, value in self.given.items())


CONSTRAINTS: Final[tuple[str, ...]] = tuple(field.name for field in fields(Constraints))
FREE: Final = Constraints()


def constraint_problem(kind: FieldType, given: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong with constraints of a type: the constraint's name and what was expected, or None."""
    base = kind.without_none
    for name, value in given.items():
        fitting = _fitting(name)
        if base.name not in fitting or (base.name == "tuple" and not base.variadic and base.args):
            return name, f"{name} of a type that it fits ({', '.join(fitting)}), not of {kind}"
        wanted = _wanted(name, value)
        if wanted is not None:
            return name, wanted
    low = max((given[name] for name in ("ge", "gt") if name in given), default=-math.inf)
    high = min((given[name] for name in ("le", "lt") if name in given), default=math.inf)
    if low > high:
        return next(name for name in ("le", "lt") if name in given), f"an upper bound that is not below {low}"
    if given.get("min_length", 0) > given.get("max_length", math.inf):
        return "max_length", f"a max_length that is not below the min_length {given['min_length']}"
    return None


def _fitting(name: str) -> tuple[str, ...]:
    if name in _BOUNDS:
        return ("int", "float", "Decimal")
    return ("str", "list", "dict", "tuple") if name in _LENGTHS else ("str",)


def _wanted(name: str, value: object) -> str | None:
    """What a constraint's value should have been; None if it is that."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if name in _BOUNDS:
        good = whole or (isinstance(value, float) and math.isfinite(value))
        return None if good else f"a finite number of at most 64 bits as {name}"
    if name in _LENGTHS:
        return None if whole and isinstance(value, int) and value >= 0 else f"a whole number from 0 as {name}"
    return None if isinstance(value, str) and _compiles(value) else f"a regular expression, as Rust's, as {name}"


def _compiles(pattern: str) -> bool:
    try:
        TypeAdapter(Annotated[str, Field(pattern=pattern)])
    except (SchemaError, UnicodeEncodeError):
        return False
    return True


@lru_cache(maxsize=1024)
def checker(kind: FieldType, constraints: Constraints = FREE, *, numbers_as_text: bool = False) -> TypeAdapter[Any]:
    """The pydantic validator of a type with constraints. NaN and infinity are refused: JSON cannot carry them.

    Args:
        kind: the type.
        constraints: what its values must keep to.
        numbers_as_text: a number will do where a text is expected.
    """
    found: Any = annotation(kind.without_none if constraints.given else kind)
    if constraints.given:
        held: Any = Annotated[found, Field(**constraints.given)]
        found = Union[held, None] if kind.nullable else held  # noqa: UP007 - built at run time
    elif is_model(kind):
        return TypeAdapter(found)  # it brings a configuration of its own
    config = ConfigDict(
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        coerce_numbers_to_str=numbers_as_text,
        regex_engine="rust-regex",
    )
    return TypeAdapter(found, config=config)
