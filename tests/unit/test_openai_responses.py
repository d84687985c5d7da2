"""OpenAI responses: what is sent, and how answers and streams are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.http.transport import HttpRequest, HttpResponse
from dspex.actors.lm.chunks import LMChunk, ToolCallDelta
from dspex.actors.lm.values import LMRequest, LMResponse, Message, Role, ToolCall, Usage
from dspex.actors.providers.credentials import Credentials
from dspex.actors.wire_formats.openai_responses import OpenAIResponses
from dspex.runtime.errors import LMError, LMInvalidRequest, LMProtocolError, LMRateLimited, LMServerError
from kit.recorded_streams import KEY, decoder, events, named, read

FORMAT = OpenAIResponses()
USER = (Message("user", "Hi"),)


def settings(**fields: Any) -> ProviderSettings:
    """OpenAI itself."""
    return ProviderSettings.model_validate({"kind": "openai_responses", "default_model": "m"} | fields)


def encode(request: LMRequest, *, stream: bool = False, **fields: Any) -> HttpRequest:
    """What is sent for a request."""
    return FORMAT.encode(request, settings(**fields), Credentials(KEY), stream=stream)


def body_of(messages: tuple[Message, ...] = USER, **fields: Any) -> dict[str, Any]:
    """The JSON that is sent for a request with these fields."""
    body = json.loads(encode(LMRequest(messages=messages, **fields)).body)
    assert isinstance(body, dict)
    return body


def decode(body: Any, **headers: str) -> LMResponse:
    """Read an answer."""
    found = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return FORMAT.decode(HttpResponse(200, found, json.dumps(body).encode()), model="asked", secrets=(KEY,))


def streamed(*chunks: dict[str, Any]) -> LMResponse:
    """The answer of a stream of these events."""
    decoding = decoder(FORMAT)
    read(decoding, [named(*chunks)])
    return decoding.response()


# -- requests ------------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    """Only model and input are sent when nothing else is set; a stream adds one key."""
    request = encode(LMRequest(messages=USER))
    assert (request.method, request.url) == ("POST", "https://api.openai.com/v1/responses")
    expected = {"model": "m", "input": [{"role": "user", "content": "Hi"}]}
    assert json.loads(request.body) == expected
    assert request.headers["authorization"] == f"Bearer {KEY}"
    asked = encode(LMRequest(messages=USER), stream=True)
    assert json.loads(asked.body) == expected | {"stream": True}
    assert asked.headers["accept"] == "text/event-stream, application/json"


def test_fields_have_their_names_of_this_protocol() -> None:
    """The bound on tokens is renamed, sampling is not, further keys go as they are."""
    body = body_of(temperature=0, top_p=0.5, max_tokens=9, extra={"reasoning": {"effort": "low"}, "store": False})
    del body["input"]
    assert body == {
        "model": "m",
        "temperature": 0,
        "top_p": 0.5,
        "max_output_tokens": 9,
        "reasoning": {"effort": "low"},
        "store": False,
    }


def test_system_messages_at_the_beginning_are_the_instructions() -> None:
    """Later ones stay in their place."""
    turns = (
        Message("system", "Be brief."),
        Message("developer", "Be kind."),
        Message("user", "Hi"),
        Message("system", "Now in French."),
    )
    body = body_of(turns)
    assert body["instructions"] == "Be brief.\n\nBe kind."
    assert body["input"] == [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Now in French."}]


def test_a_system_message_of_parts_is_an_item() -> None:
    """Instructions are text only."""
    body = body_of((Message("system", ({"type": "text", "text": "a"},)), *USER))
    assert "instructions" not in body
    assert body["input"][0] == {"role": "system", "content": [{"type": "input_text", "text": "a"}]}


def test_tool_turns_are_items() -> None:
    """A call and its result are items of their own; what was said beside a call stays."""
    turns = (
        Message("assistant", "Let me see.", (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "now", "{}"))),
        Message("tool", "3", tool_call_id="c1", name="add"),
        Message("tool", ({"type": "text", "text": "noon"},), tool_call_id="c2"),
        Message("assistant", None, (ToolCall("c3", "now", ""),)),
        Message("assistant", ({"type": "text", "text": "x"}, {"type": "refusal", "refusal": "no"})),
    )
    assert body_of(turns)["input"] == [
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'},
        {"type": "function_call", "call_id": "c2", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
        {"type": "function_call", "call_id": "c3", "name": "now", "arguments": ""},
        {"role": "assistant", "content": [{"type": "output_text", "text": "x"}, {"type": "refusal", "refusal": "no"}]},
    ]


def test_parts_of_chat_completions_are_translated() -> None:
    """Text, images with their detail, files; parts of this protocol pass."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
    file = {"type": "file", "file": {"file_id": "f1"}}
    native = {"type": "input_file", "file_url": "https://x.example/a.pdf"}
    plain = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    (item,) = body_of((Message("user", ({"type": "text", "text": "a"}, image, plain, file, native)),))["input"]
    assert item["content"] == [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
        {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "auto"},
        {"type": "input_file", "file_id": "f1"},
        native,
    ]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize(
    ("mode", "asked", "sent"),
    [
        (None, BY_SCHEMA, {"type": "json_schema", "name": "out", "schema": SCHEMA, "strict": True}),
        ("json_object", BY_SCHEMA, {"type": "json_object"}),
        (None, {"type": "json_object"}, {"type": "json_object"}),
        ("none", {"type": "text"}, {"type": "text"}),
    ],
)
def test_structured_output(mode: Any, asked: dict[str, Any], sent: dict[str, Any]) -> None:
    """It stands in ``text.format`` and has a level less; ``schema_mode`` chooses."""
    body = json.loads(encode(LMRequest(messages=USER, response_format=asked), schema_mode=mode).body)
    assert body["text"] == {"format": sent}
    assert "response_format" not in body


def test_other_settings_of_text_are_merged() -> None:
    """``text`` may also hold the user's verbosity, but not a second format."""
    body = body_of(response_format={"type": "json_object"}, extra={"text": {"verbosity": "low"}})
    assert body["text"] == {"format": {"type": "json_object"}, "verbosity": "low"}
    with pytest.raises(LMInvalidRequest, match=r"extra\.text\.format"):
        body_of(response_format={"type": "json_object"}, extra={"text": {"format": {}}})


def test_tools_lose_a_level() -> None:
    """Functions are flat, and as lenient as in chat completions unless said; others pass."""
    tools = (
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}},
        {"type": "function", "function": {"name": "g"}},
        {"type": "web_search"},
        {"type": "function", "name": "flat", "parameters": None, "strict": None},
    )
    empty = {"type": "object", "properties": {}}
    assert body_of(tools=tools)["tools"] == [
        {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
        {"type": "function", "name": "g", "parameters": empty, "strict": False},
        {"type": "web_search"},
        {"type": "function", "name": "flat", "parameters": None, "strict": None},
    ]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
        ({"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
        ({"type": "web_search"}, {"type": "web_search"}),
    ],
)
def test_a_tool_may_be_chosen(asked: Any, sent: Any) -> None:
    """The choice loses its level as tools do."""
    assert body_of(tools=({"type": "web_search"},), tool_choice=asked)["tool_choice"] == sent


def user(*parts: dict[str, Any], role: Role = "user") -> dict[str, Any]:
    """A request with these parts."""
    return {"messages": (Message(role, parts),)}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"seed": 1}, "seed"),
        ({"stop": "x"}, "stop"),
        ({"messages": (Message("user", "x", name="bob"),)}, "messages[0].name"),
        ({"messages": (Message("system", "x", name="bob"), *USER)}, "messages[0].name"),
        ({"messages": (*USER, Message("tool", "x"))}, "messages[1].tool_call_id"),
        (user({"type": "input_audio", "input_audio": {}}), "messages[0].content[0].type"),
        (user({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url.url"),
        (user({"type": "file"}), "messages[0].content[0].type"),
        (user({"type": "text", "text": "x"}, {"text": "y"}), "messages[0].content[1].type"),
        (user({"type": "image_url"}, role="assistant"), "messages[0].content[0].type"),
        ({"tools": ({"name": "f"},)}, "tools[0]"),
        ({"tools": ({"type": "function", "function": {}},)}, "tools[0].function.name"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"extra": {"instructions": "x"}, "messages": (Message("system", "s"), *USER)}, "extra.instructions"),
        ({"extra": {"input": "x"}}, "extra.input"),
    ],
)
def test_what_cannot_be_expressed_is_refused(fields: dict[str, Any], field: str) -> None:
    """LMInvalidRequest with the field's name; nothing is left out in silence."""
    with pytest.raises(LMInvalidRequest) as caught:
        body_of(**fields)
    assert caught.value.facts["field"] == field


def test_settings_that_refuse() -> None:
    """No sampling, no structured output, no model: each is refused by its name."""
    with pytest.raises(LMInvalidRequest, match="at temperature"):
        encode(LMRequest(messages=USER, temperature=0), sampling=False)
    with pytest.raises(LMInvalidRequest, match="at response_format"):
        encode(LMRequest(messages=USER, response_format=BY_SCHEMA), schema_mode="none")
    with pytest.raises(LMInvalidRequest, match="default_model"):
        encode(LMRequest(messages=USER), default_model=None)


# -- answers -------------------------------------------------------------------------------------


def text_item(*parts: dict[str, Any]) -> dict[str, Any]:
    """A message item."""
    return {"type": "message", "id": "msg1", "role": "assistant", "content": list(parts)}


def said(text: str) -> dict[str, Any]:
    """A part of text."""
    return {"type": "output_text", "text": text, "annotations": []}


def call_item(number: int, arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    """A function call item."""
    call = {"type": "function_call", "id": f"fc{number}", "call_id": f"t{number}", "name": f"f{number}"}
    return call | {"arguments": arguments} | fields


THOUGHT = {
    "type": "reasoning",
    "id": "rs1",
    "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
    "content": [{"type": "reasoning_text", "text": "c"}],
}
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 13,
}
COUNTED = Usage(9, 4, 13, 5, "provider", 2, 3)


def whole(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A response object."""
    return {"id": "resp1", "model": "m1", "status": "completed", "error": None, "output": list(output)} | fields


def test_an_answer_is_read() -> None:
    """Texts of all messages, thoughts, calls, counts and ids; items of other kinds are passed over."""
    answer = decode(
        whole(
            THOUGHT,
            text_item(said("Hi"), said(" you")),
            {"type": "web_search_call"},
            text_item(said("!")),
            call_item(1),
            usage=USAGE,
        ),
        x_request_id="req_1",
    )
    assert answer == LMResponse(
        text="Hi you!",
        model="m1",
        finish_reason="tool_calls",
        usage=COUNTED,
        request_id="req_1",
        response_id="resp1",
        reasoning="a\n\nb\n\nc",
        tool_calls=(ToolCall("t1", "f1", "{}"),),
    )


def test_what_is_absent_is_unknown() -> None:
    """No usage, status, model or id."""
    answer = decode({"output": [text_item(said("x"))]})
    assert (answer.text, answer.model, answer.finish_reason, answer.usage) == ("x", "asked", "stop", Usage())


def test_a_refusal_is_an_outcome() -> None:
    """Its words stand apart from the text."""
    answer = decode(whole(text_item({"type": "refusal", "refusal": "I cannot."})))
    assert (answer.text, answer.refusal, answer.finish_reason) == ("", "I cannot.", "stop")


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        ({"reason": "steered"}, "steered"),
        ({}, "length"),
        (None, "length"),
    ],
)
def test_an_incomplete_answer_says_why(details: Any, reason: str) -> None:
    """In the words of chat completions, whole and streamed; with calls too, for they may be cut."""
    found = whole(text_item(said("x")), call_item(1), status="incomplete", incomplete_details=details)
    assert decode(found).finish_reason == reason
    assert streamed({"type": "response.incomplete", "response": found}).finish_reason == reason


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"code": "server_error", "message": "boom"}, LMServerError),
        ({"code": "rate_limit_exceeded", "message": "boom"}, LMRateLimited),
        ({"code": "invalid_prompt", "message": "boom"}, LMInvalidRequest),
        ({"code": "image_too_large", "message": "boom"}, LMInvalidRequest),
        ({"code": "bio_policy", "message": "boom"}, LMInvalidRequest),
        ({"code": "new_thing", "message": "boom"}, LMProtocolError),
        (None, LMProtocolError),
    ],
)
def test_a_failed_response_is_its_error(error: Any, raised: type[LMError]) -> None:
    """Its code tells whose fault it was, whole and in a stream."""
    found = whole(status="failed", error=error)
    with pytest.raises(LMError, match="boom" if error else "failed") as caught:
        decode(found)
    assert type(caught.value) is raised
    with pytest.raises(LMError, match="boom" if error else "failed") as caught:
        streamed({"type": "response.failed", "response": found})
    assert type(caught.value) is raised


@pytest.mark.parametrize("status", ["in_progress", "queued", "cancelled"])
def test_an_unfinished_response_is_no_answer(status: str) -> None:
    """It may still change."""
    with pytest.raises(LMProtocolError, match=status):
        decode(whole(text_item(said("x")), status=status))


@pytest.mark.parametrize("body", [None, [], {}, "x", {"output": None}, {"choices": []}, {"status": "completed"}])
def test_what_is_no_response_is_refused(body: Any) -> None:
    """Never an empty answer that looks right."""
    with pytest.raises(LMProtocolError, match="expected a JSON object, a response with output"):
        decode(body)


# -- streams -------------------------------------------------------------------------------------

CREATED = {"type": "response.created", "response": {"id": "resp1", "model": "m1", "status": "in_progress"}}


def text_delta(text: str) -> dict[str, Any]:
    """A piece of text."""
    return {"type": "response.output_text.delta", "output_index": 0, "item_id": "msg1", "delta": text}


def completed(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The last event."""
    return {"type": "response.completed", "response": whole(*output, **fields)}


def test_each_kind_of_event_is_a_chunk() -> None:
    """Thoughts with their parts kept apart, text, refusal; others are passed over."""
    decoding = decoder(FORMAT)
    part = {"type": "response.reasoning_summary_part.added", "part": {"type": "summary_text", "text": ""}}
    found = read(
        decoding,
        [
            named(
                CREATED,
                part,
                {"type": "response.reasoning_summary_text.delta", "delta": "a"},
                part,
                {"type": "response.reasoning_summary_text.delta", "delta": "b"},
                {"type": "response.content_part.added", "part": {"type": "reasoning_text", "text": ""}},
                {"type": "response.reasoning_text.delta", "delta": "c"},
                {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}},
                text_delta("d"),
                {"type": "response.web_search_call.searching"},
                {"type": "response.refusal.delta", "delta": "e"},
                completed(THOUGHT, text_item(said("d"), {"type": "refusal", "refusal": "e"}), usage=USAGE),
            )
        ],
    )
    assert [chunk.reasoning or chunk.text or chunk.refusal for chunk in found] == [
        "a",
        "\n\n",
        "b",
        "\n\n",
        "c",
        "d",
        "e",
    ]
    assert (found[5], found[6]) == (LMChunk(5, "d"), LMChunk(6, refusal="e"))
    answer = decoding.response()
    assert answer == decode(
        completed(THOUGHT, text_item(said("d"), {"type": "refusal", "refusal": "e"}), usage=USAGE)["response"],
        x_request_id="req_1",
    )
    assert decoding.ended


@pytest.mark.parametrize("keys", [("output_index", "item_id"), ("output_index",), ("item_id",)])
def test_tool_calls_in_pieces(keys: tuple[str, ...]) -> None:
    """Pieces belong to their item by its place or its id, interleaved too; repetitions at the end add nothing."""

    def place(number: int) -> dict[str, Any]:
        return {key: value for key, value in {"output_index": number, "item_id": f"fc{number}"}.items() if key in keys}

    def piece(number: int, text: str) -> dict[str, Any]:
        return {"type": "response.function_call_arguments.delta", "delta": text, **place(number)}

    def item(kind: str, number: int, arguments: str) -> dict[str, Any]:
        return {"type": f"response.output_item.{kind}", "item": call_item(number, arguments), **place(number)}

    first, second = '{"a":1}', '{"b":2}'
    decoding = decoder(FORMAT)
    chunks = read(
        decoding,
        [
            named(
                CREATED,
                item("added", 0, ""),
                item("added", 1, ""),
                piece(0, '{"a"'),
                piece(1, second),
                piece(0, ":1}"),
                {"type": "response.function_call_arguments.done", "arguments": first, **place(0)},
                item("done", 0, first),
                item("done", 1, second),
                completed(call_item(0, first), call_item(1, second)),
            )
        ],
    )
    assert [chunk.tool_call for chunk in chunks] == [
        ToolCallDelta(0, "t0", "f0", ""),
        ToolCallDelta(1, "t1", "f1", ""),
        ToolCallDelta(0, arguments='{"a"'),
        ToolCallDelta(1, arguments=second),
        ToolCallDelta(0, arguments=":1}"),
    ]
    answer = decoding.response()
    assert answer.tool_calls == (ToolCall("t0", "f0", first), ToolCall("t1", "f1", second))
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "before",
    [
        [],
        [text_delta("Hi")],
        [text_delta("Hi you"), {"type": "response.output_item.added", "output_index": 1, "item": call_item(1, "{}")}],
        [{"type": "response.output_item.done", "output_index": 1, "item": call_item(1, "{}")}],
        [
            {"type": "response.output_item.added", "output_index": 1, "item": call_item(1, "{}")},
            {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
        ],
    ],
)
def test_what_was_not_delivered_in_pieces_comes_at_the_end(before: list[dict[str, Any]]) -> None:
    """The last event holds the whole answer: nothing of it is lost, nothing doubled."""
    decoding = decoder(FORMAT)
    chunks = read(decoding, [named(*before, completed(text_item(said("Hi you")), call_item(1, "{}")))])
    answer = decoding.response()
    assert (answer.text, answer.tool_calls) == ("Hi you", (ToolCall("t1", "f1", "{}"),))
    assert "".join(chunk.text for chunk in chunks) == "Hi you"
    assert "".join(chunk.tool_call.arguments for chunk in chunks if chunk.tool_call) == "{}"


def test_a_last_event_without_output_keeps_the_pieces() -> None:
    """Some servers leave the output out there."""
    added = {"type": "response.output_item.added", "output_index": 0, "item": call_item(1, "")}
    piece = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"}
    answer = streamed(CREATED, added, piece, {"type": "response.completed", "response": {"usage": USAGE}})
    assert answer.tool_calls == (ToolCall("t1", "f1", "{}"),)
    assert (answer.finish_reason, answer.usage, answer.model, answer.response_id) == (
        "tool_calls",
        COUNTED,
        "m1",
        "resp1",
    )


def test_events_may_be_unnamed() -> None:
    """Their type stands in the data too; [DONE] at the end is passed over."""
    decoding = decoder(FORMAT)
    read(decoding, [events(text_delta("x"), {"type": "response.new_thing"}, "[DONE]", completed())])
    assert decoding.response().text == "x"


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": f"slow {KEY}", "param": None},
        {"type": "error", "error": {"code": "rate_limit_exceeded", "message": f"slow {KEY}"}},
        {"type": "error", "status": 429, "error": {"code": 429, "message": "slow"}},
    ],
)
def test_an_error_event_is_that_error(error: dict[str, Any]) -> None:
    """With or without an envelope, classified by its code and scrubbed."""
    with pytest.raises(LMRateLimited, match="slow") as caught:
        streamed(text_delta("x"), error)
    assert KEY not in str(caught.value)


def test_an_error_without_a_type_is_an_error() -> None:
    """As in chat completions."""
    with pytest.raises(LMRateLimited, match="slow"):
        read(decoder(FORMAT), [events({"error": {"code": "rate_limit_exceeded", "message": "slow"}})])


def test_another_protocol_is_refused() -> None:
    """Chunks of chat completions at a responses address do not pass as nothing."""
    with pytest.raises(LMProtocolError, match="an event with its type"):
        read(decoder(FORMAT), [events({"choices": [{"delta": {"content": "x"}}]})])


def test_done_is_no_end() -> None:
    """Only the terminal events are: text followed by [DONE] is cut off."""
    decoding = decoder(FORMAT)
    read(decoding, [events(text_delta("x"))])
    with pytest.raises(LMProtocolError, match="terminal"):
        decoding.response()


def test_a_cancelled_response_is_no_answer() -> None:
    """Somebody stopped it."""
    with pytest.raises(LMProtocolError, match="cancelled"):
        streamed(text_delta("x"), {"type": "response.cancelled", "response": {"status": "cancelled"}})
