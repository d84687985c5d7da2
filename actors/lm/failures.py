"""What each failure of a model request means: which error, may it be retried, does it count against the provider.

The decisions are a table of data, :data:`FAILURES`, that retries, breaker and limiter read. An error carries the
name of its row as the fact ``failure``; :func:`failure_of` finds the row again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypeAlias

from ...runtime.errors import (
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
from ..http.transport import HttpResponse
from ..json_values import json_list, json_object, json_text
from ..scrub import EXAMINED, excerpt

Effect: TypeAlias = Literal["none", "lower_rate", "pause", "close_quota", "misconfigured"]
"""What else a failure tells: send less; send nothing before ``retry_after``; no money; the settings are wrong."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the table.

    Attributes:
        name: the row's name, the fact ``failure`` of an error.
        error: the class to raise.
        retryable: another attempt may succeed.
        counts_for_breaker: it speaks against the provider's health.
        effect: what it tells about the provider as a whole.
        sent: the request may have reached the provider, and may be billed.
    """

    name: str
    error: type[LMError]
    retryable: bool
    counts_for_breaker: bool
    effect: Effect = "none"
    sent: bool = True


FAILURES: Final[Mapping[str, Failure]] = {
    row.name: row
    for row in (
        Failure("connection", LMConnectionError, True, True, sent=False),  # there never was one
        Failure("reset", LMConnectionError, True, True),  # it broke, before an answer: nobody knows what was done
        Failure("pool", LMConnectionError, True, False, sent=False),  # our own pool is full: no fault of the provider
        Failure("timeout", LMTimeout, True, True),
        Failure("deadline", LMTimeout, False, False),  # the caller's own time is up
        Failure("gateway_timeout", LMServerError, True, True),
        Failure("server", LMServerError, True, True),
        Failure("overloaded", LMServerError, True, True, "lower_rate"),
        Failure("conflict", LMServerError, True, False),
        Failure("rate", LMRateLimited, True, False, "pause"),
        Failure("quota", LMQuotaExceeded, False, False, "close_quota"),
        Failure("auth", LMAuthError, False, False, "misconfigured"),
        Failure("invalid", LMInvalidRequest, False, False),
        Failure("context_length", LMContextLength, False, False),
        Failure("protocol", LMProtocolError, True, True),  # cut off, malformed
        Failure("redirect", LMProtocolError, False, False, "misconfigured"),
        Failure("too_large", LMProtocolError, False, False),
        Failure("interrupted", StreamInterrupted, False, True),  # chunks were delivered: no second try
        # Refused by ourselves: nothing was sent.
        Failure("limit", LMRateLimited, False, False, sent=False),
        Failure("circuit_open", LMCircuitOpen, False, False, sent=False),
        Failure("budget", LMBudgetExceeded, False, False, sent=False),
    )
}

# Words in `error.code`, `error.type` or `error.details.error_code` say more than the status.
WORDS: Final[Mapping[str, str]] = {
    "insufficient_quota": "quota",
    "credit_balance_exhausted": "quota",
    "project_spend_limit_exceeded": "quota",
    "organization_spend_limit_exceeded": "quota",
    "organization_usage_limit_exceeded": "quota",
    "enforced_spend_limit_reached": "quota",
    "contract_spend_limit_reached": "quota",
    "linked_organization_spend_limit_reached": "quota",
    "billing_error": "quota",
    "billing_hard_limit_reached": "quota",
    "rate_limit_exceeded": "rate",
    "rate_limit_error": "rate",
    "ramp_limit_exceeded": "rate",
    "server_is_overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "context_length_exceeded": "context_length",
    "contextwindowexceedederror": "context_length",
    "exceed_context_size_error": "context_length",
    "invalid_api_key": "auth",
    "authentication_error": "auth",
    "permission_error": "auth",
    "timeout_error": "gateway_timeout",
    # Google's, in lower case.
    "daily_quota": "quota",
    "resource_exhausted": "rate",
    "unavailable": "overloaded",
    "deadline_exceeded": "gateway_timeout",
    "unauthenticated": "auth",
    "permission_denied": "auth",
    "api_key_invalid": "auth",
}

STATUSES: Final[Mapping[int, str]] = {
    401: "auth",
    402: "quota",
    403: "auth",
    408: "gateway_timeout",
    409: "conflict",
    429: "rate",
    501: "invalid",
    504: "gateway_timeout",
    529: "overloaded",
}

# Of errors that come inside a success, such as a stream: the status that their type stands for elsewhere.
_TYPE_STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "not_found": 404,
    "internal": 500,
}

# For servers that give a code to everything, and the reason only in prose.
_TOO_LONG: Final = re.compile(
    r"(?i)maximum context length|context (window|size|limit)|prompt is too long|ContextWindowExceeded"
    r"|token count.{0,40} exceeds the maximum"
)
_WRONG_KEY: Final = re.compile(
    r"(?i)\b(incorrect|invalid|missing|no) (api[ _-]?key|authentication)|\bapi[ _-]?key not (valid|found)"
)
_NO_MONEY: Final = re.compile(r"(?i)credit balance is too low")
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a provider said about an error: prose, the words that a program can read, and seconds to wait."""

    message: str = ""
    words: tuple[str, ...] = ()
    retry_after: float | None = None


def read_error_body(response: HttpResponse) -> ErrorBody:
    """Read an error body in any of the shapes that servers use; what is not understood is the message.

    ``{"error": {"message", "type", "code", "details": {"error_code"}}}`` (OpenAI, Anthropic), the same in a list
    (Gemini), ``{"error": "text"}``, ``{"message", "type", "code"}`` (vLLM) and ``{"detail": ...}`` (FastAPI).
    """
    try:
        parsed: Any = json.loads(response.body)
    except (ValueError, RecursionError):
        return ErrorBody(_head(response))
    body = json_object(next(iter(json_list(parsed)), parsed))
    return error_object(body) if body else ErrorBody(_head(response))


def error_object(body: dict[str, Any]) -> ErrorBody:
    """Read an error out of a parsed JSON object."""
    found = body.get("error", body)
    error = json_object(found)
    if not error:
        return ErrorBody(str(found))
    details = [json_object(detail) for detail in json_list(error.get("details"))]
    inner = json_object(error.get("details")).get("error_code")
    # A code may be a text, a number or null.
    said = (inner, *_reasons(details), error.get("code"), error.get("type"), error.get("status"))
    words = tuple(str(word).lower() for word in said if isinstance(word, str | int) and word != "")
    message = error.get("message") or error.get("detail") or body
    return ErrorBody(json_text(message) or json.dumps(message), words, _retry_delay(details))


def _reasons(details: list[dict[str, Any]]) -> Iterable[str]:
    """What Google's details say (google.rpc): ErrorInfo gives a reason, QuotaFailure names the limits."""
    for detail in details:
        for violation in json_list(detail.get("violations")):
            # Waiting for the next minute does not help against a limit of the day.
            if "perday" in json_text(json_object(violation).get("quotaId")).lower():
                yield "daily_quota"
    for detail in details:
        if reason := json_text(detail.get("reason")):
            yield reason


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    """The seconds of google.rpc.RetryInfo, written as ``34.5s``, or None."""
    for detail in details:
        if found := _DURATION.fullmatch(json_text(detail.get("retryDelay"))):
            return float(found[1])
    return None


def _head(response: HttpResponse) -> str:
    return response.body[:EXAMINED].decode("utf-8", "replace")


def classify(status: int, body: ErrorBody) -> Failure:
    """The row for an HTTP answer that is no success: its words first, then its status."""
    for word in body.words:
        # What is too large stays too large, whatever it is said to exhaust.
        if word in WORDS and not (WORDS[word] == "rate" and (status == 413 or status >= 500)):
            return FAILURES[WORDS[word]]
        if word == "slow_down":  # a ramp limit as 429, an overload as 503
            return FAILURES["rate" if status == 429 else "overloaded"]
    if 200 <= status < 300:  # an error in a success: it may name the status it should have had
        status = next(filter(None, map(_status_of, body.words)), status)
    if status in STATUSES:
        return FAILURES[STATUSES[status]]
    if 300 <= status < 400:
        return FAILURES["redirect"]
    if 400 <= status < 500:
        # Some gateways answer 400 to everything.
        if _TOO_LONG.search(body.message):
            return FAILURES["context_length"]
        if _NO_MONEY.search(body.message):
            return FAILURES["quota"]
        return FAILURES["auth" if _WRONG_KEY.search(body.message) else "invalid"]
    return FAILURES["server" if 500 <= status < 600 else "protocol"]


def _status_of(word: str) -> int | None:
    return int(word) if re.fullmatch(r"[45]\d\d", word, re.ASCII) else _TYPE_STATUSES.get(word)


def failure_of(error: LMError) -> Failure | None:
    """The row that an error belongs to, or None if it names none."""
    return FAILURES.get(str(error.facts.get("failure")))


def lm_error(name: str, message: str, **facts: Any) -> LMError:
    """Make the error of the row ``name``. ``message`` must be scrubbed already."""
    row = FAILURES[name]
    return row.error(message, failure=name, retryable=row.retryable, **facts)


def error_from_response(
    response: HttpResponse, *, place: str = "", now: float | None = None, secrets: Iterable[str] = ()
) -> LMError:
    """Make the error for an answer whose status is no success.

    Args:
        response: the answer.
        place: whose answer it is, for the text.
        now: wall-clock seconds, for a Retry-After that is a date; without it such a date is not used.
        secrets: what must not show, in clear; a body may echo the key.
    """
    return error_from_body(read_error_body(response), response, place=place, now=now, secrets=secrets)


def error_from_body(
    body: ErrorBody, response: HttpResponse, *, place: str = "", now: float | None = None, secrets: Iterable[str] = ()
) -> LMError:
    """As :func:`error_from_response`, of an error body read already (one may stand in a 200)."""
    secrets = tuple(secrets)
    row = classify(response.status, body)
    said = excerpt(body.message, secrets, limit=300) or "no explanation"
    facts: dict[str, Any] = {"status": response.status, "request_id": response.request_id}
    if body.words:
        facts["provider_code"] = excerpt(body.words[0], secrets, limit=80)
    wait = retry_after(response.headers, now)
    wait = body.retry_after if wait is None else wait
    if wait is not None or row.error is LMRateLimited:
        facts["retry_after"] = wait
    if row.name == "redirect":
        said = "a redirect, which is not followed because the key would go with it; correct base_url"
    whose = f" from {place}" if place else ""
    return lm_error(row.name, f"expected a completion, got HTTP {response.status}{whose}: {said}", **facts)


def retry_after(headers: Mapping[str, str], now: float | None) -> float | None:
    """Seconds that the provider asks to wait, or None if it names no sensible time (RFC 9110, 10.2.3).

    ``retry-after-ms`` goes before ``retry-after``, whose value is seconds or a date.

    Args:
        headers: header names in lower case.
        now: wall-clock seconds since the epoch; None if a date is of no use.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0), ("llm_provider-retry-after", 1.0)):
        if name in headers:
            seconds = _seconds(headers[name], unit, now)
            if seconds is not None:
                return seconds
    return None


def _seconds(text: str, unit: float, now: float | None) -> float | None:
    try:
        seconds = float(text) * unit
    except ValueError:
        try:
            return None if now is None else max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except (ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
