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

from ..runtime.errors import (
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
from .json_values import json_list, json_object, json_text
from .scrub import EXAMINED, excerpt
from .transport import HttpResponse

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
    """

    name: str
    error: type[LMError]
    retryable: bool
    counts_for_breaker: bool
    effect: Effect = "none"


FAILURES: Final[Mapping[str, Failure]] = {
    row.name: row
    for row in (
        Failure("connection", LMConnectionError, True, True),
        Failure("pool", LMConnectionError, True, False),  # our own pool is full: no fault of the provider
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

# For servers that give a code to everything, and the reason only in prose.
_TOO_LONG: Final = re.compile(
    r"(?i)maximum context length|context window|context size|prompt is too long|ContextWindowExceeded"
)
_WRONG_KEY: Final = re.compile(r"(?i)\b(incorrect|invalid|missing|no) (api[ _-]?key|authentication)")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a provider said about an error: prose, and the words that a program can read."""

    message: str = ""
    words: tuple[str, ...] = ()


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
    inner = json_object(error.get("details")).get("error_code")
    # A code may be a text, a number or null.
    said = (inner, error.get("code"), error.get("type"), error.get("status"))
    words = tuple(str(word).lower() for word in said if isinstance(word, str | int) and word != "")
    message = error.get("message") or error.get("detail") or body
    return ErrorBody(json_text(message) or json.dumps(message), words)


def _head(response: HttpResponse) -> str:
    return response.body[:EXAMINED].decode("utf-8", "replace")


def classify(status: int, body: ErrorBody) -> Failure:
    """The row for an HTTP answer that is no success: its words first, then its status."""
    for word in body.words:
        if word in WORDS and not (WORDS[word] == "rate" and status >= 500):
            return FAILURES[WORDS[word]]
        if word == "slow_down":  # a ramp limit as 429, an overload as 503
            return FAILURES["rate" if status == 429 else "overloaded"]
    if 200 <= status < 300:  # an error in a success: it may name the status it should have had
        status = next((int(word) for word in body.words if re.fullmatch(r"[45]\d\d", word)), status)
    if status in STATUSES:
        return FAILURES[STATUSES[status]]
    if 300 <= status < 400:
        return FAILURES["redirect"]
    if 400 <= status < 500:
        # Some gateways answer 400 to everything.
        if _TOO_LONG.search(body.message):
            return FAILURES["context_length"]
        return FAILURES["auth" if _WRONG_KEY.search(body.message) else "invalid"]
    return FAILURES["server" if 500 <= status < 600 else "protocol"]


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
