"""A probe: an actor of the test's own, and what a test expects to reach it. All times are virtual seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from thespian.actors import ActorAddress

from ..address import LocalAddress
from ..calls import Call
from ..errors import UsageError
from ..gen_server import GenServer, NoReply, call, cast, info
from ..reasons import Reason, describe
from .inbox import Inbox

if TYPE_CHECKING:
    from .system import VirtualSystem

T = TypeVar("T")
Target = str | ActorAddress
WITHIN = 3.0
"""Virtual seconds that an expectation waits unless told otherwise."""


class Received(NamedTuple):
    """A message, and the call to be answered if it came as one."""

    message: Any
    call: Call | None = None


class ProbeActor(GenServer):
    """Puts whatever comes into an inbox; calls stay open until the test answers. Traps exits."""

    trap_exit = True
    mailbox_limit = None

    def init(self, inbox: Inbox[Received]) -> None:
        """Know the test's inbox."""
        self._inbox = inbox

    @info
    def take_info(self, message: object) -> None:
        """A plain message, or one of the engine's."""
        self._inbox.put(Received(message))

    @cast
    def take_cast(self, message: object) -> None:
        """A cast."""
        self._inbox.put(Received(message))

    @call
    def take_call(self, message: object) -> NoReply:
        """A call."""
        self._inbox.put(Received(message, self.caller))
        return NoReply()


class Probe:
    """What a test holds of its probe; made by :meth:`.VirtualSystem.probe`.

    Each expectation takes the oldest message that was not looked at yet, and waits for one in virtual time.

    Attributes:
        address: give it to whom the probe should hear from.
    """

    def __init__(self, system: VirtualSystem, name: str | None = None) -> None:
        self._system = system
        self._inbox: Inbox[Received] = Inbox(system.loop)
        self._open: Call | None = None
        self._watched: dict[Target, LocalAddress] = {}
        self.address = system.spawn(ProbeActor, self._inbox, name=name)
        self._label = f"probe {name!r}" if name else "the probe"

    # -- messages --------------------------------------------------------------------------------

    def expect(self, message: T, within: float = WITHIN) -> T:
        """The next message equals this one.

        Raises:
            AssertionError: another one came, or none within so many seconds.
        """
        got = self._next(within, f"{message!r}")
        if got != message:
            raise AssertionError(f"{self._at()}: expected {message!r}, got {got!r}")
        return message

    def expect_type(self, cls: type[T], within: float = WITHIN) -> T:
        """The next message is of this class; returns it. Raises as :meth:`expect`."""
        got = self._next(within, f"a {cls.__name__}")
        if not isinstance(got, cls):
            raise AssertionError(f"{self._at()}: expected a {cls.__name__}, got {got!r}")  # noqa: TRY004 - a test fails
        return got

    def fish(self, matches: Callable[[Any], bool], within: float = WITHIN) -> Any:
        """Passes messages over until one matches; returns it.

        Raises:
            AssertionError: none came in time; it tells which others did.
        """
        deadline, others = self._system.now + within, list[Any]()
        while (got := self._system.run(self._inbox.next(deadline - self._system.now))) is not None:
            if matches(got.message):
                self._open = got.call
                return got.message
            others.append(got.message)
        raise AssertionError(f"{self._at()}: nothing that came within {within:g} s matches: {others!r}")

    def expect_nothing(self, seconds: float = 0.0) -> None:
        """Nothing has come, and nothing comes while so many seconds pass.

        Raises:
            AssertionError: something did.
        """
        self._system.advance(seconds)
        if len(self._inbox):
            came = [each.message for each in self._inbox]
            raise AssertionError(f"{self._at()}: expected nothing for {seconds:g} s, got {came!r}")

    # -- the probe acts --------------------------------------------------------------------------

    def tell(self, target: Target, message: Any) -> None:
        """Send a plain message, with the probe as its sender."""
        engine = self._system.engine
        engine.send(self._system.address(target), message, self.address.cell)
        self._system.settle()

    def reply(self, value: Any) -> None:
        """Answer the call that was last expected.

        Raises:
            UsageError: the last expected message was no call, or is answered.
        """
        self._take_open().complete(value)
        self._system.settle()

    def fail(self, error: Exception) -> None:
        """Answer that call with an error. Raises as :meth:`reply`."""
        self._take_open().fail(error)
        self._system.settle()

    # -- ends ------------------------------------------------------------------------------------

    def watch(self, target: Target) -> None:
        """Remember who has this name now, for :meth:`expect_exit`; the next one to have it is another actor."""
        self._watched[target] = self._system.address(target)

    def expect_exit(self, target: Target, within: float = WITHIN) -> Reason:
        """The actor (of a watched name: who had it when ``watch`` was called) ends; returns the reason.

        Raises:
            AssertionError: it still lives after so many seconds.
        """
        address = self._watched.pop(target, None) or self._system.address(target)
        over, reason = self._system.run(self._system.engine.wait_down(address, within))
        if not over:
            raise AssertionError(f"{self._at()}: expected {target!s} to end within {within:g} s; it still lives")
        return reason

    # -- within ----------------------------------------------------------------------------------

    def _next(self, within: float, wanted: str) -> Any:
        got = self._system.run(self._inbox.next(within))
        if got is None:
            gone = "" if self._system.engine.alive(self.address) else f" (the probe ended: {self._end()})"
            raise AssertionError(f"{self._at()}: expected {wanted} within {within:g} s, got nothing{gone}")
        self._open = got.call
        return got.message

    def _end(self) -> str:
        return describe(self.address.cell.reason) if self.address.cell is not None else "never started"

    def _take_open(self) -> Call:
        taken, self._open = self._open, None
        if taken is None:
            raise UsageError(f"{self._label}: expected the last expected message to be an open call, it is none")
        return taken

    def _at(self) -> str:
        return f"{self._label} at {self._system.now:g} s"
