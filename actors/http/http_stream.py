"""An HTTP answer that is read piece by piece, over httpx."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import httpx

from ...runtime.errors import LMError
from ..scrub import REDACTED
from .failures import HTTPX_ERRORS, HttpFailures
from .over_aiohttp import PlainAnswer
from .transport import HttpResponse

# Headers whose values are written down; a server may echo anything there.
_KEPT: Final = ("x-request-id", "request-id")


class HttpxStream:
    """The :class:`~.http.transport.HttpStream` of one answer.

    It holds one of the transport's connections until it is closed or read to its end.

    Args:
        answer: what the network gave, its body not read.
        failures: makes the errors.
        secrets: what must not show in them.
        on_closed: told once, when the connection is free again.
    """

    def __init__(
        self,
        answer: httpx.Response | PlainAnswer,
        failures: HttpFailures,
        secrets: tuple[str, ...],
        on_closed: Callable[[], None],
    ) -> None:
        self._answer = answer
        self._failures = failures
        self._secrets = secrets
        self._on_closed = on_closed
        self._ended = self._closed = False
        self._piece: Callable[[], Awaitable[bytes]]
        if isinstance(answer, PlainAnswer):
            headers, self._piece = _headers(answer.raw_headers), answer.stream.read
        else:
            headers = _headers(answer.headers.raw)
            self._piece = partial(anext, answer.aiter_bytes(), b"")
        for name in _KEPT:
            if name in headers and any(len(secret) > 3 and secret in headers[name] for secret in secrets):
                headers[name] = REDACTED
        self._head = HttpResponse(answer.status_code, headers)

    @property
    def head(self) -> HttpResponse:
        """Status and headers; its body is empty."""
        return self._head

    async def read(self) -> bytes:
        """See :meth:`.http.transport.HttpStream.read`. Cancelling it closes the connection."""
        try:
            piece = await self._next()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        # Raised here, not in an except block: httpx's errors hold the request and with it the key.
        if isinstance(piece, LMError):
            await self.aclose()
            raise piece
        if not piece:
            self._ended = True
            await self.aclose()
        return piece

    async def aclose(self) -> None:
        """Close the connection (or give it back, after the end of the body). May be called again."""
        if not self._closed:
            self._closed = True
            self._on_closed()
            await self._answer.aclose()

    async def _next(self) -> bytes | LMError:
        if self._ended:
            return b""
        if self._closed:
            return self._failures.error("protocol", "an open stream", "a closed one", self._facts)
        try:
            return await self._piece()
        except HTTPX_ERRORS as error:
            return self._failures.of(error, self._secrets, self._facts)

    @property
    def _facts(self) -> dict[str, object]:
        return {"status": self._head.status}


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header values by lower-case name; those of one name are joined, as HTTP has it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
