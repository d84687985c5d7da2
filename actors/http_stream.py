"""An HTTP answer that is read piece by piece, over httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx

from ..runtime.errors import LMError
from .http_failures import HTTPX_ERRORS, HttpFailures
from .transport import HttpResponse


class HttpxStream:
    """The :class:`~.transport.HttpStream` of one answer.

    It holds one of the transport's connections until it is closed or read to its end.

    Args:
        answer: what httpx gave, its body not read.
        failures: makes the errors.
        secrets: what must not show in them.
        on_closed: told once, when the connection is free again.
    """

    def __init__(
        self,
        answer: httpx.Response,
        failures: HttpFailures,
        secrets: tuple[str, ...],
        on_closed: Callable[[], None],
    ) -> None:
        self._answer = answer
        self._failures = failures
        self._secrets = secrets
        self._on_closed = on_closed
        self._pieces: AsyncIterator[bytes] = answer.aiter_bytes()
        self._ended = self._closed = False
        answer.headers.encoding = "latin-1"  # else httpx finds out with each header
        headers = {name.lower(): value for name, value in answer.headers.items()}
        self._head = HttpResponse(answer.status_code, headers)

    @property
    def head(self) -> HttpResponse:
        """Status and headers; its body is empty."""
        return self._head

    async def read(self) -> bytes:
        """See :meth:`.transport.HttpStream.read`. Cancelling it closes the connection."""
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
            return await anext(self._pieces, b"")
        except HTTPX_ERRORS as error:
            return self._failures.of(error, self._secrets, self._facts)

    @property
    def _facts(self) -> dict[str, object]:
        return {"status": self._head.status}
