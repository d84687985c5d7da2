"""What goes wrong, as OpenAI says it: a status, a JSON body, and when to try again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from ...runtime.errors import (
    ApplicationDown,
    CallError,
    CallTimeout,
    ConfigError,
    Error,
    LMAuthError,
    LMBudgetExceeded,
    LMCircuitOpen,
    LMContextLength,
    LMError,
    LMInvalidRequest,
    LMQuotaExceeded,
    LMRateLimited,
    LMServerError,
    LMTimeout,
    Overloaded,
)

INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_OWN_STATUS: Final = (400, 404, 409, 413, 422)
"""Statuses of a provider that are about the request, and are handed on."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is an error.

    Attributes:
        status: the HTTP status.
        message: for people.
        type: OpenAI's kind of error.
        code: a stable word.
        param: which part of the request is wrong, or None.
        retry_after: seconds after which another try may succeed, or None.
        final: whether another try is of no use; official clients are told.
    """

    status: int
    message: str
    type: str = INVALID
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    final: bool = False

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """When to try again: for every client (RFC 9110, 10.2.3), and more exactly for OpenAI's."""
        found = {"x-should-retry": "false"} if self.final else {}
        if self.retry_after is not None and math.isfinite(self.retry_after):
            wait = max(self.retry_after, 0.0)
            found |= {"retry-after": str(math.ceil(wait)), "retry-after-ms": f"{wait * 1000:.0f}"}
        return found


class Refused(Exception):  # never leaves the gateway: it becomes an HTTP answer
    """The gateway itself refuses a request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def refused(status: int, message: str, code: str, *, param: str | None = None) -> Refused:
    """A request that will never work as it is."""
    return Refused(Problem(status, message, code=code, param=param))


def busy(message: str) -> Refused:
    """A request that may work in a moment."""
    return Refused(Problem(503, message, _SERVER, "overloaded", retry_after=1.0))


def stopping() -> Problem:
    """What those are told who are still in work when the gateway stops."""
    return busy("the gateway is stopping").problem


@dataclass(frozen=True, slots=True)
class _Row:
    error: type[Error]
    status: int
    type: str = _SERVER
    code: str | None = None
    final: bool = False


# The first row that fits holds. Without a code the error's own is told.
_TABLE: Final = (
    _Row(LMContextLength, 400, INVALID, "context_length_exceeded"),
    _Row(LMInvalidRequest, 400, INVALID),
    _Row(LMBudgetExceeded, 429, "insufficient_quota", final=True),
    _Row(LMQuotaExceeded, 429, "insufficient_quota", "insufficient_quota", final=True),
    _Row(LMRateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
    _Row(LMCircuitOpen, 503),
    # Our key is wrong, not the client's: no 401.
    _Row(LMAuthError, 502, final=True),
    _Row(LMTimeout, 504),
    _Row(CallTimeout, 504),
    _Row(LMServerError, 502),
    _Row(LMError, 502),
    _Row(Overloaded, 503),
    _Row(ApplicationDown, 503),
    _Row(CallError, 503),  # the provider is down, or being restarted
    _Row(ConfigError, 503, final=True),
    _Row(Error, 500, final=True),
)


def problem_of(error: Error) -> Problem:
    """What an error of ours is to a client."""
    row = next(row for row in _TABLE if isinstance(error, row.error))
    facts = error.facts
    status, retry_after = row.status, facts.get("retry_after")
    told = facts.get("status")
    if row.type == INVALID and told in _OWN_STATUS:
        status = told
    if isinstance(error, LMServerError) and told in {503, 529}:
        status = 503
    if isinstance(error, Overloaded):
        retry_after = 1.0
    return Problem(
        status=status,
        message=str(error),
        type=row.type,
        code=row.code or error.code,
        param=facts.get("field") if row.type == INVALID else None,
        retry_after=retry_after if isinstance(retry_after, int | float) else None,
        final=row.final,
    )
