"""Anthropic messages: what is sent, how answers and streams are read, and what its errors mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.actors.lm.chunks import LMChunk, ToolCallDelta
from dspex.actors.lm.failures import error_from_response, failure_of
from dspex.actors.lm.stream_collector import Collector
from dspex.actors.lm.values import LMRequest, LMResponse, Message, ToolCall, Usage
from dspex.actors.providers.credentials import Credentials
from dspex.actors.wire_formats.anthropic import AnthropicMessages
from dspex.runtime.errors import LMError, LMInvalidRequest, LMProtocolError, LMQuotaExceeded, LMServerError

FORMAT = AnthropicMessages()
USER = (Message("user", "Hi"),)
KEY = "no-known-form-12345678"
LOCAL = "http://127.0.0.1:8080/anthropic"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA, "strict": True}}
ADD = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def encode(
    request: LMRequest,
    *,
    key: str | None = KEY,
    headers: dict[str, str] | None = None,
    stream: bool = False,
    **fields: Any,
) -> HttpRequest:
    """What is sent for a request."""
    values = {"kind": "anthropic", "base_url": LOCAL, "default_model": "m"} | fields
    settings = ProviderSettings.model_validate(values)
    return FORMAT.encode(request, settings, Credentials(key, headers or {}), stream=stream)


def body_of(*turns: Message, settings: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The JSON that is sent for a request with these fields."""
    body = json.loads(encode(LMRequest(turns or USER, **fields), **(settings or {})).body)
    assert isinstance(body, dict)
    return body


def message(*content: Any, stop: Any = "end_turn", usage: Any = None, **more: Any) -> dict[str, Any]:
    """A whole answer."""
    counts = {"input_tokens": 3, "output_tokens": 4} if usage is None else usage
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": counts,
    } | more


def decode(body: Any, kind: str = "application/json") -> LMResponse:
    """Read a whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"content-type": kind, "request-id": "req_1"}
    return FORMAT.decode(HttpResponse(200, head, data), model="asked", secrets=(KEY,))


def text(said: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said}


def use(id: str = "toolu_1", name: str = "add", **given: Any) -> dict[str, Any]:
    """A block that calls a tool."""
    return {"type": "tool_use", "id": id, "name": name, "input": given}


def read(*events: dict[str, Any] | tuple[str, str], named: bool = True) -> Collector:
    """Read a stream of events."""
    into = Collector("asked")
    for event in events:
        name, data = event if isinstance(event, tuple) else (event["type"], json.dumps(event))
        FORMAT.read_event(name if named else "message", data, into, secrets=(KEY,))
    return into


def start(**usage: Any) -> dict[str, Any]:
    """The first event."""
    counts = {"input_tokens": 10, "output_tokens": 1} | usage
    return {"type": "message_start", "message": message(stop=None, usage=counts)}


def block(index: int, begin: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of one block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": begin},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def says(said: str) -> dict[str, Any]:
    """A piece of text."""
    return {"type": "text_delta", "text": said}


def fragment(json_text: str) -> dict[str, Any]:
    """A piece of a tool's input."""
    return {"type": "input_json_delta", "partial_json": json_text}


def delta(stop: str = "end_turn", output: int = 5, **more: Any) -> dict[str, Any]:
    """The event with the reason to stop."""
    return {
        "type": "message_delta",
        "delta": {"stop_reason": stop, "stop_sequence": None} | more,
        "usage": {"output_tokens": output},
    }


STOP = {"type": "message_stop"}

# -- requests ------------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    """Model, messages and the demanded output limit; the key in its own header; the newest version."""
    request = encode(LMRequest(USER))
    assert (request.method, request.url) == ("POST", f"{LOCAL}/v1/messages")
    assert json.loads(request.body) == {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert "authorization" not in request.headers
    assert KEY not in repr(request)


def test_everything_set_is_sent() -> None:
    """Each field goes out under its wire name."""
    fields: dict[str, Any] = {"temperature": 0, "top_p": 0.5, "stop": ("a",), "max_tokens": 9, "tools": (ADD,)}
    extra = {"thinking": {"type": "adaptive"}}
    body = body_of(Message("system", "Be brief"), *USER, model="other", tool_choice="auto", extra=extra, **fields)
    assert body == {
        "model": "other",
        "max_tokens": 9,
        "system": "Be brief",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0,
        "top_p": 0.5,
        "stop_sequences": ["a"],
        "tools": [{"name": "add", "description": "Adds.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "adaptive"},
    }


def test_a_stream_is_asked_for() -> None:
    """``stream`` in the body, events accepted."""
    request = encode(LMRequest(USER), stream=True)
    assert json.loads(request.body)["stream"] is True
    assert "text/event-stream" in request.headers["accept"]


@pytest.mark.parametrize(
    ("fields", "settings", "version"),
    [
        ({}, {}, "2026-10-21"),
        ({"temperature": 0.0}, {}, "2023-06-01"),
        ({"top_p": 1}, {}, "2023-06-01"),
        ({"extra": {"top_k": 5}}, {}, "2023-06-01"),
        ({"temperature": 0.5}, {"api_version": "2027-01-01"}, "2027-01-01"),
        ({}, {"api_version": "2023-06-01"}, "2023-06-01"),
    ],
)
def test_the_version_fits_the_request(fields: dict[str, Any], settings: dict[str, Any], version: str) -> None:
    """Sampling parameters need the version that still has them, unless one is configured."""
    assert encode(LMRequest(USER, **fields), **settings).headers["anthropic-version"] == version


def test_the_users_headers_come_last() -> None:
    """A gateway's own headers replace ours; without a key none is sent."""
    request = encode(LMRequest(USER), key=None, headers={"Anthropic-Version": "x", "Authorization": "Bearer t"})
    assert (request.headers["anthropic-version"], request.headers["authorization"]) == ("x", "Bearer t")
    assert "x-api-key" not in request.headers


def test_system_prompts_stand_above_the_conversation() -> None:
    """System and developer texts become blocks of the system prompt, with their cache marks."""
    marked = {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}
    body = body_of(Message("system", "one"), Message("developer", [marked]), *USER)  # type: ignore[arg-type]
    assert body["system"] == [text("one"), marked]
    assert [turn["role"] for turn in body["messages"]] == ["user"]


def test_turns_of_one_role_are_merged() -> None:
    """Roles alternate: results of several tools and the next question are one user turn."""
    calls = (ToolCall("a", "add", '{"n": 1}'), ToolCall("b", "add", ""))
    body = body_of(
        Message("user", "one"),
        Message("user", "two"),
        Message("assistant", "thinking", tool_calls=calls),
        Message("tool", "3", tool_call_id="a"),
        Message("tool", "", tool_call_id="b"),
        Message("user", "and?"),
    )
    assert body["messages"] == [
        {"role": "user", "content": [text("one"), text("two")]},
        {"role": "assistant", "content": [text("thinking"), use("a", n=1), use("b")]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "3"},
                {"type": "tool_result", "tool_use_id": "b"},
                text("and?"),
            ],
        },
    ]


def test_parts_are_translated() -> None:
    """Text, images as data and as addresses, PDF documents."""
    parts = [
        {"type": "text", "text": "look"},
        {"type": "text", "text": ""},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "auto"}},
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}},
    ]
    png = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    assert body_of(Message("user", parts))["messages"][0]["content"] == [  # type: ignore[arg-type]
        text("look"),
        {"type": "image", "source": png},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "add"}}, {"type": "tool", "name": "add"}),
    ],
)
def test_tool_choices(choice: Any, sent: Any) -> None:
    """Each choice in the protocol's words."""
    assert body_of(tools=(ADD,), tool_choice=choice)["tool_choice"] == sent


def test_tools_without_parameters_and_strict_ones() -> None:
    """A tool without parameters takes an empty object; strict is passed on."""
    tool = {"type": "function", "function": {"name": "now", "strict": True}}
    assert body_of(tools=(tool,))["tools"] == [
        {"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": True}
    ]


def test_a_schema_is_asked_for() -> None:
    """``response_format`` becomes ``output_config.format``, beside what the user puts there."""
    body = body_of(response_format=AS_SCHEMA, extra={"output_config": {"effort": "low"}})
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"}
    assert "output_config" not in body_of(response_format={"type": "text"})


@pytest.mark.parametrize(("wanted", "schema"), [(AS_SCHEMA, SCHEMA), ({"type": "json_object"}, {"type": "object"})])
def test_a_schema_as_a_forced_tool(wanted: dict[str, Any], schema: Any) -> None:
    """With ``schema_mode`` tool the answer is the input of a tool that must be called, once."""
    body = body_of(response_format=wanted, settings={"schema_mode": "tool"})
    assert body["tools"] == [{"name": "dspex_answer", "description": "Give the answer.", "input_schema": schema}]
    assert body["tool_choice"] == {"type": "tool", "name": "dspex_answer", "disable_parallel_tool_use": True}


def part(**fields: Any) -> Message:
    """A user message with one part."""
    return Message("user", [fields])  # type: ignore[arg-type]


REFUSED: list[tuple[str, tuple[Message, ...], dict[str, Any], dict[str, Any]]] = [
    # field, messages, request, settings
    ("model", USER, {}, {"default_model": None}),
    ("seed", USER, {"seed": 1}, {}),
    ("temperature", USER, {"temperature": 0}, {"sampling": False}),
    ("top_p", USER, {"top_p": 1}, {"sampling": False}),
    ("messages", (Message("system", "x"),), {}, {}),
    ("messages[0].content", (Message("user", ""),), {}, {}),
    ("messages[0].content", (Message("assistant"),), {}, {}),
    ("messages[0].name", (Message("user", "x", name="Ann"),), {}, {}),
    ("messages[0].tool_calls", (Message("user", "x", tool_calls=(ToolCall("a", "b", ""),)),), {}, {}),
    ("messages[0].tool_calls", (Message("system", "x", tool_calls=(ToolCall("a", "b", ""),)), *USER), {}, {}),
    ("messages[0].tool_call_id", (Message("user", "x", tool_call_id="a"),), {}, {}),
    ("messages[0].tool_call_id", (Message("tool", "x"),), {}, {}),
    ("messages[0].tool_calls[0].arguments", (Message("assistant", tool_calls=(ToolCall("a", "b", "[1]"),)),), {}, {}),
    ("messages[0].tool_calls[0].arguments", (Message("assistant", tool_calls=(ToolCall("a", "b", "{"),)),), {}, {}),
    ("messages[0].content", (Message("system", [{"type": "image_url", "image_url": {"url": PNG}}]),), {}, {}),  # type: ignore[arg-type]
    ("messages[0].content[0].type", (part(type="video"),), {}, {}),
    ("messages[0].content[0].type", (part(type=[]),), {}, {}),
    ("messages[0].content[0].text", (part(type="text"),), {}, {}),
    ("messages[0].content[0].txt", (part(type="text", text="x", txt="y"),), {}, {}),
    ("messages[0].content[0].cache_control", (part(type="text", text="x", cache_control=1),), {}, {}),
    ("messages[0].content[0].image_url", (part(type="image_url", image_url=PNG),), {}, {}),
    ("messages[0].content[0].image_url.url", (part(type="image_url", image_url={"url": "a.png"}),), {}, {}),
    ("messages[0].content[0].image_url.url", (part(type="image_url", image_url={"url": "data:x,y"}),), {}, {}),
    (
        "messages[0].content[0].image_url.url",
        (part(type="image_url", image_url={"url": "data:image/png;base64,?"}),),
        {},
        {},
    ),
    (
        "messages[0].content[0].image_url.detail",
        (part(type="image_url", image_url={"url": PNG, "detail": "low"}),),
        {},
        {},
    ),
    ("messages[0].content", (part(type="image_url", image_url={"url": "data:image/tiff;base64,AA=="}),), {}, {}),
    ("messages[0].content", (part(type="image_url", image_url={"url": "http://x.test/a.png"}),), {}, {}),
    ("messages[0].content", (part(type="input_audio", input_audio={"data": "AA==", "format": "wav"}),), {}, {}),
    ("messages[0].content[0].file.file_id", (part(type="file", file={"file_id": "f"}),), {}, {}),
    ("tools[0]", USER, {"tools": ({"type": "web_search"},)}, {}),
    ("tools[0].function.name", USER, {"tools": ({"type": "function", "function": {"name": ""}},)}, {}),
    ("tools[0].function.name", USER, {"tools": ({"type": "function", "function": {"name": "dspex_answer"}},)}, {}),
    (
        "tools[0].function.descripton",
        USER,
        {"tools": ({"type": "function", "function": {"name": "x", "descripton": ""}},)},
        {},
    ),
    (
        "tools[0].function.parameters",
        USER,
        {"tools": ({"type": "function", "function": {"name": "x", "parameters": []}},)},
        {},
    ),
    ("tool_choice", USER, {"tool_choice": "required"}, {}),
    ("tool_choice", USER, {"tools": (ADD,), "tool_choice": "sometimes"}, {}),
    (
        "tool_choice.function.name",
        USER,
        {"tools": (ADD,), "tool_choice": {"type": "function", "function": {"name": "ad"}}},
        {},
    ),
    ("response_format.type", USER, {"response_format": {"type": "json_object"}}, {}),
    ("response_format.type", USER, {"response_format": {"type": "xml"}}, {}),
    (
        "response_format.json_schema.schema",
        USER,
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {},
    ),
    ("response_format", USER, {"response_format": AS_SCHEMA}, {"schema_mode": "none"}),
    ("response_format", USER, {"response_format": AS_SCHEMA}, {"schema_mode": "json_object"}),
    ("tools", USER, {"response_format": AS_SCHEMA, "tools": (ADD,)}, {"schema_mode": "tool"}),
    ("extra.system", (Message("system", "x"), *USER), {"extra": {"system": "y"}}, {}),
    (
        "extra.output_config.format",
        USER,
        {"response_format": AS_SCHEMA, "extra": {"output_config": {"format": {}}}},
        {},
    ),
]


@pytest.mark.parametrize(
    ("where", "turns", "fields", "settings"), REFUSED, ids=[f"{n}-{r[0]}" for n, r in enumerate(REFUSED)]
)
def test_what_cannot_be_said_is_refused(
    where: str, turns: tuple[Message, ...], fields: dict[str, Any], settings: dict[str, Any]
) -> None:
    """A field that the protocol cannot express is named in a typed error, and nothing is sent."""
    with pytest.raises(LMInvalidRequest) as caught:
        body_of(*turns, settings=settings, **fields)
    assert caught.value.field == where
    assert where in str(caught.value)
    failure = failure_of(caught.value)
    assert failure is not None
    assert failure.name == "invalid"


def test_a_misspelt_key_gets_a_hint() -> None:
    """Unknown keys of a tool name the nearest known one."""
    with pytest.raises(LMInvalidRequest, match="did you mean 'description'"):
        body_of(tools=({"type": "function", "function": {"name": "x", "descripton": ""}},))


# -- whole answers -------------------------------------------------------------------------------


def test_an_answer() -> None:
    """Text, model, ids, finish reason and usage."""
    assert decode(message(text("Hello"), text(" you"))) == LMResponse(
        text="Hello you",
        model="claude-x",
        finish_reason="stop",
        usage=Usage(3, 4, 7, None, "provider"),
        request_id="req_1",
        response_id="msg_1",
    )


def test_cached_tokens_are_input_too() -> None:
    """The protocol's ``input_tokens`` leaves both cache counts out; ours holds them."""
    counts = {
        "input_tokens": 100,
        "cache_read_input_tokens": 50,
        "cache_creation_input_tokens": 400,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 8},
    }
    assert decode(message(usage=counts)).usage == Usage(550, 20, 570, 50, "provider", 400, 8)


@pytest.mark.parametrize("counts", [{}, {"input_tokens": "x", "output_tokens": -1}])
def test_usage_that_is_missing_is_unknown(counts: Any) -> None:
    """Never zero."""
    assert decode(message(usage=counts)).usage == Usage()


def test_thinking_and_tools() -> None:
    """Thoughts are reasoning; tool inputs are JSON texts; blocks of other types are passed over."""
    answer = decode(
        message(
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            text("Let me add"),
            use("a", n=1),
            use("b", "now"),
            stop="tool_use",
        )
    )
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("Let me add", "hm", "tool_calls")
    assert answer.tool_calls == (ToolCall("a", "add", '{"n":1}'), ToolCall("b", "now", "{}"))


def test_a_forced_tool_is_the_answer() -> None:
    """The input of the answer tool is the text, and the answer stopped as it should."""
    answer = decode(message(use("a", "dspex_answer", n=1, s="é"), stop="tool_use"))
    assert (answer.text, answer.tool_calls, answer.finish_reason) == ('{"n":1,"s":"é"}', (), "stop")


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "content_filter"),
        ("something_new", "something_new"),
        (None, None),
    ],
)
def test_reasons_to_stop(stop: str | None, finish: str | None) -> None:
    """Each in OpenAI's words; a new one as it is. Whole and streamed alike."""
    assert decode(message(text("x"), stop=stop)).finish_reason == finish
    streamed = read(start(), *block(0, text(""), says("x")), delta(stop) if stop else delta(""), STOP)
    assert streamed.response().finish_reason == finish


def test_a_refusal_is_explained() -> None:
    """What the provider says of a refusal is its text, whole and streamed."""
    why = {"type": "refusal", "category": "cyber", "explanation": "No exploits."}
    assert decode(message(stop="refusal", stop_details=why)).refusal == "No exploits."
    assert read(start(), delta("refusal", stop_details=why), STOP).response().refusal == "No exploits."
    assert decode(message(stop="refusal", stop_details={"category": "bio"})).refusal == "bio"
    assert decode(message(stop="refusal")).refusal is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "text/html"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"null", "application/json"),
        (b"{}", "application/json"),
        (b'{"content": "text"}', "application/json"),
    ],
)
def test_what_is_no_answer(body: bytes, kind: str) -> None:
    """Anything else is a protocol error that names the request."""
    with pytest.raises(LMProtocolError) as caught:
        decode(body, kind)
    assert caught.value.request_id == "req_1"


def test_an_error_in_a_success() -> None:
    """An error object in a 200 is the error it tells of."""
    with pytest.raises(LMServerError) as caught:
        decode({"type": "error", "error": {"type": "overloaded_error", "message": f"busy {KEY}"}})
    assert KEY not in repr((str(caught.value), caught.value.facts))


def test_secrets_do_not_show() -> None:
    """An answer that echoes the key does not put it into the error."""
    for data in (f"<p>{KEY}</p>".encode(), json.dumps({"key": KEY}).encode()):
        with pytest.raises(LMProtocolError) as caught:
            decode(data)
        assert KEY not in repr((str(caught.value), caught.value.facts))


# -- streams -------------------------------------------------------------------------------------


def test_a_stream_of_text() -> None:
    """Chunks as they come; the whole answer at the end, with the usage that was said last."""
    into = read(
        start(cache_read_input_tokens=5),
        *block(0, text(""), says("Hel"), says("lo")),
        delta(output=7),
        STOP,
    )
    assert into.take() == [LMChunk(0, "Hel"), LMChunk(1, "lo")]
    assert (into.complete, into.ended) == (True, True)
    assert into.response("r") == LMResponse(
        text="Hello",
        model="claude-x",
        finish_reason="stop",
        usage=Usage(15, 7, 22, 5, "provider"),
        request_id="r",
        response_id="msg_1",
    )


def test_a_stream_of_thoughts_and_tools() -> None:
    """Thoughts, text and two tool calls in fragments; a call without input has an empty object."""
    into = read(
        start(),
        *block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "hm"},
               {"type": "signature_delta", "signature": "s"}),
        *block(1, text(""), says("ok"), {"type": "citations_delta", "citation": {}}),
        *block(2, use("a"), fragment(""), fragment('{"n"'), fragment(": 1}")),
        *block(3, use("b", "now")),
        *block(4, {"type": "server_tool_use", "id": "s", "name": "x", "input": {}}, fragment("{}")),
        delta("tool_use"),
        STOP,
    )  # fmt: skip
    assert into.take() == [
        LMChunk(0, reasoning="hm"),
        LMChunk(1, "ok"),
        LMChunk(2, tool_call=ToolCallDelta(0, "a", "add")),
        LMChunk(3, tool_call=ToolCallDelta(0, arguments='{"n"')),
        LMChunk(4, tool_call=ToolCallDelta(0, arguments=": 1}")),
        LMChunk(5, tool_call=ToolCallDelta(1, "b", "now")),
        LMChunk(6, tool_call=ToolCallDelta(1, arguments="{}")),
    ]
    answer = into.response()
    assert answer.tool_calls == (ToolCall("a", "add", '{"n": 1}'), ToolCall("b", "now", "{}"))
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("ok", "hm", "tool_calls")


def test_a_forced_tool_streams_text() -> None:
    """Fragments of the answer tool are text, and the answer stopped as it should."""
    into = read(
        start(), *block(0, use("a", "dspex_answer"), fragment('{"n":'), fragment("1}")), delta("tool_use"), STOP
    )
    assert into.take() == [LMChunk(0, '{"n":'), LMChunk(1, "1}")]
    assert into.response().finish_reason == "stop"


def test_events_that_say_nothing() -> None:
    """Pings, events of later versions, whatever their data, and blocks without an end do no harm."""
    into = read(
        ("ping", "{"),
        ("later_event", "no json"),
        start(),
        {"type": "ping"},
        *block(0, use("a"))[:1],
        delta("tool_use"),
        STOP,
    )
    assert into.response().tool_calls == (ToolCall("a", "add", "{}"),)


def test_events_without_names() -> None:
    """Some gateways leave the names out: the type in the data tells."""
    into = read(start(), {"type": "ping"}, *block(0, text(""), says("x")), delta(), STOP, named=False)
    assert (into.complete, into.text) == (True, "x")


def test_a_stream_is_whole_only_at_its_end() -> None:
    """Cut off anywhere before ``message_stop``, it is not complete, and its output is not counted as one token."""
    events = [start(), *block(0, text(""), says("x")), delta(), STOP]
    for count in range(len(events)):
        assert not read(*events[:count]).complete
    assert read(*events).complete
    assert read(*events[:3]).response().usage == Usage(10, None, None, None, "provider")


def test_the_last_usage_replaces_the_first() -> None:
    """Counts of ``message_delta`` are cumulative: nothing is added up."""
    final = delta(output=9) | {"usage": {"input_tokens": 12, "output_tokens": 9, "cache_read_input_tokens": 1}}
    assert read(start(), delta(output=4), final, STOP).response().usage == Usage(13, 9, 22, 1, "provider")


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("overloaded_error", "overloaded"),
        ("api_error", "server"),
        ("rate_limit_error", "rate"),
        ("billing_error", "quota"),
        ("authentication_error", "auth"),
        ("permission_error", "auth"),
        ("invalid_request_error", "invalid"),
        ("not_found_error", "invalid"),
        ("request_too_large", "invalid"),
        ("timeout_error", "gateway_timeout"),
        ("conflict_error", "conflict"),
        ("something_new", "protocol"),
    ],
)
def test_an_error_event(kind: str, row: str) -> None:
    """An error inside a stream has no status: its type tells what it is."""
    data = json.dumps({"type": "error", "error": {"type": kind, "message": f"no {KEY}"}, "request_id": "r"})
    with pytest.raises(LMError) as caught:
        read(start(), ("error", data))
    failure = failure_of(caught.value)
    assert failure is not None
    assert failure.name == row
    assert KEY not in repr((str(caught.value), caught.value.facts))


def test_an_event_that_is_no_json() -> None:
    """Malformed data of an event that matters is a protocol error, without the key."""
    with pytest.raises(LMProtocolError) as caught:
        read(("content_block_delta", "{" + KEY))
    assert KEY not in repr((str(caught.value), caught.value.facts))


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "said", "row"),
    [
        (400, "invalid_request_error", "max_tokens: field required", "invalid"),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 1 + 2 > 3",
            "context_length",
        ),
        (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", "quota"),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (402, "billing_error", "no money", "quota"),
        (403, "permission_error", "not allowed", "auth"),
        (404, "not_found_error", "model: x", "invalid"),
        (408, "timeout_error", "slow", "gateway_timeout"),
        (409, "conflict_error", "again", "conflict"),
        (413, "request_too_large", "too many bytes", "invalid"),
        (429, "rate_limit_error", "slow down", "rate"),
        (500, "api_error", "oops", "server"),
        (503, "api_error", "oops", "server"),
        (504, "timeout_error", "slow", "gateway_timeout"),
        (529, "overloaded_error", "Overloaded", "overloaded"),
    ],
)
def test_error_answers(status: int, kind: str, said: str, row: str) -> None:
    """Each type of error has its row."""
    body = {"type": "error", "error": {"type": kind, "message": said}, "request_id": "req_9"}
    error = error_from_response(HttpResponse(status, {"request-id": "req_9"}, json.dumps(body).encode()))
    failure = failure_of(error)
    assert failure is not None
    assert (failure.name, error.status, error.request_id) == (row, status, "req_9")
    assert said in str(error)


@pytest.mark.parametrize(
    "code",
    ["enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached"],
)
def test_a_spend_limit_is_no_rate_limit(code: str) -> None:
    """``details.error_code`` tells the limit on money from the one on speed."""
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "x", "details": {"error_code": code}}}
    error = error_from_response(HttpResponse(429, {}, json.dumps(body).encode()))
    assert isinstance(error, LMQuotaExceeded)
    assert error.provider_code == code


# -- there and back ------------------------------------------------------------------------------


def test_a_tool_call_goes_back_as_it_came() -> None:
    """What the model asked for is what it sees of itself in the next turn."""
    asked = use("toolu_7", n=1, deep={"a": [1, "é"]})
    answer = decode(message(text("ok"), asked, stop="tool_use"))
    turns = [*USER, Message("assistant", answer.text, tool_calls=answer.tool_calls)]
    turns.append(Message("tool", "2", tool_call_id=answer.tool_calls[0].id))
    sent = body_of(*turns, tools=(ADD,))["messages"]
    assert sent[1]["content"] == [text("ok"), asked]
    assert sent[2]["content"] == [{"type": "tool_result", "tool_use_id": "toolu_7", "content": "2"}]
