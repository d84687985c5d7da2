"""What stands below the httpx API: aiohttp's connections and parser, with httpx's answers and errors.

httpx's own pool slows down with the square of what waits in it; aiohttp's does not, and parses in C. How many
requests there are at once is decided above. Three things are done here that aiohttp alone does not do: a limit on how
long the server may take to accept the next bytes; a connection given up is closed at once, even with bytes
unsent or TLS's goodbye unanswered; a compressed body is read in small pieces, so that a bomb goes off slowly.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import httpx

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey

KEEP_ALIVE: Final = 15.0
MAX_HEADER: Final = 64 * 1024
# aiohttp stops reading the socket when it holds twice as much.
READ_AHEAD: Final = 64 * 1024
COMPRESSED_PIECE: Final = 4096
UPLOAD_PIECE: Final = 64 * 1024


class PlainBody(Protocol):
    """A body that nothing has to be done to."""

    async def read(self) -> bytes:
        """The next bytes as they come; empty at the end."""
        ...

    def close(self) -> None:
        """End it. May be called again."""
        ...


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """An answer that is not compressed: of ``httpx.Response``, which takes long to make, what is read of it.

    Attributes:
        status_code: of HTTP.
        raw_headers: names and values, as they were sent.
        stream: the body, as it comes.
    """

    status_code: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    stream: PlainBody

    async def aclose(self) -> None:
        """End it. May be called again."""
        self.stream.close()


class AiohttpTransport:
    """Sends requests over aiohttp. Made anywhere, used on one event loop.

    It takes no ``httpx.Request``: to make one costs as much as to write it to the socket.

    Args:
        verify: certificates to trust; None for a server without TLS.
        proxy: address of an HTTP proxy for all requests.
        connect: seconds for DNS, TCP and TLS together.
        write: seconds that the server may take to accept the next bytes.
    """

    def __init__(
        self, *, verify: ssl.SSLContext | None, proxy: str | None = None, connect: float, write: float
    ) -> None:
        self._verify, self._proxy, self._write = verify, proxy, write
        self._limits = aiohttp.ClientTimeout(total=None, connect=connect)
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, url: str, headers: dict[str, str], body: bytes
    ) -> httpx.Response | PlainAnswer:
        """Send a request; its body must be there in whole.

        Raises:
            httpx.TransportError: as httpx's own transport; the messages hold no URL.
        """
        try:
            if len(body) <= UPLOAD_PIECE:
                answer = await self._sent(method, url, headers, body)
            else:
                headers = headers | {"content-length": str(len(body))}
                async with asyncio.timeout(None) as watch:
                    answer = await self._sent(method, url, headers, _pieces(body, watch, self._write))
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                raise httpx.ConnectTimeout("") from error
            raise httpx.WriteTimeout("") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _as_httpx(error) from error
        if "content-encoding" not in answer.headers:
            return PlainAnswer(answer.status, answer.raw_headers, _Body(answer))
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    def _sent(
        self, method: str, url: str, headers: dict[str, str], body: bytes | AsyncIterator[bytes]
    ) -> Awaitable[aiohttp.ClientResponse]:
        return self._opened().request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            proxy=self._proxy,
            timeout=self._limits,
        )

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        if self._session is not None:
            self._connector.abort()
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # not made with the transport: it must be made on its loop
            self._connector = _Connector(
                limit=0, keepalive_timeout=KEEP_ALIVE, ssl=self._verify or True, resolver=aiohttp.ThreadedResolver()
            )
            self._session = aiohttp.ClientSession(
                connector=self._connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx does it
                trust_env=False,  # it would read ~/.netrc with each request
                read_bufsize=READ_AHEAD,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
                skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
            )
        return self._session


class _Connector(aiohttp.TCPConnector):
    """Its connections end at once when they are not kept.

    To close a connection is not enough: it would first wait until everything is sent, and for the goodbye of TLS.
    """

    def abort(self) -> None:
        """End all connections that are in use."""
        for protocol in self._acquired:
            if protocol.transport is not None:
                protocol.transport.abort()

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if (should_close or protocol.should_close) and protocol.transport is not None:
            protocol.transport.abort()
        super()._release(key, protocol, should_close=should_close)


class _Body(httpx.AsyncByteStream):
    """The body of an answer, read from the socket as it is asked for."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        connection = answer.connection  # None: the answer is whole already
        protocol = connection.protocol if connection is not None else None
        self._lost = protocol.closed if protocol is not None else None
        if self._lost is not None:
            self._lost.add_done_callback(self._connection_lost)

    async def read(self, most: int | None = None) -> bytes:
        """The next bytes as they come, at most so many; empty at the end.

        What came before the connection broke is given first.

        Raises:
            httpx.TransportError: the connection broke, or the body is malformed.
        """
        content = self._answer.content
        if content.exception() is not None:  # with it, aiohttp keeps back what it has
            held = content._read_nowait(-1 if most is None else most)  # pyright: ignore[reportPrivateUsage]
            if held:
                return held
        try:
            return await (content.readany() if most is None else content.read(most))
        except (aiohttp.ClientError, OSError) as error:
            raise _as_httpx(error) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read(COMPRESSED_PIECE):
            yield piece

    async def aclose(self) -> None:
        """End it. May be called again."""
        self.close()

    def close(self) -> None:
        """End it. May be called again."""
        if self._lost is not None:  # or the connection would keep the bodies of all its answers
            self._lost.remove_done_callback(self._connection_lost)
        # After the end of the body the connection is back already, and this does nothing.
        self._answer.close()

    def _connection_lost(self, lost: asyncio.Future[None]) -> None:
        """Wake who reads: after a malformed chunk aiohttp closes the connection and tells nobody."""
        why = None if lost.cancelled() else lost.exception()
        content = self._answer.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(
                aiohttp.ClientPayloadError(f"the connection ended within the body ({why or 'closed'})")
            )


async def _pieces(content: bytes, watch: asyncio.Timeout, write: float) -> AsyncIterator[bytes]:
    """A long body; each piece is asked for when the one before was taken."""
    loop = asyncio.get_running_loop()
    for start in range(0, len(content), UPLOAD_PIECE):
        watch.reschedule(loop.time() + write)
        yield content[start : start + UPLOAD_PIECE]
    watch.reschedule(None)


def _as_httpx(error: aiohttp.ClientError | OSError) -> httpx.TransportError:
    match error:
        case aiohttp.ClientHttpProxyError():
            return httpx.ProxyError(f"HTTP {error.status} from the proxy")
        case aiohttp.ClientProxyConnectionError():
            return httpx.ProxyError(_said(error))
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(_said(error))
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return httpx.UnsupportedProtocol("expected an http or https URL")
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(error.message)
        case aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError(str(error))
        case _:
            return httpx.ReadError(_said(error))


def _said(error: Exception) -> str:
    """What the system says; aiohttp's own texts may hold the URL."""
    match error:
        case aiohttp.ServerDisconnectedError():
            return "closed by the server"
        case aiohttp.ClientConnectorCertificateError():
            return str(error.certificate_error)
        case aiohttp.ClientConnectorDNSError() | aiohttp.ClientSSLError():
            return str(error.os_error)  # their numbers are not the system's
        case OSError() if error.errno:
            return os.strerror(error.errno)
        case _:
            return type(error).__name__
