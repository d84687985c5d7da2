"""Classes as types of fields, and the names by which they cross into text: ``module:Class``."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from typing import Any

from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter

from ...runtime.errors import SignatureError
from .types import FieldType, fits_class


def class_type(cls: type) -> FieldType:
    """A class as a type; any that pydantic can read from JSON and that has fields or members.

    Raises:
        SignatureError: it is no pydantic model, dataclass or Enum, or holds what JSON has no schema for.
    """
    if not fits_class(cls):
        expected = "a pydantic model, a dataclass or an Enum"
        got = getattr(cls, "__name__", None) or repr(cls)
        raise SignatureError(f"expected {expected}, got {got}", expected=expected, got=got)
    problem = _schema_problem(cls)
    if problem is not None:
        expected = "a class whose values JSON can carry"
        raise SignatureError(f"expected {expected}, got {cls.__name__}: {problem}", expected=expected, got=cls.__name__)
    return FieldType("Class", cls=cls)


@lru_cache(maxsize=256)
def _schema_problem(cls: type) -> str | None:
    # Asked now: a prompt that cannot be written would end a module at its first prediction.
    try:
        TypeAdapter[Any](cls).json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        return error.message.partition("\n")[0]
    return None


def reference(cls: type) -> str:
    """``module:Class``, by which :func:`load_class` finds the class again.

    Raises:
        SignatureError: it does not: the class was made inside a function, or another one stands there now.
    """
    name = f"{cls.__module__}:{cls.__qualname__}"
    try:
        found: object = _find(name)
    except (ImportError, AttributeError):
        found = None
    if found is not cls:
        expected = "a class at the top of a module, or in a class there, so that others can import it"
        raise SignatureError(f"expected {expected}, got {name}", expected=expected, got=name)
    return name


def load_class(name: str) -> FieldType:
    """The type that ``module:Class`` names. Its module is imported.

    Raises:
        SignatureError: there is no such module or class, or it is none that a field may have.
    """
    module, colon, path = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        expected = "module:Class, of a class that can be imported"
        raise SignatureError(f"expected {expected}, got {name!r}", expected=expected, got=name)
    try:
        found = _find(name)
    except (ImportError, AttributeError) as error:
        expected = "a class that can be imported"
        raise SignatureError(f"expected {expected}, got {name!r}: {error}", expected=expected, got=name) from error
    return class_type(found)


def _find(name: str) -> type:
    module, _, path = name.partition(":")
    found: object = sys.modules[module] if module in sys.modules else importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found  # type: ignore[return-value]  # class_type looks at it
