"""Long answers of whatever a model may repeat: read alike in pieces and whole, in time that grows with their length."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.adapters import adapter_named
from dspex.actors.signatures.signature import Signature
from dspex.runtime.errors import ParseError

SIGNATURE = Signature("q -> a, b: Any")
OPENING = {"chat": "[[ ## a ## ]]\n", "json": '{"a": "'}
UNITS = (
    " ",
    "\n",
    "\t\n",
    "word ",
    "*",
    "[[",
    "[[ ## ",
    "[[ \\",
    "\\",
    "[[ ## a ## ]]\n",
    "{",
    '{"b":',
    "[",
    "1, ",
    '"',
    '"a": 1, ',
    "/* */",
    "//\n",
    "```",
    "\ufeff",
    "\u202e",
    "\0",
    "9",
    "\\u0041",
    "\\ud83d\\ude00",
    "\ud83d",
)
BEGINNINGS = ("", OPENING["chat"], OPENING["json"], '{"b": [', '{"z": [', "```\n", "[[ ## ", "[[ ")
ENDS = ("", "\n[[ ## b ## ]]\nx", '"}', ']}, "a": "x"}', "\n```", "##")


def in_pieces(adapter: str, text: str, size: int) -> dict[str, str]:
    """What the reader of an adapter gives of each field."""
    reader, found = adapter_named(adapter).reader(SIGNATURE), defaultdict[str, str](str)
    pairs = [pair for start in range(0, len(text), size) for pair in reader.feed(text[start : start + size])]
    for name, piece in (*pairs, *reader.close()):
        found[name] += piece
    return dict(found)


@given(
    st.sampled_from(["chat", "json"]),
    st.sampled_from(BEGINNINGS),
    st.lists(st.tuples(st.sampled_from(UNITS), st.integers(1, 3000)), min_size=1, max_size=3),
    st.sampled_from(ENDS),
    st.integers(1, 50),
)
def test_pieces_joined_are_the_whole(
    adapter: str, beginning: str, units: list[tuple[str, int]], end: str, size: int
) -> None:
    """However much waits to be read, what comes out is the same."""
    text = beginning + "".join(unit * times for unit, times in units) + end
    assert in_pieces(adapter, text, size) == in_pieces(adapter, text, len(text))


@pytest.mark.parametrize("beginning", BEGINNINGS[:4])
@pytest.mark.parametrize("unit", [" ", "\n", "\t\n", "word ", "[[ \\", "[[ ## ", "{", "1, "])
@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_time_grows_with_the_length(adapter: str, unit: str, beginning: str) -> None:
    """A tenth of a megabyte, in the pieces that models send and whole, is read at once, not in minutes."""
    text = (beginning + unit * (100_000 // len(unit)))[:100_000]
    began = time.process_time()
    in_pieces(adapter, text, 4)
    with contextlib.suppress(ParseError):
        adapter_named(adapter).parse(SIGNATURE, text)
    assert time.process_time() - began < 5.0
