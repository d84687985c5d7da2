"""Our errors as DSPy's engines must tell them: ``dspy.lm15`` errors, which DSPy sorts into its own.

DSPy retries what it takes for transient. It is told to retry nothing (``num_retries=0``): the provider actor has.
"""

from __future__ import annotations

from typing import Any, Final

from ...runtime.errors import (
    CallError,
    CallTimeout,
    ConfigError,
    Error,
    LMAuthError,
    LMBudgetExceeded,
    LMCircuitOpen,
    LMConnectionError,
    LMContextLength,
    LMError,
    LMInvalidRequest,
    LMQuotaExceeded,
    LMRateLimited,
    LMServerError,
    LMTimeout,
    NoProcess,
    Overloaded,
    StreamInterrupted,
)
from .library import lm15

_NAMES: Final[tuple[tuple[type[Error], str], ...]] = (
    (LMContextLength, "ContextLengthError"),
    (LMInvalidRequest, "InvalidRequestError"),
    (LMAuthError, "AuthError"),
    (LMQuotaExceeded, "BillingError"),
    (LMBudgetExceeded, "BillingError"),
    (LMRateLimited, "RateLimitError"),
    (Overloaded, "RateLimitError"),
    (LMTimeout, "TimeoutError"),
    (CallTimeout, "TimeoutError"),
    (LMServerError, "ServerError"),
    (LMCircuitOpen, "ServerError"),
    (LMConnectionError, "TransportError"),
    (StreamInterrupted, "TransportError"),
    (LMError, "ProviderError"),
    (ConfigError, "NotConfiguredError"),
    (NoProcess, "NotConfiguredError"),
    (CallError, "TransportError"),
)
"""The first whose class fits. An error of none of them is no failure of a model or of an actor on the way to it."""
_FACTS: Final = ("provider", "status", "request_id", "retry_after")


def lm15_error(error: Error) -> Exception:
    """The error of DSPy's engines that says the same; raise it ``from error``, which keeps all facts."""
    name = next((name for kind, name in _NAMES if isinstance(error, kind)), "LM15Error")
    kind: Any = getattr(lm15(), name)
    facts = {fact: value for fact in _FACTS if (value := error.facts.get(fact)) is not None}
    failure: Exception = kind(error.message, provider_code=error.code, **facts)
    return failure
