"""OpenAI chat completions, and the many servers that speak it more or less.

Lenient where servers differ without harm (usage absent, codes of any type, content in parts), strict where text
would be lost or made up.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast
from urllib.parse import urlsplit

from ...runtime.errors import LMError
from ..credentials import Credentials
from ..json_values import json_count, json_list, json_object, json_text
from ..lm import UNKNOWN_USAGE, LMRequest, LMResponse, ToolCall, Usage, message_dict
from ..lm_failures import error_from_body, error_object, lm_error
from ..scrub import excerpt
from ..settings import ProviderSettings
from ..transport import HttpRequest, HttpResponse

# Sent as they are, if set.
_PLAIN: Final = ("temperature", "top_p", "seed", "response_format", "tool_choice")


class OpenAIChat:
    """The :class:`~..wire_format.WireFormat` of ``POST {base_url}/chat/completions``."""

    def encode(self, request: LMRequest, settings: ProviderSettings, credentials: Credentials) -> HttpRequest:
        """See :meth:`..wire_format.WireFormat.encode`."""
        model = request.model or settings.default_model
        if model is None:
            raise lm_error(
                "invalid", "expected a model, got none, at model; name one in the request or as default_model"
            )
        body: dict[str, Any] = {"model": model, "messages": [message_dict(turn) for turn in request.messages]}
        body.update({name: value for name in _PLAIN if (value := getattr(request, name)) is not None})
        if request.stop is not None:
            body["stop"] = list(request.stop)
        if request.tools is not None:
            body["tools"] = list(request.tools)
        if request.max_tokens is not None:
            body[settings.max_tokens_field or max_tokens_field(settings.base_url)] = request.max_tokens
        body.update(request.extra)
        return HttpRequest(
            f"{settings.base_url}/chat/completions",
            _headers(settings, credentials),
            json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii"),
        )

    def decode(self, response: HttpResponse, *, model: str, secrets: tuple[str, ...] = ()) -> LMResponse:
        """See :meth:`..wire_format.WireFormat.decode`."""
        body = _json_object(response, secrets)
        choice = json_object(next(iter(json_list(body.get("choices"))), None))
        said = json_object(choice.get("message"))
        if not said:
            if body.get("error"):
                raise error_from_body(error_object(body), response, secrets=secrets)
            raise _malformed(response, "a completion with choices[0].message", excerpt(response.body, secrets))
        return LMResponse(
            text=_content(said.get("content")),
            model=json_text(body.get("model")) or model,
            finish_reason=json_text(choice.get("finish_reason")) or None,
            usage=read_usage(body.get("usage")),
            request_id=response.request_id,
            response_id=json_text(body.get("id")) or None,
            refusal=json_text(said.get("refusal")) or None,
            tool_calls=tuple(_tool_call(json_object(call)) for call in json_list(said.get("tool_calls"))),
        )


def max_tokens_field(base_url: str) -> str:
    """The key under which a server reads the bound on output tokens.

    OpenAI itself deprecates ``max_tokens`` and its newer models refuse it; many compatible servers read nothing else
    and would answer without any bound.
    """
    return "max_completion_tokens" if urlsplit(base_url).hostname == "api.openai.com" else "max_tokens"


def read_usage(found: object) -> Usage:
    """Read a ``usage`` object; what is missing or malformed is unknown, never zero."""
    usage = json_object(found)
    given, made, total = (json_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if given is None and made is None and total is None:
        return UNKNOWN_USAGE
    if total is None and given is not None and made is not None:
        total = given + made
    cached = json_object(usage.get("prompt_tokens_details")).get("cached_tokens")
    return Usage(given, made, total, json_count(cached), "provider")


def _headers(settings: ProviderSettings, credentials: Credentials) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "dspex"}
    if settings.organization is not None:
        headers["openai-organization"] = settings.organization
    if settings.project is not None:
        headers["openai-project"] = settings.project
    if credentials.key is not None:
        headers["authorization"] = f"Bearer {credentials.key}"
    # The user's own come last: some gateways want the key elsewhere.
    headers.update({name.lower(): value for name, value in credentials.headers.items()})
    return headers


def _json_object(response: HttpResponse, secrets: tuple[str, ...]) -> dict[str, Any]:
    kind = response.content_type
    if kind and "json" not in kind:
        got = f"{excerpt(kind, secrets, limit=80)}: {excerpt(response.body, secrets)}"
        raise _malformed(response, "a JSON answer", got)
    try:
        body: object = json.loads(response.body)
    except (ValueError, RecursionError) as error:
        why = "nesting too deep" if isinstance(error, RecursionError) else type(error).__name__
        body = None
        got = f"{len(response.body)} bytes that are not JSON ({why}): {excerpt(response.body, secrets)}"
    else:
        got = f"JSON of another kind: {excerpt(response.body, secrets)}"
    if not isinstance(body, dict):
        raise _malformed(response, "a JSON object", got)
    return cast("dict[str, Any]", body)


def _malformed(response: HttpResponse, expected: str, got: str) -> LMError:
    facts = {"status": response.status, "request_id": response.request_id}
    return lm_error("protocol", f"expected {expected}, got {got}, in the provider's answer", **facts)


def _content(content: object) -> str:
    # Some servers answer in parts.
    return "".join(json_text(json_object(part).get("text")) for part in json_list(content)) or json_text(content)


def _tool_call(call: dict[str, Any]) -> ToolCall:
    function = json_object(call.get("function"))
    arguments = function.get("arguments")
    # Some servers send the arguments as an object, not as text.
    text = json.dumps(arguments) if isinstance(arguments, dict | list) else json_text(arguments)
    return ToolCall(json_text(call.get("id")), json_text(function.get("name")), text)
