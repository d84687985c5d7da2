"""What a provider actor counts, and what its health is judged by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ...runtime.errors import Error, LMError
from ..lm.failures import failure_of
from ..lm.values import Usage

Health: TypeAlias = Literal["ready", "failing", "misconfigured"]


@dataclass(slots=True)
class Tally:
    """Counts of one incarnation of a provider actor.

    Attributes:
        health: by the last outcome that says something about the provider: ``failing`` after a failure that counts
            against it, ``misconfigured`` if its key, address or settings are wrong.
        in_flight: requests being served now.
        requests: all that were begun.
        responses: those that were answered.
        errors: the others, by the error's code; ``cancelled`` if the caller gave up.
        input_tokens, output_tokens: sums of what the provider counted.
        unknown_usage: answers whose tokens nobody told.
        last_error: what the last failure said, or None.
    """

    health: Health = "ready"
    in_flight: int = 0
    requests: int = 0
    responses: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    input_tokens: int = 0
    output_tokens: int = 0
    unknown_usage: int = 0
    last_error: str | None = None

    def begin(self) -> None:
        """A request is taken up."""
        self.requests += 1
        self.in_flight += 1

    def succeed(self, usage: Usage) -> None:
        """It was answered."""
        self.in_flight -= 1
        self.responses += 1
        self.health = "ready"
        self.input_tokens += usage.input_tokens or 0
        self.output_tokens += usage.output_tokens or 0
        self.unknown_usage += usage.source == "unknown"

    def fail(self, code: str, error: Error | None) -> None:
        """It failed, or was cancelled (no error)."""
        self.in_flight -= 1
        self.errors[code] = self.errors.get(code, 0) + 1
        if error is None:
            return
        self.last_error = str(error)
        row = failure_of(error) if isinstance(error, LMError) else None
        if row is None or row.effect == "misconfigured":
            self.health = "misconfigured"
        elif row.counts_for_breaker:
            self.health = "failing"

    def counters(self) -> Mapping[str, Any]:
        """What the registry shows."""
        return {"requests": self.requests, "responses": self.responses, "errors": sum(self.errors.values())}
