"""What OpenTelemetry is told of requests and modules, as attributes: its semantic conventions for generative AI. Pure.

The conventions are in development and their constants have moved from package to package, so the names stand here.
Prompts and answers become attributes only if telemetry was given them (``telemetry.capture_content``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from ..lm.values import LMResponse, Message

Attributes: TypeAlias = dict[str, Any]

CHAT: Final = "chat"
WORKFLOW: Final = "invoke_workflow"
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no password
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
SERVER: Final = "server.address"
PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
CORRELATION: Final = "dspex.correlation_id"
ATTEMPT: Final = "dspex.attempt"
DELAY: Final = "dspex.delay"
RETRY: Final = "dspex.retry"
"""Name of the span event that tells of a retry."""

USAGE: Final[Mapping[str, str]] = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cost": "dspex.cost_usd",
    "attempts": "dspex.attempts",
}
"""Measurements of an ended request, and the attributes that hold them."""
OPTIONS: Final[Mapping[str, str]] = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "stop": "gen_ai.request.stop_sequences",
    "seed": "gen_ai.request.seed",
}
"""Fields of a request, and the attributes that hold them."""

_PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "openai_responses": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
}
# Who speaks a protocol of somebody else's, by where it lives.
_HOSTS: Final[Mapping[str, str]] = {
    "openai.azure.com": "azure.ai.openai",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "mistral.ai": "mistral_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}


def request_attributes(metadata: Mapping[str, Any]) -> Attributes:
    """What is known when a request begins, from the metadata of ``("dspex", "lm", "start")``."""
    host, port = _server(str(metadata.get("base_url") or ""))
    found: Attributes = {
        OPERATION: CHAT,
        PROVIDER: _provider(str(metadata.get("kind")), host),
        "dspex.provider": metadata.get("provider"),
        REQUEST_MODEL: metadata.get("model"),
        SERVER: host,
        PORT: port,
        # A request is taken for one without a stream unless this says otherwise.
        "gen_ai.request.stream": True if metadata.get("stream") else None,
    }
    options: Mapping[str, Any] = metadata.get("options") or {}
    found |= {OPTIONS[name]: options[name] for name in OPTIONS if name in options}
    if "response_format" in options:
        found["gen_ai.output.type"] = "json"
    if messages := metadata.get("messages"):
        found["gen_ai.input.messages"] = input_messages(messages)
    if tools := metadata.get("tools"):
        found["gen_ai.tool.definitions"] = _json(list(tools))
    return known(found)


def metric_attributes(request: Attributes) -> Attributes:
    """Those of a request's attributes that its metrics have: few, with few values."""
    return {name: request[name] for name in (OPERATION, PROVIDER, REQUEST_MODEL, SERVER, PORT) if name in request}


def end_attributes(measured: Mapping[str, Any], metadata: Mapping[str, Any]) -> Attributes:
    """What is known when a request has ended, well or not: ``("dspex", "lm", "stop")`` or ``"exception"``."""
    reason, response = metadata.get("finish_reason"), metadata.get("response")
    found: Attributes = {name: _number(measured.get(word)) for word, name in USAGE.items()}
    found |= {
        RESPONSE_MODEL: metadata.get("response_model"),
        "gen_ai.response.id": metadata.get("response_id"),
        "gen_ai.response.finish_reasons": None if reason is None else (str(reason),),
        "http.response.status_code": metadata.get("status"),
        "dspex.cache_hit": True if metadata.get("cache_hit") else None,
    }
    if isinstance(response, LMResponse):
        found["gen_ai.output.messages"] = output_messages(response)
    return known(found)


def workflow_attributes(metadata: Mapping[str, Any]) -> Attributes:
    """What is known when a module is executed, from the metadata of ``("dspex", "module", "start")``."""
    found = {
        OPERATION: WORKFLOW,
        WORKFLOW_NAME: metadata.get("module"),
        "dspex.module.type": metadata.get("module_type"),
        "dspex.provider": metadata.get("provider"),
        REQUEST_MODEL: metadata.get("model"),
    }
    return known(found)


def known(attributes: Attributes) -> Attributes:
    """Those that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


def input_messages(messages: Iterable[Message]) -> str:
    """A conversation as the conventions' JSON; of what is no text only its type."""
    return _json([{"role": message.role, "parts": _parts(message)} for message in messages])


def output_messages(response: LMResponse) -> str:
    """An answer as the conventions' JSON."""
    parts: list[Attributes] = []
    if response.reasoning:
        parts.append({"type": "reasoning", "content": response.reasoning})
    if response.text or response.refusal:
        parts.append({"type": "text", "content": response.text or response.refusal})
    parts += [_tool_call(call.id, call.name, call.arguments) for call in response.tool_calls]
    return _json([{"role": "assistant", "parts": parts, "finish_reason": response.finish_reason or "stop"}])


def _parts(message: Message) -> list[Attributes]:
    content = message.content
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": content}]
    parts = (
        [{"type": "text", "content": content}] if isinstance(content, str) else [_part(each) for each in content or ()]
    )
    return parts + [_tool_call(call.id, call.name, call.arguments) for call in message.tool_calls]


def _part(part: Mapping[str, Any]) -> Attributes:
    # An image's megabytes are of no use in a span.
    kind = part.get("type")
    return {"type": "text", "content": part.get("text")} if kind == "text" else {"type": str(kind)}


def _tool_call(id: str, name: str, arguments: str) -> Attributes:
    return {"type": "tool_call", "id": id, "name": name, "arguments": arguments}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace").decode("utf-8")


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _provider(kind: str, host: str | None) -> str:
    for end, name in _HOSTS.items():
        if host is not None and (host == end or host.endswith(f".{end}")):
            return name
    return _PROVIDERS.get(kind, kind)


@lru_cache(maxsize=256)
def _server(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    if not parts.hostname:
        return None, None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
