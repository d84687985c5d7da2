"""Broken and unusual streams in each format, over real sockets and through a whole application."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.actors.budgets.messages import Amount
from dspex.runtime.errors import LMError, LMProtocolError, LMServerError, LMTimeout, StreamInterrupted
from kit.fire import KINDS, Fire, Latest, error_event, fire, pieces, steps, whole
from kit.http_server import Exchange, HttpServer, Script
from kit.promptness import prompt, tried_again

kinds = pytest.mark.parametrize("kind", KINDS)
TEXTS = ("Grüße ", "an ", "alle 😀")


@pytest.fixture(scope="module")
def burning() -> Iterator[Fire]:
    """One application for all tests."""
    with fire(rng=Latest()) as made:
        yield made


def send(ex: Exchange, *parts: bytes, end: bool = True) -> None:
    """A stream of these pieces."""
    ex.head()
    for part in parts:
        ex.chunk(part)
    if end:
        ex.chunk(b"")


def half(event: bytes) -> bytes:
    """The event with its JSON cut in two."""
    return event[: len(event) // 2] + b"\n\n"


@dataclass(frozen=True)
class Break:
    """How a stream breaks.

    Attributes:
        do: does it, after what was sent; made for the format.
        error: what that is before anything was delivered.
        settings: of the provider.
    """

    do: Callable[[str], Script]
    error: type[LMError]
    settings: tuple[tuple[str, Any], ...] = ()


BREAKS = {
    "truncated": Break(lambda kind: lambda ex: ex.chunk(b""), LMProtocolError),
    "closed": Break(lambda kind: Exchange.close, LMProtocolError),
    "reset": Break(lambda kind: Exchange.reset, LMProtocolError),
    "malformed": Break(
        lambda kind: steps(lambda ex: ex.chunk(half(pieces(kind, "x y z")[1])), Exchange.hang), LMProtocolError
    ),
    "bad chunk": Break(lambda kind: steps(lambda ex: ex.send(b"no length\r\n"), Exchange.hang), LMProtocolError),
    "error event": Break(lambda kind: steps(lambda ex: ex.chunk(error_event(kind)), Exchange.hang), LMServerError),
    "stalled": Break(lambda kind: Exchange.hang, LMTimeout, (("first_chunk_timeout", 0.6), ("chunk_timeout", 0.6))),
}
breaks = pytest.mark.parametrize("how", BREAKS)


@kinds
@breaks
def test_before_the_first_text(burning: Fire, kind: str, how: str) -> None:
    """Nothing was delivered: tried again; the reader sees one whole answer, and it is paid for once."""
    fault, parts = BREAKS[how], pieces(kind, *TEXTS)

    def script(ex: Exchange) -> None:
        if len(server.requests) == 1:
            send(ex, parts[0], end=False)
            fault.do(kind)(ex)
        else:
            send(ex, *parts)

    with HttpServer(script) as server:
        id = burning.provider(server.url, kind, **dict(fault.settings))
        seen: list[str] = []
        answer = burning.read(id, seen)
        assert (seen, answer.finish_reason) == (list(TEXTS), "stop")
        assert [attempt.error_code for attempt in answer.attempts] == [fault.error.code, None]
        assert len(server.requests) == 2
        burning.quiet(id)
        assert burning.budget(f"provider/{id}").spent == Amount(1, 14, answer.cost or Amount().money)


@kinds
@breaks
def test_after_the_first_text(burning: Fire, kind: str, how: str) -> None:
    """Something was delivered: StreamInterrupted with what came; not tried again; counted once; all given back."""
    fault, parts = BREAKS[how], pieces(kind, *TEXTS)

    delivered = threading.Event()

    def script(ex: Exchange) -> None:
        send(ex, *parts[:3], end=False)
        delivered.wait(5)
        fault.do(kind)(ex)

    seen: list[str] = []

    def read(id: str) -> None:
        with burning.app.lm.stream(id, "Hi") as stream:
            for chunk in stream:
                seen.append(chunk.text)
                if "".join(seen) == "Grüße an ":
                    delivered.set()

    with HttpServer(script) as server:
        id = burning.provider(server.url, kind, **dict(fault.settings))
        with pytest.raises(StreamInterrupted) as caught:
            read(id)
    error = caught.value
    assert "".join(seen) == error.facts["text"] == "Grüße an "
    assert (error.facts["cause"], error.provider) == (fault.error.code, id)
    assert len(error.attempts) == len(server.requests) == 1
    burning.quiet(id)
    assert burning.protection(id).breaker.failures == 1
    assert burning.budget(f"provider/{id}").spent.requests == 1


def bytewise(parts: list[bytes]) -> list[bytes]:
    """One byte a piece."""
    return [bytes([byte]) for byte in b"".join(parts)]


FRAMINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "one-byte chunks": bytewise,
    "in one piece": lambda parts: [b"".join(parts)],
    "CR only": lambda parts: [part.replace(b"\n", b"\r") for part in parts],
    "CRLF": lambda parts: [part.replace(b"\n", b"\r\n") for part in parts],
    "CRLF, one-byte chunks": lambda parts: bytewise([part.replace(b"\n", b"\r\n") for part in parts]),
    "no final blank line": lambda parts: [*parts[:-1], parts[-1].rstrip(b"\n")],
    "a final newline, no blank line": lambda parts: [*parts[:-1], parts[-1].rstrip(b"\n") + b"\n"],
    "BOM": lambda parts: [b"\xef\xbb\xbf", *parts],
    "comments": lambda parts: [b": ping\n\n", *(part + b": ping\n\n" for part in parts)],
    "no space": lambda parts: [part.replace(b"data: ", b"data:") for part in parts],
    "ids and retry": lambda parts: [b"retry: 10\n\n", *(b"id: 1\n" + part for part in parts)],
}


@kinds
@pytest.mark.parametrize("framing", FRAMINGS)
def test_unusual_framing(burning: Fire, kind: str, framing: str) -> None:
    """However the events are framed and cut, the answer is the same."""
    sent = FRAMINGS[framing](pieces(kind, *TEXTS))
    with HttpServer(lambda ex: send(ex, *sent)) as server:
        answer = burning.ask(burning.provider(server.url, kind), "stream")
        assert (answer.text, answer.finish_reason) == ("".join(TEXTS), "stop")
        assert answer.usage.total_tokens == 14
        assert len(answer.attempts) == 1


@kinds
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "one-byte chunks"])
def test_text_that_looks_like_line_ends(burning: Fire, kind: str, cut: bool) -> None:
    """U+2028, U+2029, U+0085 and others that are no line ends in SSE pass unharmed, in clear and escaped."""
    texts = ("a\u2028b", "c\u2029d\x85e", "f\x0bg\x0ch\x1ci", "j\nk\r\nl")
    parts = pieces(kind, *texts)
    with HttpServer(lambda ex: send(ex, *(bytewise(parts) if cut else parts))) as server:
        assert burning.ask(burning.provider(server.url, kind), "stream").text == "".join(texts)


@kinds
def test_a_whole_answer_to_a_request_for_a_stream(burning: Fire, kind: str) -> None:
    """Some servers do not stream: the answer is read all the same."""
    with HttpServer(lambda ex: ex.reply(200, whole(kind, "Hello"))) as server:
        assert burning.ask(burning.provider(server.url, kind), "stream").text == "Hello"


@kinds
def test_pings_do_not_keep_a_silent_stream_alive(burning: Fire, kind: str) -> None:
    """The clock between two chunks is not set back by comments."""

    def script(ex: Exchange) -> None:
        send(ex, *pieces(kind, *TEXTS)[:2], end=False)
        while not ex.server.stopping.wait(0.05):
            ex.chunk(b": ping\n\n")

    with HttpServer(script) as server:
        id = burning.provider(server.url, kind, chunk_timeout=0.3)
        with pytest.raises(StreamInterrupted) as caught:
            burning.ask(id, "stream")
        assert caught.value.facts["cause"] == "lm_timeout"


@kinds
def test_the_whole_stream_has_a_limit(burning: Fire, kind: str) -> None:
    """A stream that never ends is ended; that the answer is long does not speak against the provider."""

    def script(ex: Exchange) -> None:
        parts = pieces(kind, "and so on ")
        send(ex, parts[0], end=False)
        while not ex.server.stopping.wait(0.02):
            ex.chunk(parts[1])

    with HttpServer(script) as server:
        id = burning.provider(server.url, kind, stream_timeout=1.0)
        with pytest.raises(StreamInterrupted) as caught:
            burning.ask(id, "stream")
        assert caught.value.facts["text"].startswith("and so on and so on")
        burning.quiet(id)


@tried_again
def test_whoever_leaves_ends_the_request(burning: Fire) -> None:
    """A reader that leaves in the middle: the server sees the connection close, within 50 ms."""

    def script(ex: Exchange) -> None:
        send(ex, *pieces("openai", *TEXTS)[:2], end=False)
        ex.hang()

    with HttpServer(script) as server:
        id = burning.provider(server.url)
        with burning.app.lm.stream(id, "Hi") as stream:
            assert next(stream).text == TEXTS[0]
            left = time.monotonic()
        assert server.client_closed.wait(5)
        prompt(server.closed_at - left, 0.05)
        burning.quiet(id)
        assert burning.protection(id).breaker.failures == 0


@tried_again
def test_whoever_leaves_without_reading_ends_the_request(burning: Fire) -> None:
    """The stream is open, and nothing of it was read: it ends with its block all the same."""

    def script(ex: Exchange) -> None:
        send(ex, *pieces("openai", *TEXTS)[:2], end=False)
        ex.hang()

    with HttpServer(script) as server:
        id = burning.provider(server.url)
        with burning.app.lm.stream(id, "Hi"):
            left = time.monotonic()
        assert server.client_closed.wait(5)
        prompt(server.closed_at - left, 0.05)
        burning.quiet(id)


def test_a_slow_reader_slows_the_server_down(burning: Fire) -> None:
    """Without demand nothing is read: the server cannot send on, and sends on when the reader does."""
    blocked, total = threading.Event(), 2000
    big = "x" * 20_000

    def script(ex: Exchange) -> None:
        ex.head()
        parts = pieces("openai", big)
        ex.chunk(parts[0])
        ex.sock.settimeout(0.3)
        for _ in range(total):
            view = memoryview(b"%x\r\n%b\r\n" % (len(parts[1]), parts[1]))
            while view:
                try:
                    view = view[ex.sock.send(view) :]
                except TimeoutError:
                    blocked.set()
        ex.sock.settimeout(None)
        ex.chunk(parts[-1])
        ex.chunk(b"")

    with HttpServer(script) as server:
        id = burning.provider(server.url, chunk_timeout=5.0)
        with burning.app.lm.stream(id, "Hi", max_demand=2) as stream:
            length = len(next(stream).text)
            assert blocked.wait(5)
            length += sum(len(chunk.text) for chunk in stream)
        assert length == total * len(big)


def test_many_streams_at_once(burning: Fire) -> None:
    """Fifty readers at once, whole answers to all, nothing mixed up."""

    def script(ex: Exchange) -> None:
        text = ex.request.json()["messages"][0]["content"]
        send(ex, *pieces("openai", *(f"{text}." for _ in range(20))))

    with HttpServer(script) as server, ThreadPoolExecutor(10) as threads:
        id = burning.provider(server.url)
        answers = list(threads.map(lambda number: burning.ask(id, "stream", str(number)), range(50)))
        assert [answer.text for answer in answers] == [f"{number}." * 20 for number in range(50)]
        burning.quiet(id)
