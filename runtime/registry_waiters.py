"""Callers that wait for a key or name to appear: several each, no polling, a deadline by timer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .calls import Call
from .errors import RegistryError
from .gen_server import GenServer, NoReply
from .timers import Timer

_SWEEP_FROM: Final = 64


@dataclass(frozen=True, slots=True)
class WaitOver:
    """Timer message: somebody waited long enough for ``key``."""

    key: Any
    number: int


class Waiter(NamedTuple):
    """One open wait."""

    caller: Call
    timer: Timer | None
    timeout: float | None


class Waiters:
    """Open waits of one actor, whose calls they are.

    Args:
        actor: who answers; it hands :class:`WaitOver` (info) to :meth:`over`.
    """

    def __init__(self, actor: GenServer) -> None:
        self._actor = actor
        self._waiting: dict[Any, dict[int, Waiter]] = {}
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return sum(len(waiters) for waiters in self._waiting.values())

    def add(self, key: Any, timeout: object) -> NoReply:
        """Leave the current call open until :meth:`answer` for ``key``, or for ``timeout`` seconds (None: for ever).

        Raises:
            RegistryError: the timeout is no number of seconds.
        """
        actor = self._actor
        seconds = None if timeout is None else check_seconds(timeout)
        number = actor.system.next_number()
        timer = None if seconds is None else actor.start_timer(seconds, WaitOver(key, number))
        # Who gave up is not told of; look for them here, so that they cannot pile up: under this key each
        # time, under the others when there are twice as many.
        self._forget_settled(key)
        if len(self._waiting) >= self._sweep_at:
            for each in tuple(self._waiting):
                self._forget_settled(each)
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._waiting))
        self._waiting.setdefault(key, {})[number] = Waiter(actor.caller, timer, seconds)
        return NoReply()

    def _forget_settled(self, key: Any) -> None:
        waiters = self._waiting.get(key, {})
        for gone in [each for each, waiter in waiters.items() if waiter.caller.settled]:
            del waiters[gone]
        if not waiters:
            self._waiting.pop(key, None)

    def answer(self, key: Any, value: Any) -> None:
        """Answer everybody who waits for ``key``."""
        for waiter in self._waiting.pop(key, {}).values():
            if waiter.timer is not None:
                waiter.timer.cancel()
            if not waiter.caller.settled:
                self._actor.reply(waiter.caller, value)

    def over(self, message: WaitOver) -> Waiter | None:
        """Forget a wait whose time is up; it, if somebody is still there to be told."""
        waiters = self._waiting.get(message.key, {})
        waiter = waiters.pop(message.number, None)
        if not waiters:
            self._waiting.pop(message.key, None)
        return None if waiter is None or waiter.caller.settled else waiter


def check_seconds(value: object) -> float:
    """Return ``value`` as seconds.

    Raises:
        RegistryError: it is no finite number >= 0.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    raise RegistryError(f"expected seconds >= 0 as timeout, got {value!r}", key="timeout")
