"""The JSON of a provider's answer: read by the quick reader, and by the slower one where that one gives up."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.http.transport import HttpResponse
from dspex.actors.wire_formats.answers import answer_json, event_json
from dspex.runtime.errors import LMProtocolError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_both_readers_say_the_same(value: object) -> None:
    """Whatever can be written as JSON reads as Python's own reader has it, types and digits included."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        body = text.encode()
        assert repr(answer_json(HttpResponse(200, {}, body), ())) == repr(json.loads(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "half \\ud83d of a pair"}',
        b"[" * 500 + b"]" * 500,
        '{"text": "wide"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"text": "marked"}',
        b"[1e400, -0.0, 123456789012345678901234567890]",
    ],
    ids=["half a surrogate pair", "nested deep", "utf-16", "byte order mark", "numbers"],
)
def test_what_the_quick_reader_does_not_take_is_read_all_the_same(body: bytes) -> None:
    """Servers that are strict about nothing are understood as before."""
    assert answer_json(HttpResponse(200, {}, body), ()) == json.loads(body)


def test_numbers_that_are_none_are_read() -> None:
    """NaN and infinity, which some servers write, are no reason to lose an answer."""
    found = answer_json(HttpResponse(200, {}, b"[NaN, Infinity]"), ())
    assert math.isnan(found[0])
    assert found[1] == math.inf


def test_what_is_no_json_is_refused() -> None:
    """Whole or as an event, with a typed error."""
    with pytest.raises(LMProtocolError, match="JSONDecodeError"):
        answer_json(HttpResponse(200, {}, b"{'a': 1}"), ())
    with pytest.raises(LMProtocolError, match="JSONDecodeError"):
        event_json("[1, ")
