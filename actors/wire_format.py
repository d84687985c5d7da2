"""The port to a provider's protocol: how a request is written, an answer and a stream are read. Pure, no network.

Implementations stand in ``wire_formats/``, which also finds one by the provider's kind.
"""

from __future__ import annotations

from typing import Protocol

from .configuration.provider_settings import ProviderSettings
from .http.transport import HttpRequest, HttpResponse
from .lm.stream_collector import Collector
from .lm.values import LMRequest, LMResponse
from .providers.credentials import Credentials


class WireFormat(Protocol):
    """One provider protocol. Reasons to finish and tools are in OpenAI's words on our side of it."""

    def encode(
        self, request: LMRequest, settings: ProviderSettings, credentials: Credentials, *, stream: bool = False
    ) -> HttpRequest:
        """Write the HTTP request.

        Args:
            request: what to ask; only what it sets is sent.
            settings: where, and the provider's defaults and capabilities.
            credentials: the secrets, in clear.
            stream: ask for the answer in pieces, with usage at its end where the protocol has that.

        Raises:
            LMInvalidRequest: neither the request nor the settings name a model, or the request asks for what this
                protocol or provider cannot do.
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

    def read_event(self, event: str, data: str, into: Collector, *, secrets: tuple[str, ...] = ()) -> None:
        """Read one server-sent event of a streamed answer.

        Args:
            event: the event's name; ``message`` if it has none. Unknown names are ignored.
            data: its data, lines joined.
            into: what the answer is put together in.
            secrets: what must not show in an error, in clear.

        Raises:
            LMProtocolError: the data is not what the protocol promises.
            LMError: the event tells of an error.
        """
        ...
