"""All that stands before one provider, put together: breaker, gates, pause, slow-down and limits. Pure.

A request is checked in this order: breaker, quota gate and auth gate refuse at once; pause, slow-down and limits make
it wait, or refuse it; then it takes its place: from the limits, and as a probe if the breaker or a gate wants one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from ..configuration.provider_settings import ProviderSettings
from ..lm.failures import FAILURES
from .breaker import Breaker
from .breaker_verdicts import VERDICTS
from .gates import Gate, GateName, Pause, Slowdown
from .generations import Generations
from .limit_buckets import Shortage
from .limiter import Grant, Limiter

Blocker: TypeAlias = Literal["breaker", "quota", "auth"]

UNSENT: Final = frozenset(name for name, row in FAILURES.items() if not row.sent)
"""Failures of requests that never reached the provider: what they took of the limits is given back."""

_CLOSES: Final = {"quota": "close_quota", "auth": "misconfigured"}


class Change(NamedTuple):
    """Something changed its state.

    Attributes:
        gate: ``breaker``, ``quota``, ``auth``, ``pause``, ``slowdown`` or ``storage``.
        state: what it is now.
        reason: the failure's row, ``success``, ``reset``, ``settings`` or ``time``.
        seconds: how long that lasts, if it is known.
    """

    gate: str
    state: str
    reason: str
    seconds: float | None = None


class Asker(Protocol):
    """What is needed to know of a request before it is admitted."""

    @property
    def user(self) -> str | None:
        """On whose behalf."""
        ...

    @property
    def tokens(self) -> int:
        """What it needs, estimated."""
        ...


@dataclass(slots=True)
class Pass:
    """What an admitted request holds.

    Attributes:
        grant: of the limits.
        generation: when it was admitted, among the changes of state.
        probe: whether it decides about the breaker.
        trials: the gates that it tries.
    """

    grant: Grant
    generation: int
    probe: bool = False
    trials: tuple[GateName, ...] = ()


class Safeguards:
    """What protects one provider.

    Args:
        now: the time in seconds, on a clock that never goes back.
        rng: where jitter comes from.
        settings: the provider's.

    Attributes:
        in_flight: admissions that are not settled.
        last_failure: the row of the last failure that spoke against the provider; None if there was none.
    """

    def __init__(self, now: Callable[[], float], rng: random.Random, settings: ProviderSettings) -> None:
        self._generations = Generations()
        self.breaker = Breaker(now, self._generations)
        self.gates: dict[GateName, Gate] = {
            "quota": Gate("quota", now, self._generations),
            "auth": Gate("auth", now, self._generations),
        }
        self.pause = Pause(now, self._generations, rng)
        self.slowdown = Slowdown(self._generations)
        self.limiter = Limiter(now)
        self.in_flight = 0
        self.last_failure: str | None = None
        # Nothing is wrong and nothing is limited: most requests of most providers need to know no more.
        self._calm = True
        self._configure(settings)

    def __repr__(self) -> str:
        waits = (("pause", self.pause), ("slowdown", self.slowdown))
        parts = (("breaker", self.breaker), *self.gates.items(), *waits)
        return f"<{self.in_flight} in flight, {', '.join(f'{name} {part!r}' for name, part in parts)}>"

    def configure(self, settings: ProviderSettings) -> list[Change]:
        """Other settings from now on; counts and states stay, but what they may have mended is tried again."""
        before, was = self._settings, self.breaker.state
        self._configure(settings)
        changes: list[Change] = []
        if self.breaker.state != was:
            changes.append(Change("breaker", self.breaker.state, "settings"))
        if settings != before and self.gates["auth"].open():
            changes.append(Change("auth", "open", "settings"))
        if _account(settings) != _account(before) and self.gates["quota"].open():
            changes.append(Change("quota", "open", "settings"))
        return changes

    def _configure(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._calm = False
        self.limiter.configure(settings.rate_limit, settings.user_rate_limit)
        self.breaker.configure(
            threshold=settings.failure_threshold,
            recovery=settings.recovery_time,
            probes=settings.probes,
            successes=settings.success_threshold,
        )

    # -- in --------------------------------------------------------------------------------------

    def refuses(self) -> Blocker | None:
        """Who lets nobody pass now, if anybody does that."""
        if self._calm:
            return None
        if self.breaker.refuses():
            return "breaker"
        return next((gate.name for gate in self.gates.values() if gate.refuses()), None)

    def shortage(self, asker: Asker) -> Shortage | None:
        """Why a request must wait, or None if there is room for it."""
        short = self.limiter.shortage(asker.user, asker.tokens) if self.limiter.limited else None
        if self._calm or (short is not None and short.never):
            return short
        if left := self.pause.left:
            return Shortage("pause", "all", left)
        at_once = self.slowdown.limit
        if at_once is not None and self.in_flight >= at_once:
            return Shortage("slowdown", "all")
        return short

    def wait(self, asker: Asker, ahead: tuple[int, int], own_ahead: tuple[int, int]) -> float | None:
        """Seconds until there would be room for a request, if nobody else came; None if that is not known.

        Args:
            asker: the request.
            ahead: how many wait in front of it, and the tokens they need.
            own_ahead: those of them that are its user's.
        """
        at_once = self.slowdown.limit
        if at_once is not None and self.in_flight + ahead[0] >= at_once:
            return None
        wait = self.limiter.wait(asker.user, asker.tokens, ahead, own_ahead)
        return None if wait is None else max(wait, self.pause.left)

    def enter(self, asker: Asker) -> Pass:
        """Let a request pass: nobody refuses it, and there is room."""
        self.in_flight += 1
        grant = self.limiter.take(asker.user, asker.tokens)
        if self._calm:
            return Pass(grant, self._generations.current)
        probe = self.breaker.enter()
        trials: tuple[GateName, ...] = tuple(gate.name for gate in self.gates.values() if gate.enter())
        return Pass(grant, self._generations.current, probe, trials)

    # -- out -------------------------------------------------------------------------------------

    def settle(
        self, asker: Asker, held: Pass, failure: str | None, tokens: int | None, retry_after: float | None
    ) -> list[Change]:
        """A request ended: what changed by that.

        Args:
            asker: the request.
            held: what it was given.
            failure: the failure's row, ``cancelled``, or None for success.
            tokens: what it really used, or None.
            retry_after: seconds that the provider asked to wait, or None.
        """
        in_flight = self.in_flight
        self.in_flight -= 1
        self.limiter.settle(asker.user, held.grant, tokens, unsent=failure in UNSENT)
        if self._calm and failure is None:
            return []
        self._calm = False
        changes = [*self._judge(held, failure), *self._heed(held, failure, retry_after, in_flight)]
        self._calm = self._is_calm()
        return changes

    def _judge(self, held: Pass, failure: str | None) -> Iterator[Change]:
        """What an outcome says to the breaker and the gates."""
        verdict, reason = VERDICTS[failure], failure or "success"
        row = None if failure is None else FAILURES.get(failure)
        if verdict == "failed":
            self.last_failure = failure
        if self.breaker.report(verdict, held.generation, probe=held.probe):
            yield Change("breaker", self.breaker.state, reason, self.breaker.next_probe)
        for name, gate in self.gates.items():
            if row is not None and row.effect == _CLOSES[name]:
                if gate.close(self._settings.gate_time, held.generation):
                    yield Change(name, "closed", reason, self._settings.gate_time)
            elif gate.report(verdict, held.generation, trial=name in held.trials):
                yield Change(name, "open", reason)

    def _heed(self, held: Pass, failure: str | None, retry_after: float | None, in_flight: int) -> Iterator[Change]:
        """What else an outcome asks for: to pause, or to send less."""
        row = None if failure is None else FAILURES.get(failure)
        settings, generation = self._settings, held.generation
        if row is not None and row.effect == "pause":
            base, longest = settings.retry_base_delay, settings.retry_max_delay
            if self.pause.begin(retry_after, generation, base=base, longest=longest):
                yield Change("pause", "paused", row.name, self.pause.left)
        elif row is not None and row.effect == "lower_rate":
            if self.slowdown.overloaded(in_flight, generation):
                yield Change("slowdown", f"at most {self.slowdown.limit} at once", row.name)
        elif VERDICTS[failure] == "alive":
            self.pause.succeeded(generation)
            if self.slowdown.succeeded():
                yield Change("slowdown", "over", "success")

    def reset(self) -> list[Change]:
        """Close the breaker, open the gates, end pause and slow-down; what the windows hold stays."""
        changes: list[Change] = []
        if self.breaker.reset():
            changes.append(Change("breaker", "closed", "reset"))
        changes += [Change(name, "open", "reset") for name, gate in self.gates.items() if gate.open()]
        if self.pause.end():
            changes.append(Change("pause", "over", "reset"))
        if self.slowdown.end():
            changes.append(Change("slowdown", "over", "reset"))
        return changes

    def _is_calm(self) -> bool:
        return (
            self.breaker.calm
            and all(gate.state == "open" for gate in self.gates.values())
            and self.pause.calm
            and self.slowdown.limit is None
        )


def _account(settings: ProviderSettings) -> tuple[object, ...]:
    """Whose money it is."""
    return settings.api_key, settings.base_url, settings.headers, settings.organization, settings.project
