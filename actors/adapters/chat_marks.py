"""The marks of the chat adapter's sections: written, escaped, and found again."""

from __future__ import annotations

import re
from typing import Final

from ...runtime.errors import ParseError
from ..signatures.signature import Signature
from ..signatures.values import shorten

# A marker opens its line; models like to make it bold.
MARKER: Final = re.compile(r"^[ \t]*(?:\*\*)?\[\[[ \t]*##[ \t]*(\w+)[ \t]*##[ \t]*\]\](?:\*\*)?", re.MULTILINE)
_OPENING: Final = re.compile(r"\[\[(\s*)(\\*)##")
_ESCAPED: Final = re.compile(r"\[\[(\s*)\\(\\*)##")
_FENCED: Final = re.compile(r"\A```[\w+-]*[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL)


def escape(text: str) -> str:
    """Keep a value's marker text from opening a section."""
    return _OPENING.sub(r"[[\1\\\2##", text)


def unescape(text: str) -> str:
    """Read an escaped value back."""
    return _ESCAPED.sub(r"[[\1\2##", text)


def read_sections(signature: Signature, text: str) -> dict[str, tuple[str, str]]:
    """The answer's output sections: name to text and place."""
    fenced = _FENCED.match(text.strip())
    if fenced and MARKER.search(fenced[1]):
        text = fenced[1]
    markers = list(MARKER.finditer(text))
    found: dict[str, tuple[str, str]] = {}
    outputs = signature.output_names
    ends = [*(marker.start() for marker in markers[1:]), len(text)]
    for marker, end in zip(markers, ends, strict=False):
        name = marker[1]
        if name not in outputs:
            continue
        body = text[marker.end() : end].strip()
        line = text.count("\n", 0, marker.start()) + 1
        if name in found and found[name][0] != body:
            raise ParseError(
                f"expected one section {name!r}, got a second one with other words, at line {line} of the answer",
                field=name,
                expected="one section",
                got=shorten(repr(body)),
            )
        found.setdefault(name, (body, f"section {name!r}, line {line} of the answer"))
    if not found and len(signature.outputs) == 1:
        whole = text[: markers[0].start() if markers else len(text)].strip()
        if whole:
            found[signature.outputs[0].name] = (whole, f"output {signature.outputs[0].name!r}, the whole answer")
    return found
