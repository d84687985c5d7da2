"""The supervisor that starts one child for each event it consumes (OTP CSU-01 to CSU-05)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Never

from ..runtime.child_spec import ChildSpec, check_options
from ..runtime.errors import SpecError
from ..runtime.gen_server import Fail, Started, Stop
from ..runtime.messages import ExitSignal
from ..runtime.process import Target
from ..runtime.reasons import Reason
from ..runtime.stages.consumer import ConsumerSide
from ..runtime.stages.messages import Subscribe, Subscription
from ..runtime.stages.options import SubscribeOptions
from .base import TryAgain
from .children import Child
from .flags import Flags, window_of
from .messages import TerminateChild
from .pool import PoolSupervisor
from .specs import AnySpec, Seconds, check_template, supervisor_child

OPTIONS = ("template", "subscribe_to", "max_restarts", "max_seconds")
Source = Target | tuple[Target, SubscribeOptions]


class _Places:
    """What one subscription may still start: the events asked for, and ends that are not asked for yet."""

    __slots__ = ("minimum", "saved", "subscription")

    def __init__(self, subscription: Subscription, minimum: int) -> None:
        self.subscription = subscription
        self.minimum = minimum
        self.saved = 0


class ConsumerSupervisor(ConsumerSide, PoolSupervisor):
    """Starts one child of its template for each event, the event appended to the arguments.

    ``max_demand`` is the number of children at one time, restarting ones included; more events are asked for
    when at least ``min_demand`` children have ended. A :class:`~..runtime.stages.messages.Subscribe` call
    subscribes it to further producers.
    """

    wraps_start_errors = False

    _template: ChildSpec

    def init(
        self,
        template: AnySpec | Iterable[AnySpec],
        subscribe_to: Sequence[Source] = (),
        *,
        max_restarts: int = 3,
        max_seconds: Seconds = 5.0,
        **unknown: Never,
    ) -> Stop | None:
        """Check all, and subscribe.

        Args:
            template: the one child spec, ``temporary`` or ``transient``.
            subscribe_to: producers, each perhaps with how to subscribe.
            max_restarts: restarts allowed within ``max_seconds``.
            max_seconds: the window in seconds.
            **unknown: refused, with the nearest known option.

        Raises:
            Exit: with ``noproc``, if a producer is not there.
        """
        check_options(self.label, unknown, OPTIONS)
        try:
            self._template = check_consumer_template(template)
            self._window = window_of(Flags("simple_one_for_one", max_restarts, max_seconds, "never"))
        except SpecError as error:
            return Stop(error.reason)
        self._by_address, self._by_name = {}, {}
        self._places: dict[str, _Places] = {}
        self._started_for: dict[Child, str] = {}
        for source in subscribe_to:
            target, options = source if isinstance(source, tuple) else (source, SubscribeOptions())
            self._stage_subscribe(Subscribe(target, options))
        return None

    @classmethod
    def child_spec(
        cls, id: Hashable = None, template: AnySpec | None = None, subscribe_to: Sequence[Source] = (), **options: Any
    ) -> ChildSpec:
        """This supervisor as a child of another one, checked now.

        Args:
            id: its id there; the class's name if not given.
            template: see :meth:`init`.
            subscribe_to: see :meth:`init`.
            **options: arguments of :meth:`init`, and fields of a child spec (``restart``, ``name`` ...).

        Raises:
            SpecError: an option is unknown or malformed.
        """
        flags = {name: options.pop(name) for name in OPTIONS[2:] if name in options}
        Flags("simple_one_for_one", **flags)
        args = (check_consumer_template(() if template is None else template), tuple(subscribe_to))
        return supervisor_child(id, cls, flags, options, args)

    # -- events --------------------------------------------------------------------------------------

    def handle_subscribe(self, role: str, options: Mapping[str, Any], subscription: Subscription) -> str:
        """It asks itself: first for as many as it may start, then for the places of those that ended."""
        self._places[subscription.ref] = _Places(subscription, options["min_demand"])
        self.ask(subscription, options["max_demand"])
        return "manual"

    async def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> None:
        """One child each; a start that fails or is ignored takes no place (OTP CSU-03)."""
        unused = 0
        for event in events:
            child = self.new_child(replace(self._template, args=(*self._template.args, event)))
            outcome = await self.add(child)
            if isinstance(outcome, Started):
                self._started_for[child] = subscription.ref
            else:
                unused += 1
        if unused:
            self._give_back(subscription.ref, unused)

    def handle_cancel(self, kind: str, reason: Reason, subscription: Subscription) -> None:
        """Its children live on, unless the subscription's end ends this supervisor (OTP CSU-05)."""
        self._places.pop(subscription.ref, None)

    def _give_back(self, ref: str, count: int) -> None:
        """Save places up, and ask for them in one ask once there are enough (OTP CSU-04)."""
        places = self._places.get(ref)
        if places is None:
            return
        places.saved += count
        if places.saved >= places.minimum:
            self.ask(places.subscription, places.saved)
            places.saved = 0

    # -- ends of children ----------------------------------------------------------------------------

    async def child_ended(self, signal: ExitSignal) -> Stop | None:
        """As of any pool; one that is not restarted gives its place back."""
        child = self.find(signal.sender)
        stop = await super().child_ended(signal)
        self._check_place(child)
        return stop

    async def retry(self, again: TryAgain) -> Stop | None:
        """As of any pool."""
        child = self.find(again.child)
        stop = await super().retry(again)
        self._check_place(child)
        return stop

    async def terminate_child(self, message: TerminateChild) -> Fail | None:
        """See :class:`.messages.TerminateChild`."""
        child = self.find(message.child)
        answer = await super().terminate_child(message)
        self._check_place(child)
        return answer

    def _check_place(self, child: Child | None) -> None:
        if child is not None and child.address is not None and self._by_address.get(child.address) is not child:
            ref = self._started_for.pop(child, None)
            if ref is not None:
                self._give_back(ref, 1)

    def specs(self) -> int:
        """The template."""
        return 1


def check_consumer_template(template: AnySpec | Iterable[AnySpec]) -> ChildSpec:
    """The template of a consumer supervisor.

    Raises:
        SpecError: not exactly one, or it is permanent: its event would never be over (OTP CSU-01).
    """
    spec = check_template(template)
    if spec.restart == "permanent":
        raise SpecError(
            f"consumer supervisor, template {spec.id!r}: expected restart 'temporary' or 'transient', got 'permanent'",
            reason=("start_spec", ("invalid_restart_type", "permanent")),
        )
    return spec


__all__ = ("OPTIONS", "ConsumerSupervisor", "Source", "check_consumer_template")
