"""Secrets do not pass from a server's words into ours."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.scrub import described, excerpt, scrub

KEY = "gw/Abc+123=xyz"
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=40)


@given(keys, st.text(max_size=30), st.text(max_size=30))
def test_the_secret_is_gone(key: str, before: str, after: str) -> None:
    """A secret, plain or escaped for JSON or a URL, is replaced wherever it stands."""
    for form in (key, json.dumps(key)[1:-1], quote(key, safe="")):
        shown = scrub(f"{before}{form}{after}", [key])
        assert form not in shown or form in "[redacted]"


def test_what_looks_like_a_credential_goes_too() -> None:
    """Keys we do not know ourselves: bearer tokens and OpenAI-like keys."""
    shown = scrub("Authorization: Bearer abcdef123456 and sk-proj-12345678abc")
    assert shown == "Authorization: Bearer [redacted] and [redacted]"


def test_placeholders_do_not_eat_the_text() -> None:
    """A key as short as "x" is no secret, and hiding it would hide every x."""
    assert scrub("next axis", ["x", ""]) == "next axis"


def test_an_excerpt_cuts_after_scrubbing() -> None:
    """A secret at the cut does not leave its first half behind."""
    shown = excerpt("a" * 190 + KEY + "b" * 50, [KEY])
    assert len(shown) == 200
    assert KEY[:4] not in shown


def test_an_excerpt_is_one_printable_line() -> None:
    """Line ends, control and broken characters do not reach a log."""
    assert excerpt(b"one\n\ttwo \x1b[31m\xff") == "one two ?[31m\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("content", "kind", "begin"),
    [
        (b"", "", "nothing"),
        (b"", "text/html", "text/html, empty"),
        (b" <!DOCTYPE html><p>Bob", "", "an HTML page, 22 bytes (SHA-256 "),
        ('{"said": "Bob"}', "", "JSON, 15 bytes (SHA-256 "),
        ("Bob", "", "text, 3 bytes (SHA-256 cd9fb1e148ccd844)"),
        ("Bob", "text/x " + KEY, "text/x [redacted], 3 bytes (SHA-256 "),
    ],
)
def test_a_description_says_nothing_of_the_content(content: bytes | str, kind: str, begin: str) -> None:
    """Kind, length and hash of what came, and not a word of it."""
    shown = described(content, kind, [KEY])
    assert shown.startswith(begin)
    assert "Bob" not in shown
