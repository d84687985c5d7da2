r"""The chat adapter: fields as marked sections, which every chat model can read and write.

::

    [[ ## question ## ]]
    Who wrote Hamlet?

    [[ ## answer ## ]]
    William Shakespeare

    [[ ## completed ## ]]

*Forging.* A value that holds marker text cannot open a section: ``[[ ##`` inside a value is written
``[[ \##``, and an answer's ``[[ \##`` is read back as ``[[ ##``. A field that an answer gives twice, with
different words, is refused.

*Tolerance.* Prose before the first marker, the missing last marker, a fence around the whole answer and
sections of unknown names are passed over. An answer without markers is taken whole if the signature has
exactly one output: its type then decides whether that is an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from ...runtime.errors import ParseError
from ..lm.values import Message
from ..signatures.answers import parse_value, read_fields
from ..signatures.field import Field
from ..signatures.signature import Signature
from ..signatures.types import STR, FieldType
from ..signatures.values import KEPT, Checking, shorten, value_text
from .chat_marks import escape, read_sections, unescape
from .chat_reader import ChatFieldReader
from .json_schema import field_schema
from .prompts import listed, task

_ABSENT: Final = "(not given in this example)"


class ChatAdapter:
    """Marked sections in, marked sections out."""

    @property
    def name(self) -> str:
        """The word that chooses it."""
        return "chat"

    def format(
        self, signature: Signature, inputs: Mapping[str, Any], demos: Sequence[Mapping[str, Any]] = ()
    ) -> list[Message]:
        """One system message, two messages a demo, and the question. See :class:`~..adapter.Adapter`."""
        system, request, end = _frame(signature)
        messages = [system]
        for demo in demos:
            # Only the question asks; a demo's own is told by its answer. But no message may be empty.
            messages.append(Message("user", _filled(signature.inputs, demo) or request))
            messages.append(Message("assistant", f"{_filled(signature.outputs, demo)}\n\n{end}"))
        messages.append(Message("user", f"{_filled(signature.inputs, inputs)}\n\n{request}".lstrip()))
        return messages

    def response_format(self, signature: Signature) -> Mapping[str, Any] | None:
        """None: sections are text. See :class:`~..adapter.Adapter`."""
        return None

    def parse(self, signature: Signature, text: str, *, checking: Checking = "lenient") -> dict[str, Any]:
        """The outputs in an answer. See :class:`~..adapter.Adapter`."""
        try:
            sections = read_sections(signature, text)
            return read_fields(signature, lambda field: _value(field, sections, checking))
        except ParseError as error:
            error.facts["text"] = shorten(text, KEPT)
            raise

    def reader(self, signature: Signature) -> ChatFieldReader:
        """What reads an answer while it is written. See :class:`~..adapter.Adapter`."""
        return ChatFieldReader(signature)


# -- writing -------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _frame(signature: Signature) -> tuple[Message, str, str]:
    """What all prompts of a signature have in common: the system message, the request, and the last section."""
    return Message("system", _system(signature)), _request(signature), _section(_end(signature), "")


def _system(signature: Signature) -> str:
    everything = (*signature.inputs, *signature.outputs)
    layout = [_section(field.name, f"{{{field.name}}}{_note(field)}") for field in everything]
    parts = [
        *([f"Your input fields are:\n{listed(signature.inputs)}"] if signature.inputs else []),
        f"Your output fields are:\n{listed(signature.outputs)}",
        "All interactions have this structure, with the values filled in:",
        *layout,
        _section(_end(signature), ""),
        f"Your task:\n{task(signature)}",
    ]
    return "\n\n".join(parts)


def _note(field: Field) -> str:
    rule = _rule(field)
    if any(map(_has_fields, field.type.classes)):
        rule += f" that fits the schema {json.dumps(field_schema(field), ensure_ascii=False)}"
    return f"        # {rule}" if rule else ""


def _has_fields(cls: type) -> bool:
    return not issubclass(cls, Enum)


def _rule(field: Field) -> str:
    """What a value of the field must look like, in words; nothing for plain text."""
    shape, words = _shape(field.type), field.constraints.words
    return f"{shape or 'text'}, {words}" if words else shape


def _shape(kind: FieldType) -> str:
    if kind == STR:
        return ""
    if kind.nullable:
        return f"{_shape(kind.without_none) or 'text'}, or null"
    if kind.values:
        return f"exactly one of: {'; '.join(map(str, kind.values))}"
    return _RULES.get(kind.name, f"JSON of the type {kind.label}")


_RULES: Final = {
    "int": "one whole number",
    "float": "one number",
    "Decimal": "one number",
    "bool": "true or false",
    "date": "a date, YYYY-MM-DD",
    "datetime": "a time, YYYY-MM-DDTHH:MM:SS",
    "Any": "JSON or text",
}


def _request(signature: Signature) -> str:
    steps = [
        f"`[[ ## {field.name} ## ]]`{f' ({rule})' if (rule := _rule(field)) else ''}" for field in signature.outputs
    ]
    return (
        f"Respond with the sections {', then '.join(steps)}, in this order, "
        f"and end with the marker `[[ ## {_end(signature)} ## ]]`."
    )


def _filled(fields: tuple[Field, ...], values: Mapping[str, Any]) -> str:
    return "\n\n".join(
        _section(field.name, escape(value_text(field, values[field.name])) if field.name in values else _ABSENT)
        for field in fields
    )


def _section(name: str, body: str) -> str:
    return f"[[ ## {name} ## ]]\n{body}" if body else f"[[ ## {name} ## ]]"


def _end(signature: Signature) -> str:
    name = "completed"
    while name in signature.fields:
        name += "_"
    return name


# -- reading -------------------------------------------------------------------------------------


def _value(field: Field, sections: Mapping[str, tuple[str, str]], checking: Checking) -> Any:
    if field.name not in sections:
        got = f"the sections {', '.join(sections)}" if sections else "an answer without its marker"
        raise ParseError(
            f"expected a section [[ ## {field.name} ## ]] ({field.label}), got {got}, at output field {field.name!r}",
            field=field.name,
            expected=field.label,
            got=got,
        )
    body, where = sections[field.name]
    return parse_value(field, unescape(body), where, checking=checking)
