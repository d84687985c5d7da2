"""The actor behind a stream: it subscribes, keeps what has come, and answers pulls (OTP STG-70, STG-71)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thespian.actors import ActorAddress

from ..calls import Call
from ..errors import Error, UsageError
from ..gen_server import Exit, Fail, call, cast, info
from ..messages import Down
from ..outcomes import NoReply, Stop
from ..process import Target
from ..reasons import NOPROC, NORMAL, Reason, is_normal
from .accounting import Account
from .consumer import Consumer
from .messages import SetDemandMode, Subscription
from .options import SubscribeOptions

ALL: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Next:
    """Call of a reader: the next events. Answers a tuple of at least one, or :class:`StreamOver`.

    It answers what has come already, else waits. What it answered counts as handled when the next call comes:
    only then is more asked for.

    Attributes:
        most: events to answer at most, from 1.
    """

    most: int = ALL


@dataclass(frozen=True, slots=True)
class StreamOver:
    """The end of a stream; the reader ends with it.

    Attributes:
        reason: ``normal``, or why the producer ended that ended the stream.
        failed: whether that is a failure for who reads.
    """

    reason: Reason = NORMAL
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """Cast to a reader: nobody reads any more."""


class Reader(Consumer):
    """Reads producers for one stream. It keeps no more events than it asked for."""

    def init(self, producers: Sequence[tuple[Target, SubscribeOptions]], owner: ActorAddress | None = None) -> None:
        """Subscribe to all.

        Args:
            producers: with how to subscribe; ``cancel`` says what the end of each means for the stream.
            owner: the actor that reads; the stream ends with it.

        Raises:
            Exit: with ``noproc``: a producer is not there, and its ``cancel`` is not ``temporary``.
        """
        self._chunks: deque[tuple[Subscription, Sequence[Any], int]] = deque()
        self._owed: list[tuple[Subscription, int]] = []
        self._accounts: dict[str, Account] = {}
        self._options: dict[str, SubscribeOptions] = {}
        self._over: StreamOver | None = None
        self._caller: Call | None = None
        self._left = False
        if owner is not None:
            self.monitor(owner)
        for target, options in producers:
            self._read(target, options)
        if not self._accounts:
            self._over = StreamOver()

    def _read(self, target: Target, options: SubscribeOptions) -> None:
        if not self.system.alive(target if not isinstance(target, str) else self._address_of(target)):
            if options.cancel != "temporary":
                raise Exit(NOPROC)
            return
        # The reader itself outlives its producers: it has their last events still.
        subscription = self.subscribe_to(target, cancel="temporary", **options.dispatcher_options)
        self._accounts[subscription.ref] = Account(options.max_demand, options.minimum)
        self._options[subscription.ref] = options
        self.ask(subscription, options.max_demand)
        self._stage_tell(subscription.stage, SetDemandMode("forward"))

    def _address_of(self, name: str) -> ActorAddress | None:
        cell = self.system.cell_of(name, self.namespace)
        return None if cell is None else cell.address

    def handle_subscribe(self, role: str, options: Mapping[str, Any], subscription: Any) -> str:
        """It asks itself: when what it has was read."""
        return "manual"

    def handle_events(self, events: tuple[Any, ...], subscription: Subscription) -> Stop | None:
        """Keep them until they are read."""
        if self._over is None:
            account = self._accounts[subscription.ref]
            self._chunks.extend((subscription, chunk, ask) for chunk, ask in account.cut(events))
        return self._answer()

    def handle_cancel(self, kind: str, reason: Reason, subscription: Subscription) -> Stop | None:
        """A producer has ended, or ended the subscription."""
        mode = self._options.pop(subscription.ref).cancel
        if self._over is None:
            if fails(mode, reason):
                self._over = StreamOver(reason, failed=True)
            elif not self._options:
                self._over = StreamOver()
        return self._leave() if self._left else self._answer()

    # -- pulls ---------------------------------------------------------------------------------------

    @call
    def next(self, message: Next) -> tuple[Any, ...] | NoReply | Stop | Fail:
        """See :class:`Next`."""
        if self._caller is not None and not self._caller.settled:
            return Fail(UsageError("a stream is read by one at a time, and somebody waits for its next events already"))
        for subscription, count in self._owed:
            if subscription.ref in self._options:
                self.ask(subscription, count)
        self._owed.clear()
        if self._chunks:
            return self._take(message.most)
        if self._over is not None:
            self.reply(self.caller, self._over)
            return self._leave() or NoReply()
        self._caller = self.caller
        return NoReply()

    def _take(self, most: int) -> tuple[Any, ...]:
        """What has come, up to the end of a chunk after which more is to be asked for."""
        chunks, taken = self._chunks, list[Any]()
        while chunks and len(taken) < most:
            subscription, events, ask = chunks.popleft()
            room = most - len(taken)
            taken += events[:room]
            if len(events) > room:
                chunks.appendleft((subscription, events[room:], ask))
            elif ask:
                self._owed.append((subscription, ask))
                break
        return tuple(taken)

    def _answer(self) -> Stop | None:
        """Answer who waits, if anything can be said."""
        caller = self._caller
        if caller is None or not (self._chunks or self._over):
            return None
        self._caller = None
        if caller.settled:  # gave up: what has come is for the next one who asks
            return None
        if self._chunks:
            self.reply(caller, self._take(caller.message.most))
            return None
        self.reply(caller, self._over)
        return self._leave()

    # -- the end -------------------------------------------------------------------------------------

    @cast
    def close(self, message: Close) -> Stop | None:
        """See :class:`Close`."""
        return self._leave()

    @info
    def owner_ended(self, message: Down) -> Stop | None:
        """Whoever read has ended."""
        return self._leave()

    def _leave(self) -> Stop | None:
        """End; first let the producers that are left end their subscriptions, so that nothing is on its way here."""
        if not self._left:
            self._left = True
            self._chunks.clear()
            self._over = self._over or StreamOver()
            for inlet in self._stage_inlets.values():
                self.cancel_subscription(inlet.subscription)
        return None if self._stage_inlets else Stop(NORMAL)


def fails(mode: str, reason: Reason) -> bool:
    """Whether the end of a producer is a failure for who reads (OTP STG-71)."""
    if mode == "temporary":
        return False
    return mode == "permanent" or not is_normal(reason) or expected_failure(reason) is not None


def expected_failure(reason: Reason) -> Error | None:
    """The error in a reason ``("shutdown", error)``: a producer's way to fail without a crash."""
    match reason:
        case (_, Error() as error) if is_normal(reason):
            return error
        case _:
            return None


__all__ = ("ALL", "Close", "Next", "Reader", "StreamOver", "expected_failure", "fails")
