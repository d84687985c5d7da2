"""The port to the network: one HTTP request; one whole answer, or its bytes as they are asked for; or a typed error.

No library's types pass here, so the HTTP library behind it can be exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send. Headers may hold credentials: neither they nor the body are part of the repr."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, hash=False)
    body: bytes = field(default=b"", repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back, read to its end. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, hash=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case; empty if the server named none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def request_id(self) -> str | None:
        """The provider's id for this request, at most 200 characters."""
        found = self.headers.get("x-request-id") or self.headers.get("request-id")
        return found[:200] if found else None


class HttpStream(Protocol):
    """An answer whose body is read piece by piece. Nothing is read ahead but what the connection itself buffers."""

    @property
    def head(self) -> HttpResponse:
        """Status and headers; its body is empty."""
        ...

    async def read(self) -> bytes:
        """The next bytes of the body as they come; empty at its end. Sets no time limit of its own.

        Raises:
            LMProtocolError: the connection broke, or the body is not what its headers promise.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection (or give it back, after the end of the body). May be called again."""
        ...


class Transport(Protocol):
    """Sends requests. Used from one event loop."""

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        """Send ``request`` and read the whole answer, whatever its status; redirects are answers too.

        Cancelling the coroutine, or the passing of ``timeout``, closes the connection at once.

        Args:
            request: what to send.
            timeout: seconds for everything, from waiting for a free connection to the last byte.

        Raises:
            LMConnectionError: no connection, or it broke before an answer began.
            LMTimeout: ``timeout`` passed.
            LMProtocolError: the answer is not HTTP, was cut off, or is too large.
        """
        ...

    async def open(self, request: HttpRequest, *, timeout: float) -> HttpStream:
        """Send ``request`` and wait for the head of the answer, whatever its status.

        Args:
            request: what to send.
            timeout: seconds from waiting for a free connection to the head of the answer.

        Raises:
            LMConnectionError: no connection, or it broke before an answer began.
            LMTimeout: ``timeout`` passed.
            LMProtocolError: the answer is not HTTP.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        ...
