"""HTTP over httpx: the only module that knows it, so that it can be exchanged here and nowhere else.

What it does that httpx alone does not: one deadline for the whole request that closes the socket; a bound on the
answer's size; waiting for a free connection told apart from a slow provider; no cookies; errors without credentials.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.parse import urlsplit

import httpx

from ..runtime.errors import LMError
from .lm_failures import lm_error
from .scrub import excerpt
from .transport import HttpRequest, HttpResponse

CONNECT_TIMEOUT: Final = 5.0
WRITE_TIMEOUT: Final = 30.0
MAX_CONNECTIONS: Final = 100
MAX_KEPT: Final = 100
KEEP_ALIVE: Final = 15.0
MAX_BODY: Final = 32 * 1024 * 1024


class HttpTransport:
    """The :class:`~.transport.Transport` over the network.

    Proxies and certificates come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``...), as in
    other tools, but never for a server on this machine. Redirects are not followed: the key would go with them.

    Args:
        base_url: where the requests will go; decides on proxy and TLS.
        max_connections: connections at once; further requests wait for a free one.
        max_body: largest answer, bytes after decompression.
        connect_timeout: seconds for DNS, TCP and TLS.
        write_timeout: seconds that the server may take to accept the next bytes.
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
        self._place = host if parts.port is None else f"{host}:{parts.port}"
        self._max_body = max_body
        self._connect_timeout, self._write_timeout = connect_timeout, write_timeout
        # Requests wait here, not in httpx's pool, which slows down with the square of its queue.
        self._free = asyncio.Semaphore(max_connections)
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=not is_loopback(host),
            # Without TLS there is nothing to verify, and loading the certificates takes 20 ms.
            verify=parts.scheme == "https",
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            timeout=httpx.Timeout(None, connect=connect_timeout, write=write_timeout),
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=MAX_KEPT, keepalive_expiry=KEEP_ALIVE
            ),
        )

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        """See :meth:`.transport.Transport.send`."""
        waiting = True
        try:
            async with asyncio.timeout(timeout), self._free:
                waiting = False
                answer = await self._exchange(request)
        except TimeoutError:
            answer = self._too_late(timeout, waiting)
        # Raised here, not in an except block: httpx's errors hold the request and with it the key.
        if isinstance(answer, LMError):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        await self._client.aclose()

    async def _exchange(self, request: HttpRequest) -> HttpResponse | LMError:
        bad = next((name for name, value in request.headers.items() if not _sendable(name + value)), None)
        if bad is not None:  # asked here, because the libraries' errors would quote the value, or be of any class
            return self._error("invalid", "a header of printable ASCII characters", f"others in {bad!r}", {})
        facts: dict[str, object] = {}
        try:
            async with self._client.stream(
                request.method, request.url, headers=dict(request.headers), content=request.body
            ) as answer:
                facts["status"] = answer.status_code
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > self._max_body:
                        return self._error("too_large", f"an answer of at most {self._max_body} bytes", "more", facts)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return HttpResponse(answer.status_code, headers, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return self._failure(error, request, facts)

    def _failure(self, error: Exception, request: HttpRequest, facts: dict[str, object]) -> LMError:
        said = excerpt(str(error), request.headers.values()) or type(error).__name__
        match error:
            case httpx.ConnectTimeout():
                return self._error("connection", f"a connection within {self._connect_timeout:g} s", "none", facts)
            case httpx.TimeoutException():
                wanted = f"the request to be taken within {self._write_timeout:g} s"
                return self._error("timeout", wanted, "no progress", {**facts, "timeout": self._write_timeout})
            case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
                return self._error("invalid", "a valid URL and headers", said, facts)
            case httpx.NetworkError() | httpx.ProxyError() if "status" not in facts:
                return self._error("connection", "an answer", f"a broken connection ({said})", facts)
            case httpx.RemoteProtocolError() if "status" not in facts and "without sending" in said:
                return self._error("connection", "an answer", "a closed connection", facts)
            case _:
                return self._error("protocol", "a whole HTTP answer", said, facts)

    def _too_late(self, timeout: float, waiting: bool) -> LMError:
        if waiting:
            return self._error("pool", f"a free connection within {timeout:g} s", "none", {})
        return self._error("timeout", f"an answer within {timeout:g} s", "none", {"timeout": timeout})

    def _error(self, failure: str, expected: str, got: str, facts: Mapping[str, object]) -> LMError:
        return lm_error(failure, f"expected {expected}, got {got}, from {self._place}", **facts)


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
