"""Options of stages and of subscriptions, checked when made (OTP STG-01, STG-02)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

from ..child_spec import check_options
from ..errors import SpecError, did_you_mean
from .buffer import Keep
from .demand_dispatcher import DemandDispatcher
from .dispatcher import Dispatcher

DemandMode = Literal["forward", "accumulate"]
CancelMode = Literal["permanent", "transient", "temporary"]
FROM_STAGE: Final = -1
"""The default of ``buffer_size``: what the kind of stage says."""
MAX_DEMAND: Final = 1000


@dataclass(frozen=True, slots=True)
class StageOptions:
    """How a producer, or the producing half of a producer-consumer, works.

    Attributes:
        dispatcher: makes the dispatcher: a class, or ``lambda: PartitionDispatcher(4)``.
        buffer_size: events kept that nobody has asked for, None for any number. Unless given 10,000 in a
            producer, any number in a producer-consumer.
        buffer_keep: what a full buffer keeps: ``last`` drops the oldest events, ``first`` the newest.
        demand: ``accumulate`` keeps asks and events back until the mode is ``forward``.

    Raises:
        SpecError: an option is malformed; ``reason`` is ``("bad_opts", text)``.
    """

    dispatcher: Callable[[], Dispatcher] = DemandDispatcher
    buffer_size: int | None = FROM_STAGE
    buffer_keep: Keep = "last"
    demand: DemandMode = "forward"

    def __post_init__(self) -> None:
        if not callable(self.dispatcher):
            raise bad_option("stage", "dispatcher", "a class or a function that makes a dispatcher", self.dispatcher)
        size: object = self.buffer_size
        if size is not None and size != FROM_STAGE and not is_whole(size, 1):
            raise bad_option("stage", "buffer_size", "a whole number from 1, or None", size)
        check_word("stage", "buffer_keep", self.buffer_keep, get_args(Keep))
        check_word("stage", "demand", self.demand, get_args(DemandMode))


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """How a consumer subscribes.

    Attributes:
        max_demand: events that may be asked for and not received yet, from 1.
        min_demand: at or below so many outstanding, more are asked for; half of ``max_demand`` unless given.
        cancel: what the end of the producer, or of the subscription, means for the consumer: ``permanent``:
            it exits with the same reason; ``transient``: only if the reason is abnormal; ``temporary``: it stays.
        dispatcher_options: for the producer's dispatcher, such as ``partition`` and ``selector``.

    Raises:
        SpecError: an option is malformed; ``reason`` is ``("bad_opts", text)``.
    """

    max_demand: int = MAX_DEMAND
    min_demand: int | None = None
    cancel: CancelMode = "permanent"
    dispatcher_options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not is_whole(self.max_demand, 1):
            raise bad_option("subscription", "max_demand", "a whole number from 1", self.max_demand)
        least: object = self.min_demand
        if least is not None and not (is_whole(least, 0) and self.minimum < self.max_demand):
            wanted = f"a whole number from 0 to {self.max_demand - 1} (below max_demand)"
            raise bad_option("subscription", "min_demand", wanted, least)
        check_word("subscription", "cancel", self.cancel, get_args(CancelMode))

    @property
    def everything(self) -> dict[str, Any]:
        """All of it as one mapping, as both ends are told."""
        how = {"max_demand": self.max_demand, "min_demand": self.minimum, "cancel": self.cancel}
        return {**self.dispatcher_options, **how}

    @property
    def minimum(self) -> int:
        """``min_demand``, or its default."""
        return self.max_demand // 2 if self.min_demand is None else self.min_demand


STAGE_OPTIONS: Final = tuple(each.name for each in fields(StageOptions))


def stage_options(where: str, base: StageOptions, given: Mapping[str, Any]) -> StageOptions:
    """``base`` with some options replaced.

    Raises:
        SpecError: an option is unknown (with the nearest known one) or malformed.
    """
    try:
        check_options(where, given, STAGE_OPTIONS)
    except SpecError as error:
        raise SpecError(error.message, reason=("bad_opts", error.message)) from error
    return StageOptions(**{**{name: getattr(base, name) for name in STAGE_OPTIONS}, **given})


def bad_option(where: str, option: str, expected: str, got: object, hint: str = "") -> SpecError:
    """The error of a malformed option."""
    text = f"{where}, {option}: expected {expected}, got {got!r}{hint}"
    return SpecError(text, reason=("bad_opts", text))


def is_whole(value: object, least: int) -> bool:
    """Whether ``value`` is a whole number from ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_word(where: str, option: str, got: object, known: tuple[str, ...]) -> None:
    """Refuse a word that is not known, with the nearest one that is."""
    if got not in known:
        raise bad_option(where, option, "one of " + ", ".join(map(repr, known)), got, did_you_mean(str(got), known))


__all__ = (
    "FROM_STAGE",
    "MAX_DEMAND",
    "STAGE_OPTIONS",
    "CancelMode",
    "DemandMode",
    "StageOptions",
    "SubscribeOptions",
    "bad_option",
    "check_word",
    "is_whole",
    "stage_options",
)
