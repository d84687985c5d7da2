"""Reading an answer of DSPy's XML form while it is written: however it is cut, the fields are those of the whole."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from dspex.actors.dspy.xml_reader import XmlFieldReader

TEXTS = st.text(st.sampled_from("ab <>/\n"), max_size=12)
ANSWERS = st.lists(st.one_of(TEXTS, st.sampled_from(["<a>", "</a>", "<b>", "</b>", "<c>", "</c>"])), max_size=12).map(
    "".join
)


@given(ANSWERS, st.lists(st.integers(0, 60), max_size=8))
@example("<a>\nx </a y\n</a>", [5, 8, 9])
def test_pieces_are_the_fields(answer: str, cuts: list[int]) -> None:
    """The pieces of a field that is whole are, joined, its text without the blank space around it."""
    reader = XmlFieldReader(("a", "b"))
    found: dict[str, str] = {}
    places = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    for start, end in pairwise(places):
        for name, text in reader.feed(answer[start:end]):
            assert text
            found[name] = found.get(name, "") + text
    assert reader.close() == []
    for name, text in whole(answer).items():
        assert found.get(name, "") == text


def whole(answer: str) -> dict[str, str]:
    """The fields of a whole answer."""
    fields: dict[str, str] = {}
    at = 0
    while opening := re.compile(r"<(a|b)>").search(answer, at):
        at = opening.end()
        if opening[1] in fields:
            continue
        end = answer.find(f"</{opening[1]}>", at)
        if end < 0:
            break
        fields[opening[1]] = answer[at:end].strip()
        at = end + len(f"</{opening[1]}>")
    return fields
