"""HTTP over httpx. Its types stay in the ``http_`` modules, so that it can be exchanged here and nowhere else.

What it does that httpx alone does not: one deadline for the whole request that closes the socket; a bound on the
answer's size; waiting for a free connection told apart from a slow provider; no cookies; errors without credentials.
"""

from __future__ import annotations

import asyncio
import ipaddress
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import Final
from urllib.parse import urlsplit

import httpx

from ...runtime.errors import ConfigError, LMError
from .failures import HTTPX_ERRORS, HttpFailures
from .http_stream import HttpxStream
from .over_aiohttp import AiohttpTransport
from .transport import HttpRequest, HttpResponse

CONNECT_TIMEOUT: Final = 5.0
WRITE_TIMEOUT: Final = 30.0
MAX_CONNECTIONS: Final = 100
MAX_BODY: Final = 32 * 1024 * 1024

# What httpx can decompress wherever it is installed; a list that grew with other packages would surprise.
_HEADERS: Final = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "dspex"}


class HttpTransport:
    """The :class:`~.http.transport.Transport` over the network.

    Proxies and certificates come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``...), as in
    other tools, but never for a server on this machine. Redirects are not followed: the key would go with them.

    Args:
        base_url: where the requests will go; decides on proxy and TLS.
        max_connections: connections at once; further requests wait for a free one. A stream holds one while it is
            open, so it is also the number of open streams and calls together.
        max_body: largest answer of ``send``, bytes after decompression.
        connect_timeout: seconds for DNS, TCP and TLS.
        write_timeout: seconds that the server may take to accept the next bytes.

    Raises:
        ConfigError: the environment names a proxy that is none for HTTP.
    """

    def __init__(
        self,
        base_url: str,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_body: int = MAX_BODY,
        connect_timeout: float = CONNECT_TIMEOUT,
        write_timeout: float = WRITE_TIMEOUT,
    ) -> None:
        parts = urlsplit(base_url)
        host = parts.hostname or base_url
        # Never the text of base_url itself: it may hold credentials.
        place = host if parts.port is None else f"{host}:{parts.port}"
        self._failures = HttpFailures(place, connect_timeout=connect_timeout, write_timeout=write_timeout)
        self._max_body = max_body
        self._free = asyncio.Semaphore(max_connections)
        self._closed = False
        # The transport without httpx's client: that would add redirects, cookies and authentication of its own.
        self._network = AiohttpTransport(
            # Without TLS there is nothing to verify, and loading the certificates takes 20 ms.
            verify=httpx.create_ssl_context() if parts.scheme == "https" else None,
            proxy=_proxy(parts.scheme, host, place),
            connect=connect_timeout,
            write=write_timeout,
        )

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        """See :meth:`.http.transport.Transport.send`."""
        waiting = True
        answer: HttpResponse | LMError
        try:
            async with asyncio.timeout(timeout):
                await self._free.acquire()
                waiting = False
                answer = await self._whole(await self._exchange(request))
        except TimeoutError:
            answer = self._too_late(timeout, waiting)
        # Raised here, not in an except block: httpx's errors hold the request and with it the key.
        if isinstance(answer, LMError):
            raise answer
        return answer

    async def open(self, request: HttpRequest, *, timeout: float) -> HttpxStream:
        """See :meth:`.http.transport.Transport.open`."""
        waiting = True
        answer: HttpxStream | LMError
        try:
            async with asyncio.timeout(timeout):
                await self._free.acquire()
                waiting = False
                answer = await self._exchange(request)
        except TimeoutError:
            answer = self._too_late(timeout, waiting)
        if isinstance(answer, LMError):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        self._closed = True
        await self._network.aclose()

    async def _exchange(self, request: HttpRequest) -> HttpxStream | LMError:
        """Up to the head of the answer. Whoever calls it has taken a connection's place; the stream gives it back."""
        stream: HttpxStream | None = None
        secrets = _secrets(request.headers)
        try:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
            url = _url(request.url)
            if url is None:
                return self._invalid("a URL without credentials", "one with them")
            headers = {**_HEADERS, **{name.lower(): value for name, value in request.headers.items()}}
            answer = await self._network.request(request.method, url, headers, request.body)
            stream = HttpxStream(answer, self._failures, secrets, self._free.release)
            return stream
        except HTTPX_ERRORS as error:
            return self._failures.of(error, secrets, {})
        finally:
            if stream is None:
                self._free.release()

    def _refusal(self, request: HttpRequest) -> LMError | None:
        if not _sendable("".join(chain(request.headers, request.headers.values()))):
            bad = next(name for name, value in request.headers.items() if not _sendable(name + value))
            # Refused here, because the libraries' errors would quote the value, or be of any class.
            return self._invalid("a header of printable ASCII characters", f"others in {bad!r}")
        if self._closed:
            return self._failures.error("connection", "an open transport", "a closed one", {})
        return None

    async def _whole(self, stream: HttpxStream | LMError) -> HttpResponse | LMError:
        if isinstance(stream, LMError):
            return stream
        head, body = stream.head, bytearray()
        try:
            while piece := await stream.read():
                body += piece
                if len(body) > self._max_body:
                    wanted = f"an answer of at most {self._max_body} bytes"
                    return self._failures.error("too_large", wanted, "more", {"status": head.status})
        except LMError as error:
            return error
        finally:
            await stream.aclose()
        return HttpResponse(head.status, head.headers, bytes(body))

    def _too_late(self, timeout: float, waiting: bool) -> LMError:
        if waiting:
            return self._failures.error("pool", f"a free connection within {timeout:g} s", "none", {})
        return self._failures.error("timeout", f"an answer within {timeout:g} s", "none", {"timeout": timeout})

    def _invalid(self, expected: str, got: str) -> LMError:
        return self._failures.error("invalid", expected, got, {})


@lru_cache(maxsize=256)
def _url(text: str) -> str | None:
    """The address as it is sent, checked; None if it holds credentials."""
    url = httpx.URL(text)
    return None if url.userinfo else str(url)


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the headers, and what follows the scheme in those like ``Bearer key``."""
    return tuple(part for value in headers.values() for part in (value, value.rpartition(" ")[2]))


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _proxy(scheme: str, host: str, place: str) -> str | None:
    """The proxy that the environment names for a server."""
    if is_loopback(host) or urllib.request.proxy_bypass(place):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    if not found:
        return None
    address = found if "://" in found else f"http://{found}"
    kind = address.partition("://")[0].lower()
    if kind not in {"http", "https"}:
        raise ConfigError(
            f"expected an http or https proxy for {scheme}, got one for {kind}, in the environment",
            path=f"{scheme.upper()}_PROXY",
            expected="an http or https proxy",
            got=kind,
        )
    return address


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
