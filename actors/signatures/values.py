"""Values of a signature's fields: checked on the way in, and written as text.

Inputs are checked strictly: a text is no number and a tuple no list. Where JSON has no such type, its form there will
do: a text for a date or an Enum, a list for a tuple, a table for an object. What a model wrote is read in
``answers.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from ...runtime.errors import SignatureError, did_you_mean
from .constraints import checker
from .field import Field
from .signature import Signature
from .types import STR, FieldType

NULLS: Final = ("null", "None")
AS_TEXT: Final = ("Decimal", "date", "datetime")
Checking: TypeAlias = Literal["none", "lenient", "strict"]
"""How values are held to their type: not at all, by pydantic's lax rules, or by its strict ones."""
SHOWN: Final = 100
"""Characters of a value that an error shows."""
KEPT: Final = 2000
"""Characters of a model's answer that an error keeps in ``text``."""


def check_inputs(signature: Signature, inputs: Mapping[str, Any], *, checking: Checking = "lenient") -> dict[str, Any]:
    """The inputs of one call, checked against the signature, in its order. One that may be None may be left out.

    Args:
        signature: whose inputs.
        inputs: the values.
        checking: ``none`` looks at the names only.

    Raises:
        SignatureError: a field is missing, unknown or of the wrong type (facts: field, expected, got).
    """
    _refuse_unless_mapping(inputs, "input")
    _refuse_unknown(signature.input_names, inputs, "input")
    return {
        field.name: None
        if field.type.nullable and field.name not in inputs
        else _checked(field, inputs, "input", checking)
        for field in signature.inputs
    }


def check_outputs(signature: Signature, values: Mapping[str, Any], where: str) -> None:
    """Refuse outputs that code of the user gives, if one is missing or of another type. There may be others beside.

    Raises:
        SignatureError: they do not fit the signature (facts: field, expected, got).
    """
    for field in signature.outputs:
        _checked(field, values, where)


def check_demo(signature: Signature, demo: Mapping[str, Any], where: str = "demo") -> dict[str, Any]:
    """A worked example, checked as inputs are. Fields may be missing, but not all of a side.

    Raises:
        SignatureError: a field is unknown or of the wrong type, or a side is empty.
    """
    _refuse_unless_mapping(demo, where)
    _refuse_unknown(tuple(signature.fields), demo, where)
    for side in (signature.inputs, signature.outputs):
        if side and not any(field.name in demo for field in side):
            names = ", ".join(field.name for field in side)
            raise SignatureError(f"expected at least one of {names}, got {', '.join(demo) or 'nothing'}, at {where}")
    return {field.name: _checked(field, demo, where) for field in signature.fields.values() if field.name in demo}


def refuse_unnamed(unnamed: tuple[object, ...], names: Iterable[str], where: str) -> None:
    """Refuse inputs without a name.

    Args:
        unnamed: those that were given so.
        names: of the inputs, as far as they are known.
        where: who was asked.

    Raises:
        SignatureError: there are some (facts: expected, got).
    """
    if unnamed:
        expected = ", ".join(("inputs by name", *(f"{name}=..." for name in names)))
        got = f"{len(unnamed)} without a name"
        raise SignatureError(f"expected {expected}, got {got}, at {where}", expected=expected, got=got)


def _refuse_unless_mapping(given: object, where: str) -> None:
    if not isinstance(given, Mapping):
        raise SignatureError(
            f"expected a mapping of fields, got {type(given).__name__}, at {where}", expected="a mapping of fields"
        )


def _refuse_unknown(known: tuple[str, ...], given: Mapping[str, Any], where: str) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(str(name), known)
            expected = f"the fields {', '.join(known) or '(none)'}"
            raise SignatureError(
                f"expected {expected}, got {name!r}, at {where}{hint}", field=name, expected=expected, got=name
            )


def _checked(field: Field, given: Mapping[str, Any], where: str, checking: Checking = "lenient") -> Any:
    if field.name not in given:
        expected = field.label
        raise SignatureError(
            f"expected {expected}, got nothing, at {where} {field.name!r}",
            field=field.name,
            expected=expected,
            got=None,
        )
    value = given[field.name]
    if checking == "none":
        return value
    try:
        return _read_strictly(checker(field.type, field.constraints), value)
    except ValidationError as error:
        expected, got = field.label, _shown(value)
        raise SignatureError(
            f"expected {expected}, got {got}, at {where} {field.name!r}{why(error)}",
            field=field.name,
            expected=expected,
            got=got,
        ) from None


def _read_strictly(check: TypeAdapter[Any], value: Any) -> Any:
    try:
        return check.validate_python(value, strict=True)
    except ValidationError:
        if not _is_json(value):
            raise
        # What was a date, a tuple or an object before it was written as JSON: as in a file of examples.
        with suppress(ValidationError):
            return check.validate_json(json.dumps(value), strict=True)
        raise


def _is_json(value: object) -> bool:
    """Whether a text, list or table is the same when read back from JSON; a tuple is not."""
    if not isinstance(value, str | list | dict):
        return False
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def value_text(field: Field, value: Any) -> str:
    """How a value stands in a prompt: text as it is, everything else as JSON.

    Raises:
        SignatureError: the value cannot be written as JSON.
    """
    kind = field.type.without_none
    if value is None and field.type.nullable:
        return "null"
    if kind == STR and isinstance(value, str):
        return value
    try:
        plain = checker(field.type).dump_python(value, mode="json", warnings=False)
        if isinstance(plain, str) and _reads_back(kind, plain):
            return plain
        return json.dumps(plain, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise unwritable(field, value, error) from error


def unwritable(field: Field, value: object, error: Exception) -> SignatureError:
    """The error for a value that cannot be written."""
    got = type(value).__name__
    return SignatureError(
        f"expected a value that JSON can carry, got {got}, at field {field.name!r}: {error}",
        field=field.name,
        expected="a JSON value",
        got=got,
    )


def _reads_back(kind: FieldType, text: str) -> bool:
    # A bare word stands without quotes where it can only be read as this text.
    if kind.name in AS_TEXT:
        return True
    plain = text == text.strip() and "\n" not in text and text not in {"", *NULLS}
    return bool(kind.values) and all(isinstance(value, str) for value in kind.values) and plain


def why(error: Exception) -> str:
    """What pydantic says first, and where in the value; nothing of other errors."""
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = "".join(f"[{part!r}]" for part in first["loc"])
    return f": {shorten(first['msg'])}{f' (at {place})' if place else ''}"


def _shown(value: object) -> str:
    # What a structure holds may be huge, or have a repr that raises: its type is enough, the error has the path.
    if isinstance(value, str):
        return repr(shorten(value))
    return repr(value) if isinstance(value, bool | float | None) or _short(value) else f"a {type(value).__name__}"


def _short(value: object) -> bool:
    return type(value) is int and value.bit_length() < 256


def shorten(text: str, limit: int = SHOWN) -> str:
    """The text, cut to ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
