"""Consumers: stages that subscribe to producers and get what they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from ..cell import INIT
from ..errors import SpecError, UsageError
from ..gen_server import Exit, Fail, call
from ..handlers import Handler
from ..log import get_logger
from ..outcomes import Stop
from ..process import Target
from ..reasons import NOPROC, NORMAL, Reason, is_normal
from ..server_cell import ServerCell
from .accounting import Account
from .messages import (
    Ask,
    Cancel,
    Cancelled,
    Events,
    ProducerDown,
    Request,
    Subscribe,
    Subscription,
)
from .options import MAX_DEMAND, CancelMode, SubscribeOptions, bad_option, is_whole
from .stage import Stage, Work, drive, engine_cell

KEPT: Final = "already_subscribed"
"""The reason of a cancel that never ends a consumer (OTP STG-14)."""


class Inlet:
    """One subscription, seen from its consumer.

    Attributes:
        subscription: as the user sees it.
        account: its demand; None if the consumer asks itself.
        options: as subscribed.
        monitor: of the producer.
        gone: the producer has ended, or the subscription; what it sent before is still handled.
    """

    __slots__ = ("account", "gone", "monitor", "options", "subscription")

    def __init__(self, subscription: Subscription, options: SubscribeOptions) -> None:
        self.subscription = subscription
        self.options = options
        self.account: Account | None = None
        self.monitor = 0
        self.gone = False


class ConsumerSide(Stage):
    """The consuming half of a stage."""

    dspex_user_work = "handle_events"
    dspex_steps: ClassVar[Mapping[type, str]] = {
        Events: "_stage_on_events",
        Cancelled: "_stage_on_cancelled",
        ProducerDown: "_stage_on_producer_down",
    }

    def __init__(self) -> None:
        self._stage_inlets: dict[str, Inlet] = {}

    # -- for the user --------------------------------------------------------------------------------

    def handle_events(self, events: Any, subscription: Subscription) -> Any:
        """Events have come. Plain or async; while it runs no more are asked for.

        Args:
            events: a tuple, in the producer's order, of at most ``max_demand - min_demand``.
            subscription: where they come from.

        Returns:
            None, or ``Stop(reason)``; a producer-consumer also events to emit.
        """
        raise UsageError(f"{type(self).__qualname__} defines no handle_events")

    def subscribe_to(
        self,
        target: Target,
        *,
        max_demand: int = MAX_DEMAND,
        min_demand: int | None = None,
        cancel: CancelMode = "permanent",
        replaces: Subscription | None = None,
        reason: Reason = NORMAL,
        **dispatcher_options: Any,
    ) -> Subscription:
        """Subscribe to a producer, in ``init`` or later.

        Args:
            target: its name or address.
            max_demand: see :class:`.options.SubscribeOptions`.
            min_demand: see there.
            cancel: see there.
            replaces: an older subscription, which ends when this one begins (OTP STG-13).
            reason: why that one ends.
            **dispatcher_options: for the producer's dispatcher.

        Raises:
            SpecError: an option is malformed.
            UsageError: the target is no producer.
            Exit: in ``init``: with ``noproc``, if there is no such producer and ``cancel`` is not
                ``temporary`` (OTP STG-12). Later the stage exits so with its next message.
        """
        options = SubscribeOptions(max_demand, min_demand, cancel, dispatcher_options)
        return self._stage_subscribe(Subscribe(target, options, replaces, reason))

    def ask(self, subscription: Subscription, count: int) -> None:
        """Ask for ``count`` more events, in a subscription that is ``"manual"`` (OTP STG-05); 0 asks nothing.

        Raises:
            SpecError: no whole number from 0.
        """
        if not is_whole(count, 0):
            raise bad_option("ask", "count", "a whole number from 0", count)
        if count:
            self._stage_send_ask(subscription, count)

    def cancel_subscription(self, subscription: Subscription, reason: Reason = NORMAL) -> None:
        """End a subscription; when the producer has done so ``handle_cancel`` follows, and, by mode, the exit."""
        self._stage_tell(subscription.stage, Cancel(subscription.ref, reason))

    # -- subscribing ---------------------------------------------------------------------------------

    @call
    def dspex_on_subscribe(self, message: Subscribe) -> Subscription | Fail:
        """See :class:`.messages.Subscribe`."""
        try:
            return self._stage_subscribe(message)
        except (SpecError, UsageError) as error:
            return Fail(error)

    def _stage_subscribe(self, message: Subscribe) -> Subscription:
        cell = self._myRef
        engine, options = cell.engine, message.options
        producer = engine.cell_of(message.to, cell.namespace)
        address = producer.address if producer is not None else None
        subscription = Subscription(engine.ids.span_id(), address)
        if producer is None or not producer.alive:
            if options.cancel != "temporary":
                if cell.status == INIT:
                    raise Exit(NOPROC)
                self.system.stop_actor(cell.address, NOPROC)
            return subscription
        if isinstance(producer, ServerCell) and producer.infos[Request] is None:
            raise UsageError(f"{cell.label}: expected a producer to subscribe to, got {producer.label}, which is none")
        inlet = self._stage_inlets[subscription.ref] = Inlet(subscription, options)
        inlet.monitor = self._stage_watch(address, ProducerDown, subscription.ref)
        replaces = None if message.replaces is None else (message.replaces.ref, message.reason)
        everything = options.everything
        self._stage_tell(address, Request(subscription.ref, everything, replaces))
        answer = self.handle_subscribe("producer", everything, subscription)
        if answer == "automatic":
            inlet.account = Account(options.max_demand, options.minimum)
            self._stage_send_ask(subscription, options.max_demand)
        elif answer != "manual":
            raise Exit(answer.reason if isinstance(answer, Stop) else ("bad_return_value", answer))
        return subscription

    def _stage_send_ask(self, subscription: Subscription, count: int) -> None:
        cell, producer = self._myRef, engine_cell(subscription.stage)
        if producer is not None and not cell.guards:
            producer.put_notice(Ask(subscription.ref, count), cell.address)
        else:
            self._stage_tell(subscription.stage, Ask(subscription.ref, count))

    # -- events --------------------------------------------------------------------------------------

    def _stage_on_events(self, message: Events) -> Work:
        inlet = self._stage_inlets.get(message.ref)
        if inlet is None:
            self._stage_tell(self._myRef.sender, Cancel(message.ref, "unknown_subscription"))
            return None
        return (yield from self._stage_handle(inlet, message))

    def _stage_handle(self, inlet: Inlet, message: Events) -> Work:
        """Have the events of one message handled, chunk by chunk, each followed by its ask (OTP STG-04)."""
        events, account, subscription = message.events, inlet.account, inlet.subscription
        if account is None:
            return self._stage_handled((yield self.handle_events, events, subscription))
        if surplus := account.surplus(len(events)):
            get_logger("dspex.stages").error(
                "a producer sent more than it was asked for", actor=self._myRef.label, surplus=surplus
            )
        for chunk, ask in account.cut(events):
            stop = self._stage_handled((yield self.handle_events, chunk, subscription))
            if stop is not None:
                return stop
            if ask and not inlet.gone:
                self._stage_send_ask(subscription, ask)
        return None

    def _stage_handled(self, result: Any) -> Stop | None:
        """What came of handling some events."""
        if result is None or isinstance(result, Stop):
            return result
        get_logger("dspex.stages").error(
            "a consumer does not emit events; what handle_events returned is dropped", actor=self._myRef.label
        )
        return None

    # -- ends ----------------------------------------------------------------------------------------

    def _stage_on_cancelled(self, message: Cancelled) -> Work:
        yield from ()
        return self._stage_drop_inlet("cancel", message.ref, message.reason)

    def _stage_on_producer_down(self, message: ProducerDown) -> Work:
        yield from ()
        return self._stage_drop_inlet("down", message.subscription, message.reason)

    def _stage_drop_inlet(self, kind: str, ref: str, reason: Reason) -> Stop | None:
        """The user first, then, by mode, the exit with the bare reason (OTP STG-11)."""
        inlet = self._stage_inlets.pop(ref, None)
        if inlet is None:
            return None
        self.demonitor(inlet.monitor)
        stop = self.handle_cancel(kind, reason, inlet.subscription)
        if stop is not None:
            return stop
        mode = inlet.options.cancel
        if mode == "temporary" or (kind == "cancel" and reason == KEPT):
            return None
        return Stop(reason) if mode == "permanent" or not is_normal(reason) else None


class Consumer(ConsumerSide):
    """A stage that takes events.

    ::

        class Printer(Consumer):
            def init(self, source: str) -> None:
                self.subscribe_to(source, max_demand=10)

            def handle_events(self, events: tuple[int, ...], subscription: Subscription) -> None:
                print(*events)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        handler = cls.dspex_infos[Events]
        if handler is not None and not handler.is_async:
            cls.dspex_infos[Events] = Handler(cls._stage_take, is_async=False)

    def _stage_take(self, message: Events) -> Stop | None:
        """The hot path of ``_stage_on_events``: a message that is one chunk."""
        inlet = self._stage_inlets.get(message.ref)
        if inlet is not None:
            events, account = message.events, inlet.account
            count = len(events)
            if account is not None and count <= account.chunk and count <= account.outstanding:
                ask = account.take(count)
                stop = self.handle_events(events, inlet.subscription)
                if stop is not None and (stop := self._stage_handled(stop)) is not None:
                    return stop
                if ask:
                    self._stage_send_ask(inlet.subscription, ask)
                return None
        return drive(self._stage_on_events(message))


__all__ = ("KEPT", "Consumer", "ConsumerSide", "Inlet")
