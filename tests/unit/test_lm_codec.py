"""Answers as the cache keeps them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from dspex.actors.lm.codec import cacheable, decode_response, encode_response
from dspex.actors.lm.values import Attempt, LMResponse, ToolCall, Usage
from dspex.runtime.errors import StoreError

ANSWER = LMResponse(
    text="Grüße, \U0001f30d and a half \udc80",
    model="m-2026",
    finish_reason="tool_calls",
    usage=Usage(10, 5, 15, source="provider"),
    request_id="req-1",
    response_id="resp-1",
    reasoning="I think",
    tool_calls=(ToolCall("1", "f", '{"a": 1}'),),
    provider="p",
    attempts=(Attempt(1, 200, 0.5),),
    cost=Decimal("0.01"),
    time_to_first_chunk=0.1,
)


def test_an_answer_comes_back_as_a_hit() -> None:
    """What was said is the same; nothing was sent for it, so it cost nothing and nobody was tried."""
    found = decode_response(encode_response(ANSWER))
    assert (found.text, found.model, found.finish_reason) == (ANSWER.text, "m-2026", "tool_calls")
    assert (found.reasoning, found.tool_calls, found.response_id) == ("I think", ANSWER.tool_calls, "resp-1")
    assert (found.provider, found.cache_hit, found.refusal) == ("p", True, None)
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (0, 0, 0)
    assert (found.cost, found.attempts, found.request_id, found.time_to_first_chunk) == (Decimal(0), (), None, None)


def test_the_text_is_plain_ascii_json() -> None:
    """Any file takes it, halves of surrogate pairs included."""
    assert encode_response(ANSWER).isascii()
    assert json.loads(encode_response(ANSWER))["text"] == ANSWER.text


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"finish_reason": "stop"}, True),
        ({"finish_reason": "tool_calls"}, True),
        ({"finish_reason": "length"}, False),
        ({"finish_reason": "content_filter"}, False),
        ({"finish_reason": None}, False),
        ({"finish_reason": "stop", "refusal": "No."}, False),
        ({"finish_reason": "stop", "refusal": ""}, False),
        ({"finish_reason": "stop", "cache_hit": True}, False),
    ],
)
def test_only_whole_answers_are_kept(fields: dict[str, Any], kept: bool) -> None:
    """Truncated, filtered and refused ones are not, nor those that came from the cache."""
    assert cacheable(LMResponse(text="x", model="m", **fields)) is kept


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "answer"),
        ("{", "answer"),
        ("[1]", "answer"),
        ("{}", "answer"),
        ('{"text": 1, "model": "m", "provider": "p"}', "text"),
        ('{"text": "", "provider": "p"}', "model"),
        ('{"text": "", "model": "m", "provider": "p", "finish_reason": 3}', "finish_reason"),
        ('{"text": "", "model": "m", "provider": "p", "tool_calls": [["1", "f"]]}', "tool_calls"),
        ('{"text": "", "model": "m", "provider": "p", "tool_calls": [["1", "f", 2]]}', "tool_calls"),
        ("[" * 100_000, "answer"),
    ],
)
def test_what_is_no_answer_is_refused(text: str, field: str) -> None:
    """A damaged entry is one typed error that names the field."""
    with pytest.raises(StoreError) as caught:
        decode_response(text)
    assert caught.value.field == field
