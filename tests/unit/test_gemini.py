"""Gemini's generateContent: what is sent, how answers and streams are read, and what its errors mean."""

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
from dspex.actors.wire_formats.gemini import GeminiGenerate, read_usage
from dspex.runtime.errors import LMAuthError, LMError, LMInvalidRequest, LMProtocolError, LMRateLimited

FORMAT = GeminiGenerate()
USER = (Message("user", "Hi"),)
KEY = "AIza-test-1234567890"
LOCAL = "http://127.0.0.1:8080/gemini"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA}}
ADD = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}
STRICT = {"type": "function", "function": {"name": "now", "strict": True}}
PNG = "data:image/png;base64,iVBORw0KGgo="
UNSIGNED = "skip_thought_signature_validator"


def encode(
    request: LMRequest,
    *,
    key: str | None = KEY,
    headers: dict[str, str] | None = None,
    stream: bool = False,
    **fields: Any,
) -> HttpRequest:
    """What is sent for a request."""
    values = {"kind": "gemini", "base_url": LOCAL, "default_model": "gemini-2.5-pro"} | fields
    settings = ProviderSettings.model_validate(values)
    return FORMAT.encode(request, settings, Credentials(key, headers or {}), stream=stream)


def body_of(*turns: Message, settings: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The JSON that is sent for a request with these fields."""
    body = json.loads(encode(LMRequest(turns or USER, **fields), **(settings or {})).body)
    assert isinstance(body, dict)
    return body


def answer(*parts: Any, finish: Any = "STOP", usage: Any = None, **more: Any) -> dict[str, Any]:
    """An answer, or a piece of one."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    body: dict[str, Any] = {"candidates": [candidate], "modelVersion": "gemini-x", "responseId": "r1"}
    if usage is not None:
        body["usageMetadata"] = usage
    return body | more


def decode(body: Any, kind: str = "application/json") -> LMResponse:
    """Read a whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return FORMAT.decode(HttpResponse(200, {"content-type": kind}, data), model="asked", secrets=(KEY,))


def read(*events: Any) -> Collector:
    """Read a stream of events."""
    into = Collector("asked")
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        FORMAT.read_event("message", data, into, secrets=(KEY,))
    return into


def calls(name: str = "add", id: str | None = None, **args: Any) -> dict[str, Any]:
    """A part that calls a tool."""
    return {"functionCall": {"name": name, "args": args} | ({"id": id} if id else {})}


COUNTS = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}

# -- requests ------------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    """The model in the path, the key in its own header, the conversation in the body."""
    request = encode(LMRequest(USER))
    assert request.url == f"{LOCAL}/v1beta/models/gemini-2.5-pro:generateContent"
    assert json.loads(request.body) == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    assert request.headers["x-goog-api-key"] == KEY
    assert "authorization" not in request.headers
    assert KEY not in request.url + repr(request)


def test_a_stream_has_a_path_of_its_own() -> None:
    """Events are asked for in the address."""
    request = encode(LMRequest(USER), stream=True)
    assert request.url == f"{LOCAL}/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    assert "text/event-stream" in request.headers["accept"]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-x", "v1beta/models/gemini-x"),
        ("tunedModels/mine", "v1beta/tunedModels/mine"),
        ("a?key=b#c d:e", "v1beta/models/a%3Fkey%3Db%23c%20d%3Ae"),
    ],
)
def test_models_in_the_path(model: str, path: str) -> None:
    """Folders are kept, and no name can become another path or a query."""
    assert encode(LMRequest(USER, model=model)).url == f"{LOCAL}/{path}:generateContent"


def test_a_configured_version() -> None:
    """``api_version`` stands in the path."""
    assert "/gemini/v1/models/" in encode(LMRequest(USER), api_version="v1").url


def test_the_users_headers_come_last() -> None:
    """A gateway's own headers replace ours; without a key none is sent."""
    request = encode(LMRequest(USER), key=None, headers={"Authorization": "Bearer t", "User-Agent": "me"})
    assert (request.headers["authorization"], request.headers["user-agent"]) == ("Bearer t", "me")
    assert "x-goog-api-key" not in request.headers


def test_everything_set_is_sent() -> None:
    """Each field goes out under its wire name; the user's further settings stand beside ours."""
    body = body_of(
        Message("system", "one"),
        Message("developer", "two"),
        *USER,
        temperature=0,
        top_p=0.5,
        seed=7,
        stop=("a",),
        max_tokens=9,
        tools=(ADD, STRICT),
        tool_choice="required",
        extra={"generationConfig": {"topK": 3}, "safetySettings": []},
    )
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "systemInstruction": {"parts": [{"text": "one"}, {"text": "two"}]},
        "generationConfig": {
            "temperature": 0,
            "topP": 0.5,
            "seed": 7,
            "maxOutputTokens": 9,
            "stopSequences": ["a"],
            "topK": 3,
        },
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "add", "description": "Adds.", "parametersJsonSchema": SCHEMA},
                    {"name": "now"},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "safetySettings": [],
    }


@pytest.mark.parametrize(
    ("tool", "choice", "sent"),
    [
        (ADD, None, None),
        (ADD, "auto", {"mode": "AUTO"}),
        (ADD, "none", {"mode": "NONE"}),
        (ADD, "required", {"mode": "ANY"}),
        (
            ADD,
            {"type": "function", "function": {"name": "add"}},
            {"mode": "ANY", "allowedFunctionNames": ["add"]},
        ),
        (STRICT, None, {"mode": "VALIDATED"}),
        (STRICT, "auto", {"mode": "VALIDATED"}),
        (STRICT, "none", {"mode": "NONE"}),
    ],
)
def test_tool_choices(tool: Any, choice: Any, sent: Any) -> None:
    """Each choice in the protocol's words; strict tools are held to their schema."""
    found = body_of(tools=(tool,), tool_choice=choice).get("toolConfig")
    assert found == (None if sent is None else {"functionCallingConfig": sent})


@pytest.mark.parametrize(
    ("wanted", "mode", "sent"),
    [
        (AS_SCHEMA, None, {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}),
        (AS_SCHEMA, "json_object", {"responseMimeType": "application/json"}),
        ({"type": "json_object"}, None, {"responseMimeType": "application/json"}),
        ({"type": "text"}, None, None),
    ],
)
def test_structured_output(wanted: Any, mode: Any, sent: Any) -> None:
    """JSON is asked for, with its schema unless the settings say otherwise."""
    assert body_of(response_format=wanted, settings={"schema_mode": mode}).get("generationConfig") == sent


def test_a_schema_as_a_forced_tool() -> None:
    """With ``schema_mode`` tool the answer is the arguments of a tool that must be called."""
    body = body_of(response_format=AS_SCHEMA, settings={"schema_mode": "tool"})
    declaration = {"name": "dspex_answer", "description": "Give the answer.", "parametersJsonSchema": SCHEMA}
    assert body["tools"] == [{"functionDeclarations": [declaration]}]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["dspex_answer"]}


def conversation(id: str = "c1") -> list[Message]:
    """A conversation with two tool calls."""
    asked = (ToolCall(id, "add", '{"n": 1}'), ToolCall("c2", "now", ""))
    return [
        Message("user", "one"),
        Message("user", "two"),
        Message("assistant", "ok", tool_calls=asked),
        Message("tool", "3", tool_call_id=id),
        Message("tool", [{"type": "text", "text": "noon"}], tool_call_id="c2"),  # type: ignore[arg-type]
        Message("user", "and?"),
    ]


def test_turns_of_one_role_are_merged() -> None:
    """Roles alternate; results of tools bear the tool's name, found by the id of the call."""
    assert body_of(*conversation())["contents"] == [
        {"role": "user", "parts": [{"text": "one"}, {"text": "two"}]},
        {"role": "model", "parts": [{"text": "ok"}, calls("add", "c1", n=1), calls("now", "c2")]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "add", "response": {"output": "3"}}},
                {"functionResponse": {"id": "c2", "name": "now", "response": {"output": "noon"}}},
                {"text": "and?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("model", "signed"),
    [
        ("gemini-2.5-pro", False),
        ("models/gemini-1.5-flash", False),
        ("gemini-2-x", False),
        ("gemini-3-pro", True),
        ("models/gemini-3.1-pro", True),
        ("gemini-flash-latest", True),
        ("gemma-3", False),
    ],
)
def test_calls_of_newer_models_say_that_they_lost_their_signature(model: str, signed: bool) -> None:
    """From Gemini 3 on the first call of a turn needs a signature, or the word for none."""
    parts = body_of(*conversation(), model=model)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [None, UNSIGNED if signed else None, None]


def test_the_name_of_a_result_without_its_call() -> None:
    """A result whose call is not in the conversation may name its tool."""
    (content,) = body_of(Message("tool", "3", tool_call_id="x", name="add"))["contents"]
    assert content["parts"] == [{"functionResponse": {"id": "x", "name": "add", "response": {"output": "3"}}}]


def test_parts_are_translated() -> None:
    """Text, data and addresses of images, sounds and files."""
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {"type": "image_url", "image_url": {"url": "gs://bucket/x"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}},
    ]
    assert body_of(Message("user", parts))["contents"][0]["parts"] == [  # type: ignore[arg-type]
        {"text": "look"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x.test/a.png"}},
        {"fileData": {"fileUri": "gs://bucket/x"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}},
    ]


def part(**fields: Any) -> Message:
    """A user message with one part."""
    return Message("user", [fields])  # type: ignore[arg-type]


REFUSED: list[tuple[str, tuple[Message, ...], dict[str, Any], dict[str, Any]]] = [
    # field, messages, request, settings
    ("model", USER, {}, {"default_model": None}),
    ("model", USER, {"model": "../v1/files"}, {}),
    ("model", USER, {"model": "models/"}, {}),
    ("model", USER, {"model": ".."}, {}),
    ("temperature", USER, {"temperature": 0}, {"sampling": False}),
    ("seed", USER, {"seed": 0}, {"sampling": False}),
    ("messages", (Message("system", "x"),), {}, {}),
    ("messages[0].content", (Message("user", ""),), {}, {}),
    ("messages[0].name", (Message("system", "x", name="Ann"), *USER), {}, {}),
    ("messages[0].tool_calls", (Message("user", "x", tool_calls=(ToolCall("a", "b", ""),)),), {}, {}),
    ("messages[0].tool_calls", (Message("system", "x", tool_calls=(ToolCall("a", "b", ""),)), *USER), {}, {}),
    ("messages[0].tool_call_id", (Message("assistant", "x", tool_call_id="a"),), {}, {}),
    ("messages[0].tool_call_id", (Message("tool", "x", tool_call_id="a"),), {}, {}),
    ("messages[0].tool_calls[0].arguments", (Message("assistant", tool_calls=(ToolCall("a", "b", "x"),)),), {}, {}),
    ("messages[0].content[0].type", (part(type="video"),), {}, {}),
    ("messages[0].content.cache_control", (part(type="text", text="x", cache_control={"type": "e"}),), {}, {}),
    ("messages[0].content", (Message("assistant", [{"type": "image_url", "image_url": {"url": PNG}}]),), {}, {}),  # type: ignore[arg-type]
    ("tools[0]", USER, {"tools": ({"type": "google_search"},)}, {}),
    ("tool_choice", USER, {"tool_choice": "required"}, {}),
    ("response_format", USER, {"response_format": AS_SCHEMA}, {"schema_mode": "none"}),
    ("tools", USER, {"response_format": AS_SCHEMA, "tools": (ADD,)}, {"schema_mode": "tool"}),
    ("extra.contents", USER, {"extra": {"contents": []}}, {}),
    (
        "extra.generationConfig.temperature",
        USER,
        {"temperature": 1, "extra": {"generationConfig": {"temperature": 0}}},
        {},
    ),
]


@pytest.mark.parametrize(
    ("where", "turns", "fields", "settings"), REFUSED, ids=[f"{n}-{row[0]}" for n, row in enumerate(REFUSED)]
)
def test_what_cannot_be_said_is_refused(
    where: str, turns: tuple[Message, ...], fields: dict[str, Any], settings: dict[str, Any]
) -> None:
    """A field that the protocol cannot express is named in a typed error, and nothing is sent."""
    with pytest.raises(LMInvalidRequest) as caught:
        body_of(*turns, settings=settings, **fields)
    assert caught.value.field == where
    assert where in str(caught.value)


# -- whole answers -------------------------------------------------------------------------------


def test_an_answer() -> None:
    """Text, model, id, finish reason and usage."""
    assert decode(answer({"text": "Hel"}, {"text": "lo"}, usage=COUNTS)) == LMResponse(
        text="Hello",
        model="gemini-x",
        finish_reason="stop",
        usage=Usage(3, 4, 7, None, "provider"),
        response_id="r1",
    )


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, Usage()),
        (None, Usage()),
        ({"promptTokenCount": "x"}, Usage()),
        (COUNTS, Usage(3, 4, 7, None, "provider")),
        # Thoughts are output, and not among the candidates.
        (
            COUNTS | {"thoughtsTokenCount": 10, "cachedContentTokenCount": 2, "totalTokenCount": 17},
            Usage(3, 14, 17, 2, "provider", None, 10),
        ),
        ({"promptTokenCount": 3, "thoughtsTokenCount": 5}, Usage(3, 5, 8, None, "provider", None, 5)),
        (
            {"promptTokenCount": 3, "candidatesTokenCount": 4, "toolUsePromptTokenCount": 2},
            Usage(5, 4, 9, None, "provider"),
        ),
        # The output is unknown, not zero.
        ({"promptTokenCount": 3, "totalTokenCount": 3}, Usage(3, None, 3, None, "provider")),
    ],
)
def test_usage(counts: Any, usage: Usage) -> None:
    """Thoughts count as output; what is missing is unknown."""
    assert read_usage(counts) == usage


def test_thoughts_and_tools() -> None:
    """Thoughts are reasoning; calls have their arguments as JSON text, and an id of ours if they came without."""
    found = decode(answer({"text": "hm", "thought": True}, {"text": "ok"}, calls(n=1, s="é"), calls("now", "id7")))
    first, second = found.tool_calls
    assert (found.text, found.reasoning, found.finish_reason) == ("ok", "hm", "tool_calls")
    assert (first.name, first.arguments) == ("add", '{"n":1,"s":"é"}')
    assert second == ToolCall("id7", "now", "{}")
    assert first.id.startswith("dspex_call_")


def test_made_up_ids_differ() -> None:
    """Two equal calls, in one answer or in two, have ids of their own; the same answer has the same."""
    one, two = decode(answer(calls(n=1), calls(n=1))).tool_calls
    (three,) = decode(answer(calls(n=1), responseId="r2")).tool_calls
    assert len({one.id, two.id, three.id}) == 3
    assert decode(answer(calls(n=1), calls(n=1))).tool_calls == (one, two)


def test_a_forced_tool_is_the_answer() -> None:
    """The arguments of the answer tool are the text, and the answer stopped as it should."""
    found = decode(answer(calls("dspex_answer", n=1)))
    assert (found.text, found.tool_calls, found.finish_reason) == ('{"n":1}', (), "stop")


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("LANGUAGE", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
        ("OTHER", "other"),
        ("FINISH_REASON_UNSPECIFIED", None),
        (None, None),
    ],
)
def test_reasons_to_finish(said: str | None, finish: str | None) -> None:
    """In OpenAI's words where it has one; a stream is complete once there is one."""
    assert decode(answer({"text": "x"}, finish=said)).finish_reason == finish
    into = read(answer({"text": "x"}, finish=said))
    assert (into.finish_reason, into.complete, into.ended) == (finish, finish is not None, False)


def test_a_cut_off_call_is_no_tool_call() -> None:
    """A call beside another reason than STOP does not hide that reason."""
    assert decode(answer(calls(), finish="MAX_TOKENS")).finish_reason == "length"


@pytest.mark.parametrize(
    ("feedback", "words"),
    [
        ({"blockReason": "SAFETY"}, "prompt blocked: SAFETY"),
        ({"blockReason": "OTHER", "blockReasonMessage": "Not that."}, "Not that."),
    ],
)
def test_a_blocked_prompt(feedback: Any, words: str) -> None:
    """A prompt that is not answered at all is a refusal, whole and streamed."""
    body = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}}
    found = decode(body)
    assert (found.text, found.refusal, found.finish_reason) == ("", words, "content_filter")
    assert found.usage.input_tokens == 3
    into = read(body)
    assert into.complete
    assert into.response().refusal == words


def test_a_blocked_answer_is_explained() -> None:
    """The provider's words about a filtered answer are a refusal."""
    body = answer(finish="SAFETY")
    body["candidates"][0]["finishMessage"] = "Unsafe."
    assert decode(body).refusal == "Unsafe."


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "text/html"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"null", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b'{"candidates": []}', "application/json"),
        (b'{"candidates": {}, "key": "' + KEY.encode() + b'"}', "application/json"),
    ],
)
def test_what_is_no_answer(body: bytes, kind: str) -> None:
    """Anything else is a protocol error, without the key."""
    with pytest.raises(LMProtocolError) as caught:
        decode(body, kind)
    assert KEY not in repr((str(caught.value), caught.value.facts))


def test_a_stream_that_came_as_a_list() -> None:
    """A server that ignores ``alt=sse`` answers with all pieces at once."""
    found = decode([answer({"text": "a"}, finish=None), answer({"text": "b"}, usage=COUNTS)])
    assert (found.text, found.finish_reason, found.usage.total_tokens) == ("ab", "stop", 7)


def test_a_second_candidate_is_not_mixed_in() -> None:
    """One completion was asked for: others are left out."""
    body = answer({"text": "a"})
    body["candidates"].append({"content": {"parts": [{"text": "b"}]}, "index": 1})
    assert decode(body).text == "a"


# -- streams -------------------------------------------------------------------------------------


def test_a_stream() -> None:
    """Chunks as they come; usage may follow the reason to finish, and replaces what was said before."""
    into = read(
        answer({"text": "hm", "thought": True}, finish=None, usage={"promptTokenCount": 3, "totalTokenCount": 3}),
        answer({"text": "Hel"}, finish=None),
        answer({"text": "lo"}),
        {"usageMetadata": COUNTS},
        {"usageMetadata": {}},
    )
    assert into.take() == [LMChunk(0, reasoning="hm"), LMChunk(1, "Hel"), LMChunk(2, "lo")]
    assert into.complete
    assert into.response() == LMResponse(
        text="Hello",
        model="gemini-x",
        finish_reason="stop",
        usage=Usage(3, 4, 7, None, "provider"),
        response_id="r1",
        reasoning="hm",
    )


def test_a_stream_of_tool_calls() -> None:
    """Calls come whole; the reason to finish may come later, and the answer equals the one that is not streamed."""
    into = read(answer(calls(n=1), finish=None), answer(calls("now", "id7"), finish=None), answer(finish="STOP"))
    chunks = into.take()
    whole = decode(answer(calls(n=1), calls("now", "id7")))
    own = whole.tool_calls[0].id
    assert chunks == [
        LMChunk(0, tool_call=ToolCallDelta(0, own, "add", '{"n":1}')),
        LMChunk(1, tool_call=ToolCallDelta(1, "id7", "now", "{}")),
    ]
    assert into.response() == whole
    assert whole.finish_reason == "tool_calls"


def test_a_stream_is_whole_only_with_a_reason_to_finish() -> None:
    """Cut off before, it is not complete."""
    events = [answer({"text": "a"}, finish=None), answer({"text": "b"}, finish=None), answer({"text": "c"})]
    assert [read(*events[:count]).complete for count in range(4)] == [False, False, False, True]


def test_an_error_in_a_stream() -> None:
    """An error object among the events is the error it tells of, without the key."""
    told = {"error": {"code": 503, "message": f"overloaded {KEY}", "status": "UNAVAILABLE"}}
    for event in ("message", "error"):
        with pytest.raises(LMError) as caught:
            FORMAT.read_event(event, json.dumps(told), Collector("m"), secrets=(KEY,))
        failure = failure_of(caught.value)
        assert failure is not None
        assert failure.name == "overloaded"
        assert KEY not in repr((str(caught.value), caught.value.facts))


def test_an_event_that_is_no_json() -> None:
    """Malformed data is a protocol error, without the key; events of other names are passed over."""
    with pytest.raises(LMProtocolError) as caught:
        read("{" + KEY)
    assert KEY not in repr((str(caught.value), caught.value.facts))
    FORMAT.read_event("heartbeat", "{", Collector("m"))


# -- errors --------------------------------------------------------------------------------------


def told(code: int, status: str, said: str = "no", *details: Any) -> HttpResponse:
    """An error answer in Google's form."""
    body = {"error": {"code": code, "message": said, "status": status, "details": list(details)}}
    return HttpResponse(code, {}, json.dumps(body).encode())


WRONG_KEY = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}


def quota(id: str) -> dict[str, Any]:
    """Which limit was reached."""
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]}


@pytest.mark.parametrize(
    ("row", "given"),
    [
        ("invalid", told(400, "INVALID_ARGUMENT")),
        ("auth", told(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")),
        ("auth", told(400, "INVALID_ARGUMENT", "no", WRONG_KEY)),
        (
            "context_length",
            told(
                400,
                "INVALID_ARGUMENT",
                "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
            ),
        ),
        ("invalid", told(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")),
        ("auth", told(401, "UNAUTHENTICATED")),
        ("auth", told(403, "PERMISSION_DENIED")),
        ("invalid", told(404, "NOT_FOUND", "models/x is not found")),
        ("rate", told(429, "RESOURCE_EXHAUSTED", "no", RETRY)),
        ("rate", told(429, "RESOURCE_EXHAUSTED", "no", quota("GenerateRequestsPerMinutePerProject"))),
        ("quota", told(429, "RESOURCE_EXHAUSTED", "no", quota("GenerateRequestsPerDayPerProject-FreeTier"), RETRY)),
        ("server", told(500, "INTERNAL")),
        ("overloaded", told(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")),
        ("gateway_timeout", told(504, "DEADLINE_EXCEEDED")),
    ],
)
def test_error_answers(row: str, given: HttpResponse) -> None:
    """Each status word has its row, in an answer, in a list, and inside a stream."""
    failure = failure_of(error_from_response(given))
    assert failure is not None
    assert failure.name == row
    listed = failure_of(error_from_response(HttpResponse(given.status, {}, b"[" + given.body + b"]")))
    assert listed == failure
    with pytest.raises(LMError) as caught:
        read(given.body.decode())
    assert failure_of(caught.value) == failure


@pytest.mark.parametrize(
    ("delay", "headers", "seconds"),
    [
        ("34s", {}, 34.0),
        ("34.074824224s", {}, 34.074824224),
        ("34s", {"retry-after": "5"}, 5.0),
        ("soon", {}, None),
        ("-1s", {}, None),
        (34, {}, None),
        (None, {}, None),
    ],
)
def test_a_wait_in_the_body(delay: Any, headers: dict[str, str], seconds: float | None) -> None:
    """RetryInfo says how long to wait where no header does; nonsense is no wait."""
    body = told(429, "RESOURCE_EXHAUSTED", "no", 7, {"retryDelay": delay}).body
    error = error_from_response(HttpResponse(429, headers, body))
    assert isinstance(error, LMRateLimited)
    assert error.retry_after == seconds


def test_the_wait_inside_a_stream() -> None:
    """An error event keeps its wait."""
    with pytest.raises(LMRateLimited) as caught:
        read(told(429, "RESOURCE_EXHAUSTED", "no", RETRY).body.decode())
    assert caught.value.retry_after == 34.5


def test_a_wrong_key_does_not_show() -> None:
    """A body that echoes the key does not put it into the error."""
    error = error_from_response(told(400, "INVALID_ARGUMENT", f"API key not valid: {KEY}", WRONG_KEY), secrets=(KEY,))
    assert isinstance(error, LMAuthError)
    assert KEY not in repr((str(error), error.facts))


# -- there and back ------------------------------------------------------------------------------


def test_a_tool_call_goes_back_as_it_came() -> None:
    """What the model asked for is what it sees of itself in the next turn, without an id that it never gave."""
    asked = [calls(n=1, deep={"a": [1, "é"]}), calls("now", "id7")]
    found = decode(answer({"text": "ok"}, *asked))
    turns = [*USER, Message("assistant", found.text, tool_calls=found.tool_calls)]
    turns += [Message("tool", "2", tool_call_id=call.id) for call in found.tool_calls]
    contents = body_of(*turns, tools=(ADD,))["contents"]
    assert contents[1]["parts"] == [{"text": "ok"}, *asked]
    assert contents[2]["parts"] == [
        {"functionResponse": {"name": "add", "response": {"output": "2"}}},
        {"functionResponse": {"id": "id7", "name": "now", "response": {"output": "2"}}},
    ]


def test_a_signature_goes_back_as_it_came() -> None:
    """The mark of the thoughts behind a tool call is read, whole and streamed, and sent back with the conversation."""
    part = {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "c2lnbmVk"}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    whole = GeminiGenerate().decode(HttpResponse(200, {}, json.dumps(body).encode()), model="gemini-3-pro")
    collector = Collector("gemini-3-pro")
    GeminiGenerate().read_event("message", json.dumps(body), collector)
    assert whole.tool_calls == collector.response().tool_calls
    (call,) = whole.tool_calls
    assert call.signature == "c2lnbmVk"
    turns = (Message("user", "?"), Message("assistant", None, whole.tool_calls), Message("tool", "2", (), call.id))
    request = LMRequest(turns, model="gemini-3-pro")
    settings = ProviderSettings.model_validate({"kind": "gemini"})
    sent = json.loads(GeminiGenerate().encode(request, settings, Credentials("k")).body)
    assert sent["contents"][1]["parts"] == [{**part, "functionCall": {"name": "add", "args": {"a": 1}}}]
