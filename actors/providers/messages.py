"""What a provider actor is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Final, Literal, TypeAlias

from thespian.actors import ActorAddress

from ...runtime.messages import Opens
from ..lm.values import LMRequest
from .tally import Health

OnLimit: TypeAlias = Literal["wait", "fail"]
SUBSCRIBE_PATIENCE: Final = 30.0
"""Seconds that an opened stream waits for its first consumer."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a provider, or of a route across several.

    Attributes:
        request: the request.
        accounts: budgets that pay for it beside the provider's own: ``module/qa``, ``run/r1``.
        on_limit: wait for room or fail at once; as the provider is configured if None.
        cache: whether an answer from the cache will do, and may be kept there.
        rollout: requests that are alike but for this have answers of their own in the cache.
    """

    request: LMRequest
    _: KW_ONLY
    accounts: tuple[str, ...] = ()
    on_limit: OnLimit | None = None
    cache: bool = True
    rollout: str | None = None


@dataclass(frozen=True, slots=True)
class Complete(Ask):
    """Sends one request and answers an :class:`~.lm.values.LMResponse`.

    Fails with an ``LMError``. Give up on the call and the request ends, connection included.
    """


@dataclass(frozen=True, slots=True)
class Leave:
    """The stream is of no use to anybody: end it."""


@dataclass(frozen=True, slots=True)
class OpenStream(Ask, Opens):
    """Begins a stream and answers a :class:`StreamOpened` once its first chunk is there.

    Fails with an ``LMError``; until the first chunk, attempts are made as for a whole answer. The stream ends when its
    last consumer leaves, or if none comes within ``SUBSCRIBE_PATIENCE`` seconds; at once if its caller gives up before
    it has the answer.
    """

    def farewell(self) -> Leave:
        """See :class:`~dspex.runtime.messages.Opens`."""
        return Leave()


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A stream that may be subscribed to.

    Attributes:
        address: the producer of its :class:`~.lm.chunks.LMChunk` and one :class:`~.lm.chunks.LMStreamEnd`.
        provider: id of the provider that answers.
    """

    address: ActorAddress
    provider: str


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Answers a :class:`ProviderStatusReport`."""


@dataclass(frozen=True, slots=True)
class ProviderStatusReport:
    """How a provider is; counts are of this incarnation of the actor.

    Attributes:
        provider: its id.
        kind: its wire protocol.
        base_url: where it is.
        default_model: the model of requests that name none.
        health: ``ready``, ``failing`` or ``misconfigured``.
        in_flight: requests being served now.
        requests, responses: all, and those that were answered.
        errors: the others, by the error's code.
        input_tokens, output_tokens: sums of what the provider counted.
        unknown_usage: answers whose tokens nobody told.
        last_error: what the last failure said, or None.
        uptime: seconds since the actor was started.
    """

    provider: str
    kind: str
    base_url: str
    default_model: str | None
    health: Health
    in_flight: int
    requests: int
    responses: int
    errors: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    unknown_usage: int
    last_error: str | None
    uptime: float
