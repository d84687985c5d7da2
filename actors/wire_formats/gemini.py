"""Google's Gemini, ``generateContent``, whole and streamed.

A stream is a sequence of answers of the same form as a whole one, without a last word: it is complete once a
reason to finish was given. Thoughts are billed as output, but counted beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from ..configuration.provider_settings import ProviderSettings
from ..http.transport import HttpRequest, HttpResponse
from ..json_values import json_count, json_list, json_object, json_text
from ..lm.stream_collector import Collector
from ..lm.values import UNKNOWN_USAGE, LMRequest, LMResponse, Usage
from ..providers.credentials import Credentials
from ..scrub import described
from .answers import IN_STREAM, answer_json, compact_json, event_json, malformed, told_error
from .gemini_request import OWN_ID, request_body
from .request_fields import ANSWER_TOOL, chosen_model, encoded, refusal, request_headers

_VERSION: Final = "v1beta"

# Others are passed on in lower case: what a model did wrong (malformed_function_call) is neither of these.
_FINISH: Final[Mapping[str, str]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
_UNFINISHED: Final = ("", "FINISH_REASON_UNSPECIFIED")


class GeminiGenerate:
    """The :class:`~..wire_format.WireFormat` of ``POST {base_url}/v1beta/models/{model}:generateContent``."""

    def encode(
        self, request: LMRequest, settings: ProviderSettings, credentials: Credentials, *, stream: bool = False
    ) -> HttpRequest:
        """See :meth:`..wire_format.WireFormat.encode`."""
        model = chosen_model(request, settings)
        body = request_body(request, settings, model)
        key = {} if credentials.key is None else {"x-goog-api-key": credentials.key}
        headers = request_headers(key, credentials, stream=stream)
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        version = quote(settings.api_version or _VERSION, safe="")
        return HttpRequest(f"{settings.base_url}/{version}/{_path(model)}:{method}", headers, encoded(body))

    def decode(self, response: HttpResponse, *, model: str, secrets: tuple[str, ...] = ()) -> LMResponse:
        """See :meth:`..wire_format.WireFormat.decode`."""
        found = answer_json(response, secrets)
        into = Collector(model)
        # A stream that is not asked for as one of events comes as a list.
        bodies = [json_object(body) for body in json_list(found) or [found]]
        for body in bodies:
            _read(body, into, secrets, response)
        if not into.complete and not any(json_list(body.get("candidates")) for body in bodies):
            raise malformed("candidates", described(response.body), response)
        return into.response(response.request_id)

    def read_event(self, event: str, data: str, into: Collector, *, secrets: tuple[str, ...] = ()) -> None:
        """See :meth:`..wire_format.WireFormat.read_event`."""
        if event in ("message", "error"):  # its events have no names; a gateway may name its errors
            _read(json_object(event_json(data)), into, secrets, IN_STREAM)


def read_usage(found: object) -> Usage:
    """Read a ``usageMetadata`` object; what is missing or malformed is unknown, never zero."""
    usage = json_object(found)
    given, made, thought, total = (
        json_count(usage.get(f"{name}TokenCount")) for name in ("prompt", "candidates", "thoughts", "total")
    )
    if given is None and made is None and thought is None and total is None:
        return UNKNOWN_USAGE
    # Of two counts that belong together, a missing one is zero: Google's JSON leaves zeros out.
    output = None if made is None and thought is None else (made or 0) + (thought or 0)
    if given is not None:
        given += json_count(usage.get("toolUsePromptTokenCount")) or 0
    if total is None and given is not None and output is not None:
        total = given + output
    cached = json_count(usage.get("cachedContentTokenCount"))
    return Usage(given, output, total, cached, "provider", reasoning_tokens=thought)


def _path(model: str) -> str:
    # Tuned models have a folder of their own.
    folder, _, name = model.rpartition("/")
    parts = [*(folder.split("/") if folder else ["models"]), name]
    if not all(part.strip(".") for part in parts):
        raise refusal("model", "a model's name", model)
    return "/".join(quote(part, safe="") for part in parts)


def _read(body: dict[str, Any], into: Collector, secrets: tuple[str, ...], response: HttpResponse) -> None:
    if body.get("error"):
        raise told_error(body, secrets, response)
    into.model = json_text(body.get("modelVersion")) or into.model
    into.response_id = json_text(body.get("responseId")) or into.response_id
    usage = read_usage(body.get("usageMetadata"))
    into.usage = into.usage if usage is UNKNOWN_USAGE else usage
    feedback = json_object(body.get("promptFeedback"))
    if reason := json_text(feedback.get("blockReason")):
        into.add_refusal(json_text(feedback.get("blockReasonMessage")) or f"prompt blocked: {reason}")
        into.finish("content_filter")
    for found in json_list(body.get("candidates")):
        candidate = json_object(found)
        if not candidate.get("index"):  # one completion was asked for
            _read_candidate(candidate, into)


def _read_candidate(candidate: dict[str, Any], into: Collector) -> None:
    for part in json_list(json_object(candidate.get("content")).get("parts")):
        _read_part(json_object(part), into)
    reason = json_text(candidate.get("finishReason"))
    if reason not in _UNFINISHED:
        into.finish(_FINISH.get(reason, reason.lower()))
        if into.finish_reason == "content_filter":
            into.add_refusal(json_text(candidate.get("finishMessage")))
    if into.finish_reason == "stop" and into.state.get("calls"):
        into.finish("tool_calls")


def _read_part(part: dict[str, Any], into: Collector) -> None:
    text = json_text(part.get("text"))
    if part.get("thought"):
        into.add_reasoning(text)
    else:
        into.add_text(text)
    call = json_object(part.get("functionCall"))
    if not call:
        return
    name, arguments = json_text(call.get("name")), compact_json(json_object(call.get("args")))
    if name == ANSWER_TOOL:
        into.add_text(arguments)
        return
    index: int = into.state.get("calls", 0)
    into.state["calls"] = index + 1
    id = json_text(call.get("id")) or _own_id(into.response_id, index, name, arguments)
    signature = json_text(part.get("thoughtSignature")) or None
    into.add_tool_call(index, id=id, name=name, arguments=arguments, signature=signature)


def _own_id(*facts: object) -> str:
    # The same answer gives the same ids, whole or streamed, in any process.
    return OWN_ID + hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
