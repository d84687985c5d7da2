"""Streams as real servers send them, byte for byte, with the answers that they hold; and a reader for them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from dspex.actors.http.transport import HttpResponse
from dspex.actors.lm.chunks import LMChunk
from dspex.actors.lm.stream_decoder import StreamDecoder
from dspex.actors.lm.values import UNKNOWN_USAGE, LMResponse, ToolCall, Usage
from dspex.actors.wire_format import WireFormat

KEY: Final = "test-key-12345"
_DATA: Final = Path(__file__).parents[1] / "data" / "streams"


@dataclass(frozen=True)
class Recording:
    """A stream, what it says, and how many of its bytes may be missing at the end without loss to the answer."""

    body: bytes
    answer: LMResponse
    spare: bytes = b"data: [DONE]"

    @property
    def needed(self) -> int:
        """How many bytes hold the whole answer but its usage."""
        return self.body.index(self.spare)


def events(*chunks: Any, done: bool = True, end: str = "\n\n") -> bytes:
    """A stream of unnamed events, with ``[DONE]`` at its end."""
    texts = [chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    return "".join(f"data: {text}{end}" for text in [*texts, *(["[DONE]"] if done else [])]).encode()


def named(*chunks: dict[str, Any]) -> bytes:
    """A stream of events that are named after their type."""
    return "".join(f"event: {chunk['type']}\ndata: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def decoder(
    format: WireFormat, content_type: str = "text/event-stream; charset=utf-8", **headers: str
) -> StreamDecoder:
    """A decoder of an answer with this head."""
    found = {"content-type": content_type, "x-request-id": "req_1"} if content_type else {}
    return StreamDecoder(format, HttpResponse(200, found | headers), model="asked", secrets=(KEY,))


def read(decoding: StreamDecoder, pieces: Iterable[bytes]) -> list[LMChunk]:
    """The chunks of a body that comes in these pieces."""
    chunks: list[LMChunk] = []
    for piece in pieces:
        chunks += decoding.feed(piece)
        if decoding.ended:
            return chunks
    return chunks + decoding.close()


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The body cut at these places."""
    places = [0, *sorted(cuts), len(body)]
    return [body[begin:end] for begin, end in pairwise(places)]


ONE_CALL: Final = (ToolCall("call_3c54cbbc17a540ca94dd2c26", "weather", '{"city": "mock-city"}'),)

_CHAT: Final = LMResponse(
    text="Grüße 😀!", model="m1", finish_reason="stop", usage=UNKNOWN_USAGE, request_id="req_1", response_id="c1"
)
_SAID: Final = (delta(role="assistant", content=""), delta(content="Grüße "), delta(content="😀!"))
_COUNTED: Final = Usage(5, 6, 11, None, "provider")
_USAGE: Final = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}


def _without_finish(chunk: dict[str, Any]) -> dict[str, Any]:
    """As litellm sends it: the key is there only at the end."""
    return chunk | {"choices": [{"index": 0, "delta": chunk["choices"][0]["delta"]}]}


CHAT: Final[dict[str, Recording]] = {
    "llmock": Recording(
        (_DATA / "llmock_chat.sse").read_bytes(),
        LMResponse(
            text="Hello! LLMock handled this request for gpt-4o.",
            model="gpt-4o",
            finish_reason="stop",
            usage=Usage(1, 11, 12, None, "provider"),
            request_id="req_1",
            response_id=json.loads((_DATA / "llmock_chat.sse").read_bytes().split(b"\n")[0][6:])["id"],
        ),
        b'"stop"}],"usage":null}\n\n',
    ),
    "llmock, tools": Recording(
        (_DATA / "llmock_chat_tools.sse").read_bytes(),
        LMResponse(
            text="",
            model="gpt-4o",
            finish_reason="tool_calls",
            usage=Usage(1, 5, 6, None, "provider"),
            request_id="req_1",
            response_id=json.loads((_DATA / "llmock_chat_tools.sse").read_bytes().split(b"\n")[0][6:])["id"],
            tool_calls=ONE_CALL,
        ),
        b'"tool_calls"}],"usage":null}\n\n',
    ),
    # A mock server on Node: an own usage chunk, no null usages; text cut between the halves of a character.
    "node": Recording(
        events(
            _SAID[0],
            r'{"id":"c1","model":"m1","choices":[{"index":0,"delta":{"content":"Grüße \ud83d"}}]}',
            r'{"id":"c1","model":"m1","choices":[{"index":0,"delta":{"content":"\ude00!"}}]}',
            delta("stop"),
            {"id": "c1", "model": "m1", "choices": [], "usage": _USAGE},
        ),
        replace(_CHAT, usage=_COUNTED),
        b'"stop"}]}\n\n',
    ),
    # litellm's proxy: usage beside an empty choice, no finish_reason key elsewhere.
    "litellm": Recording(
        events(
            *map(_without_finish, _SAID),
            delta("stop"),
            {"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": {}}], "usage": _USAGE},
        ),
        replace(_CHAT, usage=_COUNTED),
        b'"stop"}]}\n\n',
    ),
    # llm-katan: usage on the chunk with the finish_reason, JSON with spaces.
    "llm-katan": Recording(
        events(*_SAID, delta("stop") | {"usage": _USAGE}),
        replace(_CHAT, usage=_COUNTED),
        b"\n\ndata: [DONE]",
    ),
    # llama-cpp-python: no usage at all, comments between the events, CRLF.
    "llama-cpp": Recording(
        b": ping\r\n\r\n" + events(*_SAID, delta("stop"), end="\r\n\r\n"), _CHAT, b"\r\n\r\ndata: [DONE]"
    ),
    # No finish_reason: [DONE] is the end.
    "reasonless": Recording(events(*map(_without_finish, _SAID)), replace(_CHAT, finish_reason=None)),
    # OpenAI itself: obfuscation, null usages, details of the counts.
    "openai": Recording(
        events(
            *(chunk | {"usage": None, "obfuscation": "aB3dE", "service_tier": "default"} for chunk in _SAID),
            delta("stop") | {"usage": None, "obfuscation": "x"},
            {
                "id": "c1",
                "model": "m1",
                "choices": [],
                "obfuscation": "",
                "usage": _USAGE
                | {
                    "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 3},
                },
            },
        ),
        replace(_CHAT, usage=Usage(5, 6, 11, 2, "provider", 1, 3)),
        b'"obfuscation": "x"}\n\n',
    ),
}

RESPONSES: Final[dict[str, Recording]] = {
    "llmock": Recording(
        (_DATA / "llmock_responses.sse").read_bytes(),
        LMResponse(
            text="Hello! LLMock handled this request for gpt-4o.",
            model="gpt-4o",
            finish_reason="stop",
            usage=Usage(1, 11, 12, 0, "provider", None, 0),
            request_id="req_1",
            response_id=json.loads((_DATA / "llmock_responses.sse").read_bytes().split(b"\n")[1][6:])["response"]["id"],
        ),
        b"}}}\n\n",
    ),
    "llmock, tools": Recording(
        (_DATA / "llmock_responses_tools.sse").read_bytes(),
        LMResponse(
            text="",
            model="gpt-4o",
            finish_reason="tool_calls",
            usage=Usage(1, 5, 6, 0, "provider", None, 0),
            request_id="req_1",
            response_id=json.loads((_DATA / "llmock_responses_tools.sse").read_bytes().split(b"\n")[1][6:])["response"][
                "id"
            ],
            tool_calls=(ToolCall("call_4e53b1affc1d498087aa6156", "weather", '{"city": "mock-city"}'),),
        ),
        b"}}}\n\n",
    ),
}
