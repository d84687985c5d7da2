"""Which error of ours an error of httpx is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx

from ...runtime.errors import LMError
from ..lm.failures import lm_error
from ..scrub import excerpt

HTTPX_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL)


class HttpFailures:
    """Makes the errors of one transport.

    Args:
        place: host and port, for the messages; never an address that may hold credentials.
        connect_timeout, write_timeout: seconds, for the messages.
    """

    def __init__(self, place: str, *, connect_timeout: float, write_timeout: float) -> None:
        self._place = place
        self._connect_timeout, self._write_timeout = connect_timeout, write_timeout

    def of(self, error: Exception, secrets: tuple[str, ...], facts: Mapping[str, object]) -> LMError:
        """The error for one of :data:`HTTPX_ERRORS`.

        Args:
            error: httpx's.
            secrets: what must not show.
            facts: of the new error; with a ``status`` the answer had begun.
        """
        said = excerpt(str(error), secrets) or type(error).__name__
        match error:
            case httpx.ConnectTimeout():
                return self.error("connection", f"a connection within {self._connect_timeout:g} s", "none", facts)
            case httpx.TimeoutException():
                wanted = f"the request to be taken within {self._write_timeout:g} s"
                return self.error("timeout", wanted, "no progress", {**facts, "timeout": self._write_timeout})
            case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
                return self.error("invalid", "a valid URL and headers", said, facts)
            case httpx.ConnectError() | httpx.ProxyError() if "status" not in facts:
                return self.error("connection", "a connection", f"none ({said})", facts)
            case httpx.NetworkError() if "status" not in facts:
                return self.error("reset", "an answer", f"a broken connection ({said})", facts)
            case _:
                return self.error("protocol", "a whole HTTP answer", said, facts)

    def error(self, failure: str, expected: str, got: str, facts: Mapping[str, object]) -> LMError:
        """An error of the row ``failure``."""
        return lm_error(failure, f"expected {expected}, got {got}, from {self._place}", **facts)
