"""Server-sent events (WHATWG HTML, 9.2), decoded piece by piece: bytes as they come, events as soon as they are whole.

Own code, because httpx-sse drops a last event without a blank line and an event after a byte order mark, has no
bounds, and reads a tenth of the events a second.
"""

from __future__ import annotations

from typing import Final

from ..lm.failures import lm_error

MAX_EVENT: Final = 1024 * 1024
_BOM: Final = "\ufeff"


class SSEDecoder:
    """Turns the bytes of one event stream into pairs of an event's name and its data.

    The name is ``message`` if the stream names none; data of several lines is joined by line feeds. Lines end with
    LF, CR or CRLF and with nothing else: U+2028 and U+0085 are data. Bytes that are no UTF-8 become U+FFFD. Comments,
    ``id``, ``retry`` and unknown fields are ignored.

    Args:
        max_event: largest event, in bytes.
    """

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._rest = bytearray()  # of an event that is not whole yet; its lines end with LF
        self._after_cr = False
        self._begun = False

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """The events that are whole with these bytes.

        Raises:
            LMProtocolError: an event is larger than ``max_event``.
        """
        if self._after_cr or b"\r" in data:
            data = self._plain_lines(data)
        rest = self._rest
        searched = max(len(rest) - 1, 0)
        rest += data
        end = rest.rfind(b"\n\n", searched)
        if end < 0:
            self._check(len(rest))
            return []
        # A blank line is never inside a character, so the whole events decode on their own.
        text = rest[:end].decode("utf-8", "replace")
        del rest[: end + 2]
        self._check(len(rest))
        return self._events(text)

    def close(self) -> list[tuple[str, str]]:
        """The event that ended with the stream instead of a blank line, as some servers' last one does."""
        text = self._rest.decode("utf-8", "replace")
        self._rest.clear()
        return self._events(text) if text else []

    def _plain_lines(self, data: bytes) -> bytes:
        """The bytes with every line ending as LF; the LF of a CRLF may come with the next bytes."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _events(self, text: str) -> list[tuple[str, str]]:
        if not self._begun:
            self._begun = True
            text = text.removeprefix(_BOM)
        events: list[tuple[str, str]] = []
        large = len(text) * 4 > self._max_event
        for block in text.split("\n\n"):
            if large:
                self._check(len(block.encode()))
            # Nearly all events are one line of data.
            if block.startswith("data: ") and "\n" not in block:
                events.append(("message", block[6:]))
            elif (event := _event(block)) is not None:
                events.append(event)
        return events

    def _check(self, size: int) -> None:
        if size > self._max_event:
            self._rest.clear()
            raise lm_error(
                "too_large", f"expected events of at most {self._max_event} bytes, got a larger one, in the stream"
            )


def _event(block: str) -> tuple[str, str] | None:
    """Read the lines of one event; None if it has no data."""
    name = ""
    data: list[str] = []
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    return (name or "message", "\n".join(data)) if data else None
