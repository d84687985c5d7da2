"""The failure table, a test for each row, and how an answer finds its row."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.actors.http.transport import HttpResponse
from dspex.actors.lm.failures import (
    FAILURES,
    ErrorBody,
    classify,
    error_from_response,
    failure_of,
    lm_error,
    read_error_body,
    retry_after,
)
from dspex.runtime.errors import (
    LMAuthError,
    LMBudgetExceeded,
    LMCircuitOpen,
    LMConnectionError,
    LMContextLength,
    LMError,
    LMInvalidRequest,
    LMProtocolError,
    LMQuotaExceeded,
    LMRateLimited,
    LMServerError,
    LMTimeout,
    StreamInterrupted,
)

YES, NO = True, False


def said(status: int, code: Any = None, message: str = "no", kind: Any = None, **headers: str) -> HttpResponse:
    """An error answer in OpenAI's form."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return HttpResponse(
        status, {name.replace("_", "-"): text for name, text in headers.items()}, json.dumps(body).encode()
    )


ROWS: list[tuple[str, type[LMError], bool, bool, str]] = [
    # row               error              retry breaker effect
    ("connection", LMConnectionError, YES, YES, "none"),
    ("reset", LMConnectionError, YES, YES, "none"),
    ("pool", LMConnectionError, YES, NO, "none"),
    ("timeout", LMTimeout, YES, YES, "none"),
    ("deadline", LMTimeout, NO, NO, "none"),
    ("gateway_timeout", LMServerError, YES, YES, "none"),
    ("server", LMServerError, YES, YES, "none"),
    ("overloaded", LMServerError, YES, YES, "lower_rate"),
    ("conflict", LMServerError, YES, NO, "none"),
    ("rate", LMRateLimited, YES, NO, "pause"),
    ("quota", LMQuotaExceeded, NO, NO, "close_quota"),
    ("auth", LMAuthError, NO, NO, "misconfigured"),
    ("invalid", LMInvalidRequest, NO, NO, "none"),
    ("context_length", LMContextLength, NO, NO, "none"),
    ("protocol", LMProtocolError, YES, YES, "none"),
    ("redirect", LMProtocolError, NO, NO, "misconfigured"),
    ("too_large", LMProtocolError, NO, NO, "none"),
    ("interrupted", StreamInterrupted, NO, YES, "none"),
    ("circuit_open", LMCircuitOpen, NO, NO, "none"),
    ("limit", LMRateLimited, NO, NO, "none"),
    ("budget", LMBudgetExceeded, NO, NO, "none"),
]


@pytest.mark.parametrize(("name", "error", "retry", "breaker", "effect"), ROWS, ids=[row[0] for row in ROWS])
def test_row(name: str, error: type[LMError], retry: bool, breaker: bool, effect: str) -> None:
    """The row decides on error class, retry, breaker and effect, and an error finds its row again, pickled too."""
    row = FAILURES[name]
    assert (row.error, row.retryable, row.counts_for_breaker, row.effect) == (error, retry, breaker, effect)
    made = pickle.loads(pickle.dumps(lm_error(name, "text", status=1)))
    assert type(made) is error
    assert (failure_of(made), made.retryable, made.status) == (row, retry, 1)


def test_every_row_is_tested() -> None:
    """A new row needs its line above."""
    assert set(FAILURES) == {row[0] for row in ROWS}


ANSWERS: list[tuple[str, HttpResponse]] = [
    ("invalid", said(400)),
    ("auth", said(401)),
    ("quota", said(402)),
    ("auth", said(403)),
    ("invalid", said(404, "model_not_found")),
    ("gateway_timeout", said(408)),
    ("conflict", said(409)),
    ("invalid", said(413)),
    ("invalid", said(418)),
    ("invalid", said(422)),
    ("rate", said(429)),
    ("server", said(500)),
    ("invalid", said(501)),
    ("server", said(502)),
    ("server", said(503)),
    ("gateway_timeout", said(504)),
    ("server", said(520)),
    ("overloaded", said(529)),
    ("redirect", said(301)),
    ("redirect", said(307)),
    ("protocol", said(204)),
    ("protocol", said(999)),
    # A 429 is three different things.
    ("rate", said(429, "rate_limit_exceeded")),
    ("rate", said(429, "ramp_limit_exceeded")),
    ("rate", said(429, "slow_down")),
    ("rate", said(429, kind="rate_limit_error")),
    ("rate", said(429, "429", kind="internal_server_error")),
    ("quota", said(429, "insufficient_quota", kind="insufficient_quota")),
    ("quota", said(429, None, kind="insufficient_quota")),
    ("quota", said(429, "credit_balance_exhausted")),
    ("quota", said(429, "project_spend_limit_exceeded")),
    ("quota", said(429, "organization_spend_limit_exceeded")),
    ("quota", said(429, "organization_usage_limit_exceeded")),
    # A 503 is two.
    ("overloaded", said(503, "slow_down")),
    ("overloaded", said(503, "server_is_overloaded")),
    ("server", said(503, "rate_limit_exceeded")),
    # Some gateways answer 400 to everything.
    ("auth", said(400, "invalid_api_key")),
    ("auth", said(400, None, "Incorrect API key provided: sk-...")),
    ("context_length", said(400, "context_length_exceeded")),
    ("context_length", said(400, 400, "This model's maximum context length is 8192 tokens.")),
    ("context_length", said(400, "400", "litellm.ContextWindowExceededError: too much")),
    ("context_length", said(400, kind="exceed_context_size_error")),
    # An error in a success names its status.
    ("rate", said(200, 429)),
    ("server", said(200, "500")),
    ("protocol", said(200)),
]


@pytest.mark.parametrize(("name", "answer"), ANSWERS, ids=[f"{row}-{answer.status}" for row, answer in ANSWERS])
def test_classification(name: str, answer: HttpResponse) -> None:
    """Words in the body go before the status."""
    assert classify(answer.status, read_error_body(answer)).name == name
    error = error_from_response(answer)
    assert type(error) is FAILURES[name].error
    assert error.status == answer.status


def test_anthropic_details_go_before_the_type() -> None:
    """``error.details.error_code`` tells a spend limit from a rate limit."""
    body = {
        "error": {"type": "rate_limit_error", "message": "x", "details": {"error_code": "enforced_spend_limit_reached"}}
    }
    assert classify(429, read_error_body(HttpResponse(429, {}, json.dumps(body).encode()))).name == "quota"


@pytest.mark.parametrize(
    ("body", "message", "words"),
    [
        (b'{"error":{"message":"m","type":"t","code":42}}', "m", ("42", "t")),
        (b'{"error":{"message":"m","type":null,"code":null}}', "m", ()),
        (b'[{"error":{"message":"m","code":429,"status":"RESOURCE_EXHAUSTED"}}]', "m", ("429", "resource_exhausted")),
        (b'{"error":"plain"}', "plain", ()),
        (b'{"object":"error","message":"m","type":"NotFoundError","code":404}', "m", ("404", "notfounderror")),
        (b'{"detail":"Not Found"}', "Not Found", ()),
        (b'{"detail":[{"loc":["body"],"msg":"bad"}]}', '[{"loc": ["body"], "msg": "bad"}]', ()),
        (b"<html>Bad gateway</html>", "<html>Bad gateway</html>", ()),
        (b"", "", ()),
        (b"[]", "[]", ()),
        (b'{"error":{}}', "{}", ()),
    ],
)
def test_error_bodies_of_all_shapes(body: bytes, message: str, words: tuple[str, ...]) -> None:
    """Message and words are found in each shape that servers use; the rest is the message as it came."""
    assert read_error_body(HttpResponse(400, {}, body)) == ErrorBody(message, words)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "message", "details", "x"]), inner)
    ),
)


@given(st.integers(100, 999), st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_answer_breaks_the_reader(status: int, body: bytes) -> None:
    """Whatever a server answers becomes an LMError with text that can be written."""
    error = error_from_response(HttpResponse(status, {}, body))
    assert isinstance(error, LMError)
    str(error).encode()


def test_deep_nesting_does_not_break_the_reader() -> None:
    """A body nested beyond Python's recursion is prose."""
    assert isinstance(error_from_response(HttpResponse(500, {}, b"[" * 100_000)), LMServerError)


def test_the_key_is_taken_out_of_what_the_server_says() -> None:
    """A body that echoes the key does not put it into message or facts."""
    key = "my-secret-key-1234"
    error = error_from_response(said(401, key, f"bad key {key}", x_request_id="r1"), secrets=(key,))
    assert key not in repr((str(error), error.facts))
    assert "[redacted]" in str(error)
    assert error.request_id == "r1"


def test_a_redirect_says_what_to_do() -> None:
    """The user is told to correct base_url."""
    assert "base_url" in str(error_from_response(HttpResponse(302, {"location": "https://x"}, b"")))


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
        ({"llm_provider-retry-after": "3"}, 3.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds, seconds, dates; nonsense is no wait (RFC 9110, 10.2.3)."""
    assert retry_after(headers, NOW) == seconds


def test_a_rate_limit_always_says_how_long() -> None:
    """``retry_after`` is None if the server did not say; other errors have it only if it did."""
    assert error_from_response(said(429), now=NOW).retry_after is None
    assert error_from_response(said(429, retry_after="2"), now=NOW).retry_after == 2.0
    assert error_from_response(said(503, retry_after="2"), now=NOW).retry_after == 2.0
    assert "retry_after" not in error_from_response(said(503), now=NOW).facts


@given(st.text(max_size=40))
def test_no_header_breaks_retry_after(text: str) -> None:
    """Any text gives None or a finite wait."""
    seconds = retry_after({"retry-after": text}, NOW)
    assert seconds is None or 0 <= seconds < float("inf")
