"""The port to a provider's protocol: how a request is written and an answer is read. Pure, no network.

Implementations stand in ``wire_formats/``, which also finds one by the provider's kind.
"""

from __future__ import annotations

from typing import Protocol

from .credentials import Credentials
from .lm import LMRequest, LMResponse
from .settings import ProviderSettings
from .transport import HttpRequest, HttpResponse


class WireFormat(Protocol):
    """One provider protocol."""

    def encode(self, request: LMRequest, settings: ProviderSettings, credentials: Credentials) -> HttpRequest:
        """Write the HTTP request.

        Args:
            request: what to ask; only what it sets is sent.
            settings: where, and the provider's defaults.
            credentials: the secrets, in clear.

        Raises:
            LMInvalidRequest: neither the request nor the settings name a model.
        """
        ...

    def decode(self, response: HttpResponse, *, model: str, secrets: tuple[str, ...] = ()) -> LMResponse:
        """Read an answer whose status is a success.

        Args:
            response: the answer.
            model: the model asked for, in case the answer names none.
            secrets: what must not show in an error, in clear.

        Raises:
            LMProtocolError: it is not what the protocol promises.
            LMError: the answer is an error after all.
        """
        ...
