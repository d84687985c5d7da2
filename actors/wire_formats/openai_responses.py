"""OpenAI's responses, the successor of its chat completions."""

from __future__ import annotations

from ..configuration.provider_settings import ProviderSettings
from ..http.transport import HttpRequest, HttpResponse
from ..json_values import json_object, json_text
from ..lm.stream_collector import Collector
from ..lm.values import LMRequest, LMResponse
from ..providers.credentials import Credentials
from ..scrub import described
from .answers import answer_json, event_json, malformed, told_error
from .openai_http import openai_headers
from .request_fields import add_extra, check_sampling, chosen_model, encoded
from .responses_events import EVENT_READERS
from .responses_input import responses_body
from .responses_output import read_response


class OpenAIResponses:
    """The :class:`~..wire_format.WireFormat` of ``POST {base_url}/responses``."""

    def encode(
        self, request: LMRequest, settings: ProviderSettings, credentials: Credentials, *, stream: bool = False
    ) -> HttpRequest:
        """See :meth:`..wire_format.WireFormat.encode`."""
        check_sampling(request, settings)
        body = {"model": chosen_model(request, settings), **responses_body(request, settings)}
        if stream:
            body["stream"] = True
        add_extra(body, request.extra)
        headers = openai_headers(settings, credentials, stream=stream)
        return HttpRequest(f"{settings.base_url}/responses", headers, encoded(body))

    def decode(self, response: HttpResponse, *, model: str, secrets: tuple[str, ...] = ()) -> LMResponse:
        """See :meth:`..wire_format.WireFormat.decode`."""
        body = json_object(answer_json(response, secrets))
        if not body.get("error") and not isinstance(body.get("output"), list):
            raise malformed("a JSON object, a response with output", described(response.body), response)
        return read_response(body, model, response, secrets)

    def read_event(self, event: str, data: str, into: Collector, *, secrets: tuple[str, ...] = ()) -> None:
        """See :meth:`..wire_format.WireFormat.read_event`."""
        if event != "message" and event not in EVENT_READERS:
            return
        if data.strip() == "[DONE]":  # not of this protocol, but some servers end every stream with it
            return
        body = json_object(event_json(data))
        kind = json_text(body.get("type")) or event
        if read := EVENT_READERS.get(kind):
            read(body, into, secrets)
        elif kind == "message":  # not even of an unknown type
            if body.get("error"):
                raise told_error(body, secrets)
            raise malformed("an event with its type", described(data))
