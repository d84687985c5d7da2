"""Each row of the table of failures, over real sockets and through a whole application, whole and in pieces."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

import dspex
from dspex.runtime.errors import (
    CallTimeout,
    Error,
    LMAuthError,
    LMConnectionError,
    LMContextLength,
    LMError,
    LMInvalidRequest,
    LMProtocolError,
    LMQuotaExceeded,
    LMRateLimited,
    LMServerError,
    LMTimeout,
)
from kit.fire import MODES, Fire, Latest, Mode, error_body, fire, pieces, steps, whole
from kit.http_server import Exchange, HttpServer, Script

modes = pytest.mark.parametrize("mode", MODES)


@dataclass(frozen=True)
class Row:
    """What happens, and what must come of it.

    Attributes:
        name: of the row.
        script: what the server does with each request.
        error: what the caller gets.
        retry: whether a second attempt is made.
        breaker: whether each attempt counts against the provider.
        effect: what else it does: ``quota`` or ``auth`` gate closed, or ``slowdown``.
        settings: of the provider.
    """

    name: str
    script: Script
    error: type[LMError]
    retry: bool
    breaker: bool
    effect: str = ""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])


def says(status: int, code: str | None = None, message: str = "no", *, kind: str = "openai", **headers: str) -> Script:
    """A server that answers this to everything."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.reply(status, error_body(kind, message, code=code), headers=names)


SOON = {"retry_after": "0.05"}
LONG = "This model's maximum context length is 10 tokens."
ANTHROPIC = {"kind": "anthropic"}
ROWS = [
    Row("reset before an answer", Exchange.reset, LMConnectionError, True, True),
    Row("closed before an answer", Exchange.close, LMConnectionError, True, True),
    Row("408", says(408), LMServerError, True, True),
    Row("504", says(504), LMServerError, True, True),
    Row("no answer in time", Exchange.hang, LMTimeout, True, True, settings={"attempt_timeout": 0.5}),
    Row("500", says(500), LMServerError, True, True),
    Row("502 with a page", lambda ex: ex.reply(502, b"<html>Bad gateway</html>"), LMServerError, True, True),
    Row("503", says(503), LMServerError, True, True),
    Row("503 slow_down", says(503, "slow_down"), LMServerError, True, True, "slowdown"),
    Row("503 server_is_overloaded", says(503, "server_is_overloaded"), LMServerError, True, True, "slowdown"),
    Row("529", says(529, "overloaded_error", kind="anthropic"), LMServerError, True, True, "slowdown", ANTHROPIC),
    Row("429", says(429, None, **SOON), LMRateLimited, True, False),
    *(
        Row(f"429 {code}", says(429, code, **SOON), LMRateLimited, True, False)
        for code in ("rate_limit_exceeded", "rate_limit_error", "ramp_limit_exceeded", "slow_down")
    ),
    *(
        Row(f"429 {code}", says(429, code, **SOON), LMQuotaExceeded, False, False, "quota")
        for code in (
            "insufficient_quota",
            "credit_balance_exhausted",
            "project_spend_limit_exceeded",
            "organization_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "enforced_spend_limit_reached",
            "contract_spend_limit_reached",
        )
    ),
    Row("402", says(402), LMQuotaExceeded, False, False, "quota"),
    Row("401", says(401), LMAuthError, False, False, "auth"),
    Row("403", says(403), LMAuthError, False, False, "auth"),
    Row("400 wrong key", says(400, None, "Incorrect API key provided"), LMAuthError, False, False, "auth"),
    Row("404", says(404, "model_not_found"), LMInvalidRequest, False, False),
    Row("400", says(400), LMInvalidRequest, False, False),
    Row("422", says(422), LMInvalidRequest, False, False),
    Row("413", says(413), LMInvalidRequest, False, False),
    Row("501", says(501), LMInvalidRequest, False, False),
    Row("400 too long", says(400, "context_length_exceeded"), LMContextLength, False, False),
    Row("400 too long, in prose", says(400, None, LONG), LMContextLength, False, False),
    Row("409", says(409), LMServerError, True, False),
    Row(
        "a redirect",
        lambda ex: ex.reply(307, b"", headers={"Location": "http://elsewhere.invalid/"}),
        LMProtocolError,
        False,
        False,
        "auth",
    ),
    Row(
        "a page instead of an answer",
        lambda ex: ex.reply(200, b"<html>Sign in</html>", content_type="text/html"),
        LMProtocolError,
        True,
        True,
    ),
    Row(
        "cut off",
        steps(lambda ex: ex.reply(200, b'{"choices":[{"mess', length=500), Exchange.close),
        LMProtocolError,
        True,
        True,
    ),
    Row("no HTTP", steps(lambda ex: ex.send(b"SSH-2.0-OpenSSH\r\n\r\n"), Exchange.close), LMProtocolError, True, True),
]


@pytest.fixture(scope="module")
def burning() -> Iterator[Fire]:
    """One application for all tests."""
    with fire(rng=Latest()) as made:
        yield made


@modes
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row(burning: Fire, mode: Mode, row: Row) -> None:
    """Tried again or not, counted or not, the gate closed or not; all that was held is given back."""
    with HttpServer(row.script) as server:
        id = burning.provider(server.url, **{"retry_attempts": 2, **row.settings})
        with pytest.raises(row.error) as caught:
            burning.ask(id, mode)
        check(burning, id, row, caught.value)
        assert len(server.requests) == 1 + row.retry


def check(burning: Fire, id: str, row: Row, error: LMError) -> None:
    """What the row says of the error and of the provider."""
    assert type(error) is row.error
    attempts = 1 + row.retry
    assert [attempt.number for attempt in error.attempts] == list(range(1, attempts + 1))
    assert all(attempt.error_code == error.code for attempt in error.attempts)
    assert error.provider == id
    burning.quiet(id)
    report = burning.protection(id)
    assert report.breaker.failures == attempts * row.breaker
    assert report.breaker.state == "closed"
    closed = [gate.gate for gate in report.gates if gate.state != "open"]
    assert closed == ([row.effect] if row.effect in ("quota", "auth") else [])
    assert (report.slowed_to is not None) == (row.effect == "slowdown")


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@modes
@pytest.mark.parametrize("where", ["nobody listens", "no such name", "no TLS there"])
def test_no_connection(burning: Fire, mode: Mode, where: str) -> None:
    """Refused, DNS, TLS: tried again, counted, and nothing of limits or budget is spent."""
    row = Row(where, Exchange.hang, LMConnectionError, True, True)
    with HttpServer(Exchange.hang) as server:
        url = {
            "nobody listens": f"http://127.0.0.1:{unused_port()}",
            "no such name": "http://no-such-host.invalid",
            "no TLS there": server.url.replace("http:", "https:"),
        }[where]
        limits = {"limit": 5, "tokens": 5000, "on_limit": "fail"}
        id = burning.provider(url, retry_attempts=2, connect_timeout=0.4, rate_limit=limits)
        with pytest.raises(row.error) as caught:
            burning.ask(id, mode)
        check(burning, id, row, caught.value)
    assert {bucket.used for bucket in burning.protection(id).buckets} == {0}
    assert burning.budget(f"provider/{id}").spent.requests == 0


def test_a_pool_without_a_free_connection(burning: Fire) -> None:
    """Our own pool is full: no fault of the provider; the others' connections are left alone."""
    with HttpServer(Exchange.hang) as server, ThreadPoolExecutor(1) as threads:
        id = burning.provider(server.url, max_connections=1, retry_attempts=1, attempt_timeout=2.0)
        first = threads.submit(burning.ask, id, timeout=5.0)
        assert server.arrived.wait(5)
        with pytest.raises(Error) as caught:
            burning.ask(id, timeout=0.2)
        assert caught.value.code in ("lm_connection", "lm_timeout")
        with pytest.raises(LMTimeout):
            first.result(5)
        burning.quiet(id)
        assert burning.protection(id).breaker.failures == 1  # the first one's
        assert len(server.requests) == 1


@modes
def test_the_callers_own_deadline(burning: Fire, mode: Mode) -> None:
    """Says nothing of the provider; the connection is closed at once, and the reservation stands."""
    with HttpServer(Exchange.hang) as server:
        id = burning.provider(server.url)
        with pytest.raises((LMTimeout, CallTimeout)):
            burning.ask(id, mode, timeout=0.6)
        assert server.client_closed.wait(5)
        burning.quiet(id)
        assert burning.protection(id).breaker.failures == 0
        assert burning.budget(f"provider/{id}").spent.requests == 1
        assert len(server.requests) == 1


@modes
@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_is_no_failure(burning: Fire, mode: Mode, reason: str) -> None:
    """Cut by its limit, or filtered: an answer that says so, not an error, and not tried again."""

    def script(ex: Exchange) -> None:
        found = whole("openai")
        found["choices"][0]["finish_reason"] = reason
        if ex.request.json().get("stream"):
            ex.head()
            ex.chunk(b"".join(pieces("openai", "Hello there")).replace(b'"stop"', f'"{reason}"'.encode()))
            ex.chunk(b"")
        else:
            ex.reply(200, found)

    with HttpServer(script) as server:
        id = burning.provider(server.url)
        answer = burning.ask(id, mode)
        assert (answer.text, answer.finish_reason) == ("Hello there", reason)
        assert burning.protection(id).breaker.failures == 0
        assert len(server.requests) == 1


@modes
def test_a_row_that_passes(burning: Fire, mode: Mode) -> None:
    """One failure of each kind that may be tried again, one after the other, and then the answer."""
    scripts = iter([says(500), Exchange.reset, says(409), says(429, None, retry_after_ms="30"), says(503, "slow_down")])

    def script(ex: Exchange) -> None:
        bad = next(scripts, None)
        if bad is not None:
            bad(ex)
        elif ex.request.json().get("stream"):
            ex.head()
            ex.chunk(b"".join(pieces("openai", "Hello ", "there")))
            ex.chunk(b"")
        else:
            ex.reply(200, whole("openai"))

    with HttpServer(script) as server:
        id = burning.provider(server.url, retry_attempts=6)
        answer = burning.ask(id, mode)
        assert answer.text == "Hello there"
        assert [attempt.status for attempt in answer.attempts] == [500, None, 409, 429, 503, 200]
        burning.quiet(id)
        report = burning.budget(f"provider/{id}")
        assert (report.spent.requests, report.spent.tokens) == (1, 14)  # once, by what it really used
        assert burning.protection(id).breaker.failures == 0


def test_whoever_opened_the_breaker_the_others_are_refused_unsent(burning: Fire) -> None:
    """Five failures in a row: the next request is refused at once, with the time of the next probe."""
    with HttpServer(says(500)) as server:
        id = burning.provider(server.url, retry_attempts=1, recovery_time=60.0)
        for _ in range(5):
            with pytest.raises(LMServerError):
                burning.ask(id)
        for mode in MODES:
            with pytest.raises(dspex.runtime.errors.LMCircuitOpen) as caught:
                burning.ask(id, mode)
            assert 50.0 < caught.value.retry_after <= 60.0
        assert len(server.requests) == 5
        assert burning.budget(f"provider/{id}").reserved.requests == 0
