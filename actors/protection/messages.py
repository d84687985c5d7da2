"""What the protection of a provider is asked and told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from thespian.actors import ActorAddress

from ...runtime.errors import UsageError, did_you_mean
from .breaker_verdicts import VERDICTS, BreakerReport
from .gates import GateReport
from .limit_report import BucketReport


@dataclass(frozen=True, slots=True)
class Admit:
    """Asks to be let through to the provider; answers an :class:`Admission` as soon as there is room.

    The asker settles each admission with :class:`Settle`. That of an actor is taken back when it dies.

    Attributes:
        id: the asker's own, like no other that is not settled yet.
        tokens: input and output tokens it will need, estimated; :class:`Settle` puts that right.
        user: on whose behalf; None is one user.
        on_limit: whether to wait for room or to fail; None is as configured.
        lease: seconds after which the admission is taken back if it is not settled; for askers that are no actors.
        owner: the actor whose death takes it back; None is the asker, if that is an actor.

    Raises at the caller:
        LMCircuitOpen: the breaker is open (``retry_after``: seconds until a probe; None while probes find out).
        LMQuotaExceeded, LMAuthError: the account is empty, or the key or settings are wrong, as somebody found out
            before (``gate``, ``retry_after``).
        LMRateLimited: no room (``local`` is true, ``limit``, ``scope``, ``retry_after``; None: not known, or never).
        UsageError: the id is taken, or an argument is malformed.
    """

    id: str
    tokens: int = 0
    user: str | None = None
    on_limit: Literal["wait", "fail"] | None = None
    lease: float | None = None
    owner: ActorAddress | None = None

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise UsageError(f"expected tokens from 0, got {self.tokens}, at Admit.tokens")
        if self.lease is not None and not self.lease > 0:
            raise UsageError(f"expected seconds above 0, got {self.lease}, at Admit.lease")


@dataclass(frozen=True, slots=True)
class Admission:
    """The asker may send its request.

    Attributes:
        id: the asker's.
        waited: seconds it waited.
        probe: whether it decides about the breaker.
    """

    id: str
    waited: float = 0.0
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """Tells how an admission ended; a cast. An unknown id is ignored; one that still waits is taken out of the queue.

    Attributes:
        id: the asker's.
        failure: the row of :data:`~.lm.failures.FAILURES`; None is success, ``cancelled`` says nothing of the provider.
        tokens: what was really used; None if that is not known.
        retry_after: seconds that the provider asked to wait.

    Raises:
        UsageError: the failure is no row, or the seconds are no finite number from 0.
    """

    id: str
    failure: str | None = None
    tokens: int | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        if self.failure not in VERDICTS:
            known = [name for name in VERDICTS if name is not None]
            hint = did_you_mean(str(self.failure), known)
            raise UsageError(
                f"expected the name of a failure ({', '.join(known)}), got {self.failure!r}, at Settle.failure{hint}"
            )
        if self.tokens is not None and self.tokens < 0:
            raise UsageError(f"expected tokens from 0, got {self.tokens}, at Settle.tokens")
        if self.retry_after is not None and not 0.0 <= self.retry_after < math.inf:
            raise UsageError(f"expected seconds from 0, got {self.retry_after}, at Settle.retry_after")


@dataclass(frozen=True, slots=True)
class ProtectionStatus:
    """Answers a :class:`ProtectionReport`."""


@dataclass(frozen=True, slots=True)
class ResetProtection:
    """Closes the breaker, opens all gates, ends pause and slow-down; counts of the windows stay. Answers None."""


@dataclass(frozen=True, slots=True)
class ProtectionReport:
    """How the protection of a provider is.

    Attributes:
        provider: the provider's id.
        breaker: the breaker.
        opened_at: when it opened, in seconds since the epoch; None unless it is open.
        gates: the gates.
        buckets: the limits of all, and those of the users seen last.
        users: how many users' limits are kept.
        waiting: requests that wait for room.
        in_flight: admissions that are not settled.
        pause_left: seconds for which nobody is admitted.
        slowed_to: requests that may be in flight while the provider is overloaded; None: it is not.
        storage: where the limits are: ``memory``, ``shared``, or ``down``: the shared store does not answer, so
            this process keeps to them by itself.
        storage_failures: how often the shared store did not answer.
        admitted: admissions so far.
        refused: refusals so far, by what refused.
    """

    provider: str
    breaker: BreakerReport
    opened_at: float | None
    gates: tuple[GateReport, ...]
    buckets: tuple[BucketReport, ...]
    users: int
    waiting: int
    in_flight: int
    pause_left: float
    slowed_to: int | None
    storage: Literal["memory", "shared", "down"]
    storage_failures: int
    admitted: int
    refused: Mapping[str, int]
