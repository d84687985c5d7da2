"""Every error dspex raises, in one tree.

::

    Error
    ├── ConfigError                 a setting is unknown, of the wrong type or out of range
    ├── SignatureError              a signature text is malformed (position, text)
    ├── DefinitionError             a class or handler breaks the actor contract, at import
    ├── SpecError                   a child spec or a supervisor flag is malformed (OTP SUP-02)
    ├── UsageError                  the call is not allowed from where it was made
    │   ├── WrongThread             a blocking call from the engine's own thread
    │   └── ForkedProcess           any call in a forked child
    ├── StartError                  an actor did not start (reason)
    │   └── AlreadyStarted          the name or child id is taken (address)
    ├── SupervisorError             a management call was refused (OTP's word in ``code``)
    ├── RegistryError               a registration was refused
    │   └── AlreadyRegistered       the unique key is held by somebody else (holder)
    ├── CallError                   a call ended without a reply (target, reason)
    │   ├── NoProcess               nobody has this name or address (OTP noproc)
    │   ├── ActorDied               the target ended before it replied
    │   ├── NameUnavailable         the name is restarting, backing off or stopping
    │   ├── CallTimeout             the deadline passed (also a TimeoutError)
    │   ├── CallCycle               the target waits for this very call (chain)
    │   ├── CallDepthExceeded       more than 64 calls nested in one another
    │   ├── Overloaded              the target's mailbox is full
    │   ├── CallCancelled           the caller gave up, or was ended
    │   ├── UnknownMessage          the target has no handler for this message class
    │   ├── RemoteError             the target refused with an error that cannot be pickled
    │   └── ApplicationDown         the engine or the application has stopped
    ├── StoreError                  the event store could not do it
    │   ├── EventInvalid            an event is malformed or too large
    │   ├── EventNotFound           no event has this id
    │   ├── StoreCorrupt            the file is not a database, or is damaged (path)
    │   └── StoreUnavailable        the disk is full, the file locked or gone
    ├── MetricError                 a metric name, value or label is malformed
    ├── ParseError                  a model's answer does not fit the signature
    ├── RunError                    a run cannot go on, or cannot be begun (run_id)
    │   ├── RunConflict             the run's code, data or settings changed (differences)
    │   └── RunStopped              it was cancelled, or its budget or patience is spent (outcome)
    └── LMError                     a model request failed (provider, model, status)
        ├── LMConnectionError       refused, reset, DNS, TLS
        ├── LMTimeout               no answer in time (also a TimeoutError)
        ├── LMRateLimited           429: slow down (retry_after)
        ├── LMQuotaExceeded         429 or 402: no money left; waiting does not help
        ├── LMAuthError             401, 403, or the key is missing
        ├── LMInvalidRequest        400, 404, 413, 422: this request will never work
        │   └── LMContextLength     the prompt is too long for the model
        ├── LMServerError           5xx, 408, 409, 529
        ├── LMProtocolError         the answer is not what the protocol promises
        ├── StreamInterrupted       a stream broke off after some of it was delivered (text, usage)
        ├── LMCircuitOpen           the provider's breaker is open; nothing was sent (retry_after)
        └── LMBudgetExceeded        the budget has no room for this request; nothing was sent (account)

Each carries ``code`` (a stable machine-readable word), ``message`` and its facts as
attributes; all of them pickle. Messages say what was expected, what came, and where.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class Error(Exception):
    """Root of every error that dspex raises.

    Args:
        message: one sentence: what was expected, what came, and where.
        **facts: what a program may want to read; each becomes an attribute. An error that ended a call
            within a trace also has ``correlation_id``, by which its events are found.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, Any] = facts

    def __getattr__(self, name: str) -> Any:
        # Facts read as attributes; a fact that was not given is an AttributeError.
        facts = self.__dict__.get("facts")
        if facts is not None and name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no fact {name!r}")

    def __str__(self) -> str:
        return self.message or self.code

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)


def _rebuild(cls: type[Error], message: str, facts: dict[str, Any]) -> Error:
    return cls(message, **facts)


class ConfigError(Error, ValueError):
    """A setting is unknown, of the wrong type or out of range. Facts: path, expected, got."""

    code = "config_error"


class SignatureError(Error, ValueError):
    """A signature text is malformed. Facts: text, position (0-based), expected."""

    code = "signature_error"


class DefinitionError(Error, TypeError):
    """A class or handler breaks the actor contract; raised when the class is defined."""

    code = "definition_error"


class SpecError(Error, ValueError):
    """A child spec or supervisor flag is malformed (OTP SUP-02).

    Facts: ``reason``, OTP's term for it, e.g. ``("invalid_restart_type", "sometimes")``.
    """

    code = "spec_error"


class UsageError(Error, RuntimeError):
    """The call is not allowed from where it was made."""

    code = "usage_error"


class WrongThread(UsageError):
    """A blocking call was made from the engine's own thread, where it would wait for ever."""

    code = "wrong_thread"


class ForkedProcess(UsageError):
    """The engine belongs to the parent process; a forked child must start its own."""

    code = "forked_process"


class StartError(Error):
    """An actor did not start. Facts: ``reason``, what ``init`` answered or raised."""

    code = "start_error"


class AlreadyStarted(StartError):
    """The name or child id is taken (OTP already_started). Facts: address."""

    code = "already_started"


class SupervisorError(Error):
    """A management call was refused. ``reason`` is OTP's word for it."""

    code = "supervisor_error"


class RegistryError(Error):
    """A registration was refused. Facts: key."""

    code = "registry_error"


class AlreadyRegistered(RegistryError):
    """A unique key is held by somebody (OTP REG-01). Facts: key, holder."""

    code = "already_registered"


class CallError(Error):
    """A call ended without a reply. Facts: target, and what the subclass names."""

    code = "call_error"


class NoProcess(CallError):
    """Nobody has this name or address (OTP noproc)."""

    code = "noproc"


class ActorDied(CallError):
    """The target ended before it replied. Facts: target, reason."""

    code = "actor_died"


class NameUnavailable(CallError):
    """The name is not running now, and the caller asked not to wait. Facts: target, state."""

    code = "name_unavailable"


class CallTimeout(CallError, TimeoutError):
    """The deadline passed without a reply. Facts: target, timeout (seconds), state."""

    code = "timeout"


class CallCycle(CallError):
    """The target waits for this very call. Facts: target, chain."""

    code = "calling_self"


class CallDepthExceeded(CallError):
    """More calls are nested in one another than allowed. Facts: target, depth."""

    code = "call_depth_exceeded"


class Overloaded(CallError):
    """The target's mailbox is full. Facts: target, limit."""

    code = "overloaded"


class CallCancelled(CallError):
    """The caller gave up, or was ended, before the reply came."""

    code = "cancelled"


class UnknownMessage(CallError):
    """The target has no handler for this message class. Facts: target, message_type."""

    code = "unknown_message"


class RemoteError(CallError):
    """The target refused with an error that cannot cross to the caller. Facts: type, text."""

    code = "remote_error"


class ApplicationDown(CallError):
    """The engine or the application has stopped. Facts: reason."""

    code = "application_down"


class StoreError(Error):
    """The event store could not do it."""

    code = "store_error"


class EventInvalid(StoreError, ValueError):
    """An event is malformed or too large. Facts: field, expected, got."""

    code = "event_invalid"


class EventNotFound(StoreError, KeyError):
    """No event has this id. Facts: id."""

    code = "event_not_found"
    __str__ = Error.__str__


class StoreCorrupt(StoreError):
    """The file is not a database, or is damaged. Facts: path."""

    code = "store_corrupt"


class StoreUnavailable(StoreError):
    """The store cannot be written now: disk full, locked, closed. Facts: path, cause."""

    code = "store_unavailable"


class MetricError(Error, ValueError):
    """A metric name, value or label is malformed. Facts: name."""

    code = "metric_error"


class ParseError(Error, ValueError):
    """A model's answer does not fit the signature. Facts: field, expected, got, text."""

    code = "parse_error"


class RunError(Error):
    """A run cannot go on, or cannot be begun."""

    code = "run_error"


class RunConflict(RunError):
    """The run exists, with other code, data or settings (``differences``), or somebody else works on it (``owner``)."""

    code = "run_conflict"


class RunStopped(RunError):
    """The run wants no more work: it was cancelled, or its budget or patience is spent (``outcome``)."""

    code = "run_stopped"


class LMError(Error):
    """A model request failed. Facts: provider, model, status, request_id."""

    code = "lm_error"


class LMConnectionError(LMError):
    """No connection: refused, reset, DNS or TLS."""

    code = "lm_connection"


class LMTimeout(LMError, TimeoutError):
    """No answer in time. Facts: timeout (seconds)."""

    code = "lm_timeout"


class LMRateLimited(LMError):
    """The provider asks to slow down. Facts: retry_after (seconds or None)."""

    code = "lm_rate_limited"


class LMQuotaExceeded(LMError):
    """No credit left at the provider; waiting does not help."""

    code = "lm_quota_exceeded"


class LMAuthError(LMError):
    """The key is missing, wrong or not allowed."""

    code = "lm_auth"


class LMInvalidRequest(LMError):
    """The provider will never accept this request."""

    code = "lm_invalid_request"


class LMContextLength(LMInvalidRequest):
    """The prompt is too long for the model."""

    code = "lm_context_length"


class LMServerError(LMError):
    """The provider failed (5xx, 408, 409, 529)."""

    code = "lm_server_error"


class LMProtocolError(LMError):
    """The answer is not what the protocol promises (HTML, truncated, malformed)."""

    code = "lm_protocol"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class StreamInterrupted(LMError):
    """A stream broke off after some of it was delivered; ``text`` and ``usage`` hold what came."""

    code = "lm_stream_interrupted"


class LMCircuitOpen(LMError):
    """The provider failed too often and rests; nothing was sent. ``retry_after`` is the seconds until a probe."""

    code = "circuit_open"


class LMBudgetExceeded(LMError):
    """The budget ``account`` has no room for this request; nothing was sent."""

    code = "budget_exceeded"
