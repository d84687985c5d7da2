"""The class form of a signature: annotations and marks, read into fields.

::

    class QA(Signature):
        \"\"\"Answer from the context only.\"\"\"

        question: str = InputField(desc="What is asked.")
        confidence: float = OutputField(ge=0, le=1)
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from ...runtime.errors import SignatureError
from .classes import class_type
from .constraints import Constraints, Number
from .field import Field
from .types import CONTAINERS, KEY_TYPES, NONE, SCALARS, STR, FieldType, literal_text, union

Side: TypeAlias = Literal["inputs", "outputs"]

_SCALAR_OF: Final[Mapping[Any, FieldType]] = {python: FieldType(name) for name, python in SCALARS.items()}
_CONTAINER_OF: Final[Mapping[Any, str]] = {list: "list", dict: "dict", tuple: "tuple"}
# What Python itself puts into a class body.
_ANNOTATIONS: Final = ("__module__", "__annotations__", "__annotate__", "__annotate_func__")
_OF_PYTHON: Final = (
    *_ANNOTATIONS,
    "__qualname__",
    "__doc__",
    "__orig_bases__",
    "__firstlineno__",
    "__static_attributes__",
    "__conditional_annotations__",
    "__classdictcell__",
)


@dataclass(frozen=True, slots=True)
class FieldMark:
    """What :func:`InputField` and :func:`OutputField` say of a field."""

    side: Side
    desc: str
    choices: tuple[Any, ...] | None
    constraints: Constraints


def InputField(  # noqa: N802 - reads as the class that a field is
    *,
    desc: str = "",
    ge: Number | None = None,
    gt: Number | None = None,
    le: Number | None = None,
    lt: Number | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    choices: Iterable[Any] | None = None,
) -> Any:
    """An input of a signature's class form.

    Args:
        desc: one line for the model.
        ge: least number.
        gt: number that it is above.
        le: greatest number.
        lt: number that it is below.
        min_length: least characters of a text, entries of a structure.
        max_length: most of them.
        pattern: a regular expression that a text must hold.
        choices: the only values, in the place of ``Literal[...]``.
    """
    constraints = Constraints(ge=ge, gt=gt, le=le, lt=lt, min_length=min_length, max_length=max_length, pattern=pattern)
    return FieldMark("inputs", desc, None if choices is None else tuple(choices), constraints)


def OutputField(**options: Any) -> Any:  # noqa: N802 - as InputField
    """An output of a signature's class form; it takes what :func:`InputField` takes."""
    mark: FieldMark = InputField(**options)
    return FieldMark("outputs", mark.desc, mark.choices, mark.constraints)


def read_class(
    name: str, namespace: Mapping[str, Any], local: Mapping[str, Any]
) -> tuple[list[tuple[Side, Field]], str | None]:
    """The fields of a class body in their order, and its docstring.

    Args:
        name: of the class.
        namespace: its body.
        local: what can be seen where it stands, for annotations that are texts.

    Raises:
        SignatureError: an entry is no field, or a field is malformed (facts: field, expected, got).
    """
    body = {key: value for key, value in namespace.items() if key not in _OF_PYTHON}
    hints = _hints(name, namespace, local)
    for key in (*body, *hints):
        if not isinstance(body.get(key), FieldMark):
            expected = "InputField(...) or OutputField(...)"
            got = type(body[key]).__name__ if key in body else "nothing"
            raise SignatureError(
                f"expected {expected}, got {got}, at {name}.{key}", field=key, expected=expected, got=got
            )
    doc = namespace.get("__doc__")
    fields = [(mark.side, _field(name, key, mark, hints)) for key, mark in body.items()]
    return fields, inspect.cleandoc(doc) if doc else None


def _hints(name: str, namespace: Mapping[str, Any], local: Mapping[str, Any]) -> dict[str, Any]:
    holder = type(name, (), {key: value for key, value in namespace.items() if key in _ANNOTATIONS})
    try:
        return typing.get_type_hints(holder, localns=dict(local), include_extras=True)
    except (NameError, SyntaxError, TypeError, AttributeError) as error:
        expected = "annotations that can be resolved where the class stands"
        raise SignatureError(f"expected {expected}, at {name}: {error}", expected=expected, got=str(error)) from error


def _field(owner: str, name: str, mark: FieldMark, hints: Mapping[str, Any]) -> Field:
    try:
        kind = type_of(hints[name]) if name in hints else STR
        kind = kind if mark.choices is None else _chosen(kind, mark.choices)
        return Field(name, kind, mark.desc, mark.constraints)
    except SignatureError as error:
        raise SignatureError(f"{error.message}, in {owner}.{name}", **{**error.facts, "field": name}) from None


def _chosen(kind: FieldType, choices: tuple[Any, ...]) -> FieldType:
    fitting = {"str": str, "int": int, "bool": bool}.get(kind.without_none.name)
    if not choices or fitting is None or any(type(choice) is not fitting for choice in choices):
        expected = "choices of the field's type, which is str, int or bool"
        raise SignatureError(f"expected {expected}, got {choices!r} for {kind}", expected=expected, got=repr(choices))
    chosen = FieldType("Literal", literals=tuple(dict.fromkeys(map(literal_text, choices))))
    return union((chosen, NONE)) if kind.nullable else chosen


def type_of(annotation: Any) -> FieldType:
    """A Python annotation as a type of a signature.

    Raises:
        SignatureError: no field can have it.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None and annotation in _SCALAR_OF:
        return _SCALAR_OF[annotation]
    if annotation is type(None):
        return NONE
    if origin in (Union, types.UnionType):
        return union(type_of(arg) for arg in args)
    if origin is Literal:
        return _literal(args)
    container = _CONTAINER_OF.get(origin or annotation)
    if container is not None:
        if origin is not None and not args:
            raise SignatureError(
                f"expected a type of elements, got {annotation}", expected="a type", got=str(annotation)
            )
        return _container(container, args)
    if isinstance(annotation, type) and origin is None:
        return class_type(annotation)
    shown = str(annotation)[:100]
    expected = f"a type out of {', '.join((*SCALARS, *CONTAINERS))}, Literal, a union, or a class with fields"
    raise SignatureError(f"expected {expected}, got {shown}", expected=expected, got=shown)


def _literal(values: tuple[Any, ...]) -> FieldType:
    for value in values:
        if type(value) not in {str, int, bool, type(None)}:
            expected = "texts, whole numbers, True, False or None in Literal"
            raise SignatureError(f"expected {expected}, got {value!r}", expected=expected, got=repr(value))
    return FieldType("Literal", literals=tuple(dict.fromkeys(map(literal_text, values))))


def _container(name: str, args: tuple[Any, ...]) -> FieldType:
    variadic = name == "tuple" and len(args) == 2 and args[1] is Ellipsis
    kinds = tuple(type_of(arg) for arg in (args[:1] if variadic else args))
    if name == "dict" and kinds and kinds[0].name not in KEY_TYPES:
        expected = f"a dict with keys of {', '.join(KEY_TYPES)}"
        raise SignatureError(f"expected {expected}, got {kinds[0]}", expected=expected, got=str(kinds[0]))
    return FieldType(name, kinds, variadic=variadic)
