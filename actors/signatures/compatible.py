"""Whether one signature's outputs can be another's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from ...runtime.errors import SignatureError, did_you_mean
from .field import Field
from .types import FieldType

if TYPE_CHECKING:
    from .signature import Signature

_LITERAL_OF: Final[Mapping[type, str]] = {str: "str", int: "int", bool: "bool", type(None): "None"}


def compatible(
    first: Signature, second: Signature, mapping: Mapping[str, str] | None = None, *, given: Iterable[str] = ()
) -> dict[str, str]:
    """Check that ``second`` can follow ``first``: each of its inputs has an output of ``first`` whose values it takes.

    Types only: constraints are checked when there are values.

    Args:
        first: whose outputs.
        second: whose inputs.
        mapping: input of ``second`` to output of ``first``, where their names differ.
        given: inputs of ``second`` that come from elsewhere.

    Returns:
        Which output feeds which input: input's name to output's name.

    Raises:
        SignatureError: an input has no output, or one of another type; or ``mapping`` or ``given`` names a field
            that is not there (facts: field, expected, got).
    """
    inputs = {field.name: field for field in second.inputs}
    outputs = {field.name: field for field in first.outputs}
    mapping, elsewhere = mapping or {}, set(given)
    for name in (*mapping, *elsewhere):
        _known(name, inputs, "an input of the second signature")
    for name in mapping.values():
        _known(name, outputs, "an output of the first signature")
    wiring: dict[str, str] = {}
    for name, field in inputs.items():
        source = mapping.get(name, name)
        if name in mapping or name not in elsewhere:
            _check(field, outputs.get(source), outputs)
            wiring[name] = source
    return wiring


def check_last(last: Signature, whole: Signature, where: str) -> None:
    """Check that the outputs of a program's last step are those of the program; of the type Any they may be anything.

    Raises:
        SignatureError: one is missing, or of another type (facts: field, expected, got).
    """
    outputs = {field.name: field for field in last.outputs}
    for wanted in whole.outputs:
        found = outputs.get(wanted.name)
        if found is None or (found.type.name != "Any" and not assignable(found.type, wanted.type)):
            got = "nothing" if found is None else str(found.type)
            message = f"expected {wanted.type}, got {got}, at {where} {wanted.name!r}"
            raise SignatureError(message, field=wanted.name, expected=str(wanted.type), got=got)


def _known(name: str, fields: Mapping[str, Field], what: str) -> None:
    if name not in fields:
        expected = f"{what} ({', '.join(fields) or 'none'})"
        hint = did_you_mean(name, fields)
        raise SignatureError(f"expected {expected}, got {name!r}{hint}", field=name, expected=expected, got=name)


def _check(wanted: Field, output: Field | None, outputs: Mapping[str, Field]) -> None:
    expected = str(wanted.type)
    where = f"at input {wanted.name!r} of the second signature"
    if output is None:
        names = ", ".join(outputs)
        hint = did_you_mean(wanted.name, outputs)
        raise SignatureError(
            f"expected an output {wanted.name!r} ({expected}) of the first signature, got only {names}, {where}{hint}",
            field=wanted.name,
            expected=expected,
            got=None,
        )
    if not assignable(output.type, wanted.type):
        got = str(output.type)
        raise SignatureError(
            f"expected {expected}, got {got} of the output {output.name!r} of the first signature, {where}",
            field=wanted.name,
            expected=expected,
            got=got,
        )


def assignable(source: FieldType, target: FieldType) -> bool:
    """Whether every value of ``source`` is one that an input of type ``target`` takes."""
    if source == target or target.name == "Any":
        return True
    if source.name == "|":
        return all(assignable(part, target) for part in source.args)
    if target.name == "|":
        return any(assignable(source, part) for part in target.args) or _each_literal(source, target)
    if source.name == "Literal":
        return _each_literal(source, target)
    if source.cls is not None and target.cls is not None:
        return issubclass(source.cls, target.cls)
    if source.name != target.name:
        return (source.name, target.name) == ("int", "float")
    if target.name == "tuple":
        return _tuple(source, target)
    return target.name in {"list", "dict"} and _elements(source, target)


def _each_literal(source: FieldType, target: FieldType) -> bool:
    """Each value of a literal may go another way: ``Literal[1, "a"]`` into ``int | str``."""
    kinds = target.args if target.name == "|" else (target,)
    return source.name == "Literal" and all(
        any(text in kind.literals or _takes(kind, value) for kind in kinds)
        for text, value in zip(source.literals, source.values, strict=True)
    )


def _takes(kind: FieldType, value: object) -> bool:
    name = next(name for cls, name in _LITERAL_OF.items() if type(value) is cls)
    return kind.name in {name, "Any"} or (name, kind.name) == ("int", "float")


def _elements(source: FieldType, target: FieldType) -> bool:
    if not target.args:
        # Bare: anything, but a dict's keys are texts.
        return target.name == "list" or not source.args or assignable(source.args[0], FieldType("str"))
    kinds = source.args or tuple(FieldType(name) for name in ("str", "Any")[-len(target.args) :])
    return all(map(assignable, kinds, target.args))


def _tuple(source: FieldType, target: FieldType) -> bool:
    if not target.args:
        return True
    if target.variadic:
        return all(assignable(kind, target.args[0]) for kind in source.args or (FieldType("Any"),))
    fixed = bool(source.args) and not source.variadic and len(source.args) == len(target.args)
    return fixed and all(map(assignable, source.args, target.args))
