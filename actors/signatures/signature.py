"""Signature: what a program takes and gives, as a value.

::

    Signature("question, context: list[str] -> answer: float (ge=0, le=1)", "Answer from the context only.")

    class QA(Signature):
        \"\"\"Answer from the context only.\"\"\"

        question: str = InputField()
        answer: float = OutputField(desc="How sure you are.", ge=0, le=1)

The text is parsed at run time (``parse.py``); the types are those of ``types.py``. A
signature is frozen: it compares, hashes, pickles, and every change makes a new one. *The class form gives a value,
not a class*: ``QA`` above is a ``Signature`` and pickles by value, wherever its class stood. A class below it
(``class Sure(QA)``) has its fields and more.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, cast

from ...runtime.errors import SignatureError, did_you_mean
from .class_form import Side, read_class, type_of
from .classes import reference
from .compatible import compatible
from .constraints import Constraints, checker
from .field import Field, as_type, refuse, table_of
from .parse import parse_signature
from .types import FieldType


class FieldFacts(TypedDict, total=False):
    """What may be said of a new field, beside its name and type.

    Attributes:
        desc: one line for the model.
        constraints: what its values must keep to.
    """

    desc: str
    constraints: Constraints


class SignatureMeta(type):
    """Makes a value of each class statement below :class:`Signature`."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        """The class itself, or for one below it the signature that its body describes.

        Raises:
            SignatureError: an entry of the body is no field, or a field is malformed.
        """
        if not any(isinstance(base, SignatureMeta) for base in bases):
            return super().__new__(mcls, name, bases, namespace, **kwargs)
        parents = [base for base in namespace.get("__orig_bases__", bases) if isinstance(base, Signature)]
        if len(bases) != 1 or kwargs or len(parents) > 1:
            raise SignatureError(f"expected one signature below class {name}, and nothing else", expected="one base")
        frame = inspect.currentframe()
        local = frame.f_back.f_locals if frame is not None and frame.f_back is not None else {}
        fields, instructions = read_class(name, namespace, local)
        return _merged(parents[0] if parents else None, fields, instructions)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Signature(metaclass=SignatureMeta):
    """What a program takes and gives.

    Args:
        text: ``"inputs -> outputs"``, or a signature to copy, made from a class or not.
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

    def __init__(self, text: str | Signature | type[Signature], instructions: str | None = None) -> None:
        if isinstance(text, Signature):
            inputs, outputs = text.inputs, text.outputs
            instructions = text.instructions if instructions is None else instructions
        else:
            # A checker takes the class form for the class that it looks like; none gets here.
            inputs, outputs = (tuple(map(Field.of, side)) for side in parse_signature(cast("str", text)))
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
        """The canonical text; parsed again, it gives these fields without their descriptions."""
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}".lstrip()

    @property
    def text(self) -> str:
        """The canonical text with descriptions: everything but the instructions."""
        inputs, outputs = (", ".join(field.text for field in side) for side in (self.inputs, self.outputs))
        return f"{inputs} -> {outputs}".lstrip()

    def __repr__(self) -> str:
        more = f", instructions={self.instructions!r}" if self.instructions else ""
        return f"Signature({str(self)!r}{more})"

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        """As the base of a class: the metaclass finds this value among the class's original bases."""
        return (Signature,)

    def feeds(
        self, second: Signature, mapping: Mapping[str, str] | None = None, *, given: Iterable[str] = ()
    ) -> dict[str, str]:
        """Check that ``second`` can follow this one: each of its inputs has an output here whose values it takes.

        Types only: constraints are checked when there are values.

        Args:
            second: whose inputs.
            mapping: input of ``second`` to output of this one, where their names differ.
            given: inputs of ``second`` that come from elsewhere.

        Returns:
            Which output feeds which input: input's name to output's name.

        Raises:
            SignatureError: an input has no output, or one of another type; or ``mapping`` or ``given`` names a field
                that is not there (facts: field, expected, got).
        """
        return compatible(self, second, mapping, given=given)

    # -- changing: each gives a new value -----------------------------------------------------------

    def with_instructions(self, instructions: str | None) -> Signature:
        """The same fields with other instructions."""
        return Signature.of(self.inputs, self.outputs, instructions)

    def prepend(self, name: str, type: Any = str, *, to: Side, **more: Unpack[FieldFacts]) -> Signature:
        """A new field before the others of one side.

        Args:
            name: its name.
            type: a Python type, or the text of one.
            to: ``inputs`` or ``outputs``.
            **more: ``desc``, ``constraints``.

        Raises:
            SignatureError: the name is taken or malformed, or the type is.
        """
        return self.insert(0, name, type, to=to, **more)

    def append(self, name: str, type: Any = str, *, to: Side, **more: Unpack[FieldFacts]) -> Signature:
        """A new field after the others of one side; otherwise as :meth:`prepend`.

        Raises:
            SignatureError: the name is taken or malformed, or the type is.
        """
        return self.insert(len(self._side(to)), name, type, to=to, **more)

    def insert(self, index: int, name: str, type: Any = str, *, to: Side, **more: Unpack[FieldFacts]) -> Signature:
        """A new field before number ``index`` of one side, as ``list.insert`` does; otherwise as :meth:`prepend`.

        Raises:
            SignatureError: the name is taken or malformed, or the type is.
        """
        fields = list(self._side(to))
        fields.insert(index, Field(name, _type(type), more.get("desc", ""), more.get("constraints", Constraints())))
        return self._with_side(to, tuple(fields))

    def with_updated_field(
        self,
        name: str,
        *,
        type: Any = None,
        desc: str | None = None,
        constraints: Constraints | None = None,
    ) -> Signature:
        """The field ``name`` with another type, description or other constraints, in its place.

        Raises:
            SignatureError: there is no such field, the type is malformed, or the constraints do not fit it.
        """
        old = self._known(name)
        new = Field(
            name,
            old.type if type is None else _type(type),
            old.description if desc is None else desc,
            old.constraints if constraints is None else constraints,
        )
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
        """Plain data, from which :meth:`from_dict` makes an equal signature.

        Classes are written by name, ``module:Class``; their JSON schemas stand beside, for readers that are not ours.

        Raises:
            SignatureError: a class cannot be imported by its name.
        """
        classes = dict.fromkeys(cls for field in self.fields.values() for cls in field.type.classes)
        schemas = {reference(cls): checker(FieldType("Class", cls=cls)).json_schema() for cls in classes}
        return {
            "inputs": [field.to_dict() for field in self.inputs],
            "outputs": [field.to_dict() for field in self.outputs],
            "instructions": self.instructions,
            **({"schemas": schemas} if schemas else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Signature:
        """A signature from what :meth:`to_dict` gave; the modules of its classes are imported.

        Raises:
            SignatureError: a key is unknown, missing or of the wrong type, or a class cannot be imported.
        """
        table = table_of(data, ("inputs", "outputs", "instructions", "schemas"), "a signature")
        inputs, outputs = (tuple(map(Field.from_dict, _rows(table, side))) for side in _SIDES)
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


_SIDES: tuple[Literal["inputs"], Literal["outputs"]] = ("inputs", "outputs")


def _merged(parent: Signature | None, fields: list[tuple[Side, Field]], instructions: str | None) -> Signature:
    """A class's own fields after, or in the place of, those of the one above it."""
    sides: dict[Side, dict[str, Field]] = {"inputs": {}, "outputs": {}}
    if parent is not None:
        sides["inputs"].update((field.name, field) for field in parent.inputs)
        sides["outputs"].update((field.name, field) for field in parent.outputs)
        instructions = instructions or parent.instructions
    for side, field in fields:
        sides[side][field.name] = field
    return Signature.of(sides["inputs"].values(), sides["outputs"].values(), instructions)


def _type(given: object) -> FieldType:
    return as_type(given) if isinstance(given, FieldType | str) else type_of(given)


def _instructions(given: object) -> str | None:
    if not isinstance(given, str | None):
        refuse("a text or None as instructions", given)
    return given if given and given.strip() else None


def _rows(table: Mapping[str, Any], side: str) -> list[Any]:
    rows: object = table.get(side, [])
    if not isinstance(rows, list):
        refuse(f"a list as {side!r}", rows)
    return cast("list[Any]", rows)  # type: ignore[redundant-cast]  # pyright does not know what it holds
