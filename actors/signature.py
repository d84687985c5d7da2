"""Signature: what a program takes and gives, as a value.

::

    Signature("question, context: list[str] -> answer: float", "Answer from the context only.")

The text is parsed at run time (``signature_parse.py``); the types are those of ``signature_types.py``. A
signature is frozen: it compares, hashes, pickles, and every change makes a new one. The class form
(fields as annotations) will build the same value through :meth:`Signature.of`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias, cast

from ..runtime.errors import SignatureError, did_you_mean
from .signature_parse import name_problem, parse_signature, parse_type
from .signature_types import STR, FieldType

Side: TypeAlias = Literal["inputs", "outputs"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a signature.

    Args:
        name: an identifier that is no keyword and does not start with ``_``.
        type: a type, or its text.
        description: one line for the model, or nothing.

    Raises:
        SignatureError: the name or the type is malformed.
    """

    name: str
    type: FieldType = STR
    description: str = ""

    def __post_init__(self) -> None:
        problem = name_problem(self.name)
        if problem:
            raise SignatureError(f"expected {problem}, got {self.name!r}", field=self.name, expected=problem)
        object.__setattr__(self, "type", _as_type(self.type))

    def __str__(self) -> str:
        return self.name if self.type == STR else f"{self.name}: {self.type}"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Signature:
    """What a program takes and gives.

    Args:
        text: ``"inputs -> outputs"``, or a signature to copy.
        instructions: what the model is to do; without any, "given these fields, produce those".

    Attributes:
        inputs, outputs: the fields, in order.
        instructions: the text given, or None.

    Raises:
        SignatureError: the text is malformed (facts: text, position, expected, got).
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    instructions: str | None

    def __init__(self, text: str | Signature, instructions: str | None = None) -> None:
        if isinstance(text, Signature):
            inputs, outputs = text.inputs, text.outputs
            instructions = text.instructions if instructions is None else instructions
        else:
            inputs, outputs = (tuple(Field(field.name, field.type) for field in side) for side in parse_signature(text))
        self._set(inputs, outputs, instructions)

    @classmethod
    def of(cls, inputs: Iterable[Field], outputs: Iterable[Field], instructions: str | None = None) -> Signature:
        """A signature of fields made elsewhere.

        Raises:
            SignatureError: a name comes twice, or there is no output.
        """
        made = object.__new__(cls)
        made._set(tuple(inputs), tuple(outputs), instructions)
        return made

    def _set(self, inputs: tuple[Field, ...], outputs: tuple[Field, ...], instructions: str | None) -> None:
        if not outputs:
            raise SignatureError("expected at least one output field, got none")
        seen: set[str] = set()
        for field in (*inputs, *outputs):
            if field.name in seen:
                raise SignatureError(f"expected each field name once, got {field.name!r} again", field=field.name)
            seen.add(field.name)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "outputs", outputs)
        object.__setattr__(self, "instructions", _instructions(instructions))

    # -- reading ---------------------------------------------------------------------------------

    @property
    def fields(self) -> Mapping[str, Field]:
        """All fields by name, inputs first."""
        return {field.name: field for field in (*self.inputs, *self.outputs)}

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(field.name for field in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(field.name for field in self.outputs)

    def __str__(self) -> str:
        """The canonical text; parsed again, it gives these fields."""
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}".lstrip()

    def __repr__(self) -> str:
        more = f", instructions={self.instructions!r}" if self.instructions else ""
        return f"Signature({str(self)!r}{more})"

    # -- changing: each gives a new value -----------------------------------------------------------

    def with_instructions(self, instructions: str | None) -> Signature:
        """The same fields with other instructions."""
        return Signature.of(self.inputs, self.outputs, instructions)

    def prepend(self, name: str, type: FieldType | str = STR, *, to: Side, description: str = "") -> Signature:
        """A new field before the others of one side.

        Raises:
            SignatureError: the name is taken or malformed, or the type is.
        """
        return self._with_side(to, (_field(name, type, description), *self._side(to)))

    def append(self, name: str, type: FieldType | str = STR, *, to: Side, description: str = "") -> Signature:
        """A new field after the others of one side.

        Raises:
            SignatureError: the name is taken or malformed, or the type is.
        """
        return self._with_side(to, (*self._side(to), _field(name, type, description)))

    def with_updated_field(
        self, name: str, *, type: FieldType | str | None = None, description: str | None = None
    ) -> Signature:
        """The field ``name`` with another type or description, in its place.

        Raises:
            SignatureError: there is no such field, or the type is malformed.
        """
        old = self._known(name)
        new = _field(name, type or old.type, old.description if description is None else description)
        return self._swap(name, (new,))

    def delete(self, name: str) -> Signature:
        """The signature without the field ``name``.

        Raises:
            SignatureError: there is no such field, or it is the only output.
        """
        self._known(name)
        return self._swap(name, ())

    def _known(self, name: str) -> Field:
        fields = self.fields
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise SignatureError(f"expected one of the fields {', '.join(fields)}, got {name!r}{hint}", field=name)
        return fields[name]

    def _swap(self, name: str, by: tuple[Field, ...]) -> Signature:
        inputs, outputs = (
            tuple(new for old in side for new in (by if old.name == name else (old,)))
            for side in (self.inputs, self.outputs)
        )
        return Signature.of(inputs, outputs, self.instructions)

    def _side(self, side: Side) -> tuple[Field, ...]:
        if side not in {"inputs", "outputs"}:
            raise SignatureError(f"expected 'inputs' or 'outputs', got {side!r}{did_you_mean(side, _SIDES)}")
        return self.inputs if side == "inputs" else self.outputs

    def _with_side(self, side: Side, fields: tuple[Field, ...]) -> Signature:
        if side == "inputs":
            return Signature.of(fields, self.outputs, self.instructions)
        return Signature.of(self.inputs, fields, self.instructions)

    # -- JSON ------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which :meth:`from_dict` makes an equal signature."""
        return {
            "inputs": [_field_dict(field) for field in self.inputs],
            "outputs": [_field_dict(field) for field in self.outputs],
            "instructions": self.instructions,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Signature:
        """A signature from what :meth:`to_dict` gave.

        Raises:
            SignatureError: a key is unknown, missing or of the wrong type.
        """
        table = _table(data, ("inputs", "outputs", "instructions"), "a signature")
        inputs, outputs = (tuple(_field_from(each) for each in _rows(table, side)) for side in _SIDES)
        return cls.of(inputs, outputs, table.get("instructions"))

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Signature:
        """A signature from what :meth:`to_json` gave.

        Raises:
            SignatureError: the text is not JSON, or does not describe a signature.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SignatureError(f"expected JSON, got {text[:80]!r}: {error}") from error
        return cls.from_dict(data)


_SIDES = ("inputs", "outputs")
_FIELD_KEYS = ("name", "type", "description")


def _field(name: str, kind: FieldType | str, description: str) -> Field:
    return Field(name, _as_type(kind), description)


def _as_type(kind: object) -> FieldType:
    return kind if isinstance(kind, FieldType) else parse_type(cast("str", kind))


def _instructions(given: object) -> str | None:
    if not isinstance(given, str | None):
        _refuse("a text or None as instructions", given)
    return given if given and given.strip() else None


def _field_dict(field: Field) -> dict[str, str]:
    return {"name": field.name, "type": str(field.type), "description": field.description}


def _field_from(data: object) -> Field:
    table = _table(data, _FIELD_KEYS, "a field")
    for key in _FIELD_KEYS:
        if not isinstance(table.get(key, ""), str):
            _refuse(f"a text as {key!r} of a field", table[key])
    return _field(table.get("name", ""), table.get("type", "str"), table.get("description", ""))


def _rows(table: Mapping[str, Any], side: str) -> list[Any]:
    rows: object = table.get(side, [])
    if not isinstance(rows, list):
        _refuse(f"a list as {side!r}", rows)
    return cast("list[Any]", rows)  # type: ignore[redundant-cast]  # pyright does not know what it holds


def _table(data: object, keys: tuple[str, ...], what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        _refuse(f"{what} as a mapping", data)
    table = cast("Mapping[str, Any]", data)
    for key in table:
        if key not in keys:
            raise SignatureError(f"expected the keys {', '.join(keys)}, got {key!r}{did_you_mean(str(key), keys)}")
    return table


def _refuse(expected: str, got: object) -> NoReturn:
    raise SignatureError(f"expected {expected}, got {type(got).__name__}", expected=expected)
