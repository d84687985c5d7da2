"""The JSON schema of a signature's outputs, and the form of it that providers hold their models to.

Strict structured output takes a subset only: every object closed and all of its members required, no open objects,
no tuples, no recursion; bounds, lengths and patterns are refused by some. What the subset cannot say of a value stands
in its description, and the answer is checked afterwards anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter

from ..json_values import json_object
from ..signatures.constraints import checker
from ..signatures.field import Field
from ..signatures.signature import Signature

_KEPT: Final = ("type", "enum", "description")
_FORMATS: Final = ("date", "date-time")
_DROPPED: Final = ("title", "default", "examples", "discriminator", "deprecated", "readOnly", "writeOnly")
_PLAIN: Final = ("string", "integer", "number", "boolean", "null")


class _NotStrictError(Exception):
    """The subset has no word for it."""


def field_schema(field: Field) -> dict[str, Any]:
    """The JSON schema of one field's values."""
    return checker(field.type, field.constraints).json_schema()


@lru_cache(maxsize=256)
def output_schema(signature: Signature) -> Mapping[str, Any]:
    """The JSON schema of the object that holds the outputs. Shared: not to be changed."""
    checkers = [(field.name, "validation", checker(field.type, field.constraints)) for field in signature.outputs]
    schemas, shared = TypeAdapter[Any].json_schemas(checkers)  # type: ignore[arg-type]  # the mode is one of theirs
    properties = {
        field.name: schemas[field.name, "validation"]
        | ({"description": field.description} if field.description else {})
        for field in signature.outputs
    }
    whole: dict[str, Any] = {"type": "object", "properties": properties, "required": list(properties)}
    return whole | ({"$defs": shared["$defs"]} if "$defs" in shared else {})


@lru_cache(maxsize=256)
def response_format(signature: Signature) -> Mapping[str, Any]:
    """What asks a provider for the outputs, in OpenAI's form; by their schema where the strict subset can say it.

    Shared: not to be changed.
    """
    whole = output_schema(signature)
    try:
        schema = _strict(whole, json_object(whole.get("$defs")), ())
    except _NotStrictError:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "outputs", "strict": True, "schema": schema}}


def _strict(schema: Mapping[str, Any], definitions: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    """The schema in the strict subset; definitions are written out where they stand.

    Raises:
        _NotStrictError: it cannot be said there.
    """
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix("#/$defs/")
        if name in within or name not in definitions:
            raise _NotStrictError
        merged = {**definitions[name], **{key: value for key, value in schema.items() if key != "$ref"}}
        return _strict(merged, definitions, (*within, name))
    made = {key: value for key in _KEPT if (value := schema.get(key)) is not None}
    if "const" in schema:
        made["enum"] = [schema["const"]]
    choices = schema.get("anyOf") or schema.get("oneOf") or _only(schema.get("allOf"))
    if choices:
        made["anyOf"] = [_strict(choice, definitions, within) for choice in choices]
    elif schema.get("type") == "object":
        made |= _object(schema, definitions, within)
    elif schema.get("type") == "array":
        if not isinstance(schema.get("items"), dict) or "prefixItems" in schema or not schema["items"]:
            raise _NotStrictError
        made["items"] = _strict(schema["items"], definitions, within)
    elif "enum" not in made and schema.get("type") not in _PLAIN:
        raise _NotStrictError
    return _described(made, schema)


def _only(found: Any) -> Any:
    if found is None or len(found) == 1:
        return found
    raise _NotStrictError


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    properties = json_object(schema.get("properties"))
    # additionalProperties of a model may be true or a schema beside its members; of a dict they are all there is.
    if not properties or "patternProperties" in schema:
        raise _NotStrictError
    return {
        "properties": {name: _strict(found, definitions, within) for name, found in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


def _described(made: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Put what the subset lacks into the description."""
    if schema.get("format") in _FORMATS:
        made["format"] = schema["format"]
    structure = ("$defs", "const", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "allOf")
    lost = {
        key: value
        for key, value in schema.items()
        if key not in (*structure, *_KEPT, *_DROPPED) and key not in made and key != "$ref"
    }
    if lost:
        words = ", ".join(f"{key}: {value}" for key, value in lost.items())
        made["description"] = f"{made['description']} ({words})" if made.get("description") else words
    return made
