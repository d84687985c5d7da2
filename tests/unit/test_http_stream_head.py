"""The head of an HTTP answer, as it is made from what the network gave."""

from __future__ import annotations

import asyncio

from dspex.actors.http.failures import HttpFailures
from dspex.actors.http.http_stream import HttpxStream
from dspex.actors.http.over_aiohttp import PlainAnswer


class Pieces:
    """A body in pieces."""

    def __init__(self) -> None:
        self.left = [b"a", b"b"]

    async def read(self) -> bytes:
        """The next one."""
        return self.left.pop(0) if self.left else b""

    def close(self) -> None:
        """There is nothing to close."""


def stream_of(*headers: tuple[bytes, bytes]) -> HttpxStream:
    """A stream whose answer has these headers."""
    failures = HttpFailures("here", connect_timeout=1, write_timeout=1)
    return HttpxStream(PlainAnswer(200, headers, Pieces()), failures, (), lambda: None)


def test_headers_of_one_name_are_joined_and_names_are_lower_case() -> None:
    """What HTTP allows to be sent in several lines reads as one value; bytes beyond ASCII are kept as Latin-1."""
    head = stream_of((b"Via", b"one"), (b"X-Request-Id", b"r"), (b"VIA", b"tw\xf6")).head
    assert head.headers == {"via": "one, tw\xf6", "x-request-id": "r"}


def test_a_plain_body_comes_in_the_pieces_that_were_sent() -> None:
    """Without compression nothing stands between the pieces and their reader; the end is empty."""

    async def run() -> list[bytes]:
        stream = stream_of()
        return [await stream.read() for _ in range(4)]

    assert asyncio.run(run()) == [b"a", b"b", b"", b""]
