"""Anthropic's and Gemini's protocols against anything: nothing but typed errors, nothing lost, nothing made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.configuration.provider_settings import ProviderSettings
from dspex.actors.http.transport import HttpResponse
from dspex.actors.lm.stream_collector import Collector
from dspex.actors.lm.stream_decoder import StreamDecoder
from dspex.actors.lm.values import LMRequest, LMResponse, Message, ToolCall
from dspex.actors.providers.credentials import Credentials
from dspex.actors.wire_format import WireFormat
from dspex.actors.wire_formats.anthropic import AnthropicMessages
from dspex.actors.wire_formats.gemini import GeminiGenerate
from dspex.runtime.errors import LMError, LMInvalidRequest

FORMATS: dict[str, WireFormat] = {"anthropic": AnthropicMessages(), "gemini": GeminiGenerate()}
KEY = "key-0123456789"
KINDS = pytest.mark.parametrize("kind", list(FORMATS))

# -- anything that may come ----------------------------------------------------------------------

ANTHROPIC_TYPES = (
    "message_start message_delta message_stop content_block_start content_block_delta content_block_stop error ping "
    "text thinking tool_use text_delta thinking_delta input_json_delta overloaded_error"
)
KEYS = (
    "type message content content_block delta index text thinking partial_json id name input usage input_tokens "
    "output_tokens stop_reason stop_details error details model candidates parts functionCall args thought "
    "finishReason promptFeedback blockReason usageMetadata promptTokenCount candidatesTokenCount responseId retryDelay"
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", KEY, "STOP", "SAFETY", "end_turn", "dspex_answer", *ANTHROPIC_TYPES.split()])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=6),
    max_leaves=20,
)
events = st.tuples(
    st.sampled_from(["message", *ANTHROPIC_TYPES.split(), ""]),
    st.text(max_size=10) | anything.map(json.dumps),
)


@KINDS
@given(found=st.lists(events, max_size=8))
def test_no_stream_breaks_the_reader(kind: str, found: list[tuple[str, str]]) -> None:
    """Whatever events come: chunks and a response that can be written, or an LMError without the key."""
    into = Collector("m")

    def read() -> None:
        for event, data in found:
            FORMATS[kind].read_event(event, data, into, secrets=(KEY,))

    error = raised(read)
    assert error is None or KEY not in repr((str(error), error.facts))
    for chunk in into.take():
        repr(chunk).encode()
    check_response(into.response())


@KINDS
@given(body=st.binary(max_size=20) | anything.map(lambda value: json.dumps(value).encode()))
def test_no_answer_breaks_the_reader(kind: str, body: bytes) -> None:
    """Whatever a server answers: a response that can be written, or an LMError without the key."""
    response = HttpResponse(200, {}, body)
    error = raised(lambda: check_response(FORMATS[kind].decode(response, model="m", secrets=(KEY,))))
    assert error is None or KEY not in repr((str(error), error.facts))
    str(error).encode()


def raised(do: Callable[[], object]) -> LMError | None:
    """The typed error that it ends with, if any; another one is a failure."""
    try:
        do()
    except LMError as error:
        return error
    return None


def check_response(answer: LMResponse) -> None:
    """Its texts can be written, its counts are counts."""
    "".join([answer.text, answer.model, answer.reasoning or "", answer.refusal or ""]).encode()
    for call in answer.tool_calls:
        f"{call.id}{call.name}{call.arguments}".encode()
    usage = answer.usage
    assert all(count is None or count >= 0 for count in (usage.input_tokens, usage.output_tokens, usage.total_tokens))


# -- requests ------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=12)
objects = st.dictionaries(texts, st.integers() | texts | st.lists(texts, max_size=2), max_size=3)
parts = st.fixed_dictionaries({"type": st.just("text"), "text": texts}) | st.dictionaries(
    st.sampled_from(["type", "text", "image_url", "file", "cache_control"]),
    texts | st.integers() | st.sampled_from(["text", "image_url", "file"]),
    max_size=3,
)
turns = st.builds(
    Message,
    st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    texts | st.lists(parts, max_size=3) | st.none(),
    st.lists(st.builds(ToolCall, texts, texts, texts | objects.map(json.dumps)), max_size=2).map(tuple),
    st.none() | texts,
    st.none() | texts,
)


def sent(kind: str, messages: tuple[Message, ...], **fields: Any) -> dict[str, Any]:
    """The body that is sent."""
    settings = ProviderSettings.model_validate({"kind": kind, "base_url": "http://127.0.0.1:9", "default_model": "m"})
    body = json.loads(FORMATS[kind].encode(LMRequest(messages, **fields), settings, Credentials()).body)
    assert isinstance(body, dict)
    return body


def strings(value: object) -> list[str]:
    """All texts within a JSON value, keys too."""
    if isinstance(value, dict):
        return [text for pair in value.items() for inner in pair for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


@KINDS
@given(messages=st.lists(turns, min_size=1, max_size=5).map(tuple))
def test_nothing_said_is_dropped(kind: str, messages: tuple[Message, ...]) -> None:
    """A conversation is refused with a typed error, or each text of it is sent, in alternating roles."""
    error = raised(lambda: sent(kind, messages))
    if error is not None:
        assert error.field
        assert isinstance(error, LMInvalidRequest)
        return
    body = sent(kind, messages)
    conversation = body["messages"] if kind == "anthropic" else body["contents"]
    roles = [turn["role"] for turn in conversation]
    assert all(one != two for one, two in pairwise(roles))
    found = "\0".join(strings(body))
    for turn in messages:
        content = turn.content if isinstance(turn.content, tuple) else ({"type": "text", "text": turn.content or ""},)
        assert all(part["text"] in found for part in content if part["type"] == "text")
        assert turn.name is None or turn.role == "tool"
        for call in turn.tool_calls:
            assert call.name in found
            assert all(text in found for text in strings(json.loads(call.arguments or "{}")))


SECRET = "the prompt"
UNSAYABLE: dict[str, Any] = {
    "arguments": Message("assistant", tool_calls=(ToolCall("a", "b", SECRET),)),
    "name": Message("user", "Hi", name=SECRET),
    "address": Message("user", ({"type": "image_url", "image_url": {"url": SECRET}},)),
    "data": Message("user", ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{SECRET}"}},)),
    "text": Message("user", ({"type": "text", "text": [SECRET]},)),
    "type": Message("user", ({"type": [SECRET]},)),
}


@KINDS
@pytest.mark.parametrize("what", UNSAYABLE)
def test_no_prompt_stands_in_an_error(kind: str, what: str) -> None:
    """A refusal says what came, and quotes nothing of it: errors are kept, prompts are not."""
    with pytest.raises(LMInvalidRequest) as caught:
        sent(kind, (UNSAYABLE[what],))
    assert SECRET not in repr((str(caught.value), caught.value.facts))


@pytest.mark.parametrize(("kind", "key"), [("anthropic", "system"), ("gemini", "systemInstruction")])
def test_no_further_key_stands_in_an_error(kind: str, key: str) -> None:
    """Nor is a further body key quoted that is set already."""
    with pytest.raises(LMInvalidRequest) as caught:
        sent(kind, (Message("system", "x"), Message("user", "Hi")), extra={key: SECRET})
    assert SECRET not in repr((str(caught.value), caught.value.facts))


@KINDS
@given(
    tools=st.lists(objects | st.fixed_dictionaries({"type": st.just("function"), "function": objects}), max_size=2),
    choice=st.none() | texts | objects | st.sampled_from(["auto", "none", "required"]),
    wanted=st.none() | st.dictionaries(st.sampled_from(["type", "json_schema"]), texts | objects),
    extra=st.dictionaries(st.sampled_from(["system", "contents", "generationConfig", "output_config", "x"]), objects),
)
def test_no_option_breaks_the_writer(kind: str, tools: Any, choice: Any, wanted: Any, extra: Any) -> None:
    """Whatever options a request has, they are sent or refused with a typed error that names the field."""
    request: dict[str, Any] = {"tools": tuple(tools), "tool_choice": choice, "response_format": wanted, "extra": extra}
    error = raised(lambda: sent(kind, (Message("user", "Hi"),), **request))
    assert error is None or (isinstance(error, LMInvalidRequest) and error.field)


# -- whole and streamed --------------------------------------------------------------------------


def pieces(text: str, cuts: list[int]) -> list[str]:
    """The text, cut at some places."""
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(places)]


def anthropic_case(text: str, arguments: list[dict[str, Any]], cuts: list[int]) -> tuple[Any, list[tuple[str, Any]]]:
    """An answer, and the events of the same answer in pieces."""
    blocks: list[Any] = [{"type": "text", "text": text}]
    blocks += [{"type": "tool_use", "id": f"t{n}", "name": "add", "input": given} for n, given in enumerate(arguments)]
    stop = "tool_use" if arguments else "end_turn"
    head: dict[str, Any] = {"id": "msg", "model": "claude", "type": "message", "content": [], "stop_reason": None}
    found: list[Any] = [{"type": "message_start", "message": head | {"usage": {"input_tokens": 3, "output_tokens": 1}}}]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            begin, deltas = (
                block | {"text": ""},
                [{"type": "text_delta", "text": piece} for piece in pieces(text, cuts)],
            )
        else:
            begin, written = (
                block | {"input": {}},
                json.dumps(block["input"], ensure_ascii=False, separators=(",", ":")),
            )
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(written, cuts)]
        found.append({"type": "content_block_start", "index": index, "content_block": begin})
        found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        found.append({"type": "content_block_stop", "index": index})
    found.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 5}})
    found.append({"type": "message_stop"})
    whole = head | {"content": blocks, "stop_reason": stop, "usage": {"input_tokens": 3, "output_tokens": 5}}
    return whole, [(event["type"], event) for event in found]


def gemini_case(text: str, arguments: list[dict[str, Any]], cuts: list[int]) -> tuple[Any, list[tuple[str, Any]]]:
    """An answer, and the events of the same answer in pieces."""
    head = {"modelVersion": "gemini", "responseId": "r"}
    calls = [{"functionCall": {"name": "add", "args": given}} for given in arguments]
    counts = {"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8}

    def answer(*given: Any, **more: Any) -> dict[str, Any]:
        return {**head, "candidates": [{"content": {"parts": list(given)}, **more}]}

    found = [answer({"text": piece}) for piece in pieces(text, cuts)] + [answer(call) for call in calls]
    found.append(answer(finishReason="STOP") | {"usageMetadata": counts})
    return answer({"text": text}, *calls, finishReason="STOP") | {"usageMetadata": counts}, [("", e) for e in found]


CASES = {"anthropic": anthropic_case, "gemini": gemini_case}
cases = {"text": texts, "arguments": st.lists(objects, max_size=2), "cuts": st.lists(st.integers(0, 50), max_size=4)}


def wire(found: list[tuple[str, Any]]) -> bytes:
    """The bytes of a stream."""
    named = [(f"event: {name}\n" if name else "", json.dumps(data)) for name, data in found]
    return "".join(f"{name}data: {data}\n\n" for name, data in named).encode()


def streamed(kind: str, data: bytes, cuts: list[int]) -> LMResponse:
    """The answer that a stream of these bytes is, read in pieces."""
    decoder = StreamDecoder(FORMATS[kind], HttpResponse(200, {"content-type": "text/event-stream"}), model="asked")
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        decoder.feed(data[start:end])
    decoder.close()
    return decoder.response()


@KINDS
@given(**cases, reads=st.lists(st.integers(0, 2000), max_size=5))
def test_a_streamed_answer_is_the_whole_one(
    kind: str, text: str, arguments: list[dict[str, Any]], cuts: list[int], reads: list[int]
) -> None:
    """However an answer is cut into events and bytes, it is the one that comes whole."""
    whole, found = CASES[kind](text, arguments, cuts)
    expected = FORMATS[kind].decode(HttpResponse(200, {}, json.dumps(whole).encode()), model="asked")
    assert streamed(kind, wire(found), reads) == expected
    assert expected.text == text
    assert [json.loads(call.arguments) for call in expected.tool_calls] == arguments


@KINDS
@given(**cases, cut=st.integers(0, 5000))
def test_a_stream_that_is_cut_off_is_never_whole(
    kind: str, text: str, arguments: list[dict[str, Any]], cuts: list[int], cut: int
) -> None:
    """Without its terminal event a stream is an error, wherever it stopped."""
    whole, found = CASES[kind](text, arguments, cuts)
    before_last = wire(found[:-1])
    with pytest.raises(LMError):
        streamed(kind, before_last[: cut % (len(before_last) + 1)], [])
    assert FORMATS[kind].decode(HttpResponse(200, {}, json.dumps(whole).encode()), model="asked").finish_reason


@KINDS
@given(arguments=st.lists(objects, min_size=1, max_size=3))
def test_tool_calls_go_there_and_back(kind: str, arguments: list[dict[str, Any]]) -> None:
    """The calls of an answer, written into the next request, are what the model wrote."""
    whole, _ = CASES[kind]("ok", arguments, [])
    answer = FORMATS[kind].decode(HttpResponse(200, {}, json.dumps(whole).encode()), model="asked")
    results = [Message("tool", "done", tool_call_id=call.id) for call in answer.tool_calls]
    messages = (Message("user", "Hi"), Message("assistant", answer.text, answer.tool_calls), *results)
    body = sent(kind, messages)
    if kind == "anthropic":
        assert body["messages"][1]["content"] == whole["content"]
        assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == [
            call.id for call in answer.tool_calls
        ]
    else:
        assert body["contents"][1]["parts"] == whole["candidates"][0]["content"]["parts"]
        assert len(body["contents"][2]["parts"]) == len(arguments)
