"""OpenAI chat completions, and the many servers that speak it more or less.

Lenient where servers differ without harm (usage absent or on any chunk, codes of any type, content in parts), strict
where text would be lost or made up.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from ..configuration.provider_settings import ProviderSettings
from ..http.transport import HttpRequest, HttpResponse
from ..json_values import json_count, json_list, json_object, json_text
from ..lm.stream_collector import Collector
from ..lm.values import UNKNOWN_USAGE, LMRequest, LMResponse, ToolCall, Usage, message_dict
from ..providers.credentials import Credentials
from ..scrub import described
from .answers import answer_json, event_json, malformed, told_error
from .openai_http import openai_headers
from .request_fields import check_sampling, chosen_model, encoded, refusal
from .tool_fragments import ToolFragments, arguments_text

# Sent as they are, if set.
_PLAIN: Final = ("temperature", "top_p", "seed", "tool_choice")


class OpenAIChat:
    """The :class:`~..wire_format.WireFormat` of ``POST {base_url}/chat/completions``."""

    def encode(
        self, request: LMRequest, settings: ProviderSettings, credentials: Credentials, *, stream: bool = False
    ) -> HttpRequest:
        """See :meth:`..wire_format.WireFormat.encode`."""
        check_sampling(request, settings)
        body: dict[str, Any] = {
            "model": chosen_model(request, settings),
            "messages": [message_dict(turn) for turn in request.messages],
        }
        body.update({name: value for name in _PLAIN if (value := getattr(request, name)) is not None})
        if request.response_format is not None:
            body["response_format"] = _response_format(dict(request.response_format), settings)
        if request.stop is not None:
            body["stop"] = list(request.stop)
        if request.tools is not None:
            body["tools"] = list(request.tools)
        if request.max_tokens is not None:
            body[settings.max_tokens_field or max_tokens_field(settings.base_url)] = request.max_tokens
        if stream:
            body["stream"] = True
            if settings.stream_usage:
                body["stream_options"] = {"include_usage": True}
        body.update(request.extra)
        headers = openai_headers(settings, credentials, stream=stream)
        return HttpRequest(f"{settings.base_url}/chat/completions", headers, encoded(body))

    def decode(self, response: HttpResponse, *, model: str, secrets: tuple[str, ...] = ()) -> LMResponse:
        """See :meth:`..wire_format.WireFormat.decode`."""
        body = json_object(answer_json(response, secrets))
        choice = json_object(next(iter(json_list(body.get("choices"))), None))
        said = json_object(choice.get("message"))
        if not said or choice.get("finish_reason") == "error":
            if body.get("error") or choice.get("error"):
                raise told_error(body if body.get("error") else choice, secrets, response)
            expected = "a JSON object, a completion with choices[0].message"
            raise malformed(expected, described(response.body), response)
        return LMResponse(
            text=_content(said.get("content")),
            model=json_text(body.get("model")) or model,
            finish_reason=json_text(choice.get("finish_reason")) or None,
            usage=read_usage(body.get("usage")),
            request_id=response.request_id,
            response_id=json_text(body.get("id")) or None,
            refusal=json_text(said.get("refusal")) or None,
            reasoning=json_text(said.get("reasoning_content")) or json_text(said.get("reasoning")) or None,
            tool_calls=tuple(_tool_call(json_object(call)) for call in json_list(said.get("tool_calls"))),
        )

    def read_event(self, event: str, data: str, into: Collector, *, secrets: tuple[str, ...] = ()) -> None:
        """See :meth:`..wire_format.WireFormat.read_event`."""
        if data.strip() == "[DONE]":
            # Without a finish_reason it is the end all the same; but some answer must have begun.
            if not into.complete and "begun" not in into.state:
                raise malformed("an answer", "[DONE] before any choice")
            into.end()
            return
        chunk = json_object(event_json(data))
        if chunk.get("error") or event == "error" or chunk.get("object") == "error":
            raise told_error(chunk, secrets)
        if not chunk:
            raise malformed("a chunk of a completion", described(data))
        if into.response_id is None:
            into.response_id = json_text(chunk.get("id")) or None
            into.model = json_text(chunk.get("model")) or into.model
        # Groq's stands apart.
        if (found := chunk.get("usage") or json_object(chunk.get("x_groq")).get("usage")) and (
            usage := read_usage(found)
        ) is not UNKNOWN_USAGE:
            into.usage = usage
        if choices := json_list(chunk.get("choices")):
            _read_choice(json_object(choices[0]), into, secrets)


def _read_choice(choice: dict[str, Any], into: Collector, secrets: tuple[str, ...]) -> None:
    if not choice or json_count(choice.get("index")):  # not the first: several were not asked for
        return
    into.state["begun"] = True
    delta = json_object(choice.get("delta"))
    if content := delta.get("content"):
        into.add_text(content if isinstance(content, str) else _content(content))
    if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
        into.add_reasoning(_text(reasoning))
    if refused := delta.get("refusal"):
        into.add_refusal(_text(refused))
    if calls := delta.get("tool_calls"):
        fragments: ToolFragments = into.state.setdefault("tools", ToolFragments())
        for call in json_list(calls):
            fragments.add(json_object(call), into)
    if reason := json_text(choice.get("finish_reason")):
        if reason == "error":
            raise told_error(choice if choice.get("error") else {"error": "finish_reason error"}, secrets)
        into.finish(reason)


def max_tokens_field(base_url: str) -> str:
    """The key under which a server reads the bound on output tokens.

    OpenAI itself deprecates ``max_tokens`` and its newer models refuse it; many compatible servers read nothing else
    and would answer without any bound.
    """
    return "max_completion_tokens" if _is_openai(base_url) else "max_tokens"


def read_usage(found: object) -> Usage:
    """Read a ``usage`` object; what is missing or malformed is unknown, never zero."""
    usage = json_object(found)
    given, made, total = (json_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if given is None and made is None and total is None:
        return UNKNOWN_USAGE
    if total is None and given is not None and made is not None:
        total = given + made
    inputs, outputs = (json_object(usage.get(f"{name}_tokens_details")) for name in ("prompt", "completion"))
    return Usage(
        given,
        made,
        total,
        # The second is DeepSeek's.
        json_count(inputs.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))),
        "provider",
        json_count(inputs.get("cache_write_tokens")),
        json_count(outputs.get("reasoning_tokens")),
    )


def _response_format(found: dict[str, Any], settings: ProviderSettings) -> dict[str, Any]:
    """Structured output in the way that the server has."""
    kind, mode = found.get("type"), settings.schema_mode or "json_schema"
    if kind == "text" or mode == "json_schema":
        return found
    if mode != "json_object":
        expected = "schema_mode json_schema or json_object for this provider"
        raise refusal("response_format", expected, mode)
    if kind != "json_schema":
        return found
    schema = json_object(found.get("json_schema")).get("schema")
    # llama.cpp reads the schema from here; OpenAI refuses keys that it does not know.
    more = {} if schema is None or _is_openai(settings.base_url) else {"schema": schema}
    return {"type": "json_object", **more}


def _is_openai(base_url: str) -> bool:
    return urlsplit(base_url).hostname == "api.openai.com"


def _text(value: object) -> str:
    # Not json_text: half of a surrogate pair may find its other half in the next chunk.
    return value if isinstance(value, str) else ""


def _content(content: object) -> str:
    # Some servers answer in parts.
    return "".join(json_text(json_object(part).get("text")) for part in json_list(content)) or json_text(content)


def _tool_call(call: dict[str, Any]) -> ToolCall:
    function = json_object(call.get("function"))
    arguments = json_text(arguments_text(function.get("arguments")))
    return ToolCall(json_text(call.get("id")), json_text(function.get("name")), arguments)
