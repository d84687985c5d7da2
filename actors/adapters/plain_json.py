"""The quick way through an answer that is one JSON object and nothing else: Python's own parser.

What that parser is laxer in than ``json_text.py`` (doubles, NaN, depth, digits, halves of surrogate pairs) is left to
the long way, which says what is wrong and where.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn, cast

from .json_text import MAX_DEPTH, MAX_DIGITS

_DIGITS: Final = re.compile(rf"[0-9]{{{MAX_DIGITS}}}")
_SURROGATE: Final = re.compile(r"\\u[dD]|[\ud800-\udfff]")


def plain_object(text: str) -> dict[str, Any] | None:
    """The object, if the text is one that both ways read alike; None otherwise."""
    if _DIGITS.search(text) or _SURROGATE.search(text):
        return None
    try:
        found: Any = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or (_brackets(text) >= MAX_DEPTH and _deep(found, MAX_DEPTH)):
        return None
    return cast("dict[str, Any]", found)  # names are texts, as JSON's are


def _brackets(text: str) -> int:
    return text.count("{") + text.count("[")


def _deep(value: Any, left: int) -> bool:
    """Whether more than ``left`` levels are nested in it."""
    if not isinstance(value, dict | list):
        return False
    within = cast("Iterable[Any]", value.values() if isinstance(value, dict) else value)
    return left == 0 or any(_deep(each, left - 1) for each in within)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_refuse)
