"""From bytes to chunks and to the whole answer: streams, answers that come whole, and everything that is neither."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.http.transport import HttpResponse
from dspex.actors.lm.chunks import LMChunk, ToolCallDelta
from dspex.actors.lm.failures import failure_of
from dspex.actors.lm.stream_decoder import StreamDecoder
from dspex.actors.lm.values import LMResponse, ToolCall, Usage
from dspex.actors.wire_format import WireFormat
from dspex.actors.wire_formats.openai_chat import OpenAIChat
from dspex.actors.wire_formats.openai_responses import OpenAIResponses
from dspex.runtime.errors import LMError, LMProtocolError, LMRateLimited
from kit.recorded_streams import CHAT, KEY, RESPONSES, Recording, decoder, delta, events, read, split

FORMAT = OpenAIChat()
RECORDED: dict[str, tuple[WireFormat, Recording]] = {
    **{f"chat, {name}": (FORMAT, found) for name, found in CHAT.items()},
    **{f"responses, {name}": (OpenAIResponses(), found) for name, found in RESPONSES.items()},
}
WHOLE: dict[str, Any] = {
    "id": "c1",
    "model": "m1",
    "choices": [
        {
            "message": {
                "content": "Hi",
                "reasoning_content": "Hm",
                "tool_calls": [{"id": "t1", "function": {"name": "f", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_stream_is_its_answer(name: str) -> None:
    """Each server's stream gives the answer, and chunks that are numbered and together say the same."""
    format, recorded = RECORDED[name]
    decoding = decoder(format)
    chunks = read(decoding, [recorded.body])
    assert decoding.response() == recorded.answer
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert "".join(chunk.text for chunk in chunks) == recorded.answer.text
    called = "".join(chunk.tool_call.arguments for chunk in chunks if chunk.tool_call)
    assert called == "".join(call.arguments for call in recorded.answer.tool_calls)


@pytest.mark.parametrize("name", RECORDED)
@given(places=st.lists(st.floats(0, 1), max_size=12))
def test_where_the_bytes_are_cut_changes_nothing(name: str, places: list[float]) -> None:
    """Reads may end anywhere, inside characters too: same chunks, same answer."""
    format, recorded = RECORDED[name]
    expected = read(decoder(format), [recorded.body])
    decoding = decoder(format)
    cuts = [round(place * len(recorded.body)) for place in places]
    assert read(decoding, split(recorded.body, cuts)) == expected
    assert decoding.response() == recorded.answer


@pytest.mark.parametrize("name", RECORDED)
def test_byte_by_byte(name: str) -> None:
    """Each byte on its own gives the same chunks."""
    format, recorded = RECORDED[name]
    pieces = [recorded.body[place : place + 1] for place in range(len(recorded.body))]
    assert read(decoder(format), pieces) == read(decoder(format), [recorded.body])


@pytest.mark.parametrize("name", RECORDED)
def test_a_stream_that_stops_is_no_answer(name: str) -> None:
    """Cut before its terminal event, wherever that is: LMProtocolError. After it, the same answer but its usage."""
    format, recorded = RECORDED[name]
    for length in range(len(recorded.body)):
        found = outcome(decoder(format), recorded.body[:length])
        if length < recorded.needed:
            assert isinstance(found, LMProtocolError), length
        elif length >= recorded.needed + len(recorded.spare):
            assert isinstance(found, LMResponse), length
        if isinstance(found, LMResponse):
            assert found in {recorded.answer, replace(recorded.answer, usage=Usage())}
        else:
            assert failure_of(found)


def test_what_came_of_a_stream_that_stops() -> None:
    """Text and usage so far are kept for the error's reader."""
    decoding = decoder(FORMAT)
    read(decoding, [events(delta(content="Half") | {"usage": {"prompt_tokens": 3}}, done=False)])
    with pytest.raises(LMProtocolError, match="after 1 chunks without a terminal event") as caught:
        decoding.response()
    assert caught.value.facts["request_id"] == "req_1"
    assert (decoding.partial.text, decoding.partial.usage.input_tokens) == ("Half", 3)


def test_nothing_is_read_after_the_end() -> None:
    """After the last event ``ended`` is true, and what follows changes nothing."""
    decoding = decoder(FORMAT)
    body = events(delta("stop", content="x"))
    assert decoding.feed(body + b"data: nonsense\n\n") == [LMChunk(0, "x")]
    assert decoding.ended
    assert decoding.feed(b"data: nonsense\n\n") == decoding.close() == []
    assert decoding.response().text == "x"


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/x+json", ""]
)
def test_an_answer_may_come_whole(content_type: str) -> None:
    """JSON to a stream request is the whole answer: each part is one chunk, tool calls too."""
    decoding = decoder(FORMAT, content_type)
    body = b" \n" + json.dumps(WHOLE).encode()
    chunks = read(decoding, [body[:1], body[1:9], body[9:]])
    assert chunks == [
        LMChunk(0, reasoning="Hm"),
        LMChunk(1, "Hi"),
        LMChunk(2, tool_call=ToolCallDelta(0, "t1", "f", "{}")),
    ]
    answer = decoding.response()
    assert (answer.text, answer.reasoning, answer.tool_calls) == ("Hi", "Hm", (ToolCall("t1", "f", "{}"),))
    assert (answer.model, answer.response_id, answer.finish_reason) == ("m1", "c1", "tool_calls")
    assert answer.usage == Usage(1, 2, 3, None, "provider")


def test_a_stream_may_have_no_content_type() -> None:
    """Then its first character tells that it is no JSON."""
    decoding = decoder(FORMAT, "")
    read(decoding, [b"\n", b"d", events(delta("stop", content="x"))[1:]])
    assert decoding.response().text == "x"


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_half_of_a_whole_answer_is_refused(cut: int) -> None:
    """Truncated JSON is LMProtocolError."""
    decoding = decoder(FORMAT, "application/json")
    with pytest.raises(LMProtocolError):
        read(decoding, [json.dumps(WHOLE).encode()[:cut]])


def test_an_error_may_come_whole() -> None:
    """An error object in JSON is that error."""
    decoding = decoder(FORMAT, "application/json")
    with pytest.raises(LMRateLimited, match="slow"):
        read(decoding, [b'{"error": {"message": "slow", "code": 429}}'])


def test_a_whole_answer_has_a_bound() -> None:
    """What grows over it is refused at once."""
    decoding = StreamDecoder(FORMAT, HttpResponse(200, {"content-type": "application/json"}), model="m", max_body=10)
    decoding.feed(b"x" * 10)
    with pytest.raises(LMProtocolError, match="at most 10 bytes") as caught:
        decoding.feed(b"x")
    assert caught.value.facts["failure"] == "too_large"


@pytest.mark.parametrize("body", [b"<html>Sign in, " + KEY.encode(), b"<html>" + KEY.encode() + b"x" * 50_000, b""])
def test_other_content_is_refused_without_a_word_of_it(body: bytes) -> None:
    """HTML and the like: LMProtocolError with kind, length and hash, never the text: that may be an answer."""
    decoding = decoder(FORMAT, "text/html")
    with pytest.raises(LMProtocolError, match="expected a stream of events, got text/html, ") as caught:
        read(decoding, [body])
    assert KEY not in str(caught.value)
    assert "<html>" not in str(caught.value)
    assert ("SHA-256" in str(caught.value)) == bool(body)


def test_other_content_is_not_read_to_its_end() -> None:
    """A long page is refused as soon as its beginning is there."""
    decoding = decoder(FORMAT, "text/html")
    decoding.feed(b"<html>")
    with pytest.raises(LMProtocolError, match="got text/html, "):
        decoding.feed(b"x" * 20_000)


@pytest.mark.parametrize(
    "data", ["{", "", "null", "[]", '"x"', "5", "{}", '{"choices":', "[" * 50_000, f"{KEY}", "{ the answer is Bob"]
)
def test_malformed_events_are_refused(data: str) -> None:
    """What is no JSON object in an event is LMProtocolError with the request's id, and without what the event said."""
    decoding = decoder(FORMAT)
    with pytest.raises(LMProtocolError) as caught:
        read(decoding, [events(delta(content="x"), data)])
    assert caught.value.facts["request_id"] == "req_1"
    assert caught.value.facts["status"] == 200
    assert KEY not in str(caught.value)
    assert "Bob" not in str(caught.value)
    assert decoding.partial.text == "x"


def test_an_event_without_bound_is_refused() -> None:
    """A line that never ends does not fill the memory."""
    decoding = decoder(FORMAT)
    with pytest.raises(LMProtocolError) as caught:
        list(map(decoding.feed, [b"x" * 100_000] * 100))
    assert caught.value.facts["failure"] == "too_large"


def outcome(decoding: StreamDecoder, body: bytes) -> LMResponse | LMError:
    """The answer of a body, or the error that it raises."""
    try:
        read(decoding, [body])
        return decoding.response()
    except LMError as error:
        return error


BYTES = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.one_of(
            st.sampled_from([delta(content="x"), delta("stop"), "[DONE]", {"error": {"code": 500}}]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(
                            [
                                "choices",
                                "delta",
                                "index",
                                "content",
                                "finish_reason",
                                "usage",
                                "error",
                                "tool_calls",
                                "id",
                                "function",
                                "arguments",
                                "name",
                                "reasoning",
                                "refusal",
                                "model",
                                "type",
                                "response",
                                "output",
                                "item",
                                "item_id",
                                "output_index",
                                "part",
                                "status",
                                "code",
                                "message",
                                "text",
                            ]
                        ),
                        inner,
                    )
                ),
                max_leaves=12,
            ),
        ),
        max_size=4,
    ).map(lambda chunks: events(*chunks)),
)


@pytest.mark.parametrize("format", [OpenAIChat(), OpenAIResponses()])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", ""])
@given(body=BYTES)
def test_no_bytes_break_the_reader(format: WireFormat, content_type: str, body: bytes) -> None:
    """Anything is an answer or an LMError of a row in the table, and its texts can be written."""
    found = outcome(decoder(format, content_type), body)
    if isinstance(found, LMError):
        assert failure_of(found)
        str(found).encode()
    else:
        repr(found).encode()
        (found.text + (found.reasoning or "") + (found.refusal or "")).encode()
        assert all((call.id + call.name + call.arguments).encode() is not None for call in found.tool_calls)
