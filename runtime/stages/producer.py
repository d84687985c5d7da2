"""Producers: stages that emit events, only as many as they were asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from thespian.actors import ActorAddress

from ..errors import SpecError, UsageError
from ..gen_server import Exit, call
from ..items import INFO
from ..log import get_logger
from ..outcomes import Stop
from ..reasons import NORMAL, Reason
from .buffer import new_buffer
from .dispatcher import SubscriptionRefused
from .messages import (
    Ask,
    Cancel,
    Cancelled,
    ConsumerDown,
    EstimateBufferedCount,
    Events,
    Request,
    SetDemandMode,
    Subscription,
)
from .options import FROM_STAGE, DemandMode, StageOptions, stage_options
from .output import Output
from .stage import Stage, Work, engine_cell

if TYPE_CHECKING:
    from ..cell import Cell
    from ..context import Context

DISCARDED: Final = ("dspex", "stage", "discarded")
"""Telemetry event: a full buffer dropped events. Measurements: ``count``; metadata: ``actor``."""
Demanded: TypeAlias = Iterable[Any] | Stop | None
"""What ``handle_demand`` answers."""


class Outlet:
    """One subscription, seen from its producer: a dispatcher's link.

    Attributes:
        subscription: as the user sees it.
        consumer: the consumer's address.
        monitor: of the consumer.
    """

    __slots__ = ("_cell", "_context", "_producer", "_ref", "_sent", "consumer", "monitor", "subscription")

    def __init__(self, producer: Cell, ref: str, consumer: ActorAddress | None, context: Context | None) -> None:
        self.subscription = Subscription(ref, consumer)
        self.consumer = consumer
        self.monitor = 0
        self._ref = ref
        cell = engine_cell(consumer)
        self._cell = None if cell is None or cell.elsewhere else cell
        self._producer = producer
        self._context = context
        self._sent = 0

    def send(self, events: tuple[Any, ...]) -> None:
        """Send events: what was asked for, so no mailbox refuses it. In the trace in which was subscribed."""
        first = self._sent
        self._sent = first + len(events)
        # Half the cost of Events(...).
        message = tuple.__new__(Events, (self._ref, first, events))  # pyright: ignore[reportUnknownMemberType]
        cell = self._cell
        if cell is None:
            self._send_elsewhere(message)
            return
        box = cell.mailbox
        if box is not None:  # put_notice, written out: this is the hot path
            box.append((INFO, message, self._producer.address, self._context))
            if not cell.scheduled:
                cell.scheduled = True
                cell.engine.schedule(cell)

    def _send_elsewhere(self, message: Events) -> None:
        cell = engine_cell(self.consumer)
        if cell is None:
            self._producer.engine.router.send(self.consumer, message, self._producer, self._context)
        else:
            cell.put_notice(message, self._producer.address, self._context)

    def ask_again(self, count: int) -> None:
        """See :class:`.dispatcher.Link`."""
        self._producer.put_notice(Ask(self._ref, count), self.consumer)


class ProducerSide(Stage):
    """The producing half of a stage."""

    options: ClassVar[StageOptions] = StageOptions()
    """How this class of producers works; an instance may say otherwise with :meth:`configure`."""
    dspex_buffer_size: ClassVar[int | None] = 10_000

    dspex_steps: ClassVar[Mapping[type, str]] = {
        Request: "_stage_on_request",
        Ask: "_stage_on_ask",
        Cancel: "_stage_on_cancel",
        ConsumerDown: "_stage_on_consumer_down",
        SetDemandMode: "_stage_on_mode",
    }
    dspex_cast_steps: ClassVar[Mapping[type, str]] = {SetDemandMode: "_stage_on_mode"}

    def __init__(self) -> None:
        self._stage_outlets: dict[str, Outlet] = {}
        self._stage_set_up(self.options)

    def configure(self, **options: Any) -> None:
        """Say in ``init`` how this producer works: the fields of :class:`.options.StageOptions`.

        Raises:
            Exit: with ``("bad_opts", text)``: an option is unknown or malformed; the start fails (OTP STG-01).
        """
        try:
            self._stage_set_up(stage_options(type(self).__qualname__, self.options, options))
        except SpecError as error:
            raise Exit(error.reason) from error

    def _stage_set_up(self, options: StageOptions) -> None:
        size = self.dspex_buffer_size if options.buffer_size == FROM_STAGE else options.buffer_size
        self._stage_output = Output(
            options.dispatcher(),
            new_buffer(size, options.buffer_keep),
            accumulate=options.demand == "accumulate",
            deliver_info=self._stage_deliver_info,
            discarded=self._stage_discarded,
        )

    # -- for the user --------------------------------------------------------------------------------

    def emit(self, events: Iterable[Any]) -> None:
        """Send events, in order, from a handler or a task of this stage; what nobody asked for is buffered.

        On other threads (``run_blocking``) it is handed to the engine's thread.
        """
        batch = tuple(events)
        cell = self._myRef
        if batch and (not cell.guards or cell.may_act(self._stage_output.emit, batch)):
            self._stage_output.emit(batch)

    def cancel_consumer(self, subscription: Subscription, reason: Reason = NORMAL) -> None:
        """End a consumer's subscription; ``handle_cancel`` follows, here and there."""
        self._myRef.put_notice(Cancel(subscription.ref, reason))

    def set_demand_mode(self, mode: DemandMode) -> None:
        """Have this producer's demand mode set, behind what waits in its mailbox (OTP STG-30)."""
        self.cast(self.myAddress, SetDemandMode(mode))

    def async_info(self, message: Any) -> None:
        """Have ``message`` arrive here, as info, behind all events buffered now (OTP STG-50)."""
        cell = self._myRef
        if not cell.guards or cell.may_act(self._stage_inform, message):
            self._stage_inform(message)

    def estimate_buffered_count(self) -> int:
        """How many events wait in the buffer (OTP STG-43)."""
        return self._stage_output.buffered

    def format_discarded(self, count: int) -> bool:
        """Whether to log that a full buffer dropped ``count`` events (OTP STG-42)."""
        return True

    # -- consumers -----------------------------------------------------------------------------------

    def _stage_on_request(self, request: Request) -> Work:
        cell = self._myRef
        consumer = cell.sender
        if request.ref in self._stage_outlets:
            self._stage_tell(consumer, Cancelled(request.ref, "duplicated_subscription"))
            return None
        if request.replaces is not None and (stop := (yield from self._stage_drop(*request.replaces, "cancel"))):
            return stop
        outlet = self._stage_outlets[request.ref] = Outlet(cell, request.ref, consumer, cell.context)
        outlet.monitor = self._stage_watch(consumer, ConsumerDown, request.ref)
        answer = self.handle_subscribe("consumer", request.options, outlet.subscription)
        if isinstance(answer, Stop):
            return answer
        if answer != "automatic":
            return Stop(("bad_return_value", answer))
        try:
            demand = self._stage_output.subscribe(outlet, request.options)
        except SubscriptionRefused as refusal:
            del self._stage_outlets[request.ref]
            self.demonitor(outlet.monitor)
            self._stage_tell(consumer, Cancelled(request.ref, refusal.reason))
            return None
        return (yield from self._stage_demanded(demand))

    def _stage_on_ask(self, ask: Ask) -> Work:
        outlet = self._stage_outlets.get(ask.ref)
        if outlet is None:
            self._stage_tell(self._myRef.sender, Cancelled(ask.ref, "unknown_subscription"))
            return None
        return (yield from self._stage_demanded(self._stage_output.ask(outlet, ask.more)))

    def _stage_on_cancel(self, cancel: Cancel) -> Work:
        return (yield from self._stage_drop(cancel.ref, cancel.reason, "cancel"))

    def _stage_on_consumer_down(self, down: ConsumerDown) -> Work:
        return (yield from self._stage_drop(down.subscription, down.reason, "down"))

    def _stage_drop(self, ref: str, reason: Reason, kind: str) -> Work:
        """A subscription ends: the user first, as the dispatcher may then ask for more (OTP STG-10)."""
        outlet = self._stage_outlets.pop(ref, None)
        if outlet is None:
            return None
        self.demonitor(outlet.monitor)
        if kind == "cancel":
            self._stage_tell(outlet.consumer, Cancelled(ref, reason))
        stop = self.handle_cancel(kind, reason, outlet.subscription)
        if stop is not None:
            return stop
        return (yield from self._stage_demanded(self._stage_output.cancel(outlet)))

    def _stage_demanded(self, demand: int) -> Work:
        """Meet new demand."""
        raise UsageError(f"{type(self).__qualname__} is neither a Producer nor a ProducerConsumer")

    # -- infos and discards --------------------------------------------------------------------------

    @call
    def dspex_on_estimate(self, message: EstimateBufferedCount) -> int:
        """See :class:`.messages.EstimateBufferedCount`."""
        return self._stage_output.buffered

    def _stage_inform(self, message: Any) -> None:
        self._stage_output.info(message)

    def _stage_deliver_info(self, message: Any) -> None:
        self._myRef.put_notice(message)

    def _stage_discarded(self, count: int) -> None:
        self.system.telemetry.execute(DISCARDED, {"count": count}, {"actor": self._myRef.label})
        if self.format_discarded(count):
            get_logger("dspex.stages").warning("a full buffer dropped events", actor=self._myRef.label, discarded=count)

    # -- demand mode ---------------------------------------------------------------------------------

    def _stage_on_mode(self, message: SetDemandMode) -> Work:
        if message.mode == "accumulate":
            self._stage_output.accumulate()
            return None
        for held in self._stage_output.forward():
            if isinstance(held, tuple):
                self._stage_output.emit(held)
            elif stop := (yield from self._stage_demanded(self._stage_output.serve(held))):
                return stop
        return None


class Producer(ProducerSide):
    """A stage that emits events.

    ::

        class Counter(Producer):
            def init(self) -> None:
                self.n = 0

            def handle_demand(self, demand: int) -> Iterable[int]:
                self.n += demand
                return range(self.n - demand, self.n)
    """

    dspex_user_work = "handle_demand"

    def handle_demand(self, demand: int) -> Demanded | Awaitable[Demanded]:
        """Consumers ask for ``demand`` more. Plain or async.

        Fewer may be emitted now and the rest later, with :meth:`emit`: it is not asked for again (OTP STG-40);
        see :class:`.credit.Credit`.

        Returns:
            Events, None, or ``Stop(reason)``.
        """
        raise UsageError(f"{type(self).__qualname__} defines no handle_demand")

    def _stage_demanded(self, demand: int) -> Work:
        if not demand:
            return None
        result: Any = yield self.handle_demand, demand
        if isinstance(result, Stop):
            return result
        if result is not None:
            self.emit(result)
        return None


__all__ = ("DISCARDED", "Demanded", "Outlet", "Producer", "ProducerSide")
