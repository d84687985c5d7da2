"""Takes secrets out of text that others wrote, before it enters an error, a log or an event."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

REDACTED: Final = "[redacted]"

# Shorter ones are placeholders ("x", "EMPTY" is longer but harmless): to hide each "x" would only hide the text.
_SHORTEST: Final = 4
_CREDENTIALS: Final = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}|\bsk-[A-Za-z0-9_-]{8,}")
EXAMINED: Final = 16_384
"""How much of a text from outside is looked at for an error message."""


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace each secret, and whatever looks like a credential, by ``[redacted]``.

    Args:
        text: text from outside.
        secrets: the secrets in clear; also found where they were escaped for JSON or a URL.
    """
    for secret in secrets:
        # No form of a secret is shorter than it is.
        if _SHORTEST <= len(secret) <= len(text):
            for form in _forms(secret):
                text = text.replace(form, REDACTED)
    return _CREDENTIALS.sub(_replacement, text)


def excerpt(content: bytes | str, secrets: Iterable[str] = (), *, limit: int = 200) -> str:
    """The beginning of ``content`` on one line, scrubbed, at most ``limit`` characters, for an error message."""
    head = content[:EXAMINED]
    text = head.decode("utf-8", "replace") if isinstance(head, bytes) else head
    # Scrub first, cut later: half a key is a secret too.
    line = " ".join(scrub(text, secrets).split())
    line = "".join(char if char.isprintable() else "?" for char in line[: limit + 1])
    return line if len(line) <= limit else line[: limit - 3] + "..."


def described(content: bytes | str, kind: str = "", secrets: Iterable[str] = ()) -> str:
    """What came, for an error message, without a word of it: what a provider sends may be a prompt or an answer.

    Args:
        content: what came.
        kind: the content type that it was said to have.
        secrets: what must not show, in clear.

    Returns:
        Its kind and length, and the beginning of its SHA-256, by which two of them are known to be the same.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    what = excerpt(kind, secrets, limit=80) or _looks_like(data)
    if not data:
        return f"{what}, empty" if kind else "nothing"
    return f"{what}, {len(data)} bytes (SHA-256 {hashlib.sha256(data).hexdigest()[:16]})"


def _looks_like(data: bytes) -> str:
    begin = data[:64].lstrip().lower()
    if begin.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return "JSON" if begin[:1] in (b"{", b"[") else "text"


def _forms(secret: str) -> tuple[str, ...]:
    in_json = json.dumps(secret)[1:-1]
    forms = {secret, in_json, in_json.replace("/", "\\/"), quote(secret, safe=""), quote(secret)}
    # Longest first, so that no form leaves the rest of a longer one behind.
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _replacement(match: re.Match[str]) -> str:
    scheme = match.group(1)
    return f"{scheme}{match.group(2)}{REDACTED}" if scheme else REDACTED
