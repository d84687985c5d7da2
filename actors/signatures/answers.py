"""What a model wrote for a field, as a value of the field's type.

By pydantic's lax rules (``"42"`` is a whole number, ``yes`` is true), by its strict ones, or not checked at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ...runtime.errors import ParseError
from .constraints import checker
from .field import Field
from .signature import Signature
from .types import CONTAINERS, STR, FieldType, is_model
from .values import AS_TEXT, NULLS, Checking, shorten, why

_FENCE: Final = "```"
_LANGUAGE: Final = re.compile(r"[\w+-]*[ \t]*\n?")
_STRUCTURES: Final = (*CONTAINERS, "|", "Any")


def read_fields(signature: Signature, read: Callable[[Field], Any]) -> dict[str, Any]:
    """The outputs of an answer, in the signature's order.

    Args:
        signature: whose outputs.
        read: gives one field's value, or raises the ParseError that says why there is none.

    Raises:
        ParseError: fields are missing or do not fit. It tells of all of them, so that a model that is asked again can
            mend them all; ``field``, ``expected`` and ``got`` are those of the first.
    """
    found: dict[str, Any] = {}
    wrong: list[ParseError] = []
    for field in signature.outputs:
        try:
            found[field.name] = read(field)
        except ParseError as error:
            wrong.append(error)
    if len(wrong) > 1:
        raise ParseError("; ".join(error.message for error in wrong), **wrong[0].facts)
    if wrong:
        raise wrong[0]
    return found


def parse_value(field: Field, text: str, where: str, *, checking: Checking = "lenient") -> Any:
    """What stands in an answer as text.

    Args:
        field: which field.
        text: its section of the answer.
        where: the place, for the error.
        checking: how it is held to the field's type.

    Raises:
        ParseError: it is no such value (facts: field, expected, got).
    """
    text = text.strip()
    kind = field.type.without_none
    if field.type.nullable and text in NULLS:
        return None
    if kind == STR and (checking == "none" or not field.constraints.given):
        return text
    if checking == "none":
        return _unchecked(_unfenced(text))
    try:
        if kind == STR:
            return checker(kind, field.constraints).validate_python(text)
        return _read(kind, checker(kind, field.constraints), _unfenced(text), checking == "strict")
    except (ValidationError, UnicodeEncodeError) as error:
        raise _misfit(field, repr(text), where, error) from None


def json_value(field: Field, value: Any, raw: str, where: str, *, checking: Checking = "lenient") -> Any:
    """What stands in an answer as JSON.

    Args:
        field: which field.
        value: the JSON value: dicts, lists, texts, finite numbers.
        raw: its text as it stands there.
        where: the place, for the error.
        checking: how it is held to the field's type.

    Raises:
        ParseError: it is no such value (facts: field, expected, got).
    """
    if checking == "none" or (field.type == STR and isinstance(value, str) and not field.constraints.given):
        return value
    kind, strict = field.type.without_none, checking == "strict"
    check = checker(field.type, field.constraints, numbers_as_text=not strict)
    try:
        if kind.name == "Decimal" and type(value) in (int, float):
            return check.validate_python(raw)  # JSON's numbers are floats: a decimal keeps its digits
        # As JSON again: there a date is a text and a tuple a list, also for strict rules.
        return check.validate_json(json.dumps(value), strict=strict)
    except ValidationError as error:
        raise _misfit(field, raw, where, error) from None


def _misfit(field: Field, text: str, where: str, error: Exception) -> ParseError:
    expected, got = field.label, shorten(text)
    message = f"expected {expected}, got {got}, at {where}{why(error)}"
    return ParseError(message, field=field.name, expected=expected, got=got, where=where)


def _unchecked(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _unfenced(text: str) -> str:
    # By hand: a regular expression for the whole takes for ever on an answer full of blanks.
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    return _LANGUAGE.sub("", text[len(_FENCE) : -len(_FENCE)], count=1).strip()


def _read(kind: FieldType, check: TypeAdapter[Any], text: str, strict: bool) -> Any:
    if kind.name in AS_TEXT:
        try:
            # Before JSON, whose numbers are floats: a decimal keeps its digits.
            return check.validate_python(text)
        except ValidationError:
            return check.validate_json(text)  # in quotes, then
    try:
        return check.validate_json(text, strict=strict)
    except ValidationError as error:
        if strict and not kind.values:
            raise
        try:
            # Not JSON, or JSON of another type: the words themselves (yes, positive).
            return check.validate_python(text)
        except ValidationError as other:
            structured = kind.args or is_model(kind) or kind.name in _STRUCTURES
            raise (error if structured else other) from None
