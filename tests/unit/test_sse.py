"""Server-sent events, by the rules of WHATWG HTML 9.2.6 and by what servers really send."""

from __future__ import annotations

import pytest

from dspex.actors.http.sse import SSEDecoder
from dspex.actors.lm.failures import failure_of
from dspex.runtime.errors import LMProtocolError


def decode(*pieces: bytes) -> list[tuple[str, str]]:
    """All events of a stream that comes in these pieces."""
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


def data(*texts: str) -> list[tuple[str, str]]:
    """Unnamed events."""
    return [("message", text) for text in texts]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"data: a\n\n", data("a")),
        (b"data: a\n\ndata: b\n\n", data("a", "b")),
        (b"data:a\n\n", data("a")),
        (b"data:  a \n\n", data(" a ")),
        (b"data: a: b\n\n", data("a: b")),
        (b"data: a\ndata: b\n\n", data("a\nb")),
        (b"data: a\ndata\ndata:\ndata: b\n\n", data("a\n\n\nb")),
        (b"data\n\n", data("")),
        (b"data:\ndata:\n\n", data("\n")),
        (b"\n\ndata: a\n\n\n\ndata: b\n\n", data("a", "b")),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("message", "b")]),
        (b"data: a\nevent: x\n\n", [("x", "a")]),
        (b"event: x\nevent: y\ndata: a\n\n", [("y", "a")]),
        (b"event: x\nevent:\ndata: a\n\n", data("a")),
        (b"event: x\n\ndata: a\n\n", data("a")),  # a name alone is no event, and does not last
        (b": ping\n\ndata: a\n\n", data("a")),
        (b"data: a\n: inside\ndata: b\n\n", data("a\nb")),
        (b"id: 7\nretry: 10\nunknown: x\nDATA: n\ndata: a\n\n", data("a")),
        (b" data: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", data("a")),
        (b"data: \xef\xbb\xbfa\n\n", data("\ufeffa")),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", data("a")),  # only at the very beginning
        ("data: Grüße \N{GRINNING FACE}\n\n".encode(), data("Grüße \N{GRINNING FACE}")),
        ("data: a\u2028b\u0085c\x0bd\n\n".encode(), data("a\u2028b\u0085c\x0bd")),
        (b"data: a\xff\xfeb\n\n", data("a\ufffd\ufffdb")),
        (b"data: a\xe2\x82\n\n", data("a\ufffd")),
        (b"data: a", data("a")),
        (b"data: a\n", data("a")),
        (b"data: a\n\ndata: b", data("a", "b")),
        (b"event: x\ndata: a\n", [("x", "a")]),
    ],
)
def test_the_rules(body: bytes, expected: list[tuple[str, str]]) -> None:
    """Each rule gives the same whatever the line endings are, and byte by byte."""
    for ending in (b"\n", b"\r\n", b"\r"):
        changed = body.replace(b"\n", ending)
        assert decode(changed) == expected
        assert decode(*(changed[place : place + 1] for place in range(len(changed)))) == expected


def test_endings_may_be_mixed() -> None:
    """One stream may use all three."""
    assert decode(b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r\n\ndata: e\n\r") == data("a\nb\nc", "d", "e")


def test_an_event_is_given_as_soon_as_it_is_whole() -> None:
    """A CR that ends the blank line is enough: the LF that may follow is not waited for, nor a line of its own."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n\r") == data("a")
    assert decoder.feed(b"\ndata: b\r\n") == []
    assert decoder.feed(b"\r\n") == data("b")
    assert decoder.close() == []


def test_closing_gives_nothing_twice() -> None:
    """The rest is given once."""
    decoder = SSEDecoder()
    decoder.feed(b"data: a")
    assert decoder.close() == data("a")
    assert decoder.close() == []


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 100 + b"\n\n"],
        [b"data: a\n\ndata: " + b"x" * 100 + b"\n\n"],
        [b"data: ", *[b"x"] * 100],
        [b"data: x\n"] * 100,
        [b": endless comment " * 10],
        [b"data: " + "é".encode() * 32 + b"\n\n"],
    ],
)
def test_an_event_too_large_is_refused(pieces: list[bytes]) -> None:
    """Line by line or in one line, whole or not: a typed error, no growing buffer."""
    decoder = SSEDecoder(max_event=64)
    with pytest.raises(LMProtocolError, match="at most 64 bytes") as caught:
        list(map(decoder.feed, pieces))
    row = failure_of(caught.value)
    assert row is not None
    assert row.name == "too_large"
    assert decoder.close() == []


def test_the_bound_is_of_one_event() -> None:
    """Many small events in one read, or up to the bound, are well."""
    decoder = SSEDecoder(max_event=64)
    assert decoder.feed(b"data: a\n\n" * 1000) == data("a") * 1000
    assert decoder.feed(b"data: " + b"x" * 58 + b"\n\n") == data("x" * 58)
