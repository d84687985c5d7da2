"""Producer-consumers: stages that take events and emit what they make of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from ..log import get_logger
from ..outcomes import Stop
from ..reasons import Reason
from .consumer import ConsumerSide, Inlet
from .messages import Cancel, Cancelled, Events, ProducerDown, SetDemandMode
from .producer import ProducerSide
from .stage import Work


class _Incoming(NamedTuple):
    """A message of events that waits for demand."""

    inlet: Inlet
    message: Events


class _End(NamedTuple):
    """The end of a subscription, behind the events that came before it."""

    kind: str
    ref: str
    reason: Reason


class _Info(NamedTuple):
    """An info, behind the events that came before it."""

    message: Any


class ProducerConsumer(ProducerSide, ConsumerSide):
    """A stage between a producer and consumers: what ``handle_events`` returns is emitted.

    ::

        class Doubler(ProducerConsumer):
            def init(self, source: str) -> None:
                self.subscribe_to(source, max_demand=100)

            def handle_events(self, events: tuple[int, ...], subscription: Subscription) -> Iterable[int]:
                return [2 * event for event in events]

    It takes events only while its own consumers ask for some (OTP STG-20, STG-21).
    """

    dspex_buffer_size = None
    dspex_user_work = "handle_events"
    dspex_steps: ClassVar[Mapping[type, str]] = {**ConsumerSide.dspex_steps, **ProducerSide.dspex_steps}

    def __init__(self) -> None:
        ProducerSide.__init__(self)
        ConsumerSide.__init__(self)
        self._stage_queue: deque[_Incoming | _End | _Info] = deque()
        self._stage_demand = 0
        self._stage_emitted = 0

    def emit(self, events: Iterable[Any]) -> None:
        """See :meth:`.producer.ProducerSide.emit`."""
        batch = tuple(events)
        self._stage_emitted += len(batch)
        super().emit(batch)

    def _stage_demanded(self, demand: int) -> Work:
        self._stage_demand += demand
        return (yield from self._stage_work_off())

    def _stage_on_events(self, message: Events) -> Work:
        inlet = self._stage_inlets.get(message.ref)
        if inlet is None:
            self._stage_tell(self._myRef.sender, Cancel(message.ref, "unknown_subscription"))
            return None
        self._stage_queue.append(_Incoming(inlet, message))
        return (yield from self._stage_work_off())

    def _stage_work_off(self) -> Work:
        """Take from the queue what may be taken; demand falls by what is emitted (OTP STG-22)."""
        queue = self._stage_queue
        while queue and (self._stage_demand > 0 or not isinstance(queue[0], _Incoming)):
            entry = queue.popleft()
            stop: Stop | None = None
            if isinstance(entry, _Incoming):
                before = self._stage_emitted
                stop = yield from self._stage_handle(entry.inlet, entry.message)
                # What was emitted beyond the demand waits in the buffer, and is served from there first.
                self._stage_demand = max(0, self._stage_demand - (self._stage_emitted - before))
            elif isinstance(entry, _End):
                stop = self._stage_drop_inlet(*entry)
            else:
                self._stage_output.info(entry.message)
            if stop is not None:
                return stop
        return None

    def _stage_handled(self, result: Any) -> Stop | None:
        if result is None or isinstance(result, Stop):
            return result
        self.emit(result)
        return None

    # -- what waits behind the queue (OTP STG-23, STG-50) ----------------------------------------------

    def _stage_on_cancelled(self, message: Cancelled) -> Work:
        yield from ()
        return self._stage_end("cancel", message.ref, message.reason)

    def _stage_on_producer_down(self, message: ProducerDown) -> Work:
        yield from ()
        return self._stage_end("down", message.subscription, message.reason)

    def _stage_end(self, kind: str, ref: str, reason: Reason) -> Stop | None:
        inlet = self._stage_inlets.get(ref)
        if inlet is None or inlet.gone:
            return None
        inlet.gone = True
        if not self._stage_queue:
            return self._stage_drop_inlet(kind, ref, reason)
        self._stage_queue.append(_End(kind, ref, reason))
        return None

    def _stage_inform(self, message: Any) -> None:
        if self._stage_queue:
            self._stage_queue.append(_Info(message))
        else:
            self._stage_output.info(message)

    def _stage_on_mode(self, message: SetDemandMode) -> Work:
        """It knows only ``forward``."""
        yield from ()
        if message.mode != "forward":
            get_logger("dspex.stages").error(
                "demand mode 'accumulate' is for producers only; it stays 'forward'", actor=self._myRef.label
            )
        return None


__all__ = ("ProducerConsumer",)
