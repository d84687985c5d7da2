"""Takes secrets out of text that others wrote, before it enters an error, a log or an event."""

from __future__ import annotations

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


def _forms(secret: str) -> tuple[str, ...]:
    in_json = json.dumps(secret)[1:-1]
    forms = {secret, in_json, in_json.replace("/", "\\/"), quote(secret, safe=""), quote(secret)}
    # Longest first, so that no form leaves the rest of a longer one behind.
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _replacement(match: re.Match[str]) -> str:
    scheme = match.group(1)
    return f"{scheme}{match.group(2)}{REDACTED}" if scheme else REDACTED
