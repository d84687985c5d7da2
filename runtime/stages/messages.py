"""Messages of stages: those for users on top, those that stages send each other below.

All are values that pickle: addresses, texts, numbers, and the events themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, get_args

from thespian.actors import ActorAddress

from ..messages import Down
from ..reasons import NORMAL, Reason
from .options import DemandMode, SubscribeOptions, check_word

DEFAULTS: Final = SubscribeOptions()


class Subscription(NamedTuple):
    """One subscription, as one of its two ends holds it.

    Attributes:
        ref: its id, the same at both ends.
        stage: the other end.
    """

    ref: str
    stage: ActorAddress | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Call of a consumer: subscribe to a producer. Answers the :class:`Subscription`.

    With a producer that is not there the answer is a subscription too; then the consumer exits with
    ``noproc``, unless ``cancel`` is ``temporary`` (OTP STG-12).

    Attributes:
        to: the producer's name or address.
        options: how.
        replaces: a subscription of this consumer that ends when the new one begins (OTP STG-13).
        reason: why that one ends.
    """

    to: str | ActorAddress
    options: SubscribeOptions = DEFAULTS
    replaces: Subscription | None = None
    reason: Reason = NORMAL


@dataclass(frozen=True, slots=True)
class SetDemandMode:
    """Cast, or plain message, to a producer (OTP STG-30).

    Attributes:
        mode: ``accumulate`` keeps asks and events back, ``forward`` lets them go.

    Raises:
        SpecError: no such mode.
    """

    mode: DemandMode

    def __post_init__(self) -> None:
        check_word("producer", "demand", self.mode, get_args(DemandMode))


@dataclass(frozen=True, slots=True)
class SyncInfo:
    """Call of a stage: have ``message`` arrive, as info, behind all events buffered now (OTP STG-50). Answers None."""

    message: Any


@dataclass(frozen=True, slots=True)
class AsyncInfo:
    """Cast to a stage: the same without an answer."""

    message: Any


@dataclass(frozen=True, slots=True)
class EstimateBufferedCount:
    """Call of a producer: how many events wait in its buffer (OTP STG-43)."""


# -- between stages --------------------------------------------------------------------------------


class Events(NamedTuple):
    """Producer to consumer: events.

    Attributes:
        ref: of which subscription.
        first: the number of the first of them on this subscription, from 0.
        events: in order.
    """

    ref: str
    first: int
    events: tuple[Any, ...]


class Ask(NamedTuple):
    """Consumer to producer: so many more."""

    ref: str
    more: int


class Request(NamedTuple):
    """Consumer to producer: a subscription.

    Attributes:
        ref: its id.
        options: how, see :attr:`.options.SubscribeOptions.everything`.
        replaces: id and reason of an older one that ends now, or None.
    """

    ref: str
    options: Mapping[str, Any]
    replaces: tuple[str, Reason] | None


class Cancel(NamedTuple):
    """Consumer to producer: the subscription ends."""

    ref: str
    reason: Reason


class Cancelled(NamedTuple):
    """Producer to consumer: the subscription has ended."""

    ref: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class StageDown(Down):
    """To a stage, from its monitor: the other end of a subscription has ended.

    Attributes:
        subscription: its id.
    """

    subscription: str


class ConsumerDown(StageDown):
    """To a producer: the consumer has ended."""

    __slots__ = ()


class ProducerDown(StageDown):
    """To a consumer: the producer has ended."""

    __slots__ = ()


__all__ = (
    "DEFAULTS",
    "Ask",
    "AsyncInfo",
    "Cancel",
    "Cancelled",
    "ConsumerDown",
    "EstimateBufferedCount",
    "Events",
    "ProducerDown",
    "Request",
    "SetDemandMode",
    "StageDown",
    "Subscribe",
    "Subscription",
    "SyncInfo",
)
