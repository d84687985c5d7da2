"""Reading JSON that others wrote: what is not of the expected kind is as good as absent. And writing any value."""

from __future__ import annotations

import json
from types import NoneType
from typing import Any, Final, cast

from pydantic_core import to_jsonable_python

_SCALARS: Final = (str, int, bool, NoneType)


def json_object(value: object) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def json_list(value: object) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def json_text(value: object) -> str:
    """The value if it is a text, else an empty one; halves of surrogate pairs, which no file takes, are replaced."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def json_count(value: object) -> int | None:
    """The value if it is a whole number >= 0 (``12.0`` is one) of at most 63 bits, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value < 2**63 or value != value // 1:
        return None
    return int(value)


def as_json(value: object) -> Any:
    """A value as JSON: what is none becomes text, infinite numbers too."""
    if type(value) in _SCALARS:
        return value
    try:
        return json.loads(json.dumps(to_jsonable_python(value, fallback=str)), parse_constant=str)
    except ValueError:  # bytes that are no text; what contains itself
        return str(value)
