"""A relay: an actor that stands between two others and handles their messages badly when told to.

The sender is given the relay's address or name in place of the target's. Messages pass as they are, but the
target sees the relay as the sender of plain ones.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from thespian.actors import ActorAddress

from ..address import LocalAddress
from ..gen_server import GenServer, NoReply, call, cast, info
from ..messages import Reply


class Relay:
    """What a test holds of a relay.

    Attributes:
        address: whom the sender must know.
        dropped: how many messages it lost.
    """

    address: LocalAddress

    def __init__(self) -> None:
        self.dropped = 0
        self._delay = 0.0
        self._drops = 0
        self._doubles = 0
        self._cut = False

    def slow(self, seconds: float) -> None:
        """Deliver each message so many seconds later; 0 ends it."""
        self._delay = seconds

    def drop(self, times: int = 1) -> None:
        """Lose the next messages. Who calls through it hears nothing, until the deadline passes."""
        self._drops += times

    def duplicate(self, times: int = 1) -> None:
        """Deliver the next messages twice; of a call the first delivery's answer counts."""
        self._doubles += times

    def partition(self) -> None:
        """Lose everything until :meth:`heal`."""
        self._cut = True

    def heal(self) -> None:
        """End the partition."""
        self._cut = False

    def next_fate(self) -> tuple[int, float]:
        """How often, and how many seconds later, the next message is delivered."""
        if self._cut or self._drops:
            self._drops = max(0, self._drops - (not self._cut))
            self.dropped += 1
            return 0, 0.0
        if self._doubles:
            self._doubles -= 1
            return 2, self._delay
        return 1, self._delay


@dataclass(frozen=True, slots=True)
class _Due:
    """To itself: deliver this now."""

    kind: Literal["cast", "info"]
    message: Any


class RelayActor(GenServer):
    """Passes everything on to its target, as its :class:`Relay` says.

    Args:
        target: name or address.
        relay: the test's handle.
    """

    mailbox_limit = None

    def init(self, target: str | ActorAddress, relay: Relay) -> None:
        """Know both."""
        self._target = target
        self._relay = relay

    @cast
    def take_cast(self, message: object) -> None:
        """Pass a cast on."""
        self._pass(_Due("cast", message))

    @info
    def take_info(self, message: object) -> None:
        """Pass a plain message on."""
        self._pass(_Due("info", message))

    @info
    def take_own(self, message: _Due | Reply) -> None:
        """Deliver what was held back; answers to doubled calls are nobody's."""
        if isinstance(message, _Due):
            self._deliver(message)

    @call
    def take_call(self, message: object) -> NoReply:
        """Pass a call on, and its answer back."""
        copies, delay = self._relay.next_fate()
        return self.serve(self._ask(message, copies, delay)) if copies else NoReply()

    async def _ask(self, message: object, copies: int, delay: float) -> Any:
        if delay:
            await asyncio.sleep(delay)
        answer = self.call(self._target, message, timeout=None)
        for _ in range(copies - 1):
            self.request(self._target, message)
        return await answer

    def _pass(self, due: _Due) -> None:
        copies, delay = self._relay.next_fate()
        for _ in range(copies):
            if delay:
                self.start_timer(delay, due)
            else:
                self._deliver(due)

    def _deliver(self, due: _Due) -> None:
        if due.kind == "cast":
            self.cast(self._target, due.message)
        elif (cell := self.system.cell_of(self._target)) is not None:
            self.send(cell.address, due.message)
        else:
            self.system.router.undelivered(self._target, None, due.message)
