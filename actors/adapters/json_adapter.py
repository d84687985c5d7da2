"""The JSON adapter: the inputs as one JSON object, the outputs as another, described by its JSON schema.

Providers that have structured output of their own are asked for it (:meth:`JsonAdapter.response_format`); the prompt
says the same in words, for all others.

*Tolerance.* Prose and fences around the object are passed over, and so are members of unknown names; the small
mistakes that ``json_text.py`` lists are read. An output that may be None may be left out. A broken or cut-off
object, a member that stands there twice with different values, and everything that the types refuse is a ParseError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...runtime.errors import ParseError
from ..lm.values import Message
from ..signatures.answers import json_value, read_fields
from ..signatures.constraints import checker
from ..signatures.field import Field
from ..signatures.signature import Signature
from ..signatures.values import KEPT, Checking, shorten, unwritable
from .json_reader import JsonFieldReader, Member, read_answer
from .json_schema import output_schema, response_format
from .json_text import WrongJsonError
from .plain_json import plain_object
from .prompts import listed, task


class JsonAdapter:
    """JSON in, JSON out."""

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "json"

    def response_format(self, signature: Signature) -> Mapping[str, Any] | None:
        """Structured output, in OpenAI's form. See :class:`~..adapter.Adapter`."""
        return response_format(signature)

    def format(
        self, signature: Signature, inputs: Mapping[str, Any], demos: Sequence[Mapping[str, Any]] = ()
    ) -> list[Message]:
        """One system message, two messages a demo, and the question. See :class:`~..adapter.Adapter`."""
        messages = [Message("system", _system(signature))]
        for demo in demos:
            absent = [field.name for field in signature.fields.values() if field.name not in demo]
            note = f"(Not given in this example: {', '.join(absent)}.)" if absent else ""
            # Only the question asks; a demo's own is told by its answer. But no message may be empty.
            messages.append(Message("user", _given(signature, demo, note) or _asked(signature)))
            messages.append(Message("assistant", _object(signature.outputs, demo)))
        messages.append(Message("user", _given(signature, inputs, _asked(signature))))
        return messages

    def parse(self, signature: Signature, text: str, *, checking: Checking = "lenient") -> dict[str, Any]:
        """The outputs in an answer. See :class:`~..adapter.Adapter`."""
        quick = _quick(signature, text, checking)
        if quick is not None:
            return quick
        try:
            return _outputs(signature, text, checking)
        except ParseError as error:
            error.facts["text"] = shorten(text, KEPT)
            raise

    def reader(self, signature: Signature) -> JsonFieldReader:
        """What reads an answer while it is written: texts as they grow, everything else when it is whole."""
        return JsonFieldReader(signature)


# -- writing -------------------------------------------------------------------------------------


def _system(signature: Signature) -> str:
    schema = json.dumps(output_schema(signature), ensure_ascii=False)
    parts = [
        *([f"Your input is a JSON object with these fields:\n{listed(signature.inputs)}"] if signature.inputs else []),
        f"Your output is a JSON object with these fields:\n{listed(signature.outputs)}",
        f"It must fit this JSON schema:\n{schema}",
        f"Your task:\n{task(signature)}",
        "Respond with the JSON object only.",
    ]
    return "\n\n".join(parts)


def _given(signature: Signature, values: Mapping[str, Any], further: str) -> str:
    given = _object(signature.inputs, values) if signature.inputs else ""
    return "\n\n".join(part for part in (given, further) if part)


def _asked(signature: Signature) -> str:
    names = ", ".join(f"`{name}`" for name in signature.output_names)
    return f"Respond with a JSON object with the fields {names}, in this order, and nothing else."


def _object(fields: Sequence[Field], values: Mapping[str, Any]) -> str:
    plain = {field.name: _plain(field, values[field.name]) for field in fields if field.name in values}
    return json.dumps(plain, ensure_ascii=False, indent=2)


def _plain(field: Field, value: Any) -> Any:
    try:
        plain = checker(field.type).dump_python(value, mode="json", warnings=False)
        json.dumps(plain, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise unwritable(field, value, error) from error
    return plain


# -- reading -------------------------------------------------------------------------------------


def _quick(signature: Signature, text: str, checking: Checking) -> dict[str, Any] | None:
    """The outputs, if the answer is a plain object with all of them; whatever else it is is looked at more closely."""
    if any(field.type.without_none.name == "Decimal" for field in signature.outputs):
        return None  # a decimal keeps its digits, which Python's parser does not
    found = plain_object(text)
    if found is None or not all(field.name in found for field in signature.outputs):
        return None
    try:
        return {
            field.name: json_value(field, found[field.name], "", "", checking=checking) for field in signature.outputs
        }
    except ParseError:
        return None


def _outputs(signature: Signature, text: str, checking: Checking) -> dict[str, Any]:
    try:
        found, others = read_answer(signature.output_names, text)
    except WrongJsonError as error:
        place = _place(text, error.place)
        message = f"expected {error.expected}, got {error.got}, at {place}"
        raise ParseError(message, expected=error.expected, got=error.got, where=place) from None
    return read_fields(signature, lambda field: _value(field, found, others, text, checking))


def _value(field: Field, found: Mapping[str, Member], others: list[str], text: str, checking: Checking) -> Any:
    if field.name not in found:
        if field.type.nullable and found and checking != "strict":
            return None
        names = [*found, *others]
        got = f"an object with {shorten(', '.join(names))}" if names else "an answer without a JSON object"
        raise ParseError(
            f"expected a JSON object with {field.name!r} ({field.label}), got {got}, at output field {field.name!r}",
            field=field.name,
            expected=field.label,
            got=got,
        )
    member = found[field.name]
    where = f"output field {field.name!r}, {_place(text, member.place)}"
    return json_value(field, member.value, member.text, where, checking=checking)


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return f"line {line}, column {column} of the answer"
