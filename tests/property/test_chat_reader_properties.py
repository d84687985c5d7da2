"""Reading an answer while it is written gives what reading it whole gives, however it is cut."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.adapters.chat_marks import read_sections, unescape
from dspex.actors.adapters.chat_reader import ChatFieldReader
from dspex.actors.signatures.signature import Signature
from dspex.runtime.errors import ParseError

SIGNATURES = (Signature("q -> a, b"), Signature("q -> a"))
MARKERS = ["[[ ## a ## ]]", "[[ ## b ## ]]", "**[[ ## a ## ]]**", "[[ ## other ## ]]", "[[ ## completed ## ]]"]
HALVES = ["[", "[[", "[[ ", "[[ ##", "[[ \\##", "[[ \\\\## x", "##", "]]", "*", "**", "```", "```\n"]
SPACE = ["\n", "\n\n", " ", "\t", "\r\n", "\u2028"]
PIECES = st.sampled_from([*MARKERS, *HALVES, *SPACE, "word", "two words", "é"])
TEXTS = st.one_of(
    st.lists(PIECES, max_size=14).map("".join),
    st.lists(st.sampled_from("[]# *\\ab\n "), max_size=30).map("".join),
)


def streamed(signature: Signature, pieces: list[str]) -> dict[str, str]:
    """What a reader gives of each field, joined."""
    reader, fields = ChatFieldReader(signature), defaultdict[str, str](str)
    for piece in pieces:
        for field, text in reader.feed(piece):
            assert text, "an empty piece tells nothing"
            fields[field] += text
    for field, text in reader.close():
        fields[field] += text
    return dict(fields)


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces."""
    ends = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


@given(TEXTS, st.lists(st.integers(0, 60), max_size=20), st.sampled_from(SIGNATURES))
def test_pieces_joined_are_the_whole(text: str, places: list[int], signature: Signature) -> None:
    """For every answer that can be read, any cut of it gives each field's own text, no more and no less."""
    try:
        whole = {name: unescape(body) for name, (body, _) in read_sections(signature, text).items() if body}
    except ParseError:
        return  # refused as a whole: a field stands there twice
    assert streamed(signature, cut(text, places)) == whole


@given(TEXTS, st.lists(st.integers(0, 60), max_size=20))
def test_no_answer_breaks_the_reader(text: str, places: list[int]) -> None:
    """It refuses nothing."""
    streamed(SIGNATURES[0], cut(text, places))
