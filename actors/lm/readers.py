"""What streams have in common that live for their readers: they wait for the first one, and end with the last."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.gen_server import Stop, cast, info
from ...runtime.reasons import NORMAL, Reason
from ...runtime.stages import Subscription
from ...runtime.stages.producer import ProducerSide
from ...runtime.timers import Timer
from ..providers.messages import SUBSCRIBE_PATIENCE, Leave


@dataclass(frozen=True, slots=True)
class _Patience:
    """To itself: has anybody come?"""


@dataclass(frozen=True, slots=True)
class _Delivered:
    """To itself, behind the last event: everything was delivered."""


class EndsWithReaders(ProducerSide):
    """A stage that is of no use without a reader; stands before ``Producer`` or ``ProducerConsumer``."""

    _readers = 0

    def _give_up(self) -> Stop:
        """Nobody reads it any more: tell whom it concerns, and end."""
        raise TypeError(f"{type(self).__name__} does not say how it ends without readers")

    def _opening(self) -> bool:
        """Whether nobody can have come yet."""
        return False

    def _await_readers(self) -> Timer:
        """From now on somebody has to come."""
        return self.start_timer(SUBSCRIBE_PATIENCE, _Patience())

    def _end_delivered(self) -> None:
        """The last event was given: end behind it."""
        self.async_info(_Delivered())

    def handle_subscribe(self, role: str, options: object, subscription: Subscription) -> str:
        """Count the readers."""
        self._readers += role == "consumer"
        return "automatic"

    def handle_cancel(self, kind: str, reason: Reason, subscription: Subscription) -> Stop | None:
        """A reader left."""
        self._readers -= 1
        return None if self._readers else self._give_up()

    @cast
    def leave(self, msg: Leave) -> Stop:
        """It is of no use to anybody: end."""
        return self._give_up()

    @info
    def patience(self, msg: _Patience) -> Stop | None:
        """Nobody came: it must not run on for nobody."""
        return None if self._readers or self._opening() else self._give_up()

    @info
    def delivered(self, msg: _Delivered) -> Stop:
        """Everything was delivered."""
        return Stop(NORMAL)
