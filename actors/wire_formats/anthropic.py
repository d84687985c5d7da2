"""Anthropic messages, whole and streamed.

Differences from the canonical form that are closed here: counts of input tokens leave cached ones out; a stream's
usage replaces what was said before; tool arguments are objects; structured output may come as a forced tool call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..configuration.provider_settings import ProviderSettings
from ..http.transport import HttpRequest, HttpResponse
from ..json_values import json_count, json_list, json_object, json_text
from ..lm.stream_collector import Collector
from ..lm.values import UNKNOWN_USAGE, LMRequest, LMResponse, Usage
from ..providers.credentials import Credentials
from ..scrub import described
from .answers import answer_json, compact_json, event_json, malformed, told_error
from .anthropic_request import api_version, request_body
from .request_fields import ANSWER_TOOL, encoded, request_headers

# A turn that was paused, or for which the window was too small, is cut off as one at max_tokens is.
_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_EVENTS: Final = frozenset(
    {
        "message",  # no name: some gateways leave it out
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    }
)


@dataclass(slots=True)
class _Tool:
    """A tool call that is being read: its number, None if it is the answer itself; its input so far."""

    number: int | None
    input: dict[str, Any]
    written: bool = False


@dataclass(slots=True)
class _Reading:
    """What must be remembered between the events of one answer."""

    open: dict[int | None, _Tool] = field(default_factory=dict[int | None, _Tool])
    calls: int = 0
    usage: dict[str, Any] = field(default_factory=dict[str, Any])


class AnthropicMessages:
    """The :class:`~..wire_format.WireFormat` of ``POST {base_url}/v1/messages``."""

    def encode(
        self, request: LMRequest, settings: ProviderSettings, credentials: Credentials, *, stream: bool = False
    ) -> HttpRequest:
        """See :meth:`..wire_format.WireFormat.encode`."""
        body = request_body(request, settings, stream=stream)
        protocol = {"anthropic-version": api_version(request, settings)}
        if credentials.key is not None:
            protocol["x-api-key"] = credentials.key
        headers = request_headers(protocol, credentials, stream=stream)
        return HttpRequest(f"{settings.base_url}/v1/messages", headers, encoded(body))

    def decode(self, response: HttpResponse, *, model: str, secrets: tuple[str, ...] = ()) -> LMResponse:
        """See :meth:`..wire_format.WireFormat.decode`."""
        body = json_object(answer_json(response, secrets))
        if not isinstance(body.get("content"), list):
            if body.get("error"):
                raise told_error(body, secrets, response)
            raise malformed("a message with content", described(response.body), response)
        into = Collector(model)
        reading = _reading(into)
        _begin(body, into)
        for index, found in enumerate(json_list(body["content"])):
            _begin_block(json_object(found), index, into, reading)
            _end_block(index, into, reading)
        _add_usage(json_object(body.get("usage")), into, reading)
        _stop(body, into, reading)
        return into.response(response.request_id)

    def read_event(self, event: str, data: str, into: Collector, *, secrets: tuple[str, ...] = ()) -> None:
        """See :meth:`..wire_format.WireFormat.read_event`."""
        if event not in _EVENTS:
            return  # a ping, or what a later version brings
        body = json_object(event_json(data))
        kind = json_text(body.get("type")) or event
        reading = _reading(into)
        if kind == "content_block_delta":
            _continue_block(json_object(body.get("delta")), json_count(body.get("index")), into, reading)
        elif kind == "content_block_start":
            _begin_block(json_object(body.get("content_block")), json_count(body.get("index")), into, reading)
        elif kind == "content_block_stop":
            _end_block(json_count(body.get("index")), into, reading)
        elif kind == "message_start":
            message = json_object(body.get("message"))
            _begin(message, into)
            # Its count of output tokens is a beginning, not a count.
            _add_usage(json_object(message.get("usage")) | {"output_tokens": None}, into, reading)
        elif kind == "message_delta":
            _add_usage(json_object(body.get("usage")), into, reading)
            _stop(json_object(body.get("delta")), into, reading)
        elif kind == "message_stop":
            for index in list(reading.open):
                _end_block(index, into, reading)
            into.end()
        elif kind == "error":
            raise told_error(body, secrets)


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Read a ``usage`` object; what is missing or malformed is unknown, never zero."""
    fresh, made = json_count(usage.get("input_tokens")), json_count(usage.get("output_tokens"))
    if fresh is None and made is None:
        return UNKNOWN_USAGE
    cached = json_count(usage.get("cache_read_input_tokens"))
    cache_write = json_count(usage.get("cache_creation_input_tokens"))
    given = None if fresh is None else fresh + (cached or 0) + (cache_write or 0)
    total = None if given is None or made is None else given + made
    reasoning = json_count(json_object(usage.get("output_tokens_details")).get("thinking_tokens"))
    return Usage(given, made, total, cached, "provider", cache_write, reasoning)


def _reading(into: Collector) -> _Reading:
    found: _Reading | None = into.state.get("anthropic")
    if found is None:
        found = into.state["anthropic"] = _Reading()
    return found


def _begin(message: dict[str, Any], into: Collector) -> None:
    into.model = json_text(message.get("model")) or into.model
    into.response_id = json_text(message.get("id")) or None


def _begin_block(block: dict[str, Any], index: int | None, into: Collector, reading: _Reading) -> None:
    kind = block.get("type")
    if kind == "text":
        into.add_text(json_text(block.get("text")))
    elif kind == "thinking":
        into.add_reasoning(json_text(block.get("thinking")))
    elif kind == "tool_use":
        name = json_text(block.get("name"))
        tool = _Tool(None if name == ANSWER_TOOL else reading.calls, json_object(block.get("input")))
        reading.open[index] = tool
        if tool.number is not None:
            reading.calls += 1
            into.add_tool_call(tool.number, id=json_text(block.get("id")), name=name)


def _continue_block(delta: dict[str, Any], index: int | None, into: Collector, reading: _Reading) -> None:
    kind = delta.get("type")
    if kind == "text_delta":
        into.add_text(json_text(delta.get("text")))
    elif kind == "thinking_delta":
        into.add_reasoning(json_text(delta.get("thinking")))
    elif kind == "input_json_delta" and index in reading.open:
        tool = reading.open[index]
        if text := json_text(delta.get("partial_json")):
            tool.written = True
            _write(tool, text, into)


def _end_block(index: int | None, into: Collector, reading: _Reading) -> None:
    # Without fragments the input is what the block began with, most often nothing.
    tool = reading.open.pop(index, None)
    if tool is not None and not tool.written:
        _write(tool, compact_json(tool.input), into)


def _write(tool: _Tool, text: str, into: Collector) -> None:
    if tool.number is None:
        into.add_text(text)
    else:
        into.add_tool_call(tool.number, arguments=text)


def _add_usage(usage: dict[str, Any], into: Collector, reading: _Reading) -> None:
    reading.usage.update({name: count for name, count in usage.items() if count is not None})
    into.usage = read_usage(reading.usage)


def _stop(said: dict[str, Any], into: Collector, reading: _Reading) -> None:
    reason = json_text(said.get("stop_reason"))
    if not reason:
        return
    if reason == "tool_use" and not reading.calls:
        reason = "end_turn"  # the forced tool was the answer
    into.finish_reason = _FINISH.get(reason, reason)
    if reason == "refusal":
        why = json_object(said.get("stop_details"))
        into.add_refusal(json_text(why.get("explanation")) or json_text(why.get("category")))
