"""Server-sent events: any stream, however it is cut, against a reading of the standard that is slow and plain."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.http.sse import SSEDecoder
from kit.recorded_streams import split

LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["", "", "data", "data:", "data: x", "data:é", "event: e", "event", ": c", "id: 1", "dat", " data: y"]
        ),
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8).map("data: {}".format),
    ),
    max_size=12,
)
STREAMS = st.builds(
    lambda bom, lines, endings, last: bom + "".join(a + b for a, b in zip(lines, endings, strict=False)) + last,
    st.sampled_from(["", "\ufeff"]),
    LINES,
    st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=12, max_size=12),
    st.sampled_from(["", "data: end", "da", "event: e"]),
).map(str.encode)
CUTS = st.lists(st.integers(0, 200), max_size=8)


def by_the_standard(body: bytes) -> list[tuple[str, str]]:
    """The events, read line by line as the standard words it; the end of the stream counts as a blank line."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    found: list[tuple[str, str]] = []
    name, data = "", ""
    for line in [*re.split("\r\n|\n|\r", text), ""]:
        if not line:
            if data:
                found.append((name or "message", data[:-1]))
            name, data = "", ""
            continue
        field, colon, value = line.partition(":")
        value = value[1:] if colon and value.startswith(" ") else value
        if field == "event":
            name = value
        elif field == "data":
            data += value + "\n"
    return found


def decode(pieces: list[bytes]) -> list[tuple[str, str]]:
    """All events of a stream that comes in these pieces."""
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


@given(STREAMS, CUTS)
def test_streams_are_read_by_the_standard(body: bytes, cuts: list[int]) -> None:
    """Whole or cut anywhere, the events are the standard's."""
    expected = by_the_standard(body)
    assert decode([body]) == expected
    assert decode(split(body, [cut % (len(body) + 1) for cut in cuts])) == expected


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_read_the_same_however_cut(body: bytes, cuts: list[int]) -> None:
    """Also what is no UTF-8 and no event stream."""
    assert decode(split(body, [cut % (len(body) + 1) for cut in cuts])) == decode([body]) == by_the_standard(body)
